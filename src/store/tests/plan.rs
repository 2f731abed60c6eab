//! Data plans: longer batches of data, the same of events, and a count that outlives a start.

use super::*;

#[test]
fn a_plan_that_runs_short_makes_batches_of_data_longer_and_not_of_events() {
    let mut bench = Bench::new();
    // With both the same, whatever was committed once is due at the next commit.
    bench.settings.commit = Duration::from_secs(10);
    bench.settings.seal.age_max = Duration::from_secs(10);
    let (store, thread) = bench.open();
    let next = |stream| store.status().stream(stream).seq_next;
    let before = (next(Stream::Data), next(Stream::Event));
    let commit_twice = || {
        store.append(bench.group(Stream::Data, &[1]));
        store.append(bench.group(Stream::Event, &[1]));
        bench.flush(&store, false).unwrap();
        bench.flush(&store, false).unwrap();
        (next(Stream::Data), next(Stream::Event))
    };
    store.share(1).stretch(64);
    assert_eq!(commit_twice(), (before.0, before.1 + 1), "data gathers for 640 s");
    assert_eq!(store.status().stream(Stream::Data).readings_open, 1);
    store.share(0).stretch(1);
    let (data, _) = commit_twice();
    assert_eq!(data, before.0, "another uplink's plan does not end it");
    store.share(1).stretch(1);
    assert_eq!(commit_twice().0, before.0 + 1);
    thread.close();
}

#[test]
fn batches_are_made_longer_up_to_a_bound_and_never_shorter() {
    let seal = |age_max| Seal { age_max, ..Bench::new().settings.seal };
    let (second, most) = (Duration::from_secs(1), crate::limits::DATA_PLAN_AGE_MAX);
    assert_eq!(seal(second).age_max_of(Stream::Data, 64), second * 64);
    assert_eq!(seal(second * 60).age_max_of(Stream::Own, 64), most);
    assert_eq!(seal(most * 4).age_max_of(Stream::Data, 64), most * 4);
    assert_eq!(seal(second).age_max_of(Stream::Event, 64), second);
    assert_eq!(seal(second).age_max_of(Stream::Data, 0), second);
}

#[test]
fn what_was_used_of_a_plan_is_kept_by_name_and_a_damaged_row_counts_as_none() {
    let bench = Bench::new();
    let (store, thread) = bench.open_for(&["cloud", "site"]);
    let used = |bytes| Used { month: 682, from: START, bytes, plan: 500_000_000 };
    store.share(0).note_used(used(5));
    store.share(0).note_used(used(7));
    store.share(1).note_used(used(9));
    bench.seal_one(&store, 1);
    assert_eq!(store.share(0).used(), Some(used(7)));
    assert_eq!(inspect(bench.path()).unwrap().traffic, store.status().traffic);
    // No commit follows, and a stop writes it all the same.
    store.share(1).note_used(used(11));
    thread.close();
    let (store, thread) = bench.open_for(&["site", "cloud"]);
    assert_eq!((store.share(0).used(), store.share(1).used()), (Some(used(11)), Some(used(7))));
    thread.close();
    let conn = rusqlite::Connection::open(bench.path()).unwrap();
    conn.execute("UPDATE traffic SET bytes = 0 WHERE name = 'site'", []).unwrap();
    drop(conn);
    let (store, thread) = bench.open_for(&["site", "cloud"]);
    assert_eq!((store.share(0).used(), store.share(1).used()), (None, Some(used(7))));
    thread.close();
}
