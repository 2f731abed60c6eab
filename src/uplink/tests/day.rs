//! A day of bad weather in a minute: the real store and the real uplink, on paused time, between a
//! gateway that is killed and a receiver that dies, over a broker that flaps, forgets its session,
//! loses its queue, doubles and reorders. At its end every reading is in the receiver's ledger once,
//! or was never committed, or is counted as dropped, and the ledger alone can say which are missing.
//! The seed stands in every message; `FIELDGATE_SEED` gives another day, `FIELDGATE_HOURS` a longer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rumqttc::{SubAck, SubscribeReasonCode};

use super::*;
use crate::batch::{Coding, RowValue, decode};
use crate::reading::{Group, PointId, PointInfo, Sample, Stream, Value};
use crate::store::settings::Seal;
use crate::store::{Store, StoreThread};

const HOURS: u32 = 24;
const READINGS_A_SECOND: i64 = 2;
/// Batches of this size take a day's worth of outages to reach the quota, and then reach it.
const SEAL_EVERY: u32 = 10;
/// The oldest and youngest time that the clock is set to: thirty years either way.
const YEARS_30: i64 = 30 * 365 * 86_400_000;

/// The same numbers for the same seed (xorshift64, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % bound
    }

    /// Once in `n`.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick(&mut self, range: Range<u32>) -> u32 {
        range.start + u32::try_from(self.below(u64::from(range.end - range.start))).unwrap()
    }
}

/// Polls a future to its end while this thread waits: the store's thread lives in real time, and the
/// paused clock must not run on meanwhile.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
        std::thread::yield_now();
    }
}

/// The store, asked in a way that paused time can bear.
#[derive(Clone)]
struct Patient(Store);

impl Outbox for Patient {
    fn sealed(&self) -> watch::Receiver<u64> {
        Outbox::sealed(&self.0)
    }

    async fn next(
        &self,
        stream: Shelf,
        after: u64,
        count: usize,
    ) -> Result<Vec<Sealed>, Unreadable> {
        wait(Outbox::next(&self.0, stream, after, count))
    }

    fn acknowledge(&self, epoch: u64, stream: Shelf, first: u64, last: u64) {
        Outbox::acknowledge(&self.0, epoch, stream, first, last);
    }

    fn standing(&self) -> Standing {
        Outbox::standing(&self.0)
    }
}

/// What is down, and until which second.
#[derive(Default)]
struct Weather {
    broker: u32,
    receiver: u32,
    disk: u32,
    /// Whether the broker hangs up on whom it talks to.
    hang_up: bool,
}

/// The broker and the receiver behind it, as far as they outlive a connection.
struct Sea {
    dice: Dice,
    weather: Weather,
    /// What the broker has acknowledged and the receiver has not.
    queue: VecDeque<Bytes>,
    /// Acknowledgements of the receiver that wait for the gateway.
    receipts: VecDeque<Bytes>,
    ledger: Ledger,
    second: u32,
    /// The day is over: what is under way arrives.
    calm: bool,
}

