//! The configuration: as typed by a human, then resolved into the settings of the rooms.
//!
//! Two steps. First the files become one document of spanned TOML tables: the main file and
//! `conf.d/*.toml` beside it, sorted by name (`text`, `files`, `merge`, `template`). Then a typed
//! reader (`reader`) walks it by the lists of [`keys`] and builds the settings (`resolve` and its
//! siblings: `device`, `serial`, `network`). Every trouble is noted with file, line and column and
//! reading goes on, so one pass finds all of it; a file that is no TOML is told first, because what
//! else it means is a guess.
//!
//! Reading by hand instead of deriving: serde stops at the first fault, loses the place inside
//! tagged and flattened types, and cannot tell a default from a written value. It costs the key
//! lists, which pay for themselves as schema, documentation and spelling aid.
//!
//! Nothing here opens a port or a file other than the configuration's own; `check` is this code and
//! nothing else.

mod access;
pub mod address;
mod case;
mod compound;
mod device;
pub mod edit;
pub mod fault;
mod files;
pub mod findings;
pub mod keys;
mod layer;
mod merge;
pub mod models;
mod network;
pub mod outline;
mod points;
mod preset;
mod reader;
mod resolve;
pub mod rule;
mod scaling;
pub mod schema;
mod serial;
mod template;
pub mod text;
pub mod texts;
mod value;
mod via;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use crate::clock::Trust;
use crate::limits;
use crate::pipeline::Deadband;
use crate::rules::Definition;
use crate::sources::{coap, modbus, serial as serial_source, zigbee2mqtt};
use crate::store;
use crate::uplink::settings::Uplink;

pub use access::{buffer, socket};
pub use case::Test;
pub use fault::{Fault, Faults};
pub use findings::{Origin, Setting};
pub use texts::Texts;
pub use value::{broker_url, host_and_port, legal_name, name_trouble};

use files::{parse, read_conf_d, read_templates};
use findings::{Findings, Where};
use resolve::{Resolver, Template};
use text::Place;
pub use text::Text;

/// Where the package puts the configuration.
pub const DEFAULT_PATH: &str = "/etc/fieldgate/fieldgate.toml";

/// A configuration that can be used.
#[derive(Debug)]
pub struct Config {
    /// Who this gateway is.
    pub gateway: Gateway,
    /// What is read: buses in the order of their first device, then everything else.
    pub sources: Vec<SourceSettings>,
    /// The rules, in the order of the files.
    pub rules: Vec<Definition>,
    /// Their tests, in the order of the files.
    pub tests: Vec<Test>,
    /// What the pipeline holds back.
    pub deadbands: Vec<Deadband>,
    /// Where readings are kept.
    pub store: store::settings::Settings,
    /// Where they go, all of them to each.
    pub uplinks: Vec<Uplink>,
    /// Where the daemon answers.
    pub api: crate::api::Settings,
    /// Whose rules run.
    pub trust: crate::rules::signature::Keys,
    /// Short hash of everything in force, eight hexadecimal digits; references to secrets are part
    /// of it, secrets are not.
    pub hash: Arc<str>,
    /// What may stay, and is worth a look.
    pub warnings: Vec<Fault>,
    /// Every value in force with its origin, when [`Options::keep_settings`] asked for it.
    pub settings: Vec<Setting>,
}

/// Who this gateway is.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Topic level and MQTT client id.
    pub name: Arc<str>,
    /// Free label.
    pub site: Option<String>,
    /// Free labels.
    pub groups: Vec<String>,
    /// When the board's clock is believed.
    pub clock: Trust,
}

/// What one source is told.
#[derive(Debug, Clone)]
pub enum SourceSettings {
    /// A Modbus bus.
    Modbus(modbus::settings::Bus),
    /// A framed serial device.
    Serial(serial_source::settings::Device),
    /// A zigbee2mqtt bridge.
    Zigbee(zigbee2mqtt::settings::Bridge),
    /// A CoAP listener.
    CoapListener(coap::settings::Listener),
    /// A CoAP resource.
    CoapClient(coap::settings::Client),
}

/// How to load.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Keeps every value in force with its origin, for `config show`.
    pub keep_settings: bool,
}

/// Loads the configuration from `path` and `conf.d` beside it; or the one whose installation there was
/// cut short.
///
/// # Errors
/// All faults at once, sorted by file and line.
pub fn load(path: &Path, options: Options) -> Result<Config, Faults> {
    let unfinished = texts::unfinished(path);
    let findings = Findings::new(path, options.keep_settings);
    if unfinished.is_some() {
        findings.warning(texts::unfinished_fault(path));
    }
    understand(path, unfinished.as_ref(), &[], findings)
}

/// Loads a configuration from its texts, as if they stood at `path`.
///
/// # Errors
/// As [`load`].
pub fn load_texts(path: &Path, texts: &Texts, options: Options) -> Result<Config, Faults> {
    understand(path, Some(texts), &[], Findings::new(path, options.keep_settings))
}

/// Loads the configuration as it would be with `drafts`, files of it that are not written yet or not
/// written like this, in the place of those on disk.
///
/// # Errors
/// As [`load`].
pub fn load_drafted(
    path: &Path,
    options: Options,
    drafts: &[(PathBuf, String)],
) -> Result<Config, Faults> {
    understand(path, None, drafts, Findings::new(path, options.keep_settings))
}

