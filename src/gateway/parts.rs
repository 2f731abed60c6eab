//! What a configuration consists of, part by part, and what is different in another one.
//!
//! Of each part only a mark of its settings is kept: a hash of all that it is told. The settings
//! themselves are gone once the part runs; of ten thousand points they would be megabytes. Marks are
//! compared within one process and written nowhere.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::uplinks;
use crate::config::{Config, SourceSettings};
use crate::rules::Definition;
use crate::store::settings::Settings as StoreSettings;
use crate::uplink::settings::Uplink as UplinkSettings;

/// The parts of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts(BTreeMap<Name, Part>);

/// What kind of part it is; in the order of telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Cannot be changed while the gateway runs.
    Fixed,
    /// Changed where it stands; nothing is interrupted.
    Within,
    /// A rule: exchanged between two batches.
    Rule,
    /// A source: stopped and started.
    Source,
    /// An uplink: it says goodbye and connects anew.
    Uplink,
}

type Name = (Kind, Arc<str>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    mark: u64,
    /// Of a bus: what its devices share.
    line: u64,
    /// Of a bus: its devices.
    devices: BTreeMap<Arc<str>, u64>,
}

/// What happens to a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It is new and is started.
    Added,
    /// It is stopped, and gone.
    Removed,
    /// It is stopped and started with its new settings.
    Restarted,
    /// It takes its new settings while it runs.
    Changed,
    /// It takes them at the next start of the daemon.
    NeedsRestart,
}

/// One part that does not stay as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// As people call it: `bus rs485-1`.
    pub part: Arc<str>,
    /// What happens to it.
    pub how: How,
    /// Of a bus: the devices that do not stay as they are. The others go on without a gap.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<(Arc<str>, How)>,
    /// Of a bus: whether its connection stays open.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keeps_line: bool,
}

/// What one configuration changes of another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What is done, in this order.
    pub changes: Vec<Change>,
    /// Parts that are not touched.
    pub untouched: Vec<Arc<str>>,
}

impl Parts {
    /// Takes a configuration apart.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let mut parts = Self::default();
        let gateway = &config.gateway;
        parts.put(Kind::Fixed, "the gateway's name", mark(&gateway.name));
        parts.put(Kind::Fixed, "the clock's trust", mark(&gateway.clock));
        parts.put(Kind::Fixed, "the buffer's path", mark(&config.store.path));
        parts.put(Kind::Fixed, "the daemon's socket", mark(&config.api));
        parts.put(Kind::Fixed, "the keys that are trusted", mark(&config.trust));
        parts.put(Kind::Within, "the gateway's labels", mark(&gateway.labels()));
        parts.put(Kind::Within, "the buffer", mark(&of_buffer(&config.store)));
        parts.put(Kind::Within, "the deadbands", mark(&config.deadbands));
        for rule in &config.rules {
            parts.put(Kind::Rule, &rule_part(rule.name()), of_rule(rule));
        }
        for source in &config.sources {
            parts.0.insert((Kind::Source, name_of(source).into()), Part::of_source(source));
        }
        for uplink in &config.uplinks {
            let name = uplinks::part(&uplink.name);
            parts.put(Kind::Uplink, &name, mark(&of_uplink(uplink)));
        }
        parts
    }

    fn put(&mut self, kind: Kind, name: &str, mark: u64) {
        self.0.insert((kind, name.into()), Part { mark, line: mark, devices: BTreeMap::new() });
    }

    /// Forgets a rule that could not be put in force, so that the next change tries it again.
    pub(super) fn forget_rule(&mut self, name: &str) {
        self.0.remove(&(Kind::Rule, rule_part(name).into()));
    }

    /// Says what becomes of these parts when `wanted` takes their place.
    #[must_use]
    pub fn plan(&self, wanted: &Self) -> Plan {
        let mut plan = Plan::default();
        for (name, part) in &wanted.0 {
            match self.0.get(name) {
                Some(before) if before == part => plan.untouched.push(Arc::clone(&name.1)),
                Some(before) => plan.changes.push(before.change(name, part)),
                // These are there always: compared is with nothing, before a first start.
                None if matches!(name.0, Kind::Fixed | Kind::Within) => {}
                None => plan.changes.push(Change::of(name, How::Added)),
            }
        }
        for name in self.0.keys().filter(|name| !wanted.0.contains_key(*name)) {
            plan.changes.push(Change::of(name, How::Removed));
        }
        plan
    }
}

impl Part {
    fn of_source(source: &SourceSettings) -> Self {
        match source {
            SourceSettings::Modbus(bus) => {
                let devices = bus.devices.iter();
                let devices: BTreeMap<_, _> =
                    devices.map(|device| (Arc::clone(&device.name), mark(device))).collect();
                let order: Vec<_> = bus.devices.iter().map(|device| &device.name).collect();
                let line = mark(&bus.link);
                Self { mark: mark(&(line, order)), line, devices }
            }
            other => {
                let mark = mark(other);
                Self { mark, line: mark, devices: BTreeMap::new() }
            }
        }
    }

