//! Turns frames into samples. Compiled once from the settings; a frame costs no allocation besides
//! its group when it is UTF-8 and matches.

use std::sync::Arc;

use regex::CaptureLocations;
use serde_json::Value as Json;

use super::settings::{Device, Form, Parse};
use crate::reading::{NoData, PointId, PointInfo, Points, Sample, TooManyPoints, Value};
use crate::sources::number::{Scaling, blank, json_number, number};

/// Why a frame gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The regular expression does not match.
    NoMatch,
    /// It is not a JSON object, or it nests deeper than 128 levels.
    NotJson,
    /// It was read, but holds none of the points.
    NoPoint,
}

/// A device's settings, ready to use.
#[derive(Debug)]
pub struct Parser {
    how: How,
    points: Vec<Point>,
    /// Every point, for groups without data.
    all: Arc<[PointId]>,
    /// Lists of points that were seen together; the batch encoder recognises them by address.
    lists: Vec<Arc<[PointId]>>,
    found: Vec<PointId>,
}

#[derive(Debug)]
enum How {
    /// With the capture slots, kept so that a frame allocates none.
    Match(regex::Regex, CaptureLocations),
    Json,
}

#[derive(Debug)]
struct Point {
    id: PointId,
    form: Form,
    scaling: Scaling,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Index of a capture group.
    Group(usize),
    /// Member of the JSON object, whole and cut at its points.
    Member(String, Vec<String>),
    /// The regular expression has no group of that name.
    Nowhere,
}

/// Lists remembered: devices that send one of a few kinds of frame. Beyond that, lists are made
/// anew for each frame, which only costs.
const LISTS_MAX: usize = 16;

impl Parser {
    /// Compiles `device` and gives its points their ids.
    ///
    /// # Errors
    /// When the process knows too many points already.
    pub fn new(device: &Device, names: &Points) -> Result<Self, TooManyPoints> {
        let how = match &device.parse {
            Parse::Match(regex) => How::Match(regex.clone(), regex.capture_locations()),
            Parse::Json => How::Json,
        };
        let mut points = Vec::with_capacity(device.points.len());
        for point in &device.points {
            let place = match &how {
                How::Match(regex, _) => regex
                    .capture_names()
                    .position(|name| name == Some(point.key.as_str()))
                    .map_or(Place::Nowhere, Place::Group),
                How::Json => Place::Member(
                    point.key.clone(),
                    point.key.split('.').map(str::to_owned).collect(),
                ),
            };
            let info = PointInfo {
                device: Arc::clone(&device.name),
                point: Arc::clone(&point.name),
                unit: Arc::clone(&point.unit),
                src: None,
            };
            points.push(Point {
                id: names.intern(info)?,
                form: point.form,
                scaling: Scaling::new(point.scale, point.offset, point.decimals),
                place,
            });
        }
        let all: Arc<[PointId]> = points.iter().map(|point| point.id).collect();
        Ok(Self { how, points, lists: vec![Arc::clone(&all)], all, found: Vec::new() })
    }

    /// Returns every point with the same absence.
    #[must_use]
    pub fn without_data(&self, why: NoData) -> (Arc<[PointId]>, Vec<Sample>) {
        (Arc::clone(&self.all), vec![Sample::none(why); self.all.len()])
    }

    /// Reads one frame. A point whose group or member is not there has no reading this time.
    ///
    /// # Errors
    /// Says why there is no reading at all.
    pub fn frame(&mut self, frame: &[u8]) -> Result<(Arc<[PointId]>, Vec<Sample>), Refusal> {
        self.found.clear();
        let mut samples = Vec::with_capacity(self.points.len());
        match &mut self.how {
            How::Match(regex, groups) => {
                let latin1;
                let text = match std::str::from_utf8(frame) {
                    Ok(text) => text,
                    Err(_) => {
                        latin1 = frame.iter().map(|byte| char::from(*byte)).collect::<String>();
                        &latin1
                    }
                };
                regex.captures_read(groups, text).ok_or(Refusal::NoMatch)?;
                for point in &self.points {
                    let sample = match point.place {
                        Place::Group(group) => {
                            let Some((from, to)) = groups.get(group) else { continue };
                            point.text(&text[from..to])
                        }
                        _ => Err(NoData::Configuration),
                    };
                    self.found.push(point.id);
                    samples.push(sample.into());
                }
            }
            How::Json => {
                let object: Json = serde_json::from_slice(frame).map_err(|_| Refusal::NotJson)?;
                if !object.is_object() {
                    return Err(Refusal::NotJson);
                }
                for point in &self.points {
                    let Some(member) = point.member(&object) else { continue };
                    self.found.push(point.id);
                    samples.push(point.json(member).into());
                }
            }
        }
        if samples.is_empty() {
            return Err(Refusal::NoPoint);
        }
        Ok((self.list(), samples))
    }

