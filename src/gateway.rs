//! The wiring board: the only place that makes channels and spawns tasks, and the order in which
//! everything starts and stops.
//!
//! Start: store, pipeline, uplink, sources; so nothing is read that could not be kept. Stop, the
//! other way round: sources end, the pipeline drains what they left, the store commits and seals,
//! the uplink sends what it can and says goodbye, the store closes. A source that panics is started
//! again. Store, pipeline and uplinks hold what cannot be begun anew within a running process: one of
//! them ending by itself ends the gateway, and systemd starts it again. What hangs shows in `pulse`.

mod pulse;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::clock::{Board, Clock, System};
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
use crate::store::{Health, Store, StoreThread};
use crate::uplink::Uplink;

pub use self::pulse::Pulse;
use self::pulse::{Beat, Watched};

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
    pipeline: JoinSet<()>,
    stop_uplinks: CancellationToken,
    uplinks: JoinSet<()>,
    watched: Vec<Watched>,
}

impl Gateway {
    /// Starts everything that `config` names.
    ///
    /// # Errors
    /// When the store cannot be opened at all, or a source's settings cannot be honoured.
    pub fn start(config: Config) -> Result<Self, Fatal> {
        let events = Events::default();
        let points = Arc::new(Points::default());
        let clock: Arc<dyn Clock> = Arc::new(Board::new(config.gateway.clock));
        let names = config.uplinks.iter().map(|uplink| uplink.name.as_str().into()).collect();
        let (store, thread) = Store::open_for(
            names,
            config.store,
            Arc::clone(&points),
            Arc::clone(&clock),
            events.clone(),
        )
        .map_err(|e| Fatal::new(e.exit(), e.to_string()))?;

        let (groups, inbox) = mpsc::channel(limits::GROUPS_QUEUED_MAX);
        let filter = Filter::new(&config.deadbands, Arc::clone(&points));
        let mut pipeline = JoinSet::new();
        pipeline.spawn(pipeline::run(inbox, filter, store.clone()));

        let stop_uplinks = CancellationToken::new();
        let mut uplinks = JoinSet::new();
        let mut watched = Vec::new();
        for (settings, place) in config.uplinks.into_iter().zip(0..) {
            let (name, beat) = (format!("uplink {}", settings.name), Arc::<Beat>::default());
            watched.push(Watched::new(name, Arc::clone(&beat), Some(Duration::ZERO)));
            let (points, clock) = (Arc::clone(&points), Arc::clone(&clock));
            let uplink = Uplink::new(settings, store.share(place), points, clock, events.clone());
            uplinks.spawn(beat.around(uplink.run(stop_uplinks.clone())));
        }

        let outlet = Outlet { groups, points, clock, events: events.clone() };
        let stop_sources = CancellationToken::new();
        let sources = start_watched(config.sources, &outlet, &stop_sources, &mut watched)?;
        Ok(Self {
            store,
            events,
            thread,
            stop_sources,
            sources,
            pipeline,
            stop_uplinks,
            uplinks,
            watched,
        })
    }

    /// Hands out the proof of progress, once, to whoever feeds a watchdog with it.
    pub fn pulse(&mut self) -> Pulse {
        let watched = std::mem::take(&mut self.watched);
        Pulse::new(self.store.clone(), self.events.clone(), watched)
    }

    /// Waits until a part that never ends by itself has ended, and says which: the store's thread,
    /// the pipeline or an uplink that panicked. The gateway must not go on without it; whoever
    /// waits here starts the process anew.
    pub async fn broken(&mut self) -> Fatal {
        // It changes with every seal, and for the last time when the thread ends.
        let mut store = self.store.sealed();
        let part = loop {
            if self.store.status().health == Health::Ended {
                break "the store";
            }
            tokio::select! {
                Ok(()) = store.changed() => {}
                Some(_) = self.pipeline.join_next() => break "the pipeline",
                Some(_) = self.uplinks.join_next() => break "an uplink",
                else => break "the store",
            }
        };
        let notice = events::gateway::part_ended(part);
        let text = notice.to_string();
        self.events.raise(notice);
        Fatal::new(Exit::Broken, text)
    }

    /// Stops in order, within [`limits::SHUTDOWN_TIME_MAX`].
    ///
    /// # Errors
    /// When the store could not commit what was read last.
    pub async fn stop(mut self) -> Result<(), Fatal> {
        self.stop_sources.cancel();
        end(&mut self.sources, limits::STOP_SOURCES_TIME_MAX).await;
        let committed = timeout(limits::STOP_COMMIT_TIME_MAX, async {
            while self.pipeline.join_next().await.is_some() {}
            self.store.flush(true).await
        });
        let committed = committed.await;
        if !self.uplinks.is_empty() {
            self.drain(limits::STOP_DRAIN_TIME_MAX).await;
        }
        self.stop_uplinks.cancel();
        let goodbye = limits::UPLINK_GOODBYE_TIME_MAX + limits::MQTT_GOODBYE_TIME_MAX;
        end(&mut self.uplinks, goodbye).await;
        let lost = self.thread.close();
        if lost == 0 {
            // Closing is a last try, with all the time the disk takes.
            return Ok(());
        }
        let why = match committed {
            Ok(Ok(())) => "the disk refused at the very end".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the disk takes too long".to_owned(),
        };
        Err(Fatal::new(Exit::Broken, events::gateway::not_committed(lost, &why).to_string()))
    }

