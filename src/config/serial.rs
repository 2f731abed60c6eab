//! `[device.NAME]` with `via = "serial PORT"`: framing, checksum, match or JSON, points.

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use crate::events::config as codes;
use crate::sources::line::{LineSettings, SerialLine};
use crate::sources::serial::settings::{Checksum, Device, Form, Framing, Parse, Point};

use super::SourceSettings;
use super::fault::Fault;
use super::findings::Plain;
use super::keys;
use super::layer::At;
use super::merge::Named;
use super::reader::Table;
use super::resolve::{PortUse, Resolver};
use super::scaling;
use super::text::Place;
use super::value;
use super::via::Via;

impl<'a> Resolver<'a> {
    /// Resolves a framed device.
    pub fn serial_device(
        &mut self,
        named: &Named<'a>,
        table: &Table<'a>,
        via: Option<(Via, Place<'a>)>,
    ) {
        let line = via.and_then(|(via, place)| match via {
            Via::Serial { port } => self.take_port(&port, PortUse::Serial(named.name), place),
            _ => None,
        });
        let (framing, checksum) = framing(table);
        let parse = self.parse(table);
        let ask = ask(table);
        let silent_after = table.duration_if_any("silent_after").or_else(|| {
            let after = ask.as_ref()?.1 * 3;
            self.findings.set(&table.path, "silent_after", Plain::Duration(after), None);
            Some(after)
        });
        let name = self.word(named.name);
        let points = table.points(keys::SERIAL_POINT);
        table.needs_points();
        let points: Vec<_> = points
            .into_iter()
            .filter_map(|(at, table)| self.serial_point(&name, at, &table, parse.as_ref()))
            .collect();
        self.count_points(points.len(), named.place);
        let line = line.unwrap_or_else(no_line);
        if let Some(parse) = parse {
            self.sources.push(SourceSettings::Serial(Device {
                name,
                line,
                framing,
                checksum,
                parse,
                points,
                ask,
                silent_after,
            }));
        }
    }

    fn parse(&self, table: &Table<'a>) -> Option<Parse> {
        let (regex, format) = (table.raw("match"), table.raw("format"));
        match (regex, format) {
            (Some(_), None) => {
                let at = table.text("match")?;
                match Regex::new(at.value) {
                    Ok(regex) => Some(Parse::Match(regex)),
                    Err(error) => {
                        self.refuse_match(at.place, &error);
                        None
                    }
                }
            }
            (None, Some(_)) => table.choice("format").map(|_| Parse::Json),
            (None, None) => {
                table.missing("match");
                None
            }
            (Some(_), Some(format)) => {
                self.findings.fault(
                    Fault::at(
                        &codes::EXCLUSIVE,
                        format.place,
                        format!("{} has both match and format", table.title()),
                        "a frame is read by a regular expression or as JSON",
                    )
                    .hint("remove one of them"),
                );
                None
            }
        }
    }

    fn refuse_match(&self, place: Place<'a>, error: &regex::Error) {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default();
        let why = why.strip_prefix("error: ").unwrap_or(why).to_owned();
        let found = "match is no regular expression";
        self.findings.fault(
            Fault::at(&codes::BAD_MATCH, place, found, why)
                .hint("in single quotes a backslash stands alone: '(?<weight>\\d+)'"),
        );
    }

    fn serial_point(
        &mut self,
        device: &Arc<str>,
        at: At<'a, &'a str>,
        table: &Table<'a>,
        parse: Option<&Parse>,
    ) -> Option<Point> {
        let is_named = self.check_name("point", at);
        let key = table.text("key");
        let form = match table.choice("as") {
            Some("bool") => Form::Bool,
            Some("text") => Form::Text,
            Some("any") => Form::Any,
            Some(_) => Form::Number,
            None => {
                let (form, word) = match parse {
                    Some(Parse::Json) => (Form::Any, "any"),
                    _ => (Form::Number, "number"),
                };
                self.findings.set(&table.path, "as", Plain::Text(word), None);
                form
            }
        };
        let scaling = scaling::read(table, matches!(form, Form::Number | Form::Any));
        let unit = table.text("unit").map_or("", |at| at.value);
        let place = key.map_or(at.place, |key| key.place);
        let key = key.map_or(at.value, |key| key.value);
        if let Some(Parse::Match(regex)) = parse {
            self.check_group(regex, key, place);
        }
        if !is_named {
            return None;
        }
        let name = self.word(at.value);
        if let Some(band) = scaling.deadband {
            self.deadband(device, &name, band);
        }
        Some(Point {
            name,
            key: key.to_owned(),
            form,
            scale: scaling.scale,
            offset: scaling.offset,
            decimals: scaling.decimals,
            unit: self.word(unit),
        })
    }

    fn check_group(&self, regex: &Regex, key: &str, place: Place<'a>) {
        let groups: Vec<_> = regex.capture_names().flatten().collect();
        if groups.contains(&key) {
            return;
        }
        let why = match groups.len() {
            0 => "match has no named group".to_owned(),
            _ => format!("match has the groups {}", groups.join(", ")),
        };
        let found = format!("match has no group for \"{}\"", key.escape_debug());
        let fault = Fault::at(&codes::BAD_MATCH, place, found, why);
        self.findings.fault(match value::did_you_mean(key, groups) {
            Some(near) => fault.hint(format!("did you mean \"{near}\"?")),
            None => fault.hint(format!("(?<{key}>..) in match, or key = \"..\" in the point")),
        });
    }
}

/// Stands in until the fault that left it out is told; never opened.
fn no_line() -> SerialLine {
    SerialLine { name: String::new(), path: Default::default(), line: LineSettings::DEFAULT }
}

fn ask(table: &Table<'_>) -> Option<(Vec<u8>, Duration)> {
    if table.raw("ask").is_none() {
        if let Some(raw) = table.raw("every") {
            table.findings.fault(
                Fault::at(
                    &codes::EXCLUSIVE,
                    raw.place,
                    format!("{} has every but no ask", table.title()),
                    "a serial device talks by itself unless it is asked",
                )
                .hint("ask = \"..\" with what is to be sent, or remove every"),
            );
        }
        return None;
    }
    let text = table.text_needed("ask")?;
    Some((text.value.as_bytes().to_vec(), table.duration("every")))
}

fn framing(table: &Table<'_>) -> (Framing, Option<Checksum>) {
    let by_default = Framing::End(b"\r\n".to_vec());
    let Some(raw) = table.raw("frame") else {
        table.findings.set(&table.path_to("frame"), "end", Plain::Text("\r\n"), None);
        return (by_default, None);
    };
    if let Some(word) = raw.value.as_str() {
        let framing = match word {
            "cobs" => Framing::Cobs,
            "slip" => Framing::Slip,
            _ => {
                let found = format!("frame = {} is not known", Plain::Text(word));
                table.bad(raw.place, found, "frame = { end = \"\\r\\n\" }, \"cobs\" or \"slip\"");
                by_default
            }
        };
        table.findings.set(&table.path, "frame", Plain::Text(word), Some(raw.place));
        return (framing, None);
    }
    let Some(layer) = raw.layer(raw.place) else {
        table.wrong_type("frame", raw);
        return (by_default, None);
    };
    let path = table.path_to("frame");
    let frame = Table::new(table.findings, path, keys::FRAME, layer, None);
    let checksum = frame.choice("checksum").map(|word| match word {
        "crc16-modbus" => Checksum::Crc16Modbus,
        "crc16-ccitt" => Checksum::Crc16Ccitt,
        "crc32" => Checksum::Crc32,
        "sum8" => Checksum::Sum8,
        "xor8" => Checksum::Xor8,
        _ => Checksum::Nmea,
    });
    (one_way(&frame).unwrap_or(by_default), checksum)
}

fn one_way(frame: &Table<'_>) -> Option<Framing> {
    let given: Vec<_> = ["end", "start", "length", "gap", "code"]
        .into_iter()
        .filter(|key| frame.raw(key).is_some())
        .collect();
    match given.as_slice() {
        ["end"] => mark(frame, "end").map(Framing::End),
        ["end", "start"] => {
            let (start, end) = (mark(frame, "start"), mark(frame, "end"));
            Some(Framing::StartEnd(start?, end?))
        }
        ["length"] => frame.integer("length").map(Framing::Length),
        ["gap"] => frame.duration_if_any("gap").map(Framing::Gap),
        ["code"] => frame.choice("code").map(|word| match word {
            "cobs" => Framing::Cobs,
            _ => Framing::Slip,
        }),
        ["start"] => {
            frame.missing("end");
            None
        }
        [] => {
            frame.findings.set(&frame.path, "end", Plain::Text("\r\n"), None);
            Some(Framing::End(b"\r\n".to_vec()))
        }
        several => {
            frame.findings.fault(
                Fault::at(
                    &codes::EXCLUSIVE,
                    frame.place(),
                    format!("a frame ends in one way, this one has {}", several.join(", ")),
                    "bytes are cut by an end mark, a length, a start and an end mark, or a gap",
                )
                .hint("frame = { end = \"\\r\\n\" }"),
            );
            None
        }
    }
}

fn mark(frame: &Table<'_>, name: &str) -> Option<Vec<u8>> {
    let at = frame.text(name)?;
    if at.value.is_empty() {
        frame.bad(at.place, format!("{name} is empty"), format!("{name} = \"\\r\\n\""));
        return None;
    }
    Some(at.value.as_bytes().to_vec())
}
