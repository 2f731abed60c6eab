//! A disk that is not there yet at the first start, one that is taken out and put back, and a log that
//! loses what had been sent.

use super::*;

/// A store under a link whose target is not mounted yet.
fn unmounted() -> (Bench, std::path::PathBuf) {
    let mut bench = Bench::new();
    let target = bench.folder.path().join("disk");
    std::os::unix::fs::symlink(&target, bench.folder.path().join("link")).unwrap();
    bench.settings.path = bench.folder.path().join("link/buffer.db");
    (bench, target)
}

#[test]
fn a_place_that_is_mounted_after_the_first_start_gets_everything_read_since() {
    let (bench, target) = unmounted();
    let (store, thread) = bench.try_open().unwrap();
    let status = store.status();
    assert_eq!(status.health, Health::Refused(Trouble::Missing));
    assert_eq!((status.opened, status.epoch), (false, 0));
    assert!(bench.says("FG-B01"));
    bench.append(&store, Stream::Data, 1..11);
    assert_eq!(bench.flush(&store, true), Err(StoreError::Refused(Trouble::Missing)));
    let refused = bench.runtime.block_on(store.next(Stream::Data, 0, 1));
    assert_eq!(refused, Err(StoreError::Refused(Trouble::Missing)));
    std::fs::create_dir(&target).unwrap();
    bench.flush(&store, true).unwrap();
    let status = store.status();
    assert!(status.opened && status.epoch > 0 && status.health == Health::Good);
    assert_eq!(bench.numbers(&store, Stream::Data), (1..11).collect::<Vec<_>>());
    assert!(!bench.says("FG-B01"));
    assert_eq!(thread.close(), 0);
}

#[test]
fn what_is_dropped_before_there_ever_was_a_store_is_counted_in_the_store_that_comes() {
    let (bench, target) = unmounted();
    let (store, _thread) = bench.try_open().unwrap();
    let most = crate::limits::READINGS_UNCOMMITTED_MAX as i64;
    let block: Vec<i64> = (0..1000).collect();
    for _ in 0..most / 1000 + 3 {
        store.append(bench.group(Stream::Data, &block));
    }
    assert!(bench.flush(&store, true).is_err());
    assert!(bench.says("FG-B05"));
    std::fs::create_dir(&target).unwrap();
    bench.flush(&store, true).unwrap();
    let status = store.status();
    let data = status.stream(Stream::Data);
    assert_eq!((data.readings, data.dropped), (most as u64, 3000));
}

#[test]
fn a_store_that_waits_for_its_disk_is_closed_with_what_it_lost() {
    let (bench, _target) = unmounted();
    let (store, thread) = bench.try_open().unwrap();
    bench.append(&store, Stream::Data, 1..11);
    assert_eq!(thread.close(), 10);
}

/// A disk that fails may be unmounted, checked and mounted again under the daemon, or be another one
/// when it comes back.
#[test]
fn a_disk_that_fails_is_let_go_of_and_the_one_that_comes_back_is_taken_as_it_is() {
    let bench = Bench::new();
    let (store, _thread) = bench.open();
    let epoch = store.status().epoch;
    bench.append(&store, Stream::Data, 1..11);
    store.0.faults.lie.store(true, Ordering::Relaxed);
    assert_eq!(bench.flush(&store, true), Err(StoreError::Refused(Trouble::Failing)));
    let folder = bench.path().parent().unwrap();
    let open: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .filter(|file| file.starts_with(folder))
        .collect();
    assert!(open.is_empty(), "{open:?} keep the file system from being unmounted");
    std::fs::rename(folder, bench.folder.path().join("taken out")).unwrap();
    bench.append(&store, Stream::Data, 11..21);
    bench.flush(&store, true).unwrap();
    assert!(store.status().epoch > epoch, "another store, and no number comes twice");
    // Of the commit that failed nobody can say that it is anywhere.
    assert_eq!(bench.numbers(&store, Stream::Data), (1..21).collect::<Vec<_>>());
    assert!(matches!(bench.try_open(), Err(OpenError::Held { .. })), "it is locked again");
}

/// Changes a bit in the last page of the log, as a medium does that loses what it had confirmed. The
/// log's index, which would know better, is gone.
fn damage_the_last_transaction(bench: &Bench) {
    std::fs::remove_file(file::log_index(bench.path())).unwrap();
    let log = file::log(bench.path());
    let mut bytes = std::fs::read(&log).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    std::fs::write(log, bytes).unwrap();
}

fn keys(bench: &Bench, store: &Store) -> BTreeMap<(u64, u64), Bytes> {
    let shelves = [Shelf::Data, Shelf::SalvagedData];
    let all = shelves.map(|shelf| bench.runtime.block_on(store.next(shelf, 0, 1000)).unwrap());
    let key = |batch: &Batch| (header(batch).epoch, header(batch).sequence);
    all.iter().flatten().map(|batch| (key(batch), batch.payload().clone())).collect()
}

#[test]
fn a_last_transaction_that_is_lost_after_its_batch_was_sent_ends_the_epoch() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    for n in 1..4 {
        bench.append(&store, Stream::Data, n..n + 1);
        bench.flush(&store, true).unwrap();
    }
    let (epoch, sent) = (store.status().epoch, keys(&bench, &store));
    assert_eq!(sent.len(), 3);
    thread.abandon();
    drop(store);
    damage_the_last_transaction(&bench);
    let (store, _thread) = bench.open();
    assert!(bench.says("FG-B11") && bench.says("FG-B02"), "{:?}", bench.events.standing());
    assert!(store.status().epoch > epoch);
    bench.append(&store, Stream::Data, 4..5);
    while !store.status().salvages.iter().any(|salvage| salvage.done) {
        let _ = bench.flush(&store, true);
    }
    bench.flush(&store, true).unwrap();
    let back = keys(&bench, &store);
    for (key, payload) in &back {
        assert!(sent.get(key).is_none_or(|before| before == payload), "{key:?} came twice");
    }
    assert!(back.contains_key(&(epoch, 1)) && back.contains_key(&(epoch, 2)));
}

#[test]
fn a_last_transaction_that_is_lost_before_anything_of_it_was_sent_ends_nothing() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    bench.append(&store, Stream::Data, 1..2);
    bench.flush(&store, true).unwrap();
    let (epoch, sent) = (store.status().epoch, keys(&bench, &store));
    bench.append(&store, Stream::Data, 2..3);
    bench.flush(&store, true).unwrap();
    thread.abandon();
    drop(store);
    damage_the_last_transaction(&bench);
    let (store, _thread) = bench.open();
    assert!(bench.says("FG-B12") && !bench.says("FG-B11"), "{:?}", bench.events.standing());
    assert_eq!(store.status().epoch, epoch);
    assert_eq!(keys(&bench, &store), sent);
}
