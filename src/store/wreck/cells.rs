//! Rows as they stand in a page (SQLite file format, sections 1.6 and 2.1), found without asking
//! the tree above them: a cell is taken where its bytes say that one begins, and believed when its
//! checksum holds.

use memchr::memmem::Finder;

use crate::limits;
use crate::store::schema::PAGE;

/// How every envelope that was ever sealed begins behind its map marker: `v` 1, then `gw`.
const ENVELOPE: &[u8] = b"\xa1v\x01\xa2gw";
/// The record header of a slot: four bytes long, an integer key that stands elsewhere, and a blob of
/// 4,040 bytes.
const SLOT: &[u8] = b"\x04\x00\xbf\x1c";
const SLOT_BODY_BYTES: usize = 4040;
/// A batch's cell begins at most so many bytes before its envelope: two lengths, a key, a header of
/// a dozen columns and six numbers.
const BEFORE_ENVELOPE: usize = 96;
/// Type of a leaf of a table.
const TABLE_LEAF: u8 = 0x0d;

/// Where a record continues: what stands in the page, and the overflow page after it.
pub(super) struct Cell<'a> {
    pub(super) rowid: i64,
    /// Length of the whole record.
    pub(super) length: usize,
    pub(super) local: &'a [u8],
    pub(super) overflow: Option<u32>,
}

/// A column as a record header describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column<'a> {
    Null,
    Int(i64),
    Text(&'a [u8]),
    /// Length, and as much of it as there is.
    Blob(usize, &'a [u8]),
}

/// What the searches need, made once.
pub(super) struct Finders {
    envelope: Finder<'static>,
    slot: Finder<'static>,
}

impl Default for Finders {
    fn default() -> Self {
        Self { envelope: Finder::new(ENVELOPE), slot: Finder::new(SLOT) }
    }
}

impl Finders {
    /// Calls back with every cell of a page that may be a batch's row.
    pub(super) fn batches(&self, page: &[u8], mut found: impl FnMut(Cell<'_>)) {
        for at in self.envelope.find_iter(page) {
            // Before it the map marker, of one byte or of three.
            let payload = |columns: &[Column<'_>]| match (columns.first(), columns.get(6)) {
                (Some(Column::Null), Some(Column::Blob(_, local))) => Some(local.as_ptr()),
                _ => None,
            };
            let begins = [1, 3].map(|marker| page[at.saturating_sub(marker)..].as_ptr());
            for start in at.saturating_sub(BEFORE_ENVELOPE)..at {
                let Some(cell) = cell_at(page, start) else { continue };
                let Some(columns) = columns(cell.local, cell.length) else { continue };
                if payload(&columns).is_some_and(|payload| begins.contains(&payload)) {
                    found(cell);
                    break;
                }
            }
        }
    }

    /// Calls back with every body of a page that may be a slot's.
    pub(super) fn slots(&self, page: &[u8], mut found: impl FnMut(usize, &[u8])) {
        for at in self.slot.find_iter(page) {
            let from = at + SLOT.len();
            if let Some(body) = page.get(from..from + SLOT_BODY_BYTES) {
                found(from, body);
            }
        }
    }
}

/// Calls back with every cell that the page itself, as the leaf of a table, lists.
pub(super) fn listed(page: &[u8], is_first: bool, mut found: impl FnMut(Cell<'_>)) {
    let head = &page[if is_first { 100 } else { 0 }..];
    if head[0] != TABLE_LEAF {
        return;
    }
    let cells = usize::from(u16::from_be_bytes([head[3], head[4]]));
    for pointer in head[8..].chunks_exact(2).take(cells) {
        let at = usize::from(u16::from_be_bytes([pointer[0], pointer[1]]));
        if let Some(cell) = cell_at(page, at) {
            found(cell);
        }
    }
}

/// Returns the body of a slot, when a cell is one.
pub(super) fn slot<'a>(cell: &Cell<'a>) -> Option<&'a [u8]> {
    cell.local.strip_prefix(SLOT).filter(|body| body.len() == SLOT_BODY_BYTES)
}

/// Reads the cell of a table's leaf at `at`.
fn cell_at(page: &[u8], at: usize) -> Option<Cell<'_>> {
    let (length, first) = varint(page.get(at..)?)?;
    let (rowid, second) = varint(page.get(at + first..)?)?;
    let length = usize::try_from(length).ok()?;
    if !(2..=limits::BATCH_BYTES_MAX + BEFORE_ENVELOPE).contains(&length) {
        return None;
    }
    let from = at + first + second;
    let local = local_length(length);
    let end = from + local;
    let overflow = if local == length {
        None
    } else {
        Some(u32::from_be_bytes(*page.get(end..)?.first_chunk()?))
    };
    Some(Cell { rowid: rowid.cast_signed(), length, local: page.get(from..end)?, overflow })
}

