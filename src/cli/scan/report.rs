//! What a scan has found, for people and as JSON: who answered, what fits, and the lines to put into
//! the configuration.

use serde_json::{Value, json};

use super::super::target::Target;
use super::identify::Known;
use super::search::{Search, Sight};
use super::{join, ranges};
use crate::config::outline::{self};
use crate::error::Exit;
use crate::events::{Notice, firsthour};

/// Everything a report is made of.
pub(super) struct Report<'a> {
    pub(super) target: &'a Target,
    pub(super) search: &'a Search<'a>,
    pub(super) sight: &'a Sight,
    /// Of those found, as far as the scan came.
    pub(super) known: &'a [Known],
    /// The gateway has a connection there, too.
    pub(super) polled: bool,
}

impl Report<'_> {
    /// Done when somebody answered and nothing was odd.
    pub(super) fn exit(&self) -> Exit {
        match (self.sight.found.is_empty(), self.sight.stopped || self.sight.vanished) {
            (true, _) => Exit::Unreachable,
            (false, true) => Exit::Problem,
            (false, false) => Exit::Done,
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let silent: Vec<_> =
            self.sight.tried.iter().filter(|way| !self.answered(way)).cloned().collect();
        if let (false, false) = (silent.is_empty(), self.sight.found.is_empty()) {
            text += &format!("{}: nothing\n", silent.join(", "));
        }
        for found in &self.sight.found {
            let mut ids: Vec<_> = found.ids.iter().map(|(id, _)| *id).collect();
            ids.sort_unstable();
            let which = if ids.len() == 1 { "id" } else { "ids" };
            let verb = if ids.len() == 1 { "answers" } else { "answer" };
            text += &format!("{}: {which} {} {verb}\n", found.way, join(&ids));
            for known in self.known.iter().filter(|known| known.way == found.way) {
                text += &self.one(known);
            }
        }
        if self.sight.every_id {
            text += "  It answers to every id: a device of its own, with no line behind it.\n";
        }
        if self.sight.slow {
            text +=
                "  Somebody takes longer than 1 s to answer: give that device timeout = \"4s\".\n";
        }
        for notice in self.notices() {
            text += &format!("{notice}\n");
        }
        if self.sight.stopped {
            text += "Stopped before the end; this is what was found until then.\n";
        }
        let config = self.config();
        if !config.is_empty() {
            text += &format!("\n# for conf.d/NAME.toml, or let fieldgate setup write it\n{config}");
        }
        text
    }

    fn answered(&self, way: &str) -> bool {
        self.sight.found.iter().any(|found| found.way == way)
    }

    fn one(&self, known: &Known) -> String {
        let id = known.id;
        if let Some((template, about, probes)) = &known.model {
            let all = format!("{probes} of {probes} probe registers fit");
            return format!("  id {id}  template {template}: {about} ({all})\n");
        }
        let line = known.line.map_or(String::new(), |line| match self.target {
            Target::Serial { known: Some((_, own)), .. } if *own == line => String::new(),
            _ => format!(" --line \"{line}\""),
        });
        let rtu = if known.rtu { " --rtu" } else { "" };
        format!(
            "  id {id}  no template fits; look into it:\n         \
             fieldgate read {} id {id} holding 0 --count 8 --explain{line}{rtu}\n",
            self.target
        )
    }

    fn notices(&self) -> Vec<Notice> {
        let sight = self.sight;
        let subject = self.target.subject();
        let serial = self.target.is_serial();
        let mut notices = Vec::new();
        if sight.unasked > 0 {
            notices.push(firsthour::noise(&subject, "before the scan", sight.unasked, true));
        }
        if let Some((way, bytes)) = sight.noise.first() {
            notices.push(match serial {
                true => firsthour::noise(&subject, way, *bytes, false),
                false => firsthour::foreign(&subject, *bytes),
            });
        }
        if sight.echo {
            notices.push(firsthour::echo(&subject, !sight.found.is_empty()));
        }
        if sight.vanished {
            notices.push(firsthour::vanished(&subject, serial));
        } else if sight.found.is_empty() && !sight.stopped && sight.noise.is_empty() {
            let tried = match sight.tried.as_slice() {
                [one] => format!("{one} was tried"),
                many => format!("{} ways were tried, from {} on", many.len(), many[0]),
            };
            let ids = ranges(&self.search.ids);
            let nothing = firsthour::nothing(&subject, &tried, (serial, sight.echo), &ids);
            notices.push(if self.polled { firsthour::polled(nothing) } else { nothing });
        }
        notices
    }

    /// What to write down, as far as templates fit.
    fn config(&self) -> String {
        let mut text = String::new();
        let with_model: Vec<_> = self.known.iter().filter(|it| it.model.is_some()).collect();
        let Some(first) = with_model.first() else { return text };
        let mut name = self.target.to_string();
        if let (Target::Serial { known, .. }, Some(line)) = (self.target, first.line) {
            if known.is_none() {
                name = "rs485-1".to_owned();
            }
            if known.as_ref().is_none_or(|(_, own)| *own != line) {
                let path = self.target.stable_path().unwrap_or_default();
                text +=
                    &format!("{}\n", port_table(&name, &path.to_string_lossy(), &line.to_string()));
            }
        }
        for known in with_model.iter().filter(|known| known.way == first.way) {
            let template = known.model.as_ref().map_or("", |(template, ..)| template);
            let table = device_table(&known.proposed_name(), template, &known.via(&name));
            text += &format!("{table}\n");
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let Sight { noise, unasked, echo, vanished, stopped, every_id, slow, tried, found, .. } =
            self.sight;
        let one = |found: &super::search::Found, id: u8, exception: Option<u8>| {
            let known = self.known.iter().find(|it| it.way == found.way && it.id == id);
            let model = known.and_then(|it| it.model.as_ref());
            json!({
                "id": id, "way": found.way, "exception": exception,
                "via": known.map(|it| it.via(&self.target.to_string())),
                "template": model.map(|(template, ..)| template),
                "probes": model.map(|(.., probes)| probes),
            })
        };
        let devices: Vec<_> = found
            .iter()
            .flat_map(|found| found.ids.iter().map(move |(id, code)| (found, *id, *code)))
            .map(|(found, id, code)| one(found, id, code))
            .collect();
        let noise: serde_json::Map<_, _> =
            noise.iter().map(|(way, bytes)| (way.clone(), json!(bytes))).collect();
        json!({
            "target": self.target.to_string(), "devices": devices, "tried": tried,
            "noise_bytes": noise, "unasked_bytes": unasked, "echo": echo,
            "vanished": vanished, "stopped": stopped, "every_id": every_id, "slow": slow,
            "config": self.config(),
        })
    }
}

/// Writes a port's table.
pub(in crate::cli) fn port_table(name: &str, path: &str, line: &str) -> String {
    let name = outline::key(name);
    format!("[port.{name}]\npath = {}\nline = {}\n", outline::text(path), outline::text(line))
}

/// Writes the table of a device with a template.
pub(in crate::cli) fn device_table(name: &str, template: &str, via: &str) -> String {
    let name = outline::key(name);
    let (template, via) = (outline::text(template), outline::text(via));
    format!("[device.{name}]\ntemplate = {template}\nvia = {via}\n")
}
