//! The texts of a configuration as one thing: read together, kept as a version, tried before they are
//! installed, and put in the place of others so that a power cut leaves the old or the new, whole.
//!
//! **Installing.** Beside the main file stands, for the moment of an installation,
//! [`JOURNAL`]: all texts of the new configuration in one file. From the rename that makes it until
//! it is removed, *it* is the configuration, for everyone who loads one; meanwhile each file takes
//! its new text by a rename of its own. So a cut before that rename leaves the old configuration, a
//! cut after it the new one, and whoever may write there finishes what is left ([`finish`]). It costs
//! writing each text twice, which for files of kilobytes is nothing.
//!
//! What the texts name stays where it is: secrets, certificates and rules are never copied.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::text::{Text, read_bytes};
use crate::events::apply as codes;
use crate::limits;

/// Name of the file that holds a configuration while it is being installed.
pub const JOURNAL: &str = ".fieldgate-next.json";

/// How the main file is called among the texts, whatever its name on disk is.
pub const MAIN: &str = "fieldgate.toml";

/// The texts of a configuration, by where they stand: [`MAIN`], `conf.d/NAME.toml`,
/// `templates/NAME.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Texts(pub BTreeMap<String, String>);

impl Texts {
    /// Reads what stands on disk: the main file, `conf.d` and `templates` beside it, or the journal
    /// of an installation that was cut short.
    ///
    /// # Errors
    /// When a file cannot be read, is no UTF-8, or all of them are too large.
    pub fn read(main: &Path) -> io::Result<Self> {
        if let Some(texts) = unfinished(main) {
            return Ok(texts);
        }
        let mut texts = Self::default();
        texts.take(MAIN, main)?;
        texts.take_folders(main)?;
        Ok(texts)
    }

    /// Reads what stands on disk, as [`Texts::read`]; there may be no main file yet.
    ///
    /// # Errors
    /// As [`Texts::read`].
    pub fn present(main: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(main).is_ok() || unfinished(main).is_some() {
            return Self::read(main);
        }
        let mut texts = Self::default();
        texts.take_folders(main)?;
        Ok(texts)
    }

    fn take_folders(&mut self, main: &Path) -> io::Result<()> {
        for folder in ["conf.d", "templates"] {
            for path in files_in(&folder_of(main).join(folder))? {
                let name = path.file_name().and_then(|name| name.to_str());
                let taken = match name {
                    Some(name) => self.take(&format!("{folder}/{name}"), &path),
                    None => Err(ErrorKind::InvalidData.into()),
                };
                // A template that cannot be read is missed where a device names it, and only there.
                if folder == "conf.d" {
                    taken?;
                }
            }
        }
        Ok(())
    }

    /// Reads a candidate: a folder that holds a whole configuration, or files that take their place
    /// in the present one: by the name of the main file, or into `conf.d`.
    ///
    /// # Errors
    /// As [`Texts::read`]; `InvalidInput` for a name that has no place.
    pub fn candidate(present: &Self, main: &Path, given: &[PathBuf]) -> io::Result<Self> {
        if let [folder] = given
            && folder.is_dir()
        {
            let main_name = main.file_name().unwrap_or(MAIN.as_ref());
            let (named, usual) = (folder.join(main_name), folder.join(MAIN));
            let mut texts = Self::read(if named.is_file() { &named } else { &usual })?;
            // A folder that has no templates says nothing of them: those that are here stay.
            if !folder.join("templates").is_dir() {
                let here = present.0.iter().filter(|(name, _)| name.starts_with("templates/"));
                texts.0.extend(here.map(|(name, text)| (name.clone(), text.clone())));
            }
            return Ok(texts);
        }
        let mut texts = present.clone();
        for path in given {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            fs::metadata(path)?;
            if path.file_name() == main.file_name() || name == MAIN {
                texts.take(MAIN, path)?;
            } else if name.ends_with(".toml") && !name.starts_with('.') {
                texts.take(&format!("conf.d/{name}"), path)?;
            } else {
                return Err(ErrorKind::InvalidInput.into());
            }
        }
        Ok(texts)
    }

    fn take(&mut self, name: &str, path: &Path) -> io::Result<()> {
        let bytes = read_bytes(path, limits::CONFIG_BYTES_MAX)?;
        if self.bytes() + bytes.len() > limits::CONFIG_BYTES_MAX {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let text = String::from_utf8(bytes).map_err(|_| ErrorKind::InvalidData)?;
        self.0.insert(name.to_owned(), text);
        Ok(())
    }

    /// Returns the bytes of all texts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.values().map(String::len).sum()
    }

