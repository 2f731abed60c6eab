//! What the operator decides about one rule: its name, its parameters and its limits.

use std::sync::Arc;
use std::time::Duration;

use super::wit::Param;
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel_call: limits::RULE_FUEL_CALL,
            fuel_reading: limits::RULE_FUEL_READING,
            deadline_call: limits::RULE_DEADLINE_CALL,
            deadline_reading: limits::RULE_DEADLINE_READING,
            memory_bytes: limits::RULE_MEMORY_BYTES,
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
        let memory = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let fuel_reading = operator.fuel.map_or_else(
            || author.fuel.map_or(usual.fuel_reading, |fuel| fuel.min(usual.fuel_reading)),
            |fuel| fuel.min(limits::RULE_FUEL_READING_MAX),
        );
        let deadline_call = operator.deadline.map_or_else(
            || author.deadline.map_or(usual.deadline_call, |time| time.min(usual.deadline_call)),
            |time| time.min(limits::RULE_DEADLINE_CALL_MAX),
        );
        let memory_bytes = operator.memory.map_or_else(
            || author.memory.map_or(usual.memory_bytes, |b| memory(b).min(usual.memory_bytes)),
            |bytes| memory(bytes).min(limits::RULE_MEMORY_BYTES_MAX),
        );
        // A reading that may use more fuel than usual also takes more time than usual.
        let more = u32::try_from(fuel_reading.div_ceil(usual.fuel_reading)).unwrap_or(u32::MAX);
        let deadline_reading = usual.deadline_reading.saturating_mul(more.max(1));
        Self { fuel_reading, deadline_call, deadline_reading, memory_bytes, ..usual }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authors_may_ask_for_less_and_operators_for_more_within_bounds() {
        let asked = |fuel, memory| Asked { fuel, memory, deadline: None };
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
}
