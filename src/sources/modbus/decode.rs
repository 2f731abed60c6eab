//! Registers to samples. What a point's settings say is worked out once, at construction; a reading
//! then costs an add, a multiply and a compare. Scales and offsets that are decimals (0.1, 25, 0.5)
//! are applied to integers as integers, so that 231.7 V is exactly 231.7.

use super::settings::{Form, Point, Table, WordOrder};
use crate::reading::{Decimal, NoData, Sample, Value};

/// How one sample is made from the registers or bits of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decoder {
    shape: Shape,
    swap_bytes: bool,
    swap_words: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    /// Not zero; a coil; a discrete input.
    Flag,
    /// One bit of a register, 0 the lowest.
    Bit(u8),
    Integer {
        width: u8,
        coding: Coding,
        scaling: Scaling,
    },
    F32(Option<Linear>, Option<u8>),
    F64(Option<Linear>, Option<u8>),
    /// Bytes of text.
    Text(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Coding {
    Unsigned,
    TwosComplement,
    Bcd,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scaling {
    /// `(raw * times + plus) / 10^places`, without floating point.
    Exact { times: i64, plus: i64, places: u8, decimals: Option<u8> },
    /// The scale or the offset is no short decimal.
    Float(Linear, Option<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Linear {
    scale: f64,
    offset: f64,
}

impl Linear {
    fn of(point: &Point) -> Option<Self> {
        let plain = point.scale == 1.0 && point.offset == 0.0;
        (!plain).then_some(Self { scale: point.scale, offset: point.offset })
    }

    fn apply(self, raw: f64) -> f64 {
        raw * self.scale + self.offset
    }
}

impl Decoder {
    /// Works out how `point` is read. A point of named bits has a decoder a bit: see
    /// [`Decoder::bit`].
    pub(super) fn of(point: &Point) -> Self {
        let swap_bytes = matches!(point.order, WordOrder::Badc | WordOrder::Dcba);
        let swap_words = matches!(point.order, WordOrder::Cdab | WordOrder::Dcba);
        let integer = |width, coding| Shape::Integer { width, coding, scaling: scaling(point) };
        let shape = match point.form {
            _ if point.table.is_bits() => Shape::Flag,
            Form::Bool | Form::Bits(_) => Shape::Flag,
            Form::U16 => integer(1, Coding::Unsigned),
            Form::I16 => integer(1, Coding::TwosComplement),
            Form::U32 => integer(2, Coding::Unsigned),
            Form::I32 => integer(2, Coding::TwosComplement),
            Form::U64 => integer(4, Coding::Unsigned),
            Form::I64 => integer(4, Coding::TwosComplement),
            Form::Bcd16 => integer(1, Coding::Bcd),
            Form::Bcd32 => integer(2, Coding::Bcd),
            Form::F32 => Shape::F32(Linear::of(point), point.decimals),
            Form::F64 => Shape::F64(Linear::of(point), point.decimals),
            Form::Text(bytes) => Shape::Text(usize::from(bytes)),
        };
        Self { shape, swap_bytes, swap_words }
    }

    /// Works out how bit `number` of `point`'s register is read.
    pub(super) fn bit(point: &Point, number: u8) -> Self {
        Self { shape: Shape::Bit(number & 15), ..Self::of(point) }
    }

    /// Makes a sample of the registers of this point, which are exactly as many as its form takes.
    pub(super) fn words(&self, words: &[u16]) -> Sample {
        Sample::from(self.value(words))
    }

    /// Makes a sample of a coil or discrete input.
    pub(super) fn coil(&self, set: bool) -> Sample {
        Sample::good(Value::Bool(set))
    }

    fn value(&self, words: &[u16]) -> Result<Value, NoData> {
        match self.shape {
            Shape::Flag => Ok(Value::Bool(self.join(words) != 0)),
            Shape::Bit(number) => Ok(Value::Bool(self.join(words) >> number & 1 == 1)),
            Shape::Integer { width, coding, scaling } => {
                let raw = self.join(words);
                match coding {
                    Coding::Unsigned => unsigned(raw, scaling),
                    Coding::TwosComplement => scaled(sign_extended(raw, width), scaling),
                    Coding::Bcd => {
                        let number = bcd(raw, width).ok_or(NoData::Malformed)?;
                        scaled(number, scaling)
                    }
                }
            }
            Shape::F32(linear, decimals) => {
                #[expect(clippy::cast_possible_truncation, reason = "two registers make 32 bits")]
                let raw = f32::from_bits(self.join(words) as u32);
                match (linear, decimals) {
                    (None, None) => Value::from_f32(raw),
                    (None, Some(places)) => Value::rounded(raw.into(), places),
                    (Some(linear), Some(places)) => {
                        Value::rounded(linear.apply(raw.into()), places)
                    }
                    // The device knows 24 bits of it; more digits would be made up.
                    #[expect(clippy::cast_possible_truncation, reason = "binary32 came in")]
                    (Some(linear), None) => Value::from_f32(linear.apply(raw.into()) as f32),
                }
            }
            Shape::F64(linear, decimals) => {
                let raw = f64::from_bits(self.join(words));
                let number = linear.map_or(raw, |linear| linear.apply(raw));
                match decimals {
                    Some(places) => Value::rounded(number, places),
                    None => Value::from_f64(number),
                }
            }
            Shape::Text(bytes) => Ok(self.text(words, bytes)),
        }
    }

    /// Joins up to four registers into one number, most significant first after reordering.
    fn join(&self, words: &[u16]) -> u64 {
        let whole = |sum: u64, word: &u16| {
            let word = if self.swap_bytes { word.swap_bytes() } else { *word };
            sum << 16 | u64::from(word)
        };
        if self.swap_words {
            words.iter().rev().fold(0, whole)
        } else {
            words.iter().fold(0, whole)
        }
    }

    /// Reads text in register order whatever the word order says (no device reverses the registers
    /// of a name, many swap the bytes within). Ends at the first NUL, drops blanks at the end, and
    /// reads what is not UTF-8 as Latin-1.
    fn text(&self, words: &[u16], bytes: usize) -> Value {
        let all = words.iter().flat_map(|word| {
            if self.swap_bytes { word.to_le_bytes() } else { word.to_be_bytes() }
        });
        let raw: Vec<u8> = all.take(bytes).take_while(|byte| *byte != 0).collect();
        match std::str::from_utf8(&raw) {
            Ok(text) => Value::from_text(text.trim_end()),
            Err(_) => {
                let text: String = raw.iter().map(|byte| char::from(*byte)).collect();
                Value::from_text(text.trim_end())
            }
        }
    }
}

/// Returns the element count and the decoders of a point: one, or one a named bit.
pub(super) fn bit_names(point: &Point) -> &[(u8, std::sync::Arc<str>)] {
    match &point.form {
        Form::Bits(bits) if matches!(point.table, Table::Holding | Table::Input) => bits,
        _ => &[],
    }
}

fn scaling(point: &Point) -> Scaling {
    exact_scaling(point).unwrap_or(Scaling::Float(
        Linear { scale: point.scale, offset: point.offset },
        point.decimals,
    ))
}

/// Writes scale and offset over one power of ten, when both are decimals of at most nine places.
fn exact_scaling(point: &Point) -> Option<Scaling> {
    let scale = decimal(point.scale)?;
    let offset = decimal(point.offset)?;
    let places = scale.places.max(offset.places);
    Some(Scaling::Exact {
        times: scale.with_places(places)?,
        plus: offset.with_places(places)?,
        places,
        decimals: point.decimals,
    })
}

fn decimal(number: f64) -> Option<Decimal> {
    match Value::from_f64(number) {
        Ok(Value::Decimal(decimal)) => Some(decimal),
        _ => None,
    }
}

fn sign_extended(raw: u64, width: u8) -> i64 {
    let unused = 64 - 16 * u32::from(width);
    (raw << unused).cast_signed() >> unused
}

fn unsigned(raw: u64, scaling: Scaling) -> Result<Value, NoData> {
    match i64::try_from(raw) {
        Ok(raw) => scaled(raw, scaling),
        #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 the wire rounds")]
        Err(_) => inexact(raw as f64, scaling),
    }
}

fn scaled(raw: i64, scaling: Scaling) -> Result<Value, NoData> {
    if let Scaling::Exact { times, plus, places, decimals } = scaling {
        let digits = raw.checked_mul(times).and_then(|product| product.checked_add(plus));
        if let Some(exact) = digits.and_then(|digits| keep(digits, places, decimals)) {
            return Ok(Value::Decimal(exact));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 the wire rounds")]
    inexact(raw as f64, scaling)
}

fn inexact(raw: f64, scaling: Scaling) -> Result<Value, NoData> {
    let (number, decimals) = match scaling {
        #[expect(clippy::cast_precision_loss, reason = "decimals below 2^53")]
        Scaling::Exact { times, plus, places, decimals } => {
            ((raw * times as f64 + plus as f64) / 10_f64.powi(places.into()), decimals)
        }
        Scaling::Float(linear, decimals) => (linear.apply(raw), decimals),
    };
    match decimals {
        Some(places) => Value::rounded(number, places),
        None => Value::from_f64(number),
    }
}

/// Returns `digits / 10^places` with as many decimals as asked, half away from zero, or `None` when
/// it does not fit the wire's 2^53.
fn keep(digits: i64, places: u8, decimals: Option<u8>) -> Option<Decimal> {
    let wanted = decimals.unwrap_or(places).min(Decimal::PLACES_MAX);
    let digits = if wanted >= places {
        digits.checked_mul(10_i64.checked_pow((wanted - places).into())?)?
    } else {
        let unit = 10_i64.checked_pow((places - wanted).into())?;
        let half = unit / 2 * digits.signum();
        digits.checked_add(half)? / unit
    };
    (digits.abs() < Decimal::DIGITS_LIMIT).then_some(Decimal { digits, places: wanted })
}

fn bcd(raw: u64, width: u8) -> Option<i64> {
    (0..4 * u32::from(width)).rev().try_fold(0_i64, |sum, digit| {
        let nibble = i64::try_from(raw >> (4 * digit) & 0xF).ok()?;
        (nibble <= 9).then_some(sum * 10 + nibble)
    })
}
