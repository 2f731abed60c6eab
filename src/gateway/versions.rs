//! Versions of the configuration that were in force or tried, in a folder beside the buffer: one file
//! each, its texts and who, when, what. A bounded number is kept, the oldest go first.
//!
//! A version is what a person wrote and nothing else: secrets and certificates are named in it, and
//! stay where they are. Files are written whole and renamed into place, so that a power cut leaves a
//! version or none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Config, Texts};
use crate::limits;

/// Where versions are kept. Read by the daemon, and by commands when it does not run.
#[derive(Debug, Clone)]
pub struct Versions {
    folder: PathBuf,
}

/// One version, without its texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// From 1; never given twice.
    pub number: u64,
    /// When it was first in force: milliseconds since 1970, or since boot while the clock was not set.
    pub at_ms: i64,
    /// Who asked for it, as far as that is known.
    pub by: String,
    /// What differs from the version before.
    pub what: String,
    /// Short hash of the configuration.
    pub hash: String,
    /// What became of it.
    pub state: State,
}

/// What became of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It was put in force for good.
    Kept,
    /// It is in force until it is confirmed or its time is up.
    OnTrial,
    /// It was tried, and the gateway went back.
    WentBack,
}

#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    version: Version,
    texts: Texts,
}

impl Versions {
    /// Returns where the versions of this configuration are: beside its buffer, in the state folder.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self::beside(&config.store.path)
    }

    /// Returns where the versions are that lie beside this buffer.
    #[must_use]
    pub fn beside(buffer: &Path) -> Self {
        Self { folder: buffer.parent().unwrap_or(Path::new(".")).join("versions") }
    }

    /// Returns all that is kept, newest first. What cannot be read is not among them.
    #[must_use]
    pub fn list(&self) -> Vec<Version> {
        let mut all: Vec<Version> =
            self.numbers().into_iter().filter_map(|n| Some(self.read(n)?.0)).collect();
        all.reverse();
        all
    }

    /// Returns a version with its texts.
    #[must_use]
    pub fn read(&self, number: u64) -> Option<(Version, Texts)> {
        let bytes = fs::read(self.path(number)).ok()?;
        let Record { version, texts } = serde_json::from_slice(&bytes).ok()?;
        (version.number == number && texts.is_proper()).then_some((version, texts))
    }

    /// Returns the latest that was put in force for good.
    #[must_use]
    pub fn latest_kept(&self) -> Option<(Version, Texts)> {
        let numbers = self.numbers();
        let all = numbers.into_iter().rev().filter_map(|number| self.read(number));
        all.into_iter().find(|(version, _)| version.state == State::Kept)
    }

    /// Keeps a version under the next number, which `version` need not have yet; drops the oldest
    /// beyond [`limits::CONFIG_VERSIONS_MAX`] and [`limits::CONFIG_VERSIONS_BYTES_MAX`].
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn keep(&self, version: Version, texts: &Texts) -> io::Result<u64> {
        let number = self.numbers().last().map_or(1, |last| last + 1);
        let version = Version { number, ..version };
        self.write(&Record { version, texts: texts.clone() })?;
        self.drop_oldest(number);
        Ok(number)
    }

    /// As [`Versions::keep`], with a word on what differs from the last that was put in force for
    /// good. When that is the same it is not kept twice, and its number is returned.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn keep_if_new(&self, version: Version, texts: &Texts) -> io::Result<u64> {
        let last = self.latest_kept();
        if let Some((last, known)) = &last
            && version.state == State::Kept
            && known == texts
        {
            return Ok(last.number);
        }
        let what = last.map_or_else(|| "the first".to_owned(), |(_, known)| what(&known, texts));
        self.keep(Version { what, ..version }, texts)
    }

    /// Notes what became of a version.
    ///
    /// # Errors
    /// When the disk does not take it; `NotFound` when there is no such version.
    pub fn mark(&self, number: u64, state: State) -> io::Result<()> {
        let (version, texts) = self.read(number).ok_or(ErrorKind::NotFound)?;
        self.write(&Record { version: Version { state, ..version }, texts })
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let bytes = serde_json::to_vec(record).map_err(|_| ErrorKind::InvalidData)?;
        let path = self.path(record.version.number);
        let beside = path.with_extension("new");
        let open =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
        let mut file = open?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(&self.folder)?.sync_all()
    }

    fn drop_oldest(&self, newest: u64) {
        // However many were tried since: what is in force and the one before it are what one goes
        // back to.
        let kept = self.list().into_iter().filter(|version| version.state == State::Kept);
        let stay: Vec<u64> = kept.map(|version| version.number).take(2).collect();
        let mut bytes = 0;
        for (count, number) in self.numbers().into_iter().rev().enumerate() {
            let path = self.path(number);
            bytes += fs::metadata(&path).map_or(0, |about| about.len());
            let beyond =
                count >= limits::CONFIG_VERSIONS_MAX || bytes > limits::CONFIG_VERSIONS_BYTES_MAX;
            if beyond && number < newest && !stay.contains(&number) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn numbers(&self) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let number = |name: &str| name.strip_suffix(".json")?.parse::<u64>().ok();
        let mut all: Vec<u64> =
            entries.flatten().filter_map(|entry| number(entry.file_name().to_str()?)).collect();
        all.sort_unstable();
        all
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:06}.json"))
    }
}