    fn change(&self, name: &Name, wanted: &Self) -> Change {
        let how = match name.0 {
            Kind::Fixed => How::NeedsRestart,
            Kind::Within | Kind::Rule => How::Changed,
            Kind::Source | Kind::Uplink => How::Restarted,
        };
        let mut devices = Vec::new();
        for (device, mark) in &wanted.devices {
            match self.devices.get(device) {
                Some(before) if before == mark => {}
                Some(_) => devices.push((Arc::clone(device), How::Changed)),
                None => devices.push((Arc::clone(device), How::Added)),
            }
        }
        for device in self.devices.keys().filter(|name| !wanted.devices.contains_key(*name)) {
            devices.push((Arc::clone(device), How::Removed));
        }
        let keeps_line = !self.devices.is_empty() && self.line == wanted.line;
        Change { part: Arc::clone(&name.1), how, devices, keeps_line }
    }
}

impl Change {
    fn of((_, part): &Name, how: How) -> Self {
        Self { part: Arc::clone(part), how, devices: Vec::new(), keeps_line: false }
    }

    /// Returns the devices that do not stay as they are.
    pub(super) fn touches(&self, device: &str) -> bool {
        self.devices.iter().any(|(name, _)| **name == *device)
    }
}

impl Plan {
    /// Returns whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns what happens to a part; `None` when it is not touched.
    #[must_use]
    pub fn of(&self, part: &str) -> Option<&Change> {
        self.changes.iter().find(|change| *change.part == *part)
    }

    /// Returns the parts that only a restart can change.
    #[must_use]
    pub fn needing_restart(&self) -> Vec<Arc<str>> {
        let needing = self.changes.iter().filter(|change| change.how == How::NeedsRestart);
        needing.map(|change| Arc::clone(&change.part)).collect()
    }

    /// Returns whether a rule is added, changed or removed.
    pub(super) fn has_rules(&self) -> bool {
        self.changes.iter().any(|change| change.part.starts_with(RULE))
    }

    pub(super) fn has(&self, part: &str, how: How) -> bool {
        self.of(part).is_some_and(|change| change.how == how)
    }
}

impl fmt::Display for Plan {
    /// A line a part that changes, then one that names the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            let what = match change.how {
                How::Added => "is added and started",
                How::Removed => "is stopped and removed",
                How::Restarted if change.keeps_line => "goes on with changed devices",
                How::Restarted => "is stopped and started anew",
                How::Changed if are_many(&change.part) => "change while it runs",
                How::Changed => "changes while it runs",
                How::NeedsRestart if are_many(&change.part) => "change at the next restart only",
                How::NeedsRestart => "changes at the next restart only",
            };
            writeln!(f, "{} {what}", change.part)?;
            for (device, how) in &change.devices {
                let what = match how {
                    How::Added => "is added",
                    How::Removed => "is removed",
                    _ => "changes",
                };
                writeln!(f, "  {device} {what}")?;
            }
        }
        if self.untouched.is_empty() {
            return Ok(());
        }
        if self.changes.is_empty() {
            writeln!(f, "nothing changes")?;
        }
        write!(f, "not touched: {}", self.untouched.join(", "))
    }
}

/// Whether a part is spoken of as several things.
fn are_many(part: &str) -> bool {
    matches!(part, "the deadbands" | "the gateway's labels" | "the keys that are trusted")
}

/// Returns what people call a source; the same as [`crate::sources::Source::name`] of what is made
/// from it.
pub(super) fn name_of(source: &SourceSettings) -> String {
    match source {
        SourceSettings::Modbus(bus) => format!("bus {}", bus.name),
        SourceSettings::Serial(device) => format!("port {}", device.line.name),
        SourceSettings::Zigbee(bridge) => format!("source {}", bridge.name),
        SourceSettings::CoapListener(listener) => listener.subject(),
        SourceSettings::CoapClient(client) => client.subject(),
    }
}

/// How the names of rules begin among the parts.
const RULE: &str = "rule ";

fn rule_part(name: &str) -> String {
    format!("{RULE}{name}")
}

/// Of a rule's file the digest says enough.
fn of_rule(rule: &Definition) -> u64 {
    let Definition { settings, digest, on, keep, mode, on_failure, lateness, .. } = rule;
    let Definition { trial, written, .. } = rule;
    mark(&(settings, digest, on, keep, mode, on_failure, lateness, trial, &written.tests))
}

/// Without what other parts stand for.
fn of_buffer(settings: &StoreSettings) -> StoreSettings {
    let (gateway, config_hash) = ("".into(), "".into());
    StoreSettings { path: PathBuf::new(), gateway, config_hash, ..settings.clone() }
}

fn of_uplink(settings: &UplinkSettings) -> UplinkSettings {
    UplinkSettings { config_hash: "".into(), labels: Vec::new(), ..settings.clone() }
}

/// Hashes what a setting shows of itself, which is all of it: secrets are references.
fn mark(settings: &dyn fmt::Debug) -> u64 {
    struct Into(DefaultHasher);
    impl fmt::Write for Into {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut into = Into(DefaultHasher::new());
    // A hasher takes everything.
    let _ = write!(into, "{settings:?}");
    into.0.finish()
}
