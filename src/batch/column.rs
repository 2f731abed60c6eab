//! One series while it gathers: integers as long as its values are booleans, decimals or words, and
//! whole values only when they are mixed. A reading takes eight bytes here, not the thirty of a
//! `Sample`.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::batch::kind;
use crate::batch::pack::{Writer, int_len};
use crate::reading::{Decimal, Value};

/// The values of one series, row by row.
#[derive(Debug, Clone)]
pub(super) struct Column {
    cells: Cells,
    /// Rows before the first value; they take the first value's place on the wire.
    lead: usize,
}

/// Five cells stand in the column itself, a cache line in all: 10,000 points fill a batch with five
/// polls ([`crate::limits::BATCH_READINGS_MAX`]), and so many columns are not to mean as many small
/// allocations, which grow and go with every batch and leave the heap full of holes. Longer columns
/// are fewer.
type Ints = SmallVec<[i64; 5]>;

#[derive(Debug, Clone)]
enum Cells {
    /// No value yet.
    Empty,
    /// Decimals, all with this many places.
    Scaled(u8, Ints),
    /// 0 and 1.
    Bools(Ints),
    /// Indices into the words.
    Words(Ints),
    /// Anything else.
    Raw(Vec<Raw>),
}

const _: () = assert!(size_of::<Column>() <= 64);

/// A value that is sent as it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Raw {
    Bool(bool),
    Decimal(Decimal),
    Float(f64),
    Word(i64),
}

impl Column {
    pub(super) fn new() -> Self {
        Self { cells: Cells::Empty, lead: 0 }
    }

    /// Adds a row with a value (text already as the index of its word). Returns about how many bytes
    /// it adds to the wire.
    pub(super) fn push(&mut self, value: &Value, word: impl FnOnce(&str) -> i64) -> usize {
        match (&mut self.cells, value) {
            (Cells::Scaled(places, cells), Value::Decimal(d)) if d.places == *places => {
                push_int(cells, d.digits)
            }
            (Cells::Scaled(places, cells), Value::Decimal(d)) => {
                if let Some(scaled) = rescale(*places, cells, *d) {
                    *places = (*places).max(d.places);
                    push_int(cells, scaled)
                } else {
                    self.push_raw(Raw::Decimal(*d))
                }
            }
            (Cells::Bools(cells), Value::Bool(flag)) => push_int(cells, i64::from(*flag)),
            (Cells::Words(cells), Value::Text(text)) => push_int(cells, word(text)),
            (Cells::Empty, value) => {
                let (cells, len) = match value {
                    Value::Decimal(d) => (
                        Cells::Scaled(d.places, smallvec![d.digits; self.lead + 1]),
                        int_len(d.digits),
                    ),
                    Value::Bool(flag) => {
                        (Cells::Bools(smallvec![i64::from(*flag); self.lead + 1]), 1)
                    }
                    Value::Text(text) => (Cells::Words(smallvec![word(text); self.lead + 1]), 2),
                    Value::Float(f) => (Cells::Raw(vec![Raw::Float(*f); self.lead + 1]), 9),
                };
                self.cells = cells;
                self.lead + len
            }
            (_, value) => self.push_raw(match value {
                Value::Bool(flag) => Raw::Bool(*flag),
                Value::Decimal(d) => Raw::Decimal(*d),
                Value::Float(f) => Raw::Float(*f),
                Value::Text(text) => Raw::Word(word(text)),
            }),
        }
    }

    /// Adds a row without a value: on the wire it repeats its neighbour and is marked. Returns about
    /// how many bytes that takes.
    pub(super) fn push_none(&mut self) -> usize {
        match &mut self.cells {
            Cells::Empty => self.lead += 1,
            Cells::Scaled(_, cells) | Cells::Bools(cells) | Cells::Words(cells) => {
                cells.extend(cells.last().copied());
            }
            Cells::Raw(cells) => cells.extend(cells.last().copied()),
        }
        1
    }

    fn push_raw(&mut self, raw: Raw) -> usize {
        let mut cells: Vec<Raw> = match std::mem::replace(&mut self.cells, Cells::Empty) {
            Cells::Raw(cells) => cells,
            Cells::Scaled(places, cells) => {
                cells.into_iter().map(|digits| Raw::Decimal(Decimal { digits, places })).collect()
            }
            Cells::Bools(cells) => cells.into_iter().map(|n| Raw::Bool(n == 1)).collect(),
            Cells::Words(cells) => cells.into_iter().map(Raw::Word).collect(),
            Cells::Empty => Vec::new(),
        };
        cells.push(raw);
        self.cells = Cells::Raw(cells);
        9
    }

