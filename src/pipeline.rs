//! Between sources and store: readings that did not move by more than their point's deadband are
//! left out here, everything else goes on as it came. Readings that rules take go into their chains,
//! which see all of them; what the chains make comes back through [`Exit`], deadbands included.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::limits;
use crate::reading::{Group, PointId, Points, Sample, Value};
use crate::rules::{Routes, Sink};
use crate::state::Change;
use crate::store::Store;

/// A deadband of one point: `deadband = 0.05` in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Deadband {
    /// Device name.
    pub device: Arc<str>,
    /// Point name.
    pub point: Arc<str>,
    /// Smallest change that goes on, in the point's unit.
    pub band: f64,
}

/// Hands every group that arrives to the rules that take it, else to the store, until all sources
/// have dropped their outlets.
pub async fn run(
    mut groups: mpsc::Receiver<Group>,
    mut routes: Routes,
    mut filter: Filter,
    store: Store,
) {
    while let Some(group) = groups.recv().await {
        routes.split(group, &mut |group| {
            if let Some(group) = filter.pass(group) {
                store.append(group);
            }
        });
    }
}

/// The way of a chain's readings to the store: what changed of its rules goes with them.
pub struct Exit {
    filter: Filter,
    store: Store,
}

impl Exit {
    /// A way out with a filter of its own: a point's readings leave by one way.
    #[must_use]
    pub fn new(filter: Filter, store: Store) -> Self {
        Self { filter, store }
    }
}

impl Sink for Exit {
    fn take(&mut self, groups: Vec<Group>, changes: Vec<Change>) -> Vec<Arc<str>> {
        let groups = groups.into_iter().filter_map(|group| self.filter.pass(group)).collect();
        self.store.append_with(groups, changes)
    }
}

/// Bands by device and point; all filters share one.
pub type Bands = Arc<HashMap<(Arc<str>, Arc<str>), f64>>;

/// The deadbands of all points, and what each point sent last.
pub struct Filter {
    bands: Bands,
    /// Where other bands come from while it runs.
    news: watch::Receiver<Bands>,
    points: Arc<Points>,
    /// By point id; filled when a point is first seen.
    states: Vec<State>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Not seen yet.
    Unknown,
    /// Has no deadband.
    Open,
    /// Has one: the band, and what was sent last.
    Banded { band: f64, last: Option<Sent> },
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Sent {
    /// `None` for no-data and for text, which have no distance.
    value: Option<f64>,
    mark: u8,
    at_ms: i64,
}

/// Puts deadbands in the order in which filters look for them.
#[must_use]
pub fn bands(deadbands: &[Deadband]) -> Bands {
    let bands = deadbands.iter();
    Arc::new(bands.map(|d| ((Arc::clone(&d.device), Arc::clone(&d.point)), d.band)).collect())
}

impl Filter {
    /// A filter for the deadbands that `news` has, now and later.
    #[must_use]
    pub fn new(mut news: watch::Receiver<Bands>, points: Arc<Points>) -> Self {
        let bands = Arc::clone(&news.borrow_and_update());
        Self { bands, news, points, states: Vec::new() }
    }

    /// The same deadbands for another way, on which nothing was sent yet.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self::new(self.news.clone(), Arc::clone(&self.points))
    }

    /// Takes other deadbands. What a point sent last stays known where its band stays.
    fn change(&mut self) {
        self.bands = Arc::clone(&self.news.borrow_and_update());
        for (state, index) in self.states.iter_mut().zip(0..) {
            let before = match state {
                State::Banded { band, .. } => Some(*band),
                State::Open => None,
                State::Unknown => continue,
            };
            let info = self.points.info(PointId(index));
            if before != self.bands.get(&(info.device, info.point)).copied() {
                *state = State::Unknown;
            }
        }
    }

    /// Returns what of a group goes on; `None` when nothing does.
    ///
    /// A reading goes on when it differs from the last one that went on by at least the band, when
    /// its quality changed, when it carries no number, and at the latest after
    /// [`limits::DEADBAND_SILENCE_MAX`].
    pub fn pass(&mut self, group: Group) -> Option<Group> {
        if self.news.has_changed().unwrap_or(false) {
            self.change();
        }
        if self.bands.is_empty() {
            return Some(group);
        }
        let mut kept = Vec::new();
        for (index, (point, sample)) in group.points.iter().zip(&group.samples).enumerate() {
            if self.moved(*point, sample, group.at.0) {
                kept.push(index);
            }
        }
        if kept.len() == group.samples.len() {
            return Some(group);
        }
        let samples = kept.iter().map(|index| group.samples[*index].clone()).collect();
        let points = kept.iter().map(|index| group.points[*index]).collect();
        (!kept.is_empty()).then_some(Group { points, samples, ..group })
    }

