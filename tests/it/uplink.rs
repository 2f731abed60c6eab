//! The uplink and its sessions against Debian's mosquitto: logins, TLS, power cuts and limits. The
//! scripted brokers that lie stand beside the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fieldgate::batch::{Coding, decode};
use fieldgate::clock::System;
use fieldgate::events::{Events, broker as say};
use fieldgate::mqtt::{
    Broker, ConnectError, Incoming, Login, Message, Rejection, Session, Tls, TlsFault, connect,
};
use fieldgate::reading::{Group, PointId, PointInfo, Points, Sample, Stream, UnixMillis, Value};
use fieldgate::secret::Secret;
use fieldgate::store::{self, Shelf, Store, settings::Seal};
use fieldgate::uplink::{
    LinkState, Outbox, Sealed, Standing, Unreadable, Uplink, Waiting,
    settings::{Ack, Uplink as Settings},
};
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::peers::Mosquitto;

/// Lets a mosquitto that tests start as root stay root, so that it can read their folders.
const STAY: &str = "user root";

fn broker(port: u16, client_id: &str) -> Broker {
    Broker { keep_alive: Duration::from_secs(30), ..Broker::new("localhost", port, client_id) }
}

/// Sealed batches in a list, and the account of what was freed.
#[derive(Default)]
pub(crate) struct List {
    held: Mutex<BTreeMap<u64, Sealed>>,
    freed: Mutex<Vec<u64>>,
    sealed: watch::Sender<u64>,
}

impl List {
    pub(crate) fn seal(&self, seq: u64, bytes: usize) {
        let mut payload = seq.to_be_bytes().to_vec();
        payload.resize(bytes.max(8), 0xA5);
        self.put(seq, payload);
    }

    pub(crate) fn put(&self, seq: u64, payload: Vec<u8>) {
        let batch = Sealed { seq, readings: 1, payload: payload.into() };
        self.held.lock().unwrap().insert(seq, batch);
        self.sealed.send_replace(seq);
    }

    pub(crate) fn freed(&self) -> Vec<u64> {
        self.freed.lock().unwrap().clone()
    }
}

#[derive(Clone, Default)]
pub(crate) struct Held(Arc<List>);

impl Outbox for Held {
    fn sealed(&self) -> watch::Receiver<u64> {
        self.0.sealed.subscribe()
    }

    async fn next(
        &self,
        stream: Shelf,
        after: u64,
        count: usize,
    ) -> Result<Vec<Sealed>, Unreadable> {
        if stream != Shelf::Data {
            return Ok(Vec::new());
        }
        Ok(self
            .0
            .held
            .lock()
            .unwrap()
            .range(after + 1..)
            .take(count)
            .map(|b| b.1.clone())
            .collect())
    }

    fn acknowledge(&self, _: u64, _: Shelf, first: u64, last: u64) {
        let mut held = self.0.held.lock().unwrap();
        let through: Vec<u64> = held.range(first..=last).map(|(seq, _)| *seq).collect();
        held.retain(|seq, _| !through.contains(seq));
        self.0.freed.lock().unwrap().extend(through);
    }

    fn standing(&self) -> Standing {
        let newest = *self.0.sealed.borrow();
        let lo = self.0.held.lock().unwrap().keys().next().copied().unwrap_or(newest + 1);
        let none = Waiting { newest: 0, lo: 1, oldest: None };
        let data = Waiting { newest, lo, oldest: (lo <= newest).then_some(UnixMillis(0)) };
        Standing { epoch: 1_700_000_000, streams: [data, none, none, none, none, none] }
    }
}

pub(crate) fn uplink_settings(broker: Broker) -> Settings {
    Settings {
        name: "cloud".to_owned(),
        gateway: "gw-1".into(),
        config_hash: "c0ffee".into(),
        labels: Vec::new(),
        broker,
        ack: Ack::Broker,
        drain: None,
        data_plan: None,
    }
}

/// An uplink that runs until it is stopped, or dies when its task is aborted.
pub(crate) struct Running {
    pub(crate) list: Arc<List>,
    pub(crate) events: Events,
    pub(crate) link: watch::Receiver<LinkState>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(broker: Broker) -> Self {
        Self::begin(uplink_settings(broker), Held::default())
    }

    /// As [`Self::start`]; what the broker has is kept for the receiver's word.
    pub(crate) fn start_with_receiver(broker: Broker) -> Self {
        let settings = Settings { ack: Ack::Receiver, ..uplink_settings(broker) };
        Self::begin(settings, Held::default())
    }

