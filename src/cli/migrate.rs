//! `fieldgate config migrate`: brings the files of a configuration to the version of the format that
//! this program writes. Comments and order stay; a backup stands beside each file that changes.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::place::{Readers, place};
use crate::config::{Text, edit, outline};
use crate::error::Exit;
use crate::events::firsthour;

/// The version that is written. There is one so far, so all that can be missing is its mark.
const VERSION: u32 = 1;

/// Brings the files of the configuration at `path` to [`VERSION`], and says to `out` what was done.
pub(super) fn run(path: &Path, out: &mut dyn Write) -> Exit {
    let (text, exit) = match migrated(path) {
        Ok(files) => (report(path, &files), Exit::Done),
        Err(message) => (message, Exit::Problem),
    };
    // Whoever closed the pipe does not want to know more.
    let _ = writeln!(out, "{text}");
    exit
}

fn report(path: &Path, files: &[(PathBuf, PathBuf)]) -> String {
    if files.is_empty() {
        return format!(
            "{}: version {VERSION} of the format already; nothing to do",
            path.display()
        );
    }
    let line = |(file, backup): &(PathBuf, PathBuf)| {
        format!("{}: version = {VERSION} added; as it was: {}", file.display(), backup.display())
    };
    let mut lines: Vec<_> = files.iter().map(line).collect();
    lines.push("Next: fieldgate check".to_owned());
    lines.join("\n")
}

/// Changes all files or, where one cannot be understood, none. Returns files and their backups.
fn migrated(path: &Path) -> Result<Vec<(PathBuf, PathBuf)>, String> {
    let files = outline::files(path);
    if files.first().is_none_or(|first| first != path) {
        let fault = Text::read(path, 1).err().map(|fault| fault.to_string());
        return Err(fault.unwrap_or_else(|| format!("{} holds no configuration", path.display())));
    }
    let mut changes = Vec::new();
    for file in files {
        let text = Text::read(&file, crate::limits::CONFIG_BYTES_MAX)
            .map_err(|fault| fault.to_string())?;
        newer(&file, &text.text)?;
        let changed = edit::with_version(&text.text, VERSION)
            .map_err(|why| firsthour::not_migrated(&file, why).to_string())?;
        changes.extend(changed.map(|changed| (file, text.text, changed)));
    }
    let mut done = Vec::new();
    for (file, before, after) in changes {
        let refused = |e: std::io::Error| firsthour::not_written(&file, e.kind()).to_string();
        let backup = free_name(&file);
        place(&backup, before.as_bytes(), Readers::Like(&file)).map_err(refused)?;
        place(&file, after.as_bytes(), Readers::Group).map_err(refused)?;
        done.push((file, backup));
    }
    Ok(done)
}

/// Refuses a file of a format that is not known yet.
fn newer(file: &Path, text: &str) -> Result<(), String> {
    let Ok(table) = text.parse::<toml::Table>() else { return Ok(()) };
    match table.get("version") {
        None => Ok(()),
        Some(version) if version.as_integer() == Some(VERSION.into()) => Ok(()),
        Some(version) => {
            Err(firsthour::newer_format(file, &version.to_string(), VERSION).to_string())
        }
    }
}

/// Returns a name beside `file` that nothing has: `fieldgate.toml.bak`, then `.bak2`.
fn free_name(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = |end: &str| file.with_file_name(format!("{name}.{end}"));
    let numbered = (2..1000).map(|n| beside(&format!("bak{n}")));
    std::iter::once(beside("bak"))
        .chain(numbered)
        .find(|path| !path.exists())
        .unwrap_or(beside("bak"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migrate(path: &Path) -> (Exit, String) {
        let mut out = Vec::new();
        let exit = run(path, &mut out);
        (exit, String::from_utf8(out).unwrap())
    }

    #[test]
    fn files_get_their_version_once_and_keep_all_else() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("fieldgate.toml");
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        let part = folder.path().join("conf.d/a.toml");
        std::fs::write(&main, "# my plant\n[gateway]\nname = \"g\" # mine\n").unwrap();
        std::fs::write(&part, "version = 1\n[device.d]\nvia = \"modbus tcp h id 1\"\n").unwrap();
        let (exit, said) = migrate(&main);
        assert!(exit == Exit::Done && said.contains("fieldgate.toml.bak"), "{said}");
        let now = std::fs::read_to_string(&main).unwrap();
        assert_eq!(now, "# my plant\nversion = 1\n\n[gateway]\nname = \"g\" # mine\n");
        let (exit, said) = migrate(&main);
        assert!(exit == Exit::Done && said.contains("nothing to do"), "{said}");
        assert_eq!(std::fs::read_to_string(&main).unwrap(), now);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_newer_or_broken_file_stops_it_before_anything_changes() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("fieldgate.toml");
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        std::fs::write(&main, "[gateway]\n").unwrap();
        for (content, words) in
            [("version = 2\n", "version 2"), ("version = \"x\"\n", "version"), ("[a", "no TOML")]
        {
            std::fs::write(folder.path().join("conf.d/b.toml"), content).unwrap();
            let (exit, said) = migrate(&main);
            assert!(exit == Exit::Problem && said.contains(words), "{content}: {said}");
            assert!(said.contains("b.toml") && said.contains("Try:"), "{said}");
            assert_eq!(std::fs::read_to_string(&main).unwrap(), "[gateway]\n");
        }
        let (exit, said) = migrate(&folder.path().join("none.toml"));
        assert!(exit == Exit::Problem && said.contains("no such file"), "{said}");
    }
}
