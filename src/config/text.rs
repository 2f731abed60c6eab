//! A file as text: read within bounds, with line starts so that a byte offset becomes a line and a
//! column in logarithmic time. Nothing here knows what the text means.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::events::config as codes;
use crate::limits;

use super::fault::{Excerpt, Fault};

/// One file of the configuration, or one template.
#[derive(Debug)]
pub struct Text {
    /// How it is called in faults: its path, or `template x (built in)`.
    pub name: Arc<str>,
    /// Where relative paths in it begin.
    pub folder: PathBuf,
    /// The template's name when it is one.
    pub template: Option<Arc<str>>,
    /// What it says, without a byte order mark.
    pub text: String,
    /// Byte offset of every line.
    lines: Vec<u32>,
}

/// A stretch of a file that a fault can point at.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The file.
    pub text: &'a Text,
    /// First byte.
    pub start: usize,
    /// Byte behind the last.
    pub end: usize,
}

impl Text {
    /// Wraps text that is already in memory.
    pub fn new(name: &str, folder: &Path, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0)
            .chain(breaks.map(|(at, _)| u32::try_from(at + 1).unwrap_or(u32::MAX)))
            .collect();
        Self { name: name.into(), folder: folder.to_owned(), template: None, text, lines }
    }

    /// Takes the draft of a file when there is one, else reads the file.
    ///
    /// # Errors
    /// As [`Text::read`].
    pub fn drafted(
        path: &Path,
        drafts: &[(PathBuf, String)],
        bytes_max: usize,
    ) -> Result<Self, Box<Fault>> {
        let Some((_, text)) = drafts.iter().find(|(drafted, _)| drafted == path) else {
            return Self::read(path, bytes_max);
        };
        Ok(Self::new(&path.to_string_lossy(), &folder_of(path), text.clone()))
    }

    /// Reads a file of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// A fault in words when it cannot be read, is no plain file, is too large, or is no UTF-8.
    pub fn read(path: &Path, bytes_max: usize) -> Result<Self, Box<Fault>> {
        let name: Arc<str> = path.to_string_lossy().into();
        let fail = |found: &str, why: &str, hint: &str| {
            let fault = Fault::of_file(&codes::UNREADABLE, &name, found, why);
            Err(Box::new(fault.hint(hint)))
        };
        let bytes = match read_bytes(path, bytes_max) {
            Ok(bytes) => bytes,
            Err(error) => {
                let (found, why, hint) = in_words(&error);
                return fail(found, why, hint);
            }
        };
        if bytes.len() > bytes_max {
            return fail(
                "the configuration is larger than 4 MiB",
                "all its files together may have 4 MiB, which is room for 30,000 points",
                "look whether this is the file you meant",
            );
        }
        if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
            return fail(
                "the file is UTF-16 text",
                "TOML is UTF-8; some editors on Windows save UTF-16 by themselves",
                "save it again as UTF-8",
            );
        }
        if bytes.contains(&0) {
            return fail(
                "the file holds zero bytes: it is no text",
                "a disk that lost power while writing leaves such files, and so does a wrong name",
                "restore it from a copy, or check the name after --config",
            );
        }
        let folder = folder_of(path);
        match String::from_utf8(bytes) {
            Ok(text) => {
                let text = text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text);
                Ok(Self::new(&name, &folder, text))
            }
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let byte = error.as_bytes()[at];
                let lossy = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let text = Self::new(&name, &folder, lossy);
                let place = Place { text: &text, start: at, end: at };
                let fault = Fault::at(
                    &codes::UNREADABLE,
                    place,
                    format!("byte 0x{byte:02X} is not UTF-8"),
                    "TOML is UTF-8; this looks like text in an older encoding (Latin-1)",
                );
                Err(Box::new(fault.hint("save the file again as UTF-8")))
            }
        }
    }

    /// Returns line and column of a byte, both from 1; columns count characters.
    #[must_use]
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let byte = byte.min(self.text.len());
        let line = self.lines.partition_point(|start| *start as usize <= byte).max(1);
        let lead = self.text.get(self.lines[line - 1] as usize..byte).unwrap_or_default();
        (line, lead.chars().count() + 1)
    }

    /// Returns a line's text without its end, lines counted from 1.
    #[must_use]
    pub fn line(&self, line: usize) -> &str {
        let start = self.lines.get(line - 1).map_or(self.text.len(), |at| *at as usize);
        let end = self.lines.get(line).map_or(self.text.len(), |at| *at as usize);
        self.text.get(start..end).unwrap_or_default().trim_end_matches(['\n', '\r'])
    }
}