    fn begin(settings: Settings, held: Held) -> Self {
        let list = Arc::clone(&held.0);
        let events = Events::default();
        let points = Arc::<Points>::default();
        let uplink = Uplink::new(settings, held, points, Arc::new(System), events.clone());
        let (stop, link) = (CancellationToken::new(), uplink.link());
        let task = tokio::spawn(uplink.run(stop.clone()));
        Self { list, events, link, stop, task }
    }

    pub(crate) async fn freed(&self, count: usize) {
        until(&format!("{count} batches are freed"), || self.list.freed().len() >= count).await;
    }

    pub(crate) async fn told(&self, code: &str) {
        let is_told = || self.events.standing().iter().any(|c| c.notice.code.id == code);
        until(&format!("{code} is told"), is_told).await;
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Waits for something that has no event of its own, at most a minute.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waited).await.is_ok(), "never: {what}");
}

async fn subscriber(broker: &Broker) -> Session {
    let mut session = connect(broker, true).await.unwrap();
    session.subscribe(&["fg/1/gw-1/#".to_owned()]).await.unwrap();
    session
}

/// Returns the next message to a topic that ends with `leaf`.
async fn message(session: &mut Session, leaf: &str) -> Message {
    let next = async {
        loop {
            if let Incoming::Received(message) = session.next().await.unwrap()
                && message.topic == format!("fg/1/gw-1/{leaf}")
            {
                return message;
            }
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), next).await;
    waited.unwrap_or_else(|_| panic!("no message to {leaf} in 30 s"))
}

async fn batch_number(session: &mut Session) -> u64 {
    let message = message(session, "data").await;
    u64::from_be_bytes(message.payload[..8].try_into().unwrap())
}