    /// Returns whether each name is one that a configuration has, and the whole is not too large:
    /// what came over a socket must not name other places.
    #[must_use]
    pub fn is_proper(&self) -> bool {
        let proper = |name: &str| {
            let file = name.strip_prefix("conf.d/").or_else(|| name.strip_prefix("templates/"));
            name == MAIN || file.is_some_and(is_plain)
        };
        let count = self.0.len() <= 2 * limits::CONFIG_FILES_MAX + 1;
        let sized = self.bytes() <= limits::CONFIG_BYTES_MAX && count;
        sized && self.0.contains_key(MAIN) && self.0.keys().all(|name| proper(name))
    }

    /// Returns which texts differ in `other`, with a word for how.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Vec<(String, &'static str)> {
        let mut all = Vec::new();
        for (name, text) in &other.0 {
            match self.0.get(name) {
                Some(before) if before == text => {}
                Some(_) => all.push((name.clone(), "changed")),
                None => all.push((name.clone(), "added")),
            }
        }
        let gone = self.0.keys().filter(|name| !other.0.contains_key(*name));
        all.extend(gone.map(|name| (name.clone(), "removed")));
        all
    }

    /// Returns the main file and those of `conf.d` as if they stood at `main`.
    pub(super) fn as_if_at(&self, main: &Path) -> Vec<Text> {
        let folder = folder_of(main);
        let of_conf_d = self.0.iter().filter(|(name, _)| name.starts_with("conf.d/"));
        let mut texts = Vec::new();
        if let Some(text) = self.0.get(MAIN) {
            texts.push(Text::new(&main.to_string_lossy(), &folder, bare(text)));
        }
        for (name, text) in of_conf_d {
            let path = folder.join(name);
            texts.push(Text::new(&path.to_string_lossy(), &folder.join("conf.d"), bare(text)));
        }
        texts
    }

    /// Returns a template of this name, as if it stood beside `main`.
    pub(super) fn template(&self, name: &str, main: &Path) -> Option<Text> {
        let file = format!("templates/{name}.toml");
        let folder = folder_of(main);
        let path = folder.join(&file);
        let text = self.0.get(&file)?;
        let mut text = Text::new(&path.to_string_lossy(), &folder.join("templates"), bare(text));
        text.template = Some(name.into());
        Some(text)
    }
}

/// Without a byte order mark.
fn bare(text: &str) -> String {
    text.strip_prefix('\u{FEFF}').unwrap_or(text).to_owned()
}

fn is_plain(name: &str) -> bool {
    let stem = name.strip_suffix(".toml").unwrap_or_default();
    !stem.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

/// The folder of the main file.
fn folder_of(main: &Path) -> PathBuf {
    match main.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        // Those whose names are no UTF-8 are among them: they are told of, and not passed over.
        .filter(|path| path.file_name().is_some_and(|name| is_plain(&name.to_string_lossy())))
        .take(limits::CONFIG_FILES_MAX + 1)
        .collect();
    if paths.len() > limits::CONFIG_FILES_MAX {
        return Err(ErrorKind::QuotaExceeded.into());
    }
    paths.sort();
    Ok(paths)
}

/// Returns the files whose texts [`Texts::read`] would read now.
#[must_use]
pub fn files(main: &Path) -> Vec<PathBuf> {
    let folder = folder_of(main);
    let mut all = vec![folder.join(JOURNAL), main.to_owned()];
    for inner in ["conf.d", "templates"] {
        all.extend(files_in(&folder.join(inner)).unwrap_or_default());
    }
    all
}

/// Returns the configuration whose installation was cut short, if there is one.
#[must_use]
pub fn unfinished(main: &Path) -> Option<Texts> {
    let path = folder_of(main).join(JOURNAL);
    if fs::metadata(&path).ok()?.len() > 4 * limits::CONFIG_BYTES_MAX as u64 {
        return None;
    }
    let texts: Texts = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    texts.is_proper().then_some(texts)
}

/// Says that an installation was cut short.
pub(super) fn unfinished_fault(main: &Path) -> Fault {
    let journal = folder_of(main).join(JOURNAL);
    Fault::of_file(
        &codes::UNFINISHED,
        &journal.to_string_lossy(),
        "the installation of a configuration was cut short",
        "this file is the whole of it and is in force; the files beside it may still be others",
    )
    .hint("sudo fieldgate apply")
}

/// Puts `texts` in the place of the configuration at `main`, on disk for good when it returns. A
/// power cut at any moment leaves the one or the other.
///
/// # Errors
/// When the folder does not let itself be written. What was begun is taken back, or can be finished.
pub fn install(main: &Path, texts: &Texts) -> io::Result<()> {
    let _alone = lock(main);
    Installation::new(main, &mut |_| Ok(())).run(texts)
}

/// Finishes an installation that was cut short; returns whether there was one.
///
/// # Errors
/// As [`install`].
pub fn finish(main: &Path) -> io::Result<bool> {
    if unfinished(main).is_none() {
        return Ok(false);
    }
    let _alone = lock(main);
    // Whoever had the lock may be the one who finished it.
    let Some(texts) = unfinished(main) else { return Ok(false) };
    Installation::new(main, &mut |_| Ok(())).place(&texts)?;
    Ok(true)
}

/// Keeps others from installing there until it is dropped: there is one journal, and one file beside
/// each. Waits for whoever is at it. A file system that knows no locks is written without.
fn lock(main: &Path) -> Option<File> {
    let folder = File::open(folder_of(main)).ok()?;
    folder.lock().ok().map(|()| folder)
}

/// One installation; `step` is asked before each change of the disk, so that a test can cut there.
struct Installation<'a> {
    main: &'a Path,
    folder: PathBuf,
    step: &'a mut dyn FnMut(&str) -> io::Result<()>,
}

