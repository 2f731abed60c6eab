//! What systemd is told (sd_notify(3)): that the gateway is ready, how it does, that it makes progress,
//! that it stops. Without `NOTIFY_SOCKET` nothing is opened and nothing said.
//!
//! A message is one datagram of `NAME=value` lines. The socket never blocks: a systemd that does not
//! read must not hold up the reactor, so what it has no room for is tried again.

use std::convert::Infallible;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::gateway::Pulse;

/// Between two lines of status when systemd asks for no watchdog.
const STATUS_LINE_TIME: Duration = Duration::from_secs(60);
/// Between two tries with a socket that is full.
const FULL_PAUSE: Duration = Duration::from_millis(500);

/// The way to systemd.
pub(super) struct Systemd {
    /// `None` when nobody listens.
    socket: Option<UnixDatagram>,
    /// Silence after which systemd takes the gateway for dead.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(super) fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self { socket: None, watchdog: None };
        };
        let socket = connect(&name);
        if let Err(error) = &socket {
            tracing::debug!("systemd's notification socket: {error}");
        }
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0);
        Self { socket: socket.ok(), watchdog: watchdog.map(Duration::from_micros) }
    }

    /// Says that the gateway runs, then feeds the watchdog at half of its patience with what `pulse`
    /// proves, and says how the gateway does when that has changed.
    pub(super) async fn report(&self, mut pulse: Pulse) -> Infallible {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let pause = self.watchdog.map_or(STATUS_LINE_TIME, |patience| patience / 2);
        let mut said = pulse.status();
        self.tell(&format!("READY=1\nSTATUS={said}")).await;
        let mut due = Instant::now() + pause;
        loop {
            sleep_until(due).await;
            // From the beginning: what the proof takes is not to delay the next one.
            due = Instant::now() + pause;
            pulse.proven().await;
            if self.watchdog.is_some() {
                self.tell("WATCHDOG=1").await;
            }
            let status = pulse.status();
            if status != said {
                self.tell(&format!("STATUS={status}")).await;
                said = status;
            }
        }
    }

    /// Says that the gateway stops.
    pub(super) async fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=committing and sending what is left").await;
    }

    async fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        let give_up = Instant::now() + STATUS_LINE_TIME;
        while let Err(error) = socket.send(message.as_bytes()) {
            let full = error.kind() == io::ErrorKind::WouldBlock;
            if !full || Instant::now() > give_up {
                tracing::debug!("systemd does not take {message:?}: {error}");
                return;
            }
            sleep(FULL_PAUSE).await;
        }
    }
}

/// Connects to a socket in the file system, or to one in the abstract space, written with an `@`.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Options};
    use crate::gateway::Gateway;

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 512];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec()))
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_store_stops_the_feeding_and_a_disk_that_refuses_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fieldgate.toml");
        let text = "[gateway]\nname = \"g\"\n[source.push]\nvia = \"coap listen 127.0.0.1:0\"\n\
                    [buffer]\npath = \"buffer.db\"\n";
        std::fs::write(&path, text).unwrap();
        let gateway = Gateway::start(config::load(&path, Options::default()).unwrap()).unwrap();
        let listener = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let socket = connect(folder.path().join("notify").as_os_str()).unwrap();
        let systemd = Systemd { socket: Some(socket), watchdog: Some(Duration::from_secs(60)) };
        let mut report = std::pin::pin!(systemd.report(gateway.pulse()));

        // The clock runs ahead while the store's thread, which it does not rule, is awaited.
        let hanger = gateway.store.hanger();
        let fed = |heard: Vec<String>| heard.iter().any(|line| line == "WATCHDOG=1");
        let until_fed = async {
            let mut lines = Vec::new();
            while !fed(lines.clone()) {
                sleep(Duration::from_secs(1)).await;
                lines.extend(heard(&listener));
            }
            lines
        };
        let lines =
            tokio::select! { lines = until_fed => lines, _ = &mut report => unreachable!() };
        assert!(lines[0].starts_with("READY=1\nSTATUS=0 batches wait"), "{lines:?}");

        gateway.store.refuse_commits(true);
        let until_fed = async {
            while !fed(heard(&listener)) {
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! { () = until_fed => {}, _ = &mut report => unreachable!() };
        gateway.store.refuse_commits(false);

        let held = hanger.lock().await;
        // One answer may have been on its way.
        let _ = tokio::time::timeout(Duration::from_secs(120), &mut report).await;
        heard(&listener);
        let _ = tokio::time::timeout(Duration::from_secs(3600), &mut report).await;
        let lines = heard(&listener);
        assert!(!fed(lines.clone()), "fed for a store that hangs: {lines:?}");
        let told = gateway.events.standing();
        assert!(told.iter().any(|c| c.notice.to_string().contains("the store")), "{told:?}");
        drop(held);
        let until_fed = async {
            while !fed(heard(&listener)) {
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! { () = until_fed => {}, _ = &mut report => unreachable!() };
        assert!(gateway.events.standing().is_empty(), "it goes on and is still called stuck");
        gateway.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_name_in_the_abstract_space_is_understood() {
        let name = format!("fieldgate-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let socket = connect(format!("@{name}").as_ref()).unwrap();
        Systemd { socket: Some(socket), watchdog: None }.stopping().await;
        listener.set_nonblocking(true).unwrap();
        assert!(heard(&listener)[0].starts_with("STOPPING=1\n"));
    }
}
