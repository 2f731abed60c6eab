//! Bodies to rows: which format a body has, and what names its values get.
//!
//! What a listener takes:
//! - `/{device}/{point}`: text (`21.5`, `true`, `on`), a JSON value, or a JSON object
//!   `{"value": 21.5, "unit": "Cel", "t": 1700000000}` where `v` and `u` do too, unit and time may
//!   be missing and other members are passed over; `t` follows SenML's rule for times.
//! - `/{device}`: a JSON object of points, `{"temp": 21.5, "hum": {"value": 40, "unit": "%RH"}}`,
//!   or a SenML pack in JSON or CBOR.
//!
//! Names in a SenML pack posted to `/{device}`: the device is the path's, whatever the pack says.
//! The point is the record's name without the base name when all records share one; else without
//! what their base names share up to a `:` or `/`. A record without a name of its own is `value`.
//! A client has no path of a device: there the base name is the device, when there is one.

use std::sync::Arc;

use serde_json::Value as Json;

use super::rows::{self, Row};
use super::senml::{self, Resolved};
use super::settings::Format;
use crate::limits;
use crate::reading::{NoData, Sample, UnixMillis, Value};
use crate::sources::number::{json_number, number};

/// Point name of a value that comes without one.
const NAMELESS: &str = "value";

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Json,
    SenmlJson,
    SenmlCbor,
}

/// Where a body was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub device: Arc<str>,
    pub point: Option<Arc<str>>,
}

/// Why a body was not taken; the sentence is for the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It cannot be read: 4.00.
    Bad(String),
    /// This resource does not take this format: 4.15.
    Unsupported(&'static str),
}

impl From<String> for Refusal {
    fn from(sentence: String) -> Self {
        Self::Bad(sentence)
    }
}

impl From<senml::Fault> for Refusal {
    fn from(fault: senml::Fault) -> Self {
        Self::Bad(fault.0)
    }
}

impl Shape {
    /// Returns the shape that a Content-Format number names (IANA, CoAP Content-Formats), or what
    /// the body looks like when there is no number. Plain JSON and CBOR arrays can only be packs.
    pub(super) fn of(format: Option<u16>, body: &[u8]) -> Option<Self> {
        match format {
            Some(0) => Some(Self::Text),
            Some(50) if first(body) == Some(b'[') => Some(Self::SenmlJson),
            Some(50) => Some(Self::Json),
            Some(110 | 111) => Some(Self::SenmlJson),
            Some(60 | 112 | 113) => Some(Self::SenmlCbor),
            Some(_) => None,
            None => Some(match first(body) {
                // CBOR arrays; no UTF-8 text begins with these bytes.
                Some(0x80..=0x9f) => Self::SenmlCbor,
                Some(b'[') => Self::SenmlJson,
                Some(b'{' | b'"') => Self::Json,
                _ => Self::Text,
            }),
        }
    }
}

