//! What an answer has to look like before anybody reads a value out of it: the unit, the function
//! and the count that were asked for, and an intact checksum or transaction identifier. No I/O.

use std::ops::Range;

use crc::{CRC_16_MODBUS, Crc};

/// The checksum of RTU frames (MODBUS over Serial Line 1.02, section 2.5.1.2).
const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);

/// Longest RTU frame (MODBUS over Serial Line 1.02, section 2.5.1): 256 bytes. An MBAP frame has
/// 260 (MODBUS Messaging on TCP/IP 1.0b, section 4.1).
pub(super) const FRAME_BYTES_MAX: usize = 260;

/// Bytes 0x00 or 0xFF that a transceiver may put on the line when it starts or stops to drive it.
const GLITCH_BYTES_MAX: usize = 2;

/// How frames are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Unit, PDU, CRC.
    Rtu,
    /// Transaction, protocol, length, unit, PDU.
    Mbap,
}

/// Why a request brought no usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing came in time.
    Timeout,
    /// The port or the connection is gone.
    Gone,
    /// What came is no intact frame: a wrong checksum, half a frame, noise.
    Garbage,
    /// The line never fell silent, so nothing could be asked.
    NeverSilent,
    /// An intact answer to something else.
    Wrong(Mismatch),
}

/// In what an intact answer differs from what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// It comes from this unit.
    Unit(u8),
    /// It answers this function.
    Function(u8),
    /// It carries this many bytes.
    Count(u8),
    /// It belongs to another transaction.
    Transaction,
    /// Something follows it.
    Surplus,
}

/// The only answer that fits a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    framing: Framing,
    pub(super) shape: Shape,
    transaction: u16,
}

/// All that an RTU answer says of its question: answers of one shape cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) unit: u8,
    function: u8,
    /// Bytes of registers or bits.
    data: u8,
}

impl Shape {
    /// Works out the shape of the answer to a read of `count` elements (functions 1 to 4).
    pub(super) fn of(unit: u8, function: u8, count: u16) -> Option<Self> {
        let bytes = match function {
            0x01 | 0x02 => count.div_ceil(8),
            0x03 | 0x04 => count.checked_mul(2)?,
            _ => return None,
        };
        Some(Self { unit, function, data: u8::try_from(bytes).ok()? })
    }

    /// Returns whether an RTU frame that begins with `bytes` is of this shape. An exception is of
    /// none: it may stand for any question.
    pub(super) fn begins(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(&[self.unit, self.function, self.data])
    }
}

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not complete, nothing wrong so far.
    More,
    /// The answer, at this place in the bytes.
    Answer(Range<usize>),
    /// Not the answer.
    Unfit(Mismatch),
    /// Complete, and its checksum is wrong.
    Damaged,
}

impl Expected {
    /// Works out the fitting answer from the bytes of a read request (functions 1 to 4). `None` for
    /// anything else, which this source never asks.
    pub(super) fn of(framing: Framing, request: &[u8]) -> Option<Self> {
        let (transaction, rest) = match framing {
            Framing::Rtu => (0, request),
            Framing::Mbap => {
                (u16::from_be_bytes([*request.first()?, *request.get(1)?]), { request.get(6..)? })
            }
        };
        let &[unit, function, _, _, high, low, ..] = rest else { return None };
        let count = u16::from_be_bytes([high, low]);
        let shape = Shape::of(unit, function, count)?;
        Some(Self { framing, shape, transaction })
    }

    /// Returns the length of the whole answer when it is no exception.
    pub(super) fn answer_bytes(&self) -> usize {
        match self.framing {
            Framing::Rtu => 5 + usize::from(self.shape.data),
            Framing::Mbap => 9 + usize::from(self.shape.data),
        }
    }

    /// Judges what has come so far. Bytes behind a fitting answer spoil it: on a line without
    /// transaction identifiers they may mean that it is the late answer to an earlier request.
    pub(super) fn judge(&self, bytes: &[u8]) -> Verdict {
        match self.framing {
            Framing::Rtu => self.judge_rtu(bytes),
            Framing::Mbap => self.judge_mbap(bytes),
        }
    }