/// What a receiver's tables would hold.
#[derive(Default)]
struct Ledger {
    batches: BTreeMap<(u64, &'static str, u64), Bytes>,
    /// `lo` and `dr`, the highest heard of each epoch.
    known: BTreeMap<(u64, &'static str), (u64, u64)>,
    numbers: BTreeSet<i64>,
    repeats: u64,
}

impl Ledger {
    fn take(&mut self, payload: &Bytes) {
        let batch = decode(payload).unwrap();
        let header = &batch.header;
        let st = Stream::named(&header.stream).unwrap().name();
        let key = (header.epoch, st, header.sequence);
        if let Some(before) = self.batches.get(&key) {
            assert_eq!(before, payload, "two payloads under {key:?}");
            self.repeats += 1;
            return;
        }
        self.batches.insert(key, payload.clone());
        let known = self.known.entry((header.epoch, st)).or_default();
        known.0 = known.0.max(header.lowest_held);
        known.1 = known.1.max(header.dropped);
        batch.rows(|row| {
            if let Some(RowValue::Decimal(number)) = row.value {
                assert!(self.numbers.insert(number.digits), "{} came twice", number.digits);
            }
        });
    }

    /// Says what a receiver says on `ack`: one message a sequence.
    fn receipts(&self) -> Vec<Bytes> {
        let mut receipts = Vec::new();
        for ((ep, st), (lo, _)) in &self.known {
            let range = (*ep, *st, 0)..=(*ep, *st, u64::MAX);
            let has: Vec<u64> = self.batches.range(range).map(|((_, _, seq), _)| *seq).collect();
            let (mut holes, mut before) = (Vec::new(), lo.saturating_sub(1));
            for seq in has {
                if seq > before + 1 {
                    holes.push([before + 1, seq - 1]);
                }
                before = before.max(seq);
            }
            let text = serde_json::json!({"ep": ep, "st": st, "upto": before, "holes": holes});
            receipts.push(Bytes::from(text.to_string()));
        }
        receipts
    }

    /// Returns how many batches of an epoch's data are missing below the lowest that its gateway
    /// still held, and how many readings the gateway says it dropped.
    fn gaps(&self, epoch: u64) -> (u64, u64) {
        let Some((lo, dropped)) = self.known.get(&(epoch, "data")) else { return (0, 0) };
        let had = self.batches.range((epoch, "data", 0)..(epoch, "data", *lo)).count() as u64;
        (lo - 1 - had, *dropped)
    }
}

impl Sea {
    /// Lets a second pass on the broker's and the receiver's side.
    fn pass(&mut self, second: u32) {
        self.second = second;
        if !self.calm {
            self.brew(second);
        }
        if self.weather.receiver > second || self.is_down() {
            return;
        }
        for _ in 0..self.queue.len().min(40) {
            let at = usize::try_from(self.dice.below(self.queue.len() as u64)).unwrap();
            let Some(payload) = self.queue.remove(at.min(8)) else { continue };
            self.ledger.take(&payload);
            if !self.calm && self.dice.one_in(200) {
                // Killed between its commit and its PUBACK: the broker sends it again.
                self.queue.push_back(payload);
                self.weather.receiver = second + 5;
                break;
            }
        }
        if second.is_multiple_of(10) {
            self.receipts = self.ledger.receipts().into();
        }
    }

    /// Decides what goes wrong in this second.
    fn brew(&mut self, second: u32) {
        let Self { dice, weather, queue, .. } = self;
        if dice.one_in(400) {
            // Mostly short, now and then for longer than the quota keeps.
            let long = if dice.one_in(12) { 7200 } else { 300 };
            weather.broker = second + dice.pick(1..long);
            if dice.one_in(2) {
                queue.clear();
            }
        }
        weather.hang_up = dice.one_in(150);
        if dice.one_in(700) {
            weather.receiver = second + dice.pick(1..400);
        }
        if dice.one_in(2500) {
            weather.disk = second + dice.pick(1..120);
        }
    }

    fn is_down(&self) -> bool {
        self.weather.broker > self.second
    }

    fn accept(&mut self, payload: Bytes) {
        if self.dice.one_in(100) {
            self.queue.push_back(payload.clone());
        }
        let at = usize::try_from(self.dice.below(4)).unwrap().min(self.queue.len());
        self.queue.insert(self.queue.len() - at, payload);
    }
}

/// The broker, as long as the gateway dials it.
async fn broker(sea: &Mutex<Sea>, peers: &mut mpsc::Receiver<Peer>) {
    while let Some(mut peer) = peers.recv().await {
        if !matches!(peer.next().await, Some(Packet::Connect(_))) {
            continue;
        }
        peer.accept().await;
        serve(sea, &mut peer).await;
    }
}

/// Serves one connection until one side ends it.
async fn serve(sea: &Mutex<Sea>, peer: &mut Peer) {
    let mut subscribed = false;
    let mut id = 0;
    loop {
        if sea.lock().unwrap().is_down() || std::mem::take(&mut sea.lock().unwrap().weather.hang_up)
        {
            return;
        }
        let receipt = if subscribed { sea.lock().unwrap().receipts.pop_front() } else { None };
        if let Some(receipt) = receipt {
            id = id % 1000 + 1;
            let mut publish = Publish::from_bytes("fg/1/gw/ack", QoS::AtLeastOnce, receipt);
            publish.pkid = id;
            peer.send(Packet::Publish(publish)).await;
        }
        let Ok(packet) = timeout(Duration::from_secs(1), peer.next()).await else { continue };
        match packet {
            Some(Packet::Publish(publish)) => {
                let pkid = publish.pkid;
                if !["/status", "/meta"].iter().any(|end| publish.topic.ends_with(end)) {
                    sea.lock().unwrap().accept(publish.payload);
                }
                peer.puback(pkid).await;
            }
            Some(Packet::Subscribe(subscribe)) => {
                let codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
                peer.send(Packet::SubAck(SubAck::new(subscribe.pkid, codes))).await;
                subscribed = true;
            }
            Some(Packet::PingReq) => peer.send(Packet::PingResp).await,
            Some(Packet::PubAck(_)) => {}
            Some(Packet::Disconnect) | None => return,
            other => panic!("unexpected: {other:?}"),
        }
    }
}

/// The gateway's side: what survives it is the folder.
struct Gateway {
    folder: tempfile::TempDir,
    points: Arc<Points>,
    point: PointId,
    clock: Arc<Manual>,
    /// The next number to read, and the first that was not reported as committed.
    next: i64,
    uncommitted: i64,
    /// Numbers that died with a killed gateway before they were committed.
    never_committed: BTreeSet<i64>,
}

impl Gateway {
    fn new() -> Self {
        let points = Arc::<Points>::default();
        let point = points.intern(PointInfo::new("meter", "count", "1")).unwrap();
        Self {
            folder: tempfile::tempdir_in("/dev/shm").unwrap(),
            points,
            point,
            clock: Arc::new(Manual::new(NOW)),
            next: 0,
            uncommitted: 0,
            never_committed: BTreeSet::new(),
        }
    }

    fn open(&self) -> (Store, StoreThread) {
        let settings = crate::store::settings::Settings {
            free_min: 0,
            write: crate::store::settings::Write::Always,
            path: self.folder.path().join("buffer.db"),
            keep: Duration::from_secs(86_400 * 30),
            bytes_max: QUOTA_BYTES,
            commit: Duration::from_secs(3600),
            seal: Seal {
                age_max: Duration::from_secs(36_000),
                readings_max: 5000,
                bytes_max: 64 * 1024,
                coding: Coding::Plain,
            },
            gateway: "gw".into(),
            config_hash: "c0ffee".into(),
        };
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Store::open(settings, Arc::clone(&self.points), clock, Events::default()).unwrap()
    }

    fn read(&mut self, store: &Store) {
        for _ in 0..READINGS_A_SECOND {
            store.append(Group {
                stream: Stream::Data,
                at: self.clock.now(),
                points: [self.point].into(),
                samples: [Sample::good(Value::from_i64(self.next))].into(),
            });
            self.next += 1;
        }
    }

    fn commit(&mut self, store: &Store, seal: bool) {
        if wait(store.flush(seal)).is_ok() {
            self.uncommitted = self.next;
        }
    }
}

/// Bytes that outages of more than half an hour fill.
const QUOTA_BYTES: u64 = (64 + 24) * 4096;

/// Runs one life of the gateway, from a start to a kill or to `until`; returns the second it ended.
async fn live(sea: &Mutex<Sea>, gateway: &mut Gateway, from: u32, until: u32) -> u32 {
    let (store, mut thread) = gateway.open();
    // A start gathers what stands in slots before anything else is done.
    wait(store.flush(false)).unwrap();
    let (sender, mut peers) = mpsc::channel(1);
    let down = Arc::<AtomicBool>::default();
    let pipes =
        Pipes { peers: sender, dialled: Arc::default(), down: Arc::clone(&down), kib: None };
    let settings = Settings {
        name: "cloud".to_owned(),
        gateway: "gw".into(),
        config_hash: "c0ffee".into(),
        labels: Vec::new(),
        broker: script::settings(),
        ack: Ack::Receiver,
        drain: None,
        data_plan: None,
    };
    let uplink = Uplink::new(
        settings,
        Patient(store.clone()),
        Arc::clone(&gateway.points),
        Arc::clone(&gateway.clock) as Arc<dyn Clock>,
        Events::default(),
    );
    let calm = sea.lock().unwrap().calm;
    let mut told = false;
    let river = async {
        for second in from..until {
            sleep(Duration::from_secs(1)).await;
            gateway.clock.advance(Duration::from_secs(1));
            let (disk_refuses, killed, jump) = {
                let mut sea = sea.lock().unwrap();
                sea.pass(second);
                down.store(sea.is_down(), Ordering::Relaxed);
                let jump = sea.dice.one_in(5000).then(|| sea.dice.below(2 * YEARS_30 as u64));
                (sea.weather.disk > second, sea.dice.one_in(4000), jump)
            };
            if let Some(jump) = jump {
                gateway.clock.set(UnixMillis(NOW.0 - YEARS_30 + i64::try_from(jump).unwrap()));
            }
            store.refuse_commits(disk_refuses);
            if calm {
                let waits = store.status().stream(Stream::Data).batches;
                gateway.commit(&store, true);
                if waits == 0 && sea.lock().unwrap().queue.is_empty() {
                    if !told {
                        // What was dropped since the last batch was sealed is told by the next.
                        gateway.read(&store);
                        gateway.commit(&store, true);
                        told = true;
                        continue;
                    }
                    return second + 1;
                }
                continue;
            }
            gateway.read(&store);
            if second.is_multiple_of(3) {
                gateway.commit(&store, second.is_multiple_of(SEAL_EVERY));
            }
            if killed {
                return second + 1;
            }
        }
        until
    };
    let ended = tokio::select! {
        ended = river => ended,
        () = uplink.run_on(&pipes, CancellationToken::new()) => unreachable!("it never ends"),
        () = broker(sea, &mut peers) => unreachable!("somebody dials for ever"),
    };
    thread.kill();
    let lost = gateway.uncommitted..gateway.next;
    gateway.never_committed.extend(lost);
    gateway.uncommitted = gateway.next;
    ended
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |given| given.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_day_of_bad_weather_loses_nothing_doubles_nothing_and_the_ledger_knows_what_is_missing() {
    let seed = number("FIELDGATE_SEED", u64::from(std::process::id()) + 1);
    println!("FIELDGATE_SEED={seed}");
    let end = u32::try_from(number("FIELDGATE_HOURS", HOURS.into())).unwrap() * 3600;
    let sea = Mutex::new(Sea {
        dice: Dice(seed),
        weather: Weather::default(),
        queue: VecDeque::new(),
        receipts: VecDeque::new(),
        ledger: Ledger::default(),
        second: 0,
        calm: false,
    });
    let mut gateway = Gateway::new();
    let (mut second, mut lives) = (0, 0);
    while second < end {
        second = live(&sea, &mut gateway, second, end).await;
        lives += 1;
    }
    {
        let mut sea = sea.lock().unwrap();
        (sea.calm, sea.weather) = (true, Weather::default());
    }
    let ended = live(&sea, &mut gateway, end, end + 4 * 3600).await;
    assert!(ended < end + 4 * 3600, "seed {seed}: the backlog never drained");

    let (store, _thread) = gateway.open();
    let status = store.status();
    let stream = status.stream(Stream::Data);
    let ledger = &sea.lock().unwrap().ledger;
    let missing: BTreeSet<i64> = (0..gateway.next)
        .filter(|n| !ledger.numbers.contains(n) && !gateway.never_committed.contains(n))
        .collect();
    let sealed = stream.seq_next - 1;
    let had = ledger.batches.len() as u64;
    let (lost, dropped) = ledger.gaps(status.epoch);
    println!(
        "{lives} lives, {sealed} batches, {had} arrived, {} repeats, {lost} lost with {} readings, \
         {dropped} dropped, {} never committed",
        ledger.repeats,
        missing.len(),
        gateway.never_committed.len()
    );
    assert_eq!(sealed - had, lost, "seed {seed}: the ledger does not know what is missing");
    assert_eq!(dropped, stream.dropped, "seed {seed}");
    assert_eq!(lost == 0, missing.is_empty(), "seed {seed}");
    assert!(missing.len() as u64 <= dropped, "seed {seed}: {} > {dropped}", missing.len());
    assert!(ledger.repeats > 0 && lives > 1, "seed {seed}: the weather was too good");
}
