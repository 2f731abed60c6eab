//! A decoded batch read row by row: differences are summed already, tails are repeated here.

use crate::batch::decode::{Cell, Cells, Decoded, Frame, Row, RowValue};
use crate::batch::{NO_VALUE_FROM, kind};
use crate::reading::{Decimal, UnixMillis, Value};

impl Decoded {
    /// Calls `each` for every reading: frame by frame, a grid column by column.
    pub fn rows<'a>(&'a self, mut each: impl FnMut(Row<'a>)) {
        for frame in &self.frames {
            match frame {
                Frame::Grid(times, columns, marks) => {
                    let mut marks = marks.iter().peekable();
                    for (column, (series, cells)) in columns.iter().enumerate() {
                        let mut of_column = Vec::new();
                        while let Some(mark) = marks.next_if(|mark| mark.0 == column) {
                            of_column.push((mark.1, mark.2));
                        }
                        let row = |at, value, q| Row { series: *series, at, value, q };
                        self.column(times, *series, cells, of_column, |at, value, q| {
                            each(row(at, value, q));
                        });
                    }
                }
                Frame::List(rows, marks) => {
                    let mut marks = Marks::new(marks.clone());
                    for (row, (at, series, cell)) in rows.iter().enumerate() {
                        let q = marks.at(row);
                        let value = usable(q).then(|| self.value(*series, cell)).flatten();
                        each(Row { series: *series, at: UnixMillis(*at), value, q });
                    }
                }
            }
        }
    }

    fn column<'a>(
        &'a self,
        times: &[i64],
        series: usize,
        cells: &'a Cells,
        marks: Vec<(usize, u8)>,
        mut each: impl FnMut(UnixMillis, Option<RowValue<'a>>, u8),
    ) {
        let mut marks = Marks::new(marks);
        match cells {
            Cells::Ints(cells) => {
                let tail = cells.last().copied().unwrap_or(0);
                let cells = cells.iter().copied().chain(std::iter::repeat(tail));
                for (row, (at, n)) in times.iter().zip(cells).enumerate() {
                    let q = marks.at(row);
                    let value = usable(q).then(|| self.integer(series, n)).flatten();
                    each(UnixMillis(*at), value, q);
                }
            }
            Cells::Raw(cells) => {
                let tail = cells.last().unwrap_or(&Cell::Nil);
                let cells = cells.iter().chain(std::iter::repeat(tail));
                for (row, (at, cell)) in times.iter().zip(cells).enumerate() {
                    let q = marks.at(row);
                    let value = usable(q).then(|| self.value(series, cell)).flatten();
                    each(UnixMillis(*at), value, q);
                }
            }
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
            Cell::Float(number) => RowValue::Float(*number),
            Cell::Text(text) => RowValue::Text(text),
        })
    }
}

/// Marks in the order of rows.
struct Marks(std::iter::Peekable<std::vec::IntoIter<(usize, u8)>>);

impl Marks {
    fn new(marks: Vec<(usize, u8)>) -> Self {
        Self(marks.into_iter().peekable())
    }

    fn at(&mut self, row: usize) -> u8 {
        let mut q = 0;
        while let Some(mark) = self.0.next_if(|mark| mark.0 <= row) {
            q = mark.1;
        }
        q
    }
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
