//! `[api]`: where the daemon answers.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::files;
use super::findings::{Findings, Where};
use super::keys;
use super::layer::Layer;
use super::merge::Document;
use super::reader::Table;
use super::text::{Place, Text};
use crate::api;

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

/// Returns the socket of the daemon that runs with the configuration at `path`, as well as it can be
/// told from files that may be faulty, or not readable for who asks.
#[must_use]
pub fn socket(path: &Path) -> PathBuf {
    let named = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).ok()?;
        let table: toml::Table = text.parse().ok()?;
        let socket = table.get("api")?.get("socket")?.as_str()?;
        Some(file.parent().unwrap_or(Path::new(".")).join(socket))
    };
    let mut all = std::iter::once(path.to_owned()).chain(files::conf_d(path));
    all.find_map(named).unwrap_or_else(|| api::DEFAULT_SOCKET.into())
}
