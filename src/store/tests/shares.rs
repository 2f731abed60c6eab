//! Several uplinks on one store: each gets everything, a batch goes with the last of them, and
//! uplinks may come and go with a restart.

use super::*;

impl Bench {
    pub(super) fn open_for(&self, names: &[&str]) -> (Store, StoreThread) {
        let (store, thread) = Store::open_for(
            names.iter().map(|name| Arc::from(*name)).collect(),
            self.settings.clone(),
            Arc::clone(&self.points),
            Arc::clone(&self.clock) as _,
            self.events.clone(),
        )
        .unwrap();
        store.0.intake.begin();
        self.runtime.block_on(store.flush(true)).unwrap();
        (store, thread)
    }

    pub(super) fn seal_one(&self, store: &Store, number: i64) {
        store.append(self.group(Stream::Data, &[number]));
        self.flush(store, true).unwrap();
    }

    fn change(&self, store: &Store, names: &[&str]) {
        let names = names.iter().map(|name| Arc::from(*name)).collect();
        self.runtime.block_on(store.change(self.settings.clone(), names)).unwrap();
    }

    fn waits(&self, store: &Store, uplink: u8) -> Vec<u64> {
        let share = store.share(uplink);
        let batches = self.runtime.block_on(share.next(Shelf::Data, 0, 100_000)).unwrap();
        batches.iter().map(Batch::seq).collect()
    }

    fn held(store: &Store) -> u64 {
        store.status().stream(Stream::Data).batches
    }
}

#[test]
fn a_batch_is_freed_when_the_last_uplink_has_it_and_a_stuck_one_slows_no_other() {
    let bench = Bench::new();
    let (store, thread) = bench.open_for(&["cloud", "site"]);
    (1..=20).for_each(|number| bench.seal_one(&store, number));
    store.share(0).acknowledge(Shelf::Data, 1, 20);
    bench.flush(&store, false).unwrap();
    assert_eq!(Bench::held(&store), 20, "site has none");
    assert!(bench.waits(&store, 0).is_empty());
    assert_eq!(bench.waits(&store, 1), (1..=20).collect::<Vec<_>>());
    let status = store.status();
    assert_eq!(status.uplinks.iter().map(|u| u.shelves[0].batches).collect::<Vec<_>>(), [0, 20]);
    assert_eq!((status.uplinks[0].shelves[0].lo, status.uplinks[1].shelves[0].lo), (21, 1));
    assert_eq!(inspect(bench.path()).unwrap().uplinks, status.uplinks);
    for seqs in [3..=3, 1..=1, 7..=9] {
        store.share(1).acknowledge(Shelf::Data, *seqs.start(), *seqs.end());
    }
    bench.flush(&store, false).unwrap();
    assert_eq!((Bench::held(&store), bench.waits(&store, 1)[..3].to_vec()), (15, vec![2, 4, 5]));
    assert_eq!(store.status().uplinks[1].shelves[0].batches, 15);
    thread.close();
}

#[test]
fn a_new_uplink_gets_what_is_held_and_one_that_is_gone_is_forgotten() {
    let bench = Bench::new();
    let (store, thread) = bench.open_for(&["cloud"]);
    (1..=4).for_each(|number| bench.seal_one(&store, number));
    store.acknowledge(Stream::Data, 1);
    bench.flush(&store, false).unwrap();
    thread.close();
    let (store, thread) = bench.open_for(&["site", "cloud"]);
    assert_eq!((bench.waits(&store, 0), bench.waits(&store, 1)), (vec![2, 3, 4], vec![2, 3, 4]));
    store.share(1).acknowledge(Shelf::Data, 2, 3);
    bench.flush(&store, false).unwrap();
    thread.abandon();
    // Names count, not places.
    let (store, thread) = bench.open_for(&["cloud", "third"]);
    assert_eq!((bench.waits(&store, 0), bench.waits(&store, 1)), (vec![4], vec![2, 3, 4]));
    thread.close();
    let (store, thread) = bench.open_for(&["cloud"]);
    assert_eq!((Bench::held(&store), bench.waits(&store, 0)), (1, vec![4]));
    thread.close();
    let (store, thread) = bench.open_for(&["cloud", "third"]);
    assert_eq!(bench.waits(&store, 1), [4]);
    thread.close();
}

#[test]
fn uplinks_come_and_go_while_it_runs_and_each_that_stays_keeps_its_place() {
    let bench = Bench::new();
    let (store, thread) = bench.open_for(&["cloud", "site"]);
    (1..=4).for_each(|number| bench.seal_one(&store, number));
    store.append(bench.group(Stream::Data, &[50]));
    store.share(0).acknowledge(Shelf::Data, 1, 4);
    store.share(1).acknowledge(Shelf::Data, 1, 2);
    bench.change(&store, &["", "site"]);
    // What cloud had and nobody has asked for since is not kept for it.
    // The reading that was open may be in a batch by now.
    assert_eq!(bench.waits(&store, 1)[..2], [3, 4]);
    // A late word from the place that nobody has frees nothing, and is not the next one's.
    store.share(0).acknowledge(Shelf::Data, 1, 4);
    bench.change(&store, &["third", "site"]);
    assert_eq!(bench.waits(&store, 0)[..2], [3, 4]);
    assert_eq!(bench.waits(&store, 1)[..2], [3, 4]);
    let status = store.status();
    let names: Vec<_> = status.uplinks.iter().map(|uplink| &*uplink.name).collect();
    assert_eq!(names, ["third", "site"]);
    bench.flush(&store, true).unwrap();
    assert_eq!(bench.waits(&store, 1), [3, 4, 5], "what was read before the change is there");
    bench.change(&store, &["third"]);
    store.share(0).acknowledge(Shelf::Data, 1, 5);
    bench.flush(&store, false).unwrap();
    assert_eq!(Bench::held(&store), 0);
    thread.close();
}

