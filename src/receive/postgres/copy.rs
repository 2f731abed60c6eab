//! Readings as rows of COPY BINARY (PostgreSQL documentation, COPY, section "Binary Format"). Rows go
//! straight into one buffer; nothing is allocated for a value.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::batch::{Decoded, Row, RowValue};
use crate::reading::UnixMillis;
use crate::receive::arguments::Layout;

/// 2000-01-01 in ms since 1970: where PostgreSQL counts from.
const EPOCH_MS: i64 = 946_684_800_000;
/// Integers beyond it are not exact as double precision.
const EXACT_MAX: u64 = 1 << 53;
const NULL: i32 = -1;
/// Type numbers of array elements (pg_type.dat).
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const FLOAT8: u32 = 701;
/// What a chunk of COPY carries at least; libpq uses 8 KiB, larger ones save calls on both sides.
const CHUNK_BYTES: usize = 256 * 1024;

/// Encodes the readings of a slice and remembers the last of each series.
#[derive(Debug)]
pub(super) struct Rows {
    layout: Layout,
    out: BytesMut,
    begun: bool,
    /// By series; filled for the narrow layout only, whose table has no index to find it by.
    pub(super) last: HashMap<i32, Last>,
    /// One a series of the batch at hand, for the array layout; kept for its memory.
    columns: Vec<Column>,
}

/// A reading as `last_readings` holds it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Last {
    pub(super) at: i64,
    pub(super) value: Option<f64>,
    pub(super) text: Option<String>,
    pub(super) q: i16,
}

#[derive(Debug, Default)]
struct Column {
    times: Vec<i64>,
    values: Vec<Option<f64>>,
    texts: Vec<(usize, String)>,
    marks: Vec<(usize, u8)>,
}

/// A value in its two columns.
struct Cell<'a> {
    value: Option<f64>,
    text: Text<'a>,
}

enum Text<'a> {
    None,
    Is(&'a str),
    /// Digits of an integer that double precision rounds.
    Digits(i64),
}

impl Rows {
    pub(super) fn new(layout: Layout) -> Self {
        let out = BytesMut::new();
        Self { layout, out, begun: false, last: HashMap::new(), columns: Vec::new() }
    }

    /// Begins a new slice.
    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.begun = false;
        self.last.clear();
    }

    /// Appends a batch; `ids` are the numbers of its series.
    pub(super) fn append(&mut self, batch: &Decoded, ids: &[i32]) {
        if !self.begun {
            self.out.put_slice(b"PGCOPY\n\xff\r\n\0");
            self.out.put_u64(0);
            self.begun = true;
        }
        match self.layout {
            Layout::Narrow => self.narrow(batch, ids),
            Layout::Array => self.array(batch, ids),
        }
    }

    /// Appends the end of the data.
    pub(super) fn finish(&mut self) {
        self.out.put_i16(-1);
    }

    /// Takes a chunk to send, or all that is left when `rest`.
    pub(super) fn chunk(&mut self, rest: bool) -> Option<Bytes> {
        if self.out.len() > CHUNK_BYTES {
            Some(self.out.split_to(CHUNK_BYTES).freeze())
        } else if rest && !self.out.is_empty() {
            Some(self.out.split().freeze())
        } else {
            None
        }
    }

    fn narrow(&mut self, batch: &Decoded, ids: &[i32]) {
        let Self { out, last, .. } = self;
        // Rows come column by column: the newest of a run is compared once, at its end.
        let mut run: Option<Row<'_>> = None;
        batch.rows(|row| {
            match &mut run {
                Some(before) if before.series == row.series => {
                    if row.at >= before.at {
                        *before = row;
                    }
                }
                _ => {
                    if let Some(before) = run.replace(row) {
                        remember(last, batch, ids, &before);
                    }
                }
            }
            let cell = cell(batch, &row);
            narrow_row(out, ids[row.series], &row, &cell);
        });
        if let Some(before) = run {
            remember(last, batch, ids, &before);
        }
    }

    fn array(&mut self, batch: &Decoded, ids: &[i32]) {
        let Self { out, columns, .. } = self;
        if columns.len() < ids.len() {
            columns.resize_with(ids.len(), Column::default);
        }
        batch.rows(|row| columns[row.series].push(&cell(batch, &row), &row));
        for (column, id) in columns.iter_mut().zip(ids) {
            column.write(*id, out);
            column.clear();
        }
    }
}

