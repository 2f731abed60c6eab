//! One connection, from login to its end: does what the machine orders, and tells `status` and
//! `meta`.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::machine::{Action, Event, Flying, Machine};
use super::outbox::{Outbox, Unreadable};
use super::{Uplink, status};
use crate::backoff::Backoff;
use crate::events::broker as say;
use crate::limits;
use crate::mqtt::{Incoming, PacketId, Session, SessionError};
use crate::store::Shelf;

/// Why a connection ended.
pub(super) enum End {
    /// We were told to stop, and have said goodbye.
    Stopped,
    /// The session failed.
    Lost(SessionError),
    /// Nothing was acknowledged for so long.
    Unacknowledged(Duration),
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> Self {
        Self::Lost(error)
    }
}

/// A connection being served.
pub(super) struct Talk<'a, O> {
    uplink: &'a Uplink<O>,
    session: Session,
    machine: &'a mut Machine,
    backoff: &'a mut Backoff,
    began: Instant,
    /// Whether the broker has acknowledged anything on this connection.
    proven: bool,
    /// Whether that was a batch.
    freed: bool,
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
}

impl<'a, O: Outbox> Talk<'a, O> {
    pub(super) fn new(
        uplink: &'a Uplink<O>,
        session: Session,
        machine: &'a mut Machine,
        backoff: &'a mut Backoff,
    ) -> Self {
        let now = Instant::now();
        Self {
            uplink,
            session,
            machine,
            backoff,
            began: now,
            proven: false,
            freed: false,
            steady: false,
            progress: now,
            told: Told { status_at: now, backlog_s: 0, epoch: 0, points: 0 },
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
        if matches!(end, End::Stopped) {
            self.say_goodbye().await;
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
        self.tell_status().await?;
        self.tell_meta().await?;
        let newest = self.newest();
        let mut todo: VecDeque<Action> = self.machine.on(Event::Connected(newest)).into();
        loop {
            while let Some(action) = todo.pop_front() {
                if let Some(event) = self.act(action, &mut todo).await? {
                    todo.extend(self.machine.on(event));
                }
            }
            let due = self.due();
            tokio::select! {
                incoming = self.session.next() => {
                    if let Incoming::Acknowledged(id) = incoming? {
                        todo.extend(self.acknowledged(id));
                    }
                }
                changed = sealed.changed(), if store_lives => {
                    store_lives = changed.is_ok();
                    todo.extend(self.news());
                }
                () = sleep_until(due) => {
                    self.look().await?;
                    todo.extend(self.news());
                }
            }
        }
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
                            if let Incoming::Acknowledged(id) = incoming? {
                                todo.extend(self.acknowledged(id));
                            }
                        }
                    }
                }
            }
            Action::Send(stream, batch) => {
                let topic = &self.uplink.topics.streams[stream.stream() as usize];
                let id = self.session.publish(topic, batch.payload, false).await?;
                self.progress = Instant::now();
                Ok(Some(Event::Sent(id)))
            }
            Action::Free(batch) => {
                self.free(batch);
                Ok(None)
            }
        }
    }

    /// Takes an acknowledgement and frees its batch at once: one that waited behind a slow disk
    /// could be lost with the connection, and cost a resend. Returns what else is to be done.
    fn acknowledged(&mut self, id: PacketId) -> Vec<Action> {
        self.proven = true;
        self.uplink.link.send_modify(|link| link.last_acknowledged = Some(Instant::now()));
        let suspected = self.machine.suspect().is_some();
        let actions = self.machine.on(Event::Acknowledged(id));
        if suspected && self.machine.suspect().is_none() {
            let events = &self.uplink.events;
            events.clear(&say::BATCH_UNWANTED, &self.uplink.subject, "has got that batch through");
        }
        let (frees, rest): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Free(_)));
        for action in frees {
            if let Action::Free(batch) = action {
                self.free(batch);
            }
        }
        rest
    }

    fn free(&mut self, batch: Flying) {
        self.uplink.outbox.acknowledge(batch.stream, batch.seq);
        self.progress = Instant::now();
        self.freed = true;
        // While one stream is stuck, the others prove nothing about it.
        if self.machine.suspect().is_none() {
            self.backoff.reset();
        }
        self.uplink.link.send_modify(|link| {
            link.batches += 1;
            link.readings += batch.readings;
        });
    }

    fn news(&mut self) -> Vec<Action> {
        let newest = self.newest();
        self.machine.on(Event::Newest(newest))
    }

    fn newest(&self) -> [u64; Shelf::COUNT] {
        self.uplink.outbox.standing().streams.map(|stream| stream.newest)
    }

    /// When to look next, at the latest.
    fn due(&self) -> Instant {
        let mut due = self.look_at;
        if self.machine.in_flight() > 0 {
            due = due.min(self.progress + self.patience());
        }
        due
    }

    fn patience(&self) -> Duration {
        (self.uplink.settings.broker.keep_alive * 3).max(limits::ACKNOWLEDGEMENT_TIME_MIN)
    }

    async fn look(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.machine.in_flight() > 0 && now >= self.progress + self.patience() {
            return Err(End::Unacknowledged(now - self.progress));
        }
        self.look_at = now + limits::STATUS_LOOK_TIME;
        // A broker that takes `status` and no batches does not work.
        let works = self.freed || self.proven && self.machine.in_flight() == 0;
        if works && !self.steady && now >= self.began + limits::LINK_STEADY_TIME {
            self.steady = true;
            self.backoff.reset();
            say::works_again(&self.uplink.events, &self.uplink.subject);
        }
        let epoch = self.uplink.outbox.standing().epoch;
        if (self.told.epoch, self.told.points) != (epoch, self.uplink.points.len()) {
            self.tell_meta().await?;
        }
        let (payload, backlog_s) = self.status();
        if now >= self.told.status_at + limits::STATUS_TIME_MAX
            || status::is_news(self.told.backlog_s, backlog_s)
        {
            self.send_status(payload, backlog_s).await?;
        }
        Ok(())
    }

    fn status(&self) -> (Bytes, u64) {
        let Uplink { settings, outbox, clock, .. } = self.uplink;
        status::status(settings, outbox, &**clock)
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
        let (payload, whole) = status::meta(settings, epoch, points, count);
        if whole {
            events.clear(&say::META_TOO_LARGE, subject, "fits again");
        } else {
            events.raise(say::meta_too_large(subject, count));
        }
        self.session.publish(&topics.meta, payload, true).await?;
        (self.told.epoch, self.told.points) = (epoch, count);
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
                    Incoming::Acknowledged(id) => drop(self.acknowledged(id)),
                    Incoming::Refused(..) | Incoming::Received(_) => {}
                }
            }
        };
        let last = timeout(limits::UPLINK_GOODBYE_TIME_MAX, last).await;
        if matches!(last, Ok(Ok::<(), SessionError>(()))) {
            self.session.disconnect().await;
        }
    }
}