    fn moved(&mut self, point: PointId, sample: &Sample, at_ms: i64) -> bool {
        let index = point.0 as usize;
        if index >= self.states.len() {
            self.states.resize(index + 1, State::Unknown);
        }
        if self.states[index] == State::Unknown {
            let info = self.points.info(point);
            let band = self.bands.get(&(Arc::clone(&info.device), Arc::clone(&info.point)));
            self.states[index] =
                band.map_or(State::Open, |band| State::Banded { band: *band, last: None });
        }
        let State::Banded { band, last } = &mut self.states[index] else { return true };
        let now = Sent { value: number(sample), mark: sample.mark(), at_ms };
        let still = last.is_some_and(|last| now.is_within(last, *band));
        if !still {
            *last = Some(now);
        }
        !still
    }
}

impl Sent {
    fn is_within(self, last: Self, band: f64) -> bool {
        let silence = Duration::from_millis(self.at_ms.abs_diff(last.at_ms));
        if self.mark != last.mark || silence >= limits::DEADBAND_SILENCE_MAX {
            return false;
        }
        match (self.value, last.value) {
            (Some(now), Some(then)) => (now - then).abs() < band,
            // The same absence as before, or text, which has no distance: only absence is the same.
            (None, None) => self.mark >= 32,
            _ => false,
        }
    }
}

fn number(sample: &Sample) -> Option<f64> {
    match sample.value.as_ref().ok()? {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Decimal(decimal) => Some(decimal.to_f64()),
        Value::Float(number) => Some(*number),
        Value::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{NoData, PointInfo, Stream, UnixMillis};

    struct Bench {
        filter: Filter,
        points: Arc<[PointId]>,
        news: watch::Sender<Bands>,
    }

    fn bench() -> Bench {
        let points = Arc::new(Points::default());
        let ids = ["banded", "open"].map(|p| points.intern(PointInfo::new("d", p, "V")).unwrap());
        let news = watch::Sender::new(bands(&[band("banded", 0.5)]));
        Bench { filter: Filter::new(news.subscribe(), points), points: Arc::from(ids), news }
    }

    fn band(point: &str, band: f64) -> Deadband {
        Deadband { device: "d".into(), point: point.into(), band }
    }

    impl Bench {
        fn pass(&mut self, at_ms: i64, banded: Sample, open: f64) -> Vec<u32> {
            let group = Group {
                stream: Stream::Data,
                at: UnixMillis(at_ms),
                points: Arc::clone(&self.points),
                samples: vec![banded, Sample::good(Value::from_f64(open).unwrap())],
            };
            let passed = self.filter.pass(group);
            passed.map_or(Vec::new(), |group| group.points.iter().map(|p| p.0).collect())
        }
    }

    fn volts(value: f64) -> Sample {
        Value::from_f64(value).into()
    }

    #[test]
    fn a_small_move_is_left_out_and_its_neighbour_is_not() {
        let mut bench = bench();
        assert_eq!(bench.pass(0, volts(10.0), 1.0), [0, 1]);
        assert_eq!(bench.pass(1, volts(10.4), 1.0), [1]);
        assert_eq!(bench.pass(2, volts(10.5), 1.0), [0, 1]);
    }

    #[test]
    fn other_deadbands_count_from_the_next_group_on_and_what_stays_is_remembered() {
        let mut bench = bench();
        assert_eq!(bench.pass(0, volts(10.0), 1.0), [0, 1]);
        bench.news.send_replace(bands(&[band("banded", 0.5), band("open", 0.5)]));
        assert_eq!(bench.pass(1, volts(10.4), 1.0), [1], "the new one begins, the old one goes on");
        assert_eq!(bench.pass(2, volts(10.4), 1.4), [] as [u32; 0]);
        bench.news.send_replace(bands(&[band("open", 0.5)]));
        assert_eq!(bench.pass(3, volts(10.4), 1.4), [0]);
        bench.news.send_replace(bands(&[]));
        assert_eq!(bench.pass(4, volts(10.4), 1.4), [0, 1]);
    }

    #[test]
    fn creeping_does_not_escape_the_band() {
        let mut bench = bench();
        bench.pass(0, volts(10.0), 1.0);
        let passed: Vec<bool> =
            (1..=6).map(|n| bench.pass(n, volts(10.0 + 0.1 * n as f64), 1.0).len() == 2).collect();
        assert_eq!(passed.iter().filter(|p| **p).count(), 1);
    }

    #[test]
    fn absence_goes_on_once_and_its_end_too() {
        let mut bench = bench();
        bench.pass(0, volts(10.0), 1.0);
        assert_eq!(bench.pass(1, Sample::none(NoData::Timeout), 1.0), [0, 1]);
        assert_eq!(bench.pass(2, Sample::none(NoData::Timeout), 1.0), [1]);
        assert_eq!(bench.pass(3, volts(10.0), 1.0), [0, 1]);
    }

    #[test]
    fn a_quiet_point_still_shows_that_it_lives() {
        let mut bench = bench();
        bench.pass(0, volts(10.0), 1.0);
        let later = i64::try_from(limits::DEADBAND_SILENCE_MAX.as_millis()).unwrap();
        assert_eq!(bench.pass(later - 1, volts(10.0), 1.0), [1]);
        assert_eq!(bench.pass(later, volts(10.0), 1.0), [0, 1]);
    }
}
