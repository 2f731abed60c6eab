//! What rules keep: in step with the readings it led to, whatever happens, and damaged for itself.

use super::*;
use crate::events::chain;
use crate::state::{Declared, Onto, Place};

const RULE: &str = "window";

impl Bench {
    fn kept(&self, store: &Store) -> BTreeMap<Arc<str>, Kept> {
        self.runtime.block_on(store.kept()).unwrap()
    }
}

/// What a rule keeps that has counted to `n`.
fn counted(rule: &str, n: i64) -> Change {
    let text = |text: &str| Arc::<str>::from(text);
    let bytes = n.to_le_bytes().to_vec();
    Change {
        rule: rule.into(),
        state: vec![
            (text("count"), Some(bytes.into())),
            (text(&format!("k{n}")), Some([7; 9].into())),
        ],
        timers: vec![(text("close"), Some(n * 1000)), (text("old"), (n % 2 == 0).then_some(n))],
        place: Place { batch: n.unsigned_abs(), watermark: n * 10, version: 1 },
        ..Change::default()
    }
}

fn count_of(kept: &Kept) -> i64 {
    kept.state.get("count").map_or(0, |bytes| i64::from_le_bytes(bytes[..].try_into().unwrap()))
}

fn output(point: &str) -> Declared {
    let (device, unit) = ("d".into(), "Cel".into());
    Declared { stream: Stream::Event, device, point: point.into(), unit }
}

fn begin(rule: &str) -> Change {
    Kept::default().to_change(rule.into())
}

#[test]
fn all_that_is_kept_comes_back_and_deleted_keys_do_not() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    let mut wanted = Kept::default();
    let mut changes = vec![begin(RULE)];
    changes.extend((1..6).map(|n| counted(RULE, n)));
    changes[1].declared = vec![output("a"), output("b")];
    changes[4].declared = vec![output("c")];
    changes[5].state.push(("k2".into(), None));
    for (n, change) in changes.into_iter().enumerate() {
        wanted.apply(&change);
        assert!(store.append_with(Vec::new(), vec![change]).is_empty());
        if n % 2 == 0 {
            bench.flush(&store, false).unwrap();
        }
    }
    assert_eq!(bench.kept(&store)[RULE], wanted);
    thread.abandon();
    let (store, _thread) = bench.open();
    assert_eq!(bench.kept(&store)[RULE], wanted);
    assert_eq!(wanted.declared.len(), 3);
    let shown = inspect(bench.path()).unwrap().rules[RULE];
    assert_eq!((shown.keys, shown.timers, shown.outputs, shown.batch), (5, 1, 3, 5));
}

/// Goal: at whatever moment the process dies, the state on disk is that of the last reading that is
/// on disk or was sent. Method: each batch appends the reading N and a state that says N; random
/// commits, seals, acknowledgements, failures and kills; with and without batches held in memory.
#[test]
fn state_and_readings_agree_after_a_kill_at_every_boundary() {
    let mut killed = 0;
    for write in [Write::Always, Write::WhenNeeded] {
        for seed in 1..7_u64 {
            killed += live_and_die(write, seed);
        }
    }
    assert!(killed > 150, "{killed} kills");
}

fn live_and_die(write: Write, seed: u64) -> u32 {
    let mut bench = Bench::in_folder(on_memory());
    bench.settings.write = write;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % limit
    };
    let mut sent: BTreeSet<i64> = BTreeSet::new();
    let (mut last, mut killed) = (0, 0);
    let (mut store, mut thread) = bench.open();
    store.append_with(Vec::new(), vec![begin(RULE)]);
    for _ in 0..400 {
        match below(40) {
            0..=19 => {
                last += 1;
                let groups = vec![bench.group(Stream::Data, &[last])];
                assert!(store.append_with(groups, vec![counted(RULE, last)]).is_empty());
            }
            20..=22 => store.append(bench.group(Stream::Own, &[last])),
            23..=28 => {
                let _ = bench.flush(&store, below(2) == 0);
            }
            29..=31 => {
                store.0.faults.lie.store(true, Ordering::Relaxed);
                let _ = bench.flush(&store, below(2) == 0);
            }
            32..=33 => {
                store.0.faults.read_only.store(true, Ordering::Relaxed);
                let _ = bench.flush(&store, true);
                store.0.faults.read_only.store(false, Ordering::Relaxed);
            }
            34..=36 => {
                // Whatever is seen may be with the receiver.
                for stream in [Stream::Data, Stream::Own] {
                    let batches = bench.runtime.block_on(store.next(stream, 0, 100));
                    for batch in batches.unwrap_or_default() {
                        if stream == Stream::Data {
                            sent.extend(numbers(&batch));
                        }
                        store.acknowledge(stream, batch.seq());
                    }
                }
            }
            _ => {
                thread.abandon();
                killed += 1;
                (store, thread) = bench.open();
                let on_disk = bench.numbers(&store, Stream::Data);
                let there: BTreeSet<i64> = sent.iter().copied().chain(on_disk).collect();
                let known = bench.kept(&store).remove(RULE);
                let Some(known) = known else {
                    assert!(there.is_empty(), "{write:?}, seed {seed}: readings and no state");
                    store.append_with(Vec::new(), vec![begin(RULE)]);
                    last = 0;
                    continue;
                };
                let count = count_of(&known);
                let wanted: BTreeSet<i64> = (1..=count).collect();
                assert_eq!(there, wanted, "{write:?}, seed {seed}: state says {count}");
                assert_eq!(known.place.batch, count.unsigned_abs());
                last = count;
            }
        }
    }
    drop(thread);
    killed
}

