//! Quotas over the file as it is, and the counts of what was written.

use super::*;

#[test]
fn a_quota_that_was_made_smaller_holds_from_the_start_for_the_file_and_its_log() {
    let mut bench = Bench::new();
    let (store, thread) = bench.open();
    for n in 0..300 {
        bench.append_large(&store, n);
        bench.flush(&store, true).unwrap();
    }
    assert!(usage(bench.path()).unwrap().bytes > 300 * 2 * 4096);
    thread.close();
    bench.settings.bytes_max = 2 * 1024 * 1024;
    let (store, _thread) = bench.open();
    let used = usage(bench.path()).unwrap().bytes;
    assert!(used + 64 * 4096 <= bench.settings.bytes_max, "{used}");
    let shown = *store.status().stream(Stream::Data);
    assert_eq!(shown.batches + shown.dropped, 300);
    assert!(shown.batches > 100, "{} batches are left", shown.batches);
    assert_eq!(shown.lo, shown.dropped + 1);
}

#[test]
fn a_disk_with_too_little_left_for_others_keeps_the_newest_in_the_room_there_is() {
    let mut bench = Bench::new();
    // More than any disk has: the file may not grow beyond the least a buffer has.
    bench.settings.free_min = u64::MAX;
    let (store, _thread) = bench.open();
    for n in 0..300 {
        bench.append_large(&store, n);
        bench.flush(&store, true).unwrap();
    }
    let used = usage(bench.path()).unwrap().bytes;
    assert!(used <= crate::limits::BUFFER_BYTES_MIN, "{used}");
    let shown = *store.status().stream(Stream::Data);
    assert_eq!(shown.batches + shown.dropped, 300);
    assert!(shown.batches > 100, "{} batches are left", shown.batches);
    assert!(bench.says("FG-B03"));
}

#[test]
fn a_file_that_grew_in_an_outage_is_small_again_when_the_outage_is_over() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    for n in 0..600 {
        for part in 0..4 {
            bench.append_large(&store, n * 4 + part);
        }
        bench.flush(&store, true).unwrap();
    }
    assert!(std::fs::metadata(bench.path()).unwrap().len() > 20_000_000);
    for shelf in [Shelf::Data, Shelf::Own] {
        let batches = bench.next(&store, shelf.stream(), 0, 100_000);
        batches.iter().for_each(|batch| store.acknowledge(shelf, batch.seq()));
    }
    while store.status().stream(Stream::Data).batches > 0 {
        for batch in bench.all(&store, Stream::Data) {
            store.acknowledge(Shelf::Data, batch.seq());
        }
        bench.flush(&store, false).unwrap();
    }
    thread.close();
    let (_store, thread) = bench.open();
    thread.close();
    let bytes = std::fs::metadata(bench.path()).unwrap().len();
    assert!(bytes < 1_000_000, "{bytes}");
}

#[test]
fn what_was_written_and_kept_is_counted_a_row_a_day_across_restarts() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    bench.append(&store, Stream::Data, 1..101);
    bench.flush(&store, true).unwrap();
    thread.close();
    let first = usage(bench.path()).unwrap();
    assert_eq!(first.days.len(), 1);
    let day = first.days[0];
    assert_eq!((day.day, day.readings), (START.0 / 86_400_000, 101));
    assert!(day.sealed > 0 && i64::try_from(day.sealed).unwrap() == day.grown, "{day:?}");
    // A folder in memory has no wear; any other has at least the pages just written.
    assert!(day.written == 0 || day.written > 4096 * 3, "{day:?}");
    let (_store, thread) = bench.open();
    thread.close();
    assert_eq!(usage(bench.path()).unwrap().days[0].readings, 102);
    bench.clock.set(UnixMillis(START.0 + 86_400_000));
    let (_store, thread) = bench.open();
    thread.close();
    let days: Vec<(i64, u64)> =
        usage(bench.path()).unwrap().days.iter().map(|day| (day.day, day.readings)).collect();
    let today = START.0 / 86_400_000;
    assert_eq!(days, [(today + 1, 1), (today, 102)]);
}
