//! The two retained messages that describe a gateway: `status` and `meta`.

use bytes::Bytes;
use serde::Serialize;

use super::outbox::{Outbox, Standing};
use super::{Identity, Ruled};
use crate::clock::{Clock, counts_from_boot};
use crate::reading::{PointId, Points, Stream, UnixMillis};

/// This program's version, as `status` and `meta` tell it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
struct Up<'a> {
    up: bool,
    ep: u64,
    seq: u64,
    lo: u64,
    ver: &'a str,
    cv: &'a str,
    backlog_s: u64,
}

#[derive(Serialize)]
struct Meta<'a> {
    gw: &'a str,
    ver: &'a str,
    cv: &'a str,
    ep: u64,
    labels: serde_json::Map<String, serde_json::Value>,
    /// Absent when the list does not fit; then only their number is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    series: Option<Vec<Series>>,
    series_count: usize,
    rules: &'a [Ruled],
}

/// `[device, point, unit]`, and the protocol address when there is one.
#[derive(Serialize)]
#[serde(untagged)]
enum Series {
    Plain([std::sync::Arc<str>; 3]),
    Addressed([std::sync::Arc<str>; 4]),
}

/// `status` of a gateway that says goodbye.
pub const STOPPED: &[u8] = br#"{"up":false,"why":"stopped"}"#;
/// `status` of a gateway that is gone: the last will.
pub const LOST: &[u8] = br#"{"up":false,"why":"lost"}"#;

/// Returns `status` while connected, and the backlog that it tells.
pub fn status(identity: &Identity, outbox: &impl Outbox, clock: &dyn Clock) -> (Bytes, u64) {
    let standing = outbox.standing();
    let data = standing.streams[Stream::Data as usize];
    let backlog_s = backlog(&standing, clock);
    let up = Up {
        up: true,
        ep: standing.epoch,
        seq: data.newest,
        lo: data.lo,
        ver: VERSION,
        cv: &identity.config_hash,
        backlog_s,
    };
    (serde_json::to_vec(&up).unwrap_or_default().into(), backlog_s)
}

/// Returns the age of the oldest batch that waits, seconds; 0 when none does, or when the clock was
/// set, or set back, since.
fn backlog(standing: &Standing, clock: &dyn Clock) -> u64 {
    let now = clock.now();
    let comparable = |at: &UnixMillis| counts_from_boot(*at) == counts_from_boot(now);
    let oldest = standing.streams.iter().filter_map(|stream| stream.oldest).filter(comparable);
    let age = oldest.min().map_or(0, |oldest| now.0.saturating_sub(oldest.0));
    u64::try_from(age / 1000).unwrap_or(0)
}

/// Returns whether a backlog has changed so much that the receiver's side should hear of it before
/// its time: by more than a minute, and by more than half.
pub fn is_news(before: u64, now: u64) -> bool {
    let change = before.abs_diff(now);
    change > 60 && change > before / 2
}

/// Returns `meta` about the first `count` points, and whether their list fits into `bytes_max`.
pub fn meta(
    (gateway, identity): (&str, &Identity),
    epoch: u64,
    (points, count): (&Points, usize),
    bytes_max: usize,
) -> (Bytes, bool) {
    let mut meta = Meta {
        gw: gateway,
        ver: VERSION,
        cv: &identity.config_hash,
        ep: epoch,
        labels: labels(identity),
        series: series(points, count, bytes_max),
        series_count: count,
        rules: &identity.rules,
    };
    let whole = serde_json::to_vec(&meta).unwrap_or_default();
    if meta.series.is_some() && whole.len() <= bytes_max {
        return (whole.into(), true);
    }
    meta.series = None;
    (serde_json::to_vec(&meta).unwrap_or_default().into(), false)
}

/// Labels by name; one that is given several times becomes a list.
fn labels(identity: &Identity) -> serde_json::Map<String, serde_json::Value> {
    use serde_json::Value;
    let mut all = serde_json::Map::new();
    for (name, label) in &identity.labels {
        let label = Value::String(label.clone());
        match all.get_mut(name) {
            None => drop(all.insert(name.clone(), label)),
            Some(Value::Array(list)) => list.push(label),
            Some(one) => *one = Value::Array(vec![one.take(), label]),
        }
    }
    all
}

/// Returns the series, unless they are too many for any message.
fn series(points: &Points, count: usize, bytes_max: usize) -> Option<Vec<Series>> {
    // `["","",""],` is the least that a series takes.
    if count > bytes_max / 11 {
        return None;
    }
    let ids = (0..u32::try_from(count).ok()?).map(PointId);
    let one = |id| {
        let info = points.info(id);
        let [device, point, unit] =
            [&info.device, &info.point, &info.unit].map(std::sync::Arc::clone);
        match &info.src {
            None => Series::Plain([device, point, unit]),
            Some(src) => Series::Addressed([device, point, unit, std::sync::Arc::clone(src)]),
        }
    };
    Some(ids.map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::PointInfo;

    #[test]
    fn meta_names_its_series_only_where_the_broker_takes_so_many_bytes() {
        let points = Points::default();
        for n in 0..1000 {
            points.intern(PointInfo::new(&format!("device-{n}"), "temperature", "Cel")).unwrap();
        }
        let identity =
            Identity { config_hash: "c0ffee".into(), labels: Vec::new(), rules: Vec::new() };
        let about = ("gw-1", &identity);
        let (whole, fits) = meta(about, 1, (&points, 1000), 64 * 1024);
        assert!(fits && whole.len() > 32 * 1024, "{}", whole.len());
        let (most, least) = (whole.len(), whole.len() - 1);
        assert_eq!(meta(about, 1, (&points, 1000), most), (whole, true));
        let (short, fits) = meta(about, 1, (&points, 1000), least);
        assert!(!fits && short.len() < 200, "{}", short.len());
    }
}
