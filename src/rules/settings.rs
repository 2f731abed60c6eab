//! What the operator decides about one rule: its name, its parameters and its limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;

use super::wit::Param;
use crate::events::rounded;
use crate::limits;

/// A rule as it stands in the configuration, as far as running it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The name of its table, `[rule.NAME]`.
    pub name: Arc<str>,
    /// Parameters by name, checked against the rule's own schema, defaults filled in.
    pub params: Vec<(String, Param)>,
    /// What it may use.
    pub limits: Limits,
}

/// What one rule may use. Everything else of the contract's bounds is the same for all rules and
/// stands in [`crate::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Fuel of a call before its first reading.
    pub fuel_call: u64,
    /// Fuel that each reading of the batch (or each timer) adds.
    pub fuel_reading: u64,
    /// Computing time of a call before its first reading.
    pub deadline_call: Duration,
    /// Computing time that each reading of the batch (or each timer) adds.
    pub deadline_reading: Duration,
    /// Linear memory, bytes, of all memories of the rule together.
    pub memory_bytes: usize,
    /// Readings it may emit for each it was given, besides [`limits::RULE_EMITTED_BASE`].
    pub emitted_input: usize,
    /// Bytes it may emit for one batch.
    pub output_bytes: usize,
    /// Bytes of keys and values that it may keep.
    pub state_bytes: usize,
    /// Keys that it may keep.
    pub keys: usize,
    /// Timers that it may have set.
    pub timers: usize,
    /// Lines a minute that it may write to its log after a burst.
    pub log_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel_call: limits::RULE_FUEL_CALL,
            fuel_reading: limits::RULE_FUEL_READING,
            deadline_call: limits::RULE_DEADLINE_CALL,
            deadline_reading: limits::RULE_DEADLINE_READING,
            memory_bytes: limits::RULE_MEMORY_BYTES,
            emitted_input: limits::RULE_EMITTED_PER_INPUT,
            output_bytes: limits::RULE_EMITTED_BYTES,
            state_bytes: limits::RULE_STATE_BYTES,
            keys: limits::RULE_KEYS,
            timers: limits::RULE_TIMERS,
            log_minute: limits::RULE_LOG_PER_MINUTE,
        }
    }
}

/// Limits somebody asks for; what is left open is as the next in line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Fuel a reading.
    pub fuel: Option<u64>,
    /// Linear memory, bytes.
    pub memory: Option<u64>,
    /// Computing time of a call before its first reading.
    pub deadline: Option<Duration>,
    /// Readings emitted for each one given.
    pub emitted: Option<u64>,
    /// Bytes emitted for one batch.
    pub output: Option<u64>,
    /// Bytes of keys and values that are kept.
    pub state: Option<u64>,
    /// Keys that are kept.
    pub keys: Option<u64>,
    /// Timers.
    pub timers: Option<u64>,
    /// Lines of log a minute.
    pub log: Option<u64>,
}

impl Asked {
    /// Returns the limits that are whole numbers, by their names in a manifest and in `limit`.
    #[must_use]
    pub fn numbers(&self) -> [(&'static str, Option<u64>); 8] {
        [
            ("fuel", self.fuel),
            ("memory", self.memory),
            ("emitted", self.emitted),
            ("output", self.output),
            ("state", self.state),
            ("keys", self.keys),
            ("timers", self.timers),
            ("log", self.log),
        ]
    }
}

impl Limits {
    /// Fuel of a call over so many readings (or timers).
    #[must_use]
    pub fn fuel(&self, inputs: usize) -> u64 {
        let inputs = u64::try_from(inputs).unwrap_or(u64::MAX);
        self.fuel_call.saturating_add(self.fuel_reading.saturating_mul(inputs))
    }

    /// Computing time of a call over so many readings (or timers).
    #[must_use]
    pub fn time(&self, inputs: usize) -> Duration {
        let inputs = u32::try_from(inputs).unwrap_or(u32::MAX);
        self.deadline_call.saturating_add(self.deadline_reading.saturating_mul(inputs))
    }

