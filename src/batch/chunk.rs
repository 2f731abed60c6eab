//! Readings between their commit and their seal: the frames of a batch, with the numbers that the
//! store gave its series in place of names. A chunk never leaves the store it was written by; its
//! layout is part of the store's schema version.
//!
//! MessagePack: `[words, [[series, kind], ..], start, frames]`, `start` in ms since 1970.

use std::sync::Arc;

use crate::batch::assembly::{Assembly, sample};
use crate::batch::decode::{DecodeError, Decoded, Header, Row};
use crate::batch::pack::{Reader, Writer};
use crate::reading::{Group, PointId, Stream, Value};

/// Encodes what gathered; `series` gives the store's number of a point.
#[must_use]
pub fn encode(assembly: &Assembly, mut series: impl FnMut(PointId) -> i64) -> Vec<u8> {
    let start = assembly.span().map_or(0, |(first, _)| first.0);
    let (ids, frames) = assembly.frames(start);
    let mut out = Writer::default();
    out.array(4);
    out.array(assembly.words.list.len());
    assembly.words.list.iter().for_each(|word| out.str(word));
    out.array(ids.len());
    for (point, kind) in ids {
        out.array(2);
        out.int(series(point));
        out.int(kind);
    }
    out.int(start);
    out.0.extend_from_slice(&frames.0);
    out.0
}

/// Decodes a chunk; `point` gives the point of a store's number, or `None` when the store does not
/// know it, which makes the chunk damaged. Readings of one instant come as one group.
///
/// # Errors
/// When the bytes are not a chunk; see [`DecodeError`].
pub fn decode(
    bytes: &[u8],
    stream: Stream,
    mut point: impl FnMut(i64) -> Option<PointId>,
) -> Result<Vec<Group>, DecodeError> {
    let (decoded, numbers) = Decoded::of_chunk(bytes)?;
    let unknown = || DecodeError::NotABatch("a series the store does not know");
    let points: Vec<PointId> =
        numbers.iter().map(|n| point(*n).ok_or_else(unknown)).collect::<Result<_, _>>()?;
    let mut rows: Vec<Row<'_>> = Vec::new();
    decoded.rows(|row| rows.push(row));
    rows.sort_by_key(|row| row.at);
    let groups = rows.chunk_by(|a, b| a.at == b.at).map(|rows| Group {
        stream,
        at: rows[0].at,
        points: rows.iter().map(|row| points[row.series]).collect::<Arc<[_]>>(),
        samples: rows.iter().map(|row| sample(row.value.map(Value::from), row.q)).collect(),
    });
    Ok(groups.collect())
}

impl Decoded {
    /// Reads a chunk; returns it with the store's number of each series.
    fn of_chunk(bytes: &[u8]) -> Result<(Self, Vec<i64>), DecodeError> {
        let malformed = |_| DecodeError::NotABatch("a chunk");
        let mut reader = Reader::new(bytes);
        if reader.array().map_err(malformed)? != 4 {
            return Err(DecodeError::NotABatch("a chunk"));
        }
        let len = reader.array().map_err(malformed)?;
        let words = (0..len).map(|_| reader.str().map(Arc::from));
        let words = words.collect::<Result<Vec<_>, _>>().map_err(malformed)?;
        let mut numbers = Vec::new();
        let mut kinds = Vec::new();
        for _ in 0..reader.array().map_err(malformed)? {
            if reader.array().map_err(malformed)? != 2 {
                return Err(DecodeError::NotABatch("a chunk"));
            }
            numbers.push(reader.int().map_err(malformed)?);
            kinds.push(reader.int().map_err(malformed)?);
        }
        let t0 = reader.int().map_err(malformed)?;
        let mut chunk = Self::empty(Header { t0, ..Header::default() }, words, &kinds);
        chunk.read_frames(&mut reader)?;
        Ok((chunk, numbers))
    }
}
