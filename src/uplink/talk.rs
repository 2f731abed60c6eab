//! One connection, from login to its end: does what the machine orders, and tells `status` and
//! `meta`.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::machine::{Action, Allowance, Event, Flying, Machine, Refusal};
use super::outbox::{Outbox, Sealed, Unreadable};
use super::pace::Pace;
use super::settings::Ack;
use super::thingsboard::{self, Parts};
use super::{Identity, Memory, Uplink, receipt, status};
use crate::backoff::random;
use crate::events::broker as say;
use crate::limits;
use crate::mqtt::{Incoming, Layout, Outlook, PacketId, Preset, Session, SessionError};

/// Bytes of a PUBLISH beside topic and payload: one of type, four of length, two of the topic's
/// length, two of the identifier, one of how long the properties are and five of the only one there
/// may be (MQTT 5, section 3.3).
const PUBLISH_HEADER_BYTES_MAX: usize = 15;

/// Why a connection ended.
pub(super) enum End {
    /// We were told to stop, and have said goodbye.
    Stopped,
    /// A certificate, key or password was renewed; we have said goodbye.
    Renewed,
    /// The session failed.
    Lost(SessionError),
    /// Nothing was acknowledged for so long.
    Unacknowledged(Duration),
    /// The store was lost and another took its place: numbers mean other batches from now on.
    NewStore,
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> Self {
        Self::Lost(error)
    }
}

/// A connection being served.
pub(super) struct Talk<'a, O> {
    uplink: &'a Uplink<O>,
    pub(super) session: Session,
    memory: &'a mut Memory,
    pace: Pace,
    /// Of the store whose batches this connection sends.
    epoch: u64,
    began: Instant,
    parts: Parts,
    /// Whether the broker has acknowledged anything on this connection.
    proven: bool,
    /// Whether that was a batch.
    freed: bool,
    /// Whether a certificate or password is another one now: the next look ends the connection.
    is_renewed: bool,
    /// Whether the connection has lasted, so that earlier trouble is over.
    steady: bool,
    /// When a batch was last acknowledged or sent: since then the broker owes an acknowledgement.
    progress: Instant,
    told: Told,
    look_at: Instant,
}

/// What `status` and `meta` said last.
struct Told {
    status_at: Instant,
    backlog_s: u64,
    epoch: u64,
    points: usize,
    /// What the gateway was then.
    identity: Option<Identity>,
}

