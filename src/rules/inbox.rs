//! What waits for a chain. Bounded by readings; handing over never waits, because whoever hands over
//! is the river itself.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits;
use crate::reading::{PointId, Sample};

/// Readings of one instant on their way into a chain.
#[derive(Debug, Clone)]
pub struct Input {
    /// Microseconds since 1970 UTC, or since boot while the board does not know the time.
    pub at: i64,
    /// Whether it is dated ahead of the gateway's clock, so that it must not move a watermark.
    pub ahead: bool,
    /// Which points.
    pub points: Arc<[PointId]>,
    /// One sample a point.
    pub samples: Vec<Sample>,
    /// Whether they also go on, with this chain.
    pub goes_on: bool,
}

/// Why something was not taken; it is given back.
#[derive(Debug)]
pub enum Refusal {
    /// The chain is behind.
    Full(Input),
    /// The chain has not begun, has ended, or another has taken its place.
    Closed(Input),
}

/// What a chain woke for.
#[derive(Debug)]
pub struct Call {
    /// What waited, at most [`limits::RULE_BATCH_READINGS_MAX`] readings unless one input has more.
    pub inputs: Vec<Input>,
    /// Nothing more will come.
    pub closed: bool,
    /// The chain was behind and is no longer: at most half of the room is taken. Said once.
    pub caught_up: bool,
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Inbox {
    inner: Mutex<Inner>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    inputs: VecDeque<Input>,
    readings: usize,
    closed: bool,
    is_behind: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an input, or gives it back.
    ///
    /// # Errors
    /// When there is no room, or nobody takes anything any more.
    pub fn push(&self, input: Input) -> Result<(), Refusal> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Refusal::Closed(input));
        }
        let readings = inner.readings + input.samples.len();
        if readings > limits::RULE_INBOX_READINGS_MAX && !inner.inputs.is_empty() {
            return Err(Refusal::Full(input));
        }
        inner.readings = readings;
        inner.inputs.push_back(input);
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    /// Notes that it was told that the chain is behind. Not before: what is told of in between would
    /// stand for ever.
    pub fn told_behind(&self) {
        self.lock().is_behind = true;
        self.wake.notify_one();
    }

    /// Waits for inputs, for the end, or for so long.
    pub fn wait(&self, patience: Option<Duration>) -> Call {
        let until = patience.map(|patience| Instant::now() + patience);
        let mut inner = self.lock();
        while inner.inputs.is_empty() && !inner.closed && !inner.is_behind {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match left {
                Some(Duration::ZERO) => break,
                Some(left) => {
                    let waited = self.wake.wait_timeout(inner, left);
                    inner = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => inner = self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner),
            }
        }
        let (mut inputs, mut readings) = (Vec::new(), 0);
        while let Some(input) = inner.inputs.front() {
            readings += input.samples.len();
            if readings > limits::RULE_BATCH_READINGS_MAX && !inputs.is_empty() {
                break;
            }
            let input = inner.inputs.pop_front();
            inner.readings -= input.as_ref().map_or(0, |input| input.samples.len());
            inputs.extend(input);
        }
        let caught_up = inner.is_behind && inner.readings <= limits::RULE_INBOX_READINGS_MAX / 2;
        inner.is_behind &= !caught_up;
        Call { closed: inner.closed && inner.inputs.is_empty(), inputs, caught_up }
    }

    /// Takes nothing more; what waits is still handed out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// As [`Inbox::close`], and gives back what waits.
    pub fn abandon(&self) -> Vec<Input> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.readings = 0;
        let left = inner.inputs.drain(..).collect();
        drop(inner);
        self.wake.notify_one();
        left
    }
}
