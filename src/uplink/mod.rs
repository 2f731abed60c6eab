//! Batches to the broker: acknowledged one by one, kept in the store until then.
//!
//! What is in flight lives and dies with its connection. A connection begins with nothing in
//! flight, reads from the store whatever is not acknowledged, oldest first, and sends the bytes on
//! disk as they are; a PUBACK counts only for the packet identifier that a batch got on this very
//! connection. So a broker may forget its session, acknowledge out of order, twice, or for nothing,
//! or die at any byte: a batch is sent once more at worst, and receivers know it by its key.
//!
//! After an outage that left more than a window, what is sealed from then on goes beside the
//! backlog, in every fourth slot: whoever looks on sees the present within seconds, and receivers
//! sort by sequence number anyway. A batch that the broker does not take is parked, not dropped,
//! and the rest passes.
//!
//! With `ack = "receiver"` a PUBACK proves the link and frees nothing: a batch is freed when the
//! receiver names it on `fg/1/{gw}/ack`. What a receiver that speaks does not name in time was lost
//! on the way and is sent again. What the broker had is remembered over connections, in ranges, and
//! not over a restart, which sends once more whatever is held.
//!
//! The cost is that up to [`limits::BATCHES_IN_FLIGHT_MAX`] batches are sent again after
//! every lost connection. Keeping the broker's session instead would save those bytes and trust
//! every broker to keep its word; brokers that forgot were the reason for building this.
//!
//! What it cannot see, without a receiver that speaks: a broker that acknowledges a batch and throws
//! it away, as mosquitto does with payloads over its `message_size_limit`. MQTT 3.1.1 has no word
//! for that in a PUBACK; MQTT 5 has.
//!
//! Topics and the form of payloads are those of the broker's preset (`topics`, `thingsboard`).
//!
//! `machine` decides and does nothing; `talk` does one connection; this file dials.

#[doc(hidden)]
pub mod door;
mod earlier;
mod errands;
mod lane;
mod machine;
mod outbox;
mod pace;
mod parked;
mod plan;
mod receipt;
pub mod settings;
mod status;
mod stored;
mod talk;
#[cfg(test)]
mod tests;
mod thingsboard;
mod topics;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::machine::{Action, Event, Flying, Machine};
pub use self::outbox::{Outbox, Sealed, Standing, Unreadable, Waiting};
use self::parked::Reason;
use self::plan::Plan;
use self::settings::{Ack, Uplink as Settings};
use self::talk::{End, Talk};
use self::topics::Topics;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::events::{Events, broker as say};
use crate::limits;
use crate::mqtt::{self, Broker, Carrier, ConnectError, Files, Session, Will};
use crate::reading::Points;

/// One receiver of batches, and all that is needed to serve it.
pub struct Uplink<O> {
    settings: Settings,
    outbox: O,
    points: Arc<Points>,
    clock: Arc<dyn Clock>,
    events: Events,
    /// Watched through [`Uplink::link`].
    link: watch::Sender<LinkState>,
    /// Changed through [`Uplink::identity`].
    identity: watch::Sender<Identity>,
    topics: Topics,
    subject: String,
    carrier: Option<Carrier>,
}

/// What an uplink says of its gateway and that may change while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Short hash of the effective configuration, sent in `status` and `meta`.
    pub config_hash: Arc<str>,
    /// Site and groups, sent in `meta`.
    pub labels: Vec<(String, String)>,
    /// The rules whose output counts, sent in `meta`.
    pub rules: Vec<Ruled>,
}

/// A rule that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ruled {
    /// As the configuration names it.
    pub rule: Arc<str>,
    /// The version its author gave it.
    pub version: Arc<str>,
    /// SHA-256 of its file, hexadecimal.
    pub digest: Arc<str>,
}

/// Proof that a link works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkState {
    /// Whether a broker has accepted our login and the connection stands.
    pub connected: bool,
    /// Logins that were accepted since the start.
    pub connections: u64,
    /// When the broker last acknowledged anything.
    pub last_acknowledged: Option<Instant>,
    /// When the receiver last named batches that it has; only with `ack = "receiver"`.
    pub last_receipt: Option<Instant>,
    /// Batches that the broker acknowledged since the start.
    pub batches: u64,
    /// Readings in them.
    pub readings: u64,
}

/// Opens sessions. Two implementations: the network, and the pipes of this room's tests.
pub(crate) trait Dial: Send + Sync {
    /// Connects and logs in, with a clean session.
    fn dial(&self, broker: &Broker) -> impl Future<Output = Result<Session, ConnectError>> + Send;
}

/// The real thing.
struct Network;

impl Dial for Network {
    fn dial(&self, broker: &Broker) -> impl Future<Output = Result<Session, ConnectError>> + Send {
        mqtt::connect(broker, true)
    }
}

/// What outlives a connection.
struct Memory {
    machine: Machine,
    backoff: Backoff,
    /// The files of the broker's settings as they were when it was last dialled.
    files: Files,
    /// Since when batches are overdue and the receiver says nothing.
    silent: Option<Instant>,
    plan: Option<Plan>,
    /// What other rooms have to do at this broker.
    carrier: Option<Carrier>,
}

impl Memory {
    fn new(settings: &Settings, outbox: &impl Outbox, carrier: Option<Carrier>) -> Self {
        let meter = &settings.broker.meter;
        Self {
            machine: Machine::new(settings.ack == Ack::Receiver),
            backoff: Backoff::new(limits::RECONNECT_DELAY_MIN, limits::RECONNECT_DELAY_MAX),
            files: Files::of(&settings.broker),
            silent: None,
            plan: settings.data_plan.map(|plan| Plan::new(meter.clone(), plan, outbox.used())),
            carrier,
        }
    }
}

