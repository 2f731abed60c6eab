//! Readings as lines of the line protocol (InfluxDB 1.8 reference, "Line protocol syntax"):
//! `point,device=..,gw=..,unit=.. value=21.5 1700000000000000000`.
//!
//! A point is a measurement; gateway, device and unit are tags. Fields have one type each, because a
//! server refuses a field that changes its type: numbers are `value` and always floats (a point that
//! read 5 and then 5.5 is one series), booleans are `on`, texts are `text`, and what is not plain
//! good has its quality code in `q`, an integer. A reading without a value is a line with `q` only,
//! so that an outage can be plotted.
//!
//! Names come from gateways, and a line break in one must not begin a line of another gateway's:
//! in names, control characters and backslashes become `_` (a backslash before a comma is read
//! differently by every server); in texts, line breaks become blanks.

use std::fmt::Write as _;

use crate::batch::{Decoded, Row, RowValue};

/// A time that nanoseconds in 64 bits cannot hold: before 1677 or after 2262.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BeyondNanoseconds;

/// Writes the readings of a batch, a line each.
pub(super) fn write(batch: &Decoded, out: &mut String) -> Result<(), BeyondNanoseconds> {
    let heads: Vec<String> = (0..batch.series_count()).map(|series| head(batch, series)).collect();
    let mut fits = true;
    batch.rows(|row| {
        let nanos = row.at.0.checked_mul(1_000_000);
        fits &= nanos.is_some();
        let Some(head) = heads.get(row.series) else { return };
        if fields_follow(&row) {
            out.push_str(head);
            fields(&row, out);
            // Writing to a `String` has no error to return.
            let _ = writeln!(out, " {}", nanos.unwrap_or(0));
        }
    });
    if fits { Ok(()) } else { Err(BeyondNanoseconds) }
}

/// A reading without value and without a mark says nothing, and a line must have a field.
fn fields_follow(row: &Row<'_>) -> bool {
    row.value.is_some() || row.q != 0
}

/// Everything up to the fields, the blank included. Tags in the order of their names, which servers
/// index fastest.
fn head(batch: &Decoded, series: usize) -> String {
    let (device, point, unit) = batch.name(series);
    let mut head = String::with_capacity(64);
    // A line that begins with # is a comment.
    if point.is_empty() || point.starts_with('#') {
        head.push('_');
    }
    name(point, false, &mut head);
    for (key, value) in [("device", device), ("gw", &batch.header.gateway), ("unit", unit)] {
        // An empty tag is a syntax error.
        if !value.is_empty() {
            let _ = write!(head, ",{key}=");
            name(value, true, &mut head);
        }
    }
    head.push(' ');
    head
}

fn name(text: &str, tag: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push('_'),
            c if c.is_control() => out.push('_'),
            ',' | ' ' => out.extend(['\\', c]),
            '=' if tag => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
}

fn fields(row: &Row<'_>, out: &mut String) {
    let mut between = "";
    if let Some(value) = row.value {
        match value {
            RowValue::Bool(flag) => {
                let _ = write!(out, "on={}", if flag { 't' } else { 'f' });
            }
            RowValue::Decimal(decimal) => {
                let _ = write!(out, "value={decimal}");
            }
            RowValue::Float(number) => {
                let _ = write!(out, "value={number:?}");
            }
            RowValue::Text(text) => {
                out.push_str("text=\"");
                for c in text.chars() {
                    match c {
                        '"' | '\\' => out.extend(['\\', c]),
                        '\n' | '\r' => out.push(' '),
                        c => out.push(c),
                    }
                }
                out.push('"');
            }
        }
        between = ",";
    }
    if row.q != 0 {
        let _ = write!(out, "{between}q={}i", row.q);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::batch::{Assembly, Coding, Envelope, decode};
    use crate::reading::{
        Decimal, Group, NoData, PointInfo, Points, Quality, Sample, Stream, UnixMillis, Value,
    };

    fn lines(device: &str, point: &str, unit: &str, sample: Sample, at: i64) -> String {
        let points = Points::default();
        let id = points.intern(PointInfo::new(device, point, unit)).unwrap();
        let mut assembly = Assembly::default();
        assembly.push(&Group {
            stream: Stream::Data,
            at: UnixMillis(at),
            points: Arc::from([id]),
            samples: vec![sample],
        });
        let envelope = Envelope {
            gateway: "gw 1",
            epoch: 1,
            stream: Stream::Data,
            sequence: 1,
            lowest_held: 1,
            dropped: 0,
            clock: 1,
            config_hash: "",
        };
        let body = assembly.into_bodies(&points, Coding::Plain, 1 << 20).remove(0);
        let batch = decode(&body.seal(&envelope)).unwrap();
        let mut out = String::new();
        write(&batch, &mut out).map(|()| out).unwrap_or_else(|beyond| format!("{beyond:?}"))
    }

    fn good(value: Value) -> Sample {
        Sample::good(value)
    }

    #[test]
    fn every_kind_of_value_has_its_own_field() {
        let decimal = |digits, places| good(Value::Decimal(Decimal { digits, places }));
        let cases = [
            (decimal(2301, 1), "value=230.1"),
            (decimal(5, 0), "value=5"),
            (decimal(-7, 3), "value=-0.007"),
            (good(Value::Float(1e300)), "value=1e300"),
            (good(Value::Float(0.1 + 0.2)), "value=0.30000000000000004"),
            (good(Value::Bool(true)), "on=t"),
            (good(Value::from_text("a \"b\" \\ c\nd,e=f")), r#"text="a \"b\" \\ c d,e=f""#),
            (Sample::none(NoData::Timeout), "q=32i"),
            (Sample { value: Ok(Value::Bool(false)), quality: Quality::Uncertain }, "on=f,q=1i"),
        ];
        for (sample, fields) in cases {
            let expected = format!("p,device=d,gw=gw\\ 1,unit=V {fields} 1790000000000000000\n");
            assert_eq!(lines("d", "p", "V", sample, 1_790_000_000_000), expected);
        }
    }

    #[test]
    fn names_are_escaped_and_cannot_begin_a_line() {
        let one = || good(Value::from_i64(1));
        let line = lines("a,b=c\\", "x y,z=1", "", one(), 0);
        assert_eq!(line, "x\\ y\\,z=1,device=a\\,b\\=c_,gw=gw\\ 1 value=1 0\n");
        let line = lines("d\nfake,gw=other value=1 1", "#p", "", one(), 0);
        assert_eq!(line.lines().count(), 1);
        assert!(line.starts_with("_#p,device=d_fake\\,gw\\=other\\ value\\=1\\ 1,"), "{line}");
    }

    #[test]
    fn times_that_nanoseconds_cannot_hold_are_refused() {
        let at = |at| lines("d", "p", "", good(Value::from_i64(1)), at);
        assert_eq!(at(253_402_300_799_999), "BeyondNanoseconds");
        assert!(at(-1).ends_with(" -1000000\n"));
    }
}