    /// Returns the list of what was found, shared with earlier frames that held the same.
    fn list(&mut self) -> Arc<[PointId]> {
        if let Some(list) = self.lists.iter().find(|list| ***list == self.found[..]) {
            return Arc::clone(list);
        }
        let list: Arc<[PointId]> = self.found.as_slice().into();
        if self.lists.len() < LISTS_MAX {
            self.lists.push(Arc::clone(&list));
        }
        list
    }
}

impl Point {
    fn text(&self, text: &str) -> Result<Value, NoData> {
        let text = text.trim_matches(blank);
        match self.form {
            Form::Number => self.scaling.apply(number(text)?),
            Form::Bool => boolean(text).map(Value::Bool).ok_or(NoData::Malformed),
            Form::Text => Ok(Value::from_text(text)),
            Form::Any if text.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
            Form::Any if text.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
            Form::Any => match number(text) {
                Ok(value) => self.scaling.apply(value),
                Err(NoData::Malformed) => Ok(Value::from_text(text)),
                Err(why) => Err(why),
            },
        }
    }

    fn json(&self, member: &Json) -> Result<Value, NoData> {
        match (member, self.form) {
            (Json::String(text), _) => self.text(text),
            (Json::Bool(flag), Form::Bool | Form::Any) => Ok(Value::Bool(*flag)),
            (Json::Number(raw), Form::Number | Form::Any) => self.scaling.apply(json_number(raw)?),
            (Json::Number(_) | Json::Bool(_), _) => self.text(&member.to_string()),
            (Json::Null | Json::Array(_) | Json::Object(_), _) => Err(NoData::Malformed),
        }
    }

    /// Finds the point's member: by its whole key, else step by step. `null` is how JSON says that
    /// there is nothing.
    fn member<'a>(&self, object: &'a Json) -> Option<&'a Json> {
        let Place::Member(key, steps) = &self.place else { return None };
        let found = object.get(key).or_else(|| {
            steps.iter().try_fold(object, |at, step| match at {
                Json::Array(items) => items.get(step.parse::<usize>().ok()?),
                _ => at.get(step),
            })
        });
        found.filter(|member| !member.is_null())
    }
}

