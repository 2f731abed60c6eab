//! What a rule sees does not depend on where batches were cut, on the clock's jumps or on a restart.

use super::*;

/// A stream of readings with gaps, late ones, and ones of a board without the time.
fn river(bench: &Bench, seed: u64, length: usize) -> Vec<Input> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = move |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) % limit) as i64
    };
    let mut now = START;
    let mut all = Vec::new();
    for _ in 0..length {
        now += match below(20) {
            0 => 7_000 + below(30_000),
            1..=9 => 0,
            _ => below(900),
        };
        let at = match below(25) {
            0 => now - below(20_000),
            1 => 1000 + below(100_000),
            _ => now,
        };
        all.push(bench.input(at, "meter", ["a", "b"][below(2) as usize], below(100)));
    }
    all
}

#[test]
fn the_same_input_gives_the_same_output_whatever_the_split_into_batches() {
    let kinds = [("window", Kind::Window), ("mark", Kind::Mark(1))];
    for seed in 1..40 {
        let mut outputs = Vec::new();
        for split in [1, 7, 100, 1000] {
            let bench = Bench::new(&kinds);
            let rules = || {
                vec![
                    definition("sums", "window", "meter/*"),
                    definition("marked", "mark", "sums/*_sum"),
                    // Takes what a source and what a rule makes.
                    definition("both", "mark", "*/a*"),
                ]
            };
            let mut chain = bench.chain(rules(), &BTreeMap::new());
            let mut kept = BTreeMap::new();
            for (n, part) in river(&bench, seed, 400).chunks(split).enumerate() {
                chain.feed(Feed::Readings(part.to_vec()));
                kept = chain
                    .nodes
                    .iter()
                    .map(|node| (Arc::clone(node.rule.name()), node.kept.clone()))
                    .collect();
                // A restart at some boundaries: memory is gone, what is kept is not.
                if n % 3 == 2 && split != 1000 {
                    chain = bench.chain(rules(), &kept);
                }
            }
            let state: Vec<_> = (kept.into_values())
                .map(|kept| (kept.state, kept.timers, kept.declared, kept.place.watermark))
                .collect();
            outputs.push((bench.left(), state));
        }
        assert!(outputs[0].0.len() > 100, "seed {seed}: {} readings", outputs[0].0.len());
        for other in &outputs[1..] {
            assert_eq!(&outputs[0], other, "seed {seed}");
        }
    }
}

#[test]
fn a_clock_that_jumps_closes_no_window_twice() {
    let bench = Bench::new(&[("window", Kind::Window)]);
    let mut chain = bench.chain(vec![definition("sums", "window", "meter/*")], &BTreeMap::new());
    let hour = 3_600_000;
    for at in [0, 1000, hour, hour + 1000, 2000, 3000, hour + 2000] {
        chain.feed(Feed::Readings(vec![bench.input(START + at, "meter", "a", 1)]));
    }
    // One dated ahead of the gateway's clock moves nothing.
    let ahead = Input { ahead: true, ..bench.input(START + 30 * hour, "meter", "a", 1) };
    chain.feed(Feed::Readings(vec![ahead]));
    chain.feed(Feed::Readings(vec![bench.input(START + hour + 16_000, "meter", "a", 1)]));
    let left = bench.left();
    assert_eq!(left[0], "sums/a_sum = 2 @10000");
    // The two that came after the jump back are late: the rule sees them, and says so itself.
    assert_eq!(left[1], "sums/a_sum = 2 @10000");
    assert_eq!(left[2], format!("sums/a_sum = 3 @{}", hour + 10_000));
    assert_eq!(left.len(), 3, "{left:?}");
    let late = bench.rust.seen.lock().unwrap();
    let late: Vec<bool> = late.iter().map(|one| one.quality.contains(wit::Quality::LATE)).collect();
    assert_eq!(late, [false, false, false, false, true, true, false, false, false]);
    assert!(!bench.says("FG-W28"), "a reading in time ends it");
}

#[test]
fn a_board_without_the_time_moves_no_watermark_and_says_so() {
    let bench = Bench::new(&[("window", Kind::Window)]);
    let mut chain = bench.chain(vec![definition("sums", "window", "meter/*")], &BTreeMap::new());
    for at in [1000, 500_000] {
        chain.feed(Feed::Readings(vec![bench.input(at, "meter", "a", 1)]));
    }
    let mut marked = bench.input(START, "meter", "a", 1);
    marked.samples[0].quality = Quality::ClockUnsynced;
    chain.feed(Feed::Readings(vec![marked]));
    assert!(bench.left().is_empty());
    let unsynced = wit::Quality::CLOCK_UNSYNCED;
    assert!(bench.rust.seen.lock().unwrap().iter().all(|one| one.quality.contains(unsynced)));
    assert_eq!(chain.nodes[0].kept.place.watermark, 0);
    chain.feed(Feed::Readings(vec![bench.input(START + 20_000, "meter", "a", 1)]));
    assert_eq!(bench.left().len(), 3, "what was counted meanwhile is closed once");
}

#[test]
fn the_gateways_clock_fires_what_is_due_when_no_reading_comes_and_a_replay_is_the_same() {
    let feeds = |bench: &Bench| {
        vec![
            Feed::Readings(vec![bench.input(START, "meter", "a", 4)]),
            Feed::Clock((START + 9_000) * US),
            Feed::Clock((START + 15_200) * US),
            Feed::Clock((START + 16_000) * US),
            Feed::Readings(vec![bench.input(START + 12_000, "meter", "a", 5)]),
        ]
    };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let bench = Bench::new(&[("window", Kind::Window)]);
        let rules = vec![definition("sums", "window", "meter/*")];
        let mut chain = bench.chain(rules, &BTreeMap::new());
        for (n, feed) in feeds(&bench).into_iter().enumerate() {
            chain.feed(feed);
            assert_eq!(bench.left().len(), usize::from(n >= 2), "feed {n}");
        }
        let batches = chain.nodes[0].kept.place.batch;
        assert_eq!(batches, 3, "a reading, a move that fired, a reading");
        seen.push((bench.left(), bench.out.lock().unwrap().changes.clone()));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].0, ["sums/a_sum = 4 @10000"]);
}

#[test]
fn a_rule_that_the_store_asks_says_all_it_keeps() {
    let bench = Bench::new(&[("window", Kind::Window)]);
    let mut chain = bench.chain(vec![definition("sums", "window", "meter/*")], &BTreeMap::new());
    let input = |at| vec![bench.input(START + at, "meter", "a", 1)];
    bench.out.lock().unwrap().ask = true;
    chain.feed(Feed::Readings(input(0)));
    bench.out.lock().unwrap().changes.clear();
    chain.feed(Feed::Readings(input(30_000)));
    let changes = std::mem::take(&mut bench.out.lock().unwrap().changes);
    assert_eq!(changes, [chain.nodes[0].kept.to_change("sums".into())]);
}
