//! A batch as ThingsBoard reads it: JSON of its gateway API, in as many messages as its payload
//! limit asks for. Only here are other bytes sent than those on disk, so here a batch may be several
//! publishes, and it is freed when all of them are acknowledged.
//!
//! `{"device":[{"ts":ms,"values":{"point":value,"point_q":quality}}]}`: a quality is sent where it
//! is not plain good, and no value where there is none to use.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;

use crate::batch::{DecodeError, decode, text};
use crate::mqtt::PacketId;

/// Publishes that together are a batch, until the last is acknowledged.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The publish that stands for the batch, by each of its parts.
    batch_of: BTreeMap<PacketId, PacketId>,
    left: BTreeMap<PacketId, usize>,
}

impl Parts {
    /// Takes the publishes of one batch; returns the one that stands for it.
    pub(super) fn sent(&mut self, ids: &[PacketId]) -> Option<PacketId> {
        let batch = *ids.last()?;
        if ids.len() > 1 {
            self.batch_of.extend(ids.iter().map(|id| (*id, batch)));
            self.left.insert(batch, ids.len());
        }
        Some(batch)
    }

    /// Takes a refusal; returns the publish whose batch is refused by it, once.
    pub(super) fn refused(&mut self, id: PacketId) -> Option<PacketId> {
        let Some(batch) = self.batch_of.remove(&id) else { return Some(id) };
        self.left.remove(&batch).map(|_| batch)
    }

    /// Takes an acknowledgement; returns the publish whose batch is complete by it.
    pub(super) fn acknowledged(&mut self, id: PacketId) -> Option<PacketId> {
        let Some(batch) = self.batch_of.remove(&id) else { return Some(id) };
        let left = self.left.get_mut(&batch)?;
        *left -= 1;
        if *left > 0 {
            return None;
        }
        self.left.remove(&batch);
        Some(batch)
    }
}

/// Translates a batch into messages of at most `bytes_max` each; one at least, so that there is
/// something to acknowledge.
///
/// # Errors
/// When the batch cannot be read.
pub(super) fn telemetry(batch: &[u8], bytes_max: usize) -> Result<Vec<Bytes>, DecodeError> {
    let decoded = decode(batch)?;
    let mut rows = Vec::new();
    decoded.rows(|row| {
        let (device, point, _) = decoded.name(row.series);
        let mut fields = String::new();
        if row.value.is_some() {
            let _ = write!(fields, "{}:{}", quoted(point), text::json(row.value));
        }
        if row.q != 0 {
            let comma = if fields.is_empty() { "" } else { "," };
            let _ = write!(fields, "{comma}{}:{}", quoted(&format!("{point}_q")), row.q);
        }
        if !fields.is_empty() {
            rows.push((device, row.at.0, fields));
        }
    });
    rows.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    let mut messages = Messages { done: Vec::new(), text: String::new(), bytes_max };
    let mut last = None;
    for (device, at, fields) in &rows {
        messages.add(&mut last, (device, *at), fields);
    }
    messages.end();
    Ok(messages.done)
}

/// Messages under way.
struct Messages {
    done: Vec<Bytes>,
    text: String,
    bytes_max: usize,
}

/// What closes values, sample, list and message.
const END: &str = "}}]}";

impl Messages {
    fn add<'a>(&mut self, last: &mut Option<(&'a str, i64)>, to: (&'a str, i64), fields: &str) {
        let head = 64 + to.0.len() * 2;
        if last.is_some() && self.text.len() + head + fields.len() + END.len() > self.bytes_max {
            self.end();
            *last = None;
        }
        let (device, at) = to;
        let sample = format!("{{\"ts\":{at},\"values\":{{{fields}");
        match *last {
            Some(before) if before == to => {
                self.text.push(',');
                self.text.push_str(fields);
            }
            Some((before, _)) if before == device => {
                self.text.push_str("}},");
                self.text.push_str(&sample);
            }
            Some(_) => {
                let _ = write!(self.text, "}}}}],{}:[{sample}", quoted(device));
            }
            None => {
                let _ = write!(self.text, "{{{}:[{sample}", quoted(device));
            }
        }
        *last = Some(to);
    }

    /// Ends the message under way; when there never was one, makes an empty one.
    fn end(&mut self) {
        if !self.text.is_empty() {
            self.text.push_str(END);
            self.done.push(std::mem::take(&mut self.text).into());
        } else if self.done.is_empty() {
            self.done.push(Bytes::from_static(b"{}"));
        }
    }
}

fn quoted(name: &str) -> serde_json::Value {
    serde_json::Value::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_complete_with_the_last_of_its_parts_in_any_order() {
        let ids = [1, 2, 3, 4].map(|n| PacketId::new(n).unwrap());
        let mut parts = Parts::default();
        assert_eq!(parts.sent(&ids[..3]), Some(ids[2]));
        assert_eq!(parts.sent(&ids[3..]), Some(ids[3]));
        assert_eq!(parts.acknowledged(ids[2]), None);
        assert_eq!(parts.acknowledged(ids[3]), Some(ids[3]));
        assert_eq!(parts.acknowledged(ids[0]), None);
        assert_eq!(parts.acknowledged(ids[1]), Some(ids[2]));
        // An identifier that is used again is a publish of its own.
        assert_eq!(parts.acknowledged(ids[1]), Some(ids[1]));
        assert_eq!(parts.sent(&[]), None);
        // One part refused is the batch refused, and what the others become changes nothing.
        assert_eq!(parts.sent(&ids[..3]), Some(ids[2]));
        assert_eq!(parts.acknowledged(ids[0]), None);
        assert_eq!(parts.refused(ids[1]), Some(ids[2]));
        assert_eq!(parts.refused(ids[2]), None);
        assert_eq!(parts.refused(ids[3]), Some(ids[3]));
    }

    /// Every vector of the wire format, in small and large messages: the same samples come out.
    #[test]
    fn every_reading_of_a_batch_is_in_one_message_once() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/uplink/vectors");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(batch) = std::fs::read(&path) else { continue };
            let Ok(decoded) = decode(&batch) else { continue };
            let mut expected = BTreeMap::new();
            decoded.rows(|row| {
                let (device, point, _) = decoded.name(row.series);
                let mut put = |key: String, value: serde_json::Value| {
                    expected.insert((device.to_owned(), row.at.0, key), value);
                };
                if row.value.is_some() {
                    put(point.to_owned(), text::json(row.value));
                }
                if row.q != 0 {
                    put(format!("{point}_q"), row.q.into());
                }
            });
            for bytes_max in [600, 60 * 1024] {
                let messages = telemetry(&batch, bytes_max).unwrap();
                let mut found = BTreeMap::new();
                for message in &messages {
                    assert!(message.len() <= bytes_max.max(2000), "{}", message.len());
                    let json: serde_json::Value = serde_json::from_slice(message).unwrap();
                    for (device, samples) in json.as_object().unwrap() {
                        for sample in samples.as_array().unwrap() {
                            let at = sample["ts"].as_i64().unwrap();
                            for (key, value) in sample["values"].as_object().unwrap() {
                                found.insert((device.clone(), at, key.clone()), value.clone());
                            }
                        }
                    }
                }
                assert_eq!(found, expected, "{}", path.display());
            }
            seen += expected.len();
        }
        assert!(seen > 1000, "{seen} readings in the vectors");
        assert_eq!(telemetry(b"noise", 1000).ok(), None);
    }
}
