//! What a rule can do with a reading: emit it, emit others, ask to be woken, say something.

use alloc::string::String;
use alloc::vec::Vec;

use crate::sys::{self, Level, Outbox, Stream};
use crate::{Error, Quality, Reading, Series, Timestamp, Value};

/// A series that a rule emits; from [`Declare`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output(pub(crate) u32);

impl Output {
    /// The series itself: what is sent there goes on under the name it came with.
    #[must_use]
    pub fn same(series: &Series) -> Self {
        Self(series.id)
    }
}

/// Where outputs are declared.
#[derive(Debug)]
pub struct Declare(pub(crate) ());

impl Declare {
    /// Declares a series of readings. The same names give the same series, also after a restart.
    ///
    /// # Errors
    /// When the host refuses it, which it says in words.
    pub fn data(&mut self, device: &str, point: &str, unit: Option<&str>) -> Result<Output, Error> {
        declare(Stream::Data, device, point, unit)
    }

    /// Declares a series of events: few, and the last to be dropped when room is short.
    ///
    /// # Errors
    /// As [`Declare::data`].
    pub fn event(&mut self, device: &str, point: &str) -> Result<Output, Error> {
        declare(Stream::Event, device, point, None)
    }
}

pub(crate) fn declare(
    to: Stream,
    device: &str,
    point: &str,
    unit: Option<&str>,
) -> Result<Output, Error> {
    let said = sys::declare(to, device, point, unit);
    said.map(Output).map_err(|why| Error::new("output", why))
}

/// When a series wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wake {
    pub(crate) at: Timestamp,
    /// Not before everything older has come.
    pub(crate) settled: bool,
}

/// What came of the readings so far. Everything in it counts once the batch is through.
pub struct Out<O = ()> {
    pub(crate) outbox: Outbox,
    pub(crate) series: Vec<(Series, O)>,
    pub(crate) current: usize,
    /// Asked for since the current series was looked at; `Some(None)` puts it to sleep.
    pub(crate) asked: Option<Option<Wake>>,
    pub(crate) failed: Option<Error>,
}

impl<O> Out<O> {
    pub(crate) fn new() -> Self {
        let (outbox, series) = (Outbox::default(), Vec::new());
        Self { outbox, series, current: 0, asked: None, failed: None }
    }

    /// Emits this reading in its own series.
    pub fn emit(&mut self, r: Reading) {
        self.outbox.push(r);
    }

    /// Emits a value in a declared series, marked [`Quality::DERIVED`].
    pub fn send<'a>(&mut self, to: Output, at: Timestamp, value: impl Into<Value<'a>>) {
        self.send_as(to, at, value, Quality::DERIVED);
    }

    /// Emits a value in a declared series.
    pub fn send_as<'a>(
        &mut self,
        to: Output,
        at: Timestamp,
        value: impl Into<Value<'a>>,
        quality: Quality,
    ) {
        self.outbox.push(Reading { series: to.0, at, quality, value: value.into() });
    }

    /// Asks to be woken at this time: before the first reading of this series that is not older, or
    /// when the watermark passes. A series has one time; this replaces it. A time at or before that
    /// of a wake that is going on means just after it.
    pub fn wake(&mut self, at: Timestamp) {
        self.asked = Some(Some(Wake { at, settled: false }));
    }

    /// Asks to be woken when the watermark passes this time, when no reading older than it can come
    /// but those marked late. Replaces the time asked for before.
    pub fn wake_settled(&mut self, at: Timestamp) {
        self.asked = Some(Some(Wake { at, settled: true }));
    }

    /// Takes back what [`Out::wake`] asked for.
    pub fn sleep(&mut self) {
        self.asked = Some(None);
    }

    /// The series of the reading.
    #[must_use]
    pub fn series(&self) -> &Series {
        &self.series[self.current].0
    }

    /// What [`crate::Rule::outputs`] wrote down about it.
    #[must_use]
    pub fn to(&self) -> &O {
        &self.series[self.current].1
    }

    /// Writes a line to the rule's log. Lines over 20 a minute are counted and not kept.
    pub fn log(&mut self, level: Level, message: &str) {
        sys::log(level, message);
    }

    /// Fails the batch: the host takes everything back and tries the readings one by one. For what
    /// cannot be; a value that is merely wrong is an ordinary reading.
    pub fn fail(&mut self, code: impl Into<String>, message: impl Into<String>) {
        self.failed.get_or_insert_with(|| Error::new(code, message));
    }
}

impl<O> core::fmt::Debug for Out<O> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Out")
    }
}