fn first(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// Reads a body posted to `place`. All of it is taken or nothing.
pub(super) fn posted(
    place: &Place,
    format: Option<u16>,
    body: &[u8],
    now: UnixMillis,
) -> Result<Vec<Row>, Refusal> {
    let shape = Shape::of(format, body).ok_or(Refusal::Unsupported(
        "send text (0), JSON (50), SenML JSON (110) or SenML CBOR (112)",
    ))?;
    let row = |point: &Arc<str>, (unit, at, sample): One| Row {
        device: Arc::clone(&place.device),
        point: Arc::clone(point),
        unit,
        at,
        sample,
    };
    match (shape, &place.point) {
        (Shape::Text, Some(point)) => Ok(vec![row(point, (no_unit(), now, text(body)?))]),
        (Shape::Json, Some(point)) => Ok(vec![row(point, json_value(&json(body)?, now)?)]),
        (Shape::Json, None) => {
            let Json::Object(members) = json(body)? else {
                return Err(Refusal::Bad("here JSON is an object of points".into()));
            };
            let mut rows = Vec::with_capacity(members.len());
            for (member, value) in &members {
                rows.push(row(&rows::name(member)?, json_value(value, now)?));
            }
            some(rows)
        }
        (Shape::SenmlJson, None) => some(pack_rows(place, senml::from_json(body, now)?)?),
        (Shape::SenmlCbor, None) => some(pack_rows(place, senml::from_cbor(body, now)?)?),
        (Shape::Text, None) if format.is_none() => {
            Err(Refusal::Bad("send a bare value to /device/point".into()))
        }
        (Shape::Text, None) => Err(Refusal::Unsupported("send text to /device/point")),
        (Shape::SenmlJson | Shape::SenmlCbor, Some(_)) => {
            Err(Refusal::Unsupported("send SenML to /device"))
        }
    }
}

fn some(rows: Vec<Row>) -> Result<Vec<Row>, Refusal> {
    if rows.is_empty() { Err(Refusal::Bad("there is no value in it".into())) } else { Ok(rows) }
}

/// What a client knows about values that do not say it themselves.
#[derive(Debug)]
pub(super) struct Defaults {
    pub device: Arc<str>,
    pub point: Arc<str>,
    pub unit: Arc<str>,
    pub format: Format,
}

impl Defaults {
    /// Reads a server's answer.
    ///
    /// # Errors
    /// A sentence that says what cannot be read.
    pub(super) fn answered(
        &self,
        format: Option<u16>,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<Vec<Row>, String> {
        let shape = match self.format {
            Format::Auto => Shape::of(format, body)
                .ok_or_else(|| format!("content format {} is not known", format.unwrap_or(0)))?,
            Format::Text => Shape::Text,
            Format::Json => Shape::Json,
            Format::Senml if matches!(first(body), Some(0x80..=0x9f)) => Shape::SenmlCbor,
            Format::Senml => Shape::SenmlJson,
        };
        let rows = match shape {
            Shape::Text => vec![self.row(&self.point, (no_unit(), now, text(body)?))],
            Shape::Json => match json(body)? {
                Json::Object(members) if value_of(&members).is_none() => members
                    .iter()
                    .map(|(member, value)| {
                        Ok(self.row(&rows::name(member)?, json_value(value, now)?))
                    })
                    .collect::<Result<_, String>>()?,
                value => vec![self.row(&self.point, json_value(&value, now)?)],
            },
            Shape::SenmlJson => self.pack(senml::from_json(body, now).map_err(|f| f.0)?)?,
            Shape::SenmlCbor => self.pack(senml::from_cbor(body, now).map_err(|f| f.0)?)?,
        };
        if rows.is_empty() { Err("there is no value in it".into()) } else { Ok(rows) }
    }

    fn row(&self, point: &Arc<str>, (unit, at, sample): One) -> Row {
        let unit = if unit.is_empty() { Arc::clone(&self.unit) } else { unit };
        Row { device: Arc::clone(&self.device), point: Arc::clone(point), unit, at, sample }
    }

    fn pack(&self, records: Vec<Resolved>) -> Result<Vec<Row>, String> {
        let mut last: Option<(Arc<str>, Arc<str>)> = None;
        let mut rows = Vec::with_capacity(records.len());
        for record in records {
            let device = match &last {
                _ if record.base.is_empty() => Arc::clone(&self.device),
                Some((base, device)) if *base == record.base => Arc::clone(device),
                _ => rows::name(&record.base)?,
            };
            last = Some((record.base, Arc::clone(&device)));
            let point = match record.name.as_str() {
                "" => Arc::clone(&self.point),
                // The sum of a record without a name of its own.
                "_sum" => format!("{}_sum", self.point).into(),
                name => rows::name(name)?,
            };
            let row = self.row(&point, (record.unit, record.at, record.sample));
            rows.push(Row { device, ..row });
        }
        Ok(rows)
    }
}

fn pack_rows(place: &Place, records: Vec<Resolved>) -> Result<Vec<Row>, String> {
    let prefix = shared_prefix(&records);
    let mut rows = Vec::with_capacity(records.len());
    for Resolved { base, name, unit, at, sample } in records {
        let own = base.get(prefix..).unwrap_or_default();
        let point = match (own, name.as_str()) {
            ("", "") => NAMELESS.into(),
            ("", "_sum") => "value_sum".into(),
            ("", name) => rows::name(name)?,
            (own, name) => rows::name(&format!("{own}{name}"))?,
        };
        rows.push(Row { device: Arc::clone(&place.device), point, unit, at, sample });
    }
    Ok(rows)
}

/// Returns how many bytes of the base names say the same in every record.
fn shared_prefix(records: &[Resolved]) -> usize {
    let Some(first) = records.first().map(|record| &*record.base) else { return 0 };
    let shared = records.iter().fold(first.len(), |shared, record| {
        let same = first.bytes().zip(record.base.bytes()).take_while(|(a, b)| a == b).count();
        shared.min(same)
    });
    if records.iter().all(|record| record.base.len() == shared) {
        return shared;
    }
    let mark = first.as_bytes()[..shared].iter().rposition(|byte| matches!(byte, b':' | b'/'));
    mark.map_or(0, |at| at + 1)
}

/// Unit, time and sample of one value.
type One = (Arc<str>, UnixMillis, Sample);

fn no_unit() -> Arc<str> {
    Arc::from("")
}

fn text(body: &[u8]) -> Result<Sample, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the text is not UTF-8")?.trim();
    Ok(match text {
        "" => return Err("the value is empty".into()),
        "true" => Sample::good(Value::Bool(true)),
        "false" => Sample::good(Value::Bool(false)),
        text => match number(text) {
            Err(NoData::Malformed) => Sample::good(Value::from_text(text)),
            number => number.into(),
        },
    })
}

fn json(body: &[u8]) -> Result<Json, String> {
    serde_json::from_slice(body)
        .map_err(|e| format!("not JSON at line {} column {}", e.line(), e.column()))
}

fn json_value(json: &Json, now: UnixMillis) -> Result<One, String> {
    let sample = match json {
        Json::Null => Sample::none(NoData::SensorFault),
        Json::Bool(flag) => Sample::good(Value::Bool(*flag)),
        Json::Number(number) => json_number(number).into(),
        Json::String(text) if text.eq_ignore_ascii_case("nan") => Sample::none(NoData::SensorFault),
        Json::String(text) => Sample::good(Value::from_text(text)),
        Json::Array(_) => return Err("a value is an array".into()),
        Json::Object(members) => return json_object(members, now),
    };
    Ok((no_unit(), now, sample))
}

fn value_of(members: &serde_json::Map<String, Json>) -> Option<&Json> {
    members.get("value").or_else(|| members.get("v")).filter(|value| !value.is_object())
}

fn json_object(members: &serde_json::Map<String, Json>, now: UnixMillis) -> Result<One, String> {
    let value = value_of(members).ok_or("an object needs a \"value\"")?;
    let (_, _, sample) = json_value(value, now)?;
    let unit = match members.get("unit").or_else(|| members.get("u")) {
        None | Some(Json::Null) => "",
        Some(Json::String(unit)) if unit.len() <= limits::UNIT_BYTES_MAX => unit,
        Some(_) => return Err("\"unit\" is no short text".into()),
    };
    let at = match members.get("t") {
        None | Some(Json::Null) => now,
        Some(t) => senml::time(t.as_f64().ok_or("\"t\" is not in seconds")?, now)?,
    };
    Ok((unit.into(), at, sample))
}
