//! SenML packs (RFC 8428), in JSON and CBOR, to resolved records: every record with its own base,
//! name, unit, time and sample.
//!
//! Choices where the RFC leaves room: a pack is taken whole or not at all. `vd` becomes text, the
//! base64url that JSON carries anyway. A sum is a point of its own, named `<name>_sum`, with the
//! unit times seconds (`W` becomes `W.s`, as UCUM writes it). A record with neither a value nor a
//! field of its own only sets bases. `null` and NaN are a sensor fault. Update times (`ut`) and
//! labels nobody knows are passed over, unless they end in `_` (section 4.4: must be understood).

mod cbor;
mod json;
#[cfg(test)]
mod tests;

pub use cbor::from_cbor;
pub use json::from_json;

use std::fmt;
use std::sync::Arc;

use crate::limits;
use crate::reading::{Decimal, NoData, Sample, UnixMillis, Value};

/// Newest version of the records this code knows (RFC 8428 section 4.4: `bver`, default 10).
const VERSION: i64 = 10;
/// Times below this many seconds count from now, others from 1970 (RFC 8428 section 4.5.3).
const RELATIVE_BELOW: f64 = 268_435_456.0;
/// 9999-12-31T23:59:59Z; no time beyond it can be written down as RFC 3339 asks.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// A record that stands for itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The base name in effect; empty when there is none. The record's whole name is `base` and
    /// `name` in one.
    pub base: Arc<str>,
    /// The record's own name; may be empty when there is a base.
    pub name: String,
    /// Unit from the SenML registry; empty when there is none.
    pub unit: Arc<str>,
    /// When it was measured.
    pub at: UnixMillis,
    /// What was measured.
    pub sample: Sample,
}

/// Why a pack was not taken: a sentence without a full stop, for a diagnostic payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

/// A number as its encoding gave it: which decimal a binary32 stands for differs from binary64.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Int(i64),
    Single(f32),
    Double(f64),
}

/// A record as sent. RFC 8428 section 4, table 1.
#[derive(Debug, Default)]
struct Record {
    bn: Option<String>,
    bt: Option<f64>,
    bu: Option<String>,
    bv: Option<Number>,
    bs: Option<Number>,
    bver: Option<i64>,
    n: Option<String>,
    u: Option<String>,
    t: Option<f64>,
    v: Option<Number>,
    vb: Option<bool>,
    text: Option<String>,
    s: Option<Number>,
}

/// The bases in effect, which later records inherit (section 4.1).
#[derive(Debug)]
struct Bases {
    name: Arc<str>,
    time: f64,
    unit: Arc<str>,
    value: Option<Number>,
    sum: Option<Number>,
    version: Option<i64>,
}

/// Turns records as sent into records that stand for themselves. `now` is what relative times
/// count from.
fn resolve(records: Vec<Record>, now: UnixMillis) -> Result<Vec<Resolved>, Fault> {
    let mut bases = Bases {
        name: "".into(),
        time: 0.0,
        unit: "".into(),
        value: None,
        sum: None,
        version: None,
    };
    let mut resolved = Vec::with_capacity(records.len());
    for (index, record) in records.into_iter().enumerate() {
        let in_record = |what: &str| Fault(format!("record {}: {what}", index + 1));
        bases.update(&record).map_err(|what| in_record(&what))?;
        bases.resolve(record, now, &mut resolved).map_err(in_record)?;
    }
    Ok(resolved)
}

impl Bases {
    fn update(&mut self, record: &Record) -> Result<(), String> {
        if let Some(version) = record.bver {
            if !(1..=VERSION).contains(&version) {
                return Err(format!("version {version} of SenML is not known here, only 1 to 10"));
            }
            if self.version.is_some_and(|before| before != version) {
                return Err("bver differs from an earlier record's".into());
            }
            self.version = Some(version);
        }
        if let Some(name) = &record.bn {
            within(name, "bn", limits::NAME_BYTES_MAX)?;
            self.name = name.as_str().into();
        }
        if let Some(unit) = &record.bu {
            within(unit, "bu", limits::UNIT_BYTES_MAX)?;
            self.unit = unit.as_str().into();
        }
        self.time = record.bt.unwrap_or(self.time);
        self.value = record.bv.or(self.value);
        self.sum = record.bs.or(self.sum);
        Ok(())
    }