    /// Settles what holds: the author may ask for less than the defaults, never for more; what the
    /// operator asks for holds, up to what any rule may have.
    #[must_use]
    pub fn settle(author: Asked, operator: Asked) -> Self {
        let usual = Self::default();
        let fuel_reading =
            settled(author.fuel, operator.fuel, usual.fuel_reading, limits::RULE_FUEL_READING_MAX);
        let deadline_call = settled(
            author.deadline,
            operator.deadline,
            usual.deadline_call,
            limits::RULE_DEADLINE_CALL_MAX,
        );
        let count = |of: fn(&Asked) -> Option<u64>, usual: usize, most: usize| {
            let whole = |asked| of(asked).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
            settled(whole(&author), whole(&operator), usual, most)
        };
        let log = |asked: Asked| asked.log.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        // A reading that may use more fuel than usual also takes more time than usual.
        let more = u32::try_from(fuel_reading.div_ceil(usual.fuel_reading)).unwrap_or(u32::MAX);
        let deadline_reading = usual.deadline_reading.saturating_mul(more.max(1));
        Self {
            fuel_call: usual.fuel_call,
            fuel_reading,
            deadline_call,
            deadline_reading,
            memory_bytes: count(|it| it.memory, usual.memory_bytes, limits::RULE_MEMORY_BYTES_MAX),
            emitted_input: count(
                |it| it.emitted,
                usual.emitted_input,
                limits::RULE_EMITTED_PER_INPUT_MAX,
            ),
            output_bytes: count(|it| it.output, usual.output_bytes, limits::RULE_EMITTED_BYTES_MAX),
            state_bytes: count(|it| it.state, usual.state_bytes, limits::RULE_STATE_BYTES_MAX),
            keys: count(|it| it.keys, usual.keys, limits::RULE_KEYS_MAX),
            timers: count(|it| it.timers, usual.timers, limits::RULE_TIMERS_MAX),
            log_minute: settled(
                log(author),
                log(operator),
                usual.log_minute,
                limits::RULE_LOG_PER_MINUTE_MAX,
            ),
        }
    }
}

/// What holds of one limit: the operator's word up to `most`, else the author's up to what is usual.
fn settled<T: Ord + Copy>(author: Option<T>, operator: Option<T>, usual: T, most: T) -> T {
    operator.map_or_else(|| author.map_or(usual, |asked| asked.min(usual)), |word| word.min(most))
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes: usize| ByteSize(bytes as u64);
        write!(
            f,
            "{} fuel a reading, {} of memory, {} a call, {} readings for one, {} of output a batch, \
             {} of state, {} keys, {} timers, {} lines a minute",
            self.fuel_reading,
            size(self.memory_bytes),
            rounded(self.deadline_call),
            self.emitted_input,
            size(self.output_bytes),
            size(self.state_bytes),
            self.keys,
            self.timers,
            self.log_minute,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authors_may_ask_for_less_and_operators_for_more_within_bounds() {
        let asked = |fuel, memory| Asked { fuel, memory, ..Asked::default() };
        let usual = Limits::default();
        assert_eq!(Limits::settle(Asked::default(), Asked::default()), usual);
        let less = Limits::settle(asked(Some(500), Some(1 << 20)), Asked::default());
        assert_eq!((less.fuel_reading, less.memory_bytes), (500, 1 << 20));
        let greedy = Limits::settle(asked(Some(u64::MAX), Some(u64::MAX)), Asked::default());
        assert_eq!(greedy, usual);
        let granted = Limits::settle(asked(Some(500), None), asked(Some(60_000), Some(16 << 20)));
        assert_eq!((granted.fuel_reading, granted.memory_bytes), (60_000, 16 << 20));
        assert_eq!(granted.deadline_reading, 3 * usual.deadline_reading);
        let beyond = Limits::settle(Asked::default(), asked(Some(u64::MAX), Some(u64::MAX)));
        assert_eq!(beyond.fuel_reading, limits::RULE_FUEL_READING_MAX);
        assert_eq!(beyond.memory_bytes, limits::RULE_MEMORY_BYTES_MAX);
    }

    #[test]
    fn every_cap_goes_down_for_authors_and_up_for_operators_as_far_as_any_rule_may() {
        let all = |n| Asked {
            fuel: Some(n),
            memory: Some(n),
            deadline: Some(Duration::from_micros(n)),
            emitted: Some(n),
            output: Some(n),
            state: Some(n),
            keys: Some(n),
            timers: Some(n),
            log: Some(n),
        };
        let caps = |it: Limits| {
            let counts = [it.memory_bytes, it.emitted_input, it.output_bytes, it.state_bytes];
            let more = [it.keys, it.timers, usize::try_from(it.log_minute).unwrap()];
            [counts.as_slice(), more.as_slice()].concat()
        };
        let usual = Limits::default();
        assert_eq!(caps(Limits::settle(all(1), Asked::default())), [1; 7]);
        assert_eq!(Limits::settle(all(u64::MAX), Asked::default()), usual);
        let most = Limits::settle(all(1), all(u64::MAX));
        for (usual, most) in caps(usual).into_iter().zip(caps(most)) {
            assert!(usual < most && most < usual * 100, "{usual} and {most}");
        }
        assert_eq!(caps(Limits::settle(all(u64::MAX), all(1))), [1; 7]);
    }
}
