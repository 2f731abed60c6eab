//! The host in memory: one a thread, so tests do not see each other.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;

use super::{Level, Stream};
use crate::{NoData, Quality, Reading, Timestamp, Value};

/// A value that owns its text.
#[derive(Debug, Clone, PartialEq)]
pub enum Owned {
    /// As [`Value::Number`].
    Number(f64),
    /// As [`Value::Integer`].
    Integer(i64),
    /// As [`Value::Boolean`].
    Boolean(bool),
    /// As [`Value::Text`].
    Text(String),
    /// As [`Value::None`].
    None(NoData),
}

impl Owned {
    /// The value, borrowed.
    #[must_use]
    pub fn borrow(&self) -> Value<'_> {
        match self {
            Self::Number(number) => Value::Number(*number),
            Self::Integer(number) => Value::Integer(*number),
            Self::Boolean(flag) => Value::Boolean(*flag),
            Self::Text(text) => Value::Text(text),
            Self::None(why) => Value::None(*why),
        }
    }
}

impl From<Value<'_>> for Owned {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Number(number) => Self::Number(number),
            Value::Integer(number) => Self::Integer(number),
            Value::Boolean(flag) => Self::Boolean(flag),
            Value::Text(text) => Self::Text(text.to_string()),
            Value::None(why) => Self::None(why),
        }
    }
}

/// An emitted reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// Series: an input's number, or [`DECLARED`] and the place of the output.
    pub series: u32,
    /// Its time.
    pub at: Timestamp,
    /// Its quality.
    pub quality: Quality,
    /// Its value.
    pub value: Owned,
}

/// The first id of a declared output.
pub const DECLARED: u32 = 1 << 31;

/// What a host keeps of a rule, and what the rule did.
#[derive(Debug, Default)]
pub struct Kept {
    /// Keys and values.
    pub state: BTreeMap<String, Vec<u8>>,
    /// Timers by name.
    pub timers: BTreeMap<String, Timestamp>,
    /// Outputs in the order of their declaration.
    pub declared: Vec<(Stream, String, String, Option<String>)>,
    /// What was emitted since this was last taken.
    pub emitted: Vec<Emitted>,
    /// Lines of the log.
    pub log: Vec<(Level, String)>,
    /// Calls that changed state.
    pub writes: u64,
}

std::thread_local! {
    static HOST: RefCell<Kept> = RefCell::default();
}

/// Looks into the host of this thread.
pub fn with<T>(look: impl FnOnce(&mut Kept) -> T) -> T {
    HOST.with(|host| look(&mut host.borrow_mut()))
}

/// Readings on their way to the host.
#[derive(Debug, Default)]
pub struct Outbox(Vec<Emitted>);

impl Outbox {
    /// Adds one.
    pub fn push(&mut self, r: Reading<'_>) {
        let Reading { series, at, quality, value } = r;
        self.0.push(Emitted { series, at, quality, value: value.into() });
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Hands all of them over.
    pub fn flush(&mut self) {
        with(|host| host.emitted.append(&mut self.0));
    }
}

pub fn declare(to: Stream, device: &str, point: &str, unit: Option<&str>) -> Result<u32, String> {
    if device.is_empty() || point.is_empty() {
        return Err("an output without a name".to_string());
    }
    let one = (to, device.to_string(), point.to_string(), unit.map(ToString::to_string));
    with(|host| {
        let place = host.declared.iter().position(|other| *other == one).unwrap_or_else(|| {
            host.declared.push(one);
            host.declared.len() - 1
        });
        u32::try_from(place)
            .map(|place| place + DECLARED)
            .map_err(|_| "too many outputs".to_string())
    })
}

pub fn state_get(key: &str) -> Option<Vec<u8>> {
    with(|host| host.state.get(key).cloned())
}

pub fn state_set(key: &str, value: &[u8]) {
    assert!(key.len() <= 256, "a key of {} bytes: {key}", key.len());
    assert!(value.len() <= 64 << 10, "a value of {} bytes under {key}", value.len());
    with(|host| {
        host.writes += 1;
        host.state.insert(key.to_string(), value.to_vec());
    });
}

pub fn state_delete(key: &str) {
    with(|host| {
        host.writes += 1;
        host.state.remove(key);
    });
}

pub fn state_scan(prefix: &str, after: Option<&str>, limit: u32) -> Vec<(String, Vec<u8>)> {
    with(|host| {
        let inside = host.state.iter().filter(|(key, _)| key.starts_with(prefix));
        let rest = inside.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        rest.take(limit as usize).map(|(key, value)| (key.clone(), value.clone())).collect()
    })
}

pub fn timer_set(name: &str, at: Timestamp) {
    with(|host| host.timers.insert(name.to_string(), at));
}

pub fn timer_cancel(name: &str) {
    with(|host| host.timers.remove(name));
}

pub fn log(level: Level, message: &str) {
    with(|host| host.log.push((level, message.to_string())));
}
