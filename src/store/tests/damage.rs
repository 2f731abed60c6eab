//! A disk that refuses, loses or flips what it was given, and files that are not what they should be.

use super::*;

#[test]
fn a_full_disk_keeps_readings_in_memory_and_heals_by_itself() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    let pages = pages(bench.path());
    store.0.faults.pages_max.store(pages + 2, Ordering::Relaxed);
    bench.append(&store, Stream::Data, 1..20_001);
    assert_eq!(bench.flush(&store, true), Err(StoreError::Refused(Trouble::Full)));
    assert_eq!(store.status().health, Health::Refused(Trouble::Full));
    assert_eq!(store.status().uncommitted, 20_000);
    assert!(bench.says("FG-B01"));
    bench.append(&store, Stream::Data, 20_001..20_011);
    assert_eq!(bench.flush(&store, true), Err(StoreError::Refused(Trouble::Full)));
    assert_eq!(bench.events.standing().len(), 1, "told once");
    store.0.faults.pages_max.store(0, Ordering::Relaxed);
    bench.flush(&store, true).unwrap();
    assert_eq!(store.status().health, Health::Good);
    assert!(!bench.says("FG-B01"));
    assert_eq!(bench.numbers(&store, Stream::Data), (1..20_011).collect::<Vec<_>>());
    assert_eq!(thread.close(), 0);
}

#[test]
fn a_full_disk_takes_acknowledgements_and_goes_on_with_the_room_they_make() {
    let bench = Bench::new();
    let (store, _thread) = bench.open();
    bench.append(&store, Stream::Data, 1..40_001);
    bench.flush(&store, true).unwrap();
    store.0.faults.pages_max.store(pages(bench.path()), Ordering::Relaxed);
    bench.append(&store, Stream::Data, 40_001..70_001);
    assert!(bench.flush(&store, true).is_err());
    store.acknowledge(Stream::Data, 1);
    bench.flush(&store, true).unwrap();
    assert_eq!(bench.numbers(&store, Stream::Data), (40_001..70_001).collect::<Vec<_>>());
}

#[test]
fn readings_beyond_the_memory_bound_are_dropped_oldest_first_and_counted_exactly() {
    let bench = Bench::new();
    let (store, _thread) = bench.open();
    let pages = pages(bench.path());
    store.0.faults.pages_max.store(pages, Ordering::Relaxed);
    bench.append(&store, Stream::Event, 1..2);
    let most = crate::limits::READINGS_UNCOMMITTED_MAX as i64;
    let block: Vec<i64> = (0..1000).collect();
    for _ in 0..most / 1000 + 7 {
        store.append(bench.group(Stream::Data, &block));
    }
    assert!(bench.flush(&store, true).is_err());
    assert!(bench.says("FG-B05"));
    store.0.faults.pages_max.store(0, Ordering::Relaxed);
    bench.flush(&store, true).unwrap();
    let status = store.status();
    let data = status.stream(Stream::Data);
    assert_eq!(data.dropped, 8000, "the event takes room for one, so one block more");
    assert_eq!(data.readings + data.dropped, most as u64 + 7000);
    assert_eq!(status.stream(Stream::Event).readings, 1);
    bench.append(&store, Stream::Data, 1..2);
    bench.flush(&store, true).unwrap();
    assert_eq!(header(bench.all(&store, Stream::Data).last().unwrap()).dropped, 8000);
}

#[test]
fn a_commit_that_says_it_failed_but_landed_is_not_written_twice() {
    let bench = Bench::new();
    let (store, _thread) = bench.open();
    bench.append(&store, Stream::Data, 1..101);
    store.0.faults.lie.store(true, Ordering::Relaxed);
    assert_eq!(bench.flush(&store, true), Err(StoreError::Refused(Trouble::Failing)));
    bench.append(&store, Stream::Data, 101..151);
    bench.flush(&store, true).unwrap();
    assert_eq!(bench.numbers(&store, Stream::Data), (1..151).collect::<Vec<_>>());
}

/// A commit that only seals has no readings of its own: those that come while nobody knows whether it
/// is there are not part of it.
#[test]
fn readings_that_come_after_a_commit_that_failed_are_not_taken_for_its_own() {
    let bench = Bench::new();
    let (store, _thread) = bench.open();
    bench.append(&store, Stream::Data, 1..101);
    bench.flush(&store, false).unwrap();
    store.0.faults.lie.store(true, Ordering::Relaxed);
    assert_eq!(bench.flush(&store, true), Err(StoreError::Refused(Trouble::Failing)));
    bench.append(&store, Stream::Data, 101..151);
    bench.flush(&store, true).unwrap();
    assert_eq!(bench.numbers(&store, Stream::Data), (1..151).collect::<Vec<_>>());
}

