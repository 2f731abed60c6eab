//! Sends figures of windows instead of readings: mean, min, max, sum, count, last, percentiles; of
//! windows side by side, of windows that overlap, or of visits with silence between them.
//!
//! A window is closed when the watermark passes its end, so readings that came out of order are in
//! it. Its figures carry the time of its end. A window in which only readings without value came
//! gives none either, and one in which nothing came gives nothing.
#![no_std]

mod window;

use fieldgate_rule::prelude::*;
use window::{Pane, SAMPLES_MAX};

/// Figures of windows instead of readings.
#[derive(Params)]
pub struct Aggregate {
    /// Length of a window; of a session the longest it may be.
    #[param(default = "10s", min = "100ms", max = "31d")]
    window: Duration,
    /// What is sent of each window.
    #[param(default = ["mean"])]
    emit: Vec<Figure>,
    /// Side by side, overlapping, or as long as readings keep coming.
    #[param(default = "tumbling")]
    kind: Kind,
    /// Sliding windows: time from one window to the next, a whole part of the window.
    every: Option<Duration>,
    /// Sessions: the silence that ends one.
    #[param(default = "30s", min = "100ms")]
    gap: Duration,
    /// What becomes of a reading that comes after its window: left out, or sent on as it is.
    #[param(default = "drop")]
    late: Late,
    /// Readings of a pane that are kept for percentiles.
    #[param(skip)]
    samples: usize,
}

/// How windows lie.
#[derive(Choice, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Side by side.
    Tumbling,
    /// Overlapping.
    Sliding,
    /// Until nothing comes for a while.
    Session,
}

/// What becomes of a late reading.
#[derive(Choice, Clone, Copy)]
pub enum Late {
    /// It is left out.
    Drop,
    /// It is sent on as it is.
    Pass,
}

/// One figure of a window.
#[derive(Choice, Clone, Copy, PartialEq)]
pub enum Figure {
    /// Sum by count.
    Mean,
    /// Smallest.
    Min,
    /// Largest.
    Max,
    /// All added up.
    Sum,
    /// How many numbers there were.
    Count,
    /// The newest.
    Last,
    /// The one that half of them do not exceed.
    P50,
    /// The one that 90 % of them do not exceed.
    P90,
    /// The one that 95 % of them do not exceed.
    P95,
    /// The one that 99 % of them do not exceed.
    P99,
}

impl Figure {
    /// The part of a percentile.
    fn part(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
            _ => None,
        }
    }
}

/// Most panes of a sliding window: all are written with each batch, within the fuel of a reading.
const PANES_MAX: u64 = 20;
/// Most windows of a series that are open at once; more are of readings far ahead of the watermark.
const OPEN_MAX: usize = 256;

/// What is open of one series.
#[derive(State, Default)]
pub struct Open {
    /// Panes by their beginning, in order. A sliding window is several panes, any other is one.
    panes: Vec<(Timestamp, Pane)>,
    /// End of the newest sliding window that was sent.
    done: Option<Timestamp>,
}

impl Open {
    /// Where the pane of this beginning stands, or would stand.
    fn place(&self, begin: Timestamp) -> Result<usize, usize> {
        self.panes.binary_search_by(|(known, _)| known.cmp(&begin))
    }
}

#[rule(state = Open, outputs = Vec<(Figure, Output)>, emits = ["{device}/{point}.{emit}"])]
impl Rule for Aggregate {
    fn prepare(&mut self) -> Result<(), Error> {
        // In microseconds, of which 31 days are fewer than 2^63.
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (window, every) = (us(self.window), us(self.every.unwrap_or(self.window)));
        if self.kind == Kind::Sliding
            && (every == 0 || window % every != 0 || window / every > PANES_MAX)
        {
            return Err(Error::new(
                "params.every",
                format!("window must be 1 to {PANES_MAX} times every, without remainder"),
            ));
        }
        if self.emit.iter().any(|figure| figure.part().is_some()) {
            // The panes of a sliding window share half of what one may keep: they are many to write.
            let panes = if self.kind == Kind::Sliding { 2 * window / every } else { 1 };
            self.samples = SAMPLES_MAX / usize::try_from(panes).unwrap_or(usize::MAX);
        }
        if self.emit.is_empty() {
            return Err(Error::new("params.emit", "emit is empty, so nothing would be sent"));
        }
        Ok(())
    }

