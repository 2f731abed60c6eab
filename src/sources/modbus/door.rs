//! A hidden door for those who throw noise at this room: the verdict on an answer, without a wire.

use super::frame::{Expected, Framing, Verdict, is_some_frame};

/// Judges what came in answer to `request`; returns whether it is the answer.
///
/// # Panics
/// When an answer is found outside of the bytes that came, or where its length does not fit.
#[must_use]
pub fn judge(rtu: bool, request: &[u8], bytes: &[u8]) -> bool {
    let framing = if rtu { Framing::Rtu } else { Framing::Mbap };
    let _ = is_some_frame(bytes);
    let Some(expected) = Expected::of(framing, request) else { return false };
    let Verdict::Answer(place) = expected.judge(bytes) else { return false };
    let len = bytes[place].len();
    assert!(len == expected.answer_bytes() || len == if rtu { 5 } else { 9 }, "{len} bytes");
    true
}
