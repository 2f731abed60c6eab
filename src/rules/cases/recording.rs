//! A recording as a feed: readings that a gateway, or a logger of somebody else's, wrote to a file.
//!
//! Which form it has, its name says: `.csv`; `.ndjson` or `.jsonl`, an object a line; anything else
//! is batches one behind the other, as they are sent and as `buffer export` writes them. A table of
//! values has either a reading a line (columns device, point, t, value, and q if there are marks), as
//! `decode --csv` writes it, or a time a line and a column for each `DEVICE/POINT`.
//!
//! **Time.** Readings arrive in the order of their times, and times count from the full hour (UTC)
//! before the first: windows stand where they stood in life, and times in `expect` stay short.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::Value as Json;

use super::{Expect, Fed, Feed, Slip};
use crate::batch::{Row, RowValue, decode, first_value};
use crate::limits;
use crate::rules::wit::{NoData, Quality, Value};

const HOUR_US: i64 = 3_600_000_000;

/// A reading as it stands in a file, its time in microseconds since 1970 UTC.
struct Found {
    at: i64,
    value: Value,
    quality: Quality,
}

impl Feed {
    /// Reads a recording.
    ///
    /// # Errors
    /// The first slip, with the line it is in.
    pub fn recorded(path: &Path) -> Result<Self, Slip> {
        let bytes = content(path, limits::RECORDING_BYTES_MAX)?;
        let form = path.extension().and_then(|form| form.to_str()).unwrap_or_default();
        Self::of_recording(form, &bytes).map_err(|slip| in_file(path, slip))
    }

    /// Reads the content of a recording; `form` is the end of its file's name.
    ///
    /// # Errors
    /// The first slip, with the line it is in.
    pub fn of_recording(form: &str, bytes: &[u8]) -> Result<Self, Slip> {
        let mut recording = Recording::default();
        match form {
            "csv" => recording.table(&text(bytes)?)?,
            "ndjson" | "jsonl" => recording.objects(&text(bytes)?)?,
            _ => recording.batches(bytes)?,
        }
        recording.feed()
    }
}

impl Expect {
    /// Reads what must come from a file: lines of `expect`, as `rule test --show` prints them.
    ///
    /// # Errors
    /// The first slip.
    pub fn recorded(path: &Path) -> Result<Self, Slip> {
        let bytes = content(path, limits::EXPECTED_BYTES_MAX)?;
        let text = text(&bytes).map_err(|slip| in_file(path, slip))?;
        Self::parse([text.as_str()]).map_err(|slip| in_file(path, slip))
    }
}

