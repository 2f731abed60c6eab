//! A hard life at a fast pace: broken devices, floods of names and noise, lost brokers, trapping rules
//! and reloads, all at once, again and again. Asks one question: does memory stay where it was?

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fuzz::targets::kit::{Guest, OK, READING};
use crate::peers::{Mosquitto, Peer, coap_post, free_udp_port};
use crate::river::{World, signal};

/// Rounds of trouble, about a second each. More of them: `FIELDGATE_SOAK_ROUNDS=600`.
const ROUNDS: u32 = 60;
/// Rounds in which everything that may fill up does.
const WARM: u32 = 30;
/// What memory may differ by between the rounds after the warm ones and the last.
const GROWTH_KIB_MAX: u64 = 2048;
/// Datagrams of noise a round.
const DATAGRAMS: u16 = 200;

/// A row of numbers, the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

/// A Modbus device that answers each request with nothing, noise, or the end of the connection.
fn mad_device() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut noise = Noise(7);
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 260];
            while stream.read(&mut request).is_ok_and(|length| length > 0) {
                let answer = match noise.next() % 4 {
                    0 => continue,
                    1 => break,
                    2 => noise.bytes(260),
                    // The right head, and one register too many.
                    _ => [&request[..4], &[0, 7, 1, 3, 4, 0, 1, 0, 2]].concat(),
                };
                if stream.write_all(&answer).is_err() {
                    break;
                }
            }
        }
    });
    port
}

/// The machine around the gateway.
struct Site {
    world: World,
    zigbee: Mosquitto,
    folder: tempfile::TempDir,
    cable: Option<Peer>,
    coap: u16,
    noise: Noise,
}

impl Site {
    fn new() -> Self {
        let world = World::new("100ms");
        let folder = tempfile::tempdir().unwrap();
        let zigbee = Mosquitto::start(folder.path(), "");
        let (coap, mad) = (free_udp_port(), mad_device());
        std::fs::write(folder.path().join("trap.wasm"), trapping()).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rules/aggregate.wasm");
        assert!(shipped.exists(), "{} is missing: rules/build makes it", shipped.display());
        let mut more = String::new();
        write!(
            more,
            r#"
[api]
socket = "api.sock"
[device.mad]
via    = "modbus tcp 127.0.0.1:{mad} id 1"
every  = "200ms"
points.a = {{ at = "holding 0", as = "u16" }}
[device.absent]
via    = "modbus tcp 127.0.0.1:9 id 1"
every  = "200ms"
points.a = {{ at = "holding 0", as = "u16" }}
[port.line]
path = "{}"
line = "9600 8N1"
[device.scale]
via   = "serial line"
frame = {{ end = "\n" }}
match = '^(?<weight>\d+)kg$'
points.weight = {{ unit = "kg" }}
[source.zigbee]
via = "zigbee2mqtt mqtt://127.0.0.1:{}"
[source.push]
via = "coap listen 127.0.0.1:{coap}"
[rule.windows]
file = {:?}
on   = "*/*"
keep = true
with = {{ window = "1000ms" }}
[rule.trap]
file = {:?}
on   = "known/*"
"#,
            folder.path().join("gateway").display(),
            zigbee.port,
            shipped.to_str().unwrap(),
            folder.path().join("trap.wasm").to_str().unwrap(),
        )
        .unwrap();
        world.configure(&more);
        Self { world, zigbee, folder, cable: None, coap, noise: Noise(0x9e37_79b9) }
    }

