//! The custom section in a WebAssembly file: found at any depth without compiling anything, taken
//! out, and written.

use wasm_encoder::{CustomSection, Encode as _};
use wasmparser::{BinaryReaderError, Parser, Payload};

use super::{BadManifest, SECTION};
use crate::limits;

/// The sections of one file that carry a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sections<'a> {
    /// Content of the one that counts.
    pub outermost: Option<&'a [u8]>,
    /// How deep it lies: 0 in the file itself.
    pub depth: usize,
    /// Whether the file is a component rather than a core module.
    pub is_component: bool,
}

/// Finds the manifest's section in a file.
///
/// # Errors
/// When the file is no WebAssembly, or has two sections of which neither overrules the other.
pub fn sections(file: &[u8]) -> Result<Sections<'_>, BadManifest> {
    if file.len() < 8 || !file.starts_with(b"\0asm") {
        return Err(BadManifest::new(what_instead(file)));
    }
    let mut found = Sections { is_component: Parser::is_component(file), ..Sections::default() };
    let (mut depth, mut steps, mut twins) = (0_usize, 0_usize, 0_usize);
    for payload in Parser::new(0).parse_all(file) {
        let payload = payload.map_err(|error| damaged(&error))?;
        if matches!(payload, Payload::CodeSectionEntry(_)) {
            continue;
        }
        steps += 1;
        if steps > limits::MANIFEST_SECTIONS_MAX {
            return Err(BadManifest::new(format!(
                "cannot be looked for: the file has more than {} sections",
                limits::MANIFEST_SECTIONS_MAX
            )));
        }
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(custom) if custom.name() == SECTION => {
                if found.outermost.is_none() || depth < found.depth {
                    found.outermost = Some(custom.data());
                    found.depth = depth;
                    twins = 0;
                } else if depth == found.depth {
                    twins += 1;
                }
            }
            _ => {}
        }
        if depth > limits::MANIFEST_DEPTH_MAX {
            return Err(BadManifest::new(format!(
                "cannot be looked for: the file nests modules more than {} deep",
                limits::MANIFEST_DEPTH_MAX
            )));
        }
    }
    if twins > 0 {
        return Err(BadManifest::new(format!(
            "stands {} times in the file, and which of them is meant cannot be told",
            twins + 1
        )));
    }
    Ok(found)
}

/// Returns the file with its outermost sections of this name taken out.
///
/// # Errors
/// As [`sections`].
pub fn without(file: &[u8]) -> Result<Vec<u8>, BadManifest> {
    let mut kept = file.to_vec();
    for range in sections_at_top(file)?.into_iter().rev() {
        kept.drain(range);
    }
    Ok(kept)
}

/// Returns the file with `json` as its manifest, in place of the one it has further out than any
/// other.
///
/// # Errors
/// As [`sections`]; when `json` is larger than a manifest may be.
pub fn write(file: &[u8], json: &[u8]) -> Result<Vec<u8>, BadManifest> {
    if json.len() > limits::MANIFEST_BYTES_MAX {
        return Err(too_large(json.len()));
    }
    let mut file = without(file)?;
    let section = CustomSection { name: SECTION.into(), data: json.into() };
    file.push(0); // section id of a custom section (WebAssembly 1.0, 5.5.3)
    section.encode(&mut file);
    Ok(file)
}

pub(super) fn too_large(bytes: usize) -> BadManifest {
    BadManifest::new(format!("has {bytes} bytes; it may have {}", limits::MANIFEST_BYTES_MAX))
}

/// Byte ranges of the manifest sections in the file itself, headers included.
fn sections_at_top(file: &[u8]) -> Result<Vec<std::ops::Range<usize>>, BadManifest> {
    let found = sections(file)?;
    let (mut ranges, mut depth) = (Vec::new(), 0_usize);
    if found.depth > 0 {
        return Ok(ranges);
    }
    for payload in Parser::new(0).parse_all(file) {
        match payload.map_err(|error| damaged(&error))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(custom) if depth == 0 && custom.name() == SECTION => {
                // The range is that of name and data; before it stand the id and the size, whose
                // length the encoder chose freely, up to 5 bytes of LEB128.
                let body = custom.range();
                let size = (1..=5).find(|len| leb(file, body.start, *len) == Some(body.len()));
                let lead = size.map_or(0, |len| len + 1);
                ranges.push(body.start - lead..body.end);
            }
            _ => {}
        }
    }
    Ok(ranges)
}

/// Reads the `len` bytes before `end` as one unsigned LEB128, behind the id of a custom section.
fn leb(file: &[u8], end: usize, len: usize) -> Option<usize> {
    let start = end.checked_sub(len)?;
    if file.get(start.checked_sub(1)?) != Some(&0) {
        return None;
    }
    let bytes = file.get(start..end)?;
    let (last, lead) = bytes.split_last()?;
    if last & 0x80 != 0 || lead.iter().any(|byte| byte & 0x80 == 0) {
        return None;
    }
    Some(bytes.iter().rev().fold(0, |n, byte| (n << 7) | usize::from(byte & 0x7F)))
}

fn damaged(error: &BinaryReaderError) -> BadManifest {
    BadManifest::new(format!(
        "cannot be looked for: the file is damaged at byte {} (truncated, or written by a tool \
         that is not known here)",
        error.offset()
    ))
}

/// Says what a file that is no WebAssembly looks like.
fn what_instead(file: &[u8]) -> String {
    let looks = match file {
        [] => "the file is empty",
        [0x7F, b'E', b'L', b'F', ..] => {
            "the file is compiled for a machine (an ELF file, perhaps a .cwasm), not WebAssembly"
        }
        [b'(', ..] => {
            "the file is WebAssembly in text form; `wat2wasm` or `rule build` compiles it"
        }
        [b'u', b'n', b't', b'r', b'u', ..] => {
            "the file is a signature; the rule is the .wasm file beside it"
        }
        [0x1F, 0x8B, ..] => "the file is compressed with gzip; unpack it first",
        [b'P', b'K', ..] => "the file is a zip archive; unpack it first",
        _ => "the file is no WebAssembly",
    };
    format!("cannot be looked for: {looks}")
}
