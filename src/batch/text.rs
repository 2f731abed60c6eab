//! A batch as lines of text, one reading each: the JSON and CSV that `decode` and `demo` print.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Number, Value as Json};

use crate::batch::{Decoded, Row, RowValue};
use crate::reading::UnixMillis;

/// Writes the readings of one batch, a line each.
///
/// # Errors
/// When the output does not take them.
pub fn write_batch(batch: &Decoded, csv: bool, out: &mut impl Write) -> io::Result<()> {
    let mut result = Ok(());
    let key = key(batch);
    batch.rows(|row| {
        if result.is_ok() {
            result = if csv {
                write_csv(batch, &row, &key, out)
            } else {
                let object = Json::Object(object(batch, &row, &key));
                writeln!(out, "{object}")
            };
        }
    });
    result
}

/// Returns the idempotency key: `gw/ep/st/seq`.
#[must_use]
pub fn key(batch: &Decoded) -> String {
    let header = &batch.header;
    format!("{}/{}/{}/{}", header.gateway, header.epoch, header.stream, header.sequence)
}

fn object(batch: &Decoded, row: &Row<'_>, key: &str) -> Map<String, Json> {
    let (device, point, unit) = batch.name(row.series);
    let mut object = Map::new();
    object.insert("gw".into(), batch.header.gateway.as_str().into());
    object.insert("device".into(), device.into());
    object.insert("point".into(), point.into());
    object.insert("t".into(), rfc3339(row.at).into());
    object.insert("value".into(), json(row.value));
    object.insert("unit".into(), unit.into());
    object.insert("q".into(), row.q.into());
    object.insert("key".into(), key.into());
    object
}

fn write_csv(batch: &Decoded, row: &Row<'_>, key: &str, out: &mut impl Write) -> io::Result<()> {
    let (device, point, unit) = batch.name(row.series);
    let value = match row.value {
        None => String::new(),
        Some(RowValue::Text(text)) => quoted(text),
        value => json(value).to_string(),
    };
    writeln!(
        out,
        "{},{},{},{},{value},{},{},{}",
        quoted(&batch.header.gateway),
        quoted(device),
        quoted(point),
        rfc3339(row.at),
        quoted(unit),
        row.q,
        quoted(key)
    )
}

/// Quotes a field where RFC 4180 section 2 asks for it.
fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Returns a value as JSON; numbers exactly as their decimal text would parse.
#[must_use]
pub fn json(value: Option<RowValue<'_>>) -> Json {
    match value {
        None => Json::Null,
        Some(RowValue::Bool(flag)) => flag.into(),
        Some(RowValue::Decimal(decimal)) if decimal.places == 0 => decimal.digits.into(),
        Some(RowValue::Decimal(decimal)) => number(decimal.to_f64()),
        Some(RowValue::Float(float)) => number(float),
        Some(RowValue::Text(text)) => text.into(),
    }
}

fn number(float: f64) -> Json {
    Number::from_f64(float).map_or(Json::Null, Json::Number)
}

/// Returns a time as RFC 3339 with milliseconds. Times that text cannot hold are cut to 1970 and
/// 9999.
#[must_use]
pub fn rfc3339(at: UnixMillis) -> String {
    const LAST: u64 = 253_402_300_799_999;
    let millis = u64::try_from(at.0).unwrap_or(0).min(LAST);
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_of_text_are_cut() {
        assert_eq!(rfc3339(UnixMillis(-5)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(UnixMillis(i64::MAX)), "9999-12-31T23:59:59.999Z");
    }
}
