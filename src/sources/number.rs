//! Numbers as devices write them in text and JSON, and what a point's settings make of them. Text is
//! read digit by digit: "12.340" stays 12.340 and never passes through a float unless it is no short
//! decimal.

use crate::reading::{Decimal, NoData, Value};

/// `value = raw * scale + offset`, then rounded to `decimals`; compiled once a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    scale: f64,
    offset: f64,
    /// Both as decimals when they are, so that 123 * 0.1 is 12.3.
    exact: Option<(Decimal, Decimal)>,
    decimals: Option<u8>,
}

impl Scaling {
    /// Compiles what a point's settings say.
    #[must_use]
    pub fn new(scale: f64, offset: f64, decimals: Option<u8>) -> Self {
        let exact = match (Value::from_f64(scale), Value::from_f64(offset)) {
            (Ok(Value::Decimal(scale)), Ok(Value::Decimal(offset))) => Some((scale, offset)),
            _ => None,
        };
        Self { scale, offset, exact, decimals: decimals.map(|d| d.min(Decimal::PLACES_MAX)) }
    }

    /// Applies scale, offset and rounding to a raw number.
    ///
    /// # Errors
    /// [`NoData::SensorFault`] when the result is not finite.
    pub fn apply(&self, raw: Value) -> Result<Value, NoData> {
        let float = match raw {
            Value::Decimal(raw) => {
                if let Some(value) = self.exactly(raw) {
                    return Ok(Value::Decimal(value));
                }
                raw.to_f64()
            }
            Value::Float(raw) => raw,
            Value::Bool(_) | Value::Text(_) => return Ok(raw),
        };
        let value = float * self.scale + self.offset;
        match self.decimals {
            Some(places) => Value::rounded(value, places),
            None => Value::from_f64(value),
        }
    }

    /// Computes in integers; `None` when something does not fit.
    fn exactly(&self, raw: Decimal) -> Option<Decimal> {
        let (scale, offset) = self.exact?;
        let mut digits = i128::from(raw.digits) * i128::from(scale.digits);
        let mut places = raw.places + scale.places;
        if offset.digits != 0 {
            let common = places.max(offset.places);
            let moved = i128::from(offset.digits).checked_mul(power(common - offset.places)?)?;
            digits = digits.checked_mul(power(common - places)?)?.checked_add(moved)?;
            places = common;
        }
        let wanted = self.decimals.unwrap_or_else(|| places.min(Decimal::PLACES_MAX));
        if wanted >= places {
            digits = digits.checked_mul(power(wanted - places)?)?;
        } else {
            let unit = power(places - wanted)?;
            if self.decimals.is_none() && digits % unit != 0 {
                return None;
            }
            digits = digits.checked_add(digits.signum() * (unit / 2))? / unit;
        }
        small(digits).map(|digits| Decimal { digits, places: wanted })
    }
}

fn power(exponent: u8) -> Option<i128> {
    10_i128.checked_pow(exponent.into())
}

fn small(digits: i128) -> Option<i64> {
    i64::try_from(digits).ok().filter(|digits| digits.abs() < Decimal::DIGITS_LIMIT)
}

/// Reads `text`, blanks around it and after its sign allowed, as a number.
///
/// # Errors
/// [`NoData::SensorFault`] for the names of what is not a number (`nan`, `inf`, `infinity`, any
/// case, signed or not) and for what overflows binary64; [`NoData::Malformed`] for everything else
/// that is no decimal number.
pub fn number(text: &str) -> Result<Value, NoData> {
    let text = text.trim_matches(blank);
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, text[1..].trim_start_matches(blank)),
        Some(b'+') => (false, text[1..].trim_start_matches(blank)),
        _ => (false, text),
    };
    if ["nan", "inf", "infinity"].iter().any(|name| unsigned.eq_ignore_ascii_case(name)) {
        return Err(NoData::SensorFault);
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(NoData::Malformed);
    }
    if let Some(decimal) = short_decimal(unsigned) {
        let digits = if negative { -decimal.digits } else { decimal.digits };
        return Ok(Value::Decimal(Decimal { digits, ..decimal }));
    }
    // Exponents, more digits than a decimal holds, or no number at all: the standard library knows.
    let number: f64 = unsigned.parse().map_err(|_| NoData::Malformed)?;
    Value::from_f64(if negative { -number } else { number })
}

