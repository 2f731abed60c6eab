//! The rules folder across power cuts: after every single step of every change, what runs is the old
//! or the new, whole, and nothing that was begun stays.

use std::cell::Cell;

use semver::Version;

use super::*;

/// Lets so many steps through and then fails each, as a disk without power.
#[derive(Debug, Default)]
pub(super) struct Power(Cell<Option<u32>>);

impl Power {
    pub(super) fn step(&self) -> io::Result<()> {
        match self.0.get() {
            None => Ok(()),
            Some(0) => Err(io::ErrorKind::Other.into()),
            Some(left) => {
                self.0.set(Some(left - 1));
                Ok(())
            }
        }
    }
}

impl Folder {
    /// Lets so many steps of the disk through and then fails each; `None`: all are.
    pub(crate) fn cut_after(&self, steps: Option<u32>) {
        self.power.0.set(steps);
    }
}

fn file(number: u64) -> Vec<u8> {
    format!("rule {number} {}", "x".repeat(500)).into_bytes()
}

fn edition(number: u64) -> Edition {
    let version = Version::new(number, 0, 0);
    Edition { name: "deadband".to_owned(), version, digest: digest(&file(number)) }
}

/// Takes a version in: file first, ledger after.
fn take(folder: &mut Folder, number: u64) -> Result<(), Box<Notice>> {
    folder.keep(&edition(number), &file(number), Some("a signature"))?;
    folder.change(|ledger| {
        let post = ledger.posts.entry("smooth".to_owned()).or_default();
        post.good = post.live.take();
        post.live = Some(edition(number));
        ledger.highest.insert("KEY/deadband".to_owned(), edition(number));
    })
}

fn live(folder: &Folder) -> Option<Edition> {
    folder.ledger().posts.get("smooth").and_then(|post| post.live.clone())
}

fn is_clean(path: &Path) -> bool {
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with(PENDING) {
                return false;
            }
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    true
}

#[test]
fn a_power_cut_at_any_step_leaves_the_old_or_the_new_rule_whole() {
    let mut cuts = 0;
    for steps in 0.. {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("rules");
        let (mut folder, _) = Folder::open(&path).unwrap();
        take(&mut folder, 1).unwrap();
        folder.power.0.set(Some(steps));
        let done = take(&mut folder, 2).is_ok();
        drop(folder);

        let (folder, trouble) = Folder::open(&path).unwrap();
        assert!(trouble.is_none(), "{trouble:?}");
        assert!(is_clean(&path), "after {steps} steps something is left");
        let now = live(&folder).unwrap();
        let number = now.version.major;
        assert!(number == 2 || !done, "it was done, and is not there");
        assert_eq!(folder.read(&now).unwrap().file, file(number), "after {steps} steps");
        for edition in folder.ledger().posts["smooth"].editions() {
            assert!(folder.read(edition).is_some(), "{edition:?} is named and not there");
        }
        // It can be done once more.
        let mut folder = folder;
        take(&mut folder, 2).unwrap();
        assert_eq!(folder.read(&edition(2)).unwrap().signature.as_deref(), Some("a signature"));
        if done {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 12, "only {cuts} steps were cut");
}

#[test]
fn what_was_kept_is_there_after_a_start_and_written_once() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut folder, _) = Folder::open(temporary.path()).unwrap();
    take(&mut folder, 1).unwrap();
    take(&mut folder, 2).unwrap();
    folder
        .change(|ledger| {
            ledger.wants.insert("KEY".to_owned(), u64::MAX);
            ledger.posts.get_mut("smooth").unwrap().enabled = false;
            let smooth = ledger.posts.get_mut("smooth").unwrap();
            smooth.trial = Some(edition(1));
            smooth.on_probation = true;
            smooth.ended = Some(Ended::new(edition(1), End::SentAway, &"\u{e4}".repeat(1000)));
        })
        .unwrap();
    let before = folder.ledger().clone();
    let words = before.posts["smooth"].ended.as_ref().unwrap().why.len();
    assert!((limits::RULE_ENDED_BYTES_MAX - 1..=limits::RULE_ENDED_BYTES_MAX).contains(&words));
    // With the same content nothing is written: the disk may even refuse.
    folder.power.0.set(Some(0));
    folder.keep(&edition(2), &file(2), Some("a signature")).unwrap();
    folder.change(|_| ()).unwrap();
    let (again, trouble) = Folder::open(temporary.path()).unwrap();
    assert!(trouble.is_none());
    assert_eq!(*again.ledger(), before);
    assert_eq!(again.versions().len(), 2);
}

