//! The window: which batches are on their way, which come next, and which one the broker does not
//! want. It changes state and touches neither network nor store: [`Machine::on`] takes what
//! happened and returns what to do.
//!
//! Batches of a stream go out oldest first, but the contract knows no order: after an outage that
//! left more than a window, what is new goes beside the backlog (`lane.rs`), and a batch that is
//! refused or hung up on again and again is parked, so that the rest can pass. An acknowledgement
//! counts only through the packet identifier that the batch got on this very connection.

mod words;

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use super::earlier::Earlier;
use super::lane::{Lane, Next};
use super::outbox::{Sealed, Standing};
use super::parked::{Parked, Reason};
use crate::limits;
use crate::mqtt::PacketId;
use crate::store::Shelf;
pub use words::{Action, Allowance, Event, Flying, Refusal, Suspect};

/// See the module.
#[derive(Debug, Default)]
pub struct Machine {
    /// Whether batches are freed by their receiver's word, not by the broker's.
    by_receiver: bool,
    connected: bool,
    epoch: u64,
    lanes: [Lane; Shelf::COUNT],
    /// In flight, with their place in the order of sending.
    flying: BTreeMap<PacketId, (u64, Flying)>,
    sent: u64,
    /// Sends that were ordered and not reported yet.
    leaving: VecDeque<Flying>,
    /// Of both, bytes.
    bytes: usize,
    /// Bytes of the batch ordered last: what the next is likely to have.
    bytes_last: usize,
    asked: Option<Asked>,
    turn: usize,
    suspect: Option<Suspect>,
    parked: Parked,
    /// Salvaged batches that the broker has, or may get soon, by the keys that a receiver names.
    earlier: Earlier,
    allowance: Allowance,
    /// When the present age of what was delivered began.
    aged: Option<Instant>,
}

/// What the store was asked and has not answered.
#[derive(Debug, Clone, Copy)]
struct Asked {
    stream: Shelf,
    first: u64,
    last: u64,
    trial: bool,
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
    /// Begins with nothing known; with `by_receiver`, only [`Event::Receipt`] frees.
    #[must_use]
    pub fn new(by_receiver: bool) -> Self {
        Self { by_receiver, ..Self::default() }
    }

    /// Takes what happened at `now`; returns what to do about it.
    pub fn on(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.age(now);
        match event {
            Event::Connected(standing) => self.begin(&standing),
            Event::Lost { closed } => {
                if closed {
                    self.suspect_first(now, &mut actions);
                }
                self.end_flight();
                self.connected = false;
            }
            Event::News(standing) => {
                for (lane, waiting) in self.lanes.iter_mut().zip(standing.streams) {
                    lane.hear(waiting.newest);
                }
            }
            Event::Read(stream, batches) => self.take(stream, batches, now, &mut actions),
            Event::Unread(stream) => {
                self.asked = None;
                self.lanes[stream as usize].stalled = true;
            }
            Event::Sent(id) => {
                if let Some(batch) = self.leaving.pop_front() {
                    self.sent += 1;
                    self.flying.insert(id, (self.sent, batch));
                }
            }
            Event::Acknowledged(id) => self.taken(id, &mut actions),
            Event::Refused(id, refusal) => self.refused(id, refusal, now, &mut actions),
            Event::Receipt { stream, upto, holes } => {
                self.earlier.heard = true;
                let news = self.lanes[stream as usize].receipt(now, upto, &holes);
                for (first, last) in news.iter() {
                    actions.push(Action::Free { stream, first, last });
                    self.unpark(stream, first, last, &mut actions);
                }
            }
            Event::Earlier { epoch, stream, upto, holes } => {
                self.earlier.heard = true;
                let stream = Shelf::salvaged(stream);
                for place in self.earlier.named(stream, epoch, upto, &holes) {
                    if self.lanes[stream as usize].named(place) {
                        self.earlier.forget(stream, place, place);
                        actions.push(Action::Free { stream, first: place, last: place });
                        self.unpark(stream, place, place, &mut actions);
                    }
                }
            }
        }
        self.read_on(now, &mut actions);
        actions
    }

