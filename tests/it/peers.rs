//! Starts and ends the programs of others that the tests talk to: each on a free port, each ended by
//! its own process id when its handle is dropped.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running peer, killed when dropped.
pub struct Peer(Child);

impl Peer {
    /// Starts `command`, or fails with a sentence that names what to install.
    pub fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        match command.stdin(Stdio::null()).spawn() {
            Ok(child) => Self(child),
            Err(e) => panic!("peer {name} cannot be started ({e}); tests/run installs it"),
        }
    }

    /// Ends the peer at once, as a power cut would.
    pub fn kill(mut self) {
        self.end();
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns a TCP port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Returns a UDP port that was free a moment ago.
pub fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until something listens on `port`, at most 20 s.
pub fn await_port(port: u16) {
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "nothing listens on port {port} after 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A mosquitto of the test's own.
pub struct Mosquitto {
    /// Where it listens.
    pub port: u16,
    peer: Option<Peer>,
    config: PathBuf,
}

impl Mosquitto {
    /// Starts a broker in `folder` with anonymous access and `extra` configuration lines.
    pub fn start(folder: &Path, extra: &str) -> Self {
        let port = free_port();
        let config = folder.join(format!("mosquitto-{port}.conf"));
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n{extra}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut broker = Self { port, peer: None, config };
        broker.resume();
        broker
    }

    /// Starts it again on the same port after [`Mosquitto::stop`].
    pub fn resume(&mut self) {
        let program = ["/usr/sbin/mosquitto", "mosquitto"]
            .into_iter()
            .find(|p| Path::new(p).exists())
            .unwrap_or("mosquitto");
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.config).stdout(Stdio::null()).stderr(Stdio::null());
        self.peer = Some(Peer::start(&mut command));
        await_port(self.port);
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.peer = None;
    }
}

/// A Python with the peers' packages: `FIELDGATE_PYTHON`, set by `tests/run`, or `python3`.
pub fn python() -> Command {
    Command::new(std::env::var("FIELDGATE_PYTHON").unwrap_or_else(|_| "python3".into()))
}
