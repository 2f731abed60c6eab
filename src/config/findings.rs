//! What loading collects on its way: faults, warnings, the hash of what is in force, and, when
//! asked for, every value in force with its origin. One of these exists while a configuration is
//! loaded.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::limits;
use crate::secret::Secret;

use super::fault::{Fault, Faults};
use super::text::Place;
use super::value;

/// Everything found so far. The cells are here because readers of sub-tables live side by side and
/// all of them report.
#[derive(Debug, Default)]
pub struct Findings {
    main_file: Arc<str>,
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Fault>>,
    more: Cell<usize>,
    hash: Cell<u64>,
    line: RefCell<String>,
    in_force: Option<RefCell<Vec<Setting>>>,
}

/// One value in force.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The table it stands in: `device.chiller`.
    pub table: Arc<str>,
    /// Its key there, dotted: `points.power.unit`.
    pub key: String,
    /// As TOML writes it.
    pub toml: String,
    /// As JSON writes it.
    pub json: serde_json::Value,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `file:line` of the configuration.
    Written(String),
    /// `file:line` of a template.
    Template(String),
    /// Nobody wrote it.
    Default,
}

/// A value on its way into the hash and into the list of settings.
#[derive(Debug, Clone, Copy)]
pub enum Plain<'a> {
    /// Text, a name, a choice.
    Text(&'a str),
    /// A path, as it was resolved.
    Path(&'a Path),
    /// A whole number.
    Integer(i64),
    /// Any number.
    Number(f64),
    /// `points.x = false`.
    Flag(bool),
    /// A duration.
    Duration(Duration),
    /// A size in bytes.
    Size(u64),
    /// Where a secret is kept; never the secret.
    Secret(&'a Secret),
    /// A list of texts.
    Texts(&'a [String]),
    /// A list of numbers.
    Numbers(&'a [f64]),
}

/// A table's name and the keys within it that lead to the table at hand.
#[derive(Debug, Clone)]
pub struct Where {
    /// `device.chiller`
    pub table: Arc<str>,
    /// `points.power`, or empty.
    pub within: String,
}

impl Where {
    /// Names a table.
    #[must_use]
    pub fn table(name: &str) -> Self {
        Self { table: name.into(), within: String::new() }
    }
}

impl Findings {
    /// Begins; `keep` collects the settings for `config show`.
    #[must_use]
    pub fn new(main_file: &Path, keep: bool) -> Self {
        let main_file = main_file.to_string_lossy().into();
        Self { main_file, in_force: keep.then(RefCell::default), ..Self::default() }
    }

    /// Returns the main file's name, for what is missing everywhere.
    pub fn main_file(&self) -> Arc<str> {
        Arc::clone(&self.main_file)
    }

    /// Takes note of a fault.
    pub fn fault(&self, fault: Fault) {
        let mut faults = self.faults.borrow_mut();
        if faults.len() < limits::FAULTS_MAX {
            faults.push(fault);
        } else {
            self.more.set(self.more.get() + 1);
        }
    }

    /// Takes note of something worth a look.
    pub fn warning(&self, warning: Fault) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < limits::FAULTS_MAX {
            warnings.push(warning);
        }
    }

    /// Returns whether nothing wrong was found yet.
    pub fn is_clean(&self) -> bool {
        self.faults.borrow().is_empty()
    }

    /// Takes note of a value in force. `written` is its place, `None` for a default.
    pub fn set(&self, path: &Where, key: &str, plain: Plain<'_>, written: Option<Place<'_>>) {
        let mut line = self.line.borrow_mut();
        line.clear();
        // Writing into a string cannot fail.
        let _ = write!(line, "{}.{}.{key} = {plain}", path.table, path.within);
        self.hash.set(self.hash.get().wrapping_add(fnv1a(line.as_bytes())));
        if let Some(settings) = &self.in_force {
            let dot = if path.within.is_empty() { "" } else { "." };
            settings.borrow_mut().push(Setting {
                table: Arc::clone(&path.table),
                key: format!("{}{dot}{}", path.within, key_as_written(key)),
                toml: plain.to_string(),
                json: plain.to_json(),
                origin: match written {
                    None => Origin::Default,
                    Some(place) if place.text.template.is_some() => {
                        Origin::Template(place.file_and_line())
                    }
                    Some(place) => Origin::Written(place.file_and_line()),
                },
            });
        }
    }

    /// Takes something into the hash that is in force and stands in no file of the configuration.
    pub fn also(&self, line: &str) {
        self.hash.set(self.hash.get().wrapping_add(fnv1a(line.as_bytes())));
    }

    /// Returns the hash of what is in force, eight hexadecimal digits. It does not depend on the
    /// order of tables and keys, because it is a sum over them.
    pub fn hash(&self) -> String {
        let hash = self.hash.get();
        format!("{:08x}", (hash >> 32) ^ (hash & 0xFFFF_FFFF))
    }

    /// Ends: the warnings and settings when there is no fault, else all faults in order of place.
    ///
    /// # Errors
    /// When a fault was found.
    pub fn finish(self) -> Result<(Vec<Fault>, Vec<Setting>), Faults> {
        let in_order = |mut list: Vec<Fault>| {
            let place = |fault: &Fault| (Arc::clone(&fault.file), fault.line, fault.column);
            list.sort_by_key(place);
            // A faulty template is told once, not once for each device that uses it.
            list.dedup_by(|a, b| a.code == b.code && a.line > 0 && place(a) == place(b));
            list
        };
        let (faults, warnings) =
            (in_order(self.faults.into_inner()), in_order(self.warnings.into_inner()));
        if faults.is_empty() {
            let settings = self.in_force.map(RefCell::into_inner).unwrap_or_default();
            Ok((warnings, settings))
        } else {
            Err(Faults { faults, warnings, more: self.more.get() })
        }
    }
}

impl Plain<'_> {
    fn to_json(self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Self::Integer(n) => n.into(),
            Self::Number(n) => n.into(),
            Self::Flag(flag) => flag.into(),
            Self::Texts(texts) => texts.into(),
            Self::Numbers(numbers) => numbers.into(),
            Self::Text(text) => text.into(),
            Self::Path(path) => path.to_string_lossy().into(),
            Self::Duration(duration) => value::show_duration(duration).into(),
            Self::Size(bytes) => value::show_size(bytes).into(),
            Self::Secret(secret) => {
                let (kind, place) = secret_parts(secret);
                Value::Object([(kind.to_owned(), place.into())].into_iter().collect())
            }
        }
    }
}

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => quoted(f, text),
            Self::Path(path) => quoted(f, &path.to_string_lossy()),
            Self::Integer(n) => write!(f, "{n}"),
            Self::Number(n) => write!(f, "{n:?}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Duration(duration) => quoted(f, &value::show_duration(*duration)),
            Self::Size(bytes) => quoted(f, &value::show_size(*bytes)),
            Self::Secret(secret) => {
                let (kind, place) = secret_parts(secret);
                write!(f, "{{ {kind} = ")?;
                quoted(f, &place)?;
                f.write_str(" }")
            }
            Self::Numbers(numbers) => write!(f, "{numbers:?}"),
            Self::Texts(texts) => {
                f.write_str("[")?;
                for (n, text) in texts.iter().enumerate() {
                    f.write_str(if n == 0 { "" } else { ", " })?;
                    quoted(f, text)?;
                }
                f.write_str("]")
            }
        }
    }
}

