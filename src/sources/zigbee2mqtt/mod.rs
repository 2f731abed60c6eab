//! Zigbee sensors through zigbee2mqtt and its broker.
//!
//! [`network`] knows what messages mean; here is only the session: dial, subscribe, hand messages
//! over, and dial again when the session ends, with pauses of up to
//! [`RECONNECT_DELAY_MAX`]. A broker that is away for a moment leaves no trace in the
//! readings; one that cannot be dialled marks every point as timed out once.

pub mod definition;
pub mod device;
pub mod last_seen;
pub mod network;
pub mod settings;
pub mod units;

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::network::{Network, Said};
use self::settings::Bridge;
use super::{Outlet, Running, Source};
use crate::backoff::Backoff;
use crate::events::broker;
use crate::limits::{RECONNECT_DELAY_MAX, RECONNECT_DELAY_MIN};
use crate::mqtt::{self, Broker, Incoming, Session, SessionError};

/// One bridge: the source.
pub struct Zigbee2Mqtt {
    name: String,
    broker: Broker,
    network: Network,
}

/// A retained list comes with the subscription; a broker on a slow board gets this long for it.
const LIST_WITHIN: Duration = Duration::from_secs(10);

impl Zigbee2Mqtt {
    /// Prepares a bridge; dials nothing.
    #[must_use]
    pub fn new(bridge: Bridge) -> Self {
        let (name, broker) = (bridge.name.clone(), bridge.broker.clone());
        Self { name, broker, network: Network::new(bridge) }
    }

    /// Dials, listens until the session ends, and again; never returns.
    async fn keep_listening(&mut self, outlet: &Outlet) {
        let mut backoff = Backoff::new(RECONNECT_DELAY_MIN, RECONNECT_DELAY_MAX);
        loop {
            match mqtt::connect(&self.broker, true).await {
                Ok(mut session) => {
                    let began = Instant::now();
                    let ended = self.listen(&mut session, outlet).await;
                    let notice = broker::lost(self.network.subject(), &self.broker, &ended);
                    outlet.events.raise(notice);
                    // A broker that ends every session soon (it refuses a subscription, another
                    // client has our identifier) is not dialled at full pace for ever.
                    if began.elapsed() > RECONNECT_DELAY_MAX {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    let subject = self.network.subject();
                    broker::tell_not_connected(&outlet.events, subject, &self.broker, &error);
                    self.network.away(outlet.clock.now(), &outlet.points);
                    // There is no session to subscribe with, and being away asks for none.
                    let _ = self.act(outlet).await;
                }
            }
            sleep(backoff.pause()).await;
        }
    }

    /// Listens until the session ends.
    async fn listen(&mut self, session: &mut Session, outlet: &Outlet) -> SessionError {
        let filters = self.network.begin();
        if let Err(error) = session.subscribe(&filters).await {
            return error;
        }
        let list_due = Instant::now() + LIST_WITHIN;
        let mut settled = false;
        loop {
            let incoming = tokio::select! {
                incoming = session.next() => incoming,
                () = sleep_until(list_due), if !settled => {
                    settled = true;
                    broker::works_again(&outlet.events, self.network.subject());
                    self.network.unlisted();
                    self.act(outlet).await;
                    continue;
                }
            };
            match incoming {
                Ok(Incoming::Received(message)) => {
                    let now = outlet.clock.now();
                    let (topic, payload) = (&message.topic, &message.payload);
                    self.network.on_message(topic, payload, message.retain, now, &outlet.points);
                }
                Ok(Incoming::Acknowledged(_) | Incoming::Refused(..)) => {}
                Err(error) => return error,
            }
            let filters = self.act(outlet).await;
            if let Err(error) = session.subscribe(&filters).await {
                return error;
            }
            if !settled && self.network.listed() {
                settled = true;
                broker::works_again(&outlet.events, self.network.subject());
            }
        }
    }

    /// Does what a message amounts to; returns the filters to subscribe to.
    async fn act(&mut self, outlet: &Outlet) -> Vec<String> {
        let mut filters = Vec::new();
        for said in self.network.said() {
            match said {
                Said::Group(group) => outlet.send(group).await,
                Said::Raise(notice) => {
                    outlet.events.raise(notice);
                }
                Said::Clear(code, subject, now) => {
                    outlet.events.clear(code, &subject, now);
                }
                Said::Subscribe(filter) => filters.push(filter),
            }
        }
        filters
    }
}

impl Source for Zigbee2Mqtt {
    fn name(&self) -> String {
        format!("source {}", self.name)
    }

    fn run<'a>(&'a mut self, outlet: Outlet, stop: CancellationToken) -> Running<'a> {
        Box::pin(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.keep_listening(&outlet) => {}
            }
        })
    }
}

#[cfg(test)]
mod tests;
