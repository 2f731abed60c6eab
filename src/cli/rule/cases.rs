//! The cases beside a rule: `tests/*.toml`, each table one case.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::events::Notice;
use crate::events::author as told;
use crate::limits;
use crate::rules::Manifest;
use crate::rules::cases::{Case, CaseFault, Feed};

/// A case and what it is called: `tests/deadband.toml: what_moved_is_sent`.
#[derive(Debug)]
pub(super) struct Named {
    /// File and table.
    pub name: String,
    /// The case.
    pub case: Case,
}

/// The files with cases of the rule in `folder`, by name.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("tests")).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

/// Reads all cases of a folder; those that cannot be understood are told of.
pub(super) fn read_all(folder: &Path, manifest: &Manifest) -> (Vec<Named>, Vec<Notice>) {
    let (mut cases, mut faults) = (Vec::new(), Vec::new());
    for path in files(folder) {
        match std::fs::read_to_string(&path) {
            Ok(text) if text.len() <= limits::CONFIG_BYTES_MAX => {
                read(&path, &text, manifest, &mut cases, &mut faults);
            }
            Ok(_) => faults.push(told::bad_case(
                &path.display().to_string(),
                "is too large for a file with cases",
                "put recordings into files of their own",
            )),
            Err(e) => faults.push(told::cannot_read(&path, e.kind())),
        }
    }
    (cases, faults)
}

/// Reads a recording that was named on the command line.
pub(super) fn recording(path: &Path) -> Result<Feed, Notice> {
    Feed::recorded(path)
        .map_err(|slip| told::bad_case(&path.display().to_string(), &slip.found, &slip.hint))
}

fn read(
    path: &Path,
    text: &str,
    manifest: &Manifest,
    cases: &mut Vec<Named>,
    faults: &mut Vec<Notice>,
) {
    let line = |byte: usize| text[..byte.min(text.len())].matches('\n').count() + 1;
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            let at = error.span().map_or(1, |span| line(span.start));
            let what = format!("is no TOML: {}", error.message());
            faults.push(told::bad_case(&format!("{}:{at}", path.display()), &what, ""));
            return;
        }
    };
    let mut tables: Vec<_> = root.get_ref().iter().collect();
    tables.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in tables {
        let name = format!("{}: {}", path.display(), key.get_ref());
        let Some(table) = value.get_ref().as_table() else {
            let subject = format!("{}:{}", path.display(), line(key.span().start));
            let what = format!("\"{}\" is no table; each table is one case", key.get_ref());
            faults.push(told::bad_case(&subject, &what, &format!("[{}]", key.get_ref())));
            continue;
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        match Case::read((table, folder), manifest, &DeTable::new(), None) {
            Ok(case) => cases.push(Named { name, case }),
            Err(wrong) => faults.extend(wrong.into_iter().map(|wrong| {
                let CaseFault { span, found, why, hint } = wrong;
                let at = line(span.map_or(key.span().start, |span| span.start));
                let subject = format!("{}:{at}", path.display());
                let dash = if why.is_empty() { "" } else { "; " };
                told::bad_case(&subject, &format!("{found}{dash}{why}"), &hint)
            })),
        }
    }
}