/// Takes a number of JSON.
///
/// # Errors
/// [`NoData::SensorFault`] for what is beyond binary64.
pub fn json_number(number: &serde_json::Number) -> Result<Value, NoData> {
    match number.as_i64() {
        Some(whole) => Ok(Value::from_i64(whole)),
        None => Value::from_f64(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// Reads digits with at most one point, when they fit.
fn short_decimal(text: &str) -> Option<Decimal> {
    let (mut digits, mut places, mut point, mut any) = (0_i64, 0_u8, false, false);
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => {
                any = true;
                digits = digits.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
                places = places.checked_add(u8::from(point))?;
            }
            b'.' if !point => point = true,
            _ => return None,
        }
    }
    let fits = any && places <= Decimal::PLACES_MAX && digits < Decimal::DIGITS_LIMIT;
    fits.then_some(Decimal { digits, places })
}

/// What stands around a value without belonging to it: blanks, and the NUL bytes that fixed-width
/// fields are filled with.
pub fn blank(c: char) -> bool {
    c.is_whitespace() || c == '\0'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(digits: i64, places: u8) -> Result<Value, NoData> {
        Ok(Value::Decimal(Decimal { digits, places }))
    }

    #[test]
    fn numbers_keep_the_digits_they_are_written_with() {
        let table = [
            ("12.340", decimal(12340, 3)),
            (" +12.5 ", decimal(125, 1)),
            ("-  0.05", decimal(-5, 2)),
            ("-0.00", decimal(0, 2)),
            ("007", decimal(7, 0)),
            (".5", decimal(5, 1)),
            ("5.", decimal(5, 0)),
            ("1.25e2", decimal(125, 0)),
            ("2E-3", decimal(2, 3)),
            ("9007199254740991", decimal(9_007_199_254_740_991, 0)),
            ("0.1234567890123", Ok(Value::Float(0.123_456_789_012_3))),
            ("18446744073709551616", Ok(Value::Float(18_446_744_073_709_551_616.0))),
            ("nan", Err(NoData::SensorFault)),
            ("-INF", Err(NoData::SensorFault)),
            ("Infinity", Err(NoData::SensorFault)),
            ("1e999", Err(NoData::SensorFault)),
            ("", Err(NoData::Malformed)),
            (".", Err(NoData::Malformed)),
            ("-", Err(NoData::Malformed)),
            ("--5", Err(NoData::Malformed)),
            ("1,5", Err(NoData::Malformed)),
            ("1.2.3", Err(NoData::Malformed)),
            ("0x10", Err(NoData::Malformed)),
            ("12 kg", Err(NoData::Malformed)),
            ("\u{664}", Err(NoData::Malformed)),
        ];
        for (text, expected) in table {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn scaling_is_exact_where_decimals_allow() {
        let table = [
            ("123", 0.1, 0.0, None, decimal(123, 1)),
            ("12.340", 1.0, 0.0, None, decimal(12340, 3)),
            ("12.340", 1.0, 0.0, Some(2), decimal(1234, 2)),
            ("12.3", 1.0, 0.0, Some(2), decimal(1230, 2)),
            ("12.345", 1.0, 0.0, Some(2), decimal(1235, 2)),
            ("-12.345", 1.0, 0.0, Some(2), decimal(-1235, 2)),
            ("-0.004", 1.0, 0.0, Some(2), decimal(0, 2)),
            ("212", 0.1, -27.5, None, decimal(-63, 1)),
            ("1000", 0.001, 0.0, Some(0), decimal(1, 0)),
            ("3", 1.0 / 3.0, 0.0, Some(1), decimal(10, 1)),
            ("0.123456789", 0.01, 0.0, None, Value::from_f64(0.123_456_789 * 0.01)),
        ];
        for (text, scale, offset, decimals, expected) in table {
            let value = Scaling::new(scale, offset, decimals).apply(number(text).unwrap());
            assert_eq!(value, expected, "{text} * {scale} + {offset}");
        }
    }

    #[test]
    fn a_product_that_overflows_is_a_sensor_fault_and_not_infinite() {
        let value = Scaling::new(1e300, 0.0, None).apply(number("1e300").unwrap());
        assert_eq!(value, Err(NoData::SensorFault));
    }

    proptest! {
        #[test]
        fn any_text_is_a_number_or_a_typed_absence(text in "\\PC{0,40}", scale in any::<f64>()) {
            let value = number(&text).and_then(|raw| Scaling::new(scale, 0.1, Some(9)).apply(raw));
            if let Ok(Value::Float(number)) = value {
                prop_assert!(number.is_finite());
            }
        }

        #[test]
        fn every_short_decimal_reads_back_as_it_was_printed(
            digits in -9_007_199_254_740_991_i64..=9_007_199_254_740_991, places in 0_usize..=9,
        ) {
            let mut text = format!("{:0width$}", digits.abs(), width = places + 1);
            if places > 0 {
                text.insert(text.len() - places, '.');
            }
            let sign = if digits < 0 { "-" } else { "" };
            prop_assert_eq!(number(&format!("{sign}{text}")), decimal(digits, places as u8));
        }
    }
}