    fn outputs(
        &self,
        series: &Series,
        declare: &mut Declare,
    ) -> Result<Vec<(Figure, Output)>, Error> {
        let declared = self.emit.iter().map(|figure| {
            let point = format!("{}.{}", series.point, figure.word());
            let unit = series.unit.as_deref().filter(|_| *figure != Figure::Count);
            Ok((*figure, declare.data(&series.device, &point, unit)?))
        });
        declared.collect()
    }

    fn reading(&self, r: Reading, open: &mut Open, out: &mut Out<Vec<(Figure, Output)>>) {
        if self.kind == Kind::Session {
            self.visit(r, open);
        } else {
            let begin = r.at.floor(self.step());
            let place = match open.place(begin) {
                Ok(place) => place,
                Err(_) if open.panes.len() >= OPEN_MAX => {
                    out.log(Level::Warn, "a reading far ahead of the others is left out");
                    return;
                }
                Err(place) => {
                    open.panes.insert(place, (begin, Pane::default()));
                    place
                }
            };
            open.panes[place].1.take(r, self.samples);
        }
        self.arm(open, out);
    }

    fn late(&self, r: Reading, out: &mut Out<Vec<(Figure, Output)>>) {
        match self.late {
            Late::Pass => out.emit(r),
            Late::Drop => out.log(Level::Info, "a reading came after its window and is left out"),
        }
    }

    fn wake(&self, at: Timestamp, open: &mut Open, out: &mut Out<Vec<(Figure, Output)>>) {
        match self.kind {
            Kind::Tumbling => {
                if let Ok(place) = open.place(at - self.window) {
                    send(&mut open.panes.remove(place).1, at, out);
                }
            }
            Kind::Sliding => {
                let from = at - self.window;
                open.done = Some(at);
                let mut whole = Pane::default();
                let inside = open.panes.iter().filter(|(begin, _)| (from..at).contains(begin));
                inside.for_each(|(_, pane)| whole.add(pane));
                send(&mut whole, at, out);
                open.panes.retain(|(begin, _)| *begin >= from + self.step());
            }
            Kind::Session => {
                if !open.panes.is_empty() {
                    let (_, mut pane) = open.panes.remove(0);
                    let until = pane.until();
                    send(&mut pane, until, out);
                }
            }
        }
        self.arm(open, out);
    }
}

impl Aggregate {
    /// Length of a pane.
    fn step(&self) -> Duration {
        match self.kind {
            Kind::Sliding => self.every.unwrap_or(self.window),
            _ => self.window,
        }
    }

    /// Puts a reading into the session it belongs to, which may join two.
    fn visit(&self, r: Reading, open: &mut Open) {
        let mut pane = Pane::default();
        pane.take(r, self.samples);
        let mut begin = r.at;
        let near = |from: Timestamp, one: &Pane| {
            from <= r.at + self.gap && r.at <= one.until() + self.gap && {
                let (first, last) = (from.min(r.at), one.until().max(r.at));
                last - first < self.window
            }
        };
        // The first always; a second one only when both together are not too long.
        let mut place = 0;
        while place < open.panes.len() {
            let (from, one) = &open.panes[place];
            let length = one.until().max(pane.until()) - (*from).min(begin);
            if near(*from, one) && length < self.window {
                let (from, mut one) = open.panes.remove(place);
                one.add(&pane);
                pane = one;
                begin = begin.min(from);
            } else {
                place += 1;
            }
        }
        let place = open.place(begin).unwrap_or_else(|place| place);
        open.panes.insert(place, (begin, pane));
    }

    /// Asks to be woken when the next window ends.
    fn arm(&self, open: &Open, out: &mut Out<Vec<(Figure, Output)>>) {
        let first = open.panes.first();
        let next = match self.kind {
            Kind::Tumbling => first.map(|(begin, _)| *begin + self.window),
            // The first window that has the oldest pane in it and has not been sent.
            Kind::Sliding => first.map(|(begin, _)| {
                let first = *begin + self.step();
                open.done.map_or(first, |done| first.max(done + self.step()))
            }),
            Kind::Session => first.map(|(_, pane)| pane.until() + self.gap),
        };
        match next {
            Some(at) => out.wake_settled(at),
            None => out.sleep(),
        }
    }
}

fn send(pane: &mut Pane, at: Timestamp, out: &mut Out<Vec<(Figure, Output)>>) {
    for place in 0..out.to().len() {
        let (figure, to) = out.to()[place];
        if let Some(value) = pane.figure(figure) {
            out.send(to, at, value);
        }
    }
}

#[cfg(test)]
mod tests;