#[tokio::test]
async fn batches_arrive_in_order_and_byte_for_byte_and_status_follows_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), STAY);
    let mut reader = subscriber(&broker(mosquitto.port, "reader")).await;
    let uplink = Running::start(broker(mosquitto.port, "gw-1"));
    let status = message(&mut reader, "status").await;
    assert!(status.payload.starts_with(br#"{"up":true,"ep":1700000000,"#), "{status:?}");
    assert!(message(&mut reader, "meta").await.payload.starts_with(br#"{"gw":"gw-1","#));
    for seq in 1..=50 {
        uplink.list.seal(seq, 20_000);
    }
    for seq in 1..=50 {
        let message = message(&mut reader, "data").await;
        let mut expected = u64::to_be_bytes(seq).to_vec();
        expected.resize(20_000, 0xA5);
        assert!(message.payload == expected, "batch {seq} is not what was sealed");
    }
    uplink.freed(50).await;
    assert_eq!(uplink.list.freed(), (1..=50).collect::<Vec<_>>());
    let link = *uplink.link.borrow();
    assert!(link.connected && link.last_acknowledged.is_some() && link.readings == 50);
    // Retained, for another's eyes: a subscriber that others wrote and that comes late.
    let late = |port: u16| {
        Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "fg/1/gw-1/status"])
            .args(["-C", "1", "-W", "20", "-F", "%r %p"])
            .output()
            .expect("mosquitto_sub of Debian's mosquitto-clients; tests/run installs it")
    };
    let seen = String::from_utf8(late(mosquitto.port).stdout).unwrap();
    assert!(seen.starts_with(r#"1 {"up":true,"#), "{seen}");
    uplink.stop().await;
    let seen = String::from_utf8(late(mosquitto.port).stdout).unwrap();
    assert_eq!(seen.trim(), r#"1 {"up":false,"why":"stopped"}"#);
}

#[tokio::test]
async fn the_last_will_speaks_for_a_gateway_that_dies() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), STAY);
    let mut reader = subscriber(&broker(mosquitto.port, "reader")).await;
    let uplink = Running::start(broker(mosquitto.port, "gw-1"));
    assert!(message(&mut reader, "status").await.payload.starts_with(br#"{"up":true,"#));
    uplink.task.abort();
    let will = message(&mut reader, "status").await;
    assert_eq!(&will.payload[..], br#"{"up":false,"why":"lost"}"#);
}

#[tokio::test]
async fn a_broker_that_is_killed_and_comes_back_gets_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut mosquitto = Mosquitto::start(folder.path(), STAY);
    let uplink = Running::start(broker(mosquitto.port, "gw-1"));
    let mut sealed = 0_u64;
    for _ in 0..3 {
        for _ in 0..40 {
            sealed += 1;
            uplink.list.seal(sealed, 50_000);
        }
        let before = uplink.list.freed().len();
        uplink.freed(before + 5).await;
        mosquitto.stop();
        // More than a window.
        for _ in 0..30 {
            sealed += 1;
            uplink.list.seal(sealed, 50_000);
        }
        mosquitto.resume();
        let mut reader = subscriber(&broker(mosquitto.port, "reader")).await;
        let mut missing: BTreeSet<u64> = uplink.list.held.lock().unwrap().keys().copied().collect();
        assert_eq!(batch_number(&mut reader).await, sealed, "the newest goes first");
        missing.remove(&sealed);
        while !missing.is_empty() {
            missing.remove(&batch_number(&mut reader).await);
        }
    }
    uplink.freed(usize::try_from(sealed).unwrap()).await;
    let mut freed = uplink.list.freed();
    freed.sort_unstable();
    assert_eq!(freed, (1..=sealed).collect::<Vec<_>>(), "each freed once");
    assert!(uplink.link.borrow().connections >= 4);
    uplink.stop().await;
}

/// Stores what arrives, as a receiver would, until `count` batches are there; returns their numbers.
async fn store(session: &mut Session, count: usize) -> BTreeSet<u64> {
    let mut stored = BTreeSet::new();
    while stored.len() < count {
        stored.insert(batch_number(session).await);
    }
    stored
}

async fn say(session: &mut Session, text: &str) {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    let id = session.publish("fg/1/gw-1/ack", payload, false).await.unwrap();
    while session.next().await.unwrap() != Incoming::Acknowledged(id) {}
}

#[tokio::test]
async fn a_broker_that_loses_what_it_acknowledged_costs_nothing_when_the_receiver_has_the_word() {
    let folder = tempfile::tempdir().unwrap();
    let mut mosquitto = Mosquitto::start(folder.path(), STAY);
    let held = Held::default();
    let settings =
        Settings { ack: Ack::Receiver, ..uplink_settings(broker(mosquitto.port, "gw-1")) };
    let uplink = Running::begin(settings.clone(), held.clone());
    // Nobody listens: the broker acknowledges and throws away.
    (1..=30).for_each(|seq| uplink.list.seal(seq, 1000));
    until("the broker has 30", || uplink.link.borrow().batches == 30).await;
    mosquitto.stop();
    mosquitto.resume();
    let mut receiver = subscriber(&broker(mosquitto.port, "receiver")).await;
    until("it is connected again", || uplink.link.borrow().connections == 2).await;
    uplink.list.seal(31, 1000);
    assert_eq!(store(&mut receiver, 1).await, [31].into(), "the broker said that it had the rest");
    // Nobody's word but one that can be true counts.
    for lie in ["", "[[", r#"{"ep":1700000001,"upto":31}"#, r#"{"ep":1700000000,"upto":32}"#] {
        say(&mut receiver, lie).await;
    }
    uplink.told("FG-U21").await;
    assert_eq!(uplink.list.freed(), [0; 0]);
    say(&mut receiver, r#"{"ep":1700000000,"st":"data","upto":31,"holes":[[1,30]]}"#).await;
    uplink.freed(1).await;
    assert_eq!(uplink.list.freed(), [31]);
    // A gateway that starts anew knows nothing of what the broker had, and sends all it holds.
    uplink.task.abort();
    let uplink = Running::begin(settings, held);
    assert_eq!(store(&mut receiver, 30).await, (1..=30).collect());
    say(&mut receiver, r#"{"ep":1700000000,"st":"data","upto":31}"#).await;
    uplink.freed(31).await;
    assert!(uplink.list.held.lock().unwrap().is_empty());
    uplink.stop().await;
}

#[tokio::test]
async fn a_wrong_password_is_named_and_the_right_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c", file.to_str().unwrap(), "gw", "right"])
        .status()
        .expect("mosquitto_passwd of Debian's mosquitto; tests/run installs it");
    assert!(made.success());
    let extra = format!("{STAY}\nallow_anonymous false\npassword_file {}", file.display());
    let mosquitto = Mosquitto::start(folder.path(), &extra);
    let secret = folder.path().join("password");
    let mut broker = broker(mosquitto.port, "gw-1");
    let refused = connect(&broker, true).await.err().unwrap();
    assert!(matches!(refused, ConnectError::Rejected(Rejection::NotAuthorised, _)), "{refused:?}");
    broker.login = Some(Login { user: "gw".into(), password: Some(Secret::File(secret.clone())) });
    std::fs::write(&secret, "wrong\n").unwrap();
    let uplink = Running::start(broker);
    uplink.told("FG-U02").await;
    // The corrected file is enough.
    std::fs::write(&secret, "right\n").unwrap();
    uplink.list.seal(1, 100);
    uplink.freed(1).await;
    uplink.stop().await;
}

/// A CA of the test's own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) file: PathBuf,
}

impl Authority {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// Signs a certificate for `host`; returns the files of chain and key.
    pub(crate) fn sign(&self, folder: &Path, host: &str, until: i32) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (chain, secret) = (
            folder.join(format!("{host}-{until}.pem")),
            folder.join(format!("{host}-{until}.key")),
        );
        std::fs::write(&chain, certificate.pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        (chain, secret)
    }
}

fn listener(files: &(PathBuf, PathBuf)) -> String {
    format!("{STAY}\ncertfile {}\nkeyfile {}", files.0.display(), files.1.display())
}

#[tokio::test]
async fn tls_works_with_the_right_ca_and_every_wrong_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let theirs = Authority::new(folder.path(), "theirs");
    let files = ours.sign(folder.path(), "localhost", 4000);
    let mosquitto = Mosquitto::start(folder.path(), &listener(&files));
    let mut broker = broker(mosquitto.port, "gw-1");
    broker.tls = Some(Tls { ca: Some(ours.file.clone()), client: None });
    let uplink = Running::start(broker.clone());
    uplink.list.seal(1, 100_000);
    uplink.freed(1).await;
    uplink.stop().await;

    let fault = |error: Option<ConnectError>| match error {
        Some(ConnectError::Tls(fault)) => fault,
        other => panic!("no fault of TLS: {other:?}"),
    };
    broker.tls = Some(Tls { ca: Some(theirs.file), client: None });
    let error = connect(&broker, true).await.err();
    assert_eq!(fault(error.clone()), TlsFault::UnknownIssuer);
    let notice = say::not_connected("uplink cloud", &broker, &error.unwrap()).to_string();
    assert!(notice.starts_with("FG-U03  uplink cloud has no trusted connection"), "{notice}");
    assert!(notice.contains("is not signed by a CA that is trusted here"), "{notice}");

    broker.tls = Some(Tls { ca: Some(ours.file.clone()), client: None });
    broker.host = "127.0.0.1".to_owned();
    let wrong_name = fault(connect(&broker, true).await.err());
    assert!(wrong_name.to_string().contains("localhost"), "{wrong_name}");

    let expired =
        Mosquitto::start(folder.path(), &listener(&ours.sign(folder.path(), "localhost", 2001)));
    (broker.host, broker.port) = ("localhost".to_owned(), expired.port);
    let error = connect(&broker, true).await.err();
    let TlsFault::Expired { until, .. } = fault(error.clone()) else { panic!("{error:?}") };
    assert_eq!(until.as_deref(), Some("2001-01-01T00:00:00Z"));
    let notice = say::not_connected("uplink cloud", &broker, &error.unwrap()).to_string();
    assert!(notice.contains("this board's clock is wrong"), "{notice}");

    broker.tls = Some(Tls { ca: Some(folder.path().join("none.pem")), client: None });
    let error = connect(&broker, true).await.err();
    let Some(ConnectError::Settings(why)) = error else { panic!("{error:?}") };
    assert!(why.ends_with("none.pem does not exist"), "{why}");
}

#[tokio::test]
async fn plain_and_encrypted_ports_are_not_confused_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let plain = Mosquitto::start(folder.path(), STAY);
    let files = ours.sign(folder.path(), "localhost", 4000);
    let encrypted = Mosquitto::start(folder.path(), &listener(&files));
    let mut to_plain = broker(plain.port, "gw-1");
    to_plain.tls = Some(Tls { ca: Some(ours.file), client: None });
    for wrong in [to_plain, broker(encrypted.port, "gw-1")] {
        let error = connect(&wrong, true).await.err().unwrap();
        let notice = say::not_connected("uplink cloud", &wrong, &error).to_string();
        let hint = if wrong.tls.is_some() { "speaks plain MQTT" } else { "this port wants TLS" };
        assert!(notice.contains(hint), "{notice}");
    }
}

#[tokio::test]
async fn a_client_certificate_opens_the_door_and_its_absence_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let files = ours.sign(folder.path(), "localhost", 4000);
    let extra =
        format!("{}\ncafile {}\nrequire_certificate true", listener(&files), ours.file.display());
    let mosquitto = Mosquitto::start(folder.path(), &extra);
    let mut broker = broker(mosquitto.port, "gw-1");
    broker.tls = Some(Tls { ca: Some(ours.file.clone()), client: None });
    let error = connect(&broker, true).await.err().unwrap();
    assert!(matches!(error, ConnectError::Tls(TlsFault::ClientRefused(_))), "{error:?}");

    let theirs = Authority::new(folder.path(), "theirs");
    let (chain, key) = theirs.sign(folder.path(), "stranger", 4000);
    let client = Some((chain, Secret::File(key)));
    broker.tls = Some(Tls { ca: Some(ours.file.clone()), client });
    let error = connect(&broker, true).await.err().unwrap();
    assert!(matches!(error, ConnectError::Tls(TlsFault::ClientRefused(_))), "{error:?}");

    let (chain, key) = ours.sign(folder.path(), "gw-1", 4000);
    let client = Some((chain.clone(), Secret::File(key)));
    broker.tls = Some(Tls { ca: Some(ours.file.clone()), client });
    let uplink = Running::start(broker.clone());
    uplink.list.seal(1, 1000);
    uplink.freed(1).await;
    uplink.stop().await;

    let client = Some((chain, Secret::File(files.1)));
    broker.tls = Some(Tls { ca: Some(ours.file), client });
    let error = connect(&broker, true).await.err().unwrap();
    assert!(error.to_string().contains("does not belong to the certificate"), "{error}");
}

