//! From an assembly to the wire: body first, coded, then the envelope around it.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

use crate::batch::Coding;
use crate::batch::assembly::{Assembly, Mark, Table, Words};
use crate::batch::column::Column;
use crate::batch::pack::Writer;
use crate::reading::{PointId, Points, Stream};

/// A grid costs about six bytes more than an event frame to open, and one byte less a reading.
const GRID_ROWS_MIN_FOR_ONE_COLUMN: usize = 6;
/// What an envelope takes at most: the gateway's name, and 160 bytes of keys and numbers.
const ENVELOPE_BYTES_MAX: usize = crate::limits::NAME_BYTES_MAX + 160;
/// zlib level: 6 takes 30 % longer than 3 here and saves 4 % more.
const ZLIB_LEVEL: u32 = 6;
/// zstd level with the same trade.
const ZSTD_LEVEL: i32 = 3;

/// Everything around a body: who sends it and where it stands in the sequence (DESIGN section 4).
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// Gateway name, equal to the topic level.
    pub gateway: &'a str,
    /// Unix seconds when the store was created.
    pub epoch: u64,
    /// Which sequence.
    pub stream: Stream,
    /// From 1, without holes.
    pub sequence: u64,
    /// Lowest sequence number still held.
    pub lowest_held: u64,
    /// Readings dropped by quota since the epoch began.
    pub dropped: u64,
    /// What the times rest on: a [`crate::batch::Timing`].
    pub clock: u8,
    /// Short hash of the effective configuration.
    pub config_hash: &'a str,
}

/// A coded body that waits for its envelope.
#[derive(Debug, Clone)]
pub struct Body {
    bytes: Vec<u8>,
    coding: Coding,
    readings: usize,
    first: i64,
    last: i64,
}

impl Assembly {
    /// Encodes everything that gathered, as one body, or as several in the order of time when one
    /// would pass `bytes_max` with its envelope.
    #[must_use]
    pub fn into_bodies(self, points: &Points, coding: Coding, bytes_max: usize) -> Vec<Body> {
        let body = self.body(points, coding);
        if body.bytes.len() + ENVELOPE_BYTES_MAX <= bytes_max || self.readings() < 2 {
            return vec![body];
        }
        let mut groups = self.into_groups(Stream::Data);
        let (mut early, mut late) = (Self::default(), Self::default());
        if let [group] = groups.as_slice() {
            // All of one instant: the list of points is cut instead.
            let (mut head, mut tail) = (group.clone(), group.clone());
            let half = group.points.len() / 2;
            (head.points, tail.points) = (group.points[..half].into(), group.points[half..].into());
            tail.samples = head.samples.split_off(half);
            groups = vec![head, tail];
        }
        let half = groups.len() / 2;
        groups[..half].iter().for_each(|group| early.push(group));
        groups[half..].iter().for_each(|group| late.push(group));
        let mut bodies = early.into_bodies(points, coding, bytes_max);
        bodies.extend(late.into_bodies(points, coding, bytes_max));
        bodies
    }

    fn body(&self, points: &Points, coding: Coding) -> Body {
        let mut names = Names { words: Words::default(), points };
        for text in &self.words.list {
            names.words.intern(text);
        }
        let mut out = Writer::default();
        let (first, last) = self.span().map_or((0, 0), |(first, last)| (first.0, last.0));
        let (series, frames) = self.frames(first);
        let mut rows = Writer::default();
        rows.array(series.len());
        series.iter().for_each(|series| names.write(series, &mut rows));
        out.map(3);
        out.str("w");
        out.array(names.words.list.len());
        names.words.list.iter().for_each(|word| out.str(word));
        out.str("s");
        out.0.extend_from_slice(&rows.0);
        out.str("f");
        out.0.extend_from_slice(&frames.0);
        Body { bytes: coding.code(out.0), coding, readings: self.readings(), first, last }
    }

    /// Returns the series in the order of their ids, and the list of frames with times from `start`.
    pub(super) fn frames(&self, start: i64) -> (Vec<(PointId, i64)>, Writer) {
        let mut ids = Ids::default();
        let mut out = Writer::default();
        let (grids, lists): (Vec<&Table>, Vec<&Table>) = self.tables.iter().partition(|table| {
            table.times.len() >= 2
                && (table.columns.len() >= 2 || table.times.len() >= GRID_ROWS_MIN_FOR_ONE_COLUMN)
        });
        out.array(grids.len() + usize::from(!lists.is_empty()));
        for table in grids {
            table.write(&mut ids, start, &self.words.list, &mut out);
        }
        if !lists.is_empty() {
            EventFrame::of(&lists, &self.words.list).write(&mut ids, start, &mut out);
        }
        (ids.list, out)
    }
}

