//! What is kept of the readings of a window, or of a part of one.

use fieldgate_rule::calc::floor;
use fieldgate_rule::prelude::*;

use crate::Figure;

/// Most readings of a window that are kept for percentiles. When there are more, every second one is
/// let go, and from then on only every second, fourth, .. one is kept.
pub const SAMPLES_MAX: usize = 500;

/// Figures of the readings so far.
#[derive(Default)]
pub struct Pane {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    last: Option<(Timestamp, f64)>,
    /// Time of the newest reading, of whatever it shows.
    newest: Option<Timestamp>,
    /// Why there was no value, when there was none.
    none: Option<u8>,
    samples: Vec<f64>,
    /// One in two to this is kept in `samples`.
    thinned: u8,
}

/// As `derive(State)` would write it, field by field; but a sliding window writes 20 of them with each
/// batch, so what nearly every pane has goes in one piece.
impl State for Pane {
    fn save(&self, to: &mut Vec<u8>) {
        let mut head = [0; 58];
        let mut put = |at: usize, bytes: [u8; 8]| head[at..at + 8].copy_from_slice(&bytes);
        put(0, self.count.to_le_bytes());
        put(8, self.sum.to_le_bytes());
        put(16, self.min.to_le_bytes());
        put(24, self.max.to_le_bytes());
        if let (Some((at, number)), Some(newest)) = (self.last, self.newest) {
            put(33, at.0.to_le_bytes());
            put(41, number.to_le_bytes());
            put(50, newest.0.to_le_bytes());
            (head[32], head[49]) = (1, 1);
            to.extend_from_slice(&head);
        } else {
            to.extend_from_slice(&head[..32]);
            self.last.save(to);
            self.newest.save(to);
        }
        self.none.save(to);
        self.samples.save(to);
        self.thinned.save(to);
    }

    fn load(from: &mut &[u8]) -> Option<Self> {
        Some(Self {
            count: State::load(from)?,
            sum: State::load(from)?,
            min: State::load(from)?,
            max: State::load(from)?,
            last: State::load(from)?,
            newest: State::load(from)?,
            none: State::load(from)?,
            samples: State::load(from)?,
            thinned: State::load(from)?,
        })
    }
}

impl Pane {
    /// Takes a reading. Texts and flags are no numbers and count for nothing but the time.
    /// At most `samples` are kept for percentiles.
    pub fn take(&mut self, r: Reading, samples: usize) {
        self.newest = self.newest.max(Some(r.at));
        if let Value::None(why) = r.value {
            self.none = Some(why as u8);
        }
        let Some(number) = r.number() else { return };
        if samples > 0 && self.count.is_multiple_of(1 << self.thinned) {
            self.samples.push(number);
            self.thin(samples);
        }
        (self.min, self.max) = match self.count {
            0 => (number, number),
            _ => (self.min.min(number), self.max.max(number)),
        };
        self.count += 1;
        self.sum += number;
        // Of two readings of one time the one that came later.
        if self.last.is_none_or(|(at, _)| r.at >= at) {
            self.last = Some((r.at, number));
        }
    }

    /// Adds another pane, which lies after this one or is of the same session.
    pub fn add(&mut self, other: &Self) {
        self.newest = self.newest.max(other.newest);
        self.none = other.none.or(self.none);
        // Kept one in so many: the coarser of the two holds for both.
        while self.thinned < other.thinned {
            self.halve();
        }
        let step = 1_usize << (self.thinned - other.thinned);
        self.samples.extend(other.samples.iter().step_by(step));
        self.thin(SAMPLES_MAX);
        if other.count == 0 {
            return;
        }
        (self.min, self.max) = match self.count {
            0 => (other.min, other.max),
            _ => (self.min.min(other.min), self.max.max(other.max)),
        };
        self.count += other.count;
        self.sum += other.sum;
        if self.last.is_none_or(|(at, _)| other.last.is_some_and(|(newer, _)| newer >= at)) {
            self.last = other.last;
        }
    }

    fn thin(&mut self, most: usize) {
        while self.samples.len() > most {
            self.halve();
        }
    }

    fn halve(&mut self) {
        let mut place = 0_usize;
        self.samples.retain(|_| {
            place += 1;
            place % 2 == 1
        });
        self.thinned += 1;
    }

    /// Time of the newest reading.
    pub fn until(&self) -> Timestamp {
        self.newest.unwrap_or_default()
    }

    /// A figure; a reading without value when there were only such, nothing when there was nothing.
    /// Percentiles put the samples into another order.
    pub fn figure(&mut self, figure: Figure) -> Option<Value<'static>> {
        if figure == Figure::Count {
            return self.newest.map(|_| Value::Integer(self.count.cast_signed()));
        }
        if self.count == 0 {
            let why = NoData::ALL.get(usize::from(self.none?))?;
            return Some(Value::None(*why));
        }
        #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
        let count = self.count as f64;
        Some(Value::Number(match figure {
            Figure::Mean => self.sum / count,
            Figure::Min => self.min,
            Figure::Max => self.max,
            Figure::Sum => self.sum,
            Figure::Last => self.last?.1,
            _ => self.percentile(figure.part()?)?,
        }))
    }

    /// The nearest rank: the smallest sample that at least this part of the samples do not exceed.
    fn percentile(&mut self, part: f64) -> Option<f64> {
        let last = self.samples.len().checked_sub(1)?;
        #[expect(clippy::cast_precision_loss, reason = "at most SAMPLES_MAX")]
        let rank = -floor(-(part * self.samples.len() as f64));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to SAMPLES_MAX"
        )]
        let place = (rank as usize).saturating_sub(1).min(last);
        // Found, not sorted: a tenth of the work.
        Some(*self.samples.select_nth_unstable_by(place, f64::total_cmp).1)
    }
}