    /// Takes what the link allows from now on.
    pub fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// Returns how many batches are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flying.len()
    }

    /// Returns the bytes of what is in flight or about to be.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        self.bytes
    }

    /// Returns whether a batch belongs to a backlog that drains beside what is new.
    #[must_use]
    pub fn is_backlog(&self, stream: Shelf, seq: u64) -> bool {
        self.lanes[stream as usize].is_backlog(seq)
    }

    /// Returns the batch that connections keep ending with.
    #[must_use]
    pub fn suspect(&self) -> Option<Suspect> {
        self.suspect
    }

    /// Returns whether a backlog drains beside what is new.
    #[must_use]
    pub fn is_split(&self) -> bool {
        self.lanes.iter().any(Lane::is_split)
    }

    /// Returns whether the broker has taken nothing since a batch was parked for its hanging up.
    #[must_use]
    pub fn is_unwanted(&self) -> bool {
        self.parked.in_a_row() > 0
    }

    /// Returns when a pause ends, so that [`Event::News`] is due, if nothing else happens before.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.parked.due(now)
    }

    /// Returns whether the broker has batches for long that their receiver has not named.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.lanes.iter().any(Lane::is_overdue)
    }

    /// Returns whether a receiver may have this: whatever it claims beyond what was ever sent is
    /// no word of a receiver of ours.
    #[must_use]
    pub fn believes(&self, stream: Shelf, upto: u64) -> bool {
        self.by_receiver && self.lanes[stream as usize].can_be(upto)
    }

    fn begin(&mut self, standing: &Standing) {
        if standing.epoch != self.epoch {
            // Another store: its numbers mean other batches.
            *self = Self {
                epoch: standing.epoch,
                allowance: self.allowance,
                aged: self.aged,
                ..Self::new(self.by_receiver)
            };
        }
        self.end_flight();
        self.connected = true;
        self.parked.forget_trial();
        for stream in Shelf::ALL {
            let waiting = standing.streams[stream as usize];
            let parked = self.parked.of(stream);
            self.lanes[stream as usize].begin(waiting, limits::BATCHES_IN_FLIGHT_MAX, parked);
        }
        let lanes = &self.lanes;
        self.earlier.retain(|stream, place| lanes[stream as usize].is_delivered(place));
        self.turn = 0;
    }

    fn age(&mut self, now: Instant) {
        let aged = *self.aged.get_or_insert(now);
        if now.duration_since(aged) >= limits::RECEIPT_OVERDUE_AFTER {
            self.aged = Some(now);
            // It speaks, and not of these: they were lost on the way. To one that says nothing they
            // would only go again and again.
            if std::mem::take(&mut self.earlier.heard) {
                let salvaged = Shelf::ALL.into_iter().filter(|stream| stream.is_salvaged());
                for stream in salvaged {
                    for (first, last) in self.lanes[stream as usize].repeat_overdue().iter() {
                        self.earlier.forget(stream, first, last);
                    }
                }
            }
            self.lanes.iter_mut().for_each(Lane::age);
        }
    }

    fn take(
        &mut self,
        stream: Shelf,
        batches: Vec<Sealed>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        // Only the answer to this connection's own question counts.
        let Some(asked) = self.asked.take().filter(|asked| asked.stream == stream) else { return };
        let end = batches.last().map_or(asked.last, |batch| batch.seq.min(asked.last));
        let lane = &mut self.lanes[stream as usize];
        if !asked.trial {
            lane.found(asked.first, end);
        } else if !batches.iter().any(|batch| batch.seq == asked.first) {
            self.unpark(stream, asked.first, asked.first, actions);
        }
        for batch in batches.into_iter().filter(|b| (asked.first..=end).contains(&b.seq)) {
            let bytes = batch.payload.len();
            let flying = Flying { stream, seq: batch.seq, readings: batch.readings, bytes };
            if bytes > self.allowance.payload {
                self.park(flying, Reason::TooLarge(self.allowance.payload), now, actions);
                continue;
            }
            if self.by_receiver && stream.is_salvaged() {
                self.earlier.note(stream, batch.seq, &batch.payload);
            }
            self.bytes += bytes;
            self.bytes_last = bytes;
            self.leaving.push_back(flying);
            actions.push(Action::Send(stream, batch));
        }
    }

    fn taken(&mut self, id: PacketId, actions: &mut Vec<Action>) {
        let Some(batch) = self.land(id) else { return };
        self.parked.progress();
        let Flying { stream, seq, .. } = batch;
        // What is new passes an old batch by; only the backlog comes after it.
        let split = self.lanes[stream as usize].is_split();
        let is_past = |s: &Suspect| {
            s.batch.stream == stream && (s.batch.seq == seq || s.batch.seq < seq && !split)
        };
        if self.suspect.as_ref().is_some_and(is_past) {
            self.suspect = None;
        }
        actions.push(Action::Taken(batch));
        // What bears no key that can be read, nobody can name.
        let has_name = !stream.is_salvaged() || self.earlier.knows(stream, seq);
        if self.by_receiver && has_name {
            self.lanes[stream as usize].deliver(seq);
        } else {
            actions.push(Action::Free { stream, first: seq, last: seq });
        }
        self.unpark(stream, seq, seq, actions);
    }

    fn refused(&mut self, id: PacketId, refusal: Refusal, now: Instant, actions: &mut Vec<Action>) {
        let Some(batch) = self.land(id) else { return };
        self.earlier.forget(batch.stream, batch.seq, batch.seq);
        if refusal == Refusal::Never && self.parked.refused(batch.stream, batch.seq) {
            self.park(batch, Reason::Refused, now, actions);
            return;
        }
        if !self.parked.is_trial(batch.stream, batch.seq) {
            self.lanes[batch.stream as usize].again(batch.seq, batch.seq);
        }
        if refusal == Refusal::Busy {
            self.parked.busy(now);
        }
    }

    /// Takes a batch from the flight.
    fn land(&mut self, id: PacketId) -> Option<Flying> {
        let (_, batch) = self.flying.remove(&id)?;
        self.bytes = self.bytes.saturating_sub(batch.bytes);
        Some(batch)
    }

    /// Parks a batch; when too many are parked, all sending pauses instead.
    fn park(&mut self, batch: Flying, why: Reason, now: Instant, actions: &mut Vec<Action>) {
        if self.parked.park(batch.stream, batch.seq, now) {
            self.lanes[batch.stream as usize].found(batch.seq, batch.seq);
            actions.push(Action::Park(batch, why));
        } else {
            self.parked.busy(now);
            self.lanes[batch.stream as usize].again(batch.seq, batch.seq);
        }
    }

    fn unpark(&mut self, stream: Shelf, first: u64, last: u64, actions: &mut Vec<Action>) {
        if self.parked.free(stream, first, last) && self.parked.len() == 0 {
            actions.push(Action::Unparked);
        }
    }

    /// Asks for more when there may be more and the window has room: so a long backlog is read a
    /// few batches at a time, not one for each acknowledgement.
    fn read_on(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let taken = self.flying.len() + self.leaving.len();
        if !self.connected || self.asked.is_some() || self.parked.is_holding(now) {
            return;
        }
        if let Some((stream, seq)) = self.parked.trial(now) {
            // Alone, so that what happens to it shows what the broker thinks of it.
            if taken == 0 {
                self.parked.begin_trial(now);
                self.ask(Asked { stream, first: seq, last: seq, trial: true }, 1, actions);
            }
            return;
        }
        let window = self.window();
        if self.parked.is_trying()
            || taken >= window
            || taken > 0 && self.bytes >= self.allowance.bytes
        {
            return;
        }
        for _ in TURNS {
            let stream = TURNS[self.turn % TURNS.len()];
            self.turn = (self.turn + 1) % TURNS.len();
            if stream.is_salvaged() && self.earlier.is_full() {
                continue;
            }
            let Some(mut next) = self.lanes[stream as usize].next(self.allowance.paced) else {
                continue;
            };
            let room = (self.allowance.bytes - self.bytes) / self.bytes_last.max(1);
            let waiting = usize::try_from(next.last - next.first + 1).unwrap_or(usize::MAX);
            next.count = next.count.min(waiting).min(window).min(room.max(1));
            if next.live {
                next.count = next.count.min(window - taken);
            }
            if taken + next.count > window {
                // Its turn comes again.
                self.turn = (self.turn + TURNS.len() - 1) % TURNS.len();
                return;
            }
            self.lanes[stream as usize].asked(&next);
            let Next { first, last, count, .. } = next;
            self.ask(Asked { stream, first, last, trial: false }, count, actions);
            return;
        }
    }

    fn ask(&mut self, asked: Asked, count: usize, actions: &mut Vec<Action>) {
        self.asked = Some(asked);
        let (stream, after) = (asked.stream, asked.first.saturating_sub(1));
        actions.push(Action::Read { stream, after, count });
    }

    /// How many batches may be in flight. One at a time when connections keep ending without
    /// progress: a broker that hangs up on the second of two batches takes its answer to the first
    /// with it, so that only a batch sent alone shows whether it is the one.
    fn window(&self) -> usize {
        let careful = self.suspect.is_some_and(|s| s.times > 1);
        if careful { 1 } else { self.allowance.batches.clamp(1, limits::BATCHES_IN_FLIGHT_MAX) }
    }

    fn suspect_first(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let first = self.flying.values().min_by_key(|(place, _)| *place).map(|(_, batch)| *batch);
        let Some(batch) = first.or(self.leaving.front().copied()) else { return };
        if self.parked.is_trial(batch.stream, batch.seq) {
            // Once more was enough.
            self.parked.park(batch.stream, batch.seq, now);
            return;
        }
        let times = match self.suspect {
            Some(s) if (s.batch.stream, s.batch.seq) == (batch.stream, batch.seq) => s.times + 1,
            _ => 1,
        };
        self.suspect = Some(Suspect { batch, times });
        if times >= limits::BATCH_SUSPECTED_AFTER && self.parked.park(batch.stream, batch.seq, now)
        {
            self.suspect = None;
            self.parked.hung_up();
            actions.push(Action::Park(batch, Reason::HungUp(times)));
        }
    }

    fn end_flight(&mut self) {
        self.flying.clear();
        self.leaving.clear();
        self.bytes = 0;
        self.asked = None;
    }
}