impl<'a> Place<'a> {
    /// Returns the place of a span that the parser gave.
    #[must_use]
    pub fn new(text: &'a Text, span: std::ops::Range<usize>) -> Self {
        Self { text, start: span.start, end: span.end }
    }

    /// Returns `file:line`, as `config show --origin` prints it.
    #[must_use]
    pub fn file_and_line(&self) -> String {
        format!("{}:{}", self.text.name, self.text.position(self.start).0)
    }

    /// Returns the line with a mark under the place; long lines are cut around it. A line that may
    /// hold a secret, misspelled or not, is not shown: faults are pasted into mails.
    #[must_use]
    pub fn excerpt(&self) -> Option<Excerpt> {
        let (line, column) = self.text.position(self.start);
        let lower = self.text.line(line).to_ascii_lowercase();
        if ["auth", "pas", "secret", "token", "login", "@"].iter().any(|it| lower.contains(it)) {
            return None;
        }
        let marked = self.text.text.get(self.start..self.end).unwrap_or_default();
        let marked = marked.split(['\n', '\r']).next().unwrap_or_default();
        Some(Excerpt::new(self.text.line(line), column, marked.chars().count()))
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Reads a plain file, and at most one byte more than `bytes_max`: who gets more knows that it is too
/// large.
pub(super) fn read_bytes(path: &Path, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    // Looked at before it is opened: opening a pipe waits until somebody writes to it.
    let about = std::fs::metadata(path)?;
    if about.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    if !about.is_file() {
        // A pipe or a device could keep us waiting for ever.
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.take(bytes_max.min(limits::CONFIG_BYTES_MAX) as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn in_words(error: &std::io::Error) -> (&'static str, &'static str, &'static str) {
    match error.kind() {
        std::io::ErrorKind::NotFound => (
            "there is no such file",
            "unless --config says otherwise it is looked for at /etc/fieldgate/fieldgate.toml",
            "sudo fieldgate setup        (makes one), or the same with --config FILE",
        ),
        std::io::ErrorKind::PermissionDenied => (
            "this user may not read the file",
            "configurations are for root, and for the daemon, whose user is fieldgate",
            "the same with sudo; for the daemon: chgrp fieldgate FILE && chmod 640 FILE",
        ),
        std::io::ErrorKind::IsADirectory => (
            "this is a folder, not a file",
            "the configuration is one file, with a folder conf.d beside it for more",
            "name the file in it: --config FOLDER/fieldgate.toml",
        ),
        std::io::ErrorKind::InvalidInput => (
            "this is a device or a pipe, not a file",
            "reading it could wait for ever",
            "name a plain file after --config",
        ),
        _ => (
            "the file cannot be read",
            "the disk or the network share it lies on refuses",
            "look at the system's log for trouble with the disk",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let text = Text::new("f", Path::new("."), "a = 1\r\nä = 2\n".to_owned());
        assert_eq!(text.position(0), (1, 1));
        assert_eq!(text.position(7), (2, 1));
        assert_eq!(text.position("a = 1\r\nä".len()), (2, 2));
        assert_eq!(text.position(999), (3, 1));
        assert_eq!(text.line(1), "a = 1");
        assert_eq!(text.line(2), "ä = 2");
        assert_eq!(text.line(9), "");
    }
}
