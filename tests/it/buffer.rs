//! `fieldgate buffer check`, `export` and `repair` as a person meets them: each run as a process, on
//! buffers that are sound, damaged, missing, somebody else's, in use and on a read-only disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use fieldgate::clock::System;
use fieldgate::events::Events;
use fieldgate::reading::Points;
use fieldgate::store::{Store, StoreThread};
use serde_json::Value as Json;

use crate::store::{Small, group, may_mount, runtime, settings};

/// A store that is open, and its points.
type Opened = (Store, Arc<Points>);

/// A folder with a configuration and room for a buffer.
struct Place(PathBuf);

impl Place {
    fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let config = "[gateway]\nname = \"gw\"\n[buffer]\npath = \"buffer.db\"\nkeep = \"3650d\"\n\
                      [source.push]\nvia = \"coap listen 127.0.0.1:0\"\n\
                      [uplink.x]\nurl = \"mqtt://127.0.0.1:1\"\n";
        fs::write(folder.join("fieldgate.toml"), config).unwrap();
        Self(folder.into())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fieldgate"))
            .args(["--config", "fieldgate.toml"])
            .args(arguments)
            .current_dir(&self.0)
            .output()
            .unwrap()
    }

    /// Runs a command of `buffer` and returns its exit code and what it said on both ways.
    fn buffer(&self, arguments: &[&str]) -> (i32, String) {
        let ended = self.run(&[&["buffer"], arguments].concat());
        let said = [ended.stdout, ended.stderr].concat();
        (ended.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    fn json(&self, arguments: &[&str]) -> (i32, Json) {
        let (code, said) = self.buffer(&[arguments, &["--json"]].concat());
        (code, serde_json::from_str(&said).unwrap_or_else(|e| panic!("{said}: {e}")))
    }

    /// Opens the buffer; nothing in it is sealed but when a test says so.
    fn open(&self) -> (Opened, StoreThread) {
        let mut settings = settings(&self.path("buffer.db"));
        settings.seal.age_max = Duration::from_secs(3600);
        settings.commit = Duration::from_secs(600);
        let (points, events) = (Arc::new(Points::default()), Events::default());
        let (store, thread) =
            Store::open(settings, Arc::clone(&points), Arc::new(System), events).unwrap();
        ((store, points), thread)
    }

    /// Leaves a buffer with these readings, sealed `a_batch` at a time.
    fn fill(&self, numbers: impl Iterator<Item = i64>, a_batch: usize) {
        let (store, thread) = self.open();
        let numbers: Vec<i64> = numbers.collect();
        numbers.chunks(a_batch).for_each(|chunk| append(&store, chunk, true));
        assert_eq!(thread.close(), 0);
    }

    /// The numbers in an exported file, in order.
    fn decode(&self, file: &str) -> Vec<i64> {
        let ended = self.run(&["decode", file]);
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let lines = String::from_utf8(ended.stdout).unwrap();
        let value = |line: &str| {
            let reading: Json = serde_json::from_str(line).unwrap();
            assert_eq!(reading["device"], "meter");
            reading["value"].as_i64().unwrap()
        };
        lines.lines().map(value).collect()
    }

    fn sql(&self, sql: &str) {
        rusqlite::Connection::open(self.path("buffer.db")).unwrap().execute_batch(sql).unwrap();
    }
}

fn append((store, points): &Opened, numbers: &[i64], seal: bool) {
    numbers.iter().for_each(|number| store.append(group(points, *number)));
    runtime().block_on(store.flush(seal)).unwrap();
}

/// Appends the first readings after a start, which are sealed by themselves after a moment.
fn append_first((store, points): &Opened, numbers: &[i64]) {
    let mut sealed = store.sealed();
    numbers.iter().for_each(|number| store.append(group(points, *number)));
    runtime().block_on(sealed.changed()).unwrap();
}

fn sorted(mut numbers: Vec<i64>) -> Vec<i64> {
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_sound_buffer_is_found_sound_and_exported_reading_by_reading() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    place.fill(1..=1000, 250);
    let (code, said) = place.buffer(&["check"]);
    assert_eq!((code, said.trim()), (0, "buffer ./buffer.db: 4 batches are sound"));
    let (code, found) = place.json(&["check"]);
    assert_eq!((code, &found["sound"], &found["batches"]), (0, &true.into(), &4.into()));

    let (code, said) = place.buffer(&["export", "out"]);
    assert_eq!((code, said.trim()), (0, "1000 readings in 4 batches of ./buffer.db are in out"));
    assert_eq!(place.decode("out"), (1..=1000).collect::<Vec<_>>());
    let (code, said) = place.buffer(&["export", "out"]);
    assert!(code == 3 && said.contains("FG-B14") && said.contains("is there already"), "{said}");
    let piped = place.run(&["buffer", "export", "-"]);
    assert_eq!(piped.stdout, fs::read(place.path("out")).unwrap());
    let said = String::from_utf8(piped.stderr).unwrap();
    assert!(said.contains("1000 readings") && said.contains("went out"), "{said}");
    let (code, said) = place.buffer(&["export", "no/such/folder/out"]);
    assert!(code == 3 && said.contains("names a folder that does not exist"), "{said}");
    let (code, said) = place.buffer(&["repair"]);
    assert_eq!((code, said.trim()), (0, "no damaged buffer stands beside ./buffer.db"));
    let (_, done) = place.json(&["export", "again"]);
    assert_eq!(done["readings"], 1000);
    assert_eq!(fs::read(place.path("again")).unwrap(), fs::read(place.path("out")).unwrap());
}

#[test]
fn beside_a_daemon_a_buffer_can_be_checked_and_exported_and_not_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let (store, thread) = place.open();
    append_first(&store, &(1..=40).collect::<Vec<_>>());
    append(&store, &[41, 42, 43], false);
    assert_eq!(place.buffer(&["check"]).0, 0);
    let (code, done) = place.json(&["export", "out"]);
    assert_eq!((code, &done["readings"], &done["batches"]), (0, &40.into(), &1.into()));
    assert_eq!(done["readings_not_sealed"], 3);
    assert_eq!(place.decode("out"), (1..=40).collect::<Vec<_>>());
    let (code, said) = place.buffer(&["repair"]);
    let by = format!("in use by process {}", std::process::id());
    assert!(code == 3 && said.contains("FG-B06") && said.contains(&by), "{said}");
    assert_eq!(thread.close(), 0);
    assert_eq!(place.buffer(&["repair"]).0, 0);
    place.buffer(&["export", "all"]);
    assert_eq!(place.decode("all"), (1..=43).collect::<Vec<_>>());
}