#[test]
fn a_batch_of_readings_and_its_state_are_never_held_in_memory_after_they_were_sealed() {
    let mut bench = Bench::new();
    bench.settings.write = Write::WhenNeeded;
    let (store, thread) = bench.open();
    store.append_with(Vec::new(), vec![begin(RULE)]);
    for batch in bench.all(&store, Stream::Own) {
        store.acknowledge(Shelf::Own, batch.seq());
    }
    bench.flush(&store, true).unwrap();
    bench.flush(&store, true).unwrap();
    // Held, for no rule had a part in it.
    bench.append(&store, Stream::Own, 1..2);
    bench.flush(&store, true).unwrap();
    assert_eq!(inspect(bench.path()).unwrap().stream(Stream::Own).batches, 0);
    store.append_with(vec![bench.group(Stream::Data, &[1])], vec![counted(RULE, 1)]);
    bench.flush(&store, false).unwrap();
    let on_disk = inspect(bench.path()).unwrap();
    assert_eq!((on_disk.stream(Stream::Data).batches, on_disk.stream(Stream::Own).batches), (1, 1));
    thread.abandon();
    let (store, _thread) = bench.open();
    assert_eq!(bench.numbers(&store, Stream::Data), [1]);
    assert_eq!(count_of(&bench.kept(&store)[RULE]), 1);
}

#[test]
fn while_the_disk_refuses_changes_wait_by_key_and_outlive_the_readings() {
    let bench = Bench::new();
    let (store, _thread) = bench.open();
    store.append_with(Vec::new(), vec![begin(RULE)]);
    bench.flush(&store, false).unwrap();
    store.0.faults.read_only.store(true, Ordering::Relaxed);
    let mut last = 0;
    while store.0.intake.dropped() == 0 {
        last += 1;
        let numbers: Vec<i64> = (last * 1000..(last + 1) * 1000).collect();
        let mut change = counted(RULE, last);
        change.state.truncate(1);
        assert!(
            store.append_with(vec![bench.group(Stream::Data, &numbers)], vec![change]).is_empty()
        );
        if last == 1 {
            assert!(bench.flush(&store, false).is_err());
        }
    }
    store.0.faults.read_only.store(false, Ordering::Relaxed);
    bench.flush(&store, false).unwrap();
    assert!(store.status().stream(Stream::Data).dropped > 0);
    assert_eq!(count_of(&bench.kept(&store)[RULE]), last);
}

#[test]
fn keys_that_come_and_go_while_the_disk_refuses_make_the_rule_say_all_it_knows() {
    let bench = Bench::new();
    let (store, _thread) = bench.open();
    let mut kept = Kept::default();
    store.append_with(Vec::new(), vec![begin(RULE)]);
    bench.flush(&store, false).unwrap();
    let asked = (0..40_000_i64).find(|n| {
        let key = |n: i64| Arc::<str>::from(format!("key {n}"));
        let state = vec![(key(*n), Some([1; 4].into())), (key(n - 3), None)];
        let change = Change { rule: RULE.into(), state, ..Change::default() };
        kept.apply(&change);
        !store.append_with(Vec::new(), vec![change]).is_empty()
    });
    assert!(asked.is_some_and(|n| n > 10_000), "{asked:?}");
    assert_eq!(kept.state.len(), 3);
    assert!(store.append_with(Vec::new(), vec![kept.to_change(RULE.into())]).is_empty());
    assert!(store.append_with(Vec::new(), vec![counted(RULE, 1)]).is_empty(), "it is asked again");
    kept.apply(&counted(RULE, 1));
    assert_eq!(bench.kept(&store)[RULE], kept);
}

