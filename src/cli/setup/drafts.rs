//! Files to be: changed in memory, checked as a whole, then written one by one, each whole. The order
//! is such that a power cut between two of them leaves what the gateway can be started with, or what
//! the next run of setup finds and goes on with.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::ask::Stopped;
use crate::cli::place::{Readers, place};
use crate::config::{edit, outline};
use crate::error::{Exit, Fatal};
use crate::events::firsthour;

/// Everything that setup would write.
#[derive(Clone)]
pub(super) struct Drafts {
    main: PathBuf,
    files: BTreeMap<PathBuf, String>,
    /// Devices that were taken in this run.
    devices: Vec<String>,
    /// Where the CA was read that is kept beside the main file.
    ca: Option<PathBuf>,
    secrets: Vec<(PathBuf, String)>,
}

/// The broker's CA, beside the main file.
const CA_FILE: &str = "cloud-ca.pem";

/// How a new main file begins.
const HEAD: &str = "# This gateway. Written by fieldgate setup, and yours to edit: setup changes only \
                    what it is asked to.\n# fieldgate check tells what is wrong with it, and every key \
                    there is stands in\n# /usr/share/doc/fieldgate/examples/fieldgate.toml.\nversion = 1\n";

impl Drafts {
    pub(super) fn new(main: &Path) -> Self {
        Self {
            main: main.to_owned(),
            files: BTreeMap::new(),
            devices: Vec::new(),
            ca: None,
            secrets: Vec::new(),
        }
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
        self.text_of(&self.main).unwrap_or_else(|| HEAD.to_owned())
    }

    /// Returns a file as it would be.
    fn text_of(&self, path: &Path) -> Option<String> {
        let draft = self.files.get(path).cloned();
        draft.or_else(|| std::fs::read_to_string(path).ok())
    }

    /// Returns the file that defines a table: the main one, or one of `conf.d`. A table that is nowhere
    /// yet gets into the main file.
    fn home_of(&self, path: &[&str]) -> PathBuf {
        let has = |file: &PathBuf| {
            let table = self.text_of(file).and_then(|text| text.parse::<toml::Table>().ok());
            let mut at = table.map(toml::Value::Table);
            for name in path {
                at = at.and_then(|value| value.get(*name).cloned());
            }
            at.is_some()
        };
        outline::files(&self.main).into_iter().find(has).unwrap_or_else(|| self.main.clone())
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

    /// Sets a key where its table stands, else in the main file.
    ///
    /// # Errors
    /// When the file is laid out in a way that setup does not dare to change.
    pub(super) fn set(&mut self, table: &[&str], key: &str, value: &str) -> Result<(), Stopped> {
        let home = self.home_of(table);
        let text = self.text_of(&home).unwrap_or_else(|| HEAD.to_owned());
        let changed = edit::set(&text, table, key, value).map_err(|why| {
            let notice = firsthour::not_edited(&home, &table.join("."), key, value, why);
            Stopped::Fatal(Fatal::new(Exit::Problem, notice.to_string()))
        })?;
        self.files.insert(home, changed);
        Ok(())
    }

    /// Adds a table to the main file.
    pub(super) fn append(&mut self, table: &str) {
        let changed = edit::append(&self.main_text(), table);
        self.files.insert(self.main.clone(), changed);
    }

    /// Returns whether a device was taken.
    pub(super) fn has_device(&self) -> bool {
        !self.devices.is_empty()
    }

    /// Returns whether a device of that name was taken in this run.
    pub(super) fn has_device_named(&self, name: &str) -> bool {
        self.devices.iter().any(|device| device == name)
    }

    /// Makes a file in `conf.d` for a device. One that is there already stays, whatever it holds: the
    /// device's then gets a number. Hidden files are not read, so its name begins with no dot.
    pub(super) fn add(&mut self, device: &str, text: String) {
        let folder = self.folder().join("conf.d");
        let name = match device.trim_start_matches('.') {
            "" => "device",
            name => name,
        };
        let mut path = folder.join(format!("{name}.toml"));
        let mut n = 1;
        while self.files.contains_key(&path) || path.symlink_metadata().is_ok() {
            n += 1;
            path = folder.join(format!("{name}-{n}.toml"));
        }
        self.files.insert(path, text);
        self.devices.push(device.to_owned());
    }

    /// Keeps a copy of the broker's CA beside the main file, and returns its path. The daemon runs as
    /// another user and sees no home folder, so it could not read what a person names.
    ///
    /// # Errors
    /// The system's, when there is no such text.
    pub(super) fn keep_ca(&mut self, from: &Path) -> io::Result<PathBuf> {
        let text = std::fs::read_to_string(from)?;
        let path = self.folder().join(CA_FILE);
        self.files.insert(path.clone(), text);
        self.ca = Some(from.to_owned());
        std::path::absolute(path)
    }

    /// Returns where the CA can be read as long as its copy is not written.
    pub(super) fn readable_ca(&self, ca: &Path) -> Option<PathBuf> {
        self.ca.clone().filter(|_| ca.ends_with(CA_FILE))
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
            (self.has_device(), folder.join("conf.d"), 0o755),
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
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(folder)?;
    // Whatever the umask of who calls it: the daemon is another user, and has to get in.
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode))
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

    #[test]
    fn a_file_that_somebody_wrote_stays_whatever_the_new_device_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let conf_d = folder.path().join("conf.d");
        std::fs::create_dir(&conf_d).unwrap();
        std::fs::write(conf_d.join("meter.toml"), "[device.chiller]\n").unwrap();
        let mut drafts = Drafts::new(&folder.path().join("fieldgate.toml"));
        drafts.add("meter", "[device.meter]\n".to_owned());
        drafts.add(".pump", "[device.\".pump\"]\n".to_owned());
        assert!(drafts.has_device_named("meter") && !drafts.has_device_named("other"));
        drafts.write().unwrap();
        let read = |name: &str| std::fs::read_to_string(conf_d.join(name)).unwrap();
        assert_eq!(read("meter.toml"), "[device.chiller]\n");
        std::fs::write(conf_d.join("site.toml"), "[gateway]\nname = \"g\" # mine\n").unwrap();
        std::fs::write(folder.path().join("fieldgate.toml"), "# empty\n").unwrap();
        let mut drafts = Drafts::new(&folder.path().join("fieldgate.toml"));
        assert!(drafts.set(&["gateway"], "name", "\"h\"").is_ok());
        drafts.write().unwrap();
        assert_eq!(read("site.toml"), "[gateway]\nname = \"h\" # mine\n");
        assert_eq!(read("meter-2.toml"), "[device.meter]\n");
        assert_eq!(read("pump.toml"), "[device.\".pump\"]\n");
    }
}