#[tokio::test]
async fn a_renewed_client_certificate_is_used_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let files = ours.sign(folder.path(), "localhost", 4000);
    let log = folder.path().join("log");
    let extra = format!(
        "{}\ncafile {}\nrequire_certificate true\nuse_identity_as_username true\n\
         log_dest file {}\nlog_type all",
        listener(&files),
        ours.file.display(),
        log.display()
    );
    let mosquitto = Mosquitto::start(folder.path(), &extra);
    let (chain, key) = ours.sign(folder.path(), "first", 4000);
    let mut broker = broker(mosquitto.port, "gw-1");
    let client = Some((chain.clone(), Secret::File(key.clone())));
    broker.tls = Some(Tls { ca: Some(ours.file.clone()), client });
    let uplink = Running::start(broker);
    uplink.list.seal(1, 1000);
    uplink.freed(1).await;

    let (renewed, renewed_key) = ours.sign(folder.path(), "second", 4000);
    std::fs::rename(renewed, chain).unwrap();
    std::fs::rename(renewed_key, key).unwrap();
    until("it connects again", || uplink.link.borrow().connections == 2).await;
    uplink.list.seal(2, 1000);
    uplink.freed(2).await;
    let log = std::fs::read_to_string(log).unwrap();
    let users: Vec<_> = log.lines().filter_map(|line| line.split("u'").nth(1)).collect();
    assert!(users[0].starts_with("first'") && users[1].starts_with("second'"), "{users:?}");
    assert_eq!(uplink.events.standing().len(), 0, "{:?}", uplink.events.standing());
    uplink.stop().await;
}

