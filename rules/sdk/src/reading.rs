//! Readings as a rule sees them: point, time, quality, value or typed absence.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::{Add, BitOr, Sub};
use core::time::Duration;

/// Microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Rounds down to a multiple of `step` since 1970, which is where windows begin. A step of zero
    /// changes nothing.
    #[must_use]
    pub fn floor(self, step: Duration) -> Self {
        let step = micros(step);
        if step == 0 { self } else { Self(self.0.saturating_sub(self.0.rem_euclid(step))) }
    }
}

/// A duration in microseconds, at most 2^63 - 1.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Time from the earlier to the later; zero when `other` is the later one.
impl Sub for Timestamp {
    type Output = Duration;
    fn sub(self, other: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(other.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

/// What is known against a reading; nothing when it is plain good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Quality(pub u8);

impl Quality {
    /// Nothing against it.
    pub const GOOD: Self = Self(0);
    /// The source has doubts.
    pub const UNCERTAIN: Self = Self(1);
    /// The source says it is wrong.
    pub const BAD: Self = Self(1 << 1);
    /// Older than the watermark when it came.
    pub const LATE: Self = Self(1 << 2);
    /// The gateway's clock was not set when it was taken.
    pub const CLOCK_UNSYNCED: Self = Self(1 << 3);
    /// Computed, not measured.
    pub const DERIVED: Self = Self(1 << 4);
    /// Stands for a reading that was not to be had.
    pub const SUBSTITUTED: Self = Self(1 << 5);

    /// Whether all of `other` is said of it.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Quality {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Why a reading has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NoData {
    /// The device did not answer.
    Timeout = 0,
    /// The device answered that it will not.
    DeviceException = 1,
    /// The answer could not be read.
    Malformed = 2,
    /// The value lies outside of what the point can be.
    OutOfRange = 3,
    /// The device is known to be away.
    Offline = 4,
    /// The point's settings do not fit the device.
    Configuration = 5,
}

impl NoData {
    /// Every reason, in the order of the contract.
    pub const ALL: [Self; 6] = [
        Self::Timeout,
        Self::DeviceException,
        Self::Malformed,
        Self::OutOfRange,
        Self::Offline,
        Self::Configuration,
    ];
}

/// A value or its typed absence; the order is the contract's.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, u8)]
pub enum Value<'a> {
    /// A number; may be NaN or infinite when a device says so.
    Number(f64),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// Text.
    Text(&'a str),
    /// No value.
    None(NoData),
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Boolean(flag)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

/// One reading, as it lies in the host's lists.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Reading<'a> {
    /// Of which series; an index into those the rule was told of.
    pub series: u32,
    /// When it was taken.
    pub at: Timestamp,
    /// What is known against it.
    pub quality: Quality,
    /// What was read.
    pub value: Value<'a>,
}

impl<'a> Reading<'a> {
    /// The value as a number to calculate with: a finite number or an integer whose quality is not
    /// [`Quality::BAD`]. Booleans and texts are no numbers.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        let number = match self.value {
            Value::Number(number) => number,
            #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 the last digits round")]
            Value::Integer(number) => number as f64,
            _ => return None,
        };
        (number.is_finite() && !self.quality.has(Quality::BAD)).then_some(number)
    }

    /// The same reading with another value.
    #[must_use]
    pub fn with(self, value: impl Into<Value<'a>>) -> Self {
        Self { value: value.into(), ..self }
    }
}

/// What is known about a series besides its readings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Series {
    /// Its number, for the life of the instance.
    pub id: u32,
    /// Device name.
    pub device: String,
    /// Point name.
    pub point: String,
    /// UCUM or SenML unit.
    pub unit: Option<String>,
    /// Labels of the site.
    pub labels: Vec<(String, String)>,
}

impl Reading<'_> {
    /// A number that stands for what it shows, value, absence and quality together: readings that
    /// show the same have the same, and others hardly ever (FNV-1a, 64 bits).
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        let mut take = |byte: u8| {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        };
        take(self.quality.0);
        match self.value {
            // One zero and one NaN, whatever bits they come in.
            Value::Number(number) if number.is_nan() => take(1),
            Value::Number(number) => (number + 0.0).to_le_bytes().into_iter().for_each(take),
            Value::Integer(number) => number.to_le_bytes().into_iter().for_each(take),
            Value::Boolean(flag) => take(2 + u8::from(flag)),
            Value::Text(text) => text.bytes().for_each(take),
            Value::None(why) => take(4 + why as u8),
        }
        digest
    }
}