fn what(before: &Texts, after: &Texts) -> String {
    let mut all: Vec<String> =
        before.difference(after).into_iter().map(|(name, how)| format!("{name} {how}")).collect();
    let more = all.len().saturating_sub(FILES_NAMED_MAX);
    all.truncate(FILES_NAMED_MAX);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    if all.is_empty() { "the same texts".to_owned() } else { all.join(", ") }
}

/// Files that a version's summary names.
const FILES_NAMED_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Texts {
        Texts([("fieldgate.toml".to_owned(), text.to_owned())].into())
    }

    fn version(by: &str, state: State) -> Version {
        let (what, hash) = (String::new(), String::new());
        Version { number: 0, at_ms: 1, by: by.to_owned(), what, hash, state }
    }

    #[test]
    fn a_bounded_number_of_versions_is_kept_and_the_latest_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let versions = Versions { folder: folder.path().join("versions") };
        assert!(versions.latest_kept().is_none());
        let most = limits::CONFIG_VERSIONS_MAX as u64;
        for n in 1..=most + 5 {
            let state = if n % 2 == 0 { State::Kept } else { State::OnTrial };
            assert_eq!(versions.keep(version("me", state), &texts(&n.to_string())).unwrap(), n);
        }
        let list = versions.list();
        assert_eq!((list.len() as u64, list[0].number), (most, most + 5));
        let (kept, text) = versions.latest_kept().unwrap();
        let even = (most + 5) / 2 * 2;
        assert_eq!((kept.number, text), (even, texts(&even.to_string())));
        versions.mark(even, State::WentBack).unwrap();
        assert_eq!(versions.latest_kept().unwrap().0.number, even - 2);
        assert_eq!(versions.mark(1, State::Kept).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn versions_that_went_back_do_not_push_out_those_one_can_go_back_to() {
        let folder = tempfile::tempdir().unwrap();
        let versions = Versions { folder: folder.path().join("versions") };
        versions.keep(version("me", State::Kept), &texts("one")).unwrap();
        versions.keep(version("me", State::Kept), &texts("two")).unwrap();
        for n in 0..3 * limits::CONFIG_VERSIONS_MAX {
            let tried = version("me", State::OnTrial);
            let number = versions.keep(tried, &texts(&n.to_string())).unwrap();
            versions.mark(number, State::WentBack).unwrap();
        }
        let list = versions.list();
        let kept = list.iter().filter(|version| version.state == State::Kept);
        let kept: Vec<u64> = kept.map(|version| version.number).collect();
        assert_eq!(kept, [2, 1]);
        assert_eq!(list.len(), limits::CONFIG_VERSIONS_MAX + 2);
    }

    #[test]
    fn large_versions_leave_fewer_and_one_to_go_back_to() {
        let folder = tempfile::tempdir().unwrap();
        let versions = Versions { folder: folder.path().join("versions") };
        let large = "x".repeat(limits::CONFIG_BYTES_MAX - 1);
        for _ in 0..6 {
            versions.keep(version("me", State::Kept), &texts(&large)).unwrap();
        }
        let left: Vec<u64> = versions.list().iter().map(|version| version.number).collect();
        assert!(left.len() >= 2 && left.len() < 6 && left[0] == 6, "{left:?}");
        // What is damaged is passed over.
        fs::write(versions.path(6), "{").unwrap();
        assert_eq!(versions.latest_kept().unwrap().0.number, 5);
        assert_eq!(versions.keep(version("me", State::Kept), &texts("")).unwrap(), 7);
    }
}
