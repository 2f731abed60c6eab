//! The window by itself: what is sent, freed, parked and sent again, whatever happens in whatever
//! order.

mod chance;
mod receiver;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::batch::{Assembly, Coding, Envelope};
use crate::mqtt::PacketId;
use crate::ranges::Ranges;
use crate::reading::{Group, PointInfo, Sample, Stream, Value};
use crate::uplink::machine::{Action, Allowance, Event, Flying, Machine, Refusal};

const WINDOW: u64 = limits::BATCHES_IN_FLIGHT_MAX as u64;

/// A machine, and all that it needs of the world: a list of what is held, packet identifiers, time.
struct Bench {
    machine: Machine,
    now: Instant,
    held: BTreeMap<Shelf, BTreeSet<u64>>,
    newest: [u64; Shelf::COUNT],
    next_id: u16,
    /// What is in flight, in the order of sending.
    flying: Vec<(PacketId, Shelf, u64)>,
    /// Everything that was ordered, in words.
    words: Vec<String>,
}

impl Bench {
    fn new(by_receiver: bool) -> Self {
        Self {
            machine: Machine::new(by_receiver),
            now: Instant::now(),
            held: BTreeMap::new(),
            newest: [0; Shelf::COUNT],
            next_id: 0,
            flying: Vec::new(),
            words: Vec::new(),
        }
    }

    fn seal(&mut self, stream: Shelf, count: u64) {
        for _ in 0..count {
            self.newest[stream as usize] += 1;
            self.held.entry(stream).or_default().insert(self.newest[stream as usize]);
        }
    }

    fn standing(&self) -> Standing {
        let streams = Shelf::ALL.map(|stream| {
            let newest = self.newest[stream as usize];
            let lo = self.held.get(&stream).and_then(|held| held.first().copied());
            Waiting { newest, lo: lo.unwrap_or(newest + 1), oldest: None }
        });
        Standing { epoch: 7, streams }
    }

    fn connect(&mut self) {
        self.flying.clear();
        self.on(Event::Connected(self.standing()));
    }

    fn lose(&mut self, closed: bool) {
        self.flying.clear();
        self.on(Event::Lost { closed });
    }

    fn news(&mut self) {
        self.on(Event::News(self.standing()));
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.news();
    }

    fn acknowledge(&mut self, stream: Shelf, seq: u64) {
        let at = self.flying.iter().position(|f| (f.1, f.2) == (stream, seq)).unwrap();
        let (id, ..) = self.flying.remove(at);
        self.on(Event::Acknowledged(id));
    }

    fn refuse(&mut self, seq: u64, refusal: Refusal) {
        let at = self.flying.iter().position(|f| f.2 == seq).unwrap();
        let (id, ..) = self.flying.remove(at);
        self.on(Event::Refused(id, refusal));
    }

    fn receipt(&mut self, upto: u64, holes: &[(u64, u64)]) {
        let mut ranges = Ranges::default();
        holes.iter().for_each(|(first, last)| ranges.insert(*first, *last));
        self.on(Event::Receipt { stream: Shelf::Data, upto, holes: ranges });
    }

    /// Tells the machine, and does all it orders.
    fn on(&mut self, event: Event) {
        let mut todo: std::collections::VecDeque<_> = self.machine.on(self.now, event).into();
        while let Some(action) = todo.pop_front() {
            let event = match action {
                Action::Read { stream, after, count } => {
                    let held = self.held.entry(stream).or_default();
                    let some = held.range(after + 1..).take(count);
                    let sealed = |seq: &u64| {
                        let old = stream.is_salvaged();
                        let payload = if old { salvaged(*seq) } else { vec![0; 100].into() };
                        Sealed { seq: *seq, readings: 1, payload }
                    };
                    Event::Read(stream, some.map(sealed).collect())
                }
                Action::Send(stream, batch) => {
                    self.words.push(format!("send {}", batch.seq));
                    self.next_id = self.next_id % 60_000 + 1;
                    let id = PacketId::new(self.next_id).unwrap();
                    let again = self.flying.iter().any(|f| (f.1, f.2) == (stream, batch.seq));
                    assert!(!again, "{} twice in flight", batch.seq);
                    self.flying.push((id, stream, batch.seq));
                    Event::Sent(id)
                }
                Action::Free { stream, first, last } => {
                    self.words.push(format!("free {first} {last}"));
                    let held = self.held.entry(stream).or_default();
                    held.retain(|seq| !(first..=last).contains(seq));
                    continue;
                }
                Action::Park(Flying { seq, .. }, why) => {
                    self.words.push(format!("park {seq} {why:?}"));
                    continue;
                }
                Action::Unparked => {
                    self.words.push("unparked".to_owned());
                    continue;
                }
                Action::Taken(_) => continue,
            };
            todo.extend(self.machine.on(self.now, event));
        }
        assert!(self.flying.len() <= limits::BATCHES_IN_FLIGHT_MAX);
        assert_eq!(self.machine.in_flight(), self.flying.len());
    }