impl<'a> Installation<'a> {
    fn new(main: &'a Path, step: &'a mut dyn FnMut(&str) -> io::Result<()>) -> Self {
        Self { main, folder: folder_of(main), step }
    }

    fn run(&mut self, texts: &Texts) -> io::Result<()> {
        let journal = self.folder.join(JOURNAL);
        let bytes = serde_json::to_vec(texts).map_err(|_| ErrorKind::InvalidData)?;
        self.replace(&journal, &bytes)?;
        self.place(texts)
    }

    /// Gives each file its text, removes what the texts do not have, and the journal last.
    fn place(&mut self, texts: &Texts) -> io::Result<()> {
        for (name, text) in &texts.0 {
            let path = if name == MAIN { self.main.to_owned() } else { self.folder.join(name) };
            // Where a link stands, what it points to is meant.
            let path = fs::canonicalize(&path).unwrap_or(path);
            if fs::read(&path).is_ok_and(|present| present == text.as_bytes()) {
                continue;
            }
            self.make_folder_of(&path)?;
            self.replace(&path, text.as_bytes())?;
        }
        for folder in ["conf.d", "templates"] {
            for path in files_in(&self.folder.join(folder))? {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let named = format!("{folder}/{name}");
                // A template that no version can hold is not what this one left out.
                let is_foreign = || {
                    folder == "templates"
                        && (name.is_empty() || Texts::default().take(&named, &path).is_err())
                };
                if !texts.0.contains_key(&named) && !is_foreign() {
                    (self.step)("remove")?;
                    fs::remove_file(&path)?;
                }
            }
            sync_folder(&self.folder.join(folder));
        }
        (self.step)("journal")?;
        fs::remove_file(self.folder.join(JOURNAL))?;
        sync_folder(&self.folder);
        Ok(())
    }

    /// Writes beside the file, to the disk, and takes its place; owner and mode are those of the file
    /// that stood there, or of the main file.
    fn replace(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(MAIN);
        let beside = path.with_file_name(format!(".{}.new", name.trim_start_matches('.')));
        (self.step)("write")?;
        let _ = fs::remove_file(&beside);
        let written = self.write(path, &beside, bytes);
        if let Err(error) = written {
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        (self.step)("rename")?;
        fs::rename(&beside, path)?;
        sync_folder(path.parent().unwrap_or(&self.folder));
        Ok(())
    }

    fn write(&self, path: &Path, beside: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
        file.write_all(bytes)?;
        if let Ok(like) = fs::metadata(path).or_else(|_| fs::metadata(self.main)) {
            // Only root may give files away; whoever else writes here owns them all anyway.
            let _ = std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()));
            file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o777))?;
        }
        file.sync_all()
    }

    fn make_folder_of(&mut self, path: &Path) -> io::Result<()> {
        let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) else { return Ok(()) };
        (self.step)("folder")?;
        fs::create_dir(folder)?;
        if let Ok(like) = fs::metadata(&self.folder) {
            let _ = std::os::unix::fs::chown(folder, Some(like.uid()), Some(like.gid()));
            fs::set_permissions(folder, fs::Permissions::from_mode(like.mode() & 0o777))?;
        }
        sync_folder(&self.folder);
        Ok(())
    }
}

/// Makes renames and removals in a folder last. File systems that cannot say so make them last
/// anyway, or have no folder.
fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

#[cfg(test)]
mod tests;
