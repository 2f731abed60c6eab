//! SenML in CBOR (RFC 8428 section 6): an array of maps with small integers for labels.

use minicbor::data::Type;
use minicbor::decode::{Decoder, Error};

use super::json::clipped;
use super::{Fault, Number, Record, Resolved, resolve};
use crate::reading::UnixMillis;

/// Decimal fraction: exponent of ten and mantissa (RFC 8949 section 3.4.4).
const TAG_DECIMAL: u64 = 4;
/// Powers of ten beyond these say nothing that binary64 can hold.
const EXPONENTS: std::ops::RangeInclusive<i64> = -400..=400;

/// Resolves a pack in CBOR (content formats 112 and 113).
///
/// # Errors
/// When it is no array of records, a label has the wrong type, a label must be understood and is
/// not, or a record cannot be resolved. Nothing of the pack is to be taken then.
pub fn from_cbor(payload: &[u8], now: UnixMillis) -> Result<Vec<Resolved>, Fault> {
    let mut d = Decoder::new(payload);
    let mut records = Vec::new();
    let mut left = d.array().map_err(|_| Fault("a SenML pack is a CBOR array of maps".into()))?;
    while more(&mut d, &mut left).map_err(|e| fault(&e, records.len()))? {
        let record = record(&mut d).map_err(|e| fault(&e, records.len()))?;
        records.push(record);
    }
    if d.position() != payload.len() {
        return Err(Fault("bytes follow the pack".into()));
    }
    resolve(records, now)
}

fn fault(error: &Error, index: usize) -> Fault {
    Fault(format!("record {}: {error}", index + 1))
}

/// Returns whether another item follows in an array or map, of stated length or ended by a break.
fn more(d: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, Error> {
    match left {
        Some(0) => Ok(false),
        Some(n) => {
            *n -= 1;
            Ok(true)
        }
        None if d.datatype()? == Type::Break => {
            d.set_position(d.position() + 1);
            Ok(false)
        }
        None => Ok(true),
    }
}

fn record(d: &mut Decoder<'_>) -> Result<Record, Error> {
    let mut record = Record::default();
    let mut left = d.map()?;
    while more(d, &mut left)? {
        match d.datatype()? {
            Type::String | Type::StringIndef => {
                let label = text(d)?;
                match number_of(&label) {
                    Some(known) => set(&mut record, known, d)?,
                    None if label.ends_with('_') => {
                        return Err(Error::message(format!(
                            "label \"{}\" must be understood and is not",
                            clipped(&label)
                        )));
                    }
                    None => d.skip()?,
                }
            }
            _ => {
                let label = d.i64()?;
                set(&mut record, label, d)?;
            }
        }
    }
    Ok(record)
}

/// Labels as text, which the RFC has for extensions only and some encoders use for all.
fn number_of(label: &str) -> Option<i64> {
    let known = [
        ("bver", -1),
        ("bn", -2),
        ("bt", -3),
        ("bu", -4),
        ("bv", -5),
        ("bs", -6),
        ("n", 0),
        ("u", 1),
        ("v", 2),
        ("vs", 3),
        ("vb", 4),
        ("s", 5),
        ("t", 6),
        ("vd", 8),
    ];
    known.into_iter().find(|(name, _)| *name == label).map(|(_, number)| number)
}

/// Sets a field by its label: RFC 8428 section 6, table 4.
fn set(record: &mut Record, label: i64, d: &mut Decoder<'_>) -> Result<(), Error> {
    match label {
        -1 => record.bver = Some(d.i64()?),
        -2 => record.bn = Some(text(d)?),
        -3 => record.bt = Some(number(d)?.to_f64()),
        -4 => record.bu = Some(text(d)?),
        -5 => record.bv = Some(number(d)?),
        -6 => record.bs = Some(number(d)?),
        0 => record.n = Some(text(d)?),
        1 => record.u = Some(text(d)?),
        2 if matches!(d.datatype()?, Type::Null | Type::Undefined) => {
            d.skip()?;
            record.v = Some(Number::Double(f64::NAN));
        }
        2 => record.v = Some(number(d)?),
        3 | 8 if record.text.is_some() => {
            return Err(Error::message("it has more than one value"));
        }
        3 => record.text = Some(text(d)?),
        4 => record.vb = Some(d.bool()?),
        5 => record.s = Some(number(d)?),
        6 => record.t = Some(number(d)?.to_f64()),
        8 => record.text = Some(data(d)?),
        _ => d.skip()?,
    }
    Ok(())
}

fn text(d: &mut Decoder<'_>) -> Result<String, Error> {
    let mut all = String::new();
    for part in d.str_iter()? {
        all.push_str(part?);
    }
    Ok(all)
}

/// Reads bytes as the base64url without padding that JSON would carry (RFC 8428 section 5).
fn data(d: &mut Decoder<'_>) -> Result<String, Error> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut all = Vec::new();
    for part in d.bytes_iter()? {
        all.extend_from_slice(part?);
    }
    let mut text = String::with_capacity(all.len().div_ceil(3) * 4);
    for chunk in all.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |n, byte| n << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let six = bits >> (18 - 6 * place) & 0x3f;
            text.push(char::from(ALPHABET[six as usize]));
        }
    }
    Ok(text)
}

fn number(d: &mut Decoder<'_>) -> Result<Number, Error> {
    Ok(match d.datatype()? {
        Type::F16 => {
            let at = d.position() + 1;
            let Some(&[high, low]) = d.input().get(at..at + 2) else {
                return Err(Error::end_of_input());
            };
            d.set_position(at + 2);
            Number::Single(half(u16::from_be_bytes([high, low])))
        }
        Type::F32 => Number::Single(d.f32()?),
        Type::F64 => Number::Double(d.f64()?),
        Type::Tag => decimal(d)?,
        _ => {
            let whole = i128::from(d.int()?);
            #[expect(clippy::cast_precision_loss, reason = "beyond 64 bits the wire rounds too")]
            i64::try_from(whole).map_or(Number::Double(whole as f64), Number::Int)
        }
    })
}

fn decimal(d: &mut Decoder<'_>) -> Result<Number, Error> {
    if d.tag()?.as_u64() != TAG_DECIMAL || d.array()? != Some(2) {
        return Err(Error::message("a number has a tag that is not known"));
    }
    let (exponent, mantissa) = (d.i64()?, d.i64()?);
    if !EXPONENTS.contains(&exponent) {
        return Err(Error::message("a decimal fraction is out of range"));
    }
    // Read as text is read, since that rounds correctly; powers multiplied up would not.
    let number = format!("{mantissa}e{exponent}").parse().map_err(Error::message)?;
    Ok(Number::Double(number))
}

/// Widens a binary16, which is exact (IEEE 754 section 3.6: 1 sign, 5 exponent, 10 fraction bits).
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x03ff);
    let magnitude = match i32::from(bits >> 10 & 0x1f) {
        0 => fraction * 2_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        exponent => (1024.0 + fraction) * 2_f32.powi(exponent - 25),
    };
    sign * magnitude
}