#[test]
fn a_file_that_rotted_is_as_good_as_gone_and_can_be_written_again() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut folder, _) = Folder::open(temporary.path()).unwrap();
    take(&mut folder, 1).unwrap();
    let at = folder.place(&edition(1)).join(RULE);
    for damage in [b"other".to_vec(), Vec::new(), file(1)[..100].to_vec(), file(2)] {
        fs::write(&at, damage).unwrap();
        assert_eq!(folder.read(&edition(1)), None);
    }
    take(&mut folder, 1).unwrap();
    assert!(folder.read(&edition(1)).is_some());
    fs::remove_file(&at).unwrap();
    assert_eq!(folder.read(&edition(1)), None);
}

#[test]
fn a_ledger_that_cannot_be_read_is_told_and_moved_aside() {
    let good = {
        let temporary = tempfile::tempdir().unwrap();
        let (mut folder, _) = Folder::open(temporary.path()).unwrap();
        take(&mut folder, 1).unwrap();
        fs::read_to_string(temporary.path().join(LEDGER)).unwrap()
    };
    for damaged in [
        String::new(),
        "{}".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.replace("\"v\": 1", "\"v\": 2"),
        good.replace("deadband", "../../etc"),
        good.replace("1.0.0", "one"),
        good.replace(&edition(1).digest, "abc"),
        format!("{good}{}", " ".repeat(limits::RULES_LEDGER_BYTES_MAX)),
    ] {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join(LEDGER), &damaged).unwrap();
        let (mut folder, trouble) = Folder::open(temporary.path()).unwrap();
        let told = trouble.unwrap_or_else(|| panic!("believed: {damaged}")).to_string();
        assert!(told.contains("FG-W71") && told.contains("ledger.damaged"), "{told}");
        assert_eq!(*folder.ledger(), Ledger::default());
        take(&mut folder, 1).unwrap();
        assert!(Folder::open(temporary.path()).unwrap().1.is_none());
    }
}

#[test]
fn the_quota_takes_the_oldest_that_nothing_needs_and_never_what_runs() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut folder, _) = Folder::open(temporary.path()).unwrap();
    folder.bytes_max = 4 * (file(1).len() as u64 + 20);
    for number in 1..=9 {
        take(&mut folder, number).unwrap();
        // The order of age must not hang on the file system's clock.
        let at = folder.place(&edition(number)).join(RULE);
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number);
        File::open(at).unwrap().set_modified(time).unwrap();
    }
    assert!(folder.read(&edition(9)).is_some() && folder.read(&edition(8)).is_some());
    assert!(folder.read(&edition(1)).is_none(), "the oldest stays");
    assert!(folder.versions().len() <= 4, "{:?}", folder.versions());

    folder.bytes_max = 2 * (file(1).len() as u64 + 20);
    let told = folder.keep(&edition(5), &file(5), None).unwrap_err().to_string();
    assert!(told.contains("FG-W70") && told.contains("no room"), "{told}");
    assert!(folder.read(&edition(9)).is_some() && folder.read(&edition(8)).is_some());
}

#[test]
fn a_disk_that_refuses_is_told_in_words_and_changes_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let file_in_the_way = temporary.path().join("rules");
    fs::write(&file_in_the_way, "not a folder").unwrap();
    let told = Folder::open(&file_in_the_way).unwrap_err().to_string();
    assert!(told.contains("FG-W70"), "{told}");

    let (mut folder, _) = Folder::open(&temporary.path().join("r")).unwrap();
    take(&mut folder, 1).unwrap();
    folder.power.0.set(Some(0));
    let told = take(&mut folder, 2).unwrap_err().to_string();
    assert!(told.contains("FG-W70") && told.contains("Try:"), "{told}");
    assert_eq!(live(&folder), Some(edition(1)));
}
