//! The CoAP sources against libcoap's client and server and Python's aiocoap, in both directions.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use fieldgate::clock;
use fieldgate::events::Events;
use fieldgate::reading::{Group, NoData, Points, Sample, Value};
use fieldgate::sources::coap::settings::{Client, Format, Listener, Mode};
use fieldgate::sources::coap::{CoapClient, CoapListener};
use fieldgate::sources::{Outlet, Source};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::peers::{Peer, free_udp_port, python};

/// A running source, and what it brings.
struct Bench {
    groups: mpsc::Receiver<Group>,
    points: Arc<Points>,
    events: Events,
    stop: CancellationToken,
    source: JoinHandle<()>,
}

impl Bench {
    fn start(mut source: impl Source + 'static) -> Self {
        let (sender, groups) = mpsc::channel(512);
        let points = Arc::new(Points::default());
        let events = Events::default();
        let outlet = Outlet {
            groups: sender,
            points: Arc::clone(&points),
            clock: Arc::new(clock::System),
            events: events.clone(),
        };
        let stop = CancellationToken::new();
        let token = stop.clone();
        let source = tokio::spawn(async move { source.run(outlet, token).await });
        Self { groups, points, events, stop, source }
    }

    /// Starts a listener on a port of its own and waits until it listens.
    async fn listen() -> (Self, SocketAddr) {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener =
            CoapListener::new(Listener { name: "push".into(), listen, allow: Vec::new() });
        let mut bound = listener.bound();
        let bench = Self::start(listener);
        let at = bound.wait_for(Option::is_some).await.unwrap().unwrap();
        (bench, at)
    }

    fn client(url: String, mode: Mode, format: Format) -> Self {
        let settings = Client {
            name: "dev".into(),
            url,
            mode,
            format,
            point: "it".into(),
            unit: "".into(),
            timeout: Duration::from_secs(5),
        };
        Self::start(CoapClient::new(settings).unwrap())
    }

    async fn group(&mut self) -> Group {
        let next = tokio::time::timeout(Duration::from_secs(30), self.groups.recv()).await;
        next.expect("no group after 30 s").unwrap()
    }

    /// Returns the next group with any value in it.
    async fn good(&mut self) -> Group {
        loop {
            let group = self.group().await;
            if group.samples.iter().all(|sample| sample.value.is_ok()) {
                return group;
            }
        }
    }

    fn rows(&self, group: &Group) -> Vec<(String, String, Sample)> {
        let row = |reading: fieldgate::reading::Reading| {
            let info = self.points.info(reading.point);
            (format!("{}/{}", info.device, info.point), info.unit.to_string(), reading.sample)
        };
        group.readings().map(row).collect()
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.source).await.unwrap().unwrap();
    }
}

fn number(n: f64) -> Sample {
    Value::from_f64(n).into()
}

/// libcoap's program of that name, with or without its TLS suffix.
fn libcoap(name: &str) -> String {
    let plain = format!("/usr/bin/{name}-notls");
    if Path::new(&plain).exists() { plain } else { name.into() }
}

