//! `write = "when-needed"`: what is on disk and what is not, and what a crash costs.

use super::*;

impl Bench {
    fn lazy() -> Self {
        let mut bench = Self::new();
        bench.settings.write = Write::WhenNeeded;
        bench
    }

    /// Opens, and acknowledges what the start sealed, so that batches are held from here on.
    fn open_lazily(&self) -> (Store, StoreThread) {
        let (store, thread) = self.open();
        for batch in self.all(&store, Stream::Own) {
            store.acknowledge(Shelf::Own, batch.seq());
        }
        for batch in self.all(&store, Stream::Data) {
            store.acknowledge(Shelf::Data, batch.seq());
        }
        self.flush(&store, true).unwrap();
        self.flush(&store, true).unwrap();
        (store, thread)
    }

    fn rows(&self) -> i64 {
        let conn = rusqlite::Connection::open(self.path()).unwrap();
        conn.query_row("SELECT count(*) FROM batch", [], |r| r.get(0)).unwrap()
    }
}

#[test]
fn a_batch_acknowledged_in_time_is_never_written_and_its_number_is() {
    let bench = Bench::lazy();
    let (store, _thread) = bench.open_lazily();
    for n in 1..4 {
        bench.append(&store, Stream::Data, n * 10..n * 10 + 5);
        bench.flush(&store, true).unwrap();
        let batches = bench.all(&store, Stream::Data);
        assert_eq!(batches.len(), 1);
        assert_eq!(header(&batches[0]).lowest_held, batches[0].seq());
        assert_eq!(numbers(&batches[0]), (n * 10..n * 10 + 5).collect::<Vec<_>>());
        let shown = *store.status().stream(Stream::Data);
        assert_eq!((shown.batches, shown.readings, shown.lo), (1, 5, batches[0].seq()));
        assert_eq!(bench.rows(), 0);
        let on_disk = inspect(bench.path()).unwrap();
        assert_eq!(on_disk.stream(Stream::Data).seq_next, batches[0].seq() + 1);
        store.acknowledge(Shelf::Data, batches[0].seq());
        bench.flush(&store, false).unwrap();
        assert_eq!(store.status().stream(Stream::Data).batches, 0);
    }
}

#[test]
fn a_stop_writes_what_was_held_although_nothing_else_waits() {
    let bench = Bench::lazy();
    let (store, thread) = bench.open_lazily();
    bench.append(&store, Stream::Data, 1..6);
    bench.flush(&store, true).unwrap();
    assert_eq!((bench.all(&store, Stream::Data).len(), bench.rows()), (1, 0));
    assert_eq!(thread.close(), 0);
    assert_eq!(bench.rows(), 1);
    let (store, _thread) = bench.open();
    assert_eq!(bench.numbers(&store, Stream::Data), [1, 2, 3, 4, 5]);
}

#[test]
fn a_crash_loses_what_was_held_and_its_numbers_are_never_given_again() {
    let bench = Bench::lazy();
    let (store, thread) = bench.open_lazily();
    let mut lost = Vec::new();
    for n in 1..4 {
        bench.append(&store, Stream::Data, n..n + 1);
        bench.flush(&store, true).unwrap();
        lost = bench.all(&store, Stream::Data).iter().map(Batch::seq).collect();
    }
    assert_eq!(lost.len(), 3);
    thread.abandon();
    let (store, _thread) = bench.open();
    bench.append(&store, Stream::Data, 9..10);
    bench.flush(&store, true).unwrap();
    let batches = bench.all(&store, Stream::Data);
    let first = header(&batches[0]);
    // Everything below is lost, and the receiver can count it.
    assert_eq!(first.sequence, lost[2] + 1);
    assert_eq!(first.lowest_held, first.sequence);
    assert_eq!(first.dropped, 0);
}

#[test]
fn a_stop_writes_what_is_held() {
    let bench = Bench::lazy();
    let (store, thread) = bench.open_lazily();
    bench.append(&store, Stream::Data, 1..6);
    bench.flush(&store, true).unwrap();
    let held = bench.all(&store, Stream::Data);
    assert_eq!(bench.rows(), 0);
    bench.append(&store, Stream::Data, 6..8);
    assert_eq!(thread.close(), 0);
    let bench = Bench { mark: 0.into(), ..bench };
    let (store, _thread) = bench.open();
    let found = bench.all(&store, Stream::Data);
    assert_eq!(found[0], held[0], "the same key, byte for byte");
    assert_eq!(bench.numbers(&store, Stream::Data), (1..8).collect::<Vec<_>>());
}

#[test]
fn more_than_the_memory_bound_is_written_in_order_and_holding_begins_again_once_it_is_gone() {
    let bench = Bench::lazy();
    let (store, _thread) = bench.open_lazily();
    let mut sent = 0;
    let mut seen: Vec<u64> = Vec::new();
    while bench.rows() == 0 {
        for _ in 0..30 {
            sent += 1;
            let text = Value::from_text(&format!("{sent:030000}"));
            let samples = vec![Sample::good(text)];
            store.append(Group { samples, ..bench.group(Stream::Data, &[sent]) });
        }
        bench.flush(&store, true).unwrap();
        assert!(sent < 1000, "it is never written");
    }
    let mut all = Vec::new();
    loop {
        let after = all.last().map_or(0, Batch::seq);
        let more = bench.next(&store, Stream::Data, after, 100);
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    assert_eq!(bench.rows(), i64::try_from(all.len()).unwrap());
    let total: usize = all.iter().map(|batch| batch.payload().len()).sum();
    assert!(total > crate::limits::HELD_BYTES_MAX);
    assert!(all.windows(2).all(|pair| pair[0].seq() + 1 == pair[1].seq()));
    for batch in all {
        seen.push(batch.seq());
        store.acknowledge(Shelf::Data, batch.seq());
    }
    bench.flush(&store, false).unwrap();
    bench.append(&store, Stream::Data, 5000..5001);
    bench.flush(&store, true).unwrap();
    assert_eq!(bench.all(&store, Stream::Data)[0].seq(), seen.len() as u64 + 1);
    assert_eq!(bench.rows(), 0, "holding did not begin again");
}

#[test]
fn readings_that_stand_on_disk_are_sealed_to_disk() {
    let mut bench = Bench::lazy();
    bench.settings.write = Write::Always;
    let (store, thread) = bench.open_lazily();
    bench.append(&store, Stream::Data, 1..6);
    bench.flush(&store, false).unwrap();
    thread.abandon();
    bench.settings.write = Write::WhenNeeded;
    let (store, thread) = bench.open();
    assert_eq!(bench.numbers(&store, Stream::Data), [1, 2, 3, 4, 5]);
    thread.abandon();
    let (store, _thread) = bench.open();
    assert_eq!(bench.numbers(&store, Stream::Data), [1, 2, 3, 4, 5]);
}

#[test]
fn a_commit_that_failed_and_is_there_loses_nothing_that_was_held() {
    let bench = Bench::lazy();
    let (store, _thread) = bench.open_lazily();
    bench.append(&store, Stream::Data, 1..4);
    store.0.faults.lie.store(true, Ordering::Relaxed);
    assert!(bench.flush(&store, true).is_err());
    bench.append(&store, Stream::Data, 4..6);
    bench.flush(&store, true).unwrap();
    assert_eq!(bench.numbers(&store, Stream::Data), [1, 2, 3, 4, 5]);
    let seqs: Vec<u64> = bench.all(&store, Stream::Data).iter().map(Batch::seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a hole that nothing stood in");
}
