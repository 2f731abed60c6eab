//! The window: which batches are on their way, which come next, and which one the broker does not
//! want. It changes state and touches neither network nor store: [`Machine::on`] takes what
//! happened and returns what to do.
//!
//! Order within a stream is the order of sequence numbers. A connection begins with nothing in
//! flight, so whatever was not acknowledged on an earlier one is read and sent again, oldest first;
//! an acknowledgement frees a batch only through the packet identifier that it got on this very
//! connection.

use std::collections::{BTreeMap, VecDeque};

use super::outbox::Sealed;
use crate::limits;
use crate::mqtt::PacketId;
use crate::store::Shelf;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection begins; with the newest sequence numbers, as [`Event::Newest`].
    Connected([u64; Shelf::COUNT]),
    /// The connection ended; `closed` when the other side ended it, which may be its way to say
    /// that it does not want a batch.
    Lost {
        /// Whether the other side ended it.
        closed: bool,
    },
    /// The newest sequence number of each stream, in the order of [`Shelf::ALL`].
    Newest([u64; Shelf::COUNT]),
    /// The answer to [`Action::Read`]: oldest first; none when there are no more, and fewer than
    /// asked when they are large.
    Read(Shelf, Vec<Sealed>),
    /// The store could not answer [`Action::Read`]; it is asked again when there is news.
    Unread(Shelf),
    /// The batch of the oldest [`Action::Send`] is on its way.
    Sent(PacketId),
    /// The broker has what it got under this identifier.
    Acknowledged(PacketId),
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read up to `count` batches of a stream after a sequence number, and report.
    Read {
        /// Which stream.
        stream: Shelf,
        /// Sequence number of the last batch sent on this connection; 0 for none.
        after: u64,
        /// At most so many.
        count: usize,
    },
    /// Publish, and report.
    Send(Shelf, Sealed),
    /// Tell the store that the receiver's side has it.
    Free(Flying),
}

/// A batch on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flying {
    /// Its stream.
    pub stream: Shelf,
    /// Its sequence number there.
    pub seq: u64,
    /// Readings in it.
    pub readings: u64,
    /// Bytes of its payload.
    pub bytes: usize,
}

