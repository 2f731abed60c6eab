//! Refused payloads put aside for a person to look at: a folder, a file each, the newest thousand.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Exit, Fatal};
use crate::events::receive as say;
use crate::limits;
use crate::reading::UnixMillis;

/// The folder and what this process knows to be in it, oldest first.
#[derive(Debug)]
pub struct Rejects {
    folder: PathBuf,
    held: VecDeque<PathBuf>,
    count: u64,
}

impl Rejects {
    /// Opens a folder, making it where it is missing.
    ///
    /// # Errors
    /// When it cannot be made or read; found at the start, it is a slip of the command line.
    pub fn open(folder: &Path) -> Result<Self, Fatal> {
        let list = || -> io::Result<VecDeque<PathBuf>> {
            fs::create_dir_all(folder)?;
            let mut held = Vec::new();
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|ending| ending == "msgpack") {
                    held.push(path);
                }
            }
            // Names begin with the time, so their order is the order of arrival.
            held.sort();
            Ok(held.into())
        };
        let held = list().map_err(|e| {
            Fatal::new(Exit::Misconfigured, say::rejects_unusable(folder, &e).to_string())
        })?;
        Ok(Self { folder: folder.to_owned(), held, count: 0 })
    }

    /// Returns where it puts things.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts a payload aside, and lets go of the oldest beyond the bound.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put(&mut self, at: UnixMillis, topic: &str, payload: &[u8]) -> io::Result<()> {
        while self.held.len() >= limits::REJECTS_MAX {
            let Some(oldest) = self.held.pop_front() else { break };
            let _ = fs::remove_file(oldest);
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let topic: String = topic.chars().take(100).map(plain).collect();
        self.count += 1;
        let name = format!("{:015}-{:06}-{topic}.msgpack", at.0.max(0), self.count % 1_000_000);
        let path = self.folder.join(name);
        fs::write(&path, payload)?;
        self.held.push_back(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_thousand_are_kept_over_restarts_and_names_stay_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut rejects = Rejects::open(folder.path()).unwrap();
        for n in 0..i64::try_from(limits::REJECTS_MAX).unwrap() {
            rejects.put(UnixMillis(n), "fg/1/../../etc/data", b"x").unwrap();
        }
        let mut rejects = Rejects::open(folder.path()).unwrap();
        rejects.put(UnixMillis(5_000_000), "fg/1/a/data", b"new").unwrap();
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names.len(), limits::REJECTS_MAX);
        assert!(names.last().unwrap().to_string_lossy().contains("000005000000"));
    }
}
