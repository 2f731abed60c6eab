//! What the host holds of one rule while it runs: the mirror of what is kept, what the call under way
//! has staged over it, and how much of everything it may still have.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::log::Lines;
use super::wit::{Level, Param, Reading, Value};
use super::{DECLARED, Failure, Limits, Settings};
use crate::limits;
use crate::state::{Change, Declared, Kept};

/// What the calls of a rule reach; it lives in the rule's store and outlives it.
pub(super) struct Guest {
    name: Arc<str>,
    params: Vec<(String, Param)>,
    pub limits: Limits,
    pub kept: Kept,
    /// Bytes of the kept keys and values.
    kept_bytes: usize,
    /// Places of the outputs, kept and staged.
    outputs: HashMap<Declared, u32>,
    staged: Staged,
    /// Input series that were told of.
    pub series: u32,
    pub memory: Memory,
    lines: Lines,
    call: Call,
}

/// What a call may do, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// `open`, `migrate`, `series-added`: prepares, emits nothing.
    Prepare,
    /// `process`, `on-timer`: may emit.
    Work,
}

/// The call under way.
struct Call {
    purpose: Purpose,
    /// Readings (or timers) it was given.
    inputs: usize,
    /// When its thread will have computed for too long.
    deadline: Duration,
}

#[derive(Default)]
struct Staged {
    state: BTreeMap<Arc<str>, Option<Arc<[u8]>>>,
    timers: BTreeMap<Arc<str>, Option<i64>>,
    declared: Vec<Declared>,
    output: Output,
    /// State bytes, keys and timers as they would be with what is staged.
    bytes: usize,
    keys: usize,
    timers_set: usize,
}

/// What a successful call did.
pub(super) struct Done {
    pub emitted: Vec<Reading>,
    pub change: Change,
    pub log: Vec<(Level, String)>,
}

/// A refusal of the host that ends the call.
pub(super) type Stop = Result<(), Failure>;

impl Guest {
    pub fn new(settings: &Settings, kept: Kept) -> Self {
        let kept_bytes = kept.state.iter().map(|(key, value)| key.len() + value.len()).sum();
        let outputs = (0..).zip(&kept.declared).map(|(n, known)| (known.clone(), n)).collect();
        Self {
            outputs,
            name: Arc::clone(&settings.name),
            params: settings.params.clone(),
            limits: settings.limits,
            kept,
            kept_bytes,
            staged: Staged::default(),
            series: 0,
            memory: Memory::new(settings.limits.memory_bytes),
            lines: Lines::new(settings.limits.log_minute),
            call: Call { purpose: Purpose::Prepare, inputs: 0, deadline: Duration::ZERO },
        }
    }

    /// Begins a call; whatever the last one left staged is gone. `now` is the readings' clock.
    pub fn begin(&mut self, purpose: Purpose, inputs: usize, now: Option<i64>) {
        for output in self.staged.declared.drain(..) {
            self.outputs.remove(&output);
        }
        self.staged = Staged {
            bytes: self.kept_bytes,
            keys: self.kept.state.len(),
            timers_set: self.kept.timers.len(),
            ..Staged::default()
        };
        self.lines.begin(now);
        self.call = Call { purpose, inputs, deadline: Duration::ZERO };
        self.call.deadline = computed().saturating_add(self.time().0);
    }

    /// Begins another call over what the last one left staged.
    pub fn go_on(&mut self, inputs: usize) {
        self.call.inputs = inputs;
        self.call.deadline = computed().saturating_add(self.time().0);
    }

    /// Whether the thread has computed for longer than the call may.
    pub fn overdue(&self) -> bool {
        computed() > self.call.deadline
    }

