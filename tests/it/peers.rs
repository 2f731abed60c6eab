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

    /// Returns whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits until it has ended by itself.
    pub fn ended(mut self) {
        let _ = self.0.wait();
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
    any_port(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// Returns a UDP port that was free a moment ago.
pub fn free_udp_port() -> u16 {
    any_port(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok())
}

/// Draws ports until one is free. They are below those that the kernel gives to whoever connects
/// (32,768 on): one of these may be somebody's own end of a connection before the peer has it.
fn any_port(is_free: impl Fn(u16) -> bool) -> u16 {
    use std::hash::{BuildHasher as _, RandomState};
    let drawn = |_| 10_000 + u16::try_from(RandomState::new().hash_one(0) % 22_000).unwrap();
    (0..1000).map(drawn).find(|port| is_free(*port)).expect("no port is free")
}

/// Waits until something listens on `port`, at most a minute.
pub fn await_port(port: u16) {
    let end = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "nothing listens on port {port} after a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends what a device would over CoAP, without asking for an answer; a SenML pack when it is one.
#[allow(dead_code, reason = "a benchmark uses one part of this file, the tests another")]
pub fn coap_post(port: u16, number: u16, path: &[&str], payload: &str) {
    let mut packet = coap_lite::Packet::new();
    packet.header.code = coap_lite::MessageClass::Request(coap_lite::RequestType::Post);
    packet.header.set_type(coap_lite::MessageType::NonConfirmable);
    packet.header.message_id = number;
    for part in path {
        packet.add_option(coap_lite::CoapOption::UriPath, part.as_bytes().to_vec());
    }
    if payload.starts_with('[') {
        // application/senml+json, RFC 8428 section 12.2.
        packet.add_option(coap_lite::CoapOption::ContentFormat, vec![110]);
    }
    packet.payload = payload.as_bytes().to_vec();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&packet.to_bytes().unwrap(), ("127.0.0.1", port)).unwrap();
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

    /// Ends it in order: with `persistence true` it writes down what it has.
    #[allow(dead_code, reason = "a benchmark uses one part of this file, the tests another")]
    pub fn end(&mut self) {
        let Some(peer) = self.peer.take() else { return };
        let told = Command::new("kill").args(["-TERM", &peer.id().to_string()]).status().unwrap();
        assert!(told.success());
        peer.ended();
    }
}

/// A Python with the peers' packages: `FIELDGATE_PYTHON`, set by `tests/run`, or `python3`.
pub fn python() -> Command {
    Command::new(std::env::var("FIELDGATE_PYTHON").unwrap_or_else(|_| "python3".into()))
}

/// A PostgreSQL of the test's own, in a folder of its own, reached by TCP.
#[cfg(feature = "receive")]
#[allow(dead_code, reason = "a benchmark uses one part of it, the tests another")]
pub struct Postgres {
    /// Where it listens.
    pub port: u16,
    folder: tempfile::TempDir,
    peer: Option<Peer>,
    /// Settings of its own, as `name=value`.
    settings: Vec<String>,
}

#[cfg(feature = "receive")]
#[allow(dead_code, reason = "a benchmark uses one part of it, the tests another")]
impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Postgres::start`], with extensions: the files that make them up, by their names. The
    /// machine's own PostgreSQL stays as it is; this one runs from a copy, which finds what belongs to
    /// it from where it lies.
    pub fn start_with(extensions: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if let Some((uid, gid)) = Self::user() {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        if !extensions.is_empty() {
            Self::copy_to(folder.path(), extensions);
        }
        let mut database = Self { port: free_port(), folder, peer: None, settings: Vec::new() };
        let made = database
            .command("initdb")
            .args(["--auth=trust", "--username=fieldgate", "--encoding=UTF8", "--locale=C"])
            .args(["--no-sync", "-D"])
            .arg(database.folder.path().join("db"))
            .output()
            .unwrap_or_else(|e| panic!("initdb cannot be started ({e}); tests/run installs it"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        database.resume();
        database
    }

    fn copy_to(folder: &Path, extensions: &[(&str, &str)]) {
        let version = Self::versions().pop().expect("no PostgreSQL; tests/run installs it");
        let number = version.file_name().unwrap();
        let (library, shared) = (folder.join("lib/postgresql"), folder.join("share/postgresql"));
        let bin = library.join(number).join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&shared).unwrap();
        for program in ["postgres", "initdb"] {
            std::fs::copy(version.join("bin").join(program), bin.join(program)).unwrap();
        }
        std::os::unix::fs::symlink(version.join("lib"), library.join(number).join("lib")).unwrap();
        let from = Path::new("/usr/share/postgresql").join(number);
        let copied = Command::new("cp").arg("-r").args([&from, &shared]).status().unwrap();
        assert!(copied.success(), "{} cannot be copied", from.display());
        for (name, text) in extensions {
            std::fs::write(shared.join(number).join("extension").join(name), text).unwrap();
        }
    }

    /// Starts it again on the same port; what a crash left behind is recovered first.
    pub fn resume(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let mut command = self.command("postgres");
            command.arg("-D").arg(self.folder.path().join("db"));
            command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
            command.arg("-c").arg(format!("port={}", self.port));
            command
                .arg("-c")
                .arg(format!("unix_socket_directories={}", self.folder.path().display()));
            for setting in &self.settings {
                command.args(["-c", setting]);
            }
            let mut peer = Peer::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
            while Instant::now() < end {
                if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                    self.peer = Some(peer);
                    return;
                }
                // Children of a killed one may still hold its shared memory: try again.
                if peer.0.try_wait().unwrap().is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(Instant::now() < end, "PostgreSQL does not start");
        }
    }

    /// Starts it again with a certificate chain and its key, PEM; nobody gets in without TLS.
    pub fn with_tls(&mut self, chain: &str, key: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        self.stop();
        let file = |name: &str, text: &str| {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((uid, gid)) = Self::user() {
                std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
            }
            path.display().to_string()
        };
        let (chain, key) = (file("server.pem", chain), file("server.key", key));
        file("db/pg_hba.conf", "hostssl all all 127.0.0.1/32 trust\n");
        let settings =
            ["ssl=on", &format!("ssl_cert_file={chain}"), &format!("ssl_key_file={key}")];
        self.settings = settings.map(str::to_owned).to_vec();
        self.resume();
    }

    /// Kills it, as a power cut would.
    pub fn stop(&mut self) {
        self.peer = None;
    }

    /// Returns the process id of the server's first process, the parent of all others.
    pub fn id(&self) -> u32 {
        self.peer.as_ref().map_or(0, Peer::id)
    }

    /// Returns the URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://fieldgate@127.0.0.1:{}/{database}", self.port)
    }

    /// Connects, waiting for it to have started.
    pub async fn connect(&self, database: &str) -> tokio_postgres::Client {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match tokio_postgres::connect(&self.url(database), tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(e) => assert!(Instant::now() < end, "PostgreSQL lets nobody in: {e}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns the folders of the machine's own, the latest last.
    fn versions() -> Vec<PathBuf> {
        let found = std::fs::read_dir("/usr/lib/postgresql");
        let mut versions: Vec<PathBuf> =
            found.map(|all| all.flatten().map(|one| one.path()).collect()).unwrap_or_default();
        versions.sort();
        versions
    }

    /// Returns a program of PostgreSQL's, to be run as the user it accepts: it refuses root.
    fn command(&self, program: &str) -> Command {
        use std::os::unix::process::CommandExt as _;
        let own = std::fs::read_dir(self.folder.path().join("lib/postgresql"));
        let version = match own.ok().and_then(|mut folders| folders.next()) {
            Some(folder) => Some(folder.unwrap().path()),
            None => Self::versions().pop(),
        };
        let path = version.map_or_else(|| program.into(), |at| at.join("bin").join(program));
        let mut command = Command::new(path);
        command.current_dir(self.folder.path());
        if let Some((uid, gid)) = Self::user() {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Returns user and group `postgres` when this is root.
    fn user() -> Option<(u32, u32)> {
        let number = |args: &[&str]| -> u32 {
            let said = Command::new("id").args(args).output().unwrap().stdout;
            let said = String::from_utf8(said).unwrap();
            said.trim().parse().expect("there is no user postgres; tests/run installs PostgreSQL")
        };
        (number(&["-u"]) == 0).then(|| (number(&["-u", "postgres"]), number(&["-g", "postgres"])))
    }
}
