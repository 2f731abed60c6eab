//! Rows, which are readings with names instead of ids, and how they become groups.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::limits;
use crate::reading::{
    Group, PointId, PointInfo, Points, Sample, Stream, TooManyPoints, UnixMillis,
};

/// A reading with names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub device: Arc<str>,
    pub point: Arc<str>,
    pub unit: Arc<str>,
    pub at: UnixMillis,
    pub sample: Sample,
}

/// The name that no id was left for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OneTooMany {
    device: Arc<str>,
    point: Arc<str>,
}

impl fmt::Display for OneTooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.point)
    }
}

/// How many different lists of points are kept for reuse. A listener's devices post the same few
/// packs over and over; strangers who vary them only empty the table.
const LISTS_MAX: usize = 1024;

/// Lists of points already handed out, so that the same pack has the same list by address.
#[derive(Debug, Default)]
pub(super) struct Lists(HashSet<Arc<[PointId]>>);

impl Lists {
    fn get(&mut self, points: &[PointId]) -> Arc<[PointId]> {
        if let Some(list) = self.0.get(points) {
            return Arc::clone(list);
        }
        if self.0.len() >= LISTS_MAX {
            self.0.clear();
        }
        let list: Arc<[PointId]> = points.into();
        self.0.insert(Arc::clone(&list));
        list
    }
}

/// Groups rows by time, earliest first; rows of one time keep their order. A point that stands
/// twice at one time begins a second group of that time, so that neither value is lost.
///
/// # Errors
/// When a row names a point that is new, and there are as many as a process may know.
pub(super) fn group(
    mut rows: Vec<Row>,
    points: &Points,
    lists: &mut Lists,
) -> Result<Vec<Group>, OneTooMany> {
    rows.sort_by_key(|row| row.at);
    let mut groups = Vec::new();
    let mut ids: Vec<PointId> = Vec::new();
    let mut seen = HashSet::new();
    let mut samples = Vec::new();
    let mut at = UnixMillis(0);
    for row in rows {
        let (device, point) = (Arc::clone(&row.device), Arc::clone(&row.point));
        let id = points
            .learn(PointInfo { device, point, unit: row.unit, src: None })
            .map_err(|TooManyPoints| OneTooMany { device: row.device, point: row.point })?;
        if !samples.is_empty() && (row.at != at || seen.contains(&id)) {
            let samples = std::mem::take(&mut samples);
            groups.push(Group { stream: Stream::Data, at, points: lists.get(&ids), samples });
            ids.clear();
            seen.clear();
        }
        at = row.at;
        ids.push(id);
        seen.insert(id);
        samples.push(row.sample);
    }
    if !samples.is_empty() {
        groups.push(Group { stream: Stream::Data, at, points: lists.get(&ids), samples });
    }
    Ok(groups)
}

/// Makes a device or point name of text from the network: `/` becomes `.`, because `device/point`
/// has one slash; separators at either end fall away.
///
/// # Errors
/// When nothing is left, or it is longer than [`limits::NAME_BYTES_MAX`], or it holds `+`, `#` or
/// a control character, which no topic level may hold and which no sensor means.
pub(super) fn name(text: &str) -> Result<Arc<str>, String> {
    let text = text.trim_matches(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if text.is_empty() {
        return Err("a name is empty".into());
    }
    if text.len() > limits::NAME_BYTES_MAX {
        return Err(format!("a name is longer than {} bytes", limits::NAME_BYTES_MAX));
    }
    if text.contains(|c: char| c == '+' || c == '#' || c.is_control()) {
        return Err("a name holds \"+\", \"#\" or a control character".into());
    }
    Ok(if text.contains('/') { text.replace('/', ".").into() } else { text.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Value;

    fn row(point: &str, at: i64, n: i64) -> Row {
        let sample = Sample::good(Value::from_i64(n));
        let (device, point) = ("d".into(), point.into());
        Row { device, point, unit: "".into(), at: UnixMillis(at), sample }
    }

    #[test]
    fn rows_of_one_time_are_one_group_and_times_are_in_order() {
        let points = Points::default();
        let mut lists = Lists::default();
        let rows = vec![row("a", 2, 1), row("a", 1, 2), row("b", 2, 3), row("b", 1, 4)];
        let groups = group(rows, &points, &mut lists).unwrap();
        let seen: Vec<_> = groups.iter().map(|g| (g.at.0, g.samples.len())).collect();
        assert_eq!(seen, [(1, 2), (2, 2)]);
        assert!(Arc::ptr_eq(&groups[0].points, &groups[1].points), "the list is not shared");
    }

    #[test]
    fn a_point_twice_at_one_time_is_two_groups() {
        let points = Points::default();
        let rows = vec![row("a", 1, 1), row("b", 1, 2), row("a", 1, 3)];
        let groups = group(rows, &points, &mut Lists::default()).unwrap();
        assert_eq!(groups.iter().map(|g| g.points.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(groups[1].at, UnixMillis(1));
    }

    #[test]
    fn names_are_one_topic_level() {
        assert_eq!(&*name("3303/0/5700").unwrap(), "3303.0.5700");
        assert_eq!(&*name(":temp/").unwrap(), "temp");
        let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
        for bad in ["", "/", " ", "a+b", "#", "a\u{0}b", "a\nb", &long] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lists_do_not_grow_with_senders_that_vary_them() {
        let mut lists = Lists::default();
        for n in 0..5000 {
            lists.get(&[PointId(n)]);
        }
        assert!(lists.0.len() <= LISTS_MAX);
    }
}