    /// How long the call under way may compute, and for how many readings.
    pub fn time(&self) -> (Duration, usize) {
        let Call { purpose, inputs, .. } = self.call;
        let time = self.limits.time(inputs);
        let time = match purpose {
            Purpose::Work => time,
            Purpose::Prepare => {
                let longer = time.saturating_mul(limits::RULE_PREPARE_DEADLINES);
                longer.min(limits::RULE_DEADLINE_CALL_MAX).max(time)
            }
        };
        (time, inputs)
    }

    /// Makes what is staged part of the mirror.
    pub fn commit(&mut self) -> Done {
        let staged = std::mem::take(&mut self.staged);
        let mut change = Change { rule: Arc::clone(&self.name), ..Change::default() };
        for (key, value) in staged.state {
            match &value {
                Some(bytes) => self.kept.state.insert(Arc::clone(&key), Arc::clone(bytes)),
                None => self.kept.state.remove(&key),
            };
            change.state.push((key, value));
        }
        self.kept_bytes = staged.bytes;
        for (name, at) in staged.timers {
            match at {
                Some(at) => self.kept.timers.insert(Arc::clone(&name), at),
                None => self.kept.timers.remove(&name),
            };
            change.timers.push((name, at));
        }
        self.kept.declared.extend(staged.declared.iter().cloned());
        change.declared = staged.declared;
        Done { emitted: staged.output.readings, change, log: self.lines.take() }
    }

    /// The last line of the call under way, for the words about its failure.
    pub fn last_words(&self) -> Option<&str> {
        self.lines.last()
    }

    pub fn param(&self, name: &str) -> Option<&Param> {
        #[cfg(test)]
        assert!(name != "the host shall panic!", "as a test wants");
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub fn write(&mut self, level: Level, message: &str) {
        self.lines.write(level, message);
    }
}

/// State and timers.
impl Guest {
    pub fn value(&self, key: &str) -> Option<&Arc<[u8]>> {
        match self.staged.state.get(key) {
            Some(staged) => staged.as_ref(),
            None => self.kept.state.get(key),
        }
    }

    /// Stages a value; `None` deletes.
    pub fn set_value(&mut self, key: &str, value: Option<&[u8]>) -> Stop {
        if key.len() > limits::RULE_KEY_BYTES_MAX {
            let (n, max) = (key.len(), limits::RULE_KEY_BYTES_MAX);
            return stop("state.key", format!("a key of {n} bytes; {max} are the most"));
        }
        if let Some(value) = value
            && value.len() > limits::RULE_VALUE_BYTES_MAX
        {
            let (n, max) = (value.len(), limits::RULE_VALUE_BYTES_MAX);
            return stop("state.value", format!("a value of {n} bytes; {max} are the most"));
        }
        let before = self.value(key).map(|value| key.len() + value.len());
        let after = value.map(|value| key.len() + value.len());
        let bytes = self.staged.bytes - before.unwrap_or(0) + after.unwrap_or(0);
        let keys = self.staged.keys - usize::from(before.is_some()) + usize::from(after.is_some());
        let (bytes_max, keys_max) = (self.limits.state_bytes, self.limits.keys);
        if bytes > bytes_max && after > before {
            let max = bytes_max;
            return stop("state.bytes", format!("state of {bytes} bytes; {max} are the most"));
        }
        if keys > keys_max && keys > self.staged.keys {
            return stop("state.keys", format!("more than {keys_max} keys"));
        }
        (self.staged.bytes, self.staged.keys) = (bytes, keys);
        let value = value.map(Arc::from);
        match self.staged.state.get_mut(key) {
            Some(staged) => *staged = value,
            None => drop(self.staged.state.insert(Arc::from(key), value)),
        }
        Ok(())
    }

