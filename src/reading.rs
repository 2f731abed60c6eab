//! The one thing that flows: a reading, which is a point, a time, and a value or a typed absence.
//! No I/O and no serialisation here; every border (disk, wire, HTTP, WASM) encodes for itself.
//!
//! Readings travel in [`Group`]s that share one instant: one poll, one frame, one message. A
//! channel send for every single reading would cost more than everything else on the way.

mod points;

use std::fmt;
use std::sync::Arc;

use crate::limits;

pub use points::{PointId, PointInfo, Points, TooManyPoints};

/// Milliseconds since 1970-01-01 UTC. Wall time: it may jump, so nothing schedules by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub i64);

/// A number as people write it: `digits / 10^places`, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// All digits as one integer; magnitude below 2^53, so that every decoder can hold it.
    pub digits: i64,
    /// Digits behind the point, 0 to 9.
    pub places: u8,
}

/// What a point showed.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A coil, a contact, a flag.
    Bool(bool),
    /// A number with a known, finite number of decimals.
    Decimal(Decimal),
    /// A number that is no short decimal; never NaN or infinite (those are [`NoData`]).
    Float(f64),
    /// Text of at most [`limits::TEXT_BYTES_MAX`] bytes.
    Text(Arc<str>),
}

/// Why a reading has no value. The discriminants are the wire's quality codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NoData {
    /// The device did not answer in time, or its line is gone.
    Timeout = 32,
    /// The device answered that it will not tell (a Modbus exception, a CoAP error).
    DeviceException = 33,
    /// An answer came but failed its checksum or could not be parsed.
    Malformed = 34,
    /// The answer is well-formed and says the sensor is broken (NaN, an out-of-range mark).
    SensorFault = 35,
    /// The device does not have what the configuration asks for.
    Configuration = 36,
}

/// How far a value can be trusted. The discriminants are the wire's quality codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Quality {
    /// Plain good; nothing is marked on the wire.
    #[default]
    Good = 0,
    /// Probably right (a retained, old state).
    Uncertain = 1,
    /// The device itself calls it bad.
    Bad = 2,
    /// Put in by a person or a rule.
    Substituted = 16,
    /// Cut to its range.
    Clamped = 17,
    /// Taken before the clock was set.
    ClockUnsynced = 18,
}

/// A value with its quality, or the reason for its absence.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The value or the typed absence.
    pub value: Result<Value, NoData>,
    /// Trust in the value; meaningless and [`Quality::Good`] when there is none.
    pub quality: Quality,
}

/// The streams of a gateway; each has its own sequence of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Stream {
    /// Readings.
    #[default]
    Data = 0,
    /// What rules raised.
    Event = 1,
    /// The gateway's own metrics.
    Own = 2,
}

/// Readings that share one instant: one poll, one frame, one message.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Where its batches go.
    pub stream: Stream,
    /// When the device answered, or when the device says it was.
    pub at: UnixMillis,
    /// Which points, in the order of `samples`. Pollers share one list over all their polls, and
    /// the batch encoder recognises the same list by address.
    pub points: Arc<[PointId]>,
    /// One sample a point.
    pub samples: Vec<Sample>,
}

/// One reading, for those who look at readings singly (commands, decoders, tests).
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which point.
    pub point: PointId,
    /// When.
    pub at: UnixMillis,
    /// What.
    pub sample: Sample,
}

impl Decimal {
    /// Magnitudes from here on are not exact in every decoder (IEEE 754 binary64).
    pub const DIGITS_LIMIT: i64 = 1 << 53;
    /// Most decimals the wire can carry.
    pub const PLACES_MAX: u8 = 9;

    /// Returns the number as binary64, correctly rounded.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "digits stay below 2^53")]
    pub fn to_f64(self) -> f64 {
        self.digits as f64 / POWERS[usize::from(self.places.min(Self::PLACES_MAX))]
    }

    /// Returns the same number with `places` decimals, or `None` when that does not fit.
    #[must_use]
    pub fn with_places(self, places: u8) -> Option<i64> {
        let up = places.checked_sub(self.places)?;
        let digits = self.digits.checked_mul(10_i64.checked_pow(up.into())?)?;
        (digits.unsigned_abs() < Self::DIGITS_LIMIT.unsigned_abs()).then_some(digits)
    }
}

