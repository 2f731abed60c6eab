//! Readings on their way into a batch, gathered by the list of points they came with: every poll of
//! a device lands in the same table, so that its columns are ready for the wire.

use std::collections::HashMap;
use std::sync::Arc;

use crate::batch::column::Column;
use crate::reading::{Group, NoData, PointId, Quality, Sample, UnixMillis};

/// Readings that will make up a batch or a chunk. All of one stream; the store keeps one a stream.
#[derive(Debug, Default)]
pub struct Assembly {
    pub(super) tables: Vec<Table>,
    pub(super) words: Words,
    /// Table of each list of points.
    by_points: HashMap<Arc<[PointId]>, usize>,
    /// The list and table of the last group: polls of one device often follow one another.
    latest: Option<(Arc<[PointId]>, usize)>,
    readings: usize,
    bytes: usize,
    times: Option<(i64, i64)>,
}

/// Groups that came with the same list of points: a row each.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) points: Arc<[PointId]>,
    /// Milliseconds since 1970, in the order of arrival.
    pub(super) times: Vec<i64>,
    pub(super) columns: Vec<Column>,
    pub(super) marks: Vec<Mark>,
}

/// A reading that is not plain good; in a table, ordered by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) q: u8,
}

/// Text values, every one once.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) list: Vec<Arc<str>>,
    index: HashMap<Arc<str>, i64>,
    bytes: usize,
}

/// Bytes of an envelope with long names: a little more than it ever takes.
const ENVELOPE_BYTES: usize = 256;
/// What stands for a sample that a group does not have.
const MISSING: Sample = Sample { value: Err(NoData::Malformed), quality: Quality::Good };
/// Bytes a series takes beside its point's name, which stands once among the words.
const SERIES_BYTES: usize = 24;

impl Assembly {
    /// Adds a group. A point without a sample, which no source should send, counts as malformed: a
    /// short column would end in repeated values that nobody measured.
    pub fn push(&mut self, group: &Group) {
        let table = self.table_for(&group.points);
        let table = &mut self.tables[table];
        let row = table.times.len();
        table.times.push(group.at.0);
        let words = &mut self.words;
        let samples = group.samples.iter().chain(std::iter::repeat(&MISSING));
        for (column, (cells, sample)) in table.columns.iter_mut().zip(samples).enumerate() {
            self.bytes += match &sample.value {
                Ok(value) => cells.push(value, |text| words.intern(text)),
                Err(_) => cells.push_none(),
            };
            let q = sample.mark();
            if q != 0 {
                table.marks.push(Mark { row, column, q });
                self.bytes += 5;
            }
        }
        self.bytes += 2;
        self.readings += group.points.len();
        let (first, last) = self.times.unwrap_or((group.at.0, group.at.0));
        self.times = Some((first.min(group.at.0), last.max(group.at.0)));
    }

    fn table_for(&mut self, points: &Arc<[PointId]>) -> usize {
        if let Some((latest, table)) = &self.latest
            && Arc::ptr_eq(latest, points)
        {
            return *table;
        }
        let table = *self.by_points.entry(Arc::clone(points)).or_insert_with(|| {
            self.tables.push(Table {
                points: Arc::clone(points),
                times: Vec::new(),
                columns: vec![Column::new(); points.len()],
                marks: Vec::new(),
            });
            self.bytes += SERIES_BYTES * points.len();
            self.tables.len() - 1
        });
        self.latest = Some((Arc::clone(points), table));
        table
    }

    /// Returns how many readings have gathered.
    #[must_use]
    pub fn readings(&self) -> usize {
        self.readings
    }

    /// Returns whether nothing has gathered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.readings == 0
    }

    /// Returns about how many bytes the batch would take uncompressed, envelope included.
    #[must_use]
    pub fn bytes_estimate(&self) -> usize {
        ENVELOPE_BYTES + self.bytes + self.words.bytes
    }

    /// Returns the first and last time in milliseconds since 1970.
    #[must_use]
    pub fn span(&self) -> Option<(UnixMillis, UnixMillis)> {
        self.times.map(|(first, last)| (UnixMillis(first), UnixMillis(last)))
    }

    /// Takes the readings apart again, in the order of their times.
    #[must_use]
    pub fn into_groups(self, stream: crate::reading::Stream) -> Vec<Group> {
        let mut groups = Vec::new();
        for table in &self.tables {
            let mut marks = table.marks.iter().peekable();
            for (row, at) in table.times.iter().enumerate() {
                let samples = table.columns.iter().enumerate().map(|(column, cells)| {
                    let q = marks.next_if(|m| (m.row, m.column) == (row, column)).map(|m| m.q);
                    sample(cells.value(row, &self.words.list), q.unwrap_or(0))
                });
                groups.push(Group {
                    stream,
                    at: UnixMillis(*at),
                    samples: samples.collect(),
                    points: Arc::clone(&table.points),
                });
            }
        }
        groups.sort_by_key(|group| group.at);
        groups
    }
}

impl Words {
    /// Returns the index of a word, giving it one on first sight.
    pub(super) fn intern(&mut self, text: &str) -> i64 {
        if let Some(index) = self.index.get(text) {
            return *index;
        }
        let index = i64::try_from(self.list.len()).unwrap_or(i64::MAX);
        let text: Arc<str> = text.into();
        self.bytes += text.len() + 3;
        self.list.push(Arc::clone(&text));
        self.index.insert(text, index);
        index
    }
}

/// Puts a value and a wire quality code back together.
pub(super) fn sample(value: Option<crate::reading::Value>, q: u8) -> Sample {
    match (NoData::of_mark(q), value) {
        (None, Some(value)) => {
            Sample { value: Ok(value), quality: Quality::of_mark(q).unwrap_or(Quality::Uncertain) }
        }
        (why, _) => Sample::none(why.unwrap_or(NoData::Malformed)),
    }
}
