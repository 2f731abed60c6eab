//! The sources that run: each a task with a stop of its own, begun anew after a panic, and handed back
//! when it was stopped, so that its successor can take over what it has learned.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::pulse::{Beat, Roster};
use crate::backoff::Backoff;
use crate::clock::System;
use crate::config::SourceSettings;
use crate::error::{Exit, Fatal};
use crate::events::{self, Events};
use crate::limits;
use crate::reading::{Group, Points};
use crate::sources::coap::{CoapClient, CoapListener};
use crate::sources::modbus::ModbusBus;
use crate::sources::serial::SerialDevice;
use crate::sources::zigbee2mqtt::Zigbee2Mqtt;
use crate::sources::{Outlet, Source};

/// First pause before a failed source is started again; doubled up to
/// [`limits::RECONNECT_DELAY_MAX`].
const RESTART_DELAY_MIN: Duration = Duration::from_secs(1);

/// The sources that run, by the names people call them.
#[derive(Default)]
pub struct Sources {
    tasks: JoinSet<Ended>,
    running: BTreeMap<Arc<str>, Running>,
    roster: Roster,
    /// Cancelled when they may begin to read.
    begun: CancellationToken,
}

/// How to end one.
struct Running {
    stop: CancellationToken,
    task: AbortHandle,
}

/// A source that was told to stop.
struct Ended {
    name: Arc<str>,
    source: Box<dyn Source>,
}

impl Sources {
    /// Starts all that a configuration names; they begin to read when `begun` is cancelled.
    ///
    /// # Errors
    /// When a source's settings cannot be honoured.
    pub(super) fn started(
        settings: Vec<SourceSettings>,
        outlet: &Outlet,
        roster: Roster,
        begun: CancellationToken,
    ) -> Result<Self, Fatal> {
        let mut sources = Self { roster, begun, ..Self::default() };
        for settings in settings {
            sources.start(build(settings, &outlet.points)?, outlet);
        }
        Ok(sources)
    }

    /// Starts a source; its name must not be in use.
    pub(super) fn start(&mut self, mut source: Box<dyn Source>, outlet: &Outlet) {
        let name: Arc<str> = source.name().into();
        tracing::info!("reads {name}");
        let outlet = Outlet { events: outlet.events.of(&name), ..outlet.clone() };
        let (beat, stop) = (Arc::<Beat>::default(), CancellationToken::new());
        self.roster.add(&name, Arc::clone(&beat), source.pace());
        let (known, stopped) = (Arc::clone(&name), stop.clone());
        let begun = self.begun.clone();
        let task = self.tasks.spawn(async move {
            begun.run_until_cancelled(stopped.cancelled()).await;
            beat.around(keep_running(&mut *source, outlet, stopped)).await;
            Ended { name: known, source }
        });
        self.running.insert(name, Running { stop, task });
    }

    /// Returns whether one of this name runs.
    pub(super) fn has(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    /// Stops the sources of these names and hands them back. One that does not end within
    /// `patience` is dropped where it stands, with whatever it holds.
    pub(super) async fn stop<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a str>,
        patience: Duration,
    ) -> BTreeMap<Arc<str>, Box<dyn Source>> {
        let mut awaited = BTreeMap::new();
        for name in names {
            // First, so that its silence is no sign of trouble.
            self.roster.remove(name);
            if let Some((name, running)) = self.running.remove_entry(name) {
                running.stop.cancel();
                awaited.insert(name, running.task);
            }
        }
        let mut ended = BTreeMap::new();
        let all = async {
            while !awaited.is_empty() {
                match self.tasks.join_next().await {
                    Some(Ok(Ended { name, source })) => {
                        awaited.remove(&name);
                        ended.insert(name, source);
                    }
                    Some(Err(_)) => {}
                    None => break,
                }
            }
        };
        if timeout(patience, all).await.is_err() {
            awaited.values().for_each(AbortHandle::abort);
        }
        ended
    }

    /// Stops all of them.
    pub(super) async fn stop_all(&mut self, patience: Duration) {
        let names: Vec<Arc<str>> = self.running.keys().cloned().collect();
        self.stop(names.iter().map(|name| &**name), patience).await;
        self.tasks.shutdown().await;
    }

    /// Stops all of them, however long they take.
    pub async fn end(&mut self) {
        self.stop_all(limits::SHUTDOWN_TIME_MAX).await;
    }
}

/// Starts the sources of a configuration, for commands that read without a store.
///
/// # Errors
/// When a source's settings cannot be honoured.
pub fn start_sources(settings: Vec<SourceSettings>, outlet: &Outlet) -> Result<Sources, Fatal> {
    let begun = CancellationToken::new();
    begun.cancel();
    Sources::started(settings, outlet, Roster::default(), begun)
}

/// Makes a source, which opens nothing yet.
///
/// # Errors
/// When its settings cannot be honoured.
pub(super) fn build(settings: SourceSettings, points: &Points) -> Result<Box<dyn Source>, Fatal> {
    let built = || -> Result<Box<dyn Source>, String> {
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
    };
    built().map_err(|why| Fatal::new(Exit::Misconfigured, why))
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
async fn keep_running(source: &mut dyn Source, outlet: Outlet, stop: CancellationToken) {
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
    use crate::reading::{Sample, Stream, UnixMillis, Value};
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
        let (mut fragile, mut steady) = (Fragile { runs: 0 }, Steady);
        let fragile = keep_running(&mut fragile, outlet.clone(), stop.clone());
        let steady = keep_running(&mut steady, outlet.clone(), stop.clone());
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
}