    fn judge_rtu(&self, bytes: &[u8]) -> Verdict {
        let start = if is_glitch(self.shape.unit) { 0 } else { glitches(bytes) };
        let frame = &bytes[start..];
        let &[unit, function, ..] = frame else { return Verdict::More };
        if unit != self.shape.unit {
            return Verdict::Unfit(Mismatch::Unit(unit));
        }
        let length = match self.pdu(function, frame.get(2).copied()) {
            Ok(Some(pdu)) => 1 + pdu + 2,
            Ok(None) => return Verdict::More,
            Err(mismatch) => return Verdict::Unfit(mismatch),
        };
        if frame.len() < length {
            return Verdict::More;
        }
        if !is_intact(&frame[..length]) {
            return Verdict::Damaged;
        }
        let rest = &frame[length..];
        if glitches(rest) < rest.len() {
            return Verdict::Unfit(Mismatch::Surplus);
        }
        Verdict::Answer(start..start + length)
    }

    fn judge_mbap(&self, bytes: &[u8]) -> Verdict {
        let &[t0, t1, p0, p1, l0, l1, unit, function, ..] = bytes else { return Verdict::More };
        if [p0, p1] != [0, 0] {
            return Verdict::Damaged;
        }
        if u16::from_be_bytes([t0, t1]) != self.transaction {
            return Verdict::Unfit(Mismatch::Transaction);
        }
        if unit != self.shape.unit {
            return Verdict::Unfit(Mismatch::Unit(unit));
        }
        let length = match self.pdu(function, bytes.get(8).copied()) {
            Ok(Some(pdu)) => 7 + pdu,
            Ok(None) => return Verdict::More,
            Err(mismatch) => return Verdict::Unfit(mismatch),
        };
        if usize::from(u16::from_be_bytes([l0, l1])) + 6 != length {
            return Verdict::Damaged;
        }
        match bytes.len() {
            n if n < length => Verdict::More,
            n if n > length => Verdict::Unfit(Mismatch::Surplus),
            _ => Verdict::Answer(0..length),
        }
    }

    /// Returns the length of the answer's PDU, once it is known.
    fn pdu(&self, function: u8, count: Option<u8>) -> Result<Option<usize>, Mismatch> {
        if function == self.shape.function | 0x80 {
            return Ok(Some(2));
        }
        if function != self.shape.function {
            return Err(Mismatch::Function(function));
        }
        match count {
            None => Ok(None),
            Some(count) if count == self.shape.data => Ok(Some(2 + usize::from(count))),
            Some(count) => Err(Mismatch::Count(count)),
        }
    }
}

/// Returns whether `bytes` begin with an intact RTU frame of functions 1 to 4 or are one as a whole,
/// whoever it is from.
pub(super) fn is_some_frame(bytes: &[u8]) -> bool {
    let bytes = &bytes[glitches(bytes)..];
    let announced = match bytes {
        [_, function, ..] if function & 0x80 != 0 => 5,
        [_, _, count, ..] => 5 + usize::from(*count),
        _ => return false,
    };
    is_intact(bytes) || bytes.get(..announced).is_some_and(is_intact)
}

/// Finds the intact RTU answer that `bytes` begin with, whoever it is from, behind what glitches a
/// transceiver made; functions 1 to 4 and exceptions.
pub(super) fn first_frame(bytes: &[u8]) -> Option<Range<usize>> {
    let start = glitches(bytes);
    let announced = match &bytes[start..] {
        [_, function, ..] if function & 0x80 != 0 => 5,
        [_, 0x01..=0x04, count, ..] => 5 + usize::from(*count),
        _ => return None,
    };
    let place = start..start + announced;
    bytes.get(place.clone()).filter(|frame| is_intact(frame)).map(|_| place)
}

fn is_intact(frame: &[u8]) -> bool {
    match frame.split_last_chunk::<2>() {
        Some((body, crc)) if body.len() >= 2 => CRC.checksum(body) == u16::from_le_bytes(*crc),
        _ => false,
    }
}

fn glitches(bytes: &[u8]) -> usize {
    bytes.iter().take(GLITCH_BYTES_MAX).take_while(|byte| is_glitch(**byte)).count()
}

/// Units are 1 to 247 on a line, so no frame begins with these.
fn is_glitch(byte: u8) -> bool {
    matches!(byte, 0x00 | 0xFF)
}