/// A cloud changes its CA: the broker comes back with a certificate that the old file does not vouch
/// for, and the new file is laid down later.
#[tokio::test]
async fn a_renewed_ca_is_believed_without_a_restart_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let (old, new) = (Authority::new(here, "old"), Authority::new(here, "new"));
    let files = old.sign(here, "localhost", 4000);
    let mut mosquitto = Mosquitto::start(here, &listener(&files));
    let ca = here.join("ca.pem");
    std::fs::copy(&old.file, &ca).unwrap();
    let mut broker = broker(mosquitto.port, "gw-1");
    broker.tls = Some(Tls { ca: Some(ca.clone()), client: None });
    let uplink = Running::start(broker);
    uplink.list.seal(1, 1000);
    uplink.freed(1).await;

    mosquitto.stop();
    let next = new.sign(here, "localhost", 4001);
    std::fs::rename(next.0, files.0).unwrap();
    std::fs::rename(next.1, files.1).unwrap();
    mosquitto.resume();
    uplink.list.seal(2, 1000);
    uplink.told("FG-U03").await;
    assert_eq!(uplink.list.freed(), [1], "a broker that nobody vouches for had a batch");

    std::fs::rename(new.file, ca).unwrap();
    uplink.freed(2).await;
    uplink.stop().await;
}

