//! From the merged document to the settings of the rooms. Each kind of table is resolved in a file
//! of its own; here is what they share: names, ports, templates, counts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use toml::de::DeTable;

use crate::clock::Trust;
use crate::events::config as codes;
use crate::limits;
use crate::sources::line::{LineSettings, SerialLine};
use crate::sources::modbus::settings::Bus;

use super::fault::Fault;
use super::findings::{Findings, Plain, Where, key_as_written};
use super::keys;
use super::layer::{At, Layer};
use super::merge::{Document, Named};
use super::reader::Table;
use super::text::{Place, Text};
use super::{Deadband, Gateway, SourceSettings, value};

/// What resolving carries along; dropped when the configuration is built.
pub struct Resolver<'a> {
    /// Where trouble is noted.
    pub findings: &'a Findings,
    /// The gateway's name and labels.
    pub gateway: Gateway,
    /// Templates by name, or why they cannot be used.
    pub templates: &'a HashMap<String, Template<'a>>,
    /// Buses in the order of their first device.
    pub buses: Vec<Bus>,
    /// Which bus a link belongs to.
    pub bus_of: HashMap<String, usize>,
    /// Who has an id on a bus.
    pub ids: HashMap<(usize, u8), &'a str>,
    /// Sources that are no bus.
    pub sources: Vec<SourceSettings>,
    /// Deadbands of all points.
    pub deadbands: Vec<Deadband>,
    /// Points so far.
    pub points: usize,
    ports: HashMap<&'a str, Port<'a>>,
    devices: HashMap<&'a str, Place<'a>>,
    words: HashSet<Arc<str>>,
}

/// A template's file and content.
#[derive(Debug)]
pub struct Template<'a> {
    /// The file.
    pub text: &'a Text,
    /// Its content.
    pub table: &'a DeTable<'a>,
}

struct Port<'a> {
    line: SerialLine,
    place: Place<'a>,
    used: Option<PortUse<'a>>,
}

