//! Opens the port or the connection of a bus and opens it again when it is gone: at once the first
//! time, then with growing, jittered pauses. It is tried when a poll is due, because only then does
//! anybody miss it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::frame::Framing;
use super::guard::{Guard, Wire};
use super::settings;
use super::timer::Timer;
use crate::backoff::Backoff;
use crate::limits;

/// A wire in the making.
pub(super) type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Wire>>> + Send>>;

/// Makes wires: the configured link, or a script in a test.
pub(super) trait Dial: Send + Sync {
    /// Begins to open the port or the connection.
    fn dial(&self) -> Dialing;

    /// Returns a guard for its wires.
    fn guard(&self) -> Guard;
}

impl Dial for settings::Link {
    fn dial(&self) -> Dialing {
        match self.clone() {
            Self::Rtu(line) => {
                Box::pin(async move { line.open().map(|port| Box::new(port) as Box<dyn Wire>) })
            }
            Self::Tcp { host, port } | Self::RtuOverTcp { host, port } => Box::pin(async move {
                let connecting = TcpStream::connect((host.as_str(), port));
                let stream = timeout(limits::MODBUS_CONNECT_TIME_MAX, connecting)
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn Wire>)
            }),
        }
    }

    fn guard(&self) -> Guard {
        match self {
            Self::Rtu(line) => Guard::serial(line.line, Timer::fine()),
            Self::Tcp { .. } => Guard::network(Framing::Mbap),
            Self::RtuOverTcp { .. } => Guard::network(Framing::Rtu),
        }
    }
}

/// The way to a bus.
pub(super) struct Link {
    dial: Arc<dyn Dial>,
    state: State,
    /// Whether the next loss is followed by an attempt at once: at first, and after an answer.
    eager: bool,
    backoff: Backoff,
}

enum State {
    Down { until: Instant },
    Dialing { shared_until: Instant, dialing: Dialing },
    Up,
}

/// How an attempt to have a link went.
#[derive(Debug)]
pub(super) enum Readiness {
    /// It is there.
    Up,
    /// It is there again, just now.
    Opened,
    /// It is not there, and was not tried or is still being tried.
    Down,
    /// It was tried just now and failed.
    Failed(io::Error),
}

impl Link {
    pub(super) fn new(dial: Arc<dyn Dial>) -> Self {
        let backoff =
            Backoff::new(limits::MODBUS_REOPEN_DELAY_MIN, limits::MODBUS_REOPEN_DELAY_MAX);
        Self { dial, state: State::Down { until: Instant::now() }, eager: true, backoff }
    }

    /// Opens what is to be opened now, into `guard`. Takes at most
    /// [`limits::MODBUS_CONNECT_POLL_MAX`]; an attempt that takes longer goes on in the background.
    pub(super) async fn ready(&mut self, guard: &mut Guard) -> Readiness {
        let now = Instant::now();
        match &self.state {
            State::Up if guard.is_attached() => return Readiness::Up,
            State::Up => self.lost(now),
            State::Down { .. } | State::Dialing { .. } => {}
        }
        if let State::Down { until } = self.state {
            if now < until {
                return Readiness::Down;
            }
            let shared_until = now + limits::MODBUS_CONNECT_POLL_MAX;
            self.state = State::Dialing { shared_until, dialing: self.dial.dial() };
        }
        let State::Dialing { shared_until, dialing } = &mut self.state else {
            return Readiness::Down;
        };
        match timeout_at(*shared_until, dialing).await {
            Err(_) => Readiness::Down,
            Ok(Ok(wire)) => {
                guard.attach(wire);
                self.state = State::Up;
                Readiness::Opened
            }
            Ok(Err(error)) => {
                // A refused attempt was itself the immediate one.
                self.eager = false;
                self.lost(Instant::now());
                Readiness::Failed(error)
            }
        }
    }

    /// Notes that an answer came, so that the next loss is followed by an attempt at once.
    pub(super) fn proved(&mut self) {
        self.eager = true;
        self.backoff.reset();
    }

    fn lost(&mut self, now: Instant) {
        let until = if std::mem::take(&mut self.eager) { now } else { now + self.backoff.pause() };
        self.state = State::Down { until };
    }
}