#[test]
fn a_flipped_bit_in_a_batch_sets_that_batch_aside_and_stops_nothing() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    for n in 1..4 {
        bench.append(&store, Stream::Data, n..n + 1);
        bench.flush(&store, true).unwrap();
    }
    thread.close();
    bench.sql(
        "UPDATE batch SET payload =
               CAST(substr(payload, 1, 9) || x'ff' || substr(payload, 11) AS BLOB)
               WHERE id = 2",
    );
    let (store, _thread) = bench.open();
    assert_eq!(bench.numbers(&store, Stream::Data), [1, 3]);
    let status = store.status();
    assert_eq!(status.stream(Stream::Data).damaged, 1);
    assert_eq!(status.stream(Stream::Data).batches, 2);
    assert!(bench.says("FG-B04"));
}

#[test]
fn a_flipped_bit_in_committed_readings_costs_only_those() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    bench.append(&store, Stream::Data, 1..11);
    bench.flush(&store, false).unwrap();
    bench.append(&store, Stream::Data, 11..21);
    bench.flush(&store, false).unwrap();
    thread.abandon();
    bench.sql(
        "UPDATE slot SET body =
               CAST(substr(body, 1, 29) || x'00' || substr(body, 31) AS BLOB)
               WHERE id = (SELECT min(id) FROM slot)",
    );
    let (store, _thread) = bench.open();
    let found = bench.numbers(&store, Stream::Data);
    assert!(found == (1..11).collect::<Vec<_>>() || found == (11..21).collect::<Vec<_>>());
    assert_eq!(store.status().damaged_chunks, 1);
    bench.append(&store, Stream::Data, 21..31);
    bench.flush(&store, true).unwrap();
    assert_eq!(bench.numbers(&store, Stream::Data).len(), 20);
}

#[test]
fn a_file_that_never_was_a_store_is_left_alone() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path().parent().unwrap()).unwrap();
    let letter = "not a database, but a letter of some length".repeat(300);
    std::fs::write(bench.path(), &letter).unwrap();
    let refused = bench.try_open().err().unwrap();
    assert_eq!(refused.exit(), Exit::Misconfigured);
    assert_eq!(std::fs::read_to_string(bench.path()).unwrap(), letter);
}

#[test]
fn a_store_that_is_no_database_any_more_is_moved_aside_and_work_goes_on() {
    let bench = Bench::new();
    bench.open().1.close();
    std::fs::write(bench.path(), "not a database, but a letter of some length".repeat(300))
        .unwrap();
    let (store, thread) = bench.open();
    let first = store.status().epoch;
    assert!(bench.says("FG-B02"));
    thread.close();
    std::fs::write(bench.path(), [7; 9000]).unwrap();
    let (store, _thread) = bench.open();
    assert!(store.status().epoch > first, "the clock stands, the epoch must not");
    assert_eq!(bench.numbers(&store, Stream::Own), [0]);
    let aside = |n| bench.folder.path().join(format!("deeper/buffer.db.damaged-{n}"));
    assert!(aside(1).exists() && aside(2).exists());
    assert_eq!(std::fs::read(aside(2)).unwrap(), [7; 9000]);
}

#[test]
fn a_truncated_database_never_prevents_a_start() {
    for keep in [1, 100, 4096, 5000, 8192, 20_000] {
        let bench = Bench::new();
        let (store, thread) = bench.open();
        bench.append(&store, Stream::Data, 1..20_001);
        bench.flush(&store, true).unwrap();
        thread.close();
        let file = std::fs::OpenOptions::new().write(true).open(bench.path()).unwrap();
        file.set_len(keep).unwrap();
        let (store, _thread) = bench.try_open().unwrap();
        // What is missing may show only when it is read; the second answer is from a sound store.
        let _ = bench.runtime.block_on(store.next(Stream::Data, 0, 10));
        bench.append(&store, Stream::Data, 1..2);
        while bench.flush(&store, true).is_err() {}
        assert!(bench.numbers(&store, Stream::Data).contains(&1), "cut to {keep}");
    }
}

#[test]
fn a_log_without_its_database_is_told_and_everything_in_it_comes_back() {
    for gone in [false, true] {
        let bench = Bench::new();
        let (store, thread) = bench.open();
        bench.append(&store, Stream::Data, 1..2001);
        bench.flush(&store, true).unwrap();
        bench.append(&store, Stream::Data, 2001..2101);
        bench.flush(&store, false).unwrap();
        thread.abandon();
        drop(store);
        if gone {
            std::fs::remove_file(bench.path()).unwrap();
        } else {
            std::fs::write(bench.path(), []).unwrap();
        }
        // Whoever only looks must not let SQLite delete it.
        assert!(check(bench.path()).is_err());
        let (store, _thread) = bench.open();
        assert!(bench.says("FG-B02"), "gone {gone}");
        while !store.status().salvages.iter().any(|salvage| salvage.done) {
            let _ = bench.flush(&store, true);
        }
        bench.flush(&store, true).unwrap();
        let shelves = [Shelf::Data, Shelf::SalvagedData];
        let all = shelves.map(|shelf| bench.runtime.block_on(store.next(shelf, 0, 1000)).unwrap());
        let mut back: Vec<i64> = all.iter().flatten().flat_map(numbers).collect();
        back.sort_unstable();
        assert_eq!(back, (1..2101).collect::<Vec<_>>(), "gone {gone}");
    }
}