    /// Entries under `prefix` after `after`, in key order, at most `count`.
    pub fn scan(&self, prefix: &str, after: Option<&str>, count: u32) -> Vec<Entry> {
        let from = match after.filter(|after| *after >= prefix) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let range = (from, Bound::Unbounded);
        let mut kept = self.kept.state.range::<str, _>(range).peekable();
        let mut staged = self.staged.state.range::<str, _>(range).peekable();
        let mut found = Vec::new();
        while found.len() < usize::try_from(count).unwrap_or(usize::MAX) {
            let from_kept = match (kept.peek(), staged.peek()) {
                (None, None) => break,
                (Some((k, _)), Some((s, _))) => k < s,
                (kept, _) => kept.is_some(),
            };
            let (key, value) = if from_kept {
                let Some((key, value)) = kept.next() else { break };
                (key, Some(value))
            } else {
                let Some((key, value)) = staged.next() else { break };
                // What is staged hides what is kept.
                kept.next_if(|(hidden, _)| *hidden == key);
                (key, value.as_ref())
            };
            if !key.starts_with(prefix) {
                break;
            }
            found.extend(value.map(|value| (Arc::clone(key), Arc::clone(value))));
        }
        found
    }

    /// A timer has fired: it is gone, unless the call sets it again.
    pub fn forget_timer(&mut self, name: &str) {
        if self.kept.timers.contains_key(name) {
            self.staged.timers_set -= 1;
        }
        self.staged.timers.insert(Arc::from(name), None);
    }

    /// Stages a timer; `None` cancels.
    pub fn set_timer(&mut self, name: &str, at: Option<i64>) -> Stop {
        if name.len() > limits::RULE_KEY_BYTES_MAX {
            let (n, max) = (name.len(), limits::RULE_KEY_BYTES_MAX);
            return stop("timers.name", format!("a timer's name of {n} bytes; {max} are the most"));
        }
        let known = match self.staged.timers.get(name) {
            Some(staged) => staged.is_some(),
            None => self.kept.timers.contains_key(name),
        };
        let set = self.staged.timers_set - usize::from(known) + usize::from(at.is_some());
        let max = self.limits.timers;
        if set > max && set > self.staged.timers_set {
            return stop("timers.count", format!("more than {max} timers"));
        }
        self.staged.timers_set = set;
        match self.staged.timers.get_mut(name) {
            Some(staged) => *staged = at,
            // Nothing to cancel: nothing to write down either.
            None if at.is_none() && !known => {}
            None => drop(self.staged.timers.insert(Arc::from(name), at)),
        }
        Ok(())
    }
}

/// A key and its value.
pub(super) type Entry = (Arc<str>, Arc<[u8]>);

/// Output.
impl Guest {
    /// Finds or adds an output and returns its id.
    ///
    /// # Errors
    /// When a name is not fit for one or there are too many outputs, for the rule to deal with.
    pub fn declare(&mut self, output: Declared) -> Result<u32, String> {
        let names = [("device", &output.device), ("point", &output.point)];
        for (what, name) in names {
            if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
                let max = limits::NAME_BYTES_MAX;
                return Err(format!("the name of a {what} has 1 to {max} bytes"));
            }
            if name.chars().any(|c| c.is_control() || c == '/') {
                return Err(format!(
                    "the name of a {what} holds no slash and no control character"
                ));
            }
        }
        if output.unit.len() > limits::UNIT_BYTES_MAX {
            return Err(format!("a unit has at most {} bytes", limits::UNIT_BYTES_MAX));
        }
        if let Some(place) = self.outputs.get(&output) {
            return Ok(DECLARED + place);
        }
        match u32::try_from(self.outputs.len()) {
            Ok(place) if self.outputs.len() < limits::RULE_OUTPUTS_MAX => {
                self.outputs.insert(output.clone(), place);
                self.staged.declared.push(output);
                Ok(DECLARED + place)
            }
            _ => Err(format!("a rule has at most {} outputs", limits::RULE_OUTPUTS_MAX)),
        }
    }