/// Reads what devices write for yes and no.
fn boolean(text: &str) -> Option<bool> {
    let is = |names: &[&str]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    if is(&["1", "true", "on", "yes"]) {
        Some(true)
    } else if is(&["0", "false", "off", "no"]) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::reading::Decimal;
    use crate::sources::line::{LineSettings, SerialLine};
    use crate::sources::serial::settings::{self, Framing};

    fn point(name: &str, form: Form) -> settings::Point {
        settings::Point {
            name: name.into(),
            key: name.into(),
            form,
            scale: 1.0,
            offset: 0.0,
            decimals: None,
            unit: "".into(),
        }
    }

    fn device(parse: Parse, points: Vec<settings::Point>) -> Device {
        Device {
            name: "scale".into(),
            line: SerialLine {
                name: "a".into(),
                path: PathBuf::new(),
                line: LineSettings::DEFAULT,
            },
            framing: Framing::End(b"\n".to_vec()),
            checksum: None,
            parse,
            points,
            ask: None,
            silent_after: None,
        }
    }

    fn parser(pattern: &str, points: &[(&str, Form)]) -> (Parser, Points) {
        let names = Points::default();
        let points = points.iter().map(|(name, form)| point(name, *form)).collect();
        let parse = match pattern {
            "json" => Parse::Json,
            _ => Parse::Match(regex::Regex::new(pattern).unwrap()),
        };
        (Parser::new(&device(parse, points), &names).unwrap(), names)
    }

    /// Writes a frame's outcome as a line: `weight=12.340 status=ST`.
    fn read((parser, names): &mut (Parser, Points), frame: &[u8]) -> String {
        let (points, samples) = match parser.frame(frame) {
            Ok(found) => found,
            Err(refusal) => return format!("{refusal:?}"),
        };
        let words: Vec<_> = points
            .iter()
            .zip(&samples)
            .map(|(id, sample)| format!("{}={}", names.info(*id).point, shown(sample)))
            .collect();
        words.join(" ")
    }

    fn shown(sample: &Sample) -> String {
        match &sample.value {
            Ok(Value::Bool(flag)) => flag.to_string(),
            Ok(Value::Decimal(Decimal { digits, places })) => format!("{digits}e-{places}"),
            Ok(Value::Float(number)) => format!("float {number}"),
            Ok(Value::Text(text)) => format!("{:?}", &**text),
            Err(why) => format!("{why:?}"),
        }
    }

    const SCALE: &str = r"^(?<status>ST|US),GS,\s*(?<weight>[-+]?[\d.a-zA-Z]+?)kg(?<tare>T)?$";

    #[test]
    fn a_matching_frame_becomes_the_points_of_its_groups() {
        let points = [("weight", Form::Number), ("status", Form::Text), ("tare", Form::Text)];
        let mut p = parser(SCALE, &points);
        let table: &[(&[u8], &str)] = &[
            (b"ST,GS, +12.340kg", r#"weight=12340e-3 status="ST""#),
            (b"US,GS, -0.5kgT", r#"weight=-5e-1 status="US" tare="T""#),
            (b"ST,GS, nankg", r#"weight=SensorFault status="ST""#),
            (b"ST,GS, infkg", r#"weight=SensorFault status="ST""#),
            (b"ST,GS, 1..2kg", r#"weight=Malformed status="ST""#),
            (b"", "NoMatch"),
            (b"ST,GS\0, 1.0kg", "NoMatch"),
            (b"\xff\xfe\x00", "NoMatch"),
        ];
        for (frame, expected) in table {
            assert_eq!(read(&mut p, frame), *expected, "{}", frame.escape_ascii());
        }
    }

    #[test]
    fn frames_that_are_not_utf8_are_read_as_latin1() {
        let mut p =
            parser(r"(?<t>[\d.]+)\u{b0}C (?<who>\w+)", &[("t", Form::Number), ("who", Form::Text)]);
        assert_eq!(read(&mut p, b"21.5\xb0C K\xfche"), "t=215e-1 who=\"K\u{fc}he\"");
        assert_eq!(read(&mut p, "21.5\u{b0}C Küche".as_bytes()), "t=215e-1 who=\"K\u{fc}che\"");
    }

    #[test]
    fn text_loses_blanks_and_nul_filling_and_is_bounded() {
        let mut p = parser(r"(?s)^(?<t>.*)$", &[("t", Form::Text)]);
        assert_eq!(read(&mut p, b"  AB\0C \0\0"), r#"t="AB\0C""#);
        let (_, samples) = p.0.frame(&vec![b'x'; 64 * 1024]).unwrap();
        let Ok(Value::Text(text)) = &samples[0].value else { panic!("{samples:?}") };
        assert_eq!(text.len(), crate::limits::TEXT_BYTES_MAX);
    }

    #[test]
    fn every_form_reads_what_devices_write() {
        let table = [
            (Form::Bool, "ON", "true"),
            (Form::Bool, "0", "false"),
            (Form::Bool, "maybe", "Malformed"),
            (Form::Any, "TRUE", "true"),
            (Form::Any, "1", "1e-0"),
            (Form::Any, "on", "\"on\""),
            (Form::Any, "NaN", "SensorFault"),
            (Form::Number, "kg", "Malformed"),
            (Form::Text, "1", "\"1\""),
        ];
        for (form, text, expected) in table {
            let mut p = parser("^(?<p>.*)$", &[("p", form)]);
            assert_eq!(read(&mut p, text.as_bytes()), format!("p={expected}"), "{form:?} {text}");
        }
    }

    #[test]
    fn a_json_object_becomes_the_points_of_its_members() {
        let points = [
            ("t", Form::Number),
            ("s.h", Form::Any),
            ("list.1", Form::Any),
            ("on", Form::Bool),
            ("a.b", Form::Text),
        ];
        let mut p = parser("json", &points);
        let deep = format!("{{\"t\":{}1{}}}", "[".repeat(40_000), "]".repeat(40_000));
        let table: &[(&str, &str)] = &[
            (r#"{"t":21.50,"s":{"h":"45"},"list":[1,2]}"#, "t=215e-1 s.h=45e-0 list.1=2e-0"),
            (r#"{"on":1,"a.b":7}"#, r#"on=true a.b="7""#),
            (r#"{"on":"off","a":{"b":true}}"#, r#"on=false a.b="true""#),
            (r#"{"t":"nan","on":2}"#, "t=SensorFault on=Malformed"),
            (r#"{"t":{},"s":{"h":[]}}"#, "t=Malformed s.h=Malformed"),
            (r#"{"t":18446744073709551615}"#, "t=float 18446744073709552000"),
            (r#"{"t":null,"x":1}"#, "NoPoint"),
            ("{}", "NoPoint"),
            ("[1]", "NotJson"),
            (r#"{"t":NaN}"#, "NotJson"),
            (r#"{"t":1"#, "NotJson"),
            (&deep, "NotJson"),
        ];
        for (frame, expected) in table {
            let start = &frame[..frame.len().min(60)];
            assert_eq!(read(&mut p, frame.as_bytes()), *expected, "{start}");
        }
    }

    #[test]
    fn frames_that_hold_the_same_points_share_one_list() {
        let (mut p, _) = parser(SCALE, &[("weight", Form::Number), ("tare", Form::Text)]);
        let lists: Vec<_> = ["ST,GS,1kg", "ST,GS,1kgT", "ST,GS,2kg", "ST,GS,2kgT"]
            .iter()
            .map(|frame| p.frame(frame.as_bytes()).unwrap().0)
            .collect();
        assert!(Arc::ptr_eq(&lists[0], &lists[2]));
        assert!(Arc::ptr_eq(&lists[1], &lists[3]));
        assert!(Arc::ptr_eq(&lists[1], &p.without_data(NoData::Timeout).0));
    }

    #[test]
    fn a_point_without_a_group_says_that_the_configuration_is_wrong() {
        let mut p = parser("^(?<a>.)$", &[("a", Form::Text), ("b", Form::Text)]);
        assert_eq!(read(&mut p, b"x"), "a=\"x\" b=Configuration");
    }
}
