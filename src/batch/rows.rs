//! A decoded batch read row by row: differences are summed already, tails are repeated here.

use std::iter::Peekable;

use crate::batch::decode::{Cell, Cells, Decoded, Frame, Row, RowValue};
use crate::batch::{NO_VALUE_FROM, kind};
use crate::reading::{Decimal, UnixMillis, Value};

impl Decoded {
    /// Calls `each` for every reading: frame by frame, a grid column by column.
    pub fn rows<'a>(&'a self, mut each: impl FnMut(Row<'a>)) {
        for frame in &self.frames {
            match frame {
                Frame::Grid(times, columns, marks) => {
                    let mut marks = marks.as_slice();
                    for (column, (series, cells)) in columns.iter().enumerate() {
                        let end = marks.partition_point(|mark| mark.0 == column);
                        let (of_column, others) = marks.split_at(end);
                        marks = others;
                        let axis = Axis { series: *series, times, marks: of_column };
                        self.column(&axis, cells, &mut each);
                    }
                }
                Frame::List(rows, marks) => {
                    let mut marks = marks.iter().copied().peekable();
                    for (row, (at, series, cell)) in rows.iter().enumerate() {
                        let q = mark_at(&mut marks, row);
                        let value = usable(q).then(|| self.value(*series, cell)).flatten();
                        each(Row { series: *series, at: UnixMillis(*at), value, q });
                    }
                }
            }
        }
    }

    /// Visits a column with what a value of its kind is decided once.
    fn column<'a>(&'a self, axis: &Axis<'_>, cells: &'a Cells, each: &mut impl FnMut(Row<'a>)) {
        match cells {
            Cells::Ints(cells) => match self.series[axis.series].kind {
                kind::BOOL => axis.visit(cells, |n| Some(RowValue::Bool(*n != 0)), each),
                places @ 0.. => {
                    let places = u8::try_from(places).unwrap_or(0);
                    let decimal = |n: &i64| Decimal { digits: *n, places };
                    axis.visit(cells, |n| Some(RowValue::Decimal(decimal(n))), each);
                }
                _ => axis.visit(cells, |n| self.integer(axis.series, *n), each),
            },
            Cells::Raw(cells) => axis.visit(cells, |cell| self.value(axis.series, cell), each),
        }
    }

    fn integer(&self, series: usize, n: i64) -> Option<RowValue<'_>> {
        match self.series[series].kind {
            kind::BOOL => Some(RowValue::Bool(n != 0)),
            kind::WORD => {
                usize::try_from(n).ok().and_then(|n| self.words.get(n)).map(|w| RowValue::Text(w))
            }
            places => {
                let places = u8::try_from(places).unwrap_or(0);
                Some(RowValue::Decimal(Decimal { digits: n, places }))
            }
        }
    }

    fn value<'a>(&'a self, series: usize, cell: &'a Cell) -> Option<RowValue<'a>> {
        if self.series[series].kind != kind::RAW {
            return if let Cell::Int(n) = cell { self.integer(series, *n) } else { None };
        }
        Some(match cell {
            Cell::Nil => return None,
            Cell::Bool(flag) => RowValue::Bool(*flag),
            Cell::Int(n) => RowValue::Decimal(Decimal { digits: *n, places: 0 }),
            // The gateway sends no such number; one that came all the same is no value.
            Cell::Float(number) if !number.is_finite() => return None,
            Cell::Float(number) => RowValue::Float(*number),
            Cell::Text(text) => RowValue::Text(text),
        })
    }
}

/// A column without its cells: its series, the rows' times, and its marks in the order of rows.
struct Axis<'f> {
    series: usize,
    times: &'f [i64],
    marks: &'f [(usize, usize, u8)],
}

impl Axis<'_> {
    /// Calls `each` for every row; rows behind the last cell repeat it.
    #[inline]
    fn visit<'a, T>(
        &self,
        cells: &'a [T],
        value: impl Fn(&'a T) -> Option<RowValue<'a>>,
        each: &mut impl FnMut(Row<'a>),
    ) {
        let Some(tail) = cells.last() else { return };
        let mut marks = self.marks.iter().map(|mark| (mark.1, mark.2)).peekable();
        let mut next = marks.peek().map_or(usize::MAX, |mark| mark.0);
        for (row, at) in self.times.iter().enumerate() {
            let cell = cells.get(row).unwrap_or(tail);
            let mut q = 0;
            if row == next {
                q = mark_at(&mut marks, row);
                next = marks.peek().map_or(usize::MAX, |mark| mark.0);
            }
            let value = if usable(q) { value(cell) } else { None };
            each(Row { series: self.series, at: UnixMillis(*at), value, q });
        }
    }
}

/// Takes the mark of a row; the last one counts when there are several.
fn mark_at(marks: &mut Peekable<impl Iterator<Item = (usize, u8)>>, row: usize) -> u8 {
    let mut q = 0;
    while let Some(mark) = marks.next_if(|mark| mark.0 <= row) {
        q = mark.1;
    }
    q
}

fn usable(q: u8) -> bool {
    q < NO_VALUE_FROM
}

impl From<RowValue<'_>> for Value {
    fn from(value: RowValue<'_>) -> Self {
        match value {
            RowValue::Bool(flag) => Self::Bool(flag),
            RowValue::Decimal(decimal) => Self::Decimal(decimal),
            RowValue::Float(number) => Self::Float(number),
            RowValue::Text(text) => Self::Text(text.into()),
        }
    }
}

impl<'a> From<&'a Value> for RowValue<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Decimal(decimal) => Self::Decimal(*decimal),
            Value::Float(number) => Self::Float(*number),
            Value::Text(text) => Self::Text(text),
        }
    }
}