impl Table {
    /// Returns how many readings it holds.
    fn len(&self) -> usize {
        self.times.len() * self.columns.len()
    }

    /// Returns the quality of a cell that is not plain good.
    fn mark(&self, row: usize, column: usize) -> Option<u8> {
        let found = self.marks.binary_search_by_key(&(row, column), |m| (m.row, m.column));
        found.ok().map(|index| self.marks[index].q)
    }

    fn write(&self, ids: &mut Ids, start: i64, words: &[Arc<str>], out: &mut Writer) {
        out.array(if self.marks.is_empty() { 4 } else { 5 });
        out.int(0);
        out.array(self.times.len());
        let (mut last, mut step) = (start, 0);
        for (row, at) in self.times.iter().enumerate() {
            let difference = at - last;
            out.int(if row < 2 { difference } else { difference - step });
            (last, step) = (*at, difference);
        }
        out.array(self.columns.len());
        for (point, column) in self.points.iter().zip(&self.columns) {
            out.int(ids.of(*point, column.kind()));
        }
        out.array(self.columns.len());
        self.columns.iter().for_each(|column| column.write(out, words));
        if !self.marks.is_empty() {
            out.array(self.marks.len());
            for Mark { row, column, q } in &self.marks {
                out.array(3);
                out.uint(*column as u64);
                out.uint(*row as u64);
                out.uint(u64::from(*q));
            }
        }
    }
}

/// Readings without a shared time axis, as one list in time order.
struct EventFrame<'a> {
    /// Time and place of each reading: index into `columns`, row within.
    rows: Vec<(i64, usize, usize)>,
    columns: Vec<(PointId, Column)>,
    marks: Vec<(usize, u8)>,
    words: &'a [Arc<str>],
}

impl<'a> EventFrame<'a> {
    fn of(tables: &[&Table], words: &'a [Arc<str>]) -> Self {
        let mut cells = Vec::with_capacity(tables.iter().map(|table| table.len()).sum());
        for (index, table) in tables.iter().enumerate() {
            for (row, at) in table.times.iter().enumerate() {
                cells.extend((0..table.columns.len()).map(|column| (*at, index, row, column)));
            }
        }
        cells.sort_by_key(|cell| cell.0);
        let index: HashMap<&str, i64> = (0..).zip(words).map(|(n, w)| (w.as_ref(), n)).collect();
        let rows = Vec::with_capacity(cells.len());
        let mut frame = Self { rows, columns: Vec::new(), marks: Vec::new(), words };
        let mut places = ByPoint::default();
        for (row, (at, table, table_row, column)) in cells.into_iter().enumerate() {
            let table = tables[table];
            let value = table.columns[column].value(table_row, words);
            let q = table.mark(table_row, column);
            let point = table.points[column];
            let (place, rows_before) = places.of(point).get_or_insert_with(|| {
                frame.columns.push((point, Column::new()));
                (frame.columns.len() - 1, 0_usize)
            });
            let column = &mut frame.columns[*place].1;
            match value {
                Some(value) if q.is_none_or(|q| q < super::NO_VALUE_FROM) => {
                    column.push(&value, |text| index.get(text).copied().unwrap_or(0));
                }
                _ => {
                    column.push_none();
                }
            }
            frame.rows.push((at, *place, *rows_before));
            *rows_before += 1;
            frame.marks.extend(q.map(|q| (row, q)));
        }
        frame
    }

    fn write(&self, ids: &mut Ids, start: i64, out: &mut Writer) {
        let ids: Vec<i64> = self.columns.iter().map(|(p, c)| ids.of(*p, c.kind())).collect();
        out.array(if self.marks.is_empty() { 4 } else { 5 });
        out.int(1);
        out.array(self.rows.len());
        let mut last = start;
        for (at, ..) in &self.rows {
            out.int(at - last);
            last = *at;
        }
        out.array(self.rows.len());
        self.rows.iter().for_each(|(_, column, _)| out.int(ids[*column]));
        out.array(self.rows.len());
        for (_, column, row) in &self.rows {
            self.columns[*column].1.write_row(*row, out, self.words);
        }
        if !self.marks.is_empty() {
            out.array(self.marks.len());
            for (row, q) in &self.marks {
                out.array(2);
                out.uint(*row as u64);
                out.uint(u64::from(*q));
            }
        }
    }
}

