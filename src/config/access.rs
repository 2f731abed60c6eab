//! `[api]` and `[trust]`: where the daemon answers, and whose rules it runs.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::files;
use super::findings::{Findings, Where};
use super::keys;
use super::layer::Layer;
use super::merge::Document;
use super::reader::Table;
use super::text::{Place, Text, read_bytes};
use crate::api;
use crate::limits;
use crate::rules::signature::{Key, Keys};

/// Reads `[api]`, or what holds without it.
pub fn api(document: &Document<'_>, findings: &Findings) -> api::Settings {
    let empty = DeTable::new();
    let nothing = Text::new("", Path::new("."), String::new());
    let place = Place::new(&nothing, 0..0);
    let layer = document.api.unwrap_or(Layer { text: &nothing, table: &empty, place });
    let table = Table::new(findings, Where::table("api"), keys::API, layer, None);
    let is_asked_for = table.raw("socket").is_some();
    let socket = table.file("socket").map_or_else(PathBuf::new, |at| at.value);
    api::Settings { socket, is_asked_for }
}

/// Reads `[trust]`. An empty list is refused: it could mean that nobody is trusted, or everybody.
pub fn trust(document: &Document<'_>, findings: &Findings) -> Keys {
    let Some(layer) = document.trust else { return Keys::default() };
    let table = Table::new(findings, Where::table("trust"), keys::TRUST, layer, None);
    let written = table.texts("keys");
    if table.raw("keys").is_none() {
        table.missing("keys");
    } else if written.is_empty() && findings.is_clean() {
        let hint = "keys = [\"RWQ..\"], or remove [trust] to run unsigned rules";
        table.bad(table.place(), "keys in trust is empty", hint);
    }
    if written.len() > limits::TRUST_KEYS_MAX {
        let found = format!("trust has {} keys; at most {}", written.len(), limits::TRUST_KEYS_MAX);
        table.bad(table.place(), found, "remove keys that nobody signs with any more");
    }
    let mut all: Vec<Key> = Vec::new();
    for at in written {
        match Key::parse(at.value) {
            Ok(key) if all.iter().any(|known| known.id == key.id) => {
                table.bad(at.place, format!("key {} stands twice", key.id), "remove one of them");
            }
            Ok(key) => all.push(key),
            Err(why) => {
                let hint = "the second line of the .pub file that minisign -G writes";
                table.bad(at.place, format!("this key does not do: a key {why}"), hint);
            }
        }
    }
    Keys::new(all)
}

/// Returns the socket of the daemon that runs with the configuration at `path`, as well as it can be
/// told from files that may be faulty, or not readable for who asks.
#[must_use]
pub fn socket(path: &Path) -> PathBuf {
    named(path, "api", "socket").unwrap_or_else(|| api::DEFAULT_SOCKET.into())
}

/// Returns where the buffer of the configuration at `path` is, told as [`socket`] is: versions lie
/// beside it, and one goes back to them when the files are faulty.
#[must_use]
pub fn buffer(path: &Path) -> PathBuf {
    let default = || {
        let key = keys::BUFFER.iter().find(|key| key.name == "path");
        key.and_then(|key| key.default).unwrap_or_default().into()
    };
    named(path, "buffer", "path").unwrap_or_else(default)
}

/// Finds a path that one of the files names. A fault elsewhere in a file does not hide it.
fn named(path: &Path, table: &str, key: &str) -> Option<PathBuf> {
    let of = |file: PathBuf| {
        let text = String::from_utf8(read_bytes(&file, limits::CONFIG_BYTES_MAX).ok()?).ok()?;
        let root = match DeTable::parse(&text) {
            Ok(root) => root,
            // As in loading: noise of megabytes is not searched.
            Err(_) if text.len() > limits::CONFIG_RECOVERY_BYTES_MAX => return None,
            Err(_) => DeTable::parse_recoverable(&text).0,
        };
        let root = root.into_inner();
        let value = root.get(table)?.get_ref().as_table()?.get(key)?.get_ref().as_str()?.to_owned();
        Some(file.parent().unwrap_or(Path::new(".")).join(value))
    };
    std::iter::once(path.to_owned()).chain(files::conf_d(path)).find_map(of)
}
