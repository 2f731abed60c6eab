//! Batch v1, the uplink payload: MessagePack of plain types, each one decodable alone.
//!
//! The format is a document first: `docs/uplink/batch-v1.md`, with golden vectors and decoders in
//! two other languages beside it. In short: an envelope that is readable without decompressing
//! holds a body of words (every string once), series (device, point, unit, kind) and frames. A
//! *grid* frame is a table whose columns share one time axis, as the polls of a Modbus device do;
//! times are differences of differences, values are differences, and a tail that does not change is
//! left out. An *event* frame is a list in time order for everything else. What is not plain good is
//! *marked*, by position. A noisy sensor so costs about a byte a reading, and a constant one
//! nothing.
//!
//! On the way out, readings gather in an [`Assembly`], column by column and already as integers, so
//! that sealing 50,000 of them is one pass. Its [`Body`] is coded before its place in the sequence
//! is known; [`Body::seal`] adds the envelope inside the store's transaction. The store writes what
//! it commits between seals as [`chunk`]s, which are the same frames with the store's own series
//! numbers. On the way in, [`decode`] trusts nothing: no length, no index, no count.
//!
//! Within `v` 1 a key never changes meaning. Unknown keys, unknown frames and unknown series kinds
//! are skipped and counted, never a reason to refuse a batch.

mod assembly;
pub mod chunk;
mod column;
mod decode;
mod encode;
mod frames;
mod pack;
mod redate;
mod rows;
#[cfg(test)]
mod tests;
pub mod text;

pub use assembly::Assembly;
pub use decode::{DecodeError, Decoded, Header, Row, RowValue, decode, first_value, header};
pub use encode::{Body, Envelope};
pub use redate::redate;

/// How a body is coded: the envelope's `z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Coding {
    /// A map inside the envelope.
    #[default]
    Plain = 0,
    /// RFC 1950.
    Zlib = 1,
    /// RFC 8878.
    Zstd = 2,
}

/// What the times of a batch rest on: the envelope's `ck`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Timing {
    /// The clock had not been set since boot: distances are right, dates are a guess.
    Unset = 0,
    /// The clock was set.
    Set = 1,
    /// The clock was set later in the same boot, and the times were corrected by it.
    Corrected = 2,
}

/// Series kinds that are not a number of decimals (DESIGN section 4).
mod kind {
    /// 0 or 1, as differences.
    pub(super) const BOOL: i64 = -1;
    /// Any scalar, as it is.
    pub(super) const RAW: i64 = -2;
    /// An index into the words, as differences.
    pub(super) const WORD: i64 = -3;
}

/// Quality codes from here on say that there is no value.
const NO_VALUE_FROM: u8 = 32;
