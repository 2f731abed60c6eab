//! One TCP connection and the gateways on it: seals when it is time, sends while the window has
//! room, and begins anew with whatever is not acknowledged when the connection is lost.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::fleet::{Fleet, Gateway, Held};
use super::totals::Totals;
use crate::backoff::Backoff;
use crate::events::{Events, broker as say};
use crate::limits;
use crate::mqtt::{self, Broker, Incoming, PacketId, Session, SessionError, Will};

/// What brokers and people read when a gateway is gone, and when it says goodbye.
const LOST: &[u8] = br#"{"up":false,"why":"lost"}"#;
const STOPPED: &[u8] = br#"{"up":false,"why":"stopped"}"#;

/// What trouble is told about.
const SUBJECT: &str = "simulate";

pub(super) struct Connection {
    fleet: Arc<Fleet>,
    totals: Arc<Totals>,
    events: Events,
    broker: Broker,
    gateways: Vec<Gateway>,
    /// Place in `gateways` and batch, in the order in which they leave.
    leaving: VecDeque<(usize, Held)>,
    /// Batches that the broker owes an acknowledgement; `None` for a status.
    flying: HashMap<PacketId, Option<(usize, u64)>>,
    /// Batches sealed on this connection, round by round.
    turns: u64,
    began: Instant,
}

impl Connection {
    pub(super) fn new(
        fleet: Arc<Fleet>,
        totals: Arc<Totals>,
        events: Events,
        numbers: Range<u32>,
        mut broker: Broker,
    ) -> Self {
        let gateways: Vec<_> = numbers.map(|number| Gateway::new(&fleet, number)).collect();
        if let Some(first) = gateways.first() {
            broker.client_id.clone_from(&first.name);
            // A connection has one will: of several gateways, the first one's.
            broker.will = Some(Will {
                topic: first.topic("status"),
                payload: Bytes::from_static(LOST),
                retain: true,
            });
        }
        Self {
            fleet,
            totals,
            events,
            broker,
            gateways,
            leaving: VecDeque::new(),
            flying: HashMap::new(),
            turns: 0,
            began: Instant::now(),
        }
    }