/// 10^0 to 10^9, all exact in binary64.
const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

impl Value {
    /// Takes a binary64 number: as a decimal when one of up to 9 places names exactly this number,
    /// else as it is.
    ///
    /// # Errors
    /// NaN and infinities are how devices say that a sensor is broken.
    pub fn from_f64(number: f64) -> Result<Self, NoData> {
        Self::shortest(number, |n| n == number).ok_or(NoData::SensorFault)
    }

    /// Takes a binary32 number: as the shortest decimal that names the same binary32, which is
    /// what the device would print (21.1, not 21.100000381469727).
    ///
    /// # Errors
    /// NaN and infinities are how devices say that a sensor is broken.
    pub fn from_f32(number: f32) -> Result<Self, NoData> {
        #[expect(clippy::cast_possible_truncation, reason = "the comparison is in binary32")]
        Self::shortest(f64::from(number), |n| n as f32 == number).ok_or(NoData::SensorFault)
    }

    /// Takes a number rounded to `places` decimals, as the point's `decimals` asks.
    ///
    /// # Errors
    /// NaN and infinities are how devices say that a sensor is broken.
    pub fn rounded(number: f64, places: u8) -> Result<Self, NoData> {
        if !number.is_finite() {
            return Err(NoData::SensorFault);
        }
        let places = places.min(Decimal::PLACES_MAX);
        let scaled = (number * POWERS[usize::from(places)]).round();
        Ok(match exact_i64(scaled) {
            Some(digits) => Self::Decimal(Decimal { digits, places }),
            None => Self::Float(number),
        })
    }

    /// Takes an integer.
    #[must_use]
    pub fn from_i64(number: i64) -> Self {
        if number.abs_diff(0) < Decimal::DIGITS_LIMIT.unsigned_abs() {
            Self::Decimal(Decimal { digits: number, places: 0 })
        } else {
            #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 the wire rounds")]
            Self::Float(number as f64)
        }
    }

    /// Takes text, cut at a character border to [`limits::TEXT_BYTES_MAX`].
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self::Text(text[..text.floor_char_boundary(limits::TEXT_BYTES_MAX)].into())
    }

    fn shortest(number: f64, same: impl Fn(f64) -> bool) -> Option<Self> {
        if !number.is_finite() {
            return None;
        }
        for places in 0..=Decimal::PLACES_MAX {
            let Some(digits) = exact_i64((number * POWERS[usize::from(places)]).round()) else {
                break;
            };
            let decimal = Decimal { digits, places };
            if same(decimal.to_f64()) {
                return Some(Self::Decimal(decimal));
            }
        }
        Some(Self::Float(number))
    }
}

/// Returns a whole number of magnitude below 2^53 as an integer.
fn exact_i64(whole: f64) -> Option<i64> {
    #[expect(clippy::cast_precision_loss, reason = "2^53 is exact")]
    let limit = Decimal::DIGITS_LIMIT as f64;
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    (whole.abs() < limit).then_some(whole as i64)
}

impl Sample {
    /// A plain good value.
    #[must_use]
    pub fn good(value: Value) -> Self {
        Self { value: Ok(value), quality: Quality::Good }
    }

    /// No value, and why.
    #[must_use]
    pub fn none(why: NoData) -> Self {
        Self { value: Err(why), quality: Quality::Good }
    }

    /// Returns the wire's quality code: 0 for plain good.
    #[must_use]
    pub fn mark(&self) -> u8 {
        match &self.value {
            Ok(_) => self.quality as u8,
            Err(why) => *why as u8,
        }
    }
}

impl NoData {
    /// Returns the reason that a wire quality code stands for; codes that a later version may add
    /// from 32 on also mean that there is no value.
    #[must_use]
    pub fn of_mark(q: u8) -> Option<Self> {
        Some(match q {
            0..=31 => return None,
            33 => Self::DeviceException,
            34 => Self::Malformed,
            35 => Self::SensorFault,
            36 => Self::Configuration,
            _ => Self::Timeout,
        })
    }
}

