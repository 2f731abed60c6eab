//! Where readings come from. A source is one task that owns one bus, line, listener or broker
//! session; it lives as long as the gateway and treats every trouble on its wire as weather: a
//! reading without data, a notice, another try. Nothing here knows rules, store or uplink.

pub mod coap;
pub mod line;
pub mod modbus;
pub mod number;
pub mod serial;
pub mod zigbee2mqtt;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::events::Events;
use crate::reading::{Group, Points};

/// A future that a source runs as.
pub type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One bus, line, listener or session. Implementations: a Modbus bus, a serial line, a zigbee2mqtt
/// session, a CoAP listener, a CoAP client.
pub trait Source: Send + Any {
    /// Returns what people call it, as a notice's subject begins: `bus rs485-1`.
    fn name(&self) -> String;

    /// Returns the longest its task sleeps by itself, whatever its wire does; `None` for one that
    /// only listens, since nothing need ever come.
    fn pace(&self) -> Option<Duration> {
        None
    }

    /// Takes over from the one that ran in its place, which has ended: what it has learned of the
    /// devices that `stays` names is not to be learned anew, their schedules go on, and a connection
    /// that is the same stays open. Returns the subjects of notices that go on as well. By default
    /// nothing is taken over.
    fn take_over(&mut self, _before: Box<dyn Any>, _stays: &dyn Fn(&str) -> bool) -> Vec<String> {
        Vec::new()
    }

    /// Reads until `stop` is cancelled, then ends what it is about to read and returns, at best
    /// within a second. Never returns by itself: what cannot be reached is tried again. The gateway
    /// starts it again after a panic.
    fn run<'a>(&'a mut self, outlet: Outlet, stop: CancellationToken) -> Running<'a>;
}

/// What a source is given: the way out for its groups, and the world.
#[derive(Clone)]
pub struct Outlet {
    /// To the pipeline; the gateway holds the other end. Closed only after every source has ended.
    pub groups: mpsc::Sender<Group>,
    /// Where names become ids.
    pub points: Arc<Points>,
    /// Wall time, for `Group::at` only.
    pub clock: Arc<dyn Clock>,
    /// Where trouble is told.
    pub events: Events,
}

impl Outlet {
    /// Hands a group on, waiting while the pipeline is behind. For pollers: waiting makes them skip
    /// cycles, which loses nothing that was read.
    pub async fn send(&self, group: Group) {
        // An error means the gateway is stopping and nobody commits any more.
        let _ = self.groups.send(group).await;
    }
}