    /// Waits until every batch is acknowledged, or for `patience`.
    async fn drain(&self, patience: Duration) {
        let held =
            || Stream::ALL.iter().map(|s| self.store.status().stream(*s).batches).sum::<u64>();
        let emptied = async {
            while held() > 0 {
                sleep(limits::DRAIN_LOOK_TIME).await;
                // Acknowledgements free their batches with a commit, which may be a minute away. One
                // that fails has been told; the next look tries again.
                let _ = self.store.flush(false).await;
            }
        };
        if timeout(patience, emptied).await.is_err() {
            self.events.raise(events::gateway::slow_stop(patience.as_secs(), held()));
        }
    }
}

/// Waits until all tasks have ended; those that do not within `patience` are dropped where they
/// stand, with whatever they hold.
async fn end(tasks: &mut JoinSet<()>, patience: Duration) {
    let ended = async { while tasks.join_next().await.is_some() {} };
    if timeout(patience, ended).await.is_err() {
        tasks.shutdown().await;
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
    start_watched(settings, outlet, stop, &mut Vec::new())
}

fn start_watched(
    settings: Vec<SourceSettings>,
    outlet: &Outlet,
    stop: &CancellationToken,
    watched: &mut Vec<Watched>,
) -> Result<JoinSet<()>, Fatal> {
    let mut tasks = JoinSet::new();
    for settings in settings {
        let source =
            build(settings, &outlet.points).map_err(|why| Fatal::new(Exit::Misconfigured, why))?;
        tracing::info!("reads {}", source.name());
        let beat = Arc::<Beat>::default();
        watched.push(Watched::new(source.name(), Arc::clone(&beat), source.pace()));
        tasks.spawn(beat.around(keep_running(source, outlet.clone(), stop.clone())));
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

/// Runs a source, and runs it again when it panics. A source that has run for longer than the longest
/// pause is taken for healthy: its next fall is a first one.
async fn keep_running(mut source: Box<dyn Source>, outlet: Outlet, stop: CancellationToken) {
    let mut backoff = Backoff::new(RESTART_DELAY_MIN, limits::RECONNECT_DELAY_MAX);
    while !stop.is_cancelled() {
        let began = Instant::now();
        let run = source.run(outlet.clone(), stop.clone());
        if let Err(panic) = AssertUnwindSafe(run).catch_unwind().await {
            let why = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason was given");
            outlet.events.raise(events::gateway::source_failed(&source.name(), why));
        }
        if began.elapsed() > limits::RECONNECT_DELAY_MAX {
            backoff.reset();
        }
        // Either way the loop looks again.
        let _ = timeout(backoff.pause(), stop.cancelled()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Sample, UnixMillis, Value};
    use crate::sources::Running;

    /// Panics in its first run, sends a group in each later one.
    struct Fragile {
        runs: i64,
    }

    impl Source for Fragile {
        fn name(&self) -> String {
            "source fragile".to_owned()
        }

        fn run<'a>(&'a mut self, outlet: Outlet, stop: CancellationToken) -> Running<'a> {
            Box::pin(async move {
                self.runs += 1;
                assert!(self.runs > 1, "an input nobody foresaw");
                outlet.send(group(self.runs)).await;
                stop.cancelled().await;
            })
        }
    }

    /// Sends a group every minute.
    struct Steady;

    impl Source for Steady {
        fn name(&self) -> String {
            "source steady".to_owned()
        }

        fn run<'a>(&'a mut self, outlet: Outlet, stop: CancellationToken) -> Running<'a> {
            Box::pin(async move {
                while !stop.is_cancelled() {
                    outlet.send(group(100)).await;
                    let _ = timeout(Duration::from_secs(60), stop.cancelled()).await;
                }
            })
        }
    }

    fn group(number: i64) -> Group {
        Group {
            stream: Stream::Data,
            at: UnixMillis(number),
            points: Arc::new([]),
            samples: vec![Sample::good(Value::from_i64(number))],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_panics_is_started_again_and_the_others_go_on() {
        let (outlet, mut inbox) = open_outlet();
        let stop = CancellationToken::new();
        let fragile = keep_running(Box::new(Fragile { runs: 0 }), outlet.clone(), stop.clone());
        let steady = keep_running(Box::new(Steady), outlet.clone(), stop.clone());
        let look = async {
            let mut seen = Vec::new();
            while seen.len() < 3 {
                seen.push(inbox.recv().await.unwrap().at.0);
            }
            stop.cancel();
            seen
        };
        let (_, _, seen) = tokio::join!(fragile, steady, look);
        assert_eq!(seen, [100, 2, 100], "the second run did not come, or came too late");
        let standing = outlet.events.standing();
        assert_eq!(standing.len(), 1);
        let text = standing[0].notice.to_string();
        assert!(text.contains("source fragile") && text.contains("nobody foresaw"), "{text}");
    }

    #[tokio::test]
    async fn a_part_that_ends_unasked_ends_the_gateway_with_70() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fieldgate.toml");
        let text = "[gateway]\nname = \"g\"\n[source.push]\nvia = \"coap listen 127.0.0.1:0\"\n\
                    [buffer]\npath = \"buffer.db\"\n";
        std::fs::write(&path, text).unwrap();
        let config = crate::config::load(&path, crate::config::Options::default()).unwrap();
        let mut gateway = Gateway::start(config).unwrap();
        assert!(timeout(Duration::from_millis(200), gateway.broken()).await.is_err());
        gateway.thread.kill();
        let fatal = gateway.broken().await;
        assert_eq!(fatal.exit, Exit::Broken);
        assert!(fatal.message.contains("the store ended by itself"), "{fatal}");
        gateway.stop().await.unwrap();
    }
}
