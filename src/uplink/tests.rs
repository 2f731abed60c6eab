//! Uplinks against scripted brokers, on paused time: minutes of back-off take no time at all. The
//! outbox is a plain list, which also keeps the account: what was freed, in which order.

mod brokers;
mod day;
mod machine;
mod passage;
mod slowness;
mod told;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rumqttc::{Packet, Publish, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::clock::Manual;
use crate::limits;
use crate::mqtt::script::{self, Peer};
use crate::reading::UnixMillis;
use crate::store::Shelf;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// The other outbox.
#[derive(Default)]
struct List {
    held: Mutex<BTreeMap<(Shelf, u64), Sealed>>,
    newest: Mutex<[u64; Shelf::COUNT]>,
    freed: Mutex<Vec<(Shelf, u64)>>,
    sealed: watch::Sender<u64>,
    broken: AtomicBool,
    slow: AtomicBool,
}

impl List {
    /// Seals `count` batches of `stream` with payloads of 1,000 bytes that name them.
    fn seal(&self, stream: Shelf, count: u64) {
        self.seal_of(1000, stream, count);
    }

    fn seal_of(&self, bytes: usize, stream: Shelf, count: u64) {
        for _ in 0..count {
            let mut newest = self.newest.lock().unwrap();
            newest[stream as usize] += 1;
            let seq = newest[stream as usize];
            let payload = Bytes::from(format!("{}/{seq} {}", stream.name(), "x".repeat(bytes)));
            let batch = Sealed { seq, readings: 10, payload };
            self.held.lock().unwrap().insert((stream, seq), batch);
        }
        self.sealed.send_modify(|n| *n += 1);
    }

    fn freed(&self) -> Vec<(Shelf, u64)> {
        self.freed.lock().unwrap().clone()
    }