#[tokio::test]
async fn a_batch_over_the_brokers_packet_limit_is_parked_and_named_and_the_rest_passes() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), &format!("{STAY}\nmax_packet_size 20000"));
    let uplink = Running::start(broker(mosquitto.port, "gw-1"));
    uplink.list.seal(1, 1000);
    uplink.list.seal(2, 30_000);
    uplink.list.seal(3, 1000);
    uplink.told("FG-U07").await;
    let standing = uplink.events.standing();
    let notice = &standing.iter().find(|c| c.notice.code.id == "FG-U07").unwrap().notice;
    assert!(notice.what.contains("data/2 (30000 bytes)"), "{notice}");
    uplink.freed(2).await;
    assert_eq!(uplink.list.freed(), [1, 3]);
    assert!(uplink.list.held.lock().unwrap().contains_key(&2), "nothing is given up");
    uplink.stop().await;
}

#[tokio::test]
async fn a_payload_that_mosquitto_throws_away_after_its_acknowledgement_cannot_be_seen() {
    // Holds what the uplink's documentation confesses: MQTT 3.1.1 has no word for it in a PUBACK.
    let folder = tempfile::tempdir().unwrap();
    let extra = format!("{STAY}\nmessage_size_limit 20000");
    let mosquitto = Mosquitto::start(folder.path(), &extra);
    let mut reader = subscriber(&broker(mosquitto.port, "reader")).await;
    let uplink = Running::start(broker(mosquitto.port, "gw-1"));
    for (seq, bytes) in [(1, 1000), (2, 30_000), (3, 1000)] {
        uplink.list.seal(seq, bytes);
    }
    uplink.freed(3).await;
    // Batch 1 may come twice: mosquitto hangs up behind that acknowledgement, too.
    let mut arrived = vec![batch_number(&mut reader).await];
    while arrived.last() != Some(&3) {
        arrived.push(batch_number(&mut reader).await);
    }
    arrived.dedup();
    assert_eq!(arrived, [1, 3]);
    assert_eq!(uplink.list.freed(), [1, 2, 3]);
    uplink.stop().await;
}

#[tokio::test]
async fn a_second_client_of_the_same_name_is_told_as_a_likely_cause() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), STAY);
    let uplink = Running::start(broker(mosquitto.port, "gw-1"));
    until("it is connected", || uplink.link.borrow().connected).await;
    let other = connect(&broker(mosquitto.port, "gw-1"), true).await.unwrap();
    uplink.told("FG-U05").await;
    let notice = uplink.events.standing()[0].notice.to_string();
    assert!(notice.contains("another client uses the identifier gw-1"), "{notice}");
    other.disconnect().await;
    uplink.stop().await;
}

fn store_settings(folder: &Path) -> store::settings::Settings {
    let seal = Seal {
        age_max: Duration::from_secs(3600),
        readings_max: 1000,
        bytes_max: 100_000,
        coding: Coding::Plain,
    };
    store::settings::Settings {
        free_min: 0,
        write: store::settings::Write::Always,
        path: folder.join("buffer.db"),
        keep: Duration::from_secs(86_400),
        bytes_max: 1 << 30,
        commit: Duration::from_secs(1),
        seal,
        gateway: "gw-1".into(),
        config_hash: "c0ffee".into(),
    }
}