    fn end_of_cable(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One second of everything at once.
    fn round(&mut self, n: u32, daemon: &Peer) {
        self.weather(n);
        self.zigbee_says(n);
        self.datagrams(n);
        let noise = self.noise.bytes(2000);
        if let Ok(mut line) =
            std::fs::OpenOptions::new().write(true).open(self.end_of_cable("device"))
        {
            // The end of a cable whose other end nobody reads may be full.
            let _ = line.write_all(&[&noise[..], b"\n123kg\n"].concat());
        }
        let window = |n: u32| format!("window = \"{}ms\"", 1000 + n % 2 * 500);
        if n % 3 == 2 {
            self.world.replace(&window(n / 3), &window(n / 3 + 1));
            signal(daemon, "-HUP");
        }
    }

    /// Brokers die and return, a cable is pulled and plugged.
    fn weather(&mut self, n: u32) {
        match n % 4 {
            0 => self.world.broker.stop(),
            1 => self.world.broker.resume(),
            _ => {}
        }
        match n % 5 {
            0 => {
                let end =
                    |name| format!("pty,raw,echo=0,link={}", self.end_of_cable(name).display());
                let mut socat = Command::new("socat");
                socat.arg(end("device")).arg(end("gateway")).stderr(Stdio::null());
                self.cable = Some(Peer::start(&mut socat));
            }
            3 => {
                self.cable = None;
                let _ = std::fs::remove_file(self.end_of_cable("device"));
                let _ = std::fs::remove_file(self.end_of_cable("gateway"));
                self.zigbee.stop();
            }
            4 => self.zigbee.resume(),
            _ => {}
        }
    }

    /// What zigbee2mqtt says, and what it never would.
    fn zigbee_says(&mut self, n: u32) {
        let mut lines = String::new();
        for lamp in 0..20 {
            writeln!(lines, "{{\"state\":\"ON\",\"level\":{},\"deep\":{{\"n\":{n}}}}}", lamp + n)
                .unwrap();
            writeln!(lines, "{{\"level\":[[[[{{").unwrap();
        }
        let topic = format!("zigbee2mqtt/lamp-{}", n % 50);
        let mut client = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-l", "-t", &topic, "-p", &self.zigbee.port.to_string()])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_pub cannot be started; tests/run installs it");
        // Without its broker it says nothing.
        let _ = client.stdin.take().unwrap().write_all(lines.as_bytes());
        let _ = client.wait();
    }

    /// Readings of a known device, some of which make the rule trap; of a thousand others; and noise.
    fn datagrams(&mut self, n: u32) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for k in 0..DATAGRAMS {
            let id = u16::try_from(n % 300).unwrap() * DATAGRAMS + k;
            match k % 4 {
                0 => coap_post(self.coap, id, &["known", "level"], &(u32::from(k) * 7).to_string()),
                1 => coap_post(self.coap, id, &[&format!("new-{}-{k}", n % WARM), "level"], "1"),
                _ => {
                    let length = usize::try_from(self.noise.next() % 1200).unwrap();
                    let bytes = self.noise.bytes(length);
                    let _ = socket.send_to(&bytes, ("127.0.0.1", self.coap));
                }
            }
        }
    }
}

/// A rule that hands on what it gets, and traps at a number above a thousand.
fn trapping() -> Vec<u8> {
    let body = format!(
        "(local $k i32)
         (call $emit (local.get $batch) (local.get $n))
         (block $done (loop $more
           (br_if $done (i32.ge_u (local.get $k) (local.get $n)))
           (if (f64.gt (f64.load offset=32 (i32.add (local.get $batch)
                         (i32.mul (local.get $k) (i32.const {READING})))) (f64.const 1000))
             (then (unreachable)))
           (local.set $k (i32.add (local.get $k) (i32.const 1)))
           (br $more)))
         {OK}"
    );
    Guest::processing(&body).build()
}

/// What a process has of its own, in KiB: `RssAnon` of proc(5).
fn memory_kib(daemon: &Peer) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.expect("the daemon has ended").split_whitespace().next().unwrap().parse().unwrap()
}

/// Goal: memory does not grow with outages, misbehaviour or backlog. Method: every kind of trouble
/// goes on at once; once all that may fill up is full, the rest of the rounds may add nothing.
#[test]
fn memory_stays_where_it_was_whatever_misbehaves_for_however_long() {
    let rounds = std::env::var("FIELDGATE_SOAK_ROUNDS").map_or(ROUNDS, |n| n.parse().unwrap());
    let warm = WARM.max(rounds / 10);
    let mut site = Site::new();
    let mut daemon = site.world.start();
    let mut after_warm: Vec<u64> = Vec::new();
    for n in 0..rounds {
        let began = Instant::now();
        site.round(n, &daemon);
        std::thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
        assert!(!daemon.has_ended(), "the daemon has ended:\n{}", site.world.log());
        let memory = memory_kib(&daemon);
        if n % (rounds / 60).max(1) == 0 {
            println!("round {n}: {memory} KiB");
        }
        assert!(n != warm || site.world.polls() > 100, "the device that works is not read");
        if n >= warm {
            after_warm.push(memory);
        }
    }
    // What it breathes back to, in the first and in the last fifth: the allocator keeps some of what a
    // moment took, up to ten minutes.
    let fifth = after_warm.len() / 5;
    let first = *after_warm[..fifth].iter().min().unwrap();
    let last = *after_warm[after_warm.len() - fifth..].iter().min().unwrap();
    println!("{first} KiB after {warm} rounds, {last} KiB at the end");
    assert!(last <= first + GROWTH_KIB_MAX, "{first} KiB have become {last}");
}
