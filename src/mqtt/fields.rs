//! The fields that packets are made of (MQTT 5, section 1.5; 3.1.1, section 1.5), read from the
//! body of one packet and never beyond it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::codec::CodecError;

/// One property (MQTT 5, section 2.2.2.2).
pub(super) struct Property {
    pub(super) id: u8,
    pub(super) value: Value,
}

/// The value of a property. Lists of pairs are passed over: nothing here reads user properties.
pub(super) enum Value {
    Number(u32),
    Text(Bytes),
    Pair,
}

/// Longest number of variable length, bytes.
const VARIABLE_BYTES_MAX: usize = 4;

/// Largest number of variable length: four bytes of seven bits.
pub(super) const VARIABLE_MAX: usize = 0x0FFF_FFFF;

/// Reads a number of variable length from the start of `bytes`: the number and its bytes. `None`
/// when it goes on behind the end.
pub(super) fn variable(bytes: &[u8]) -> Result<Option<(usize, usize)>, CodecError> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(VARIABLE_BYTES_MAX).enumerate() {
        number |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((number, at + 1)));
        }
    }
    if bytes.len() < VARIABLE_BYTES_MAX {
        return Ok(None);
    }
    Err(CodecError::Malformed("a length of more than four bytes"))
}

/// Writes a number of variable length, at most [`VARIABLE_MAX`].
pub(super) fn put_variable(out: &mut BytesMut, mut number: usize) {
    loop {
        let byte = u8::try_from(number & 0x7F).unwrap_or(0);
        number >>= 7;
        out.put_u8(if number > 0 { byte | 0x80 } else { byte });
        if number == 0 {
            return;
        }
    }
}

/// Returns the bytes that [`put_variable`] writes.
pub(super) fn variable_bytes(number: usize) -> usize {
    match number {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Writes text or binary data behind its length; the session has checked that it fits.
pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.put_slice(bytes);
}

const CUT: CodecError = CodecError::Malformed("a packet that ends within a field");

pub(super) fn byte(body: &mut Bytes) -> Result<u8, CodecError> {
    body.try_get_u8().map_err(|_| CUT)
}

pub(super) fn two(body: &mut Bytes) -> Result<u16, CodecError> {
    body.try_get_u16().map_err(|_| CUT)
}

fn four(body: &mut Bytes) -> Result<u32, CodecError> {
    body.try_get_u32().map_err(|_| CUT)
}

/// Reads an identifier, which is never zero (section 2.2.1).
pub(super) fn identifier(body: &mut Bytes) -> Result<u16, CodecError> {
    match two(body)? {
        0 => Err(CodecError::Malformed("packet identifier 0")),
        id => Ok(id),
    }
}

/// Reads data behind its length.
pub(super) fn data(body: &mut Bytes) -> Result<Bytes, CodecError> {
    let length = usize::from(two(body)?);
    if length > body.len() {
        return Err(CUT);
    }
    Ok(body.split_to(length))
}

/// Reads text behind its length (section 1.5.4: UTF-8 without U+0000).
pub(super) fn text(bytes: &[u8]) -> Result<&str, CodecError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(CodecError::Malformed("text that is not UTF-8")),
    }
}

/// Reads all properties. Each may stand once, but for user properties and subscription identifiers.
pub(super) fn properties(
    body: &mut Bytes,
    mut each: impl FnMut(Property) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    let (length, own) = variable(body)?.ok_or(CUT)?;
    body.advance(own);
    if length > body.len() {
        return Err(CUT);
    }
    let mut list = body.split_to(length);
    let mut seen = 0_u64;
    while !list.is_empty() {
        let id = byte(&mut list)?;
        let value = match id {
            // Indicators and what a broker can do.
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => {
                Value::Number(byte(&mut list)?.into())
            }
            // Server keep alive, receive maximum, topic aliases.
            0x13 | 0x21 | 0x22 | 0x23 => Value::Number(two(&mut list)?.into()),
            // Intervals and the maximum packet size.
            0x02 | 0x11 | 0x18 | 0x27 => Value::Number(four(&mut list)?),
            // Texts and binary data.
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => {
                Value::Text(data(&mut list)?)
            }
            // Subscription identifier.
            0x0B => {
                let (_, own) = variable(&list)?.ok_or(CUT)?;
                list.advance(own);
                Value::Pair
            }
            // User property.
            0x26 => {
                data(&mut list)?;
                data(&mut list)?;
                Value::Pair
            }
            _ => return Err(CodecError::Malformed("a property that MQTT 5 does not have")),
        };
        let bit = 1_u64 << id;
        if seen & bit != 0 && !matches!(value, Value::Pair) {
            return Err(CodecError::Malformed("a property that stands twice"));
        }
        seen |= bit;
        each(Property { id, value })?;
    }
    Ok(())
}
