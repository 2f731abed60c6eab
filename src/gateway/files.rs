//! The files of the configuration, looked at every two seconds. What an editor writes takes several
//! steps, so a change counts when two looks in a row have found the same; what editors leave beside
//! (names that begin with a dot or do not end in `.toml`) is not looked at.
//!
//! Looking costs a call of the system a file. The kernel could tell of changes instead (inotify); it
//! does not on network shares and some overlays, has to be told of new folders, and every save of an
//! editor is several events, so that the same rule would stand behind it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use crate::config::texts;

/// Between two looks.
const LOOK_TIME: Duration = Duration::from_secs(2);

/// See the file's head.
pub(super) struct Files {
    main: PathBuf,
    /// Files that the configuration names, and that count as parts of it: rules.
    named: Vec<PathBuf>,
    /// As they were when they were loaded.
    known: u64,
    /// As they were at the last look, when that was something else.
    seen: Option<u64>,
}

impl Files {
    pub(super) fn new(main: &Path) -> Self {
        let known = signature(texts::files(main));
        Self { main: main.to_owned(), named: Vec::new(), known, seen: None }
    }

    /// Notes that they are about to be loaded as they are now.
    pub(super) fn note(&mut self) {
        self.known = self.look();
        self.seen = None;
    }

    /// Notes which files the configuration names that was loaded.
    pub(super) fn name(&mut self, named: Vec<PathBuf>) {
        // Those that are new here were read a moment ago.
        let before = signature(self.named.iter().cloned());
        let after = signature(named.iter().cloned());
        self.known = self.known.wrapping_sub(before).wrapping_add(after);
        self.named = named;
    }

    fn look(&self) -> u64 {
        let named = signature(self.named.iter().cloned());
        signature(texts::files(&self.main)).wrapping_add(named)
    }

    /// Returns when they have changed and changed no more.
    pub(super) async fn changed(&mut self) {
        loop {
            sleep(LOOK_TIME).await;
            let now = self.look();
            if now == self.known {
                self.seen = None;
            } else if self.seen.replace(now) == Some(now) {
                return;
            }
        }
    }
}

/// Everything by which a changed file differs: its name, its length, when it was written, and which
/// file it is.
fn signature(files: impl IntoIterator<Item = PathBuf>) -> u64 {
    let mut hash = DefaultHasher::new();
    let mut any = false;
    for path in files {
        any = true;
        path.hash(&mut hash);
        if let Ok(about) = std::fs::metadata(&path) {
            (about.len(), about.mtime(), about.mtime_nsec(), about.ino()).hash(&mut hash);
        }
    }
    if any { hash.finish() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_when_it_is_over_and_what_editors_leave_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("fieldgate.toml");
        fs::write(&main, "a").unwrap();
        let mut files = Files::new(&main);
        let calm = async |files: &mut Files| {
            timeout(Duration::from_secs(10), files.changed()).await.is_err()
        };
        assert!(calm(&mut files).await);
        fs::write(folder.path().join(".fieldgate.toml.swp"), "x").unwrap();
        fs::write(folder.path().join("fieldgate.toml~"), "x").unwrap();
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        fs::write(folder.path().join("conf.d/4913"), "x").unwrap();
        assert!(calm(&mut files).await);
        fs::write(folder.path().join("conf.d/a.toml"), "x").unwrap();
        assert!(!calm(&mut files).await);
        files.note();
        assert!(calm(&mut files).await);
        // As editors do it: another file takes the name.
        fs::write(folder.path().join(".new"), "b").unwrap();
        fs::rename(folder.path().join(".new"), &main).unwrap();
        assert!(!calm(&mut files).await);
        files.note();
        fs::remove_file(folder.path().join("conf.d/a.toml")).unwrap();
        assert!(!calm(&mut files).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_keeps_changing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("fieldgate.toml");
        fs::write(&main, "").unwrap();
        let mut files = Files::new(&main);
        for n in 1..10 {
            fs::write(&main, "x".repeat(n)).unwrap();
            assert!(timeout(LOOK_TIME + LOOK_TIME / 4, files.changed()).await.is_err(), "{n}");
        }
        files.changed().await;
    }
}