impl Quality {
    /// Returns the quality that a wire code stands for; `None` for codes of later versions.
    #[must_use]
    pub fn of_mark(q: u8) -> Option<Self> {
        [Self::Good, Self::Uncertain, Self::Bad, Self::Substituted, Self::Clamped]
            .into_iter()
            .chain([Self::ClockUnsynced])
            .find(|quality| *quality as u8 == q)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = usize::from(self.places.min(Self::PLACES_MAX));
        let unit = 10_u64.pow(u32::from(self.places.min(Self::PLACES_MAX)));
        let (whole, rest) = (self.digits.unsigned_abs() / unit, self.digits.unsigned_abs() % unit);
        let sign = if self.digits < 0 { "-" } else { "" };
        if places == 0 {
            write!(f, "{sign}{whole}")
        } else {
            write!(f, "{sign}{whole}.{rest:0places$}")
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Decimal(decimal) => write!(f, "{decimal}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Why there is no value, in words for people.
impl fmt::Display for NoData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no answer",
            Self::DeviceException => "the device refused",
            Self::Malformed => "the answer could not be read",
            Self::SensorFault => "the device reports a broken sensor",
            Self::Configuration => "the device does not have this",
        })
    }
}

impl From<Result<Value, NoData>> for Sample {
    fn from(value: Result<Value, NoData>) -> Self {
        Self { value, quality: Quality::Good }
    }
}

impl Stream {
    /// All streams, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Data, Self::Event, Self::Own];

    /// Returns the name used in topics, batches and keys.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Event => "event",
            Self::Own => "self",
        }
    }

    /// Returns the stream of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.name() == name)
    }
}

impl Group {
    /// Looks at the readings one by one.
    pub fn readings(&self) -> impl Iterator<Item = Reading> + '_ {
        self.points.iter().zip(&self.samples).map(|(point, sample)| Reading {
            point: *point,
            at: self.at,
            sample: sample.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(digits: i64, places: u8) -> Value {
        Value::Decimal(Decimal { digits, places })
    }

    #[test]
    fn binary32_becomes_the_decimal_the_device_would_print() {
        assert_eq!(Value::from_f32(21.1).unwrap(), decimal(211, 1));
        assert_eq!(Value::from_f32(-0.05).unwrap(), decimal(-5, 2));
        assert_eq!(Value::from_f32(230.0).unwrap(), decimal(230, 0));
    }

    #[test]
    fn binary64_becomes_a_decimal_only_when_nothing_is_lost() {
        assert_eq!(Value::from_f64(48.137_154).unwrap(), decimal(48_137_154, 6));
        let third = 1.0 / 3.0;
        assert_eq!(Value::from_f64(third).unwrap(), Value::Float(third));
        assert_eq!(Value::from_f64(1e300).unwrap(), Value::Float(1e300));
    }

    #[test]
    fn not_a_number_is_a_sensor_fault() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Value::from_f64(number), Err(NoData::SensorFault));
            assert_eq!(Value::rounded(number, 2), Err(NoData::SensorFault));
        }
    }

    #[test]
    fn places_are_added_only_while_every_decoder_can_hold_the_digits() {
        let d = Decimal { digits: 215, places: 1 };
        assert_eq!(d.with_places(3), Some(21_500));
        assert_eq!(d.with_places(0), None);
        assert_eq!(Decimal { digits: 1 << 50, places: 0 }.with_places(9), None);
    }

    #[test]
    fn a_decimal_is_shown_with_all_its_places() {
        for (digits, places, text) in
            [(2304, 1, "230.4"), (-5, 2, "-0.05"), (0, 3, "0.000"), (7, 0, "7")]
        {
            assert_eq!(Decimal { digits, places }.to_string(), text);
        }
    }

    #[test]
    fn text_is_cut_between_characters() {
        let long = "ä".repeat(limits::TEXT_BYTES_MAX);
        let Value::Text(text) = Value::from_text(&long) else { panic!("not text") };
        assert_eq!(text.len(), limits::TEXT_BYTES_MAX / 2 * 2);
    }
}