#[test]
fn a_damaged_batch_is_named_left_out_of_the_export_and_set_aside_by_a_repair() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    place.fill(1..=400, 100);
    place.sql("UPDATE batch SET payload = zeroblob(length(payload)) WHERE id = 2");
    let (code, said) = place.buffer(&["check"]);
    assert!(code == 1 && said.contains("damaged: batch 2 of data"), "{said}");
    let (code, found) = place.json(&["check"]);
    assert_eq!((code, &found["sound"]), (1, &false.into()));
    assert_eq!(found["batches_damaged"], serde_json::json!([["data", 2]]));
    let (code, said) = place.buffer(&["export", "out"]);
    assert!(code == 1 && said.contains("; 1 batches cannot be read"), "{said}");
    let rest: Vec<i64> = (1..=100).chain(201..=400).collect();
    assert_eq!(place.decode("out"), rest);
    assert_eq!(place.buffer(&["repair"]).0, 0);
    let (code, said) = place.buffer(&["check"]);
    assert!(code == 0 && said.contains("1 rows were set aside earlier"), "{said}");
    let (code, status) = place.json(&["status"]);
    assert_eq!((code, &status["streams"]["data"]["damaged"]), (1, &1.into()));
}

#[test]
fn a_buffer_that_is_no_database_any_more_is_read_without_one_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    place.fill(1..=400, 100);
    let mut bytes = fs::read(place.path("buffer.db")).unwrap();
    bytes[..4096].fill(0x55);
    fs::write(place.path("buffer.db"), &bytes).unwrap();
    let (code, said) = place.buffer(&["check"]);
    assert!(code == 1 && said.contains("FG-B09") && said.contains("damaged"), "{said}");
    assert!(said.contains("export FILE --damaged ./buffer.db"), "{said}");
    let (code, found) = place.json(&["check"]);
    assert_eq!((code, &found["readable"]), (1, &false.into()));
    assert_eq!(place.buffer(&["export", "out"]).0, 3);
    assert!(!place.path("out").exists(), "a file with nothing in it is left");
    let (code, said) = place.buffer(&["export", "out", "--damaged", "buffer.db"]);
    assert!(code == 0 && said.contains("400 readings in 4 batches"), "{said}");
    assert_eq!(place.decode("out"), (1..=400).collect::<Vec<_>>());

    let (code, done) = place.json(&["repair"]);
    assert_eq!((code, &done["salvages"][0]["readings"]), (0, &400.into()));
    assert_eq!(fs::read(place.path("buffer.db.damaged-1")).unwrap(), bytes, "it was written to");
    let (code, said) = place.buffer(&["check"]);
    assert!(code == 0 && said.contains("all that can be read is back"), "{said}");
    place.buffer(&["export", "one", "--damaged", "1"]);
    place.buffer(&["export", "all"]);
    assert_eq!(place.decode("one"), (1..=400).collect::<Vec<_>>());
    assert_eq!(place.decode("all"), (1..=400).collect::<Vec<_>>());
}

