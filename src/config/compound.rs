//! Values of more than one part: lists and tables of texts, references to secrets.

use crate::events::config as codes;
use crate::secret::Secret;

use super::fault::Fault;
use super::findings::Plain;
use super::layer::{At, Raw};
use super::reader::Table;
use super::text::Place;

impl<'a> Table<'a> {
    /// Reads a list of texts; absent is empty.
    pub fn texts(&self, name: &str) -> Vec<At<'a, &'a str>> {
        let Some(raw) = self.raw(name) else { return Vec::new() };
        let Some(list) = raw.value.as_array() else {
            self.wrong_type(name, raw);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in list.iter() {
            let place = Place::new(raw.place.text, item.span());
            match item.get_ref().as_str() {
                Some(value) => texts.push(At { value, place, spelled: value }),
                None => self.wrong_type(name, Raw { value: item.get_ref(), place }),
            }
        }
        let plain: Vec<String> = texts.iter().map(|at| at.value.to_owned()).collect();
        self.put(name, Plain::Texts(&plain), Some(raw.place));
        texts
    }

    /// Reads a table of texts, in the order of the file; absent is empty.
    pub fn words(&self, name: &str) -> Vec<(At<'a, &'a str>, At<'a, &'a str>)> {
        let Some(raw) = self.raw(name) else { return Vec::new() };
        let Some(layer) = raw.layer(raw.place) else {
            self.wrong_type(name, raw);
            return Vec::new();
        };
        let path = self.path_to(name);
        let mut words = Vec::new();
        for (key, place, raw) in layer.entries() {
            match raw.value.as_str() {
                Some(value) => {
                    self.findings.set(&path, key, Plain::Text(value), Some(raw.place));
                    let key = At { value: key, place, spelled: key };
                    words.push((key, At { value, place: raw.place, spelled: value }));
                }
                None => self.wrong_type(name, raw),
            }
        }
        words
    }

    /// Reads a reference to a secret that may be absent.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        let raw = self.raw(name)?;
        let three = "{ file = \"..\" }, { env = \"..\" } or { credential = \"..\" }";
        if raw.value.as_str().is_some() {
            // The excerpt would show the secret; the place has to do.
            let mut fault = Fault::at(
                &codes::BARE_SECRET,
                raw.place,
                format!("{name} in {} is written in the clear", self.title()),
                "this file is copied, shown and kept; the secret should not be",
            );
            fault.hide_excerpt();
            self.findings.fault(fault.hint(format!("{name} = {three}")));
            return None;
        }
        let Some(layer) = raw.layer(raw.place) else {
            self.wrong_type(name, raw);
            return None;
        };
        let entries = layer.entries();
        let [(kind, _, place)] = entries.as_slice() else {
            self.bad(
                raw.place,
                match entries.len() {
                    1 => format!("{name} names a place that is not known"),
                    0 => format!("{name} names no place"),
                    many => format!("{name} names {many} places"),
                },
                format!("{name} = {three}"),
            );
            return None;
        };
        let secret = match (*kind, place.value.as_str()) {
            (_, Some("")) | (_, None) => None,
            ("file", Some(path)) => Some(Secret::File(raw.place.text.folder.join(path))),
            ("env", Some(variable)) => Some(Secret::Env(variable.to_owned())),
            ("credential", Some(credential)) if !credential.contains('/') => {
                Some(Secret::Credential(credential.to_owned()))
            }
            _ => None,
        };
        let Some(secret) = secret else {
            let found = format!("{name} does not say where the secret is kept");
            self.bad(raw.place, found, format!("{name} = {three}"));
            return None;
        };
        self.put(name, Plain::Secret(&secret), Some(raw.place));
        Some(secret)
    }
}