fn understand(
    path: &Path,
    given: Option<&Texts>,
    drafts: &[(PathBuf, String)],
    findings: Findings,
) -> Result<Config, Faults> {
    let texts = match given {
        Some(given) => given.as_if_at(path),
        None => {
            let main = Text::drafted(path, drafts, limits::CONFIG_BYTES_MAX);
            let mut texts = vec![main.map_err(|fault| Faults::one(*fault))?];
            read_conf_d(&mut texts, drafts, &findings);
            texts
        }
    };
    let roots: Vec<_> = texts.iter().map(|text| parse(text, &findings)).collect();
    let is_sound = roots.iter().all(Option::is_some) && findings.is_clean();
    let files: Vec<_> =
        texts.iter().zip(&roots).filter_map(|(t, r)| Some((t, r.as_ref()?))).collect();

    let template_texts = read_templates(&files, given.map(|given| (given, path)), &findings);
    let template_roots: Vec<_> = template_texts.iter().map(|text| parse(text, &findings)).collect();
    let templates: HashMap<String, Template<'_>> = template_texts
        .iter()
        .zip(&template_roots)
        .filter_map(|(text, root)| {
            let name = text.template.as_ref()?.to_string();
            Some((name, Template { text, table: root.as_ref()? }))
        })
        .collect();
    if !is_sound {
        // What the broken file would have defined is unknown, so everything that refers to it
        // would be a false fault.
        return Err(findings.finish().map_or_else(|faults| faults, |_| Faults::default()));
    }

    let document = merge::merge(&files, &findings);
    let resolver = Resolver::new(&document, &templates, &findings);
    let receivers = resolver.uplinks(&document);
    let store = store_settings(&document, &findings, seal_for_all(&receivers));
    let api = access::api(&document, &findings);
    let trust = access::trust(&document, &findings);
    let mut rules = rule::rules(&document.rules, &trust, &findings);
    let tests = case::tests(&document.tests, &document.rules, &rules, &findings);
    case::give(&document.tests, &mut rules);
    let hash: Arc<str> = findings.hash().into();
    let mut sources: Vec<_> = resolver.buses.into_iter().map(SourceSettings::Modbus).collect();
    sources.extend(resolver.sources);
    let (gateway, deadbands) = (resolver.gateway, resolver.deadbands);
    let (warnings, settings) = findings.finish()?;
    let uplinks = receivers.into_iter().map(|receiver| Uplink {
        name: receiver.name,
        gateway: Arc::clone(&gateway.name),
        config_hash: Arc::clone(&hash),
        labels: gateway.labels(),
        broker: receiver.broker,
        ack: receiver.ack,
        drain: receiver.drain,
        data_plan: receiver.data_plan,
    });
    let store = store::settings::Settings {
        gateway: Arc::clone(&gateway.name),
        config_hash: Arc::clone(&hash),
        ..store
    };
    let uplinks = uplinks.collect();
    Ok(Config {
        gateway,
        sources,
        rules,
        tests,
        deadbands,
        store,
        uplinks,
        api,
        trust,
        hash,
        warnings,
        settings,
    })
}

fn store_settings(
    document: &merge::Document<'_>,
    findings: &Findings,
    seal: Option<store::settings::Seal>,
) -> store::settings::Settings {
    let empty = DeTable::new();
    let nothing = Text::new("", Path::new("."), String::new());
    let place = Place::new(&nothing, 0..0);
    let layer = document.buffer.unwrap_or(layer::Layer { text: &nothing, table: &empty, place });
    let table = reader::Table::new(findings, Where::table("buffer"), keys::BUFFER, layer, None);
    table.choice("full");
    store::settings::Settings {
        path: table.file("path").map_or_else(PathBuf::new, |at| at.value),
        keep: table.duration("keep"),
        bytes_max: table.size("max"),
        free_min: table.size("free"),
        write: match table.choice("write") {
            Some("when-needed") => store::settings::Write::WhenNeeded,
            _ => store::settings::Write::Always,
        },
        commit: table.duration("commit"),
        seal: seal.unwrap_or(DEFAULT_SEAL),
        gateway: "".into(),
        config_hash: "".into(),
    }
}

/// A batch is sealed once, so each bound is the narrowest that an uplink has.
fn seal_for_all(receivers: &[network::Receiver]) -> Option<store::settings::Seal> {
    let seals = receivers.iter().map(|receiver| receiver.seal);
    seals.reduce(|all, one| store::settings::Seal {
        age_max: all.age_max.min(one.age_max),
        readings_max: all.readings_max.min(one.readings_max),
        bytes_max: all.bytes_max.min(one.bytes_max),
        coding: all.coding,
    })
}

/// How batches are sealed when there is no uplink to seal them for.
const DEFAULT_SEAL: store::settings::Seal = store::settings::Seal {
    age_max: std::time::Duration::from_secs(10),
    readings_max: limits::BATCH_READINGS_MAX,
    bytes_max: limits::BATCH_BYTES_MAX,
    coding: crate::batch::Coding::Zlib,
};
