//! Uplinks against scripted brokers, on paused time: minutes of back-off take no time at all. The
//! outbox is a plain list, which also keeps the account: what was freed, in which order.

mod day;
mod machine;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rumqttc::{ConnAck, ConnectReturnCode, Packet, Publish, QoS, SubAck, SubscribeReasonCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::clock::Manual;
use crate::events::Weight;
use crate::limits;
use crate::mqtt::script::{self, Peer};
use crate::reading::{PointInfo, UnixMillis};
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
    /// Whether what is sent crawls through a link of 5 KiB/s.
    slow: bool,
}

/// Carries bytes from the client at 5 KiB/s, and back at once.
async fn crawl(near: DuplexStream, far: DuplexStream) {
    let (mut from_client, mut to_client) = tokio::io::split(near);
    let (mut from_broker, mut to_broker) = tokio::io::split(far);
    let up = async {
        let mut some = [0; 1024];
        while let Ok(n @ 1..) = from_client.read(&mut some).await {
            sleep(Duration::from_millis(200)).await;
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
        if self.slow {
            let (fast, middle) = tokio::io::duplex(script::PIPE_BYTES);
            #[allow(clippy::disallowed_methods)] // the link outlives the dialling
            tokio::spawn(crawl(middle, std::mem::replace(&mut near, fast)));
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
    run_on(false, Ack::Broker, script).await
}

async fn run_on(slow: bool, ack: Ack, script: impl AsyncFnOnce(&mut World)) -> Arc<List> {
    let (sender, peers) = mpsc::channel(1);
    let (dialled, down) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let pipes =
        Pipes { peers: sender, dialled: Arc::clone(&dialled), down: Arc::clone(&down), slow };
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

#[tokio::test(start_paused = true)]
async fn batches_go_out_in_order_and_are_freed_by_their_own_puback() {
    let outbox = run(async |world| {
        world.outbox.seal(Shelf::Data, 3);
        world.outbox.seal(Shelf::Event, 1);
        let mut peer = world.accept().await;
        let mut got = Vec::new();
        for _ in 0..4 {
            got.push(batch(&mut peer).await.unwrap());
        }
        let names: Vec<_> = got.iter().map(name).collect();
        assert_eq!(names, ["event/1", "data/1", "data/2", "data/3"]);
        assert!(world.outbox.freed().is_empty(), "freed before it was acknowledged");
        // Out of order, twice, and for what was never sent.
        for publish in [&got[3], &got[3], &got[1]] {
            peer.puback(publish.pkid).await;
        }
        peer.puback(60_000).await;
        peer.puback(got[0].pkid).await;
        peer.puback(got[2].pkid).await;
        world.outbox.until_empty().await;
        // What is sealed later goes out without being asked for.
        world.outbox.seal(Shelf::Data, 1);
        let fourth = batch(&mut peer).await.unwrap();
        peer.puback(fourth.pkid).await;
        world.outbox.until_empty().await;
        let link = *world.link.borrow();
        assert_eq!((link.connected, link.batches, link.readings), (true, 5, 50));
    })
    .await;
    let expected =
        [(Shelf::Data, 3), (Shelf::Data, 1), (Shelf::Event, 1), (Shelf::Data, 2), (Shelf::Data, 4)];
    assert_eq!(outbox.freed(), expected);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_for_an_earlier_connection_free_nothing() {
    let outbox = run(async |world| {
        world.outbox.seal(Shelf::Data, 4);
        let mut peer = world.accept().await;
        let mut old = Vec::new();
        for _ in 0..4 {
            old.push(batch(&mut peer).await.unwrap().pkid);
        }
        drop(peer);
        let mut peer = world.accept().await;
        for id in old {
            peer.puback(id).await;
        }
        let mut again = Vec::new();
        for _ in 0..4 {
            again.push(batch(&mut peer).await.unwrap());
        }
        let quiet = timeout(Duration::from_secs(5), batch(&mut peer)).await;
        assert!(quiet.is_err(), "{quiet:?}");
        assert!(world.outbox.freed().is_empty(), "freed by the acknowledgement of another packet");
        let names: Vec<_> = again.iter().map(name).collect();
        assert_eq!(names, ["data/1", "data/2", "data/3", "data/4"]);
        for publish in again {
            peer.puback(publish.pkid).await;
        }
        world.outbox.until_empty().await;
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=4));
}

#[tokio::test(start_paused = true)]
async fn twenty_forced_disconnects_lose_nothing() {
    let outbox = run(async |world| {
        // Two and a half fit the pipe, so a broker that stops reading stops in the middle of one.
        world.outbox.seal_of(25_000, Shelf::Data, 60);
        world.outbox.seal(Shelf::Own, 5);
        for round in 0..20_u64 {
            let mut peer = world.accept().await;
            let mut last = BTreeMap::new();
            // Ends after some batches, some of them acknowledged.
            for n in 0..round % 7 {
                let publish = batch(&mut peer).await.unwrap();
                let name = name(&publish);
                let (stream, seq) = name.split_once('/').unwrap();
                let seq: u64 = seq.parse().unwrap();
                // The newest goes first beside a backlog of more than a window.
                let before = if seq == 60 { None } else { last.insert(stream.to_owned(), seq) };
                assert!(before.is_none_or(|before| before < seq), "{name} after {before:?}");
                if n % 3 != 1 {
                    peer.puback(publish.pkid).await;
                }
            }
        }
        let mut peer = world.accept().await;
        let rest = async { tokio::join!(world.outbox.until_empty(), acknowledge_all(&mut peer)) };
        let _ = timeout(Duration::from_secs(60), rest).await;
        assert!(world.outbox.held.lock().unwrap().is_empty());
    })
    .await;
    let mut freed = outbox.freed();
    freed.sort_unstable();
    let own = (1..=5).map(|seq| (Shelf::Own, seq));
    let expected: Vec<_> = data(1..=60).into_iter().chain(own).collect();
    assert_eq!(freed, expected, "each freed once");
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_is_told_once_and_is_over_when_it_works() {
    run(async |world| {
        for _ in 0..3 {
            let mut peer = world.peers.recv().await.unwrap();
            peer.connect().await;
            let refusal = ConnAck::new(ConnectReturnCode::BadUserNamePassword, false);
            peer.send(Packet::ConnAck(refusal)).await;
        }
        let mut peer = world.accept().await;
        let standing = world.events.standing();
        assert_eq!(standing.len(), 1);
        assert_eq!((standing[0].count, standing[0].notice.weight), (3, Weight::Error));
        let text = standing[0].notice.to_string();
        let expected = "FG-U02  uplink cloud is refused by the broker broker:1883: \
                        the user name or password is wrong\n";
        assert!(text.starts_with(expected), "{text}");
        let steady = limits::LINK_STEADY_TIME + Duration::from_secs(1);
        let _ = timeout(steady, acknowledge_all(&mut peer)).await;
        assert!(world.standing().is_empty(), "{:?}", world.standing());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_dialled_with_growing_pauses() {
    run(async |world| {
        world.down.store(true, Ordering::Relaxed);
        // The first dial was quicker than this script.
        drop(world.peers.recv().await);
        sleep(Duration::from_secs(3600)).await;
        let dialled = world.dialled.load(Ordering::Relaxed);
        assert!((120..=600).contains(&dialled), "dialled {dialled} times in an hour");
        assert_eq!(world.standing(), ["FG-U01"]);
        world.outbox.seal(Shelf::Data, 2);
        world.down.store(false, Ordering::Relaxed);
        let mut peer = world.accept().await;
        let _ = timeout(Duration::from_secs(15), acknowledge_all(&mut peer)).await;
        assert!(world.standing().is_empty(), "{:?}", world.standing());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn noise_and_lies_end_the_connection_and_nothing_else() {
    let noise: Vec<u8> =
        (0..65_536_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let lies: [&[u8]; 6] = [
        &noise,
        b"\x00\x00",
        &[0x20, 2, 0, 0],
        &[0x30, 0xFF, 0xFF, 0xFF, 0x7F],
        &[0x40, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0x50, 2, 0, 3],
    ];
    let outbox = run(async |world| {
        world.outbox.seal(Shelf::Data, 2);
        for lie in lies {
            let mut peer = world.accept().await;
            batch(&mut peer).await.unwrap();
            peer.raw(lie).await;
            // The client must hang up; what it sent before may still be read.
            while batch(&mut peer).await.is_some() {}
        }
        assert_eq!(world.standing(), ["FG-U05"]);
        assert!(world.outbox.freed().is_empty());
        let mut peer = world.accept().await;
        let _ = timeout(Duration::from_secs(15), acknowledge_all(&mut peer)).await;
        assert!(world.standing().is_empty(), "{:?}", world.standing());
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=2));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_acknowledges_nothing_is_given_up_and_dialled_again() {
    let outbox = run(async |world| {
        world.outbox.seal(Shelf::Data, 2);
        let mut peer = world.accept().await;
        // It answers pings and reads on; only acknowledgements do not come.
        while batch(&mut peer).await.is_some() {}
        // That it answers the next login and takes `status` is no reason to call it over.
        let mut peer = world.accept().await;
        while batch(&mut peer).await.is_some() {}
        let standing = world.events.standing();
        assert_eq!((standing.len(), standing[0].notice.code.id), (1, "FG-U06"));
        assert_eq!(standing[0].count, 2);
        let text = standing[0].notice.to_string();
        assert!(text.contains("for 90 s (2 batches sent)"), "{text}");
        let mut peer = world.accept().await;
        let names = timeout(Duration::from_secs(15), async {
            let mut names = Vec::new();
            while let Some(publish) = batch(&mut peer).await {
                names.push(name(&publish));
                peer.puback(publish.pkid).await;
                if names.len() == 2 {
                    world.outbox.until_empty().await;
                    return names;
                }
            }
            names
        });
        assert_eq!(names.await.unwrap(), ["data/1", "data/2"]);
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=2));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_stalls_after_its_login_is_given_up() {
    let outbox = run(async |world| {
        world.outbox.seal_of(200_000, Shelf::Data, 10);
        let stalled = world.accept().await;
        let mut peer = world.accept().await;
        let text = world.events.standing()[0].notice.to_string();
        assert!(text.contains("the broker took no bytes for 60 s"), "{text}");
        drop(stalled);
        let rest = async { tokio::join!(world.outbox.until_empty(), acknowledge_all(&mut peer)) };
        let _ = timeout(Duration::from_secs(60), rest).await;
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=10));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_the_broker_hangs_up_on_is_parked_and_told_and_does_not_spin() {
    let outbox = run(async |world| {
        world.outbox.seal(Shelf::Data, 4);
        let mut connections = 0_u32;
        let hour = async {
            loop {
                let mut peer = world.peers.recv().await.unwrap();
                peer.connect().await;
                peer.accept().await;
                connections += 1;
                while let Some(publish) = batch(&mut peer).await {
                    if name(&publish) == "data/3" {
                        break;
                    }
                    peer.puback(publish.pkid).await;
                    // Let the acknowledgement arrive before the end does.
                    sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let _ = timeout(Duration::from_secs(3600), hour).await;
        assert!((5..=60).contains(&connections), "{connections} connections in an hour");
        let standing = world.events.standing();
        let notice = &standing.iter().find(|c| c.notice.code.id == "FG-U07").unwrap().notice;
        assert!(notice.what.contains("data/3 (1007 bytes)"), "{notice}");
        assert_eq!(world.outbox.freed(), data([1, 2, 4]));
        let mut peer = world.accept().await;
        let _ = timeout(limits::BATCH_PARKED_TIME, acknowledge_all(&mut peer)).await;
        assert!(world.standing().is_empty(), "{:?}", world.standing());
    })
    .await;
    assert_eq!(outbox.freed(), data([1, 2, 4, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_flapping_link_is_one_condition_with_a_count() {
    run(async |world| {
        for _ in 0..30 {
            let mut peer = world.accept().await;
            world.outbox.seal(Shelf::Data, 1);
            let publish = batch(&mut peer).await.unwrap();
            peer.puback(publish.pkid).await;
            world.outbox.until_empty().await;
        }
        let mut peer = world.accept().await;
        let standing = world.events.standing();
        assert_eq!((standing.len(), standing[0].count), (1, 30));
        let _ = timeout(Duration::from_secs(15), acknowledge_all(&mut peer)).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_answer_is_asked_again() {
    let outbox = run(async |world| {
        world.outbox.seal(Shelf::Data, 2);
        world.outbox.broken.store(true, Ordering::Relaxed);
        let mut peer = world.accept().await;
        let quiet = timeout(Duration::from_secs(30), batch(&mut peer)).await;
        assert!(quiet.is_err(), "{quiet:?}");
        world.outbox.broken.store(false, Ordering::Relaxed);
        let _ = timeout(Duration::from_secs(30), acknowledge_all(&mut peer)).await;
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=2));
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_is_not_taken_for_a_dead_one() {
    let begin = Instant::now();
    let outbox = run_on(true, Ack::Broker, async |world| {
        // Two minutes each, four keep-alives.
        world.outbox.seal_of(600_000, Shelf::Data, 3);
        let mut peer = world.accept().await;
        let rest = async { tokio::join!(world.outbox.until_empty(), acknowledge_all(&mut peer)) };
        let _ = timeout(Duration::from_secs(1200), rest).await;
        assert_eq!(world.dialled.load(Ordering::Relaxed), 1);
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=3));
    assert!(begin.elapsed() > Duration::from_secs(360));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_minutes_does_not_cost_the_connection() {
    let outbox = run(async |world| {
        world.outbox.slow.store(true, Ordering::Relaxed);
        world.outbox.seal(Shelf::Data, 2);
        let mut peer = world.accept().await;
        let rest = async { tokio::join!(world.outbox.until_empty(), acknowledge_all(&mut peer)) };
        let _ = timeout(Duration::from_secs(600), rest).await;
        assert_eq!(world.dialled.load(Ordering::Relaxed), 1);
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=2));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_misses_what_the_broker_had_gets_it_again_and_silence_is_told() {
    let outbox = run_on(false, Ack::Receiver, async |world| {
        world.outbox.seal(Shelf::Data, 3);
        let mut peer = world.peers.recv().await.unwrap();
        peer.connect().await;
        peer.accept().await;
        let Some(Packet::Subscribe(wish)) = peer.next().await else { panic!("no subscription") };
        assert_eq!(wish.filters[0].path, "fg/1/gw-1/ack");
        let granted = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
        peer.send(Packet::SubAck(SubAck::new(wish.pkid, granted))).await;
        let say = async |peer: &mut Peer, word: &[u8]| {
            let message = Publish::new("fg/1/gw-1/ack", QoS::AtMostOnce, word);
            peer.send(Packet::Publish(message)).await;
        };
        let quiet = async |peer: &mut Peer, seconds| {
            let _ = timeout(Duration::from_secs(seconds), acknowledge_all(peer)).await;
        };
        quiet(&mut peer, 900).await;
        assert!(world.outbox.freed().is_empty(), "freed on the broker's word");
        assert_eq!(world.standing(), ["FG-U20"]);
        let word = br#"{"ep":1700000000,"st":"data","upto":3,"holes":[[2,2]]}"#;
        say(&mut peer, word).await;
        assert_eq!(name(&batch(&mut peer).await.unwrap()), "data/2");
        assert!(world.standing().is_empty());
        let word = br#"{"ep":1700000000,"st":"data","upto":3}"#;
        say(&mut peer, word).await;
        world.outbox.until_empty().await;
        assert!(world.link.borrow().last_receipt.is_some());
    })
    .await;
    assert_eq!(outbox.freed(), data([1, 3, 2]));
}

async fn publish_of(peer: &mut Peer, leaf: &str) -> serde_json::Value {
    loop {
        match peer.next().await.unwrap() {
            Packet::Publish(p) => {
                peer.puback(p.pkid).await;
                if p.topic == format!("fg/1/gw-1/{leaf}") {
                    assert!(p.retain && p.qos == QoS::AtLeastOnce);
                    return serde_json::from_slice(&p.payload).unwrap();
                }
            }
            Packet::PingReq => peer.send(Packet::PingResp).await,
            other => panic!("unexpected: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn status_and_meta_are_told_on_connect_and_when_they_have_news() {
    run(async |world| {
        world.outbox.seal(Shelf::Data, 3);
        let info = PointInfo { src: Some("holding 8".into()), ..PointInfo::new("m", "t", "Cel") };
        world.points.intern(info).unwrap();
        let mut peer = world.peers.recv().await.unwrap();
        let connect = peer.connect().await;
        assert!(connect.clean_session);
        let will = connect.last_will.unwrap();
        assert_eq!((will.topic.as_str(), will.retain), ("fg/1/gw-1/status", true));
        assert_eq!(&will.message[..], br#"{"up":false,"why":"lost"}"#);
        peer.accept().await;
        let status = publish_of(&mut peer, "status").await;
        let version = env!("CARGO_PKG_VERSION");
        let expected = serde_json::json!({
            "up": true, "ep": 1_700_000_000, "seq": 3, "lo": 1, "ver": version, "cv": "c0ffee",
            "backlog_s": 90,
        });
        assert_eq!(status, expected);
        let meta = publish_of(&mut peer, "meta").await;
        let expected = serde_json::json!({
            "gw": "gw-1", "ver": version, "cv": "c0ffee", "ep": 1_700_000_000,
            "labels": {"site": "hall-3", "group": ["pumps", "north"]},
            "series": [["m", "t", "Cel", "holding 8"]], "series_count": 1, "rules": [],
        });
        assert_eq!(meta, expected);
        world.points.intern(PointInfo::new("m", "u", "V")).unwrap();
        let meta = publish_of(&mut peer, "meta").await;
        assert_eq!(meta["series"][1], serde_json::json!(["m", "u", "V"]));
        // The backlog is gone: that is news before the minute is over.
        let begin = Instant::now();
        let status = publish_of(&mut peer, "status").await;
        assert_eq!((&status["backlog_s"], &status["lo"]), (&0.into(), &4.into()));
        assert!(begin.elapsed() <= limits::STATUS_LOOK_TIME);
        let begin = Instant::now();
        publish_of(&mut peer, "status").await;
        assert_eq!(begin.elapsed().as_secs(), limits::STATUS_TIME_MAX.as_secs());
        world.clock.set(UnixMillis(0));
        assert_eq!(publish_of(&mut peer, "status").await["backlog_s"], 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_list_of_series_that_does_not_fit_is_told_as_a_number() {
    run(async |world| {
        for n in 0..5000 {
            let info = PointInfo::new(&format!("device-{n}"), "temperature", "Cel");
            world.points.intern(info).unwrap();
        }
        let mut peer = world.accept().await;
        let meta = publish_of(&mut peer, "meta").await;
        assert_eq!((&meta["series_count"], meta.get("series")), (&5000.into(), None));
        assert_eq!(world.standing(), ["FG-U08"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn stopping_says_so_and_disconnects_only_after_the_broker_has_it() {
    run(async |world| {
        let mut peer = world.accept().await;
        assert!(timeout(Duration::from_secs(1), batch(&mut peer)).await.is_err());
        world.stop.cancel();
        let Some(Packet::Publish(last)) = peer.next().await else { panic!("no last status") };
        assert_eq!(&last.payload[..], br#"{"up":false,"why":"stopped"}"#);
        assert!(last.retain && last.qos == QoS::AtLeastOnce);
        let early = timeout(Duration::from_secs(1), peer.next()).await;
        assert!(early.is_err(), "gone before the acknowledgement: {early:?}");
        peer.puback(last.pkid).await;
        assert_eq!(peer.next().await, Some(Packet::Disconnect));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn stopping_is_bounded_when_the_broker_does_not_answer_and_leaves_the_will_to_speak() {
    let begin = Instant::now();
    run(async |world| {
        let mut peer = world.accept().await;
        assert!(timeout(Duration::from_secs(1), batch(&mut peer)).await.is_err());
        world.stop.cancel();
        assert!(matches!(peer.next().await, Some(Packet::Publish(_))));
        assert_eq!(peer.next().await, None, "a goodbye would silence the last will");
    })
    .await;
    assert!(begin.elapsed() < limits::SHUTDOWN_TIME_MAX);
}