#[tokio::test]
async fn a_dead_broker_keeps_its_batches_and_slows_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let alive = Mosquitto::start(folder.path(), STAY);
    let mut dead = Mosquitto::start(folder.path(), STAY);
    dead.stop();
    let points = Arc::<Points>::default();
    let point = points.intern(PointInfo::new("m", "t", "Cel")).unwrap();
    let names = vec!["dead".into(), "alive".into()];
    let clock = Arc::new(System);
    let settings = store_settings(folder.path());
    let events = Events::default();
    let (kept, thread) =
        Store::open_for(names, settings, Arc::clone(&points), clock.clone(), events).unwrap();
    let stop = CancellationToken::new();
    let mut tasks = Vec::new();
    for (place, port) in [dead.port, alive.port].into_iter().enumerate() {
        let settings = uplink_settings(broker(port, "gw-1"));
        let share = kept.share(u8::try_from(place).unwrap());
        let (points, clock) = (Arc::clone(&points), clock.clone());
        let uplink = Uplink::new(settings, share, points, clock, Events::default());
        tasks.push(tokio::spawn(uplink.run(stop.clone())));
    }
    let mut reader = subscriber(&broker(alive.port, "reader")).await;
    for value in 1..=10 {
        let samples = vec![Sample::good(Value::from_i64(value))];
        let at = UnixMillis(1_800_000_000_000 + value);
        kept.append(Group { stream: Stream::Data, at, points: [point].into(), samples });
        kept.flush(true).await.unwrap();
        let batch = decode(&message(&mut reader, "data").await.payload).unwrap();
        assert_eq!(batch.header.sequence, u64::try_from(value).unwrap());
    }
    let waits = |place: usize| kept.status().uplinks[place].shelves[0].batches;
    until("the living has all", || waits(1) == 0).await;
    assert_eq!((waits(0), kept.status().stream(Stream::Data).batches), (10, 10));
    dead.resume();
    until("the other has all", || kept.status().stream(Stream::Data).batches == 0).await;
    stop.cancel();
    for task in tasks {
        task.await.unwrap();
    }
    thread.close();
}

#[tokio::test]
async fn a_session_that_is_not_clean_gets_what_came_while_it_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), STAY);
    let reader = broker(mosquitto.port, "reader");
    let mut session = connect(&reader, false).await.unwrap();
    assert!(!session.session_present());
    session.subscribe(&["fg/1/gw-1/#".to_owned()]).await.unwrap();
    session.disconnect().await;
    let mut writer = connect(&broker(mosquitto.port, "writer"), true).await.unwrap();
    let id = writer.publish("fg/1/gw-1/data", Bytes::from_static(b"x"), false).await.unwrap();
    assert_eq!(writer.next().await, Ok(Incoming::Acknowledged(id)));
    let mut session = connect(&reader, false).await.unwrap();
    assert!(session.session_present());
    assert_eq!(&message(&mut session, "data").await.payload[..], b"x");
}

#[tokio::test]
async fn what_the_store_holds_reaches_a_broker_that_is_killed_and_an_uplink_that_dies() {
    let folder = tempfile::tempdir().unwrap();
    let mut mosquitto = Mosquitto::start(folder.path(), STAY);
    let points = Arc::<Points>::default();
    let point = points.intern(PointInfo::new("m", "t", "Cel")).unwrap();
    let list: Arc<[PointId]> = Arc::new([point]);
    let settings = store_settings(folder.path());
    let clock = Arc::new(System);
    let (kept, thread) =
        Store::open(settings, Arc::clone(&points), clock.clone(), Events::default()).unwrap();
    let port = mosquitto.port;
    let start = || {
        let settings = uplink_settings(broker(port, "gw-1"));
        let (points, clock) = (Arc::clone(&points), clock.clone());
        let uplink = Uplink::new(settings, kept.clone(), points, clock, Events::default());
        tokio::spawn(uplink.run(CancellationToken::new()))
    };
    let mut uplink = start();
    let mut value = 0;
    for round in 0..6 {
        for _ in 0..20 {
            value += 1;
            let samples = vec![Sample::good(Value::from_i64(value))];
            let at = UnixMillis(1_800_000_000_000 + value);
            kept.append(Group { stream: Stream::Data, at, points: Arc::clone(&list), samples });
            kept.flush(true).await.unwrap();
        }
        if round % 2 == 0 {
            mosquitto.stop();
            mosquitto.resume();
        } else {
            uplink.abort();
            uplink = start();
        }
    }
    let drained = || kept.status().stream(Stream::Data).batches == 0;
    until("everything is acknowledged", drained).await;
    // One more, and its number tells how many there were: none was skipped, none is left.
    let mut reader = subscriber(&broker(mosquitto.port, "reader")).await;
    let samples = vec![Sample::good(Value::from_i64(0))];
    let at = UnixMillis(1_800_000_001_000);
    kept.append(Group { stream: Stream::Data, at, points: list, samples });
    kept.flush(true).await.unwrap();
    let last = decode(&message(&mut reader, "data").await.payload).unwrap();
    assert_eq!((last.header.sequence, last.header.lowest_held), (121, 121));
    uplink.abort();
    thread.close();
}
