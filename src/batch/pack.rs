//! MessagePack in both directions, for the few shapes that batches use. Writing cannot fail, since
//! it goes to memory; reading checks every length against what is left before it believes it.

use std::str;

/// Nesting that [`Reader::skip`] follows; batches of this version nest 6 deep.
const DEPTH_MAX: usize = 32;

/// Appends MessagePack to a buffer.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

// Writing to a `Vec<u8>` has no error to return.
impl Writer {
    pub(super) fn map(&mut self, len: usize) {
        let _ = rmp::encode::write_map_len(&mut self.0, len32(len));
    }

    pub(super) fn array(&mut self, len: usize) {
        let _ = rmp::encode::write_array_len(&mut self.0, len32(len));
    }

    pub(super) fn str(&mut self, text: &str) {
        let _ = rmp::encode::write_str(&mut self.0, text);
    }

    pub(super) fn bin(&mut self, bytes: &[u8]) {
        let _ = rmp::encode::write_bin(&mut self.0, bytes);
    }

    pub(super) fn uint(&mut self, n: u64) {
        let _ = rmp::encode::write_uint(&mut self.0, n);
    }

    /// Writes `n` in its shortest form; -32 to 127 take one byte.
    pub(super) fn int(&mut self, n: i64) {
        if let Ok(small @ -32..=127) = i8::try_from(n) {
            self.0.push(small.to_be_bytes()[0]);
        } else {
            let _ = rmp::encode::write_sint(&mut self.0, n);
        }
    }

    pub(super) fn bool(&mut self, flag: bool) {
        let _ = rmp::encode::write_bool(&mut self.0, flag);
    }

    pub(super) fn nil(&mut self) {
        let _ = rmp::encode::write_nil(&mut self.0);
    }

    /// Writes binary32 where that is the same number, else binary64.
    pub(super) fn float(&mut self, number: f64) {
        #[expect(clippy::cast_possible_truncation, reason = "used only when it loses nothing")]
        let short = number as f32;
        if f64::from(short).to_bits() == number.to_bits() {
            let _ = rmp::encode::write_f32(&mut self.0, short);
        } else {
            let _ = rmp::encode::write_f64(&mut self.0, number);
        }
    }
}

/// Returns the bytes [`Writer::int`] takes for `n`.
pub(super) fn int_len(n: i64) -> usize {
    match n {
        -32..=127 => 1,
        -128..=255 => 2,
        -32_768..=65_535 => 3,
        -2_147_483_648..=4_294_967_295 => 5,
        _ => 9,
    }
}

fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Why bytes could not be read as the shape that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// They end too early, or a length points behind their end.
    Short,
    /// Another type stands here.
    Type,
    /// Nested deeper than anything this format has.
    Deep,
}