impl<'a, O: Outbox> Talk<'a, O> {
    pub(super) fn new(uplink: &'a Uplink<O>, session: Session, memory: &'a mut Memory) -> Self {
        let now = Instant::now();
        let part = u32::try_from(random() >> 48).unwrap_or(0);
        let spread = limits::DRAIN_SPREAD_MAX * part / 0xFFFF;
        Self {
            uplink,
            session,
            memory,
            pace: Pace::new(now, uplink.settings.drain, spread),
            epoch: uplink.outbox.standing().epoch,
            began: now,
            parts: Parts::default(),
            proven: false,
            freed: false,
            is_renewed: false,
            steady: false,
            progress: now,
            told: Told { status_at: now, backlog_s: 0, epoch: 0, points: 0, identity: None },
            look_at: now + limits::STATUS_LOOK_TIME,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> End {
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => End::Stopped,
            end = self.serve() => end,
        };
        match end {
            End::Stopped => self.say_goodbye().await,
            // Not a word in `status`: the gateway is not away.
            End::Renewed => self.session.disconnect().await,
            _ => {}
        }
        end
    }

    async fn serve(&mut self) -> End {
        match self.serve_batches().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn serve_batches(&mut self) -> Result<std::convert::Infallible, End> {
        let mut sealed = self.uplink.outbox.sealed();
        let mut store_lives = true;
        if self.uplink.settings.ack == Ack::Receiver {
            self.session.subscribe(std::slice::from_ref(&self.uplink.topics.ack)).await?;
        }
        self.tell_status().await?;
        self.tell_meta().await?;
        let standing = self.uplink.outbox.standing();
        self.epoch = standing.epoch;
        let mut todo: VecDeque<Action> = self.on(Event::Connected(standing)).into();
        loop {
            while let Some(action) = todo.pop_front() {
                if let Some(event) = self.act(action, &mut todo).await? {
                    todo.extend(self.on(event));
                }
            }
            let due = self.due();
            tokio::select! {
                incoming = self.session.next() => {
                    todo.extend(self.incoming(incoming?));
                }
                changed = sealed.changed(), if store_lives => {
                    store_lives = changed.is_ok();
                    todo.extend(self.news()?);
                }
                errand = self.memory.errand() => self.run_errand(errand).await?,
                () = sleep_until(due) => {
                    self.look().await?;
                    todo.extend(self.news()?);
                }
            }
        }
    }

    /// Tells the machine, and does at once what needs no wire: an acknowledgement that waited
    /// behind a slow disk could be lost with the connection, and cost a resend. Returns the rest.
    fn on(&mut self, event: Event) -> Vec<Action> {
        let now = Instant::now();
        let granted = self.session.limits();
        let topics = &self.uplink.topics.streams;
        let payload = topics.iter().map(|topic| self.payload_max(topic)).min();
        let allowance = Allowance {
            // `status` takes one.
            batches: usize::from(granted.in_flight_max).saturating_sub(1),
            bytes: self.pace.bytes_max(),
            payload: payload.unwrap_or(usize::MAX),
            paced: self.pace.waits_until(now).is_some(),
        };
        self.memory.machine.allow(allowance);
        let mut rest = Vec::new();
        for action in self.memory.machine.on(now, event) {
            match action {
                Action::Read { .. } | Action::Send(..) => rest.push(action),
                Action::Taken(batch) => self.taken(&batch),
                Action::Free { stream, first, last } => {
                    self.uplink.outbox.acknowledge(self.epoch, stream, first, last);
                }
                Action::Park(batch, why) => self.uplink.tell_parked(&batch, why),
                Action::Unparked => {
                    let Uplink { events, subject, .. } = self.uplink;
                    events.clear(&say::BATCH_UNWANTED, subject, "has got every batch through");
                }
            }
        }
        rest
    }

    /// Returns how many bytes the broker takes on a topic, by its own word and its preset's.
    fn payload_max(&self, topic: &str) -> usize {
        let Preset { payload_bytes_max, topics, .. } = self.uplink.settings.broker.preset;
        // There a batch is translated, in as many payloads as it needs.
        let fits = payload_bytes_max.filter(|_| *topics != Layout::ThingsBoard);
        let packet = self.session.limits().packet_bytes_max.map(|most| {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            most.saturating_sub(topic.len() + PUBLISH_HEADER_BYTES_MAX)
        });
        fits.into_iter().chain(packet).min().unwrap_or(usize::MAX)
    }

    /// Does what the machine orders; returns what it has to hear of it. What it orders meanwhile
    /// goes to the end of `todo`.
    async fn act(
        &mut self,
        action: Action,
        todo: &mut VecDeque<Action>,
    ) -> Result<Option<Event>, SessionError> {
        match action {
            Action::Read { stream, after, count } => {
                let uplink = self.uplink;
                let mut read = pin!(uplink.outbox.next(stream, after, count));
                // A disk may take its time; the session must not fall asleep over it.
                loop {
                    tokio::select! {
                        biased;
                        read = &mut read => {
                            return Ok(Some(match read {
                                Ok(batches) => Event::Read(stream, batches),
                                Err(Unreadable) => Event::Unread(stream),
                            }));
                        }
                        incoming = self.session.next() => {
                            todo.extend(self.incoming(incoming?));
                        }
                    }
                }
            }
            Action::Send(stream, batch) => {
                let topic = &self.uplink.topics.streams[stream.stream() as usize];
                let backlog = self.memory.machine.is_backlog(stream, batch.seq);
                self.pace.sent(Instant::now(), batch.payload.len(), backlog);
                let mut ids = Vec::with_capacity(1);
                for payload in self.payloads(batch) {
                    ids.push(self.session.publish(topic, payload, false).await?);
                }
                self.progress = Instant::now();
                Ok(self.parts.sent(&ids).map(Event::Sent))
            }
            Action::Taken(_) | Action::Free { .. } | Action::Park(..) | Action::Unparked => {
                Ok(None)
            }
        }
    }

    /// Returns what a batch is on the wire: its bytes as they are on disk, unless the broker reads
    /// nothing but its own form.
    fn payloads(&self, batch: Sealed) -> Vec<Bytes> {
        let Preset { topics, batch_bytes, .. } = self.uplink.settings.broker.preset;
        if *topics != Layout::ThingsBoard {
            return vec![batch.payload];
        }
        thingsboard::telemetry(&batch.payload, *batch_bytes).unwrap_or_else(|_| {
            tracing::error!("{} cannot translate batch {}", self.uplink.subject, batch.seq);
            vec![batch.payload]
        })
    }

    /// Takes what the broker sends; returns what is to be done.
    fn incoming(&mut self, incoming: Incoming) -> Vec<Action> {
        match incoming {
            Incoming::Acknowledged(id) => self.acknowledged(id),
            Incoming::Refused(id, reason) => {
                self.progress = Instant::now();
                let refusal = match reason.outlook() {
                    Outlook::Later => Refusal::Busy,
                    Outlook::NeverAsItIs => Refusal::Never,
                };
                match self.parts.refused(id) {
                    Some(id) => self.on(Event::Refused(id, refusal)),
                    None => Vec::new(),
                }
            }
            Incoming::Received(message) if message.topic == self.uplink.topics.ack => {
                self.receipt(&message.payload)
            }
            Incoming::Received(message) => {
                self.memory.deliver(message);
                Vec::new()
            }
        }
    }

    fn acknowledged(&mut self, id: PacketId) -> Vec<Action> {
        self.proven = true;
        self.uplink.link.send_modify(|link| link.last_acknowledged = Some(Instant::now()));
        match self.parts.acknowledged(id) {
            Some(id) => self.on(Event::Acknowledged(id)),
            None => Vec::new(),
        }
    }

    /// Takes the receiver's word, when it can be true.
    fn receipt(&mut self, payload: &[u8]) -> Vec<Action> {
        let Uplink { events, subject, link, .. } = self.uplink;
        let read = receipt::read(payload, self.epoch);
        let machine = &self.memory.machine;
        let is_earlier = |receipt: &receipt::Receipt| receipt.epoch < self.epoch;
        let receipt = match read {
            // Of an earlier epoch only what was sent and is remembered can be freed.
            Ok(receipt)
                if is_earlier(&receipt)
                    || machine.believes(receipt.stream.into(), receipt.upto) =>
            {
                receipt
            }
            Ok(receipt) => {
                let name = receipt.stream.name();
                let why = format!("names {name}/{}, which was never sent", receipt.upto);
                events.raise(say::receipt_unbelieved(subject, &why));
                return Vec::new();
            }
            Err(why) => {
                events.raise(say::receipt_unbelieved(subject, &why));
                return Vec::new();
            }
        };
        link.send_modify(|link| link.last_receipt = Some(Instant::now()));
        self.memory.silent = None;
        events.clear(&say::RECEIVER_SILENT, subject, "hears its receiver again");
        let receipt::Receipt { epoch, stream, upto, holes } = receipt;
        if epoch < self.epoch {
            return self.on(Event::Earlier { epoch, stream, upto, holes });
        }
        self.on(Event::Receipt { stream: stream.into(), upto, holes })
    }

    fn taken(&mut self, batch: &Flying) {
        let now = Instant::now();
        self.progress = now;
        self.freed = true;
        let machine = &self.memory.machine;
        self.pace.acknowledged(now, batch.bytes, machine.bytes_in_flight());
        // While connections keep ending with one batch, the others prove nothing about it.
        if machine.suspect().is_none() {
            self.memory.backoff.reset();
        }
        self.uplink.link.send_modify(|link| {
            link.batches += 1;
            link.readings += batch.readings;
        });
    }

    fn news(&mut self) -> Result<Vec<Action>, End> {
        let standing = self.uplink.outbox.standing();
        if standing.epoch != self.epoch {
            return Err(End::NewStore);
        }
        Ok(self.on(Event::News(standing)))
    }

    /// When to look next, at the latest.
    fn due(&self) -> Instant {
        let (now, machine) = (Instant::now(), &self.memory.machine);
        let mut due = self.look_at;
        if machine.in_flight() > 0 {
            due = due.min(self.progress + self.patience());
        }
        let drain = self.pace.waits_until(now).filter(|_| machine.is_split());
        machine.due(now).into_iter().chain(drain).fold(due, Instant::min)
    }

    fn patience(&self) -> Duration {
        (self.uplink.settings.broker.keep_alive * 3).max(limits::ACKNOWLEDGEMENT_TIME_MIN)
    }

    async fn look(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.machine().in_flight() > 0 && now >= self.progress + self.patience() {
            return Err(End::Unacknowledged(now - self.progress));
        }
        if now < self.look_at {
            return Ok(());
        }
        self.listen(now);
        self.uplink.look_at_plan(self.memory);
        self.look_at = now + limits::STATUS_LOOK_TIME;
        self.look_at_files()?;
        // A broker that takes `status` and no batches does not work.
        let works = self.freed || self.proven && self.machine().in_flight() == 0;
        if works && !self.steady && now >= self.began + limits::LINK_STEADY_TIME {
            self.steady = true;
            self.memory.backoff.reset();
            say::works_again(&self.uplink.events, &self.uplink.subject);
        }
        let epoch = self.uplink.outbox.standing().epoch;
        let is_another = self.told.identity.as_ref() != Some(&*self.uplink.identity.borrow());
        if is_another || (self.told.epoch, self.told.points) != (epoch, self.uplink.points.len()) {
            self.tell_meta().await?;
        }
        let (payload, backlog_s) = self.status();
        if is_another
            || now >= self.told.status_at + limits::STATUS_TIME_MAX
            || status::is_news(self.told.backlog_s, backlog_s)
        {
            self.send_status(payload, backlog_s).await?;
        }
        Ok(())
    }

    pub(super) fn subject(&self) -> &str {
        &self.uplink.subject
    }

    fn machine(&self) -> &Machine {
        &self.memory.machine
    }

    /// Tells of a receiver that has said nothing for long, while the broker has batches for it.
    fn listen(&mut self, now: Instant) {
        if !self.machine().is_overdue() {
            self.memory.silent = None;
            return;
        }
        let silent = now.duration_since(*self.memory.silent.get_or_insert(now));
        if silent >= limits::RECEIVER_SILENCE_MAX {
            let Uplink { events, subject, topics, link, .. } = self.uplink;
            let last = link.borrow().last_receipt.map(|at| now.duration_since(at));
            events.raise(say::receiver_silent(subject, &topics.ack, last));
        }
    }

    /// Ends the connection when a file it was begun with is renewed. What is in flight gets until
    /// the next look; what is not acknowledged by then is sent again, under the same key.
    fn look_at_files(&mut self) -> Result<(), End> {
        let broker = &self.uplink.settings.broker;
        if !self.is_renewed && !self.memory.files.are_renewed(broker) {
            return Ok(());
        }
        if self.is_renewed || self.machine().in_flight() == 0 {
            return Err(End::Renewed);
        }
        self.is_renewed = true;
        Ok(())
    }

    fn status(&self) -> (Bytes, u64) {
        let Uplink { identity, outbox, clock, .. } = self.uplink;
        status::status(&identity.borrow(), outbox, &**clock)
    }

    async fn tell_status(&mut self) -> Result<(), SessionError> {
        let (payload, backlog_s) = self.status();
        self.send_status(payload, backlog_s).await
    }

    async fn send_status(&mut self, payload: Bytes, backlog_s: u64) -> Result<(), SessionError> {
        self.session.publish(&self.uplink.topics.status, payload, true).await?;
        self.told.status_at = Instant::now();
        self.told.backlog_s = backlog_s;
        Ok(())
    }

    async fn tell_meta(&mut self) -> Result<(), SessionError> {
        let Uplink { settings, outbox, points, events, topics, subject, .. } = self.uplink;
        let (epoch, count) = (outbox.standing().epoch, points.len());
        let preset = settings.broker.preset.payload_bytes_max.unwrap_or(usize::MAX);
        let bytes_max = self.payload_max(&topics.meta).min(preset).min(limits::META_BYTES_MAX);
        let identity = self.uplink.identity.borrow().clone();
        let about = (&*settings.gateway, &identity);
        let (payload, whole) = status::meta(about, epoch, (points, count), bytes_max);
        if whole {
            events.clear(&say::META_TOO_LARGE, subject, "fits again");
        } else {
            events.raise(say::meta_too_large(subject, count, bytes_max));
        }
        self.session.publish(&topics.meta, payload, true).await?;
        (self.told.epoch, self.told.points) = (epoch, count);
        self.told.identity = Some(identity);
        Ok(())
    }

    /// Leaves `status` as stopped, and DISCONNECT behind it. When the broker does not acknowledge
    /// that in time, the connection is dropped without a word, so that the last will speaks.
    async fn say_goodbye(mut self) {
        let last = async {
            let topic = &self.uplink.topics.status;
            let payload = Bytes::from_static(status::STOPPED);
            let goodbye = self.session.publish(topic, payload, true).await?;
            loop {
                match self.session.next().await? {
                    Incoming::Acknowledged(id) if id == goodbye => return Ok(()),
                    incoming => drop(self.incoming(incoming)),
                }
            }
        };
        let last = timeout(limits::UPLINK_GOODBYE_TIME_MAX, last).await;
        if matches!(last, Ok(Ok::<(), SessionError>(()))) {
            self.session.disconnect().await;
        }
    }
}