/// Goal: what stands in a store that was moved aside comes back exactly once, beside what is there,
/// however often it is repaired. Method: the files of a store that was killed at work stand as
/// `.damaged-1` beside a sound one of a later epoch.
#[test]
fn a_repair_brings_back_a_buffer_that_was_moved_aside_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(&folder.path().join("here"));
    let before = Place::new(&folder.path().join("before"));
    before.fill(1..=300, 100);
    let (store, thread) = before.open();
    append_first(&store, &(301..=500).collect::<Vec<_>>());
    append(&store, &(501..=520).collect::<Vec<_>>(), false);
    for end in ["", "-wal", "-shm"] {
        let from = before.path(&format!("buffer.db{end}"));
        fs::copy(from, place.path(&format!("buffer.db.damaged-1{end}"))).unwrap();
    }
    fs::copy(before.path("buffer.db.lock"), place.path("buffer.db.lock")).unwrap();
    thread.close();
    // It is not there while the new one is filled, or that would salvage it.
    let hide = |from: &str, to: &str| {
        for end in ["", "-wal", "-shm"] {
            let name = |name: &str| place.path(&format!("{name}{end}"));
            fs::rename(name(from), name(to)).unwrap();
        }
    };
    hide("buffer.db.damaged-1", "hidden");
    place.fill(1001..=1100, 50);
    hide("hidden", "buffer.db.damaged-1");
    let aside = fs::read(place.path("buffer.db.damaged-1")).unwrap();

    let (code, said) = place.buffer(&["check"]);
    assert!(code == 0 && said.contains("damaged-1, not salvaged yet"), "{said}");
    assert!(said.contains("fieldgate buffer repair"), "{said}");
    let (code, done) = place.json(&["export", "aside", "--damaged", "1"]);
    assert_eq!((code, &done["readings"]), (0, &500.into()));
    assert_eq!(done["readings_not_sealed"], 20);
    assert_eq!(sorted(place.decode("aside")), (1..=500).collect::<Vec<_>>());
    let wanted: Vec<i64> = (1..=520).chain(1001..=1100).collect();
    for round in ["first", "second"] {
        let (code, said) = place.buffer(&["repair"]);
        let told =
            "buffer.db.damaged-1: 500 readings in 4 batches and 20 that were in none are back";
        assert_eq!((code, said.trim()), (0, told));
        place.buffer(&["export", round]);
        assert_eq!(sorted(place.decode(round)), wanted, "after the {round} repair");
    }
    assert_eq!(fs::read(place.path("buffer.db.damaged-1")).unwrap(), aside, "it was written to");
}

#[test]
fn what_is_no_buffer_of_ours_is_refused_in_words_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let commands: [&[&str]; 3] = [&["check"], &["export", "out"], &["repair"]];
    let refused = |code: &str, word: &str| {
        let before = fs::read(place.path("buffer.db")).ok();
        for command in commands {
            let (exit, said) = place.buffer(command);
            assert_eq!(exit, 3, "{command:?}: {said}");
            assert!(said.contains(code) && said.contains(word), "{command:?}: {said}");
            assert!(!said.contains("os error") && !place.path("out").exists(), "{said}");
        }
        assert_eq!(fs::read(place.path("buffer.db")).ok(), before);
    };
    refused("FG-B09", "does not exist");
    place.sql("CREATE TABLE song (title TEXT)");
    refused("FG-B08", "belongs to another program");
    fs::remove_file(place.path("buffer.db")).unwrap();
    place.fill(1..=10, 10);
    place.sql("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)");
    refused("FG-B07", "has layout 99");
}

#[test]
fn an_empty_buffer_is_sound_and_gives_an_empty_export() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    place.fill(std::iter::empty(), 1);
    assert_eq!(place.buffer(&["check"]), (0, "buffer ./buffer.db: 0 batches are sound\n".into()));
    let (code, done) = place.json(&["export", "out"]);
    assert_eq!((code, &done["batches"]), (0, &0.into()));
    assert_eq!(fs::read(place.path("out")).unwrap(), b"");
}

#[test]
fn a_buffer_on_a_read_only_disk_can_be_checked_and_exported() {
    if !may_mount() {
        eprintln!("not root: nothing can be mounted");
        return;
    }
    let small = Small::mount();
    let place = Place::new(small.path());
    place.fill(1..=20, 10);
    let out = tempfile::tempdir().unwrap();
    let look = |name: &str, readings: i64| {
        let to = out.path().join(name);
        let (code, said) = place.buffer(&["check"]);
        assert!(code == 0, "{name}: {said}");
        let (code, said) = place.buffer(&["export", to.to_str().unwrap()]);
        assert!(code == 0, "{name}: {said}");
        assert_eq!(place.decode(to.to_str().unwrap()), (1..=readings).collect::<Vec<_>>());
        let (code, said) = place.buffer(&["repair"]);
        assert!(code == 3 && said.contains("read-only"), "{name}: {said}");
        let (code, said) = place.buffer(&["export", "here"]);
        assert!(code == 3 && said.contains("is on a read-only file system"), "{name}: {said}");
    };
    small.remount("ro");
    look("closed", 20);
    small.remount("rw");
    // As after kill -9: what came last stands in the log alone.
    let (store, thread) = place.open();
    append(&store, &[21, 22, 23], true);
    let files = ["", "-wal", "-shm"].map(|end| {
        let name = format!("buffer.db{end}");
        (place.path(&name), fs::read(place.path(&name)).unwrap())
    });
    thread.close();
    files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    small.remount("ro");
    look("killed", 23);
}
