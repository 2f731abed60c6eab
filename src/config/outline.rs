//! What the files of a configuration name, read leniently: for commands that must be of use before a
//! configuration is right, or when it is not any more. Nothing here is checked; `load` does that.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::limits;

/// What the files name.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    /// The files there are, the main one first.
    pub files: Vec<PathBuf>,
    /// Those of them that are no TOML, or not even text.
    pub broken: Vec<PathBuf>,
    /// `gateway.name`.
    pub gateway: Option<String>,
    /// `[port.NAME]`.
    pub ports: Vec<Port>,
    /// `[device.NAME]`.
    pub devices: Vec<Device>,
    /// Names of `[source.NAME]`.
    pub sources: Vec<String>,
    /// `[uplink.NAME]` and its url.
    pub uplinks: Vec<(String, String)>,
}

/// A serial port.
#[derive(Debug, Clone)]
pub struct Port {
    /// As devices name it.
    pub name: String,
    /// Its device node.
    pub path: PathBuf,
    /// As written, `9600 8N1` when absent.
    pub line: String,
}

/// A device.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub via: String,
    /// Its template, when it names one.
    pub template: Option<String>,
}

/// Looks at the configuration at `main` and in `conf.d` beside it, as far as it can be read.
#[must_use]
pub fn outline(main: &Path) -> Outline {
    let mut outline = Outline::default();
    for file in files(main) {
        let text = std::fs::read_to_string(&file).ok();
        match text.and_then(|text| text.parse::<Table>().ok()) {
            Some(table) => outline.take(&table, &folder(&file)),
            None => outline.broken.push(file.clone()),
        }
        outline.files.push(file);
    }
    outline
}

/// Returns the files of a configuration that exist, in the order in which they are read.
#[must_use]
pub fn files(main: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    files.extend(main.is_file().then(|| main.to_owned()));
    let Ok(entries) = std::fs::read_dir(folder(main).join("conf.d")) else { return files };
    let is_hidden =
        |path: &Path| path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let mut more: Vec<_> = entries
        .take(limits::CONFIG_FILES_MAX)
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml") && !is_hidden(path))
        .collect();
    more.sort();
    files.extend(more);
    files
}

/// Returns a key as TOML wants it: bare where it may be, else quoted.
#[must_use]
pub fn key(key: &str) -> String {
    super::findings::key_as_written(key)
}

/// Returns text as TOML wants it, quoted.
#[must_use]
pub fn text(text: &str) -> String {
    super::findings::Plain::Text(text).to_string()
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

impl Outline {
    /// Returns the port of that name.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }

    fn take(&mut self, table: &Table, folder: &Path) {
        let text =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        if let Some(gateway) = table.get("gateway") {
            self.gateway = text(gateway, "name").or(self.gateway.take());
        }
        for (name, port) in named(table, "port") {
            let Some(path) = text(port, "path") else { continue };
            let line = text(port, "line").unwrap_or_else(|| "9600 8N1".to_owned());
            self.ports.push(Port { name: name.clone(), path: folder.join(path), line });
        }
        for (name, device) in named(table, "device") {
            let via = text(device, "via").unwrap_or_default();
            let template = text(device, "template");
            self.devices.push(Device { name: name.clone(), via, template });
        }
        self.sources.extend(named(table, "source").map(|(name, _)| name.clone()));
        for (name, uplink) in named(table, "uplink") {
            self.uplinks.push((name.clone(), text(uplink, "url").unwrap_or_default()));
        }
    }
}

fn named<'a>(table: &'a Table, kind: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    table.get(kind).and_then(Value::as_table).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_hides_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("fieldgate.toml");
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put("fieldgate.toml", "[gateway]\nname = \"g\"\n[port.a]\npath = \"/dev/ttyUSB0\"\n");
        put("conf.d/a.toml", "[device.m]\nvia = \"modbus a id 1\"\ntemplate = \"t\"\n");
        put("conf.d/b.toml", "[device.m\n");
        put("conf.d/.c.toml.new", "[device.n]\n");
        let latin = folder.path().join("conf.d/d.toml");
        std::fs::write(&latin, b"# Z\xE4hler\n[device.o]\n").unwrap();
        let outline = outline(&main);
        assert_eq!(outline.gateway.as_deref(), Some("g"));
        assert_eq!(outline.port("a").unwrap().line, "9600 8N1");
        assert_eq!(outline.devices[0].template.as_deref(), Some("t"));
        assert_eq!((outline.devices.len(), outline.files.len()), (1, 4));
        assert_eq!(outline.broken, [folder.path().join("conf.d/b.toml"), latin]);
        assert!(super::outline(Path::new("/nonexistent/x.toml")).files.is_empty());
    }
}