    /// What was ordered since the last call.
    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.words)
    }

    fn sent(&mut self) -> Vec<u64> {
        let said = self.said();
        said.iter().filter_map(|word| word.strip_prefix("send ")?.parse().ok()).collect()
    }

    fn held(&self, stream: Shelf) -> usize {
        self.held.get(&stream).map_or(0, BTreeSet::len)
    }
}

/// The epoch that salvaged batches bear, whose sequence numbers are their places and a hundred.
const EARLIER: u64 = 5;

fn salvaged(place: u64) -> Bytes {
    let points = Points::default();
    let point = points.intern(PointInfo::new("meter", "count", "1")).unwrap();
    let mut assembly = Assembly::default();
    assembly.push(&Group {
        stream: Stream::Data,
        at: UnixMillis(1_790_000_000_000),
        points: [point].into(),
        samples: vec![Sample::good(Value::from_i64(1))],
    });
    let envelope = Envelope {
        gateway: "gw",
        epoch: EARLIER,
        stream: Stream::Data,
        sequence: place + 100,
        lowest_held: 1,
        dropped: 0,
        clock: 1,
        config_hash: "",
    };
    assembly.into_bodies(&points, Coding::Plain, 1000)[0].seal(&envelope).into()
}

fn bench(by_receiver: bool, data: u64) -> Bench {
    let mut bench = Bench::new(by_receiver);
    bench.seal(Shelf::Data, data);
    bench.connect();
    bench
}

#[test]
fn a_window_goes_out_in_order_events_first_and_more_as_it_is_acknowledged() {
    let mut b = Bench::new(false);
    b.seal(Shelf::Data, 4);
    b.seal(Shelf::Event, 2);
    b.seal(Shelf::Own, 1);
    b.connect();
    let streams: Vec<_> = b.flying.iter().map(|f| (f.1.name(), f.2)).collect();
    let events = [("event", 1), ("event", 2)];
    assert_eq!(streams[..2], events);
    assert_eq!(streams[2..6], [("data", 1), ("data", 2), ("data", 3), ("data", 4)]);
    assert_eq!(streams[6..], [("self", 1)]);
    b.seal(Shelf::Data, 20);
    b.news();
    assert_eq!(b.flying.len() as u64, WINDOW - 1, "four are read at a time");
    b.acknowledge(Shelf::Data, 2);
    assert_eq!(b.said().last().unwrap(), "free 2 2");
    for seq in [1, 3] {
        b.acknowledge(Shelf::Data, seq);
    }
    assert_eq!(b.sent(), [13, 14, 15, 16]);
}

#[test]
fn acknowledgements_of_an_earlier_connection_free_nothing() {
    let mut b = bench(false, 3);
    let old = b.flying.clone();
    b.lose(true);
    b.on(Event::Acknowledged(old[0].0));
    b.connect();
    b.on(Event::Acknowledged(old[1].0));
    assert_eq!((b.held(Shelf::Data), b.sent()), (3, vec![1, 2, 3, 1, 2, 3]));
}

#[test]
fn after_an_outage_the_newest_goes_first_and_then_every_fourth() {
    let mut b = bench(false, 100);
    let sent = b.sent();
    assert_eq!(sent[..4], [100, 1, 2, 3]);
    assert_eq!(sent[4..], (4..=12).collect::<Vec<_>>(), "nothing new: all for the backlog");
    let mut order = Vec::new();
    while b.held(Shelf::Data) > 0 {
        // One is sealed for each four acknowledged.
        if order.len() < 100 && order.len() % 4 == 0 {
            b.seal(Shelf::Data, 1);
            b.news();
        }
        let (_, stream, seq) = b.flying[0];
        b.acknowledge(stream, seq);
        order.push(seq);
    }
    assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len(), "sent once each");
    let lane =
        |live: bool| order.iter().copied().filter(|s| (*s >= 100) == live).collect::<Vec<_>>();
    assert!(lane(true).is_sorted() && lane(false).is_sorted());
    // What is new waits for at most a window and three.
    for (at, seq) in order.iter().enumerate().filter(|(_, seq)| **seq > 100) {
        let sealed_at = (*seq - 101) as usize * 4;
        assert!(at <= sealed_at + WINDOW as usize + 4, "{seq} came as {at}, sealed at {sealed_at}");
    }
    assert!(!b.machine.is_split());
}

