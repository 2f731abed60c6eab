//! The loop: a session with the broker, slices into the sink, acknowledgements for what is safe.
//!
//! While a slice is being stored the session is still read, into the next slice, and so is kept
//! alive. The bounds of a slice are the only queue: when the next one is full as well, the broker is
//! not read on and keeps the rest. A session that ends meanwhile takes what was not acknowledged with
//! it; the broker sends it again, and the sink has seen before what it had committed.

use std::future::Future;
use std::pin::pin;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::acks::Due;
use super::check;
use super::rejects::Rejects;
use super::sink::{Away, Delivery, Sink, Verdict};
use super::slice::Slice;
use super::totals::Totals;
use crate::backoff::Backoff;
use crate::clock::{Clock as _, System};
use crate::events::{Code, Events, broker, receive as say};
use crate::limits;
use crate::mqtt::{self, Broker, Incoming, Message, Receipt, Session, SessionError};
use std::sync::Arc;

/// Everything the loop needs, made by the wiring board.
pub(super) struct Receiver {
    pub(super) broker: Broker,
    pub(super) filters: Vec<String>,
    pub(super) sink: Box<dyn Sink>,
    pub(super) events: Events,
    pub(super) totals: Arc<Totals>,
    pub(super) rejects: Option<Rejects>,
}

/// The subject of what is told about the broker.
const SUBJECT: &str = "receiver";

/// How a session ended.
enum End {
    /// We were told to stop.
    Stopped,
    Lost(SessionError),
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> Self {
        Self::Lost(error)
    }
}

impl Receiver {
    /// Receives until `stop`; finishes the slice under way then.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { broker, filters, sink, events, totals, rejects } = self;
        let desk = Desk { events: events.clone(), totals: Arc::clone(&totals), rejects };
        let mut river = River { sink, desk, due: Due::new(), away: None };
        let reached = tokio::select! {
            () = stop.cancelled() => return,
            reached = river.sink.reach() => reached,
        };
        if let Err(away) = reached {
            river.tell_away(away);
        }
        let mut pauses = Backoff::new(limits::RECONNECT_DELAY_MIN, limits::RECONNECT_DELAY_MAX);
        while !stop.is_cancelled() {
            let began = Instant::now();
            let connected = tokio::select! {
                () = stop.cancelled() => break,
                connected = mqtt::connect(&broker, false) => connected,
            };
            match connected {
                Err(error) => broker::tell_not_connected(&events, SUBJECT, &broker, &error),
                Ok(session) => {
                    totals.sessions.add(1);
                    totals.connected(true);
                    let end = river.session(session, &filters, &stop).await;
                    totals.connected(false);
                    match end {
                        End::Stopped => break,
                        End::Lost(error) => {
                            events.raise(broker::lost(SUBJECT, &broker, &error));
                        }
                    }
                    if began.elapsed() > limits::LINK_STEADY_TIME {
                        pauses.reset();
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(pauses.pause()) => {}
            }
        }
    }
}

/// What lasts longer than a session.
struct River {
    sink: Box<dyn Sink>,
    desk: Desk,
    due: Due,
    /// What was told of a sink that is away, until it takes something again.
    away: Option<(&'static Code, String)>,
}

/// Where messages are looked at.
struct Desk {
    events: Events,
    totals: Arc<Totals>,
    rejects: Option<Rejects>,
}

impl River {
    async fn session(
        &mut self,
        mut session: Session,
        filters: &[String],
        stop: &CancellationToken,
    ) -> End {
        // Nothing but an error or a stop ends it, so there is nothing to return otherwise.
        let end = match self.converse(&mut session, filters, stop).await {
            Ok(()) => End::Stopped,
            Err(end) => end,
        };
        if matches!(end, End::Stopped) {
            session.disconnect().await;
        }
        end
    }

