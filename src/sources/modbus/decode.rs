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
        let all = words
            .iter()
            .flat_map(|word| if self.swap_bytes { word.to_le_bytes() } else { word.to_be_bytes() });
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn point(form: Form) -> Point {
        Point {
            name: "p".into(),
            table: Table::Holding,
            address: 0,
            form,
            order: WordOrder::Abcd,
            scale: 1.0,
            offset: 0.0,
            decimals: None,
            unit: "".into(),
            every: Duration::from_secs(1),
        }
    }

    fn read(point: &Point, words: &[u16]) -> Result<Value, NoData> {
        Decoder::of(point).words(words).value
    }

    fn exact(digits: i64, places: u8) -> Result<Value, NoData> {
        Ok(Value::Decimal(Decimal { digits, places }))
    }

    /// Lays out big-endian bytes as a device with this order does.
    fn laid_out(bytes: &[u8], order: WordOrder) -> Vec<u16> {
        let mut words: Vec<u16> =
            bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        if matches!(order, WordOrder::Cdab | WordOrder::Dcba) {
            words.reverse();
        }
        if matches!(order, WordOrder::Badc | WordOrder::Dcba) {
            words.iter_mut().for_each(|word| *word = word.swap_bytes());
        }
        words
    }

    const ORDERS: [WordOrder; 4] =
        [WordOrder::Abcd, WordOrder::Cdab, WordOrder::Badc, WordOrder::Dcba];

    #[test]
    fn the_four_orders_read_as_their_names_say() {
        let table = [
            (WordOrder::Abcd, [0x0A0B, 0x0C0D]),
            (WordOrder::Cdab, [0x0C0D, 0x0A0B]),
            (WordOrder::Badc, [0x0B0A, 0x0D0C]),
            (WordOrder::Dcba, [0x0D0C, 0x0B0A]),
        ];
        for (order, words) in table {
            let read = read(&Point { order, ..point(Form::U32) }, &words);
            assert_eq!(read, exact(0x0A0B_0C0D, 0), "{order:?}");
        }
        let swapped = Point { order: WordOrder::Badc, ..point(Form::I16) };
        assert_eq!(read(&swapped, &[0xFEFF]), exact(-2, 0));
    }

    #[test]
    fn decimal_scales_stay_exact() {
        type Row<'a> = (Form, f64, f64, Option<u8>, &'a [u16], (i64, u8));
        let table: [Row; 10] = [
            (Form::U16, 0.1, 0.0, None, &[2317], (2317, 1)),
            (Form::I16, 0.01, 0.0, None, &[0xFFFF], (-1, 2)),
            (Form::U16, 10.0, 0.0, None, &[7], (70, 0)),
            (Form::U16, 0.5, 0.0, None, &[3], (15, 1)),
            (Form::U16, 0.1, -40.0, None, &[655], (255, 1)),
            (Form::I32, 0.001, 0.0, Some(1), &[0, 1250], (13, 1)),
            (Form::I32, 0.001, 0.0, Some(1), &[0xFFFF, 0xFB1E], (-13, 1)),
            (Form::U16, 1.0, 0.0, Some(2), &[5], (500, 2)),
            (Form::U64, 0.001, 0.0, None, &[0, 1, 0, 1], (4_294_967_297, 3)),
            (Form::U16, 1.0 / 3.0, 0.0, Some(2), &[100], (3333, 2)),
        ];
        for (form, scale, offset, decimals, words, (digits, places)) in table {
            let point = Point { scale, offset, decimals, ..point(form) };
            assert_eq!(read(&point, words), exact(digits, places), "{point:?} {words:?}");
        }
    }

    #[test]
    fn floats_are_what_the_device_would_print() {
        let words = |number: f32| laid_out(&number.to_be_bytes(), WordOrder::Abcd);
        assert_eq!(read(&point(Form::F32), &words(21.1)), exact(211, 1));
        let rounded = Point { decimals: Some(2), ..point(Form::F32) };
        assert_eq!(read(&rounded, &words(2.71459)), exact(271, 2));
        let scaled = Point { scale: 10.0, ..point(Form::F32) };
        assert_eq!(read(&scaled, &words(21.1)), exact(211, 0));
        assert_eq!(read(&point(Form::F32), &words(f32::NAN)), Err(NoData::SensorFault));
        assert_eq!(read(&point(Form::F32), &words(f32::INFINITY)), Err(NoData::SensorFault));
        let double = laid_out(&48.137_154_f64.to_be_bytes(), WordOrder::Abcd);
        assert_eq!(read(&point(Form::F64), &double), exact(48_137_154, 6));
    }

    #[test]
    fn numbers_beyond_the_wire_become_floats_not_other_numbers() {
        let most = read(&point(Form::U64), &[0xFFFF; 4]);
        assert_eq!(most, Ok(Value::Float(18_446_744_073_709_551_615.0)));
        assert_eq!(read(&point(Form::I64), &[0xFFFF; 4]), exact(-1, 0));
        let large = Point { decimals: Some(9), ..point(Form::U64) };
        assert_eq!(read(&large, &[0, 1, 0, 0]), Ok(Value::Float(4_294_967_296.0)));
    }

    #[test]
    fn a_nibble_above_nine_is_no_decimal_digit() {
        assert_eq!(read(&point(Form::Bcd16), &[0x1234]), exact(1234, 0));
        assert_eq!(read(&point(Form::Bcd32), &[0x1234, 0x5678]), exact(12_345_678, 0));
        let scaled = Point { scale: 0.01, ..point(Form::Bcd16) };
        assert_eq!(read(&scaled, &[0x1234]), exact(1234, 2));
        assert_eq!(read(&point(Form::Bcd16), &[0x12A4]), Err(NoData::Malformed));
        assert_eq!(read(&point(Form::Bcd32), &[0xF234, 0x5678]), Err(NoData::Malformed));
    }

    #[test]
    fn text_ends_at_the_first_nul_and_may_have_its_bytes_swapped() {
        let text = |point: &Point, words: &[u16]| match read(point, words) {
            Ok(Value::Text(text)) => text.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text(&point(Form::Text(5)), &[0x4142, 0x4344, 0x4546]), "ABCDE");
        assert_eq!(text(&point(Form::Text(6)), &[0x4142, 0x4300, 0x4546]), "ABC");
        assert_eq!(text(&point(Form::Text(4)), &[0x4120, 0x2020]), "A");
        let swapped = Point { order: WordOrder::Badc, ..point(Form::Text(4)) };
        assert_eq!(text(&swapped, &[0x4241, 0x4443]), "ABCD");
        assert_eq!(text(&point(Form::Text(2)), &[0xB043]), "°C");
    }

    #[test]
    fn bits_count_from_the_lowest() {
        let bits = point(Form::Bits(vec![(0, "a".into()), (15, "b".into())]));
        let bit = |number, word| Decoder::bit(&bits, number).words(&[word]).value;
        assert_eq!(bit(0, 0x0001), Ok(Value::Bool(true)));
        assert_eq!(bit(15, 0x0001), Ok(Value::Bool(false)));
        assert_eq!(bit(15, 0x8000), Ok(Value::Bool(true)));
        assert_eq!(read(&point(Form::Bool), &[0x0100]), Ok(Value::Bool(true)));
    }

    proptest! {
        #[test]
        fn every_order_reads_back_what_was_laid_out(raw: i64, which in 0_usize..4) {
            let order = ORDERS[which];
            let ordered = |form| Point { order, ..point(form) };
            let fits = raw.unsigned_abs() < 1 << 53;
            let i64s = read(&ordered(Form::I64), &laid_out(&raw.to_be_bytes(), order));
            prop_assert_eq!(i64s, if fits { exact(raw, 0) } else { Ok(Value::Float(raw as f64)) });
            let small = raw as i32;
            let i32s = read(&ordered(Form::I32), &laid_out(&small.to_be_bytes(), order));
            prop_assert_eq!(i32s, exact(small.into(), 0));
            let u32s = read(&ordered(Form::U32), &laid_out(&small.to_be_bytes(), order));
            prop_assert_eq!(u32s, exact(i64::from(small as u32), 0));
            let tiny = raw as i16;
            let i16s = read(&ordered(Form::I16), &laid_out(&tiny.to_be_bytes(), order));
            prop_assert_eq!(i16s, exact(tiny.into(), 0));
        }

        #[test]
        fn a_float_reads_back_as_the_same_float(bits: u32, wide: u64, which in 0_usize..4) {
            let order = ORDERS[which];
            let number = f32::from_bits(bits);
            let value = read(
                &Point { order, ..point(Form::F32) },
                &laid_out(&number.to_be_bytes(), order),
            );
            match value {
                Ok(Value::Decimal(decimal)) => prop_assert_eq!(decimal.to_f64() as f32, number),
                Ok(Value::Float(same)) => prop_assert_eq!(same as f32, number),
                other => prop_assert!(!number.is_finite(), "{other:?}"),
            }
            let double = f64::from_bits(wide);
            let value = read(
                &Point { order, ..point(Form::F64) },
                &laid_out(&double.to_be_bytes(), order),
            );
            match value {
                Ok(Value::Decimal(decimal)) => prop_assert_eq!(decimal.to_f64(), double),
                Ok(Value::Float(same)) => prop_assert_eq!(same, double),
                other => prop_assert!(!double.is_finite(), "{other:?}"),
            }
        }
    }
}