#[test]
fn live_batches_that_fall_behind_take_three_of_four() {
    let mut b = bench(false, 200);
    b.seal(Shelf::Data, 40);
    b.news();
    b.said();
    let mut sent = Vec::new();
    for _ in 0..32 {
        let (_, stream, seq) = b.flying[0];
        b.acknowledge(stream, seq);
        sent.extend(b.sent());
    }
    let live = sent.iter().filter(|seq| **seq > 200).count();
    assert!((20..=26).contains(&live), "{live} of {}: {sent:?}", sent.len());
}

#[test]
fn a_backlog_that_has_to_wait_lets_what_is_new_pass() {
    let mut b = Bench::new(false);
    b.seal(Shelf::Data, 100);
    b.machine.allow(Allowance { paced: true, ..Allowance::default() });
    b.connect();
    assert_eq!(b.sent(), [100]);
    b.seal(Shelf::Data, 2);
    b.news();
    assert_eq!(b.sent(), [101, 102]);
    b.machine.allow(Allowance::default());
    b.news();
    assert_eq!(b.sent()[..2], [1, 2]);
    // A backlog within the window never waits.
    let mut b = Bench::new(false);
    b.seal(Shelf::Data, 10);
    b.machine.allow(Allowance { paced: true, ..Allowance::default() });
    b.connect();
    assert_eq!(b.sent().len(), 10);
}

#[test]
fn what_is_in_flight_keeps_to_its_bytes_and_to_the_brokers_window() {
    let mut b = Bench::new(false);
    b.machine.allow(Allowance { bytes: 250, ..Allowance::default() });
    b.seal(Shelf::Data, 10);
    b.connect();
    assert!((2..=4).contains(&b.flying.len()), "{:?}", b.flying);
    let mut b = Bench::new(false);
    b.machine.allow(Allowance { batches: 3, ..Allowance::default() });
    b.seal(Shelf::Data, 10);
    b.connect();
    assert_eq!(b.flying.len(), 3);
    let mut b = Bench::new(false);
    b.machine.allow(Allowance { batches: 0, bytes: 0, ..Allowance::default() });
    b.seal(Shelf::Data, 10);
    b.connect();
    assert_eq!(b.flying.len(), 1, "one always goes");
}

#[test]
fn a_store_that_cannot_answer_is_asked_again_when_there_is_news() {
    let mut machine = Machine::new(false);
    let now = Instant::now();
    let none = Waiting { newest: 0, lo: 1, oldest: None };
    let mut streams = [none; Shelf::COUNT];
    streams[0] = Waiting { newest: 4, lo: 1, oldest: None };
    let standing = Standing { epoch: 7, streams };
    let read = [Action::Read { stream: Shelf::Data, after: 0, count: 4 }];
    assert_eq!(machine.on(now, Event::Connected(standing)), read);
    assert!(machine.on(now, Event::Unread(Shelf::Data)).is_empty());
    assert_eq!(machine.on(now, Event::News(standing)), read);
    machine.on(now, Event::Lost { closed: true });
    assert!(machine.on(now, Event::Read(Shelf::Data, Vec::new())).is_empty());
    assert!(machine.on(now, Event::News(standing)).is_empty());
}

#[test]
fn what_a_quota_dropped_meanwhile_is_passed_over() {
    let mut b = bench(false, 40);
    b.said();
    b.held.get_mut(&Shelf::Data).unwrap().retain(|seq| *seq > 30);
    while let Some((_, stream, seq)) = b.flying.first().copied() {
        b.acknowledge(stream, seq);
    }
    assert_eq!(b.held(Shelf::Data), 0);
}

#[test]
fn a_batch_that_connections_keep_ending_with_is_parked_and_the_rest_goes_on() {
    let mut b = bench(false, 4);
    for times in 1..=limits::BATCH_SUSPECTED_AFTER {
        assert!(b.said().iter().all(|word| !word.starts_with("park")), "after {} times", times - 1);
        let alone = b.flying.len() == 1;
        assert_eq!(alone, times > 2, "from the third on it is sent alone");
        b.lose(true);
        if times < limits::BATCH_SUSPECTED_AFTER {
            b.connect();
        }
    }
    assert_eq!(b.said(), ["park 1 HungUp(5)"]);
    assert!(b.machine.is_unwanted());
    b.connect();
    assert_eq!(b.sent(), [2, 3, 4]);
    for seq in 2..=4 {
        b.acknowledge(Shelf::Data, seq);
    }
    assert!(!b.machine.is_unwanted() && b.held(Shelf::Data) == 1);
    // A new connection does not try it sooner.
    b.lose(false);
    b.connect();
    assert_eq!(b.sent(), [0; 0]);
    let due = b.machine.due(b.now).unwrap();
    b.now = due;
    b.seal(Shelf::Data, 2);
    b.news();
    assert_eq!(b.sent(), [1], "alone");
    b.lose(true);
    b.connect();
    assert_eq!(b.sent(), [5, 6], "once more was enough");
    b.pass(limits::BATCH_PARKED_TIME.as_secs());
    assert_eq!(b.sent(), [0; 0], "not while others are on their way");
    b.acknowledge(Shelf::Data, 5);
    b.acknowledge(Shelf::Data, 6);
    assert_eq!(b.sent(), [1]);
    b.acknowledge(Shelf::Data, 1);
    assert_eq!((b.said(), b.held(Shelf::Data)), (vec!["free 1 1".into(), "unparked".into()], 0));
}