fn content(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Slip> {
    let unread = |why: &str| in_file(path, Slip::new(why, "a file that can be read"));
    let size = std::fs::metadata(path).map_err(|e| unread(trouble(e.kind())))?.len();
    if size > bytes_max {
        return Err(unread(&format!("it has more than {} MiB", bytes_max / (1024 * 1024))));
    }
    std::fs::read(path).map_err(|e| unread(trouble(e.kind())))
}

fn in_file(path: &Path, slip: Slip) -> Slip {
    Slip::new(format!("{}: {}", path.display(), slip.found), slip.hint)
}

/// Readings of a file, by what they are of.
#[derive(Default)]
struct Recording {
    series: Vec<(String, String)>,
    known: HashMap<(String, String), usize>,
    readings: Vec<(usize, Found)>,
}

impl Recording {
    fn push(&mut self, device: &str, point: &str, found: Found) -> Result<(), Slip> {
        let key = (device.to_owned(), point.to_owned());
        let series = match self.known.get(&key) {
            Some(series) => *series,
            None if self.series.len() >= limits::CASE_SERIES_MAX => {
                let most = limits::CASE_SERIES_MAX;
                return Err(Slip::new(format!("it has more than {most} points"), "split it"));
            }
            None => {
                self.series.push(key.clone());
                self.known.insert(key, self.series.len() - 1);
                self.series.len() - 1
            }
        };
        if self.readings.len() >= limits::CASE_READINGS_MAX {
            let most = limits::CASE_READINGS_MAX;
            return Err(Slip::new(format!("it has more than {most} readings"), "cut it"));
        }
        self.readings.push((series, found));
        Ok(())
    }

    fn feed(mut self) -> Result<Feed, Slip> {
        self.readings.sort_by_key(|(_, found)| found.at);
        let Some((_, first)) = self.readings.first() else {
            return Err(Slip::new("it has no readings", "a file with at least one"));
        };
        let begin = first.at.div_euclid(HOUR_US) * HOUR_US;
        let readings = self.readings.into_iter().map(|(series, found)| {
            let Found { at, value, quality } = found;
            Fed { series, at: at - begin, arrives: at - begin, value, quality }
        });
        Ok(Feed { readings: readings.collect(), series: self.series })
    }

    /// Reads lines of comma-separated values, RFC 4180, behind a header.
    fn table(&mut self, text: &str) -> Result<(), Slip> {
        let mut lines = Lines { rest: text, line: 0 };
        let header = lines.next().ok_or_else(|| Slip::new("it is empty", HEADER))?;
        let header: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        let place = |names: &[&str]| header.iter().position(|name| names.contains(&&**name));
        let time = place(&["t", "time", "timestamp"]);
        let time = time.ok_or_else(|| Slip::new("its header names no time", HEADER))?;
        let (device, point, value) = (place(&["device"]), place(&["point"]), place(&["value"]));
        let mark = place(&["q"]);
        while let Some(fields) = lines.next() {
            if fields.len() == 1 && fields[0].trim().is_empty() {
                continue;
            }
            let line = lines.line;
            let field = |place: usize| fields.get(place).map_or("", |field| field.trim());
            let at = instant(field(time)).ok_or_else(|| bad_time(line, field(time)))?;
            let Some(value) = value else {
                for (column, name) in header.iter().enumerate().filter(|(at, _)| *at != time) {
                    let (device, point) = name.split_once('/').unwrap_or(("", name));
                    if !field(column).is_empty() {
                        let found = found(at, plain(field(column)), 0);
                        self.push(device, point, found).map_err(|slip| at_line(line, slip))?;
                    }
                }
                continue;
            };
            let name = point.map_or("", field);
            let (device, name) = match device {
                Some(device) => (field(device), name),
                None => name.split_once('/').unwrap_or(("", name)),
            };
            if name.is_empty() {
                return Err(at_line(line, Slip::new("a reading names no point", HEADER)));
            }
            let mark = mark.map_or("", field);
            let mark = if mark.is_empty() { Ok(0) } else { mark.parse() };
            let mark = mark.map_err(|_| at_line(line, Slip::new("q is no number", MARKS)))?;
            let found = found(at, plain(field(value)), mark);
            self.push(device, name, found).map_err(|slip| at_line(line, slip))?;
        }
        Ok(())
    }

    /// Reads an object a line, as `decode` prints them.
    fn objects(&mut self, text: &str) -> Result<(), Slip> {
        for (line, object) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let slip = |what: &str| at_line(line, Slip::new(what, OBJECT));
            let object: Json =
                serde_json::from_str(object).map_err(|_| slip("it is no JSON object"))?;
            let word = |key: &str| object.get(key).and_then(Json::as_str);
            let at = match object.get("t") {
                Some(Json::String(text)) => instant(text),
                Some(Json::Number(number)) => number.as_f64().and_then(seconds),
                _ => None,
            };
            let shown = || object.get("t").map(Json::to_string).unwrap_or_default();
            let at = at.ok_or_else(|| bad_time(line, &shown()))?;
            let name = word("point").ok_or_else(|| slip("a reading names no point"))?;
            let (device, name) = match word("device") {
                Some(device) => (device, name),
                None => name.split_once('/').unwrap_or(("", name)),
            };
            let mark = match object.get("q") {
                None | Some(Json::Null) => 0,
                Some(mark) => {
                    let mark = mark.as_u64().and_then(|mark| u8::try_from(mark).ok());
                    mark.ok_or_else(|| at_line(line, Slip::new("q is no number", MARKS)))?
                }
            };
            let value = match object.get("value") {
                None | Some(Json::Null) => None,
                Some(Json::Bool(flag)) => Some(Value::Boolean(*flag)),
                Some(Json::Number(number)) => number.as_f64().map(Value::Number),
                Some(Json::String(text)) => Some(Value::Text(text.clone())),
                Some(_) => return Err(slip("a value is no number, flag or text")),
            };
            self.push(device, name, found(at, value, mark)).map_err(|slip| at_line(line, slip))?;
        }
        Ok(())
    }

    /// Reads batches, one behind the other.
    fn batches(&mut self, mut bytes: &[u8]) -> Result<(), Slip> {
        let mut number = 1;
        while !bytes.is_empty() {
            let hint = "what buffer export writes, or a .csv or .ndjson file";
            let wrong = |why: String| Slip::new(format!("batch {number} {why}"), hint);
            let length = first_value(bytes).map_err(|why| wrong(format!("is none: {why}")))?;
            let length = length.ok_or_else(|| wrong("is cut short".to_owned()))?;
            let batch = decode(&bytes[..length]).map_err(|why| wrong(format!("is none: {why}")))?;
            let mut pushed = Ok(());
            batch.rows(|row| {
                if pushed.is_ok() {
                    let (device, point, _) = batch.name(row.series);
                    pushed = self.push(device, point, of_row(&row));
                }
            });
            pushed?;
            bytes = &bytes[length..];
            number += 1;
        }
        Ok(())
    }
}