    /// Returns the value of a row; `None` in a column that never had one.
    pub(super) fn value(&self, row: usize, words: &[Arc<str>]) -> Option<Value> {
        let word = |index: i64| usize::try_from(index).ok().and_then(|index| words.get(index));
        match &self.cells {
            Cells::Empty => None,
            Cells::Scaled(places, cells) => {
                Some(Value::Decimal(Decimal { digits: *cells.get(row)?, places: *places }))
            }
            Cells::Bools(cells) => Some(Value::Bool(*cells.get(row)? == 1)),
            Cells::Words(cells) => word(*cells.get(row)?).cloned().map(Value::Text),
            Cells::Raw(cells) => match *cells.get(row)? {
                Raw::Bool(flag) => Some(Value::Bool(flag)),
                Raw::Decimal(decimal) => Some(Value::Decimal(decimal)),
                Raw::Float(number) => Some(Value::Float(number)),
                Raw::Word(index) => word(index).cloned().map(Value::Text),
            },
        }
    }

    /// Returns the series kind on the wire.
    pub(super) fn kind(&self) -> i64 {
        match &self.cells {
            Cells::Empty => 0,
            Cells::Scaled(places, _) => i64::from(*places),
            Cells::Bools(_) => kind::BOOL,
            Cells::Words(_) => kind::WORD,
            Cells::Raw(_) => kind::RAW,
        }
    }

    /// Writes the column as an array, without the tail that only repeats.
    pub(super) fn write(&self, out: &mut Writer, words: &[Arc<str>]) {
        match &self.cells {
            // A series without any value still has a first entry, so that no decoder meets an
            // empty column.
            Cells::Empty => {
                out.array(1);
                out.int(0);
            }
            Cells::Scaled(_, cells) | Cells::Bools(cells) | Cells::Words(cells) => {
                let kept = kept(cells);
                out.array(kept);
                let mut last = 0;
                for cell in &cells[..kept] {
                    out.int(cell - last);
                    last = *cell;
                }
            }
            Cells::Raw(cells) => {
                let kept = kept(cells);
                out.array(kept);
                cells[..kept].iter().for_each(|cell| cell.write(out, words));
            }
        }
    }

    /// Writes one row for an event frame: a difference to the row before, or the value as it is.
    pub(super) fn write_row(&self, row: usize, out: &mut Writer, words: &[Arc<str>]) {
        match &self.cells {
            Cells::Empty => out.int(0),
            Cells::Scaled(_, cells) | Cells::Bools(cells) | Cells::Words(cells) => {
                out.int(cells[row] - if row == 0 { 0 } else { cells[row - 1] });
            }
            Cells::Raw(cells) => cells[row].write(out, words),
        }
    }
}

/// The same on the wire: -0.0 and 0.0 are not.
impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Decimal(a), Self::Decimal(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Word(a), Self::Word(b)) => a == b,
            _ => false,
        }
    }
}

impl Raw {
    fn write(self, out: &mut Writer, words: &[Arc<str>]) {
        match self {
            Self::Bool(flag) => out.bool(flag),
            Self::Decimal(Decimal { digits, places: 0 }) => out.int(digits),
            Self::Decimal(decimal) => out.float(decimal.to_f64()),
            Self::Float(number) => out.float(number),
            Self::Word(word) => {
                match usize::try_from(word).ok().and_then(|index| words.get(index)) {
                    Some(text) => out.str(text),
                    None => out.nil(),
                }
            }
        }
    }
}

fn push_int(cells: &mut Ints, n: i64) -> usize {
    let len = int_len(n - cells.last().copied().unwrap_or(0));
    cells.push(n);
    len
}

/// Brings a column and a new value to the same number of places and returns the new value's digits;
/// `None`, and nothing changed, when digits would pass 2^53.
fn rescale(places: u8, cells: &mut [i64], new: Decimal) -> Option<i64> {
    if new.places <= places {
        return new.with_places(places);
    }
    let up = |digits: i64| Decimal { digits, places }.with_places(new.places);
    if cells.iter().any(|cell| up(*cell).is_none()) {
        return None;
    }
    for cell in cells {
        *cell = up(*cell)?;
    }
    Some(new.digits)
}

/// Returns how many cells remain when the repeated tail is left out; at least one.
fn kept<T: PartialEq>(cells: &[T]) -> usize {
    let Some(last) = cells.last() else { return 0 };
    cells.iter().rposition(|cell| cell != last).map_or(1, |row| row + 2)
}