fn remember(last: &mut HashMap<i32, Last>, batch: &Decoded, ids: &[i32], row: &Row<'_>) {
    let id = ids[row.series];
    if last.get(&id).is_none_or(|before| before.at <= row.at.0) {
        let cell = cell(batch, row);
        let text = match cell.text {
            Text::None => None,
            Text::Is(text) => Some(without_nul(text).into_owned()),
            Text::Digits(n) => Some(n.to_string()),
        };
        last.insert(id, Last { at: row.at.0, value: cell.value, text, q: row.q.into() });
    }
}

fn cell<'a>(batch: &Decoded, row: &Row<'a>) -> Cell<'a> {
    let (value, text) = match row.value {
        None => (None, Text::None),
        Some(RowValue::Bool(flag)) => {
            let word = if flag { "true" } else { "false" };
            let text = if batch.is_flag(row.series) { Text::None } else { Text::Is(word) };
            (Some(f64::from(u8::from(flag))), text)
        }
        Some(RowValue::Decimal(decimal)) => {
            let wide = decimal.places == 0 && decimal.digits.unsigned_abs() > EXACT_MAX;
            let text = if wide { Text::Digits(decimal.digits) } else { Text::None };
            (Some(decimal.to_f64()), text)
        }
        Some(RowValue::Float(number)) => (Some(number), Text::None),
        Some(RowValue::Text(text)) => (None, Text::Is(text)),
    };
    Cell { value, text }
}

#[inline]
fn narrow_row(out: &mut BytesMut, id: i32, row: &Row<'_>, cell: &Cell<'_>) {
    if let (Some(value), Text::None) = (cell.value, &cell.text) {
        // Nearly all rows: one copy of fixed length.
        let mut plain = [0; 48];
        plain[..2].copy_from_slice(&5_i16.to_be_bytes());
        plain[2..6].copy_from_slice(&4_i32.to_be_bytes());
        plain[6..10].copy_from_slice(&id.to_be_bytes());
        plain[10..14].copy_from_slice(&8_i32.to_be_bytes());
        plain[14..22].copy_from_slice(&micros(row.at).to_be_bytes());
        plain[22..26].copy_from_slice(&8_i32.to_be_bytes());
        plain[26..34].copy_from_slice(&value.to_be_bytes());
        plain[34..38].copy_from_slice(&NULL.to_be_bytes());
        plain[38..42].copy_from_slice(&2_i32.to_be_bytes());
        plain[42..44].copy_from_slice(&i16::from(row.q).to_be_bytes());
        out.put_slice(&plain[..44]);
        return;
    }
    out.put_i16(5);
    out.put_i32(4);
    out.put_i32(id);
    out.put_i32(8);
    out.put_i64(micros(row.at));
    put_number(out, cell.value);
    match cell.text {
        Text::None => out.put_i32(NULL),
        Text::Is(text) => put_text(out, &without_nul(text)),
        Text::Digits(n) => put_text(out, &n.to_string()),
    }
    out.put_i32(2);
    out.put_i16(row.q.into());
}

impl Column {
    fn push(&mut self, cell: &Cell<'_>, row: &Row<'_>) {
        let at = self.times.len();
        self.times.push(row.at.0);
        self.values.push(cell.value);
        match cell.text {
            Text::None => {}
            Text::Is(text) => self.texts.push((at, without_nul(text).into_owned())),
            Text::Digits(n) => self.texts.push((at, n.to_string())),
        }
        if row.q != 0 {
            self.marks.push((at, row.q));
        }
    }

    fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.texts.clear();
        self.marks.clear();
    }

    /// Writes rows whose times each fit 32 bits of milliseconds, some 24 days; a clock that was set
    /// within a batch makes more than one.
    fn write(&self, id: i32, out: &mut BytesMut) {
        let mut from = 0;
        while from < self.times.len() {
            let (mut first, mut last) = (self.times[from], self.times[from]);
            let mut to = from;
            while let Some(at) = self.times.get(to) {
                let (lower, upper) = (first.min(*at), last.max(*at));
                if i32::try_from(upper - lower).is_err() {
                    break;
                }
                (first, last) = (lower, upper);
                to += 1;
            }
            self.write_part(id, from..to, (first, last), out);
            from = to;
        }
    }

    fn write_part(
        &self,
        id: i32,
        part: std::ops::Range<usize>,
        (first, last): (i64, i64),
        out: &mut BytesMut,
    ) {
        out.put_i16(7);
        out.put_i32(4);
        out.put_i32(id);
        for at in [first, last] {
            out.put_i32(8);
            out.put_i64(micros(UnixMillis(at)));
        }
        let count = part.len();
        field(out, |out| {
            array(out, INT4, count, false);
            for at in &self.times[part.clone()] {
                out.put_i32(4);
                // The range was measured by the caller.
                out.put_i32(i32::try_from(at - first).unwrap_or(i32::MAX));
            }
        });
        field(out, |out| {
            let values = &self.values[part.clone()];
            array(out, FLOAT8, count, values.contains(&None));
            for value in values {
                put_number(out, *value);
            }
        });
        let mut texts = self.texts.iter().filter(|(at, _)| part.contains(at)).peekable();
        if texts.peek().is_none() {
            out.put_i32(NULL);
        } else {
            field(out, |out| {
                array(out, TEXT, count, true);
                for at in part.clone() {
                    match texts.next_if(|(of, _)| *of == at) {
                        Some((_, text)) => put_text(out, text),
                        None => out.put_i32(NULL),
                    }
                }
            });
        }
        let mut marks = self.marks.iter().filter(|(at, _)| part.contains(at)).peekable();
        if marks.peek().is_none() {
            out.put_i32(NULL);
        } else {
            field(out, |out| {
                array(out, INT2, count, false);
                for at in part.clone() {
                    out.put_i32(2);
                    out.put_i16(marks.next_if(|(of, _)| *of == at).map_or(0, |(_, q)| (*q).into()));
                }
            });
        }
    }
}

/// Writes a field whose length is known when it is written.
fn field(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let head = out.len();
    out.put_i32(0);
    write(out);
    // At most a million readings of 12 bytes, or the texts of one batch: far below 2^31.
    let len = i32::try_from(out.len() - head - 4).unwrap_or(i32::MAX);
    out[head..head + 4].copy_from_slice(&len.to_be_bytes());
}

/// Writes the head of an array of one dimension that counts from 1 (array_recv).
fn array(out: &mut BytesMut, element: u32, count: usize, nulls: bool) {
    out.put_i32(1);
    out.put_i32(nulls.into());
    out.put_u32(element);
    out.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
    out.put_i32(1);
}

fn put_number(out: &mut BytesMut, value: Option<f64>) {
    match value {
        Some(value) => {
            out.put_i32(8);
            out.put_f64(value);
        }
        None => out.put_i32(NULL),
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i32(i32::try_from(text.len()).unwrap_or(i32::MAX));
    out.put_slice(text.as_bytes());
}

/// PostgreSQL's text cannot hold the character zero; its place is marked.
fn without_nul(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// Returns microseconds since 2000; the checks have bounded the time.
fn micros(at: UnixMillis) -> i64 {
    (at.0 - EPOCH_MS) * 1000
}

/// Returns a time as the driver takes it.
pub(super) fn system_time(millis: i64) -> SystemTime {
    let distance = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}
