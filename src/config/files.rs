//! The files of a configuration: `conf.d` beside the main file, templates that devices name, and
//! their syntax.

use std::collections::HashSet;
use std::fs::ReadDir;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::events::config as codes;
use crate::limits;

use super::fault::Fault;
use super::findings::Findings;
use super::template;
use super::text::{Place, Text};
use super::texts::Texts;

/// Reads `conf.d/*.toml` beside the main file, which is the first of `texts`, sorted by name.
/// Drafts count as if they stood there.
pub fn read_conf_d(texts: &mut Vec<Text>, drafts: &[(PathBuf, String)], findings: &Findings) {
    let folder = texts[0].folder.join("conf.d");
    let mut paths = match std::fs::read_dir(&folder) {
        Ok(entries) => toml_files(entries),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                findings.fault(
                    Fault::of_file(
                        &codes::UNREADABLE,
                        &folder.to_string_lossy(),
                        "the folder cannot be listed",
                        "what stands in it belongs to the configuration",
                    )
                    .hint("chgrp fieldgate FOLDER && chmod 750 FOLDER"),
                );
                return;
            }
            Vec::new()
        }
    };
    let is_new = |path: &&PathBuf| path.parent() == Some(&*folder) && !paths.contains(path);
    let new: Vec<_> = drafts.iter().map(|(path, _)| path).filter(is_new).cloned().collect();
    paths.extend(new);
    paths.sort();
    if paths.len() > limits::CONFIG_FILES_MAX {
        findings.fault(Fault::of_file(
            &codes::TOO_MANY,
            &folder.to_string_lossy(),
            format!("more than {} files", limits::CONFIG_FILES_MAX),
            "each of them is opened at every start; put several devices into one file",
        ));
        return;
    }
    for path in paths {
        if path.file_name().is_some_and(|name| name.to_str().is_none()) {
            findings.fault(
                Fault::of_file(
                    &codes::UNREADABLE,
                    &path.to_string_lossy(),
                    "the name of the file is not UTF-8",
                    "versions of the configuration keep its files by name, and could not keep this one",
                )
                .hint("rename it"),
            );
            continue;
        }
        match Text::drafted(&path, drafts, bytes_left(texts)) {
            Ok(text) => texts.push(text),
            Err(fault) => findings.fault(*fault),
        }
    }
}

/// Returns the files of `conf.d` beside the main file, sorted by name; none when it cannot be listed.
pub fn conf_d(main: &Path) -> Vec<PathBuf> {
    let folder = main.parent().unwrap_or(Path::new(".")).join("conf.d");
    std::fs::read_dir(folder).map(toml_files).unwrap_or_default()
}

fn toml_files(entries: ReadDir) -> Vec<PathBuf> {
    let mut paths: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .filter(|path| !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')))
        .take(limits::CONFIG_FILES_MAX + 1)
        .collect();
    paths.sort();
    paths
}

fn bytes_left(texts: &[Text]) -> usize {
    let taken: usize = texts.iter().map(|text| text.text.len()).sum();
    limits::CONFIG_BYTES_MAX.saturating_sub(taken)
}

/// Parses one file; its syntax faults are noted, and then there is no table.
pub fn parse<'a>(text: &'a Text, findings: &Findings) -> Option<DeTable<'a>> {
    let first = match DeTable::parse(&text.text) {
        Ok(root) => return Some(root.into_inner()),
        Err(first) => first,
    };
    // A broken file is parsed again to collect all its faults. Noise of megabytes would yield
    // millions of them, so only the first of a large file is told.
    let errors = if text.text.len() <= limits::CONFIG_RECOVERY_BYTES_MAX {
        DeTable::parse_recoverable(&text.text).1
    } else {
        vec![first]
    };
    let mut last_line = 0;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let (line, _) = text.position(span.start);
        // One slip on a line often makes the parser stumble more than once.
        if std::mem::replace(&mut last_line, line) != line {
            findings.fault(syntax_fault(text, span, error.message()));
        }
        if is_yaml(text.line(line)) {
            break;
        }
    }
    None
}

fn syntax_fault(text: &Text, span: std::ops::Range<usize>, message: &str) -> Fault {
    let place = Place::new(text, span.clone());
    if message.contains("duplicate key") {
        let name = text.text.get(span).unwrap_or_default();
        return Fault::at(
            &codes::DEFINED_TWICE,
            place,
            format!("\"{}\" stands twice in this file", name.escape_debug()),
            "a key has one value, and a table one header",
        )
        .hint("rename one of them, or remove it");
    }
    let line = text.line(text.position(place.start).0);
    let (why, hint) = match () {
        () if message.contains("string values must be quoted") => {
            ("text stands in quotes", "put the value in quotes: \"..\"")
        }
        () if message.contains("recursion") => {
            ("tables stand at most three deep here", "look at fieldgate config schema")
        }
        () if is_yaml(line) => {
            ("this looks like YAML", "TOML writes [device.NAME] and key = value")
        }
        () if message.contains("escape") => {
            ("a backslash begins an escape in double quotes", "use single quotes: '..'")
        }
        () => ("this is not TOML", "look for a missing quote, bracket or = here or just above"),
    };
    Fault::at(&codes::SYNTAX, place, message, why).hint(hint)
}

fn is_yaml(line: &str) -> bool {
    line.trim_start().starts_with("- ") || line.trim_end().ends_with(':')
}

/// Reads the templates that devices name, each once.
pub fn read_templates(
    files: &[(&Text, &DeTable<'_>)],
    given: Option<(&Texts, &Path)>,
    findings: &Findings,
) -> Vec<Text> {
    let mut texts: Vec<Text> = Vec::new();
    let mut seen = HashSet::new();
    for (text, root) in files {
        let Some(devices) = root.get("device").and_then(|it| it.get_ref().as_table()) else {
            continue;
        };
        for device in devices.values().filter_map(|device| device.get_ref().as_table()) {
            let Some(value) = device.get("template") else { continue };
            let Some(name) = value.get_ref().as_str() else { continue };
            if !seen.insert(name.to_owned()) {
                continue;
            }
            if let Some(found) = given.and_then(|(given, main)| given.template(name, main)) {
                texts.push(found);
                continue;
            }
            let place = Place::new(text, value.span());
            // Texts that are given are all there will be beside the main file: what stands there now
            // and is not among them goes when they are installed.
            let gone = given.map(|_| files[0].0.folder.join("templates"));
            let gone = gone.as_deref();
            match template::find(name, (&files[0].0.folder, gone), bytes_left(&texts), place) {
                Ok(found) => texts.push(found),
                Err(fault) => findings.fault(*fault),
            }
        }
    }
    texts
}