#[test]
fn damage_that_shows_only_at_work_moves_the_store_aside_and_work_goes_on() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    bench.append(&store, Stream::Data, 1..40_001);
    bench.flush(&store, true).unwrap();
    let epoch = store.status().epoch;
    thread.close();
    // The leaf of the `batch` table becomes noise; nothing reads it at a start.
    let conn = rusqlite::Connection::open(bench.path()).unwrap();
    let root: u64 = conn
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'batch'", [], |r| r.get(0))
        .map(|page: i64| page.unsigned_abs())
        .unwrap();
    drop(conn);
    let mut bytes = std::fs::read(bench.path()).unwrap();
    bytes[(root as usize - 1) * 4096..root as usize * 4096].fill(0xa5);
    std::fs::write(bench.path(), bytes).unwrap();
    let (store, _thread) = bench.try_open().unwrap();
    bench.append(&store, Stream::Data, 1..11);
    while bench.flush(&store, true).is_err() {}
    assert_eq!(bench.numbers(&store, Stream::Data), (1..11).collect::<Vec<_>>());
    assert!(store.status().epoch > epoch);
    assert!(bench.says("FG-B02") && !bench.says("FG-B01"));
}

#[test]
fn a_later_layout_is_refused_with_a_sentence_and_left_alone() {
    let bench = Bench::new();
    bench.open().1.close();
    bench.sql("PRAGMA user_version = 99");
    let before = std::fs::read(bench.path()).unwrap();
    let error = bench.try_open().err().unwrap();
    assert_eq!(error.exit(), Exit::Misconfigured);
    assert!(error.to_string().contains("has layout 99, later than this version's"), "{error}");
    assert_eq!(inspect(bench.path()).unwrap_err(), error);
    assert_eq!(std::fs::read(bench.path()).unwrap(), before);
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path().parent().unwrap()).unwrap();
    bench.sql("CREATE TABLE songs (title TEXT); INSERT INTO songs VALUES ('one')");
    let before = std::fs::read(bench.path()).unwrap();
    let error = bench.try_open().err().unwrap();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(std::fs::read(bench.path()).unwrap(), before);
}

#[test]
fn a_second_daemon_is_refused_by_the_first_ones_number() {
    let bench = Bench::new();
    let (_store, thread) = bench.open();
    let error = bench.try_open().err().unwrap();
    assert_eq!(error, OpenError::Held { path: bench.path().into(), pid: Some(std::process::id()) });
    thread.close();
    bench.try_open().unwrap();
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_in_words() {
    let mut bench = Bench::new();
    std::fs::write(bench.folder.path().join("file"), "").unwrap();
    let long = format!("{}/buffer.db", "x".repeat(300));
    for (path, expected) in [
        ("file/buffer.db", Trouble::NoFolder),
        ("file/deeper/buffer.db", Trouble::NoFolder),
        ("", Trouble::Folder),
        (&long, Trouble::Name),
    ] {
        bench.settings.path = bench.folder.path().join(path);
        let error = bench.try_open().err().unwrap();
        let OpenError::Unusable { trouble, .. } = &error else { panic!("{error}") };
        assert_eq!(*trouble, expected, "{path}");
        assert_eq!(error.exit(), Exit::Misconfigured, "{path}");
        assert!(!error.to_string().contains("os error"), "{error}");
    }
}

#[test]
fn what_passes_by_itself_is_waited_for_and_rights_are_a_persons_business() {
    use std::io::{Error, ErrorKind};
    for (errno, passes) in [(28, true), (122, true), (30, true), (5, true), (2, true), (116, true)]
        .into_iter()
        .chain([(13, false), (1, false), (20, false), (21, false), (36, false)])
    {
        let trouble = Trouble::of_io(&Error::from_raw_os_error(errno));
        assert_eq!(trouble.may_pass(), passes, "errno {errno} is {trouble:?}");
        let error = OpenError::unusable(Path::new("b"), trouble);
        assert_eq!(error.exit() == Exit::Misconfigured, !passes, "errno {errno}");
    }
    assert_eq!(Trouble::of_io(&Error::from(ErrorKind::PermissionDenied)), Trouble::NotAllowed);
}

fn pages(path: &Path) -> u32 {
    let conn = rusqlite::Connection::open(path).unwrap();
    conn.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap()
}