/// Who talks on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortUse<'a> {
    /// Any number of Modbus devices.
    Modbus(&'a str),
    /// One framed device.
    Serial(&'a str),
}

impl<'a> Resolver<'a> {
    /// Resolves everything that can be resolved.
    pub fn new(
        document: &Document<'a>,
        templates: &'a HashMap<String, Template<'a>>,
        findings: &'a Findings,
    ) -> Self {
        let mut this = Self {
            findings,
            gateway: gateway(document, findings),
            templates,
            buses: Vec::new(),
            bus_of: HashMap::new(),
            ids: HashMap::new(),
            sources: Vec::new(),
            deadbands: Vec::new(),
            points: 0,
            ports: HashMap::new(),
            devices: HashMap::new(),
            words: HashSet::new(),
        };
        let mut paths: HashMap<std::path::PathBuf, &str> = HashMap::new();
        for port in &document.ports {
            this.port(port, &mut paths);
        }
        for device in &document.devices {
            this.devices.insert(device.name, device.place);
            this.device(device);
        }
        for source in &document.sources {
            this.source(source);
        }
        this.warn_of_unused_ports();
        if document.devices.is_empty() && document.sources.is_empty() && findings.is_clean() {
            let place = document.gateway.map(|layer| layer.place);
            let found = "there is nothing to read: no [device.NAME] and no [source.NAME]";
            let why = "a gateway needs one device or source at least";
            let fault = match place {
                Some(place) => Fault::at(&codes::MISSING_KEY, place, found, why),
                None => Fault::of_file(&codes::MISSING_KEY, &findings.main_file(), found, why),
            };
            findings.fault(fault.hint("fieldgate ports lists what is plugged in"));
        }
        this
    }

    /// Returns the shared copy of a name or unit.
    pub fn word(&mut self, text: &str) -> Arc<str> {
        if let Some(word) = self.words.get(text) {
            return Arc::clone(word);
        }
        let word: Arc<str> = text.into();
        self.words.insert(Arc::clone(&word));
        word
    }

    /// Notes a name that is no topic level. Returns whether it is one.
    pub fn check_name(&self, kind: &str, name: At<'_, &str>) -> bool {
        let Some(trouble) = value::name_trouble(name.value) else { return true };
        let found = format!("\"{}\" is no name for a {kind}", name.value.escape_debug());
        let fault = Fault::at(&codes::BAD_NAME, name.place, found, trouble);
        self.findings.fault(match name.value {
            "" => fault,
            text => fault.hint(value::legal_name(text)),
        });
        false
    }

    /// Counts points and refuses the first one too many.
    pub fn count_points(&mut self, more: usize, place: Place<'_>) {
        let before = self.points;
        self.points += more;
        if before <= limits::POINTS_MAX && self.points > limits::POINTS_MAX {
            self.findings.fault(
                Fault::at(
                    &codes::TOO_MANY,
                    place,
                    format!("this device brings the points to {}", self.points),
                    format!("a gateway has at most {} points", limits::POINTS_MAX),
                )
                .hint("spread the devices over more than one gateway"),
            );
        }
    }

    /// Keeps a deadband.
    pub fn deadband(&mut self, device: &Arc<str>, point: &Arc<str>, band: f64) {
        let (device, point) = (Arc::clone(device), Arc::clone(point));
        self.deadbands.push(Deadband { device, point, band });
    }

    /// Returns whether a device of that name exists.
    pub fn device_named(&self, name: &str) -> Option<Place<'a>> {
        self.devices.get(name).copied()
    }

    /// Takes a port for a device. Notes a port that does not exist or is taken.
    pub fn take_port(&mut self, name: &str, by: PortUse<'a>, via: Place<'a>) -> Option<SerialLine> {
        let Some(port) = self.ports.get_mut(name) else {
            let names: Vec<_> = self.ports.keys().copied().collect();
            let fault = Fault::at(
                &codes::NOT_FOUND,
                via,
                format!("there is no port \"{}\"", name.escape_debug()),
                match names.len() {
                    0 => "no [port.NAME] is defined".to_owned(),
                    1..=8 => format!("ports defined: {}", sorted(names.clone()).join(", ")),
                    many => format!("{many} ports are defined"),
                },
            );
            self.findings.fault(match value::did_you_mean(name, names) {
                Some(near) => fault.hint(format!("did you mean \"{near}\"?")),
                None => fault.hint(format!(
                    "[port.{}] with path = \"/dev/serial/by-id/..\"",
                    key_as_written(name)
                )),
            });
            return None;
        };
        match (port.used, by) {
            (None, _) | (Some(PortUse::Modbus(_)), PortUse::Modbus(_)) => port.used = Some(by),
            (Some(PortUse::Modbus(other) | PortUse::Serial(other)), _) => {
                self.findings.fault(
                    Fault::at(
                        &codes::EXCLUSIVE,
                        via,
                        format!("port {name} is already used by device {other}"),
                        "a line carries one Modbus bus, or one framed device alone",
                    )
                    .hint("give one of them another port"),
                );
                return None;
            }
        }
        Some(port.line.clone())
    }

    fn port(&mut self, named: &Named<'a>, paths: &mut HashMap<std::path::PathBuf, &'a str>) {
        let path = Where::table(&format!("port.{}", key_as_written(named.name)));
        let table = Table::new(self.findings, path, keys::PORT, named.layer, None);
        let node = table.file("path");
        if table.raw("path").is_none() {
            table.missing("path");
        }
        let mut settings = LineSettings::DEFAULT;
        if let Some(line) = table.text("line") {
            match LineSettings::parse(line.value) {
                Ok(parsed) => settings = parsed,
                Err(why) => table.bad(line.place, why, "line = \"9600 8N1\""),
            }
        }
        let node_path = node.as_ref().map_or_else(Default::default, |at| at.value.clone());
        if let Some(node) = node {
            if let Some(other) = paths.insert(node.value.clone(), named.name) {
                self.findings.fault(
                    Fault::at(
                        &codes::EXCLUSIVE,
                        node.place,
                        format!("ports {other} and {} have the same path", named.name),
                        "only one of them could be opened",
                    )
                    .hint("remove one of them"),
                );
            }
            warn_of_unstable_path(&node, self.findings);
        }
        let line = SerialLine { name: named.name.to_owned(), path: node_path, line: settings };
        self.ports.insert(named.name, Port { line, place: named.place, used: None });
    }

    fn warn_of_unused_ports(&self) {
        for (name, port) in self.ports.iter().filter(|(_, port)| port.used.is_none()) {
            self.findings.warning(
                Fault::at(
                    &codes::UNUSED_PORT,
                    port.place,
                    format!("port {name} is not used"),
                    "no device names it in via, so it is not opened",
                )
                .hint(format!("via = \"modbus {name} id 1\" in a device, or remove the port")),
            );
        }
    }

    /// Returns the layer of a device's template. Notes one that cannot be used.
    pub fn template(&self, layer: Layer<'a>) -> Option<Layer<'a>> {
        let (_, value) = layer.table.get_key_value("template")?;
        let name = value.get_ref().as_str()?;
        let template = self.templates.get(name)?;
        let place = Place::new(layer.text, value.span());
        Some(Layer { text: template.text, table: template.table, place })
    }
}

fn sorted(mut names: Vec<&str>) -> Vec<&str> {
    names.sort_unstable();
    names
}

fn warn_of_unstable_path(node: &At<'_, std::path::PathBuf>, findings: &Findings) {
    let text = node.value.to_string_lossy();
    if text.starts_with("/dev/ttyUSB") || text.starts_with("/dev/ttyACM") {
        findings.warning(
            Fault::at(
                &codes::UNSTABLE_PATH,
                node.place,
                format!("{text} may be another adapter after a restart"),
                "Linux numbers USB adapters in the order in which they appear",
            )
            .hint("fieldgate ports lists the paths in /dev/serial/by-id, which stay"),
        );
    }
}

fn gateway(document: &Document<'_>, findings: &Findings) -> Gateway {
    let path = Where::table("gateway");
    let Some(layer) = document.gateway else {
        findings.set(&path, "clock", Plain::Text("auto"), None);
        let (name, clock) = (default_name(findings, &path), Trust::default());
        return Gateway { name, site: None, groups: Vec::new(), clock };
    };
    let table = Table::new(findings, path.clone(), keys::GATEWAY, layer, None);
    let name = match table.text("name") {
        Some(at) => {
            if let Some(trouble) = value::name_trouble(at.value) {
                let found = format!("\"{}\" is no name for a gateway", at.value.escape_debug());
                findings.fault(
                    Fault::at(&codes::BAD_NAME, at.place, found, trouble)
                        .hint(format!("name = \"{}\"", value::legal_name(at.value))),
                );
            }
            at.value.into()
        }
        None => default_name(findings, &path),
    };
    let site = table.text("site").map(|at| at.value.to_owned());
    let groups = table.texts("groups").iter().map(|at| at.value.to_owned()).collect();
    let trusted = table.choice("clock") == Some("trusted");
    let clock = if trusted { Trust::Trusted } else { Trust::Auto };
    Gateway { name, site, groups, clock }
}

fn default_name(findings: &Findings, path: &Where) -> Arc<str> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = value::legal_name(&host);
    findings.set(path, "name", Plain::Text(&name), None);
    name.into()
}
