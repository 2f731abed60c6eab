//! Puts a file in its place whole or not at all: written beside it, synced, and moved over it. A power
//! cut or a Ctrl-C leaves the old one or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// Who may read a file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Readers<'a> {
    /// As the file that is replaced, else its owner and the group of its folder: root writes the
    /// configuration, the daemon's group reads it.
    Group,
    /// Nobody but the daemon's user: secrets.
    Daemon,
    /// As another file: the copy of one.
    Like(&'a Path),
}

/// Writes `content` to `path`.
///
/// # Errors
/// The system's; nothing has changed then.
pub(super) fn place(path: &Path, content: &[u8], readers: Readers<'_>) -> io::Result<()> {
    // A link stays one (a checkout, an overlay): what it leads to is replaced.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let path = &*real;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = draft_of(path);
    let _ = fs::remove_file(&draft);
    let (mode, owner) = rights(path, folder, readers);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)
        .and_then(|mut file| {
            // Whatever the umask of who calls it: the daemon is another user, and has to read it.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| match owner {
            Some((user, group)) => chown(&draft, user, group),
            None => Ok(()),
        })
        .and_then(|()| fs::rename(&draft, path))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

/// Hidden, and without `.toml` at its end: nobody reads it as a configuration.
fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

type Owner = Option<(Option<u32>, Option<u32>)>;

/// Only root can give files away; for others they belong to whoever writes them.
fn rights(path: &Path, folder: &Path, readers: Readers<'_>) -> (u32, Owner) {
    let root = is_root();
    let model = if let Readers::Like(other) = readers { other } else { path };
    match (readers, fs::metadata(model)) {
        (Readers::Daemon, _) => {
            (0o600, user("fieldgate").filter(|_| root).map(|user| (Some(user), None)))
        }
        (_, Ok(old)) => (old.mode() & 0o777, root.then_some((Some(old.uid()), Some(old.gid())))),
        (_, Err(_)) => {
            let group = fs::metadata(folder).ok().map(|folder| folder.gid());
            (0o640, group.filter(|_| root).map(|group| (None, Some(group))))
        }
    }
}

/// The effective user is who owns what this process makes in /proc (proc(5)).
pub(super) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0)
}

/// Returns the id of a user of this machine.
fn user(name: &str) -> Option<u32> {
    fs::read_to_string("/etc/passwd").ok()?.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_rights_and_a_secret_is_for_one_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a.toml"), "old").unwrap();
        fs::write(at(".a.toml.new"), "left by a power cut").unwrap();
        fs::set_permissions(at("a.toml"), std::os::unix::fs::PermissionsExt::from_mode(0o604))
            .unwrap();
        place(&at("a.toml"), b"new", Readers::Group).unwrap();
        assert_eq!(fs::read_to_string(at("a.toml")).unwrap(), "new");
        assert_eq!(fs::metadata(at("a.toml")).unwrap().mode() & 0o777, 0o604);
        place(&at("password"), b"x", Readers::Daemon).unwrap();
        assert_eq!(fs::metadata(at("password")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "a draft stayed");
        assert!(place(&at("no/such/folder"), b"x", Readers::Group).is_err());
        fs::set_permissions(at("a.toml"), fs::Permissions::from_mode(0o600)).unwrap();
        place(&at("a.toml.bak"), b"newer", Readers::Like(&at("a.toml"))).unwrap();
        assert_eq!(fs::metadata(at("a.toml.bak")).unwrap().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink("a.toml", at("link.toml")).unwrap();
        place(&at("link.toml"), b"newer", Readers::Group).unwrap();
        assert!(at("link.toml").is_symlink(), "the link became a file");
        assert_eq!(fs::read_to_string(at("a.toml")).unwrap(), "newer");
    }
}
