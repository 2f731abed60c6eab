//! A rule's file, looked at before anything compiles it: is it a component, does it ask for nothing
//! but the contract's imports, is it of a version that we speak. Only the structure is read here; that
//! every instruction is valid is for the compiler to find, in its own process.

use std::panic::catch_unwind;

use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload};

use super::Refused;
use super::log::shortened;
use crate::limits;

/// The contract's interfaces that a rule may import.
const IMPORTS: [&str; 6] = ["types", "params", "output", "state", "timers", "log"];

/// The contract's name before the interface and the version.
const PACKAGE: &str = "fieldgate:rule/";

const REBUILD: &str = "Build it with `fieldgate rule build`, which makes a component of it.";
const OTHER_TARGET: &str = "Build it for wasm32-unknown-unknown instead of a wasip1 or wasip2 target: \
                            a rule has no files, no network and no clock.";
const COPIED: &str = "Copy it again, and compare `sha256sum` on both sides.";

/// Looks at a file; what passes may still fail to compile. Returns the interfaces that it imports.
pub(super) fn inspect(file: &[u8]) -> Result<Vec<&'static str>, Refused> {
    kind(file)?;
    // A parser that panics on hostile bytes costs the file its chance, not the gateway its life.
    catch_unwind(|| structure(file))
        .unwrap_or_else(|_| Err(damaged("its structure makes no sense")))
}

/// Tells files that are something else altogether.
fn kind(file: &[u8]) -> Result<(), Refused> {
    if file.len() > limits::RULE_FILE_BYTES_MAX {
        let (n, max) = (file.len(), limits::RULE_FILE_BYTES_MAX);
        let what = format!("has {n} bytes; {max} are the most");
        let next = "Build it in release mode and without debugging information.";
        return Err(Refused::new("file.size", what, next));
    }
    if wasmtime::Engine::detect_precompiled(file).is_some() || file.starts_with(b"\x7fELF") {
        let next = "Push the .wasm file that it was made of: compiled code is trusted code, so the \
                    gateway makes its own.";
        return Err(Refused::new("file.cwasm", "is compiled code (.cwasm)", next));
    }
    match file {
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(Refused::new(
            "file.module",
            "is a core WebAssembly module, not a component",
            REBUILD,
        )),
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [b'\0', b'a', b's', b'm', ..] => {
            let what = "is WebAssembly of a version that is not known here, or cut short";
            Err(Refused::new("file.version", what, REBUILD))
        }
        [b'(', ..] => Err(Refused::new("file.text", "is WebAssembly in text", REBUILD)),
        [] => Err(Refused::new("file.empty", "is empty", COPIED)),
        _ => Err(Refused::new("file.kind", "is not WebAssembly", REBUILD)),
    }
}

/// Walks through the sections.
fn structure(file: &[u8]) -> Result<Vec<&'static str>, Refused> {
    let (mut depth, mut parts, mut guest) = (0_usize, 0_usize, None);
    let mut used = Vec::new();
    for payload in Parser::new(0).parse_all(file) {
        match payload.map_err(|error| unreadable(&error))? {
            Payload::Version { encoding, .. } => {
                (depth, parts) = (depth + 1, parts + 1);
                if depth == 1 && encoding != Encoding::Component {
                    return Err(damaged("it does not begin with a component"));
                }
                if depth > limits::RULE_FILE_DEPTH_MAX || parts > limits::RULE_FILE_PARTS_MAX {
                    let what = format!("holds {parts} modules and components, {depth} deep");
                    return Err(Refused::new("file.nested", what, REBUILD));
                }
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    let name = import.map_err(|error| unreadable(&error))?.name.name;
                    used.push(imported(name)?);
                }
            }
            Payload::ComponentExportSection(exports) if depth == 1 => {
                for export in exports {
                    let export = export.map_err(|error| unreadable(&error))?;
                    let name = export.name.name;
                    if export.kind == ComponentExternalKind::Instance && is_guest(name) {
                        guest = Some(name);
                    }
                }
            }
            _ => {}
        }
    }
    if depth != 0 {
        return Err(damaged("it ends before its end"));
    }
    match guest {
        Some(name) => version(name).map(|()| used),
        None => Err(Refused::new(
            "contract.export",
            "does not export `fieldgate:rule/guest`, which is what a rule is",
            "Implement every function of the interface `guest` in rule.wit; `fieldgate rule new` \
             begins with all of them.",
        )),
    }
}

/// Whether an export is the interface that makes a rule.
pub(super) fn is_guest(name: &str) -> bool {
    name.strip_prefix(PACKAGE).is_some_and(|rest| rest.split('@').next() == Some("guest"))
}

/// Refuses an import that is not the contract's; returns which of its interfaces it is.
fn imported(name: &str) -> Result<&'static str, Refused> {
    let shown = shortened(name);
    if name.starts_with("wasi:") || name.starts_with("wasi_") {
        let what = format!("asks for WASI (`{shown}`), which rules do not have");
        return Err(Refused::new("import.wasi", what, OTHER_TARGET));
    }
    let interface = name.strip_prefix(PACKAGE).and_then(|rest| rest.split('@').next());
    let Some(known) = IMPORTS.into_iter().find(|known| Some(*known) == interface) else {
        let what = format!("asks for `{shown}`, which rules do not have");
        let next = format!("Rules have {} of {PACKAGE}…@1, and nothing else.", IMPORTS.join(", "));
        return Err(Refused::new("import.unknown", what, next));
    };
    version(name).map(|()| known)
}

/// Refuses a file that uses what its manifest does not ask for: what is granted, and what is signed,
/// is what the manifest says.
pub(super) fn asked_for(used: &[&str], asks: &[String]) -> Result<(), Refused> {
    let asked = |used: &&&str| **used == "types" || asks.iter().any(|asked| asked == **used);
    let more: Vec<&str> = used.iter().filter(|used| !asked(used)).copied().collect();
    if more.is_empty() {
        return Ok(());
    }
    let what = format!("uses {}, and its manifest does not ask for it", more.join(", "));
    let next = "Build it with `fieldgate rule build`, which writes down what a rule uses.";
    Err(Refused::new("import.unasked", what, next))
}

/// Refuses a version of the contract that is not spoken here.
fn version(name: &str) -> Result<(), Refused> {
    let version = name.split_once('@').map_or("", |(_, version)| version);
    if version.split('.').next() == Some("1") {
        return Ok(());
    }
    let shown = shortened(version);
    let what = match version {
        "" => "names no version of the contract".to_owned(),
        _ => format!("is of version {shown} of the contract; this gateway speaks 1"),
    };
    let next = "Build it against fieldgate:rule@1.0.0, or update the gateway.";
    Err(Refused::new("contract.version", what, next))
}

fn unreadable(error: &wasmparser::BinaryReaderError) -> Refused {
    let (at, why) = (error.offset(), shortened(error.message()));
    damaged(&format!("at byte {at}: {why}"))
}

fn damaged(why: &str) -> Refused {
    Refused::new("file.damaged", format!("is damaged or cut short: {why}"), COPIED)
}