const HEADER: &str = "a first line such as device,point,t,value or t,pump/power,pump/flow";
const OBJECT: &str =
    r#"lines such as {"device":"pump","point":"power","t":"2026-01-01T00:00:00Z","value":2.5}"#;
const MARKS: &str = "a quality of the uplink's format: 0 for a good value, 32 for a timeout";

fn of_row(row: &Row<'_>) -> Found {
    let value = row.value.map(|value| match value {
        RowValue::Bool(flag) => Value::Boolean(flag),
        RowValue::Decimal(decimal) => Value::Number(decimal.to_f64()),
        RowValue::Float(number) => Value::Number(number),
        RowValue::Text(text) => Value::Text(text.to_owned()),
    });
    found(row.at.0.saturating_mul(1000), value, row.q)
}

/// Puts a reading together; `mark` is the uplink's q (batch v1, section on marks).
fn found(at: i64, value: Option<Value>, mark: u8) -> Found {
    let why = match mark {
        33 => NoData::DeviceException,
        34 => NoData::Malformed,
        35 => NoData::OutOfRange,
        36 => NoData::Configuration,
        _ => NoData::Timeout,
    };
    let quality = match mark {
        1 | 17 => Quality::UNCERTAIN,
        2 => Quality::BAD,
        16 => Quality::SUBSTITUTED,
        18 => Quality::CLOCK_UNSYNCED,
        _ => Quality::empty(),
    };
    let value = value.filter(|_| mark < 32).unwrap_or(Value::None(why));
    Found { at, value, quality }
}

/// A value of a table: a number, a flag, nothing, or text.
fn plain(field: &str) -> Option<Value> {
    match field {
        "" | "null" | "NaN" | "nan" => None,
        "true" => Some(Value::Boolean(true)),
        "false" => Some(Value::Boolean(false)),
        field => Some(match field.parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Number(number),
            _ => Value::Text(field.to_owned()),
        }),
    }
}

/// A time as loggers write it: RFC 3339, with a space for the T if they like, in UTC; or seconds.
fn instant(field: &str) -> Option<i64> {
    if let Ok(number) = field.parse::<f64>() {
        return seconds(number);
    }
    let at = humantime::parse_rfc3339_weak(field.strip_suffix("+00:00").unwrap_or(field)).ok()?;
    i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()
}

/// Seconds since 1970, or since the recording began.
fn seconds(number: f64) -> Option<i64> {
    // Until the year 2255: rules count in microseconds.
    let usable = (0.0..9e9).contains(&number);
    #[expect(clippy::cast_possible_truncation, reason = "below 2^53")]
    usable.then(|| (number * 1e6).round() as i64)
}

fn text(bytes: &[u8]) -> Result<String, Slip> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = String::from_utf8(bytes.to_vec());
    text.map_err(|_| Slip::new("it is no text in UTF-8", "a text, or batches"))
}

fn at_line(line: usize, slip: Slip) -> Slip {
    Slip::new(format!("line {line}: {}", slip.found), slip.hint)
}

fn bad_time(line: usize, field: &str) -> Slip {
    let short: String = field.chars().take(40).collect();
    let found = format!("\"{}\" is no time", short.escape_debug());
    at_line(line, Slip::new(found, "2026-01-01T00:00:00Z, or seconds: 12.5"))
}

fn trouble(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "it is not there",
        io::ErrorKind::PermissionDenied => "it may not be read",
        _ => "it cannot be read",
    }
}

