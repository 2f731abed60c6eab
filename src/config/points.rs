//! `points`: those of the device over those of its template, name by name.

use std::collections::HashSet;

use crate::events::config as codes;

use super::fault::Fault;
use super::findings::{Plain, key_as_written};
use super::keys::Keys;
use super::layer::{At, Layer, Raw, what_it_is};
use super::reader::Table;
use super::text::Place;

impl<'a> Table<'a> {
    /// Returns the names of points, in the order of the template first and of the file then, each
    /// with its layers. `false` leaves a point out; then it is not returned.
    pub fn points(&self, keys: Keys) -> Vec<(At<'a, &'a str>, Self)> {
        let layers: Vec<_> = self
            .raw_layers("points")
            .into_iter()
            .filter_map(|(_, raw)| {
                let layer = raw.layer(raw.place);
                if layer.is_none() {
                    self.wrong_type("points", raw);
                }
                layer
            })
            .collect();
        let mut seen = HashSet::new();
        let mut points = Vec::new();
        // The template's order first: its author knows which registers lie side by side.
        for layer in layers.iter().rev() {
            for (name, place, raw) in layer.entries() {
                if !seen.insert(name) {
                    continue;
                }
                let written = layers.iter().find_map(|layer| {
                    let (key, value) = layer.table.get_key_value(name)?;
                    let place = Place::new(layer.text, value.span());
                    Some((
                        Place::new(layer.text, key.span()),
                        Raw { value: value.get_ref(), place },
                    ))
                });
                let (key_place, top) = written.unwrap_or((place, raw));
                let below = (layers.len() > 1 && key_place.text.template.is_none())
                    .then(|| layers.last()?.table.get_key_value(name))
                    .flatten()
                    .and_then(|(key, value)| {
                        let text = layers.last()?.text;
                        let raw =
                            Raw { value: value.get_ref(), place: Place::new(text, value.span()) };
                        raw.layer(Place::new(text, key.span()))
                    });
                points.extend(self.point(keys, name, (key_place, top), below));
            }
        }
        points
    }

    /// Notes that there are no points at all.
    pub fn needs_points(&self) {
        let is_empty = |raw: Raw<'a>| raw.value.as_table().is_some_and(|table| table.is_empty());
        if self.raw("template").is_none() && self.raw("points").is_none_or(is_empty) {
            self.missing("points");
        }
    }

    fn point(
        &self,
        keys: Keys,
        name: &'a str,
        (key, raw): (Place<'a>, Raw<'a>),
        below: Option<Layer<'a>>,
    ) -> Option<(At<'a, &'a str>, Self)> {
        let mut path = self.path_to("points");
        if let (Some(false), Some(_)) = (raw.value.as_bool(), below) {
            self.findings.set(&path, name, Plain::Flag(false), Some(raw.place));
            return None;
        }
        let Some(top) = raw.layer(key) else {
            let fault = Fault::at(
                &codes::WRONG_TYPE,
                raw.place,
                format!("point {name} in {} is {}", self.title(), what_it_is(raw.value)),
                "a point is a table; only a template's point may be false, to leave it out",
            );
            self.findings.fault(fault.hint(format!("points.{name} = {{ .. }}")));
            return None;
        };
        path.within = format!("{}.{}", path.within, key_as_written(name));
        let at = At { value: name, place: key, spelled: name };
        Some((at, Self::new(self.findings, path, keys, top, below)))
    }
}
