//! The machine under whatever may happen, by chance and with a printed seed: in the end everything held
//! comes through.

use super::*;

/// A broker and a receiver beside the machine, all of which fail at random: the broker
/// acknowledges in any order, refuses, hangs up, loses its queue; the store drops its oldest.
/// Whatever happened, once all of them behave, everything held comes through.
fn whatever_happens(by_receiver: bool, seed: u64) {
    let mut state = seed;
    let mut random = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut b = Bench::new(by_receiver);
    // The broker's queue towards the receiver, and what the receiver has stored.
    let mut queue: Vec<(Shelf, u64)> = Vec::new();
    let mut stored = Ranges::default();
    let (mut old, mut old_upto) = (Ranges::default(), 0);
    let (mut upto, mut dropped, mut connected) = (0, BTreeSet::new(), false);
    let holes = |stored: &Ranges, first: u64, upto: u64| {
        let mut holes = Ranges::default();
        holes.insert(first, upto);
        stored.iter().for_each(|(first, last)| holes.remove(first, last));
        holes
    };
    let steps = 600;
    for step in 0..steps + 4000 {
        let calm = step >= steps;
        let what = if calm { [0, 0, 0, 5, 6, 7, 9][step % 7] } else { random(12) };
        match what {
            0..=2 if connected && !b.flying.is_empty() => {
                let at = random(b.flying.len() as u64) as usize;
                let (id, stream, seq) = b.flying.remove(at);
                b.on(Event::Acknowledged(id));
                queue.push((stream, seq));
            }
            3 if connected && !b.flying.is_empty() => {
                let (id, ..) = b.flying.remove(0);
                let refusal = if random(2) == 0 { Refusal::Busy } else { Refusal::Never };
                b.on(Event::Refused(id, refusal));
            }
            4 if connected => {
                connected = false;
                b.lose(random(3) > 0);
            }
            5 if !connected => {
                connected = true;
                b.connect();
            }
            6 => {
                for (stream, seq) in queue.drain(..) {
                    if stream == Shelf::Data {
                        stored.insert(seq, seq);
                        upto = upto.max(seq);
                    } else if stream == Shelf::SalvagedData {
                        old.insert(seq + 100, seq + 100);
                        old_upto = old_upto.max(seq + 100);
                    }
                }
            }
            7 if by_receiver && connected && upto > 0 => {
                assert!(b.machine.believes(Shelf::Data, upto));
                let holes_below = holes(&stored, 1, upto);
                b.on(Event::Receipt { stream: Shelf::Data, upto, holes: holes_below });
                let (stream, holes) = (Stream::Data, holes(&old, 101, old_upto));
                b.on(Event::Earlier { epoch: EARLIER, stream, upto: old_upto, holes });
            }
            8 => {
                let stream = match random(6) {
                    0 => Shelf::Event,
                    1 => Shelf::SalvagedData,
                    _ => Shelf::Data,
                };
                b.seal(stream, random(30));
            }
            9 => {
                let seconds = if calm { 30 } else { random(90) };
                b.now += Duration::from_secs(seconds);
                if connected {
                    b.news();
                }
                if calm && step % 700 == 0 {
                    // A receiver speaks when there is news.
                    b.seal(Shelf::Data, 1);
                }
            }
            10 if random(4) == 0 => queue.clear(),
            11 if random(8) == 0 => {
                let held = b.held.entry(Shelf::Data).or_default();
                for _ in 0..random(5) {
                    dropped.extend(held.pop_first());
                }
            }
            _ => {}
        }
        // Freed means stored by whoever has the last word.
        if by_receiver && step % 32 == 0 {
            let held = b.held.get(&Shelf::Data).cloned().unwrap_or_default();
            for seq in 1..=b.newest[0] {
                let gone = held.contains(&seq) || dropped.contains(&seq);
                assert!(gone || stored.contains(seq), "{seq} freed and not stored, seed {seed}");
            }
            let held = b.held.get(&Shelf::SalvagedData).cloned().unwrap_or_default();
            for place in 1..=b.newest[Shelf::SalvagedData as usize] {
                let is_safe = held.contains(&place) || old.contains(place + 100);
                assert!(is_safe, "{place} freed and not stored, seed {seed}");
            }
        }
    }
    let left: Vec<_> = b.held.iter().flat_map(|(s, held)| held.iter().map(|q| (*s, *q))).collect();
    if by_receiver {
        let data = left.iter().filter(|(stream, _)| *stream == Shelf::Data).count();
        assert!(data <= 1, "{data} batches never came through, seed {seed}: {left:?}");
        let old = left.iter().any(|(stream, _)| *stream == Shelf::SalvagedData);
        assert!(!old, "salvaged batches never came through, seed {seed}: {left:?}");
    } else {
        assert!(left.is_empty(), "never sent, seed {seed}: {left:?}");
    }
}

#[test]
fn everything_held_comes_through_whatever_happens_before() {
    for seed in 0..20 {
        whatever_happens(false, seed);
    }
}

#[test]
fn everything_held_reaches_a_receiver_whatever_happens_before() {
    for seed in 100..115 {
        whatever_happens(true, seed);
    }
}