/// Lines of comma-separated values; a field in quotes may have line ends in it.
struct Lines<'t> {
    rest: &'t str,
    /// Number of the line that the last one ended on.
    line: usize,
}

impl Lines<'_> {
    fn next(&mut self) -> Option<Vec<String>> {
        if self.rest.is_empty() {
            return None;
        }
        self.line += 1;
        let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
        let mut chars = self.rest.char_indices().peekable();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' if quoted && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                    chars.next();
                    field.push('"');
                }
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(std::mem::take(&mut field)),
                '\n' if !quoted => {
                    self.rest = &self.rest[at + 1..];
                    fields.push(field);
                    return Some(fields);
                }
                '\n' => {
                    self.line += 1;
                    field.push(char);
                }
                '\r' if !quoted => {}
                char => field.push(char),
            }
        }
        self.rest = "";
        fields.push(field);
        Some(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Assembly, Coding, Envelope, text::write_batch};
    use crate::reading::{self, Group, PointInfo, Points, Sample, Stream, UnixMillis};

    /// 2026-01-01T09:30:00Z.
    const AT: i64 = 1_767_259_800_000;

    fn sample(value: Result<f64, reading::NoData>, quality: reading::Quality) -> Sample {
        let value = value.map(|number| reading::Value::from_f64(number).unwrap());
        Sample { value, quality }
    }

    /// Two batches, as they are sent.
    fn batches() -> Vec<u8> {
        let points = Points::default();
        let id = |point| points.intern(PointInfo::new("pump,1", point, "kW")).unwrap();
        let (power, state) = (id("power"), id("state"));
        let good = reading::Quality::Good;
        let mut sent = Vec::new();
        for (sequence, first) in [(1, 0), (2, 60)] {
            let mut assembly = Assembly::default();
            for n in first..first + 3 {
                let samples = vec![
                    match n {
                        1 => sample(Err(reading::NoData::DeviceException), good),
                        2 => sample(Ok(2.5), reading::Quality::Bad),
                        n => sample(Ok(n as f64 / 4.0), good),
                    },
                    Sample::good(reading::Value::from_text(&format!("says \"{n}\""))),
                ];
                assembly.push(&Group {
                    stream: Stream::Data,
                    at: UnixMillis(AT + n * 1000),
                    points: [power, state].into(),
                    samples,
                });
            }
            let envelope = Envelope {
                gateway: "gw-1",
                epoch: 1,
                stream: Stream::Data,
                sequence,
                lowest_held: 1,
                dropped: 0,
                clock: 1,
                config_hash: "",
            };
            for body in assembly.into_bodies(&points, Coding::Zlib, 100_000) {
                sent.extend(body.seal(&envelope));
            }
        }
        sent
    }

    fn decoded(csv: bool) -> Vec<u8> {
        let (mut text, sent) = (Vec::new(), batches());
        let mut rest = sent.as_slice();
        if csv {
            text.extend(b"gw,device,point,t,value,unit,q,key\n");
        }
        while let Ok(Some(length)) = first_value(rest) {
            write_batch(&decode(&rest[..length]).unwrap(), csv, &mut text).unwrap();
            rest = &rest[length..];
        }
        text
    }

    #[test]
    fn batches_and_what_decode_prints_of_them_are_the_same_recording() {
        let feed = Feed::of_recording("mp", &batches()).unwrap();
        let series = [("pump,1", "power"), ("pump,1", "state")];
        let series = series.map(|(device, point)| (device.to_owned(), point.to_owned()));
        assert_eq!(feed.series, series);
        let power: Vec<_> = (feed.readings.iter().filter(|fed| fed.series == 0))
            .map(|fed| (fed.at / 1_000_000 - 1800, fed.value.clone(), fed.quality))
            .collect();
        let good = Quality::empty();
        assert_eq!(
            power,
            [
                (0, Value::Number(0.0), good),
                (1, Value::None(NoData::DeviceException), good),
                (2, Value::Number(2.5), Quality::BAD),
                (60, Value::Number(15.0), good),
                (61, Value::Number(15.25), good),
                (62, Value::Number(15.5), good),
            ],
            "times count from the full hour"
        );
        assert!(feed.readings.iter().any(|fed| fed.value == Value::Text("says \"61\"".to_owned())));
        for (form, csv) in [("csv", true), ("ndjson", false), ("jsonl", false)] {
            assert_eq!(Feed::of_recording(form, &decoded(csv)).unwrap(), feed, "{form}");
        }
    }

    #[test]
    fn a_loggers_table_has_a_column_a_point_and_times_in_seconds_or_dates() {
        let day =
            "time,pump/power,level\r\n2026-01-01 00:00:05,2.5,\r\n\r\n2026-01-01T00:00:04Z,,7\r\n";
        let seconds = "\u{feff}t,pump/power,level\n5,2.5,\n4.0,nan,7";
        for text in [day, seconds] {
            let feed = Feed::of_recording("csv", text.as_bytes()).unwrap();
            let shown: Vec<_> = feed
                .readings
                .iter()
                .filter(|fed| fed.value != Value::None(NoData::Timeout))
                .map(|fed| (feed.series[fed.series].1.as_str(), fed.at, fed.value.clone()))
                .collect();
            let wanted = [
                ("level", 4_000_000, Value::Number(7.0)),
                ("power", 5_000_000, Value::Number(2.5)),
            ];
            assert_eq!(shown, wanted, "{text}");
        }
        let named = "point,t,value\npump/power,2026-01-01T10:00:00+00:00,true\n";
        let feed = Feed::of_recording("csv", named.as_bytes()).unwrap();
        assert_eq!(feed.series, [("pump".to_owned(), "power".to_owned())]);
        assert_eq!((feed.readings[0].at, &feed.readings[0].value), (0, &Value::Boolean(true)));
    }

    #[test]
    fn what_is_no_recording_is_told_with_its_line() {
        let many = format!("t,a/b\n{}", "1,1\n".repeat(limits::CASE_READINGS_MAX + 1));
        let wide: String = (0..=limits::CASE_SERIES_MAX).map(|n| format!(",a/{n}")).collect();
        let wide = format!("t{wide}\n1{}\n", ",1".repeat(limits::CASE_SERIES_MAX + 1));
        let cut = &batches()[..90];
        let cases: Vec<(&str, &[u8], &str)> = vec![
            ("csv", b"", "it is empty"),
            ("csv", b"a,b\n1,2\n", "names no time"),
            ("csv", b"t,a/b\n", "no readings"),
            ("csv", b"t,a/b\n1,2\n\nsoon,2\n", "line 4: \"soon\" is no time"),
            ("csv", b"t,a/b\n-1,2\n", "line 2"),
            ("csv", b"t,a/b\n1e300,2\n", "line 2"),
            ("csv", b"t,value\n1,2\n", "line 2: a reading names no point"),
            ("csv", b"t,point,value,q\n1,a/b,2,300\n", "line 2: q is no number"),
            ("csv", b"t,\xff\n", "no text in UTF-8"),
            ("csv", many.as_bytes(), "more than 100000 readings"),
            ("csv", wide.as_bytes(), "more than 1000 points"),
            ("ndjson", b"{}\n", "line 1"),
            ("ndjson", b"{\"t\":1,\"point\":\"a/b\",\"value\":1}\n[1]\n", "line 2"),
            ("ndjson", b"{\"t\":1,\"value\":1}\n", "line 1: a reading names no point"),
            (
                "ndjson",
                b"{\"t\":1,\"point\":\"a/b\",\"value\":[]}\n",
                "line 1: a value is no number",
            ),
            ("ndjson", b"no json", "line 1: it is no JSON object"),
            ("mp", b"\xc1", "batch 1 is none"),
            ("mp", cut, "batch 1 is cut short"),
            ("mp", b"", "no readings"),
        ];
        for (form, bytes, word) in cases {
            let slip = Feed::of_recording(form, bytes).unwrap_err().to_string();
            assert!(
                slip.contains(word),
                "{form} {:?}: {slip}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(50)])
            );
        }
        let slip = Feed::recorded(Path::new("/nowhere/pump.csv")).unwrap_err().to_string();
        assert!(slip.contains("/nowhere/pump.csv: it is not there"), "{slip}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0_u8.., 0..200), text in "[ -~\n]{0,80}") {
            for form in ["csv", "ndjson", "mp"] {
                let _ = Feed::of_recording(form, &bytes);
                let _ = Feed::of_recording(form, format!("t,a/b\n{text}").as_bytes());
            }
        }
    }
}