/// Something of each point. Ids are dense, so a list finds it without hashing.
struct ByPoint<T>(Vec<Option<T>>);

impl<T> Default for ByPoint<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByPoint<T> {
    fn of(&mut self, point: PointId) -> &mut Option<T> {
        let index = point.0 as usize;
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        &mut self.0[index]
    }
}

/// Series ids in the order of first use. A point whose kind differs between frames is two series.
#[derive(Default)]
struct Ids {
    list: Vec<(PointId, i64)>,
    /// The first series of each point.
    first: ByPoint<u32>,
    /// The others, which are rare.
    others: HashMap<(PointId, i64), i64>,
}

impl Ids {
    fn of(&mut self, point: PointId, kind: i64) -> i64 {
        let next = self.list.len();
        let first = self.first.of(point);
        let known = match first {
            None => {
                *first = u32::try_from(next).ok();
                None
            }
            Some(id) if self.list[*id as usize].1 == kind => return i64::from(*id),
            Some(_) => self.others.get(&(point, kind)).copied(),
        };
        known.unwrap_or_else(|| {
            let id = i64::try_from(next).unwrap_or(i64::MAX);
            if *first != u32::try_from(next).ok() {
                self.others.insert((point, kind), id);
            }
            self.list.push((point, kind));
            id
        })
    }
}

/// The words of a body: text values first, then names.
struct Names<'a> {
    words: Words,
    points: &'a Points,
}

impl Names<'_> {
    fn write(&mut self, (point, kind): &(PointId, i64), out: &mut Writer) {
        let info = self.points.info(*point);
        out.array(4);
        out.int(self.words.intern(&info.device));
        out.int(self.words.intern(&info.point));
        out.int(self.words.intern(&info.unit));
        out.int(*kind);
    }
}

impl Body {
    /// Returns how many readings it holds.
    #[must_use]
    pub fn readings(&self) -> usize {
        self.readings
    }

    /// Returns the first and last time, milliseconds since 1970.
    #[must_use]
    pub fn span(&self) -> (i64, i64) {
        (self.first, self.last)
    }

    /// Moves all its times by `by` milliseconds: frame times count from the first.
    pub fn shift(&mut self, by: i64) {
        self.first = self.first.saturating_add(by);
        self.last = self.last.saturating_add(by);
    }

    /// Puts the envelope around it: these are the bytes on disk and on the wire.
    #[must_use]
    pub fn seal(&self, envelope: &Envelope<'_>) -> Vec<u8> {
        self.seal_at(envelope, self.first)
    }

    /// As [`Body::seal`], with its readings moved in time so that the first stands at `first`, ms
    /// since 1970: times in a body count from the envelope's. For those who make readings up.
    #[must_use]
    pub fn seal_at(&self, envelope: &Envelope<'_>, first: i64) -> Vec<u8> {
        let data = envelope.stream == Stream::Data;
        let mut out = Writer(Vec::with_capacity(self.bytes.len() + 128));
        out.map(if data { 13 } else { 14 });
        out.str("v");
        out.uint(1);
        out.str("gw");
        out.str(envelope.gateway);
        out.str("ep");
        out.uint(envelope.epoch);
        if !data {
            out.str("st");
            out.str(envelope.stream.name());
        }
        out.str("seq");
        out.uint(envelope.sequence);
        out.str("lo");
        out.uint(envelope.lowest_held);
        out.str("n");
        out.uint(self.readings as u64);
        out.str("dr");
        out.uint(envelope.dropped);
        out.str("t0");
        out.int(first);
        out.str("t1");
        out.int(first + (self.last - self.first));
        out.str("ck");
        out.uint(u64::from(envelope.clock));
        out.str("cv");
        out.str(envelope.config_hash);
        out.str("z");
        out.uint(self.coding as u64);
        out.str("b");
        match self.coding {
            Coding::Plain => out.0.extend_from_slice(&self.bytes),
            Coding::Zlib | Coding::Zstd => out.bin(&self.bytes),
        }
        out.0
    }
}

impl Coding {
    /// Codes a body.
    fn code(self, body: Vec<u8>) -> Vec<u8> {
        let coded = match self {
            Self::Plain => return body,
            Self::Zlib => {
                let level = flate2::Compression::new(ZLIB_LEVEL);
                let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                coder.write_all(&body).and_then(|()| coder.finish())
            }
            Self::Zstd => zstd::bulk::compress(&body, ZSTD_LEVEL),
        };
        #[expect(clippy::expect_used, reason = "both coders write to memory and cannot fail there")]
        coded.expect("compressing in memory")
    }
}