    fn resolve(
        &self,
        record: Record,
        now: UnixMillis,
        into: &mut Vec<Resolved>,
    ) -> Result<(), &'static str> {
        let own = record.n.is_some() || record.u.is_some() || record.t.is_some();
        let given = [record.v.is_some(), record.vb.is_some(), record.text.is_some()];
        let name = record.n.unwrap_or_default();
        let unit = record.u.map_or_else(|| Arc::clone(&self.unit), Into::into);
        if name.len() > limits::NAME_BYTES_MAX || unit.len() > limits::UNIT_BYTES_MAX {
            return Err("its name or unit is too long");
        }
        let value = match (record.v, record.vb, record.text) {
            _ if given.into_iter().filter(|given| *given).count() > 1 => {
                return Err("it has more than one value");
            }
            (Some(v), ..) => Some(sum(Some(v), self.value)),
            (_, Some(flag), _) => Some(Ok(Value::Bool(flag))),
            (.., Some(text)) => Some(Ok(Value::from_text(&text))),
            // A missing value counts as zero under a base value, as a missing sum does.
            _ if own && record.s.is_none() && self.value.is_some() => Some(sum(None, self.value)),
            _ => None,
        };
        let total =
            (record.s.is_some() || own && self.sum.is_some()).then(|| sum(record.s, self.sum));
        if value.is_none() && total.is_none() {
            return if own { Err("it has no value") } else { Ok(()) };
        }
        let at = time(self.time + record.t.unwrap_or(0.0), now)?;
        let base = &self.name;
        if let Some(total) = total {
            let unit = if unit.is_empty() { "".into() } else { format!("{unit}.s").into() };
            let name = format!("{name}_sum");
            into.push(Resolved { base: Arc::clone(base), name, unit, at, sample: total.into() });
        }
        if let Some(value) = value {
            into.push(Resolved { base: Arc::clone(base), name, unit, at, sample: value.into() });
        }
        Ok(())
    }
}

/// Returns seconds as wall time: those below 2^28 count from `now`, negative ones into the past.
pub(super) fn time(seconds: f64, now: UnixMillis) -> Result<UnixMillis, &'static str> {
    if !(-RELATIVE_BELOW..=SECONDS_MAX).contains(&seconds) {
        return Err("its time lies outside what can be written down");
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 2.6e14 after the check above")]
    let millis = (seconds * 1000.0).round() as i64;
    let absolute = seconds >= RELATIVE_BELOW;
    Ok(UnixMillis(if absolute { millis } else { now.0.saturating_add(millis) }))
}

/// Adds a base to a value. Two decimals are added as decimals: 0.1 on a base of 0.2 is 0.3.
fn sum(a: Option<Number>, b: Option<Number>) -> Result<Value, NoData> {
    match (a, b) {
        (Some(a), None) => a.value(),
        (None, Some(b)) => b.value(),
        (None, None) => Err(NoData::SensorFault),
        (Some(a), Some(b)) => match (a.value()?, b.value()?) {
            (Value::Decimal(x), Value::Decimal(y)) => {
                added(x, y).map_or_else(|| Value::from_f64(x.to_f64() + y.to_f64()), Ok)
            }
            _ => Value::from_f64(a.to_f64() + b.to_f64()),
        },
    }
}

fn added(a: Decimal, b: Decimal) -> Option<Value> {
    let mut places = a.places.max(b.places);
    let mut digits = a.with_places(places)? + b.with_places(places)?;
    while places > 0 && digits % 10 == 0 {
        digits /= 10;
        places -= 1;
    }
    (digits.abs() < Decimal::DIGITS_LIMIT).then_some(Value::Decimal(Decimal { digits, places }))
}

impl Number {
    fn value(self) -> Result<Value, NoData> {
        match self {
            Self::Int(n) => Ok(Value::from_i64(n)),
            Self::Single(n) => Value::from_f32(n),
            Self::Double(n) => Value::from_f64(n),
        }
    }

    fn to_f64(self) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "times and sums beyond 2^53 may round")]
            Self::Int(n) => n as f64,
            Self::Single(n) => f64::from(n),
            Self::Double(n) => n,
        }
    }
}

fn within(text: &str, label: &str, bytes_max: usize) -> Result<(), String> {
    if text.len() > bytes_max {
        return Err(format!("{label} is longer than {bytes_max} bytes"));
    }
    Ok(())
}
