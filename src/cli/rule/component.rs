//! From a core module to the component that a gateway takes: exports get the contract's names,
//! imports are held against it, `wit-component` wraps it, and the manifest is written outermost.

use std::collections::BTreeSet;

use wasm_encoder::{ExportKind, ExportSection, Module, RawSection};
use wasmparser::{ExternalKind, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::events::Notice;
use crate::events::author as told;
use crate::rules::manifest::{CAPABILITIES, sections};

const WIT: &str = include_str!("../../../rules/wit/rule.wit");

/// Names under which languages without free choice of names export the contract's functions.
const PLAIN_NAMES: [(&str, &str); 5] = [
    ("guest_open", "fieldgate:rule/guest@1.0.0#open"),
    ("guest_migrate", "fieldgate:rule/guest@1.0.0#migrate"),
    ("guest_series_added", "fieldgate:rule/guest@1.0.0#series-added"),
    ("guest_process", "fieldgate:rule/guest@1.0.0#process"),
    ("guest_on_timer", "fieldgate:rule/guest@1.0.0#on-timer"),
];

/// A component without its manifest, and what is known of it.
#[derive(Debug)]
pub(super) struct Made {
    /// The component.
    pub component: Vec<u8>,
    /// Which interfaces of the contract it imports.
    pub capabilities: Vec<String>,
    /// The manifest that an SDK put into the module.
    pub inner: Option<Vec<u8>>,
}

/// Makes a component of a core module; a file that is one already keeps its form.
pub(super) fn make(module: &[u8]) -> Result<Made, Notice> {
    let found = sections(module).map_err(|bad| told::unfit(&bad.why))?;
    let inner = found.outermost.map(<[u8]>::to_vec);
    if found.is_component {
        let component =
            crate::rules::manifest::without(module).map_err(|bad| told::unfit(&bad.why))?;
        return Ok(Made { component, capabilities: capabilities(module)?, inner });
    }
    let mut module = rebuilt(module)?;
    let capabilities = capabilities(&module)?;
    let component = encode(&mut module)?;
    Ok(Made { component, capabilities, inner })
}

fn encode(module: &mut Vec<u8>) -> Result<Vec<u8>, Notice> {
    // The libraries' errors are chains of words about names and types, which is what an author needs.
    let mut resolve = wit_parser::Resolve::default();
    let package =
        resolve.push_source("rule.wit", WIT).map_err(|error| ours(&format!("{error:#}")))?;
    let world = resolve
        .select_world(&[package], Some("rule"))
        .map_err(|error| ours(&format!("{error:#}")))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
        .map_err(|error| ours(&format!("{error:#}")))?;
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| told::unfit(&format!("does not fit the contract: {error:#}")))
}

/// What a test of ours meets before anybody else does.
fn ours(why: &str) -> Notice {
    told::unfit(&format!("cannot be wrapped: {why}"))
}

/// The interfaces that a module or component imports; anything beyond the contract is refused.
fn capabilities(file: &[u8]) -> Result<Vec<String>, Notice> {
    let mut asked = BTreeSet::new();
    let mut note = |name: &str| -> Result<(), Notice> {
        let interface =
            name.strip_prefix("fieldgate:rule/").and_then(|rest| rest.split('@').next());
        match interface {
            Some("types") => {}
            Some(interface) if CAPABILITIES.contains(&interface) => {
                asked.insert(interface.to_owned());
            }
            _ if name.starts_with("wasi") => return Err(told::asks_for_wasi(name)),
            _ => return Err(told::asks_for_more(name)),
        }
        Ok(())
    };
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(file) {
        let damaged = |_| told::unfit("is damaged: the compiler's output cannot be read");
        match payload.map_err(damaged)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ImportSection(imports) if depth == 0 => {
                for import in imports.into_imports() {
                    note(import.map_err(damaged)?.module)?;
                }
            }
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    note(import.map_err(damaged)?.name.name)?;
                }
            }
            _ => {}
        }
    }
    Ok(asked.into_iter().collect())
}

/// The module with the contract's names for its exports and without the sections that are not part of
/// the program (the manifest of an SDK, which comes outermost again).
fn rebuilt(module: &[u8]) -> Result<Vec<u8>, Notice> {
    let damaged = |_| told::unfit("is damaged: the compiler's output cannot be read");
    let mut made = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(damaged)?;
        match &payload {
            Payload::CustomSection(custom) if custom.name() == crate::rules::manifest::SECTION => {}
            Payload::ExportSection(exports) => {
                let mut section = ExportSection::new();
                for export in exports.clone() {
                    let export = export.map_err(damaged)?;
                    let plain = PLAIN_NAMES.iter().find(|(plain, _)| *plain == export.name);
                    let kind = match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
                        ExternalKind::Table => ExportKind::Table,
                        ExternalKind::Memory => ExportKind::Memory,
                        ExternalKind::Global => ExportKind::Global,
                        ExternalKind::Tag => ExportKind::Tag,
                    };
                    section.export(plain.map_or(export.name, |(_, name)| name), kind, export.index);
                }
                made.section(&section);
            }
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    made.section(&RawSection { id, data: &module[range] });
                }
            }
        }
    }
    Ok(made.finish())
}