    async fn converse(
        &mut self,
        session: &mut Session,
        filters: &[String],
        stop: &CancellationToken,
    ) -> Result<(), End> {
        session.subscribe(filters).await?;
        let mut steady = Some(Instant::now() + limits::LINK_STEADY_TIME);
        let mut next = Slice::default();
        loop {
            let steady_at = steady.unwrap_or_else(|| self.due.when() + limits::ACK_EVERY);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = sleep_until(steady_at), if steady.is_some() => {
                    steady = None;
                    broker::works_again(&self.desk.events, SUBJECT);
                }
                () = sleep_until(self.due.when()) => self.acknowledge(session, &mut next).await?,
                got = session.receive() => self.desk.take(got?, &mut next),
            }
            while !next.is_empty() && !stop.is_cancelled() {
                // What has arrived already belongs into the same transaction.
                while next.has_room()
                    && let Some(got) = session.receive().now_or_never()
                {
                    self.desk.take(got?, &mut next);
                }
                let slice = std::mem::take(&mut next);
                self.keep(slice, session, &mut next, stop).await?;
                if self.due.when() <= Instant::now() {
                    self.acknowledge(session, &mut next).await?;
                }
            }
        }
    }

    /// Stores a slice, however long that takes, and acknowledges it.
    async fn keep(
        &mut self,
        mut slice: Slice,
        session: &mut Session,
        next: &mut Slice,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        let mut pauses = Backoff::new(limits::SINK_RETRY_DELAY_MIN, limits::SINK_RETRY_DELAY_MAX);
        let verdicts = loop {
            let (sink, desk) = (&mut self.sink, &mut self.desk);
            let work = async {
                let verdicts = match slice.deliveries.as_slice() {
                    [] => Vec::new(),
                    deliveries => sink.store(deliveries).await?,
                };
                // After the batches: a status may say that the gateway let go of them.
                if !slice.statuses.is_empty() {
                    sink.note(&slice.statuses).await?;
                }
                Ok(verdicts)
            };
            let began = Instant::now();
            let (stored, lost) = meanwhile(session, desk, next, work).await;
            match stored {
                Ok(verdicts) => {
                    self.desk.totals.timings.stored(began.elapsed());
                    self.present_again();
                    self.judge(&slice, &verdicts);
                    lost?;
                    break verdicts;
                }
                Err(away) => {
                    self.tell_away(away);
                    lost?;
                }
            }
            let pause = async {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep(pauses.pause()) => {}
                }
            };
            meanwhile(session, &mut self.desk, next, pause).await.1?;
            if stop.is_cancelled() {
                return Err(End::Stopped);
            }
        };
        debug_assert_eq!(verdicts.len(), slice.deliveries.len());
        for receipt in slice.receipts() {
            session.acknowledge(receipt)?;
        }
        Ok(())
    }

    /// Counts what became of a slice.
    fn judge(&mut self, slice: &Slice, verdicts: &[Verdict]) {
        let (totals, now) = (&self.desk.totals, System.now());
        let mut refused = Vec::new();
        for (delivery, verdict) in slice.deliveries.iter().zip(verdicts) {
            match verdict {
                Verdict::Stored => {
                    totals.batches.add(1);
                    totals.readings.add(delivery.batch.readings());
                    totals.bytes.add(delivery.payload.len() as u64);
                    let header = &delivery.batch.header;
                    totals.timings.lag(&header.stream, now.0.saturating_sub(header.t1));
                    let unknown = delivery.batch.unknown_frames + delivery.batch.unknown_readings;
                    if unknown > 0 {
                        totals.unknown.add(unknown);
                        let gw = &delivery.batch.header.gateway;
                        self.desk.events.raise(say::unknown_frames(gw));
                    }
                }
                Verdict::Seen => totals.seen.add(1),
                Verdict::Refused(why) => {
                    refused.push((delivery, why));
                    continue;
                }
            }
            let first_contact = totals.meet(&delivery.batch.header.gateway);
            self.due.note(delivery.sequence(), first_contact);
        }
        for (delivery, why) in refused {
            let gw = delivery.batch.header.gateway.clone();
            let refusal = check::Refusal { gw, reason: "sink", why: why.clone() };
            self.desk.refuse(&refusal, delivery.received_at, &delivery.topic, &delivery.payload);
        }
    }

