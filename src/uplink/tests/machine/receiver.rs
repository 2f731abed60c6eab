//! With `ack = "receiver"`: what frees a batch, what makes it go again, and the same for batches that were
//! salvaged from a damaged store.

use super::*;

#[test]
fn with_a_receiver_nothing_is_freed_before_it_says_so() {
    let mut b = bench(true, 5);
    for seq in 1..=5 {
        b.acknowledge(Shelf::Data, seq);
    }
    assert_eq!(b.held(Shelf::Data), 5);
    assert!(b.machine.believes(Shelf::Data, 5) && !b.machine.believes(Shelf::Data, 6));
    b.said();
    b.receipt(4, &[(2, 3)]);
    assert_eq!(b.said(), ["free 0 1", "free 4 4"]);
    b.receipt(5, &[]);
    assert_eq!((b.said(), b.held(Shelf::Data)), (vec!["free 2 3".into(), "free 5 5".into()], 0));
}

#[test]
fn what_the_broker_has_is_not_sent_again_with_a_new_connection() {
    let mut b = bench(true, 5);
    for seq in [1, 2, 4] {
        b.acknowledge(Shelf::Data, seq);
    }
    b.lose(true);
    b.said();
    b.connect();
    assert_eq!(b.sent(), [3, 5]);
}

#[test]
fn what_a_receiver_that_speaks_passes_over_for_long_is_sent_again() {
    let overdue = limits::RECEIPT_OVERDUE_AFTER.as_secs();
    let mut b = bench(true, 10);
    for seq in 1..=10 {
        b.acknowledge(Shelf::Data, seq);
    }
    b.said();
    b.receipt(6, &[(2, 3)]);
    assert_eq!(b.sent(), [0; 0], "they may be on their way");
    b.pass(overdue);
    b.pass(overdue);
    b.pass(overdue * 10);
    assert_eq!(b.sent(), [0; 0], "silence proves nothing");
    assert!(b.machine.is_overdue());
    b.receipt(7, &[(2, 3)]);
    assert_eq!(b.sent(), [2, 3], "it gets on, so what stands behind may be in a queue");
    for seq in [2, 3] {
        b.acknowledge(Shelf::Data, seq);
    }
    b.pass(overdue);
    b.receipt(7, &[(2, 3)]);
    assert_eq!(b.sent(), [8, 9, 10], "it got no further");
    b.receipt(7, &[]);
    for seq in [8, 9, 10] {
        b.acknowledge(Shelf::Data, seq);
    }
    b.receipt(10, &[]);
    assert_eq!(b.held(Shelf::Data), 0);
}

fn earlier(epoch: u64, upto: u64, holes: &[(u64, u64)]) -> Event {
    let mut ranges = Ranges::default();
    holes.iter().for_each(|(first, last)| ranges.insert(*first, *last));
    Event::Earlier { epoch, stream: Stream::Data, upto, holes: ranges }
}

#[test]
fn salvaged_batches_wait_for_their_receivers_word_under_the_key_that_they_bear() {
    let mut b = Bench::new(true);
    b.seal(Shelf::SalvagedData, 4);
    b.connect();
    assert_eq!(b.sent(), [1, 2, 3, 4]);
    b.on(earlier(EARLIER, 104, &[]));
    assert_eq!(b.held(Shelf::SalvagedData), 4, "named before the broker had any");
    (1..4).for_each(|place| b.acknowledge(Shelf::SalvagedData, place));
    assert_eq!(b.held(Shelf::SalvagedData), 4, "freed by the broker's word");
    b.on(earlier(EARLIER - 1, 104, &[]));
    b.receipt(0, &[]);
    assert_eq!(b.held(Shelf::SalvagedData), 4, "freed by a word about others");
    b.on(earlier(EARLIER, 103, &[(101, 102)]));
    assert!(!b.held[&Shelf::SalvagedData].contains(&3) && b.held(Shelf::SalvagedData) == 3);
    b.acknowledge(Shelf::SalvagedData, 4);
    b.on(earlier(EARLIER, 104, &[]));
    assert_eq!(b.held(Shelf::SalvagedData), 0);
    let mut b = Bench::new(false);
    b.seal(Shelf::SalvagedData, 1);
    b.connect();
    b.acknowledge(Shelf::SalvagedData, 1);
    assert_eq!(b.held(Shelf::SalvagedData), 0, "where the broker's word counts");
}

#[test]
fn salvaged_batches_that_got_lost_behind_the_broker_go_again_once_the_receiver_speaks() {
    let mut b = Bench::new(true);
    b.seal(Shelf::SalvagedData, 2);
    b.connect();
    (1..3).for_each(|place| b.acknowledge(Shelf::SalvagedData, place));
    b.said();
    let overdue = limits::RECEIPT_OVERDUE_AFTER.as_secs();
    (0..9).for_each(|_| b.pass(overdue));
    assert!(b.sent().is_empty(), "to a receiver that says nothing");
    assert!(b.machine.is_overdue());
    b.lose(false);
    b.connect();
    assert!(b.sent().is_empty(), "another connection is no reason");
    b.on(earlier(EARLIER, 101, &[]));
    b.pass(overdue);
    b.pass(1);
    assert_eq!(b.sent(), [2]);
    b.acknowledge(Shelf::SalvagedData, 2);
    b.on(earlier(EARLIER, 102, &[]));
    assert_eq!((b.held(Shelf::SalvagedData), b.machine.is_overdue()), (0, false));
}

#[test]
fn salvaged_batches_without_a_word_from_their_receiver_are_bounded_and_the_rest_passes() {
    let mut b = Bench::new(true);
    let most = limits::SALVAGED_UNNAMED_MAX as u64;
    b.seal(Shelf::SalvagedData, 2 * most);
    b.connect();
    while let Some((_, stream, place)) = b.flying.first().copied() {
        b.acknowledge(stream, place);
    }
    let sent = b.sent().len() as u64;
    assert!((most..most + limits::BATCHES_IN_FLIGHT_MAX as u64).contains(&sent), "{sent}");
    b.seal(Shelf::Data, 1);
    b.news();
    assert_eq!(b.sent(), [1]);
    b.acknowledge(Shelf::Data, 1);
    b.on(earlier(EARLIER, 110, &[]));
    assert_eq!((b.held(Shelf::SalvagedData), b.sent().is_empty()), (2 * most as usize - 10, false));
}
