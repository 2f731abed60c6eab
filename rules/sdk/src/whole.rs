//! The raw call, for rules that look at several series at once.

use alloc::string::String;
use alloc::vec::Vec;

use crate::guest::Guest;
use crate::out::{Output, declare};
use crate::sys::{self, Level, Outbox, Stream};
use crate::{Error, Param, Params, Quality, Reading, Series, Timestamp, Value};

/// What is known besides the readings of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The same number on a retry.
    pub batch: u64,
    /// The only clock there is; recorded, so that a replay sees the same.
    pub now: Timestamp,
    /// Readings older than this may still come, marked late.
    pub watermark: Timestamp,
    /// Whether the gateway's clock is set.
    pub clock_synced: bool,
    /// The first call of this instance.
    pub fresh: bool,
}

/// A timer that the watermark has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// As it was set.
    pub name: String,
    /// As it was set.
    pub at: Timestamp,
}

/// A rule over all its series at once. `#[rule(whole_batch)]` before the `impl` block exports it.
///
/// Two things are the author's here that a [`crate::Rule`] has for nothing: state goes through
/// [`Host`], and output must not hang on where batches begin and end.
pub trait BatchRule: Params {
    /// Version of the state it writes.
    const STATE_VERSION: u32 = 1;

    /// Is told of its series, first and later ones; declares outputs.
    ///
    /// # Errors
    /// When it cannot run like this; the sentence is shown to the operator.
    fn series(&mut self, series: &[Series], host: &mut Host) -> Result<(), Error>;

    /// Takes a batch, in the order of arrival.
    ///
    /// # Errors
    /// For what cannot be; the host takes everything back.
    fn process(
        &mut self,
        context: &Context,
        batch: &[Reading<'_>],
        host: &mut Host,
    ) -> Result<(), Error>;

    /// Timers went off.
    ///
    /// # Errors
    /// As [`BatchRule::process`].
    fn on_timer(
        &mut self,
        context: &Context,
        fired: &[Fired],
        host: &mut Host,
    ) -> Result<(), Error> {
        let _ = (context, fired, host);
        Ok(())
    }

    /// Rewrites state of an earlier version.
    ///
    /// # Errors
    /// When it cannot.
    fn migrate(&mut self, from: u32, host: &mut Host) -> Result<(), Error> {
        let _ = (from, host);
        Err(Error::new("state.version", "the state is of a version it cannot read"))
    }
}

/// Everything that a rule may ask of its host.
#[derive(Debug, Default)]
pub struct Host {
    outbox: Outbox,
}

impl Host {
    /// Declares a series of readings or events. The same names give the same series.
    ///
    /// # Errors
    /// When the host refuses it, which it says in words.
    pub fn declare(
        &mut self,
        to: Stream,
        device: &str,
        point: &str,
        unit: Option<&str>,
    ) -> Result<Output, Error> {
        declare(to, device, point, unit)
    }

    /// Emits this reading in its own series.
    pub fn emit(&mut self, r: Reading<'_>) {
        self.outbox.push(r);
    }

    /// Emits a value in a declared series, marked [`Quality::DERIVED`].
    pub fn send<'a>(&mut self, to: Output, at: Timestamp, value: impl Into<Value<'a>>) {
        let (quality, value) = (Quality::DERIVED, value.into());
        self.outbox.push(Reading { series: to.0, at, quality, value });
    }

    /// The value kept under this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        sys::state_get(key)
    }

    /// Keeps a value: 64 KiB at most, under a key of 256 bytes at most.
    pub fn set(&mut self, key: &str, value: &[u8]) {
        sys::state_set(key, value);
    }

    /// Forgets a key.
    pub fn delete(&mut self, key: &str) {
        sys::state_delete(key);
    }

    /// Keys that begin with `prefix`, in order, after `after`, at most `limit`, with their values.
    #[must_use]
    pub fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Vec<(String, Vec<u8>)> {
        sys::state_scan(prefix, after, limit)
    }

    /// Sets a timer by name on the readings' time; setting one again moves it.
    pub fn timer(&mut self, name: &str, at: Timestamp) {
        sys::timer_set(name, at);
    }

    /// Takes a timer back.
    pub fn cancel(&mut self, name: &str) {
        sys::timer_cancel(name);
    }

    /// Writes a line to the rule's log.
    pub fn log(&mut self, level: Level, message: &str) {
        sys::log(level, message);
    }
}

/// A [`BatchRule`] as the host calls it.
pub struct Whole<R: BatchRule> {
    rule: R,
    host: Host,
}

impl<R: BatchRule> Whole<R> {
    fn done(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Ok(()) => self.host.outbox.flush(),
            Err(_) => self.host.outbox.clear(),
        }
        result
    }
}

impl<R: BatchRule> Guest for Whole<R> {
    const STATE_VERSION: u32 = R::STATE_VERSION;

    fn open(
        series: Vec<Series>,
        get: &mut dyn FnMut(&str) -> Option<Param>,
    ) -> Result<Self, Error> {
        let (mut rule, mut host) = (R::read(get)?, Host::default());
        rule.series(&series, &mut host)?;
        Ok(Self { rule, host })
    }

    fn migrate(&mut self, from: u32) -> Result<(), Error> {
        self.rule.migrate(from, &mut self.host)
    }

    fn series_added(&mut self, series: Vec<Series>) -> Result<(), Error> {
        self.rule.series(&series, &mut self.host)
    }

    fn process(&mut self, context: &Context, batch: &[Reading<'_>]) -> Result<(), Error> {
        let result = self.rule.process(context, batch, &mut self.host);
        self.done(result)
    }

    fn on_timer(&mut self, context: &Context, fired: &[Fired]) -> Result<(), Error> {
        let result = self.rule.on_timer(context, fired, &mut self.host);
        self.done(result)
    }
}