/// How much of a record stands in its leaf (section 1.6, "Cell payload overflow pages").
fn local_length(length: usize) -> usize {
    let most = PAGE - 35;
    if length <= most {
        return length;
    }
    let least = (PAGE - 12) * 32 / 255 - 23;
    let fit = least + (length - least) % (PAGE - 4);
    if fit <= most { fit } else { least }
}

/// Splits a record of which `record` is the beginning and `length` the whole; `None` unless its
/// columns fill it exactly.
pub(super) fn columns(record: &[u8], length: usize) -> Option<Vec<Column<'_>>> {
    let (header, mut at) = varint(record)?;
    let header = usize::try_from(header).ok().filter(|header| (2..=32).contains(header))?;
    let mut from = header;
    let mut columns = Vec::new();
    while at < header {
        let (kind, bytes) = varint(record.get(at..header)?)?;
        at += bytes;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 => 8,
            12.. => usize::try_from((kind - 12) / 2).ok()?,
            _ => return None,
        };
        let end = from.checked_add(size).filter(|end| *end <= length)?;
        let there = &record[from.min(record.len())..end.min(record.len())];
        columns.push(match kind {
            0 => Column::Null,
            8 => Column::Int(0),
            9 => Column::Int(1),
            1..=6 if there.len() == size => Column::Int(integer(there)),
            1..=6 => return None,
            kind if kind % 2 == 0 => Column::Blob(size, there),
            _ => Column::Text(there),
        });
        from = end;
    }
    (from == length).then_some(columns)
}

fn integer(bytes: &[u8]) -> i64 {
    let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1_i64 };
    bytes.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte))
}

/// A number of one to nine bytes, and how many (section 1.6).
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (n, byte) in bytes.iter().take(9).enumerate() {
        if n == 8 {
            return Some((number << 8 | u64::from(*byte), 9));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, n + 1));
        }
    }
    None
}

/// Returns the epochs that stand in a page of the `meta` table, whose rows are records of a key and
/// a number, each with its checksum in the row after it.
pub(super) fn epochs(page: &[u8]) -> Vec<u64> {
    let mut values = Vec::new();
    for name in [&b"epoch"[..], b"epoch_crc"] {
        for at in memchr::memmem::find_iter(page, name) {
            // Before the text stands the header: its length, the text's type, the number's.
            let Some(header) = at.checked_sub(3) else { continue };
            let record = &page[header..];
            let size = [0, 1, 2, 3, 4, 6, 8, 0, 0, 0];
            let Some(size) = size.get(usize::from(record[2])) else { continue };
            let length = 3 + name.len() + size;
            let row = record.get(..length).and_then(|record| columns(record, length));
            if let Some([Column::Text(text), Column::Int(number)]) = row.as_deref()
                && *text == name
            {
                values.push(*number);
            }
        }
    }
    let checked = |epoch: &i64| values.iter().any(|crc| super::is_epoch(*epoch, *crc));
    values.iter().filter(|epoch| checked(epoch)).filter_map(|n| u64::try_from(*n).ok()).collect()
}