#[test]
fn progress_and_lost_networks_are_no_reason_to_suspect() {
    let mut b = bench(false, 100);
    for closed in [true, false] {
        for _ in 0..20 {
            if closed {
                let (_, stream, seq) = b.flying[0];
                b.acknowledge(stream, seq);
                let (_, stream, seq) = b.flying[0];
                b.acknowledge(stream, seq);
            }
            b.lose(closed);
            b.connect();
        }
    }
    assert!(b.said().iter().all(|word| !word.starts_with("park")));
}

#[test]
fn new_batches_that_pass_do_not_hide_an_old_one_that_connections_end_with() {
    let mut b = bench(false, 40);
    for _ in 0..limits::BATCH_SUSPECTED_AFTER {
        b.seal(Shelf::Data, 1);
        b.news();
        let newest = b.newest[0];
        if b.flying.iter().any(|f| f.2 == newest) {
            b.acknowledge(Shelf::Data, newest);
        }
        while b.flying[0].2 != 1 {
            let (_, stream, seq) = b.flying[0];
            b.acknowledge(stream, seq);
        }
        b.lose(true);
        b.connect();
    }
    assert!(b.said().contains(&"park 1 HungUp(5)".to_owned()));
}

#[test]
fn a_refused_batch_is_tried_three_times_and_parked() {
    let mut b = bench(false, 3);
    b.said();
    b.refuse(2, Refusal::Never);
    b.refuse(2, Refusal::Never);
    b.refuse(2, Refusal::Never);
    assert_eq!(b.said(), ["send 2", "send 2", "park 2 Refused"]);
    b.acknowledge(Shelf::Data, 1);
    b.acknowledge(Shelf::Data, 3);
    b.pass(limits::BATCH_PARKED_TIME.as_secs());
    assert_eq!(b.sent(), [2]);
    b.refuse(2, Refusal::Never);
    assert_eq!(b.said(), ["park 2 Refused"]);
    assert_eq!(b.held(Shelf::Data), 1, "never given up");
}

#[test]
fn a_busy_broker_is_left_alone_with_growing_pauses() {
    let mut b = bench(false, 1);
    let begin = b.now;
    for _ in 0..8 {
        b.refuse(1, Refusal::Busy);
        b.news();
        assert!(b.flying.is_empty());
        b.now = b.machine.due(b.now).unwrap();
        b.news();
        assert_eq!(b.flying.len(), 1);
    }
    assert_eq!((b.now - begin).as_secs(), 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60);
    b.acknowledge(Shelf::Data, 1);
    assert_eq!(b.held(Shelf::Data), 0);
}

#[test]
fn batches_over_the_brokers_limit_are_parked_and_too_many_stop_the_rest() {
    let mut b = Bench::new(false);
    b.machine.allow(Allowance { payload: 99, ..Allowance::default() });
    b.seal(Shelf::Data, 500);
    b.connect();
    b.pass(1);
    let parked = b.said().iter().filter(|word| word.contains("TooLarge(99)")).count();
    assert_eq!((parked, b.flying.len()), (limits::BATCHES_PARKED_MAX, 0));
    b.machine.allow(Allowance::default());
    for _ in 0..200 {
        b.pass(100);
        while let Some((_, stream, seq)) = b.flying.first().copied() {
            b.acknowledge(stream, seq);
        }
    }
    assert_eq!(b.held(Shelf::Data), 0, "all of them go once they may");
}

#[test]
fn another_store_means_other_batches() {
    let mut b = bench(true, 5);
    let old = b.flying.clone();
    b.acknowledge(Shelf::Data, 1);
    b.lose(false);
    b.said();
    let standing = Standing { epoch: 8, ..b.standing() };
    b.flying.clear();
    b.on(Event::Connected(standing));
    assert_eq!(b.sent(), [1, 2, 3, 4, 5]);
    b.on(Event::Acknowledged(old[1].0));
    b.receipt(0, &[]);
    assert_eq!(b.held(Shelf::Data), 5);
}