/// Reads MessagePack from a slice.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// A scalar as it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns the next byte without taking it.
    pub(super) fn peek(&self) -> Result<u8, Malformed> {
        self.rest.first().copied().ok_or(Malformed::Short)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn be(&mut self, len: usize) -> Result<u64, Malformed> {
        Ok(self.take(len)?.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn len(&mut self, bytes: usize) -> Result<usize, Malformed> {
        usize::try_from(self.be(bytes)?).map_err(|_| Malformed::Short)
    }

    /// Takes an array's length, which is at most the bytes that are left.
    pub(super) fn array(&mut self) -> Result<usize, Malformed> {
        let len = match self.byte()? {
            fix @ 0x90..=0x9f => usize::from(fix & 0x0f),
            0xdc => self.len(2)?,
            0xdd => self.len(4)?,
            _ => return Err(Malformed::Type),
        };
        if len > self.rest.len() { Err(Malformed::Short) } else { Ok(len) }
    }

    /// Takes a map's length, which is at most half the bytes that are left.
    pub(super) fn map(&mut self) -> Result<usize, Malformed> {
        let len = match self.byte()? {
            fix @ 0x80..=0x8f => usize::from(fix & 0x0f),
            0xde => self.len(2)?,
            0xdf => self.len(4)?,
            _ => return Err(Malformed::Type),
        };
        if len > self.rest.len() / 2 { Err(Malformed::Short) } else { Ok(len) }
    }

    pub(super) fn str(&mut self) -> Result<&'a str, Malformed> {
        let len = match self.byte()? {
            fix @ 0xa0..=0xbf => usize::from(fix & 0x1f),
            0xd9 => self.len(1)?,
            0xda => self.len(2)?,
            0xdb => self.len(4)?,
            _ => return Err(Malformed::Type),
        };
        str::from_utf8(self.take(len)?).map_err(|_| Malformed::Type)
    }

    pub(super) fn bin(&mut self) -> Result<&'a [u8], Malformed> {
        let len = match self.byte()? {
            0xc4 => self.len(1)?,
            0xc5 => self.len(2)?,
            0xc6 => self.len(4)?,
            _ => return Err(Malformed::Type),
        };
        self.take(len)
    }

    /// Takes an integer of any width.
    #[inline]
    pub(super) fn int(&mut self) -> Result<i64, Malformed> {
        match self.rest.split_first() {
            Some((fix @ (0x00..=0x7f | 0xe0..=0xff), rest)) => {
                self.rest = rest;
                Ok(i64::from(i8::from_be_bytes([*fix])))
            }
            Some(_) => self.wide_int(),
            None => Err(Malformed::Short),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "each arm reinterprets exactly the bytes it took"
    )]
    fn wide_int(&mut self) -> Result<i64, Malformed> {
        Ok(match self.byte()? {
            0xcc => i64::from(self.byte()?),
            0xcd => self.be(2)? as i64,
            0xce => self.be(4)? as i64,
            0xcf => i64::try_from(self.be(8)?).map_err(|_| Malformed::Type)?,
            0xd0 => i64::from(self.be(1)? as i8),
            0xd1 => i64::from(self.be(2)? as i16),
            0xd2 => i64::from(self.be(4)? as i32),
            0xd3 => self.be(8)? as i64,
            _ => return Err(Malformed::Type),
        })
    }

    pub(super) fn uint(&mut self) -> Result<u64, Malformed> {
        u64::try_from(self.int()?).map_err(|_| Malformed::Type)
    }

    pub(super) fn scalar(&mut self) -> Result<Scalar<'a>, Malformed> {
        #[expect(clippy::cast_possible_truncation, reason = "takes exactly four bytes")]
        #[expect(clippy::cast_precision_loss, reason = "integers beyond 2^63 have no exact home")]
        Ok(match self.peek()? {
            0xc0 => self.byte().map(|_| Scalar::Nil)?,
            flag @ (0xc2 | 0xc3) => self.byte().map(|_| Scalar::Bool(flag == 0xc3))?,
            0xca => self
                .take(1)
                .and_then(|_| Ok(Scalar::Float(f64::from(f32::from_bits(self.be(4)? as u32)))))?,
            0xcb => self.take(1).and_then(|_| Ok(Scalar::Float(f64::from_bits(self.be(8)?))))?,
            0xa0..=0xbf | 0xd9..=0xdb => Scalar::Text(self.str()?),
            0xcf => self.take(1).and_then(|_| {
                let n = self.be(8)?;
                Ok(i64::try_from(n).map_or(Scalar::Float(n as f64), Scalar::Int))
            })?,
            _ => Scalar::Int(self.int()?),
        })
    }

    /// Passes over one value of any type and returns its bytes.
    pub(super) fn skip(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.rest;
        self.skip_nested()?;
        Ok(&start[..start.len() - self.rest.len()])
    }

    /// Walks the values with a list of what is open instead of by recursion, so that the long lists
    /// of one-byte integers that batches are made of cost a comparison a byte.
    fn skip_nested(&mut self) -> Result<(), Malformed> {
        let mut open = [0_usize; DEPTH_MAX];
        let mut depth = 0;
        let mut left = 1;
        loop {
            let short = self.rest.iter().take(left).take_while(|b| matches!(b, 0..=0x7f | 0xe0..));
            let short = short.count();
            self.rest = &self.rest[short..];
            left -= short;
            if left == 0 {
                if depth == 0 {
                    return Ok(());
                }
                depth -= 1;
                left = open[depth];
                continue;
            }
            left -= 1;
            let children = self.skip_one()?;
            if children > 0 {
                *open.get_mut(depth).ok_or(Malformed::Deep)? = left;
                depth += 1;
                left = children;
            }
        }
    }

    /// Passes over one scalar, or the head of an array or map, and returns how many values it opens.
    fn skip_one(&mut self) -> Result<usize, Malformed> {
        let bytes = match self.peek()? {
            0x80..=0x8f | 0xde | 0xdf => return Ok(2 * self.map()?),
            0x90..=0x9f | 0xdc | 0xdd => return self.array(),
            0xa0..=0xbf | 0xd9..=0xdb => return self.str_bytes().map(|()| 0),
            0xc4..=0xc6 => return self.bin().map(|_| 0),
            0xcc | 0xd0 => 2,
            0xcd | 0xd1 => 3,
            0xca | 0xce | 0xd2 => 5,
            0xcb | 0xcf | 0xd3 => 9,
            0xc7..=0xc9 | 0xd4..=0xd8 => self.ext_len()?,
            0xc1 => return Err(Malformed::Type),
            _ => 1,
        };
        self.take(bytes).map(|_| 0)
    }

    /// Passes over a string that need not be UTF-8, since nobody will look at it.
    fn str_bytes(&mut self) -> Result<(), Malformed> {
        let len = match self.byte()? {
            0xd9 => self.len(1)?,
            0xda => self.len(2)?,
            0xdb => self.len(4)?,
            fix => usize::from(fix & 0x1f),
        };
        self.take(len).map(drop)
    }

    /// Returns the whole length of the extension value that stands here.
    fn ext_len(&self) -> Result<usize, Malformed> {
        let mut ahead = self.clone();
        let (header, payload) = match ahead.byte()? {
            0xc7 => (3, ahead.len(1)?),
            0xc8 => (4, ahead.len(2)?),
            0xc9 => (6, ahead.len(4)?),
            fixed => (2, 1 << (fixed - 0xd4)),
        };
        // On a 32-bit board a claimed length may reach the end of `usize`.
        Ok(payload.saturating_add(header))
    }
}