/// A batch that was the first unacknowledged one at the end of several connections in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    /// The batch.
    pub batch: Flying,
    /// Connections that ended so.
    pub times: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Machine {
    connected: bool,
    lanes: [Lane; Shelf::COUNT],
    /// In flight, with their place in the order of sending.
    flying: BTreeMap<PacketId, (u64, Flying)>,
    sent: u64,
    /// Sends that were ordered and not reported yet.
    leaving: VecDeque<Flying>,
    /// What the store was asked and has not answered: stream and count.
    asked: Option<(Shelf, usize)>,
    turn: usize,
    suspect: Option<Suspect>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lane {
    after: u64,
    /// Whether the store may have batches after `after`.
    more: bool,
    /// Newest sequence number heard of; when it grows, there is more.
    told: u64,
}

/// Events first: they are few, and somebody waits for them. What was salvaged waits longest.
const TURNS: [Shelf; Shelf::COUNT] = [
    Shelf::Event,
    Shelf::Data,
    Shelf::Own,
    Shelf::SalvagedEvent,
    Shelf::SalvagedData,
    Shelf::SalvagedOwn,
];

impl Machine {
    /// Takes what happened; returns what to do about it.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Connected(newest) => {
                self.end_flight();
                self.connected = true;
                self.lanes = newest.map(|told| Lane { after: 0, more: told > 0, told });
                self.turn = 0;
            }
            Event::Lost { closed } => {
                if closed {
                    self.suspect_first();
                }
                self.end_flight();
                self.connected = false;
            }
            Event::Newest(newest) => {
                for (lane, newest) in self.lanes.iter_mut().zip(newest) {
                    lane.more |= newest > lane.told;
                    lane.told = newest;
                }
            }
            Event::Read(stream, batches) => self.take(stream, batches, &mut actions),
            Event::Unread(stream) => {
                self.asked = None;
                self.lanes[stream as usize].more = false;
                self.lanes[stream as usize].told = 0;
            }
            Event::Sent(id) => {
                if let Some(batch) = self.leaving.pop_front() {
                    self.sent += 1;
                    self.flying.insert(id, (self.sent, batch));
                }
            }
            Event::Acknowledged(id) => self.free(id, &mut actions),
        }
        self.read_on(&mut actions);
        actions
    }

    /// Returns how many batches are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flying.len()
    }

    /// Returns the batch that connections keep ending with, once that is no accident.
    #[must_use]
    pub fn suspect(&self) -> Option<Suspect> {
        self.suspect.filter(|s| s.times >= limits::BATCH_SUSPECTED_AFTER)
    }

    fn take(&mut self, stream: Shelf, batches: Vec<Sealed>, actions: &mut Vec<Action>) {
        // Only the answer to this connection's own question counts.
        let Some((asked, count)) = self.asked.take() else { return };
        if asked != stream {
            return;
        }
        let lane = &mut self.lanes[stream as usize];
        let last = batches.last().map_or(0, |batch| batch.seq);
        lane.more = last > 0 && (batches.len() >= count || last < lane.told);
        for batch in batches {
            if batch.seq <= lane.after {
                continue;
            }
            lane.after = batch.seq;
            self.leaving.push_back(Flying {
                stream,
                seq: batch.seq,
                readings: batch.readings,
                bytes: batch.payload.len(),
            });
            actions.push(Action::Send(stream, batch));
        }
    }

    fn free(&mut self, id: PacketId, actions: &mut Vec<Action>) {
        let Some((_, batch)) = self.flying.remove(&id) else { return };
        let is_past = |s: &Suspect| s.batch.stream == batch.stream && s.batch.seq <= batch.seq;
        if self.suspect.as_ref().is_some_and(is_past) {
            self.suspect = None;
        }
        actions.push(Action::Free(batch));
    }

    /// Asks for more when there may be more and the window has room for a whole answer: so a long
    /// backlog is read a few batches at a time, not one for each acknowledgement.
    fn read_on(&mut self, actions: &mut Vec<Action>) {
        let taken = self.flying.len() + self.leaving.len();
        let window = self.window();
        let count = limits::BATCHES_READ_MAX.min(window);
        if !self.connected || self.asked.is_some() || taken + count > window {
            return;
        }
        for _ in TURNS {
            let stream = TURNS[self.turn % TURNS.len()];
            self.turn = (self.turn + 1) % TURNS.len();
            let lane = self.lanes[stream as usize];
            if lane.more {
                self.asked = Some((stream, count));
                actions.push(Action::Read { stream, after: lane.after, count });
                return;
            }
        }
    }

    /// How many batches may be in flight. One at a time when connections keep ending without
    /// progress: a broker that hangs up on the second of two batches takes its answer to the first
    /// with it, so that only a batch sent alone shows whether it is the one.
    fn window(&self) -> usize {
        if self.suspect.is_some_and(|s| s.times > 1) { 1 } else { limits::BATCHES_IN_FLIGHT_MAX }
    }

    fn suspect_first(&mut self) {
        let first = self.flying.values().min_by_key(|(place, _)| *place).map(|(_, batch)| *batch);
        let Some(batch) = first.or(self.leaving.front().copied()) else { return };
        let times = match self.suspect {
            Some(s) if (s.batch.stream, s.batch.seq) == (batch.stream, batch.seq) => s.times + 1,
            _ => 1,
        };
        self.suspect = Some(Suspect { batch, times });
    }

    fn end_flight(&mut self) {
        self.flying.clear();
        self.leaving.clear();
        self.asked = None;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn sealed(seqs: std::ops::RangeInclusive<u64>) -> Vec<Sealed> {
        seqs.map(|seq| Sealed { seq, readings: 10, payload: Bytes::from(vec![0; 100]) }).collect()
    }

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    fn read(stream: Shelf, after: u64) -> Action {
        Action::Read { stream, after, count: limits::BATCHES_READ_MAX }
    }

    /// Says in one line each what a machine ordered.
    fn words(actions: &[Action]) -> Vec<String> {
        let word = |action: &Action| match action {
            Action::Read { stream, after, .. } => format!("read {} after {after}", stream.name()),
            Action::Send(stream, batch) => format!("send {} {}", stream.name(), batch.seq),
            Action::Free(batch) => format!("free {} {}", batch.stream.name(), batch.seq),
        };
        actions.iter().map(word).collect()
    }

    /// A machine on a new connection with data batches 1 to `n` on their way as packets 1 to `n`.
    fn with_data_in_flight(n: u64) -> Machine {
        let mut machine = Machine::default();
        connect(&mut machine, n);
        machine
    }

    /// Returns what is ordered once the other streams have turned out to be empty.
    fn connect(machine: &mut Machine, n: u64) -> Vec<Action> {
        connect_with(machine, 1..=n)
    }

    fn connect_with(machine: &mut Machine, seqs: std::ops::RangeInclusive<u64>) -> Vec<Action> {
        let n = seqs.clone().count() as u64;
        let connected = Event::Connected([*seqs.end(), 1, 1, 0, 0, 0]);
        assert_eq!(machine.on(connected), [read(Shelf::Event, 0)]);
        let actions = machine.on(Event::Read(Shelf::Event, Vec::new()));
        assert_eq!(actions, [read(Shelf::Data, 0)]);
        let mut actions = machine.on(Event::Read(Shelf::Data, sealed(seqs)));
        for number in 1..=n {
            actions.extend(machine.on(Event::Sent(id(number as u16))));
        }
        assert_eq!(machine.in_flight() as u64, n);
        assert_eq!(actions.last(), Some(&read(Shelf::Own, 0)));
        machine.on(Event::Read(Shelf::Own, Vec::new()))
    }

    #[test]
    fn streams_take_turns_and_each_keeps_its_order() {
        let mut machine = Machine::default();
        let connected = Event::Connected([9, 8, 2, 0, 0, 0]);
        assert_eq!(machine.on(connected), [read(Shelf::Event, 0)]);
        let actions = machine.on(Event::Read(Shelf::Event, sealed(7..=8)));
        assert_eq!(words(&actions), ["send event 7", "send event 8", "read data after 0"]);
        let actions = machine.on(Event::Read(Shelf::Data, sealed(1..=4)));
        assert_eq!(
            words(&actions),
            ["send data 1", "send data 2", "send data 3", "send data 4", "read self after 0"]
        );
        let actions = machine.on(Event::Read(Shelf::Own, Vec::new()));
        assert_eq!(words(&actions), ["read data after 4"]);
    }

    #[test]
    fn nothing_more_is_read_while_the_window_has_no_room() {
        let mut machine = Machine::default();
        let mut actions = connect(&mut machine, 4);
        let mut next = 5;
        let mut number = 5;
        while !actions.is_empty() {
            assert_eq!(words(&actions), [format!("read data after {}", next - 1)]);
            actions = machine.on(Event::Read(Shelf::Data, sealed(next..=next + 3)));
            actions.retain(|a| !matches!(a, Action::Send(..)));
            next += 4;
            for _ in 0..4 {
                actions.extend(machine.on(Event::Sent(id(number))));
                number += 1;
            }
        }
        assert_eq!(machine.in_flight(), limits::BATCHES_IN_FLIGHT_MAX);
        for first in 1..=3 {
            let actions = machine.on(Event::Acknowledged(id(first)));
            assert_eq!(words(&actions), [format!("free data {first}")]);
        }
        let actions = machine.on(Event::Acknowledged(id(4)));
        assert_eq!(words(&actions), ["free data 4", "read data after 16"]);
    }

    #[test]
    fn each_acknowledgement_frees_its_own_batch_once() {
        let mut machine = with_data_in_flight(3);
        let frees = |machine: &mut Machine, n| words(&machine.on(Event::Acknowledged(id(n))));
        assert_eq!(frees(&mut machine, 3), ["free data 3"]);
        assert_eq!(frees(&mut machine, 3), [""; 0]);
        assert_eq!(frees(&mut machine, 900), [""; 0]);
        assert_eq!(frees(&mut machine, 1), ["free data 1"]);
        assert_eq!(frees(&mut machine, 2), ["free data 2"]);
        assert_eq!(machine.in_flight(), 0);
    }

    #[test]
    fn acknowledgements_of_an_earlier_connection_free_nothing() {
        let mut machine = with_data_in_flight(3);
        machine.on(Event::Lost { closed: true });
        assert!(machine.on(Event::Acknowledged(id(1))).is_empty());
        machine.on(Event::Connected([4, 1, 1, 0, 0, 0]));
        assert!(machine.on(Event::Acknowledged(id(2))).is_empty());
    }

    #[test]
    fn a_new_connection_begins_with_the_oldest_again() {
        let mut machine = with_data_in_flight(4);
        machine.on(Event::Acknowledged(id(2)));
        machine.on(Event::Lost { closed: true });
        machine.on(Event::Connected([4, 1, 1, 0, 0, 0]));
        machine.on(Event::Read(Shelf::Event, Vec::new()));
        let left = [sealed(1..=1), sealed(3..=4)].concat();
        let actions = machine.on(Event::Read(Shelf::Data, left));
        assert_eq!(words(&actions)[..3], ["send data 1", "send data 3", "send data 4"]);
    }

    #[test]
    fn large_batches_that_come_fewer_at_a_time_are_all_asked_for() {
        let mut machine = Machine::default();
        machine.on(Event::Connected([3, 0, 0, 0, 0, 0]));
        let actions = machine.on(Event::Read(Shelf::Data, sealed(1..=1)));
        assert_eq!(words(&actions), ["send data 1", "read data after 1"]);
        let actions = machine.on(Event::Read(Shelf::Data, sealed(2..=3)));
        assert_eq!(words(&actions), ["send data 2", "send data 3"]);
        // The newest ones may have been dropped by quota: an empty answer is the end, too.
        let actions = machine.on(Event::Newest([5, 0, 0, 0, 0, 0]));
        assert_eq!(words(&actions), ["read data after 3"]);
        assert!(machine.on(Event::Read(Shelf::Data, Vec::new())).is_empty());
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_not_sent() {
        let mut machine = Machine::default();
        machine.on(Event::Connected([4, 1, 1, 0, 0, 0]));
        machine.on(Event::Lost { closed: true });
        assert!(machine.on(Event::Read(Shelf::Event, sealed(1..=2))).is_empty());
        assert!(machine.on(Event::Newest([9, 9, 9, 0, 0, 0])).is_empty());
    }

    #[test]
    fn a_store_that_cannot_answer_is_asked_again_when_there_is_news() {
        let mut machine = Machine::default();
        machine.on(Event::Connected([4, 1, 1, 0, 0, 0]));
        machine.on(Event::Read(Shelf::Event, Vec::new()));
        assert_eq!(words(&machine.on(Event::Unread(Shelf::Data))), ["read self after 0"]);
        assert!(machine.on(Event::Read(Shelf::Own, Vec::new())).is_empty());
        let again = machine.on(Event::Newest([3, 0, 0, 0, 0, 0]));
        assert_eq!(words(&again), ["read data after 0"]);
    }

    #[test]
    fn a_batch_is_suspected_when_connections_keep_ending_with_it() {
        let mut machine = Machine::default();
        for times in 1..=limits::BATCH_SUSPECTED_AFTER {
            assert_eq!(machine.suspect(), None, "after {} connections", times - 1);
            if times < 3 {
                connect(&mut machine, 4);
            } else {
                connect_carefully(&mut machine);
            }
            machine.on(Event::Lost { closed: true });
        }
        let suspect = machine.suspect().unwrap();
        assert_eq!((suspect.batch.seq, suspect.batch.bytes), (1, 100));
        connect_carefully(&mut machine);
        let actions = machine.on(Event::Acknowledged(id(1)));
        assert_eq!(machine.suspect(), None);
        assert_eq!(words(&actions), ["free data 1", "read self after 0"]);
        // What stood behind it goes out at full width again.
        let actions = machine.on(Event::Read(Shelf::Own, Vec::new()));
        assert_eq!(actions, [read(Shelf::Data, 1)]);
    }

    /// Connects a machine that sends one batch at a time, with data batch 1 on its way as packet 1.
    fn connect_carefully(machine: &mut Machine) {
        assert_eq!(
            words(&machine.on(Event::Connected([4, 1, 1, 0, 0, 0]))),
            ["read event after 0"]
        );
        let actions = machine.on(Event::Read(Shelf::Event, Vec::new()));
        assert_eq!(actions, [Action::Read { stream: Shelf::Data, after: 0, count: 1 }]);
        let actions = machine.on(Event::Read(Shelf::Data, sealed(1..=1)));
        assert_eq!(words(&actions), ["send data 1"]);
        assert!(machine.on(Event::Sent(id(1))).is_empty());
    }

    #[test]
    fn progress_and_lost_networks_are_no_reason_to_suspect() {
        let mut machine = Machine::default();
        for first in 1..=20 {
            connect_with(&mut machine, first..=first + 3);
            machine.on(Event::Acknowledged(id(1)));
            machine.on(Event::Lost { closed: true });
        }
        assert_eq!(machine.suspect(), None);
        let mut machine = Machine::default();
        for _ in 0..20 {
            connect(&mut machine, 4);
            machine.on(Event::Lost { closed: false });
        }
        assert_eq!(machine.suspect(), None);
    }
}