    async fn until_empty(&self) {
        while !self.held.lock().unwrap().is_empty() {
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Outbox for Arc<List> {
    fn sealed(&self) -> watch::Receiver<u64> {
        self.sealed.subscribe()
    }

    async fn next(
        &self,
        stream: Shelf,
        after: u64,
        count: usize,
    ) -> Result<Vec<Sealed>, Unreadable> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(Unreadable);
        }
        if self.slow.load(Ordering::Relaxed) {
            sleep(Duration::from_secs(120)).await;
        }
        let held = self.held.lock().unwrap();
        let range = held.range((stream, after + 1)..=(stream, u64::MAX));
        Ok(range.take(count).map(|(_, batch)| batch.clone()).collect())
    }

    fn acknowledge(&self, _epoch: u64, stream: Shelf, first: u64, last: u64) {
        let mut held = self.held.lock().unwrap();
        let through: Vec<_> =
            held.range((stream, first)..=(stream, last)).map(|(key, _)| *key).collect();
        held.retain(|key, _| !through.contains(key));
        self.freed.lock().unwrap().extend(through);
    }

    fn standing(&self) -> Standing {
        let (held, newest) = (self.held.lock().unwrap(), self.newest.lock().unwrap());
        let streams = Shelf::ALL.map(|stream| {
            let first = held.keys().find(|(s, _)| *s == stream);
            let newest = newest[stream as usize];
            Waiting {
                newest,
                lo: first.map_or(newest + 1, |(_, seq)| *seq),
                oldest: first.map(|_| UnixMillis(NOW.0 - 90_000)),
            }
        });
        Standing { epoch: 1_700_000_000, streams }
    }
}

/// The other network: hands the broker's end of each dialled wire to the test.
struct Pipes {
    peers: mpsc::Sender<Peer>,
    dialled: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
    /// How long the link takes for a KiB of what is sent, when that is to be seen.
    kib: Option<Duration>,
}

/// Carries bytes from the client, a KiB in this time, and back at once.
async fn crawl(near: DuplexStream, far: DuplexStream, kib: Duration) {
    let (mut from_client, mut to_client) = tokio::io::split(near);
    let (mut from_broker, mut to_broker) = tokio::io::split(far);
    let up = async {
        let mut some = [0; 1024];
        while let Ok(n @ 1..) = from_client.read(&mut some).await {
            sleep(kib).await;
            let _ = to_broker.write_all(&some[..n]).await;
        }
        let _ = to_broker.shutdown().await;
    };
    let _ = tokio::join!(up, tokio::io::copy(&mut from_broker, &mut to_client));
}

impl Dial for Pipes {
    async fn dial(&self, broker: &Broker) -> Result<Session, ConnectError> {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        if self.down.load(Ordering::Relaxed) {
            return Err(ConnectError::Refused("192.0.2.1:1883".parse().unwrap()));
        }
        let (mut near, peer) = script::wire();
        if let Some(kib) = self.kib {
            let (fast, middle) = tokio::io::duplex(script::PIPE_BYTES);
            #[allow(clippy::disallowed_methods)] // the link outlives the dialling
            tokio::spawn(crawl(middle, std::mem::replace(&mut near, fast), kib));
        }
        self.peers.send(peer).await.unwrap();
        timeout(limits::MQTT_CONNECT_TIME_MAX, Session::open(Box::new(near), broker, true))
            .await
            .unwrap_or(Err(ConnectError::Silent(mqtt::Step::Login)))
    }
}

/// What a test's script sees of the world.
struct World {
    outbox: Arc<List>,
    peers: mpsc::Receiver<Peer>,
    dialled: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
    events: Events,
    link: watch::Receiver<LinkState>,
    points: Arc<Points>,
    clock: Arc<Manual>,
    stop: CancellationToken,
}

/// Runs an uplink beside a script, stops it at the script's end, and returns the list.
async fn run(script: impl AsyncFnOnce(&mut World)) -> Arc<List> {
    run_on(None, Ack::Broker, script).await
}

async fn run_on(
    kib: Option<Duration>,
    ack: Ack,
    script: impl AsyncFnOnce(&mut World),
) -> Arc<List> {
    let (sender, peers) = mpsc::channel(1);
    let (dialled, down) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let pipes =
        Pipes { peers: sender, dialled: Arc::clone(&dialled), down: Arc::clone(&down), kib };
    let settings = Settings {
        name: "cloud".to_owned(),
        gateway: "gw-1".into(),
        config_hash: "c0ffee".into(),
        labels: ["site=hall-3", "group=pumps", "group=north"]
            .map(|l| l.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap())
            .to_vec(),
        broker: script::settings(),
        ack,
        drain: None,
        data_plan: None,
    };
    let (outbox, points) = (Arc::<List>::default(), Arc::<Points>::default());
    let (events, clock) = (Events::default(), Arc::new(Manual::new(NOW)));
    let uplink = Uplink::new(
        settings,
        Arc::clone(&outbox),
        Arc::clone(&points),
        Arc::clone(&clock) as Arc<dyn Clock>,
        events.clone(),
    );
    let stop = CancellationToken::new();
    let link = uplink.link();
    let mut world = World {
        outbox: Arc::clone(&outbox),
        peers,
        dialled,
        down,
        events,
        link,
        points,
        clock,
        stop: stop.clone(),
    };
    let scripted = async {
        script(&mut world).await;
        world.stop.cancel();
        // A script that is done reads no more; the uplink must stop all the same.
        drop(world);
    };
    let both = async { tokio::join!(uplink.run_on(&pipes, stop), scripted) };
    timeout(Duration::from_secs(24 * 3600), both).await.expect("the script never came to its end");
    outbox
}

impl World {
    /// Takes the next connection and accepts its login.
    async fn accept(&mut self) -> Peer {
        let mut peer = self.peers.recv().await.unwrap();
        peer.connect().await;
        peer.accept().await;
        peer
    }

    fn standing(&self) -> Vec<&'static str> {
        self.events.standing().iter().map(|c| c.notice.code.id).collect()
    }
}

/// Returns the next batch; acknowledges `status` and `meta`, answers pings. `None` at the end.
async fn batch(peer: &mut Peer) -> Option<Publish> {
    loop {
        match peer.next().await? {
            Packet::Publish(p) if p.topic.ends_with("/status") || p.topic.ends_with("/meta") => {
                peer.puback(p.pkid).await;
            }
            Packet::Publish(p) => return Some(p),
            Packet::PingReq => peer.send(Packet::PingResp).await,
            Packet::Disconnect => return None,
            other => panic!("unexpected: {other:?}"),
        }
    }
}

/// Acknowledges whatever comes until the client goes; returns the batches' names.
async fn acknowledge_all(peer: &mut Peer) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(publish) = batch(peer).await {
        names.push(name(&publish));
        peer.puback(publish.pkid).await;
    }
    names
}

/// Returns the name that a batch bears in its payload, which is also where its topic puts it.
fn name(publish: &Publish) -> String {
    let text = std::str::from_utf8(&publish.payload).unwrap();
    let name = text.split_once(' ').unwrap().0.to_owned();
    let stream = name.split_once('/').unwrap().0;
    assert_eq!(publish.topic, format!("fg/1/gw-1/{stream}"));
    assert_eq!((publish.qos, publish.retain), (QoS::AtLeastOnce, false));
    name
}

fn data(seqs: impl IntoIterator<Item = u64>) -> Vec<(Shelf, u64)> {
    seqs.into_iter().map(|seq| (Shelf::Data, seq)).collect()
}