fn secret_parts(secret: &Secret) -> (&'static str, String) {
    match secret {
        Secret::File(path) => ("file", path.to_string_lossy().into_owned()),
        Secret::Env(name) => ("env", name.clone()),
        Secret::Credential(name) => ("credential", name.clone()),
        Secret::Typed(_) => ("typed", "on the command line".to_owned()),
    }
}

/// Writes a basic string (TOML 1.0, "String").
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_str("\"")
}

/// Returns a key as TOML wants it: bare where it may be, else quoted.
#[must_use]
pub fn key_as_written(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        Plain::Text(key).to_string()
    }
}

/// FNV-1a of 64 bits, mixed at its end so that sums of similar lines differ.
fn fnv1a(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(lines: &[(&str, i64)]) -> String {
        let findings = Findings::new(Path::new("f"), false);
        let path = Where::table("t");
        for (key, n) in lines {
            findings.set(&path, key, Plain::Integer(*n), None);
        }
        findings.hash()
    }

    #[test]
    fn the_hash_ignores_order_and_sees_every_value() {
        assert_eq!(hash_of(&[("a", 1), ("b", 2)]), hash_of(&[("b", 2), ("a", 1)]));
        assert_ne!(hash_of(&[("a", 1), ("b", 2)]), hash_of(&[("a", 2), ("b", 1)]));
        assert_ne!(hash_of(&[("a", 1)]), hash_of(&[("a", 1), ("b", 2)]));
    }

    #[test]
    fn values_are_written_as_toml_reads_them() {
        let text = "a \"b\"\\\r\n\u{2}";
        let toml = format!("k = {}", Plain::Text(text));
        let back: toml::Table = toml.parse().unwrap();
        assert_eq!(back["k"].as_str(), Some(text));
        assert_eq!(Plain::Number(1.0).to_string(), "1.0");
        assert_eq!(key_as_written("0x1"), "0x1");
        assert_eq!(key_as_written("a.b"), "\"a.b\"");
    }

    #[test]
    fn faults_beyond_the_bound_are_counted() {
        let findings = Findings::new(Path::new("f"), false);
        for _ in 0..limits::FAULTS_MAX + 7 {
            findings.fault(Fault::of_file(&crate::events::config::SYNTAX, "f", "x", ""));
        }
        let faults = findings.finish().unwrap_err();
        assert_eq!(
            (faults.faults.len(), faults.count()),
            (limits::FAULTS_MAX, limits::FAULTS_MAX + 7)
        );
    }
}