#[test]
fn damage_costs_one_rule_its_state_and_nothing_else_whatever_column_it_hits() {
    let hits = [
        "rule_place SET batch = batch + 1",
        "rule_place SET rule = 'x'",
        "rule_place SET version = -1",
        "rule_place SET watermark = 'text'",
        "rule_state SET value = x'00'",
        "rule_state SET key = CAST(x'ff41' AS TEXT)",
        "rule_state SET value = 5",
        "rule_timer SET at = at + 1",
        "rule_timer SET name = 'other'",
        "rule_output SET place = 5",
        "rule_output SET stream = 9",
        "rule_output SET unit = CAST(x'ff' AS TEXT)",
        "rule_output SET crc = 'text'",
    ];
    for hit in hits {
        let bench = Bench::new();
        let (store, thread) = bench.open();
        for rule in ["good", "hit"] {
            let change = Change { declared: vec![output("o")], ..counted(rule, 3) };
            store.append_with(vec![bench.group(Stream::Data, &[1])], vec![begin(rule), change]);
        }
        bench.flush(&store, true).unwrap();
        let wanted = bench.kept(&store).remove("good").unwrap();
        thread.close();
        let one = if hit.starts_with("rule_state") { "AND key = 'count'" } else { "" };
        bench.sql(&format!("UPDATE {hit} WHERE rule = 'hit' {one}"));
        let found = check(bench.path()).unwrap();
        assert!(found.rules_damaged > 0 && !found.is_sound(), "{hit}: {found:?}");
        let (store, thread) = bench.open();
        let kept = bench.kept(&store);
        assert_eq!(kept.keys().map(|name| &**name).collect::<Vec<_>>(), ["good"], "{hit}");
        assert_eq!(kept["good"], wanted, "{hit}");
        assert_eq!(bench.numbers(&store, Stream::Data), [1, 1], "{hit}");
        assert!(bench.says("FG-W20"), "{hit}");
        // It begins anew, and that is whole.
        store.append_with(Vec::new(), vec![begin("hit"), counted("hit", 1)]);
        thread.close();
        assert!(check(bench.path()).unwrap().is_sound(), "{hit}");
        for rule in ["hit", "x"] {
            bench.events.clear(&chain::STATE_DAMAGED, &chain::subject(rule), "");
        }
        let (store, _thread) = bench.open();
        assert_eq!(count_of(&bench.kept(&store)["hit"]), 1, "{hit}");
        assert!(!bench.says("FG-W20"), "{hit}: told twice");
    }
}

#[test]
fn a_fork_takes_the_place_of_its_origin_in_one_transaction() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    store.append_with(Vec::new(), vec![begin(RULE), counted(RULE, 1)]);
    let origin = bench.kept(&store).remove(RULE).unwrap();
    store.append_with(Vec::new(), vec![origin.to_change("window+2".into())]);
    store.append_with(Vec::new(), vec![counted("window+2", 9), counted(RULE, 2)]);
    let kept = bench.kept(&store);
    assert_eq!((count_of(&kept[RULE]), count_of(&kept["window+2"])), (2, 9));
    let promoted = kept["window+2"].clone();
    let changes = vec![promoted.to_change(RULE.into()), Change::gone("window+2".into())];
    store.0.faults.lie.store(true, Ordering::Relaxed);
    store.append_with(Vec::new(), changes);
    assert!(bench.flush(&store, false).is_err());
    thread.abandon();
    let (store, thread) = bench.open();
    let kept = bench.kept(&store);
    assert_eq!((kept.len(), &kept[RULE]), (1, &promoted));
    store.forget_rule(RULE.into());
    assert!(bench.kept(&store).is_empty());
    // What comes for a rule that is gone begins nothing.
    assert_eq!(store.append_with(Vec::new(), vec![counted(RULE, 4)]).len(), 0);
    bench.flush(&store, false).unwrap();
    assert_eq!(store.append_with(Vec::new(), vec![counted(RULE, 5)]), [Arc::from(RULE)]);
    bench.flush(&store, false).unwrap();
    assert!(bench.kept(&store).is_empty());
    thread.close();
}

#[test]
fn a_store_moved_aside_while_it_runs_asks_each_rule_for_all_it_knows() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    let mut kept = Kept::default();
    store.append_with(Vec::new(), vec![begin(RULE)]);
    for n in 1..5 {
        kept.apply(&counted(RULE, n));
        store.append_with(Vec::new(), vec![counted(RULE, n)]);
    }
    bench.flush(&store, true).unwrap();
    thread.abandon();
    // The daemon has what it had; the file is another.
    std::fs::write(bench.path(), [b"SQLite format 3\0".as_slice(), &[0xAA; 8192]].concat())
        .unwrap();
    let (store, _thread) = bench.open();
    kept.apply(&counted(RULE, 5));
    store.append_with(vec![bench.group(Stream::Data, &[5])], vec![counted(RULE, 5)]);
    bench.flush(&store, false).unwrap();
    assert!(inspect(bench.path()).unwrap().rules.is_empty(), "a part of a state is there");
    kept.apply(&counted(RULE, 6));
    assert_eq!(store.append_with(Vec::new(), vec![counted(RULE, 6)]), [Arc::from(RULE)]);
    assert!(store.append_with(Vec::new(), vec![kept.to_change(RULE.into())]).is_empty());
    assert_eq!(bench.kept(&store)[RULE], kept);
    assert_eq!(kept.to_change(RULE.into()).onto, Onto::Nothing);
}
