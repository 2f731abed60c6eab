//! `scale`, `offset`, `decimals` and `deadband` of a point, alike for all kinds of devices.

use crate::events::config as codes;

use super::fault::Fault;
use super::reader::Table;
use super::value;

/// What a point says about its number.
#[derive(Debug, Clone, Copy)]
pub struct Scaling {
    /// `value = raw * scale + offset`; finite, not 0.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
    /// As written.
    pub decimals: Option<u8>,
    /// What a whole number has after scaling, by how scale and offset were written: 1 for `0.1`.
    pub natural_decimals: Option<u8>,
    /// Smallest change that is sent on.
    pub deadband: Option<f64>,
}

/// Reads the four keys; for what is no number they are faults.
pub fn read(table: &Table<'_>, is_number: bool) -> Scaling {
    let mut scaling =
        Scaling { scale: 1.0, offset: 0.0, decimals: None, natural_decimals: None, deadband: None };
    if !is_number {
        refuse(table);
        return scaling;
    }
    let (scale, offset) = (table.number("scale"), table.number("offset"));
    if let Some(at) = scale {
        if at.value == 0.0 {
            table.bad(at.place, "scale = 0 makes every reading the same", "scale = 0.1");
        }
        scaling.scale = at.value;
    }
    scaling.offset = offset.map_or(0.0, |at| at.value);
    scaling.decimals = table.integer("decimals");
    let spelled = [scale, offset].map(|at| at.map_or("", |at| at.spelled));
    if spelled != ["", ""] {
        scaling.natural_decimals = spelled
            .into_iter()
            .map(|text| if text.is_empty() { Some(0) } else { value::decimals_of(text) })
            .try_fold(0, |most: u8, places| Some(most.max(places?)));
    }
    if let Some(at) = table.number("deadband") {
        if at.value < 0.0 {
            table.bad(at.place, "a deadband below zero", "deadband = 0.05");
        }
        scaling.deadband = Some(at.value);
    }
    scaling
}

fn refuse(table: &Table<'_>) {
    for key in ["scale", "offset", "decimals", "deadband"] {
        if let Some(raw) = table.raw(key) {
            table.findings.fault(
                Fault::at(
                    &codes::EXCLUSIVE,
                    raw.place,
                    format!("{key} for something that is no number"),
                    format!("{} is text, a bool or bits", table.title()),
                )
                .hint(format!("remove {key}, or give the point a numeric type")),
            );
        }
    }
}