    /// Hands out what is emitted, with room for `count` more readings, to be put back.
    ///
    /// # Errors
    /// When it is not the time to emit, or that many are too many.
    pub fn take_output(&mut self, count: usize) -> Result<Output, Failure> {
        if self.call.purpose == Purpose::Prepare {
            stop("output.early", "a reading outside of process and on-timer".to_owned())?;
        }
        let inputs = self.call.inputs;
        let most = inputs.saturating_mul(self.limits.emitted_input) + limits::RULE_EMITTED_BASE;
        let mut output = std::mem::take(&mut self.staged.output);
        let total = output.readings.len().saturating_add(count);
        if total > most {
            let what = format!("{total} readings out; after {inputs} in {most} are the most");
            stop("output.count", what)?;
        }
        output.readings.reserve(count);
        output.inputs = self.series;
        output.outputs = self.outputs.len();
        output.bytes_max = self.limits.output_bytes;
        Ok(output)
    }

    pub fn put_output(&mut self, output: Output) {
        self.staged.output = output;
    }
}

/// What a call has emitted.
#[derive(Default)]
pub(super) struct Output {
    readings: Vec<Reading>,
    bytes: usize,
    bytes_max: usize,
    /// Series it may name: inputs from 0 on, outputs from [`DECLARED`] on.
    inputs: u32,
    outputs: usize,
}

impl Output {
    /// Takes a reading.
    pub fn emit(&mut self, reading: Reading) -> Stop {
        let id = reading.series;
        let known = match id.checked_sub(DECLARED) {
            Some(place) => usize::try_from(place).is_ok_and(|place| place < self.outputs),
            None => id < self.inputs,
        };
        if !known {
            return stop(
                "output.series",
                format!("a reading of series {id}, which it does not have"),
            );
        }
        if reading.at.unsigned_abs() > limits::RULE_TIME_US_MAX {
            let what = format!("a reading of the time {} us, beyond the year 3000", reading.at);
            return stop("output.time", what);
        }
        if let Value::Text(text) = &reading.value {
            if text.len() > limits::TEXT_BYTES_MAX {
                let (n, max) = (text.len(), limits::TEXT_BYTES_MAX);
                return stop("output.text", format!("a text of {n} bytes; {max} are the most"));
            }
            self.bytes += text.len();
        }
        self.bytes += limits::RULE_READING_BYTES;
        if self.bytes > self.bytes_max {
            let max = self.bytes_max;
            return stop(
                "output.bytes",
                format!("more than {max} bytes of readings for one batch"),
            );
        }
        self.readings.push(reading);
        Ok(())
    }
}

/// Ends the call; `what` completes "the rule wanted".
fn stop(code: &str, what: String) -> Stop {
    Err(Failure { code: code.to_owned(), message: format!("the rule wanted {what}") })
}

/// Time the calling thread has computed. A board that is busy with something else does not make a
/// rule late.
fn computed() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Bounds of what wasmtime allocates for a rule.
pub(super) struct Memory {
    bytes: usize,
    bytes_max: usize,
    elements: usize,
    /// The rule asked for more than it may have.
    pub refused: bool,
}

impl Memory {
    fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max, elements: 0, refused: false }
    }

    /// Begins anew, for a new instance.
    pub fn forget(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    /// Whether so little is left that the instance should be replaced.
    pub fn nearly_full(&self) -> bool {
        self.bytes > self.bytes_max / 4 * 3
    }
}

impl wasmtime::ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_sub(current).saturating_add(desired);
        let granted = bytes <= self.bytes_max;
        if granted {
            self.bytes = bytes;
        }
        self.refused |= !granted;
        Ok(granted)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_sub(current).saturating_add(desired);
        let granted = elements <= limits::RULE_TABLE_ELEMENTS_MAX;
        if granted {
            self.elements = elements;
        }
        self.refused |= !granted;
        Ok(granted)
    }

    fn instances(&self) -> usize {
        limits::RULE_PARTS_MAX
    }

    fn tables(&self) -> usize {
        limits::RULE_PARTS_MAX
    }

    fn memories(&self) -> usize {
        limits::RULE_PARTS_MAX
    }
}
