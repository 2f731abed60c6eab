//! Files to be: changed in memory, checked as a whole, then written one by one, each whole. The order
//! is such that a power cut between two of them leaves what the gateway can be started with, or what
//! the next run of setup finds and goes on with.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::ask::Stopped;
use crate::cli::place::{Readers, place};
use crate::config::edit;
use crate::error::{Exit, Fatal};
use crate::events::firsthour;

/// Everything that setup would write.
#[derive(Clone)]
pub(super) struct Drafts {
    main: PathBuf,
    files: BTreeMap<PathBuf, String>,
    secrets: Vec<(PathBuf, String)>,
}

/// How a new main file begins.
const HEAD: &str = "# This gateway. Written by fieldgate setup, and yours to edit: setup changes only \
                    what it is asked to.\n# fieldgate check tells what is wrong with it, and every key \
                    there is stands in\n# /usr/share/doc/fieldgate/examples/fieldgate.toml.\nversion = 1\n";

impl Drafts {
    pub(super) fn new(main: &Path) -> Self {
        Self { main: main.to_owned(), files: BTreeMap::new(), secrets: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.secrets.is_empty()
    }

    /// Returns the folder that `conf.d` and secrets stand in.
    pub(super) fn folder(&self) -> PathBuf {
        let folder = self.main.parent().filter(|it| !it.as_os_str().is_empty());
        folder.unwrap_or(Path::new(".")).to_owned()
    }

    /// Returns the files as they would be.
    pub(super) fn list(&self) -> Vec<(PathBuf, String)> {
        self.files.iter().map(|(path, text)| (path.clone(), text.clone())).collect()
    }

    /// Returns files and their lines, secrets with none.
    pub(super) fn summary(&self) -> Vec<(PathBuf, usize)> {
        let files = self.files.iter().map(|(path, text)| (path.clone(), text.lines().count()));
        files.chain(self.secrets.iter().map(|(path, _)| (path.clone(), 1))).collect()
    }

    fn main_text(&self) -> String {
        let draft = self.files.get(&self.main).cloned();
        let there = || std::fs::read_to_string(&self.main).ok();
        draft.or_else(there).unwrap_or_else(|| HEAD.to_owned())
    }

    /// Returns the main file as it would be, read leniently.
    pub(super) fn main_table(&self) -> toml::Table {
        self.main_text().parse().unwrap_or_default()
    }

    /// Returns whether the main file, as it would be, has a port of that name.
    pub(super) fn has_port(&self, name: &str) -> bool {
        self.main_table().get("port").is_some_and(|ports| ports.get(name).is_some())
    }

    /// Returns the name of the port with that path in the main file, as it would be.
    pub(super) fn port_of(&self, path: &str) -> Option<String> {
        let table = self.main_table();
        let ports = table.get("port")?.as_table()?;
        let at = |port: &toml::Value| port.get("path").and_then(toml::Value::as_str) == Some(path);
        ports.iter().find(|(_, port)| at(port)).map(|(name, _)| name.clone())
    }

    /// Sets a key in the main file.
    ///
    /// # Errors
    /// When the main file is laid out in a way that setup does not dare to change.
    pub(super) fn set(&mut self, table: &[&str], key: &str, value: &str) -> Result<(), Stopped> {
        let changed = edit::set(&self.main_text(), table, key, value).map_err(|why| {
            let notice = firsthour::not_edited(&self.main, &table.join("."), key, value, why);
            Stopped::Fatal(Fatal::new(Exit::Problem, notice.to_string()))
        })?;
        self.files.insert(self.main.clone(), changed);
        Ok(())
    }

    /// Adds a table to the main file.
    pub(super) fn append(&mut self, table: &str) {
        let changed = edit::append(&self.main_text(), table);
        self.files.insert(self.main.clone(), changed);
    }

    /// Returns whether a device was taken.
    pub(super) fn has_device(&self) -> bool {
        self.files.keys().any(|path| *path != self.main)
    }

    /// Makes a file in `conf.d`, which is not there yet.
    pub(super) fn add(&mut self, name: &str, text: String) {
        let path = self.folder().join("conf.d").join(format!("{name}.toml"));
        self.files.insert(path, text);
    }

    /// Takes a file in `conf.d` back.
    pub(super) fn remove(&mut self, name: &str) {
        self.files.remove(&self.folder().join("conf.d").join(format!("{name}.toml")));
    }

    /// Keeps a secret in a file of its own; returns the path.
    pub(super) fn secret(&mut self, name: &str, secret: String) -> PathBuf {
        let path = self.folder().join("secrets").join(name);
        self.secrets.retain(|(known, _)| *known != path);
        self.secrets.push((path.clone(), secret));
        path
    }

    /// Writes everything: secrets, then what others refer to before what refers to it. The main file
    /// comes last when it is new, since the service starts where it is; first when it is not, since
    /// what is added to it is what `conf.d` refers to.
    ///
    /// # Errors
    /// The first file that cannot be written; those before it are.
    pub(super) fn write(&self) -> Result<(), (PathBuf, io::Error)> {
        let folder = self.folder();
        for (needed, sub, mode) in [
            (true, folder.clone(), 0o755),
            (!self.secrets.is_empty(), folder.join("secrets"), 0o711),
            (self.files.len() > 1, folder.join("conf.d"), 0o755),
        ] {
            if needed && !sub.is_dir() {
                make_folder(&sub, mode).map_err(|error| (sub, error))?;
            }
        }
        for (path, secret) in &self.secrets {
            let content = format!("{secret}\n");
            place(path, content.as_bytes(), Readers::Daemon)
                .map_err(|error| (path.clone(), error))?;
        }
        let is_new = !self.main.exists();
        let (main, others): (Vec<_>, Vec<_>) =
            self.files.iter().partition(|(path, _)| **path == self.main);
        let order = if is_new { [others, main] } else { [main, others] };
        for (path, text) in order.into_iter().flatten() {
            place(path, text.as_bytes(), Readers::Group).map_err(|error| (path.clone(), error))?;
        }
        Ok(())
    }
}

fn make_folder(folder: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_main_file_comes_last_and_an_old_one_keeps_its_comments() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("fieldgate.toml");
        let mut drafts = Drafts::new(&main);
        assert!(drafts.is_empty());
        let unwrap = |done: Result<(), Stopped>| assert!(done.is_ok());
        unwrap(drafts.set(&["gateway"], "name", "\"g\""));
        drafts.add("meter", "[device.meter]\n".to_owned());
        drafts.add("other", "[device.other]\n".to_owned());
        drafts.remove("other");
        drafts.secret("cloud.password", "one".to_owned());
        let secret = drafts.secret("cloud.password", "two".to_owned());
        assert_eq!(drafts.summary().len(), 3);
        drafts.write().unwrap();
        assert_eq!(std::fs::read_to_string(secret).unwrap(), "two\n");
        let text = std::fs::read_to_string(&main).unwrap();
        assert!(text.contains("version = 1\n\n[gateway]\nname = \"g\"\n"), "{text}");
        std::fs::write(&main, "# mine\n[gateway]\nname = \"g\" # why\n").unwrap();
        let mut drafts = Drafts::new(&main);
        unwrap(drafts.set(&["gateway"], "name", "\"h\""));
        drafts.append("[port.a]\npath = \"/dev/x\"\n");
        drafts.write().unwrap();
        let text = std::fs::read_to_string(&main).unwrap();
        assert_eq!(text, "# mine\n[gateway]\nname = \"h\" # why\n\n[port.a]\npath = \"/dev/x\"\n");
    }
}
