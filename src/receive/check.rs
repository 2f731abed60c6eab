//! What every message must pass before it is believed. The decoder holds payloads against its own
//! bounds; here they are held against where they were published, and against what sinks can take.

use bytes::Bytes;

use super::sink::{Delivery, Status};
use crate::batch::{DecodeError, decode};
use crate::limits;
use crate::reading::UnixMillis;

/// Why a message is refused: one of these names, for counting, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The gateway of the topic, or `-` where the topic names none.
    pub gw: String,
    /// One of a few, for counts and metrics.
    pub reason: &'static str,
    /// Completes "it is refused:".
    pub why: String,
}

/// A topic of ours in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic<'a> {
    /// The gateway's level.
    pub gw: &'a str,
    /// `data`, `event`, `self`, `status` ...
    pub leaf: &'a str,
}

/// First time that is stored: year 1, in ms since 1970. PostgreSQL and people end there.
const FIRST: i64 = -62_135_596_800_000;
/// Last time that is stored: the end of 9999.
const LAST: i64 = 253_402_300_799_999;

/// Takes a topic apart; `None` when it is not `fg/1/{gw}/{leaf}`.
#[must_use]
pub fn topic(topic: &str) -> Option<Topic<'_>> {
    let (gw, leaf) = topic.strip_prefix("fg/1/")?.split_once('/')?;
    (!gw.is_empty() && !leaf.is_empty() && !leaf.contains('/')).then_some(Topic { gw, leaf })
}

/// Checks a message on a batch topic.
///
/// # Errors
/// When any part of it cannot be believed or stored.
pub fn batch(name: &str, payload: &Bytes, received_at: UnixMillis) -> Result<Delivery, Refusal> {
    let Some(topic) = topic(name) else {
        return Err(refusal("-", "topic", format!("{name:?} is no topic of a gateway")));
    };
    let refused = |reason, why: String| Err(refusal(topic.gw, reason, why));
    let decoded = match decode(payload) {
        Ok(decoded) => decoded,
        Err(error) => {
            let reason = match error {
                DecodeError::Version(_) => "version",
                DecodeError::TooLarge => "too large",
                DecodeError::Coding(_) => "coding",
                _ => "damaged",
            };
            return refused(reason, error.to_string());
        }
    };
    let header = &decoded.header;
    if header.gateway != topic.gw {
        return refused("wrong gateway", format!("it says that it is from {:?}", header.gateway));
    }
    if header.stream != topic.leaf {
        return refused("wrong stream", format!("it says that it is of {:?}", header.stream));
    }
    if header.gateway.len() > limits::NAME_BYTES_MAX || header.gateway.contains('\0') {
        return refused("name", "its gateway's name is no name".to_owned());
    }
    let top = header.epoch.max(header.sequence).max(header.dropped).max(header.lowest_held);
    if i64::try_from(top).is_err() {
        return refused("damaged", "a number of its envelope has 64 bits".to_owned());
    }
    for series in 0..decoded.series_count() {
        let (device, point, unit) = decoded.name(series);
        let longest = device.len().max(point.len()).max(unit.len());
        if longest > limits::RECEIVED_NAME_BYTES_MAX
            || [device, point, unit].iter().any(|name| name.contains('\0'))
        {
            return refused("name", "a device, point or unit is no name".to_owned());
        }
    }
    let (mut first, mut last) = (header.t0, header.t0.max(header.t1));
    decoded.rows(|row| {
        first = first.min(row.at.0);
        last = last.max(row.at.0);
    });
    if first < FIRST || last > LAST {
        return refused("time", "a time in it is before year 1 or after 9999".to_owned());
    }
    Ok(Delivery { topic: name.to_owned(), payload: payload.clone(), batch: decoded, received_at })
}

/// Checks a `status`. One that cannot be read is ignored: the ledger does not depend on it.
#[must_use]
pub fn status(name: &str, payload: &[u8]) -> Option<Status> {
    let topic = topic(name).filter(|topic| topic.gw.len() <= limits::NAME_BYTES_MAX)?;
    if payload.len() > limits::STATUS_BYTES_MAX || topic.gw.contains('\0') {
        return None;
    }
    let mut status: Status = serde_json::from_slice(payload).ok()?;
    topic.gw.clone_into(&mut status.gw);
    let top = [status.ep, status.seq, status.lo, status.backlog_s].into_iter().flatten().max();
    let fits = i64::try_from(top.unwrap_or(0)).is_ok()
        && status.ver.as_ref().is_none_or(|ver| !ver.contains('\0') && ver.len() < 100);
    fits.then_some(status)
}

fn refusal(gw: &str, reason: &'static str, why: String) -> Refusal {
    Refusal { gw: gw.to_owned(), reason, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(name: &str) -> Bytes {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/uplink/vectors/");
        std::fs::read(format!("{folder}{name}.msgpack")).unwrap().into()
    }

    fn reason(topic: &str, payload: &Bytes) -> &'static str {
        batch(topic, payload, UnixMillis(0)).map_or_else(|refusal| refusal.reason, |_| "taken")
    }

    #[test]
    fn a_batch_is_believed_only_on_its_own_topic() {
        let payload = vector("01-grid");
        let gw = decode(&payload).unwrap().header.gateway;
        assert_eq!(reason(&format!("fg/1/{gw}/data"), &payload), "taken");
        assert_eq!(reason(&format!("fg/1/{gw}/event"), &payload), "wrong stream");
        assert_eq!(reason("fg/1/another/data", &payload), "wrong gateway");
        for topic in ["fg/2/a/data", "fg/1//data", "fg/1/a", "fg/1/a/b/data"] {
            assert_eq!(reason(topic, &payload), "topic", "{topic}");
        }
    }

    #[test]
    fn every_invalid_vector_is_refused() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/uplink/vectors/invalid");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let payload: Bytes = std::fs::read(&path).unwrap().into();
            assert_ne!(reason("fg/1/gw/data", &payload), "taken", "{}", path.display());
            count += 1;
        }
        assert!(count > 20);
    }

    #[test]
    fn a_status_that_cannot_be_read_is_ignored() {
        let read =
            status("fg/1/a/status", br#"{"up":true,"ep":5,"seq":9,"lo":2,"new":1}"#).unwrap();
        assert_eq!(
            (read.gw.as_str(), read.ep, read.seq, read.lo),
            ("a", Some(5), Some(9), Some(2))
        );
        assert!(!status("fg/1/a/status", br#"{"up":false,"why":"lost"}"#).unwrap().up);
        for bad in [&b"{}"[..], b"", b"[1]", br#"{"up":true,"ep":18446744073709551615}"#] {
            assert_eq!(status("fg/1/a/status", bad), None);
        }
    }
}
