//! Stores that were killed under load: whatever their pages were before, none is taken for damaged.

use super::*;

/// Numbers that do not compress, so that chunks take several slots.
fn noise(bench: &Bench, seed: i64, readings: i64) -> Group {
    let numbers: Vec<i64> = (0..readings)
        .map(|n| (seed * 7919 + n).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed()) >> 20)
        .collect();
    Group { at: UnixMillis(START.0 + seed * 1000), ..bench.group(Stream::Data, &numbers) }
}

#[test]
fn a_kill_under_any_load_leaves_a_store_that_goes_on() {
    for readings in [40, 700, 5000] {
        let bench = Bench::new();
        let mut committed = 0;
        let mut epoch = None;
        for life in 0..5 {
            let (store, thread) = bench.try_open().unwrap();
            bench.flush(&store, false).unwrap();
            assert_eq!(*epoch.get_or_insert(store.status().epoch), store.status().epoch, "{life}");
            for commit in 0..25 + life * 3 {
                committed += 1;
                store.append(noise(&bench, committed, readings));
                bench.flush(&store, commit % 10 == 9).unwrap();
                if commit % 11 == 10 {
                    for batch in bench.next(&store, Stream::Data, 0, 100) {
                        store.acknowledge(Stream::Data, batch.seq());
                    }
                }
            }
            thread.abandon();
            let said = bench.events.standing();
            let said: Vec<_> = said.iter().map(|s| s.notice.to_string()).collect();
            assert!(said.is_empty(), "{readings} a commit, life {life}: {said:?}");
        }
    }
}
