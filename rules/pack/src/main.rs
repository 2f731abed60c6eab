//! `pack WIT_FOLDER IN.wasm OUT.wasm`: makes a component of a rule's core module, its manifest
//! outermost. What `fieldgate rule build` does for an author, without building the daemon first.

use std::path::Path;
use std::process::ExitCode;

use wasm_encoder::{Component, CustomSection, Module, RawSection};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

const SECTION: &str = "fieldgate:rule";

#[expect(clippy::print_stderr, reason = "a program for people")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [wit, from, to] = arguments.as_slice() else {
        eprintln!("usage: pack WIT_FOLDER IN.wasm OUT.wasm");
        return ExitCode::from(2);
    };
    match pack(Path::new(wit), from).and_then(|file| Ok(std::fs::write(to, file)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{from}: {why}");
            ExitCode::FAILURE
        }
    }
}

type Failed = Box<dyn std::error::Error>;

fn pack(wit: &Path, from: &str) -> Result<Vec<u8>, Failed> {
    let (mut module, manifest) = take_manifest(&std::fs::read(from)?)?;
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(wit)?;
    let world = resolve.select_world(&[package], Some("rule"))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    let component = ComponentEncoder::default().validate(true).module(&module)?.encode()?;

    // The same component with one more section in front of all others.
    let mut outer = Component::new();
    outer.section(&CustomSection { name: SECTION.into(), data: manifest.as_slice().into() });
    let header = outer.as_slice()[..8].to_vec();
    if component[..8] != header {
        return Err("wit-component wrote another version of components".into());
    }
    let mut file = outer.finish();
    file.extend_from_slice(&component[8..]);
    Ok(file)
}

/// The module without its manifest, and the manifest.
fn take_manifest(module: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Failed> {
    let mut manifest = Vec::new();
    let mut rest = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        if let Payload::CustomSection(section) = &payload
            && section.name() == SECTION
        {
            manifest.extend_from_slice(section.data());
        } else if let Some((id, range)) = payload.as_section() {
            rest.section(&RawSection { id, data: &module[range] });
        }
    }
    if manifest.is_empty() {
        return Err("no #[rule] in it".into());
    }
    Ok((rest.finish(), manifest))
}
