//! Frames off the wire, one kind a function. What a later version adds behind a known frame is
//! passed over; a frame or a series of an unknown kind is skipped and counted.

use std::ops::RangeInclusive;

use crate::batch::decode::{Cell, Cells, DecodeError, Decoded, Frame, at};
use crate::batch::kind;
use crate::batch::pack::{Reader, Scalar};
use crate::limits;
use crate::reading::Decimal;

impl Decoded {
    pub(super) fn read_frames(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let count = reader.array().map_err(at("frames"))?;
        if count > limits::BATCH_PARTS_MAX {
            return Err(DecodeError::TooLarge);
        }
        // The last value of every series in an event frame; each frame leaves zeros behind, since a
        // fresh list a frame would cost frames times series.
        let mut last = vec![0_i64; self.series.len()];
        for _ in 0..count {
            // The shape of an unknown frame is unknown: only its first element may be looked at.
            let mut inside = reader.clone();
            let known = inside.array().and_then(|len| Ok((len, inside.int()?)));
            match known {
                Ok((len @ 4.., 0)) => self.read_grid(&mut inside, len)?,
                Ok((len @ 4.., 1)) => self.read_list(&mut inside, len, &mut last)?,
                Ok((1.., 0 | 1)) => return Err(DecodeError::NotABatch("a frame")),
                _ => {
                    reader.skip().map_err(at("a frame"))?;
                    self.unknown_frames += 1;
                    continue;
                }
            }
            *reader = inside;
        }
        Ok(())
    }

    fn read_grid(&mut self, reader: &mut Reader<'_>, len: usize) -> Result<(), DecodeError> {
        let mut times = Vec::new();
        let (mut now, mut step) = (self.header.t0, 0_i64);
        let rows = reader.array().map_err(at("times"))?;
        self.fits(rows)?;
        for row in 0..rows {
            let n = reader.int().map_err(at("times"))?;
            step = if row < 2 { n } else { sum(step, n)? };
            now = time(now, step)?;
            times.push(now);
        }
        let ids = self.read_ids(reader)?;
        if reader.array().map_err(at("columns"))? != ids.len() {
            return Err(DecodeError::NotABatch("columns"));
        }
        self.claim(times.len().saturating_mul(ids.len()))?;
        let mut columns = Vec::with_capacity(ids.len());
        for id in &ids {
            let kind = self.series[*id].kind;
            let cells = read_column(reader, kind, times.len(), self.words.len())?;
            columns.push((*id, cells));
        }
        let marks = read_marks(reader, len, times.len() * ids.len())?;
        let mut places = Vec::with_capacity(marks.len());
        for [column, row, q] in marks {
            if column >= ids.len() || row >= times.len() {
                return Err(DecodeError::NotABatch("marks"));
            }
            places.push((column, row, quality(q)?));
        }
        places.sort_unstable();
        let unknown = |column: &(usize, Cells)| !is_known(self.series[column.0].kind);
        let skipped = columns.iter().filter(|column| unknown(column)).count();
        if skipped > 0 {
            self.unknown_readings += (skipped * times.len()) as u64;
            let kept: Vec<usize> =
                (0..columns.len()).filter(|at| !unknown(&columns[*at])).collect();
            places.retain_mut(|place| {
                kept.binary_search(&place.0).map(|column| place.0 = column).is_ok()
            });
            columns.retain(|column| is_known(self.series[column.0].kind));
        }
        if !times.is_empty() && !columns.is_empty() {
            self.frames.push(Frame::Grid(times, columns, places));
        }
        Ok(())
    }

    fn read_list(
        &mut self,
        reader: &mut Reader<'_>,
        len: usize,
        last: &mut [i64],
    ) -> Result<(), DecodeError> {
        let count = reader.array().map_err(at("times"))?;
        self.claim(count)?;
        let mut now = self.header.t0;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            now = time(now, reader.int().map_err(at("times"))?)?;
            times.push(now);
        }
        let ids = self.read_ids(reader)?;
        if ids.len() != count || reader.array().map_err(at("values"))? != count {
            return Err(DecodeError::NotABatch("values"));
        }
        let mut rows = Vec::with_capacity(count);
        let mut places = vec![None; count];
        for (row, (at_time, &id)) in times.into_iter().zip(&ids).enumerate() {
            let kind = self.series[id].kind;
            if !is_known(kind) {
                reader.skip().map_err(at("values"))?;
                self.unknown_readings += 1;
                continue;
            }
            let cell = if kind == kind::RAW {
                Cell::from(reader.scalar().map_err(at("values"))?)
            } else {
                last[id] = last[id].saturating_add(reader.int().map_err(at("values"))?);
                if !range(kind, self.words.len()).contains(&last[id]) {
                    return Err(out_of_range(kind));
                }
                Cell::Int(last[id])
            };
            places[row] = Some(rows.len());
            rows.push((at_time, id, cell));
        }
        ids.iter().for_each(|id| last[*id] = 0);
        let mut marks = Vec::new();
        for [row, q] in read_marks(reader, len, count)? {
            let place = places.get(row).ok_or(DecodeError::NotABatch("marks"))?;
            marks.extend(place.map(|place| Ok((place, quality(q)?))).transpose()?);
        }
        marks.sort_unstable();
        if !rows.is_empty() {
            self.frames.push(Frame::List(rows, marks));
        }
        Ok(())
    }

    /// Holds the readings of one more frame against the limit.
    fn claim(&mut self, readings: usize) -> Result<(), DecodeError> {
        self.fits(readings)?;
        self.claimed += readings;
        Ok(())
    }

    fn fits(&self, readings: usize) -> Result<(), DecodeError> {
        if self.claimed.saturating_add(readings) > limits::BATCH_DECODED_READINGS_MAX {
            return Err(DecodeError::TooLarge);
        }
        Ok(())
    }

    fn read_ids(&self, reader: &mut Reader<'_>) -> Result<Vec<usize>, DecodeError> {
        let len = reader.array().map_err(at("ids"))?;
        self.fits(len)?;
        let mut ids = Vec::with_capacity(len);
        for _ in 0..len {
            let id = reader.uint().map_err(at("ids"))?;
            let id = usize::try_from(id).ok().filter(|id| *id < self.series.len());
            ids.push(id.ok_or(DecodeError::NotABatch("an id names a series that is not there"))?);
        }
        Ok(ids)
    }
}