/// Appends the checksum to an RTU frame.
pub(super) fn sealed(body: &[u8]) -> Vec<u8> {
    let mut frame = body.to_vec();
    frame.extend(CRC.checksum(body).to_le_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtu() -> Expected {
        Expected::of(Framing::Rtu, &sealed(&[7, 3, 0, 107, 0, 2])).unwrap()
    }

    #[test]
    fn only_the_answer_that_was_asked_for_passes() {
        let good = sealed(&[7, 3, 4, 1, 2, 3, 4]);
        assert_eq!(rtu().judge(&good), Verdict::Answer(0..9));
        assert_eq!(rtu().judge(&sealed(&[7, 0x83, 2])), Verdict::Answer(0..5));
        for end in 0..good.len() {
            assert_eq!(rtu().judge(&good[..end]), Verdict::More, "after {end} bytes");
        }
        let unfit = |body: &[u8]| rtu().judge(&sealed(body));
        assert_eq!(unfit(&[8, 3, 4, 1, 2, 3, 4]), Verdict::Unfit(Mismatch::Unit(8)));
        assert_eq!(unfit(&[7, 4, 4, 1, 2, 3, 4]), Verdict::Unfit(Mismatch::Function(4)));
        assert_eq!(unfit(&[7, 0x84, 2]), Verdict::Unfit(Mismatch::Function(0x84)));
        assert_eq!(unfit(&[7, 3, 2, 1, 2]), Verdict::Unfit(Mismatch::Count(2)));
        assert_eq!(unfit(&[7, 3, 6, 1, 2, 3, 4, 5, 6]), Verdict::Unfit(Mismatch::Count(6)));
        let mut damaged = good.clone();
        damaged[4] ^= 1;
        assert_eq!(rtu().judge(&damaged), Verdict::Damaged);
        let twice = [good.clone(), good.clone()].concat();
        assert_eq!(rtu().judge(&twice), Verdict::Unfit(Mismatch::Surplus));
    }

    #[test]
    fn glitches_of_a_transceiver_are_no_part_of_the_answer() {
        let good = sealed(&[7, 3, 4, 1, 2, 3, 4]);
        let noisy = [&[0x00, 0xFF], &good[..], &[0x00]].concat();
        assert_eq!(rtu().judge(&noisy), Verdict::Answer(2..11));
    }

    #[test]
    fn a_tcp_answer_needs_its_transaction_and_its_length() {
        let request = [0, 9, 0, 0, 0, 6, 1, 3, 0, 107, 0, 1];
        let expected = Expected::of(Framing::Mbap, &request).unwrap();
        let good = [0, 9, 0, 0, 0, 5, 1, 3, 2, 0xAB, 0xCD];
        assert_eq!(expected.judge(&good), Verdict::Answer(0..11));
        let with = |at: usize, byte: u8| {
            let mut changed = good;
            changed[at] = byte;
            expected.judge(&changed)
        };
        assert_eq!(with(1, 8), Verdict::Unfit(Mismatch::Transaction));
        assert_eq!(with(2, 1), Verdict::Damaged);
        assert_eq!(with(5, 9), Verdict::Damaged);
        assert_eq!(with(6, 2), Verdict::Unfit(Mismatch::Unit(2)));
        assert_eq!(with(7, 4), Verdict::Unfit(Mismatch::Function(4)));
        assert_eq!(with(8, 4), Verdict::Unfit(Mismatch::Count(4)));
        assert_eq!(
            expected.judge(&[0, 9, 0, 0, 0, 3, 1, 0x83, 2]),
            Verdict::Answer(0..9),
            "an exception"
        );
        assert_eq!(expected.judge(&[&good[..], &[0]].concat()), Verdict::Unfit(Mismatch::Surplus));
    }

    #[test]
    fn any_intact_frame_is_told_from_noise() {
        assert!(is_some_frame(&sealed(&[9, 3, 2, 0, 1])));
        assert!(is_some_frame(&[&sealed(&[9, 3, 2, 0, 1])[..], &[1, 2, 3]].concat()));
        assert!(!is_some_frame(&[9, 3, 2, 0, 1, 0, 0]));
        assert!(!is_some_frame(&[]));
    }
}