/// Runs libcoap's client to its end and returns what it printed: codes of errors, or nothing.
async fn coap_client(arguments: &[&str]) -> String {
    let name = libcoap("coap-client");
    let output = Command::new(&name)
        .args(["-B", "10"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|e| panic!("peer {name} cannot be started ({e}); tests/run installs it"));
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers").join(name)
}

fn aiocoap_server(port: u16) -> Peer {
    Peer::start(python().arg(script("coap_server.py")).arg(port.to_string()))
}

#[tokio::test]
async fn libcoap_posts_and_puts_values_confirmable_and_not() {
    let (mut bench, at) = Bench::listen().await;
    let url = |path: &str| format!("coap://{at}/{path}");
    for (arguments, row) in [
        (vec!["-m", "post", "-t", "0", "-e", "21.5"], ("room/temp", "", number(21.5))),
        (vec!["-m", "put", "-e", "22.5"], ("room/temp", "", number(22.5))),
        (vec!["-N", "-m", "post", "-e", "23.5"], ("room/temp", "", number(23.5))),
        (
            vec!["-m", "post", "-t", "50", "-e", r#"{"value":24.5,"unit":"Cel"}"#],
            ("room/temp", "Cel", number(24.5)),
        ),
    ] {
        let url = url("room/temp");
        let said = coap_client(&[arguments, vec![&url]].concat()).await;
        let group = bench.group().await;
        let wanted = (row.0.to_owned(), row.1.to_owned(), row.2);
        assert_eq!(bench.rows(&group), [wanted], "{said}");
    }
    let said = coap_client(&["-m", "get", &url("room/temp")]).await;
    assert!(said.contains("4.05"), "{said}");
    let said = coap_client(&["-m", "post", "-t", "42", "-e", "x", &url("room/temp")]).await;
    assert!(said.contains("4.15"), "{said}");
    let said = coap_client(&["-m", "post", "-O", "9,x", "-e", "1", &url("room/temp")]).await;
    assert!(said.contains("4.02"), "{said}");
    let said = coap_client(&["-m", "get", &url(".well-known/core")]).await;
    assert!(said.contains("rt=fieldgate"), "{said}");
    bench.end().await;
}

#[tokio::test]
async fn libcoap_uploads_a_pack_in_blocks_and_is_stopped_at_the_limit() {
    let (mut bench, at) = Bench::listen().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pack.json");
    let path = file.to_str().unwrap();
    let pack = |records: usize| {
        let records: Vec<_> =
            (0..records).map(|n| serde_json::json!({"n": format!("p{n}"), "v": n})).collect();
        serde_json::to_vec(&records).unwrap()
    };
    let url = format!("coap://{at}/rack");
    std::fs::write(&file, pack(300)).unwrap();
    let said = coap_client(&["-m", "post", "-t", "110", "-b", "64", "-f", path, &url]).await;
    let group = bench.group().await;
    assert_eq!(group.samples.len(), 300, "{said}");
    assert_eq!(group.samples[299], number(299.0));
    std::fs::write(&file, pack(5000)).unwrap();
    let said = coap_client(&["-m", "put", "-t", "110", "-b", "1024", "-f", path, &url]).await;
    assert!(said.contains("4.13"), "{said}");
    assert!(bench.groups.is_empty());
    bench.end().await;
}

#[tokio::test]
async fn the_same_post_from_one_socket_makes_one_group() {
    let (mut bench, at) = Bench::listen().await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(at).await.unwrap();
    // CON POST /d/p "1", message id 0x0102, token 7f.
    let post = [0x41, 2, 1, 2, 0x7f, 0xb1, b'd', 1, b'p', 0xff, b'1'];
    let mut reply = [0; 64];
    for _ in 0..3 {
        socket.send(&post).await.unwrap();
        let length = socket.recv(&mut reply).await.unwrap();
        assert_eq!(reply[..length], [0x61, 0x44, 1, 2, 0x7f]);
    }
    socket.send(&[0x40, 0, 0, 9]).await.unwrap();
    let length = socket.recv(&mut reply).await.unwrap();
    assert_eq!(reply[..length], [0x70, 0, 0, 9], "a ping is answered with a reset");
    assert_eq!(bench.group().await.samples, [number(1.0)]);
    assert!(bench.groups.is_empty());
    bench.end().await;
}

#[tokio::test]
async fn aiocoap_posts_senml_in_json_and_cbor() {
    let (mut bench, at) = Bench::listen().await;
    let mut command = Command::from(python());
    command.arg(script("coap_post.py")).arg(at.port().to_string()).stdin(Stdio::null());
    let output = command.output().await.expect("python cannot be started; tests/run installs it");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        ["2.04", "2.04", "2.04", "4.00", "4.05"],
        "{errors}"
    );
    for _ in 0..2 {
        let group = bench.group().await;
        assert_eq!(group.at.0, 1_700_000_000_000);
        let row = |name: &str, unit: &str, sample| (format!("room/{name}"), unit.into(), sample);
        assert_eq!(
            bench.rows(&group),
            [
                row("temp", "Cel", number(23.1)),
                row("open", "", Sample::good(Value::Bool(false))),
                row("label", "", Sample::good(Value::from_text("Machine Room"))),
            ]
        );
    }
    let mut last = i64::MIN;
    for n in (0..300).rev() {
        let group = bench.group().await;
        assert!(group.at.0 > last, "times are not in order");
        last = group.at.0;
        assert_eq!(bench.rows(&group)[0].0, format!("room/p{n}"));
    }
    bench.end().await;
}

#[tokio::test]
async fn aiocoap_is_polled_dies_and_comes_back() {
    let port = free_udp_port();
    let server = aiocoap_server(port);
    let every = Mode::Poll(Duration::from_millis(100));
    let mut bench = Bench::client(format!("coap://localhost:{port}/temp"), every, Format::Auto);
    let group = bench.good().await;
    assert_eq!(bench.rows(&group)[0].0, "dev/it");
    server.kill();
    loop {
        let group = bench.group().await;
        if group.samples == [Sample::none(NoData::Timeout)] {
            break;
        }
    }
    assert_eq!(bench.events.standing().len(), 1);
    let _server = aiocoap_server(port);
    assert_eq!(bench.good().await.samples, [number(20.1)]);
    assert!(bench.events.standing().is_empty());
    bench.end().await;
}

#[tokio::test]
async fn aiocoap_packs_are_read_in_blocks_and_in_cbor() {
    let port = free_udp_port();
    let _server = aiocoap_server(port);
    let every = Mode::Poll(Duration::from_millis(200));
    let mut bench = Bench::client(format!("coap://127.0.0.1:{port}/pack"), every, Format::Senml);
    let group = bench.good().await;
    let rows = bench.rows(&group);
    assert_eq!(rows.len(), 200);
    assert_eq!(rows[123], ("rack/p123".into(), "V".into(), number(12.3)));
    bench.end().await;
    let mut bench = Bench::client(format!("coap://127.0.0.1:{port}/cbor"), every, Format::Auto);
    let group = bench.good().await;
    let open = ("tank/open".into(), String::new(), Sample::good(Value::Bool(true)));
    assert_eq!(bench.rows(&group), [("tank/level".into(), "m".into(), number(1.25)), open]);
    bench.end().await;
}

#[tokio::test]
async fn aiocoap_is_observed_and_its_values_come_in_order() {
    let port = free_udp_port();
    let _server = aiocoap_server(port);
    let url = format!("coap://127.0.0.1:{port}/count");
    let mut bench = Bench::client(url, Mode::Observe, Format::Text);
    let mut last = -1.0;
    for _ in 0..10 {
        let group = bench.good().await;
        let Ok(Value::Decimal(count)) = &group.samples[0].value else { panic!("{group:?}") };
        assert!(count.to_f64() > last, "{count:?} after {last}");
        last = count.to_f64();
    }
    bench.end().await;
}

#[tokio::test]
async fn libcoap_is_observed_and_tells_what_was_put() {
    let port = free_udp_port();
    let mut command = std::process::Command::new(libcoap("coap-server"));
    command.args(["-A", "127.0.0.1", "-p", &port.to_string()]);
    let _server = Peer::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let url = format!("coap://127.0.0.1:{port}/example_data");
    let mut bench = Bench::client(url.clone(), Mode::Observe, Format::Text);
    bench.good().await;
    for value in ["22.5", "23.5"] {
        let said = coap_client(&["-m", "put", "-t", "0", "-e", value, &url]).await;
        let group = bench.good().await;
        assert_eq!(group.samples, [number(value.parse().unwrap())], "{said}");
    }
    bench.end().await;
}