#[test]
fn other_settings_are_in_force_from_the_next_batch_on() {
    let bench = Bench::new();
    let (store, thread) = bench.open_for(&["cloud"]);
    let mut settings = bench.settings.clone();
    settings.config_hash = "another".into();
    settings.path = "elsewhere".into();
    bench.runtime.block_on(store.change(settings, vec!["cloud".into()])).unwrap();
    bench.seal_one(&store, 1);
    let batches = bench.runtime.block_on(store.next(Shelf::Data, 0, 10)).unwrap();
    let header = decode(batches[0].payload()).unwrap().header;
    assert_eq!(header.config_hash, "another");
    thread.close();
    assert!(bench.path().exists(), "a store does not move");
}

#[test]
fn a_damaged_note_of_what_an_uplink_has_costs_a_repeat_and_no_batch() {
    let bench = Bench::new();
    let (store, thread) = bench.open_for(&["cloud", "site"]);
    (1..=4).for_each(|number| bench.seal_one(&store, number));
    store.share(0).acknowledge(Shelf::Data, 1, 3);
    bench.flush(&store, false).unwrap();
    thread.close();
    bench.sql(
        "UPDATE uplink SET had = CAST(substr(had, 1, 12) || x'FF' || substr(had, 14) AS BLOB)",
    );
    let (store, thread) = bench.open_for(&["cloud", "site"]);
    assert_eq!(bench.waits(&store, 0), [1, 2, 3, 4]);
    store.share(1).acknowledge(Shelf::Data, 1, 4);
    bench.flush(&store, false).unwrap();
    assert_eq!(Bench::held(&store), 4);
    thread.close();
}

#[test]
fn several_uplinks_agree_with_plain_lists_whatever_happens() {
    for seed in 0..12_u64 {
        let mut state = seed.wrapping_add(77);
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let bench = Bench::new();
        let all = ["a", "b", "c"];
        let mut names = vec!["a", "b"];
        let (mut store, mut thread) = bench.open_for(&names);
        let mut wants: BTreeMap<&str, BTreeSet<u64>> =
            names.iter().map(|name| (*name, BTreeSet::new())).collect();
        let mut held: BTreeSet<u64> = BTreeSet::new();
        let mut newest = 0;
        for _ in 0..120 {
            match random(10) {
                0..=3 => {
                    newest += 1;
                    bench.seal_one(&store, newest as i64);
                    held.insert(newest);
                    for name in &names {
                        wants.entry(name).or_default().insert(newest);
                    }
                }
                4..=8 => {
                    let at = random(names.len() as u64) as usize;
                    let first = 1 + random(newest + 1);
                    let last = first + random(4);
                    store.share(at as u8).acknowledge(Shelf::Data, first, last);
                    bench.flush(&store, false).unwrap();
                    let want = wants.entry(names[at]).or_default();
                    want.retain(|seq| !(first..=last).contains(seq));
                }
                _ => {
                    let how = random(3);
                    let count = 1 + random(3) as usize;
                    let next: Vec<&str> = all.iter().copied().take(count).collect();
                    // What nobody asked for before is wanted whole; what is gone is forgotten. One
                    // alone has what it has: the rest is freed when the others are forgotten.
                    wants.retain(|name, _| next.contains(name));
                    names = next;
                    for name in &names {
                        wants.entry(name).or_insert_with(|| held.clone());
                    }
                    if how == 0 {
                        bench.change(&store, &names);
                    } else {
                        if how == 1 {
                            thread.close();
                        } else {
                            thread.abandon();
                        }
                        (store, thread) = bench.open_for(&names);
                    }
                    store.append(bench.group(Stream::Own, &[0]));
                    bench.flush(&store, true).unwrap();
                }
            }
            held.retain(|seq| names.iter().any(|name| wants[name].contains(seq)));
            let found: Vec<_> = (0..names.len()).map(|at| bench.waits(&store, at as u8)).collect();
            let expected: Vec<Vec<u64>> =
                names.iter().map(|name| wants[name].iter().copied().collect()).collect();
            assert_eq!(found, expected, "seed {seed}");
            assert_eq!(Bench::held(&store), held.len() as u64, "seed {seed}");
        }
        thread.close();
    }
}

#[test]
fn an_acknowledgement_of_an_earlier_epoch_frees_nothing() {
    let bench = Bench::new();
    let (store, thread) = bench.open_for(&["cloud", "site"]);
    (1..=3).for_each(|number| bench.seal_one(&store, number));
    let (epoch, both) = (store.status().epoch, [store.share(0), store.share(1)]);
    for share in &both {
        share.acknowledge_of(epoch - 1, Shelf::Data, 1, 3);
    }
    assert_eq!(bench.waits(&store, 0), [1, 2, 3], "not even before the commit");
    bench.flush(&store, false).unwrap();
    assert_eq!((Bench::held(&store), bench.waits(&store, 1)), (3, vec![1, 2, 3]));
    for share in &both {
        share.acknowledge_of(epoch, Shelf::Data, 2, 2);
        share.acknowledge_of(epoch - 1, Shelf::Data, 1, 3);
    }
    bench.flush(&store, false).unwrap();
    assert_eq!((Bench::held(&store), bench.waits(&store, 1)), (2, vec![1, 3]));
    thread.close();
}
