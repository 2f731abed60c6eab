//! The wiring board: the only place that makes channels and spawns tasks, and the order in which
//! everything starts and stops.
//!
//! Start: store, pipeline, uplink, sources; so nothing is read that could not be kept. Stop, the
//! other way round: sources end, the pipeline drains what they left, the store commits and seals,
//! the uplink sends what it can and says goodbye, the store closes. A source that panics is started
//! again; the store's thread ending is the one thing that ends the gateway.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, System};
use crate::config::{Config, SourceSettings};
use crate::error::{Exit, Fatal};
use crate::events::{self, Events};
use crate::limits;
use crate::pipeline::{self, Filter};
use crate::reading::{Group, Points, Stream};
use crate::sources::coap::{CoapClient, CoapListener};
use crate::sources::modbus::ModbusBus;
use crate::sources::serial::SerialDevice;
use crate::sources::zigbee2mqtt::Zigbee2Mqtt;
use crate::sources::{Outlet, Source};
use crate::store::{Store, StoreThread};
use crate::uplink::Uplink;

/// First pause before a failed source is started again; doubled up to
/// [`limits::RECONNECT_DELAY_MAX`].
const RESTART_DELAY_MIN: Duration = Duration::from_secs(1);

/// A running gateway.
pub struct Gateway {
    /// The store, for those who look at it from outside.
    pub store: Store,
    /// What is wrong now.
    pub events: Events,
    thread: StoreThread,
    /// Ends the sources.
    stop_sources: CancellationToken,
    sources: JoinSet<()>,
    /// Ends by itself when the last outlet is gone.
    pipeline: JoinHandle<()>,
    stop_uplinks: CancellationToken,
    uplinks: JoinSet<()>,
}

impl Gateway {
    /// Starts everything that `config` names.
    ///
    /// # Errors
    /// When the store cannot be opened at all, or a source's settings cannot be honoured.
    pub fn start(config: Config) -> Result<Self, Fatal> {
        let events = Events::default();
        let points = Arc::new(Points::default());
        let clock: Arc<dyn Clock> = Arc::new(System);
        let (store, thread) =
            Store::open(config.store, Arc::clone(&points), Arc::clone(&clock), events.clone())
                .map_err(|e| Fatal::new(e.exit(), e.to_string()))?;

        let (groups, inbox) = mpsc::channel(limits::GROUPS_QUEUED_MAX);
        let filter = Filter::new(&config.deadbands, Arc::clone(&points));
        #[expect(clippy::disallowed_methods, reason = "this is the one home of spawn")]
        let pipeline = tokio::spawn(pipeline::run(inbox, filter, store.clone()));

        let stop_uplinks = CancellationToken::new();
        let mut uplinks = JoinSet::new();
        for settings in config.uplinks {
            let (points, clock) = (Arc::clone(&points), Arc::clone(&clock));
            let uplink = Uplink::new(settings, store.clone(), points, clock, events.clone());
            uplinks.spawn(uplink.run(stop_uplinks.clone()));
        }

        let outlet = Outlet { groups, points, clock, events: events.clone() };
        let stop_sources = CancellationToken::new();
        let sources = start_sources(config.sources, &outlet, &stop_sources)?;
        Ok(Self { store, events, thread, stop_sources, sources, pipeline, stop_uplinks, uplinks })
    }

    /// Stops in order, within [`limits::SHUTDOWN_TIME_MAX`].
    ///
    /// # Errors
    /// When the store could not commit what was read last.
    pub async fn stop(mut self) -> Result<(), Fatal> {
        self.stop_sources.cancel();
        let budget = limits::SHUTDOWN_TIME_MAX;
        if timeout(budget / 4, async { while self.sources.join_next().await.is_some() {} })
            .await
            .is_err()
        {
            // A source that does not end in time is dropped with the outlet it holds.
            self.sources.shutdown().await;
        }
        let _ = timeout(budget / 4, &mut self.pipeline).await;
        let sealed = timeout(budget / 4, self.store.flush(true)).await;
        self.drain(budget / 4).await;
        self.stop_uplinks.cancel();
        if timeout(budget / 4, async { while self.uplinks.join_next().await.is_some() {} })
            .await
            .is_err()
        {
            self.uplinks.shutdown().await;
        }
        self.thread.close();
        match sealed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(Fatal::new(Exit::Broken, e.to_string())),
            Err(_) => Err(Fatal::new(Exit::Broken, "the store did not commit in time")),
        }
    }

    /// Waits until every batch is acknowledged, or for `patience`.
    async fn drain(&self, patience: Duration) {
        let held =
            || Stream::ALL.iter().map(|s| self.store.status().stream(*s).batches).sum::<u64>();
        let emptied = async {
            while held() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(patience, emptied).await.is_err() {
            self.events.raise(events::gateway::slow_stop(patience.as_secs(), held()));
        }
    }
}

/// Starts the sources of a configuration; each ends when `stop` is cancelled.
///
/// # Errors
/// When a source's settings cannot be honoured.
pub fn start_sources(
    settings: Vec<SourceSettings>,
    outlet: &Outlet,
    stop: &CancellationToken,
) -> Result<JoinSet<()>, Fatal> {
    let mut tasks = JoinSet::new();
    for settings in settings {
        let source =
            build(settings, &outlet.points).map_err(|why| Fatal::new(Exit::Misconfigured, why))?;
        tracing::info!("reads {}", source.name());
        tasks.spawn(keep_running(source, outlet.clone(), stop.clone()));
    }
    Ok(tasks)
}

fn build(settings: SourceSettings, points: &Points) -> Result<Box<dyn Source>, String> {
    let crowded = |_| format!("more than {} points are configured", limits::POINTS_MAX);
    Ok(match settings {
        SourceSettings::Modbus(bus) => Box::new(ModbusBus::new(bus, points).map_err(crowded)?),
        SourceSettings::Serial(device) => {
            Box::new(SerialDevice::new(device, points).map_err(crowded)?)
        }
        SourceSettings::Zigbee(bridge) => Box::new(Zigbee2Mqtt::new(bridge)),
        SourceSettings::CoapListener(listener) => Box::new(CoapListener::new(listener)),
        SourceSettings::CoapClient(client) => Box::new(CoapClient::new(client)?),
    })
}

/// Makes an outlet that ends in a receiver, for commands that read without a store.
#[must_use]
pub fn open_outlet() -> (Outlet, mpsc::Receiver<Group>) {
    let (groups, inbox) = mpsc::channel(limits::GROUPS_QUEUED_MAX);
    let outlet = Outlet {
        groups,
        points: Arc::new(Points::default()),
        clock: Arc::new(System),
        events: Events::default(),
    };
    (outlet, inbox)
}

/// Runs a source, and runs it again when it panics.
async fn keep_running(mut source: Box<dyn Source>, outlet: Outlet, stop: CancellationToken) {
    let mut delay = RESTART_DELAY_MIN;
    while !stop.is_cancelled() {
        let run = source.run(outlet.clone(), stop.clone());
        if let Err(panic) = AssertUnwindSafe(run).catch_unwind().await {
            let why = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason was given");
            outlet.events.raise(events::gateway::source_failed(&source.name(), why));
        }
        let _ = timeout(delay, stop.cancelled()).await;
        delay = (delay * 2).min(limits::RECONNECT_DELAY_MAX);
    }
}
