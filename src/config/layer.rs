//! A table of one file as the parser left it: entries in the order of the file, with their places.

use toml::de::{DeTable, DeValue};

use super::text::{Place, Text};

/// One table of one file.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// The file.
    pub text: &'a Text,
    /// Its parsed content.
    pub table: &'a DeTable<'a>,
    /// Its header, or the key it stands behind.
    pub place: Place<'a>,
}

/// A value and where it was written; for a default, where its table was.
#[derive(Debug, Clone, Copy)]
pub struct At<'a, T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub place: Place<'a>,
    /// As it was spelled; empty for a default.
    pub spelled: &'a str,
}

/// A value as the parser left it.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    /// The value.
    pub value: &'a DeValue<'a>,
    /// Its place.
    pub place: Place<'a>,
}

impl<'a> Layer<'a> {
    /// Returns the entries in the order of the file.
    #[must_use]
    pub fn entries(&self) -> Vec<(&'a str, Place<'a>, Raw<'a>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| {
                let raw =
                    Raw { value: value.get_ref(), place: Place::new(self.text, value.span()) };
                (key.get_ref().as_ref(), Place::new(self.text, key.span()), raw)
            })
            .collect();
        entries.sort_by_key(|(_, place, _)| place.start);
        entries
    }
}

impl<'a> Raw<'a> {
    /// Returns it as a layer when it is a table. `key` is where a fault about the table points.
    #[must_use]
    pub fn layer(self, key: Place<'a>) -> Option<Layer<'a>> {
        let table = self.value.as_table()?;
        Some(Layer { text: self.place.text, table, place: key })
    }

    /// Returns it as a number, be it finite or not.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "scales and offsets are small numbers")]
    pub fn number(self) -> Option<f64> {
        match self.value {
            DeValue::Integer(n) => integer(n).map(|n| n as f64),
            DeValue::Float(n) => n.as_str().parse().ok(),
            _ => None,
        }
    }
}

/// Returns a whole number as far as 64 bits reach.
#[must_use]
pub fn integer(n: &toml::de::DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(n.as_str(), n.radix()).ok()
}

/// Says what a value is, as a fault begins.
#[must_use]
pub fn what_it_is(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