fn read_column(
    reader: &mut Reader<'_>,
    kind: i64,
    rows: usize,
    words: usize,
) -> Result<Cells, DecodeError> {
    if !is_known(kind) {
        reader.skip().map_err(at("a column"))?;
        return Ok(Cells::Ints(Vec::new()));
    }
    let len = reader.array().map_err(at("a column"))?;
    if len > rows || (len == 0 && rows > 0) {
        return Err(DecodeError::NotABatch("a column"));
    }
    if kind == kind::RAW {
        // Of this length exactly: a list that grows by doubling is four times a lonely cell.
        let mut cells = Vec::with_capacity(len);
        for _ in 0..len {
            cells.push(Cell::from(reader.scalar().map_err(at("a column"))?));
        }
        return Ok(Cells::Raw(cells));
    }
    let mut cells = Vec::with_capacity(len);
    let range = range(kind, words);
    let mut now = 0_i64;
    for _ in 0..len {
        now = now.saturating_add(reader.int().map_err(at("a column"))?);
        if !range.contains(&now) {
            return Err(out_of_range(kind));
        }
        cells.push(now);
    }
    Ok(Cells::Ints(cells))
}

/// Reads the marks, when there are any, at most one a cell, and passes over what a later version
/// put behind them.
fn read_marks<const N: usize>(
    reader: &mut Reader<'_>,
    len: usize,
    cells: usize,
) -> Result<Vec<[usize; N]>, DecodeError> {
    let mut marks = Vec::new();
    if len > 4 {
        let count = reader.array().map_err(at("marks"))?;
        if count > cells {
            return Err(DecodeError::NotABatch("more marks than readings"));
        }
        for _ in 0..count {
            if reader.array().map_err(at("marks"))? != N {
                return Err(DecodeError::NotABatch("marks"));
            }
            let mut mark = [0; N];
            for part in &mut mark {
                let n = reader.uint().map_err(at("marks"))?;
                *part = usize::try_from(n).map_err(|_| DecodeError::NotABatch("marks"))?;
            }
            marks.push(mark);
        }
    }
    for _ in 5..len {
        reader.skip().map_err(at("a frame"))?;
    }
    Ok(marks)
}

fn quality(q: usize) -> Result<u8, DecodeError> {
    u8::try_from(q).map_err(|_| DecodeError::NotABatch("marks"))
}

fn is_known(kind: i64) -> bool {
    (kind::WORD..=i64::from(Decimal::PLACES_MAX)).contains(&kind)
}

/// Adds a difference to a time. From 2^53 ms on, which is the year 287,396, a decoder with binary64
/// only would read another time; and differences of what lies within cannot overflow, whoever
/// encodes it again.
fn time(at: i64, difference: i64) -> Result<i64, DecodeError> {
    let time = sum(at, difference)?;
    if is_exact(time) { Ok(time) } else { Err(DecodeError::NotABatch("a time of 2^53 ms or more")) }
}

pub(super) fn is_exact(n: i64) -> bool {
    n.unsigned_abs() < Decimal::DIGITS_LIMIT.unsigned_abs()
}

fn sum(a: i64, b: i64) -> Result<i64, DecodeError> {
    a.checked_add(b).ok_or(DecodeError::NotABatch("a sum beyond 64 bits"))
}

/// Returns the numbers that a series can carry: a word must be there, and digits from 2^53 on would
/// be another number in decoders that have binary64 only. Sums may saturate: they then lie outside.
fn range(kind: i64, words: usize) -> RangeInclusive<i64> {
    match kind {
        kind::WORD => 0..=i64::try_from(words).unwrap_or(i64::MAX) - 1,
        _ => 1 - Decimal::DIGITS_LIMIT..=Decimal::DIGITS_LIMIT - 1,
    }
}

fn out_of_range(kind: i64) -> DecodeError {
    DecodeError::NotABatch(match kind {
        kind::WORD => "a value names a word that is not there",
        _ => "a number of 2^53 or more",
    })
}

impl From<Scalar<'_>> for Cell {
    fn from(scalar: Scalar<'_>) -> Self {
        match scalar {
            Scalar::Nil => Self::Nil,
            Scalar::Bool(flag) => Self::Bool(flag),
            Scalar::Int(n) => Self::Int(n),
            Scalar::Float(number) => Self::Float(number),
            Scalar::Text(text) => Self::Text(text.into()),
        }
    }
}