    /// Sends until `stop` is cancelled and nothing is owed any more.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let Some(first) = self.gateways.first() else { return };
        // A fleet that dials at once is another test than the one that was asked for.
        sleep(limits::SIMULATE_DIAL_PAUSE * first.number).await;
        self.began = Instant::now();
        let mut backoff = Backoff::new(limits::RECONNECT_DELAY_MIN, limits::RECONNECT_DELAY_MAX);
        let mut again = false;
        loop {
            if stop.is_cancelled() && self.turns == 0 {
                return;
            }
            match mqtt::connect(&self.broker, true).await {
                Err(error) => {
                    say::tell_not_connected(&self.events, SUBJECT, &self.broker, &error);
                }
                Ok(mut session) => {
                    self.totals.login(again);
                    again = true;
                    backoff.reset();
                    match self.talk(&mut session, &stop).await {
                        Ok(()) => return session.disconnect().await,
                        Err(error) => {
                            self.events.raise(say::lost(SUBJECT, &self.broker, &error));
                        }
                    }
                }
            }
            sleep(backoff.pause()).await;
        }
    }

    /// Serves one connection; returns when everything is sealed and acknowledged.
    async fn talk(
        &mut self,
        session: &mut Session,
        stop: &CancellationToken,
    ) -> Result<(), SessionError> {
        self.flying.clear();
        self.leaving.clear();
        for place in 0..self.gateways.len() {
            self.tell(session, place).await?;
            let gateway = &mut self.gateways[place];
            self.leaving.extend(gateway.unacknowledged().map(|held| (place, held)));
        }
        loop {
            self.seal_due(stop.is_cancelled());
            if self.send(session).await? {
                continue;
            }
            let over = self.is_over(stop.is_cancelled());
            if over && self.leaving.is_empty() && self.flying.is_empty() {
                return self.say_goodbye(session).await;
            }
            let due = self.due();
            tokio::select! {
                incoming = session.next() => {
                    if let Incoming::Acknowledged(id) = incoming? {
                        self.acknowledged(id);
                    }
                }
                () = sleep_until(due), if !over && !self.fleet.fast => {}
                () = stop.cancelled(), if !over => {}
            }
        }
    }

    /// Publishes one batch when the window has room; returns whether it did.
    async fn send(&mut self, session: &mut Session) -> Result<bool, SessionError> {
        if self.flying.len() >= self.window() {
            return Ok(false);
        }
        let Some((place, held)) = self.leaving.pop_front() else { return Ok(false) };
        let gateway = &self.gateways[place];
        if gateway.holds(held.seq) {
            let payload = gateway.payload(&self.fleet, held);
            self.totals.published(payload.len() as u64);
            let id = session.publish(&gateway.topic, payload, false).await?;
            self.flying.insert(id, Some((place, held.seq)));
        }
        Ok(true)
    }

    /// As many as a gateway may have in flight, for each of them.
    fn window(&self) -> usize {
        (limits::BATCHES_IN_FLIGHT_MAX * self.gateways.len()).min(limits::SIMULATE_IN_FLIGHT_MAX)
    }

    fn acknowledged(&mut self, id: PacketId) {
        if let Some(Some((place, seq))) = self.flying.remove(&id)
            && self.gateways[place].free(seq)
        {
            self.totals.acknowledged(self.fleet.bodies.readings());
        }
    }

    /// Seals whatever is due: in real time all that has come of age, else as much as the window
    /// takes.
    fn seal_due(&mut self, stopping: bool) {
        while !self.is_over(stopping)
            && if self.fleet.fast {
                self.leaving.len() + self.flying.len() < self.window()
            } else {
                self.due() <= Instant::now()
            }
        {
            let place = self.place();
            let leaving = self.gateways[place].seal(&self.fleet, &self.totals);
            self.leaving.extend(leaving.into_iter().map(|held| (place, held)));
            self.turns += 1;
        }
        if self.is_over(stopping) {
            let late = self.gateways.iter_mut().enumerate();
            self.leaving.extend(late.filter_map(|(place, gw)| Some((place, gw.flush()?))));
        }
    }

    /// Returns whose turn it is.
    fn place(&self) -> usize {
        usize::try_from(self.turns % self.gateways.len() as u64).unwrap_or(0)
    }

    fn is_over(&self, stopping: bool) -> bool {
        stopping || self.gateways[self.place()].sealed() >= self.fleet.batches_max
    }

    /// Returns when the next batch comes of age: gateways take their turns evenly.
    fn due(&self) -> Instant {
        let interval = self.fleet.bodies.interval();
        let count = u128::from(self.turns) + 1;
        let nanos = interval.as_nanos() * count / self.gateways.len() as u128;
        self.began + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Says what a gateway says at the beginning of a connection.
    async fn tell(&mut self, session: &mut Session, place: usize) -> Result<(), SessionError> {
        let gateway = &self.gateways[place];
        for (leaf, payload) in
            [("status", gateway.status(&self.fleet)), ("meta", gateway.meta(&self.fleet))]
        {
            let id = session.publish(&gateway.topic(leaf), payload, true).await?;
            self.flying.insert(id, None);
        }
        Ok(())
    }

    /// Leaves every gateway as stopped.
    async fn say_goodbye(&mut self, session: &mut Session) -> Result<(), SessionError> {
        for gateway in &self.gateways {
            let stopped = Bytes::from_static(STOPPED);
            let id = session.publish(&gateway.topic("status"), stopped, true).await?;
            self.flying.insert(id, None);
        }
        while !self.flying.is_empty() {
            if let Incoming::Acknowledged(id) = session.next().await? {
                self.flying.remove(&id);
            }
        }
        Ok(())
    }
}