impl<O: Outbox> Uplink<O> {
    /// Sets an uplink up; nothing is opened before [`Uplink::run`].
    #[must_use]
    pub fn new(
        mut settings: Settings,
        outbox: O,
        points: Arc<Points>,
        clock: Arc<dyn Clock>,
        events: Events,
    ) -> Self {
        let topics = Topics::new(&settings.broker, &settings.gateway);
        settings.broker.will = Some(Will {
            topic: topics.status.clone(),
            payload: Bytes::from_static(status::LOST),
            retain: true,
        });
        let subject = format!("uplink {}", settings.name);
        let link = watch::Sender::new(LinkState::default());
        let config_hash = Arc::clone(&settings.config_hash);
        let labels = settings.labels.clone();
        let identity = watch::Sender::new(Identity { config_hash, labels, rules: Vec::new() });
        Self {
            settings,
            outbox,
            points,
            clock,
            events,
            link,
            identity,
            topics,
            subject,
            carrier: None,
        }
    }

    /// Also does the errands of another room, over the same session.
    #[must_use]
    pub fn carrying(self, carrier: Carrier) -> Self {
        Self { carrier: Some(carrier), ..self }
    }

    /// Returns a watch on the link, for whoever shows it.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<LinkState> {
        self.link.subscribe()
    }

    /// Returns the way to change what it says of its gateway, heard within
    /// [`limits::STATUS_LOOK_TIME`].
    #[must_use]
    pub fn identity(&self) -> watch::Sender<Identity> {
        self.identity.clone()
    }

    /// Sends batches until `stop` is cancelled, then says goodbye and returns within
    /// [`limits::SHUTDOWN_TIME_MAX`]. A broker that cannot be reached is dialled for ever.
    pub async fn run(self, stop: CancellationToken) {
        self.run_on(&Network, stop).await;
    }

    pub(crate) async fn run_on(mut self, network: &impl Dial, stop: CancellationToken) {
        self.until_known(&stop).await;
        let carrier = self.carrier.take();
        let mut memory = Memory::new(&self.settings, &self.outbox, carrier);
        self.serve(network, &stop, &mut memory).await;
        if let Some(plan) = &mut memory.plan {
            plan.note(&self.outbox);
        }
    }

    /// Waits for a store that the disk did not let us open at the start: without its epoch there is
    /// nothing to say to a receiver, and what a data plan has used stands in it too.
    async fn until_known(&self, stop: &CancellationToken) {
        let mut sealed = self.outbox.sealed();
        let known = || match self.settings.data_plan {
            None => self.outbox.standing().epoch > 0,
            Some(_) => self.outbox.opened(),
        };
        while !known() && !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = sealed.changed() => {}
                // Whoever watches sees that this lives.
                () = sleep(limits::STATUS_LOOK_TIME) => {}
            }
        }
    }

    async fn serve(&self, network: &impl Dial, stop: &CancellationToken, memory: &mut Memory) {
        loop {
            self.look_at_plan(memory);
            memory.files = Files::of(&self.settings.broker);
            let dialled = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                dialled = network.dial(&self.settings.broker) => dialled,
            };
            match dialled {
                Err(error) => {
                    let Settings { broker, .. } = &self.settings;
                    say::tell_not_connected(&self.events, &self.subject, broker, &error);
                }
                Ok(session) => {
                    self.connected();
                    let talk = Talk::new(self, session, memory);
                    let end = talk.run(stop).await;
                    self.link.send_modify(|link| link.connected = false);
                    match end {
                        End::Stopped => return,
                        end => self.lost(&mut memory.machine, end),
                    }
                }
            }
            memory.backoff.limit(match memory.machine.is_unwanted() {
                true => limits::UNWANTED_BATCH_DELAY_MAX,
                false => limits::RECONNECT_DELAY_MAX,
            });
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(memory.backoff.pause()) => {}
            }
        }
    }

    fn look_at_plan(&self, memory: &mut Memory) {
        if let Some(plan) = &mut memory.plan {
            let to = (&self.events, &*self.subject);
            plan.look(Instant::now(), &*self.clock, &self.outbox, to);
        }
    }

    fn connected(&self) {
        self.link.send_modify(|link| {
            link.connected = true;
            link.connections += 1;
        });
        if self.link.borrow().connections == 1 {
            let Broker { host, port, .. } = &self.settings.broker;
            tracing::info!("{} is connected to {host}:{port}", self.subject);
        }
    }

    fn lost(&self, machine: &mut Machine, end: End) {
        let broker = &self.settings.broker;
        let in_flight = machine.in_flight();
        let closed = matches!(&end, End::Lost(error) if error.may_be_about_a_publish());
        let actions = machine.on(Instant::now(), Event::Lost { closed });
        match end {
            End::Stopped | End::NewStore => {}
            End::Renewed => {
                tracing::info!(
                    "{} connects with its renewed certificate or password",
                    self.subject
                );
            }
            End::Lost(error) => {
                self.events.raise(say::lost(&self.subject, broker, &error));
            }
            End::Unacknowledged(waited) => {
                let notice = say::not_acknowledged(&self.subject, broker, in_flight, waited);
                self.events.raise(notice);
            }
        }
        for action in actions {
            if let Action::Park(batch, why) = action {
                self.tell_parked(&batch, why);
            }
        }
    }

    fn tell_parked(&self, batch: &Flying, why: Reason) {
        let name = format!("{}/{}", batch.stream.name(), batch.seq);
        let size = batch.bytes;
        self.events.raise(match why {
            Reason::HungUp(times) => say::batch_unwanted(&self.subject, &name, size, times),
            Reason::TooLarge(most) => say::batch_too_large(&self.subject, &name, size, most),
            Reason::Refused => say::batch_refused(&self.subject, &name, size),
        });
    }
}