    /// Publishes what the ledger has of the sequences that are due.
    async fn acknowledge(&mut self, session: &mut Session, next: &mut Slice) -> Result<(), End> {
        let sequences = self.due.take();
        if sequences.is_empty() {
            return Ok(());
        }
        let (sink, desk) = (&mut self.sink, &mut self.desk);
        let (acks, lost) = meanwhile(session, desk, next, sink.acks(&sequences)).await;
        lost?;
        // A ledger that is away now has told so, or will with the next slice; the gateways hear of
        // these sequences with their next batch.
        for ack in acks.unwrap_or_default() {
            self.desk.totals.miss(&ack);
            let topic = format!("fg/1/{}/ack", ack.gw);
            let payload = serde_json::to_vec(&ack).unwrap_or_default();
            match session.publish(&topic, payload.into(), false).await {
                Ok(_) => self.desk.totals.acks.add(1),
                // All identifiers are in flight: the broker is slow, and the next round tells more.
                Err(SessionError::NoPacketId | SessionError::Topic(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn tell_away(&mut self, Away(notice): Away) {
        self.desk.totals.retries.add(1);
        let told = (notice.code, notice.subject.clone());
        if self.away.as_ref().is_some_and(|before| *before != told) {
            self.present_again();
        }
        self.desk.events.raise(*notice);
        self.away = Some(told);
    }

    fn present_again(&mut self) {
        if let Some((code, subject)) = self.away.take() {
            self.desk.events.clear(code, &subject, "takes batches again");
        }
    }
}

/// Does `work` to its end while the session is read into `next`. Returns what came of the work, and
/// whether the session still stands.
async fn meanwhile<T>(
    session: &mut Session,
    desk: &mut Desk,
    next: &mut Slice,
    work: impl Future<Output = T>,
) -> (T, Result<(), SessionError>) {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (done, Ok(())),
            got = session.receive(), if next.has_room() => match got {
                Ok(got) => desk.take(got, next),
                Err(error) => return (work.await, Err(error)),
            }
        }
    }
}

impl Desk {
    /// Looks at what the broker sent and lays it into the slice.
    fn take(&mut self, (incoming, receipt): (Incoming, Option<Receipt>), slice: &mut Slice) {
        slice.owe(receipt);
        let Incoming::Received(message) = incoming else { return };
        if check::topic(&message.topic).is_some_and(|topic| topic.leaf == "status") {
            if let Some(status) = check::status(&message.topic, &message.payload) {
                slice.statuses.push(status);
            }
            return;
        }
        if let Some(delivery) = self.check(&message) {
            slice.push(delivery);
        }
    }

    fn check(&mut self, message: &Message) -> Option<Delivery> {
        let now = System.now();
        match check::batch(&message.topic, &message.payload, now) {
            Ok(delivery) => Some(delivery),
            Err(refusal) => {
                self.refuse(&refusal, now, &message.topic, &message.payload);
                None
            }
        }
    }

    /// Counts a refused message, tells of the first of its kind, and puts it aside.
    fn refuse(
        &mut self,
        refusal: &check::Refusal,
        at: crate::reading::UnixMillis,
        topic: &str,
        payload: &[u8],
    ) {
        self.totals.refuse(refusal.reason);
        let sample: Vec<_> = payload.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let sample = format!("{} ({} bytes on {topic})", sample.join(" "), payload.len());
        self.events.raise(say::refused(&refusal.gw, refusal.reason, &refusal.why, &sample));
        if let Some(rejects) = &mut self.rejects
            && let Err(e) = rejects.put(at, topic, payload)
        {
            self.events.raise(say::rejects_unusable(rejects.folder(), &e));
        }
    }
}
