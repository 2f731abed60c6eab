//! Whole buses against scripted devices over pipes in memory, in virtual time. In every device here a
//! register holds its own address, so a value that belongs to another register shows itself.
#![allow(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::bus::ModbusBus;
use super::frame::{Framing, sealed};
use super::guard::{Guard, Wire};
use super::link::{Dial, Dialing};
use super::settings::{Bus, Device, Form, Link, Point, Table, WordOrder};
use super::timer::Timer;
use crate::clock::Manual;
use crate::events::Events;
use crate::reading::{Group, NoData, Points, UnixMillis, Value};
use crate::sources::line::LineSettings;
use crate::sources::{Outlet, Source as _};

mod succession;

/// What a device does about its `n`th request (from 0).
enum Act {
    /// Sends these bytes after this many milliseconds.
    Send(u64, Vec<u8>),
    /// Sends them one by one, a millisecond apart.
    Trickle(Vec<u8>),
    /// Sends them so much later and hears further requests meanwhile.
    Meanwhile(u64, Vec<u8>),
    Silence,
    Close,
}

type Script = Arc<dyn Fn(usize, &[u8]) -> Act + Send + Sync>;

/// A request and when it came.
type Asked = (Instant, Vec<u8>);
type Exists = Arc<dyn Fn(usize) -> bool + Send + Sync>;

/// Devices behind a link, and what they saw.
#[derive(Clone)]
struct Far {
    framing: Framing,
    serial: bool,
    script: Script,
    /// Whether the port exists at this attempt to open it.
    exists: Exists,
    dialled: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Far {
    fn new(framing: Framing, serial: bool, script: Script) -> Self {
        Self {
            framing,
            serial,
            script,
            exists: Arc::new(|_| true),
            dialled: Arc::default(),
            asked: Arc::default(),
        }
    }

    fn rtu(script: impl Fn(usize, &[u8]) -> Act + Send + Sync + 'static) -> Self {
        Self::new(Framing::Rtu, true, Arc::new(script))
    }

    fn requests(&self) -> Vec<Vec<u8>> {
        self.asked.lock().unwrap().iter().map(|(_, request)| request.clone()).collect()
    }

    async fn serve(self, near: DuplexStream) {
        let (mut near, there) = tokio::io::split(near);
        let there = Arc::new(tokio::sync::Mutex::new(there));
        let mut request = vec![0; if self.framing == Framing::Rtu { 8 } else { 12 }];
        while near.read_exact(&mut request).await.is_ok() {
            let n = {
                let mut asked = self.asked.lock().unwrap();
                asked.push((Instant::now(), request.clone()));
                asked.len() - 1
            };
            let (after, bytes, chunk) = match (self.script)(n, &request) {
                Act::Send(after, bytes) => (after, bytes, usize::MAX),
                Act::Trickle(bytes) => (1, bytes, 1),
                Act::Meanwhile(after, bytes) => {
                    let there = Arc::clone(&there);
                    tokio::spawn(async move {
                        sleep(Duration::from_millis(after)).await;
                        there.lock().await.write_all(&bytes).await
                    });
                    continue;
                }
                Act::Silence => continue,
                Act::Close => return,
            };
            for bytes in bytes.chunks(chunk) {
                sleep(Duration::from_millis(after)).await;
                if there.lock().await.write_all(bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Dial for Far {
    fn dial(&self) -> Dialing {
        let far = self.clone();
        Box::pin(async move {
            if !(far.exists)(far.dialled.fetch_add(1, Ordering::Relaxed)) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let (near, there) = tokio::io::duplex(100_000);
            tokio::spawn(far.serve(there));
            Ok(Box::new(near) as Box<dyn Wire>)
        })
    }

    fn guard(&self) -> Guard {
        if self.serial {
            Guard::serial(LineSettings::DEFAULT, Timer::Coarse)
        } else {
            Guard::network(self.framing)
        }
    }
}

/// The right answer: every register holds its address.
fn right(request: &[u8]) -> Vec<u8> {
    if request.len() == 12 {
        let pdu = pdu(&request[6..]);
        let length = u16::try_from(pdu.len()).unwrap().to_be_bytes();
        return [&request[..4], &length[..], &pdu[..]].concat();
    }
    sealed(&pdu(request))
}

/// Unit, function, count, registers.
fn pdu(request: &[u8]) -> Vec<u8> {
    let address = u16::from_be_bytes([request[2], request[3]]);
    let count = u16::from_be_bytes([request[4], request[5]]);
    let mut pdu = vec![request[0], request[1], u8::try_from(2 * count).unwrap()];
    (address..address + count).for_each(|register| pdu.extend(register.to_be_bytes()));
    pdu
}

fn exception(request: &[u8], code: u8) -> Vec<u8> {
    sealed(&[request[0], request[1] | 0x80, code])
}

fn range(request: &[u8]) -> (u16, u16) {
    let address = u16::from_be_bytes([request[2], request[3]]);
    (address, address + u16::from_be_bytes([request[4], request[5]]) - 1)
}

fn device(id: u8, every_ms: u64, addresses: &[u16]) -> Device {
    let point = |address: &u16| Point {
        name: format!("r{address}").into(),
        table: Table::Holding,
        address: *address,
        form: Form::U16,
        order: WordOrder::Abcd,
        scale: 1.0,
        offset: 0.0,
        decimals: None,
        unit: "".into(),
        every: Duration::from_millis(every_ms),
    };
    Device {
        name: format!("d{id}").into(),
        id,
        timeout: Duration::from_millis(100),
        pause: Duration::ZERO,
        gap_max: 4,
        registers_max: 125,
        points: addresses.iter().map(point).collect(),
    }
}

struct Seen {
    groups: Vec<Group>,
    events: Events,
    points: Arc<Points>,
}

impl Seen {
    /// Returns what each poll of `device/point` gave, and fails when any value is not its address.
    fn of(&self, device: &str, point: &str) -> Vec<Result<i64, NoData>> {
        let mut all = Vec::new();
        for reading in self.groups.iter().flat_map(Group::readings) {
            let info = self.points.info(reading.point);
            if *info.device == *device && *info.point == *point {
                all.push(reading.sample.value.map(|value| match value {
                    Value::Decimal(decimal) => decimal.digits,
                    other => panic!("{other:?} is no integer"),
                }));
            }
        }
        all
    }

    /// Counts good values, and fails when one is not its register's.
    fn good(&self) -> usize {
        let mut good = 0;
        for reading in self.groups.iter().flat_map(Group::readings) {
            if let Ok(Value::Decimal(decimal)) = reading.sample.value {
                let name = self.points.info(reading.point).point.to_string();
                assert_eq!(format!("r{}", decimal.digits), name, "a value of another register");
                good += 1;
            }
        }
        good
    }

    fn standing(&self) -> Vec<String> {
        self.events.standing().iter().map(|condition| condition.notice.to_string()).collect()
    }
}

/// A bus over what `far` serves, not running yet.
fn bus(far: &Far, devices: Vec<Device>, points: &Points) -> ModbusBus {
    let link = if far.serial {
        Link::Rtu(crate::sources::line::SerialLine {
            name: "rs485-1".into(),
            path: "/dev/ttyUSB0".into(),
            line: LineSettings::DEFAULT,
        })
    } else {
        Link::Tcp { host: "10.0.0.9".into(), port: 502 }
    };
    let settings = Bus { name: "rs485-1".into(), link, devices };
    ModbusBus::over(settings, points, Arc::new(far.clone())).unwrap()
}

/// Runs a bus for `lasting` of virtual time.
async fn run(far: &Far, devices: Vec<Device>, lasting: Duration) -> Seen {
    let points = Arc::new(Points::default());
    let mut bus = bus(far, devices, &points);
    let seen = run_on(&mut bus, points, Events::default(), lasting).await;
    drop(bus);
    seen
}

async fn run_on(
    bus: &mut ModbusBus,
    points: Arc<Points>,
    events: Events,
    lasting: Duration,
) -> Seen {
    let (groups, mut taken) = mpsc::channel(100_000);
    let outlet = Outlet {
        groups,
        points: Arc::clone(&points),
        clock: Arc::new(Manual::new(UnixMillis(0))),
        events: events.clone(),
    };
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    tokio::join!(bus.run(outlet, stop), async move {
        sleep(lasting).await;
        stopper.cancel();
    });
    let mut all = Vec::new();
    while let Ok(group) = taken.try_recv() {
        all.push(group);
    }
    Seen { groups: all, events, points }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Delays that look random, in milliseconds: two in three below the timeout of 100, one up to four
/// times that.
fn unsteady(n: usize) -> u64 {
    let random = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    if random.is_multiple_of(3) { 100 + random / 3 % 300 } else { random / 3 % 80 }
}

/// Registers too far apart to be merged: every request has the same shape.
const APART: [u16; 6] = [16, 32, 48, 64, 80, 96];

#[tokio::test(start_paused = true)]
async fn late_answer_is_never_returned_for_another_register() {
    for (framing, serial) in [(Framing::Rtu, true), (Framing::Rtu, false), (Framing::Mbap, false)] {
        let script: Script = Arc::new(|n, request| Act::Send(unsteady(n), right(request)));
        let far = Far::new(framing, serial, script);
        let seen = run(&far, vec![device(7, 200, &APART)], secs(1800)).await;
        let good = seen.good();
        assert!(good > 1000, "{framing:?} serial {serial}: only {good} readings came");
    }
}

#[tokio::test(start_paused = true)]
async fn late_answers_out_of_order_are_never_believed_either() {
    let unordered: Script = Arc::new(|n, request| Act::Meanwhile(unsteady(n), right(request)));
    let far = Far::new(Framing::Rtu, true, unordered);
    let seen = run(&far, vec![device(7, 200, &APART), device(8, 200, &[16, 32])], secs(1800)).await;
    let good = seen.good();
    assert!(good > 1000, "only {good} readings came");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_gives_no_register_more_is_believed_after_a_quarantine() {
    let far = Far::rtu(|n, request| match (n, range(request)) {
        (1, _) => Act::Silence,
        (_, (first, last)) if first != last => Act::Send(5, exception(request, 2)),
        _ => Act::Send(5, right(request)),
    });
    let seen = run(&far, vec![device(7, 1000, &[16])], Duration::from_millis(3500)).await;
    assert_eq!(seen.of("d7", "r16"), [Ok(16), Err(NoData::Timeout), Ok(16), Ok(16)]);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_always_one_answer_behind_is_never_believed() {
    // The reproduced fault: after one missed answer every answer is the one to the question before.
    let last: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let far = Far::rtu(move |_, request| match last.lock().unwrap().replace(right(request)) {
        Some(answer) => Act::Send(5, answer),
        None => Act::Silence,
    });
    let seen = run(&far, vec![device(7, 200, &[16, 32])], secs(3)).await;
    let first = seen.groups.first().unwrap();
    assert!(first.samples.iter().all(|sample| sample.value.is_err()), "{first:?}");
    seen.good();
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_fit_are_malformed_and_the_next_poll_is_right() {
    type Spoil = fn(&[u8]) -> Vec<u8>;
    let spoil: [(&str, Spoil); 8] = [
        ("FG-M07", |r| sealed(&[9, r[1], 2, 0, 1])),
        ("FG-M07", |r| sealed(&[r[0], 4, 2, 0, 1])),
        ("FG-M07", |r| sealed(&[r[0], r[1], 4, 0, 1, 0, 2])),
        ("FG-M07", |r| [right(r), right(r)].concat()),
        ("FG-M06", |r| {
            let mut answer = right(r);
            answer[3] ^= 0x40;
            answer
        }),
        ("FG-M06", |r| right(r)[..5].to_vec()),
        ("FG-M06", |_| b"\x07\x03garbage that is no frame at all".to_vec()),
        ("FG-M06", |_| vec![0x55; 64 * 1024]),
    ];
    for (index, (code, spoil)) in spoil.into_iter().enumerate() {
        let far = Far::rtu(move |n, request| {
            Act::Send(3, if n == 0 { spoil(request) } else { right(request) })
        });
        let seen = run(&far, vec![device(7, 1000, &[16])], Duration::from_millis(500)).await;
        assert_eq!(seen.of("d7", "r16"), [Err(NoData::Malformed)], "case {index}");
        let told = seen.standing();
        assert!(told.len() == 1 && told[0].starts_with(code), "case {index}: {told:?}");

        let far = Far { asked: Arc::default(), ..far };
        let seen = run(&far, vec![device(7, 1000, &[16])], Duration::from_millis(9500)).await;
        let values = seen.of("d7", "r16");
        assert_eq!(values.last(), Some(&Ok(16)), "case {index}: {values:?}");
        assert!(
            values.iter().filter(|value| value.is_ok()).count() >= 5,
            "case {index}: {values:?}"
        );
        assert!(seen.standing().is_empty(), "case {index}: {:?}", seen.standing());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_come_byte_by_byte() {
    let far = Far::rtu(|_, request| Act::Trickle(right(request)));
    let seen = run(&far, vec![device(7, 1000, &[16, 17, 18])], Duration::from_millis(2500)).await;
    assert_eq!(seen.good(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_has_none_of_its_registers_is_not_said_to_have_others() {
    let far = Far::rtu(|_, request| Act::Send(3, exception(request, 2)));
    let seen = run(&far, vec![device(7, 1000, &[12])], Duration::from_millis(2500)).await;
    let told = seen.standing();
    assert!(told.len() == 1 && told[0].contains("there is no other point"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn registers_a_device_does_not_have_are_cut_out_and_the_rest_goes_on() {
    // Register 12 is illegal, and so is the gap 20..=22 that merging reads along.
    let illegal = [12, 20, 21, 22];
    let far = Far::rtu(move |_, request| {
        let (first, last) = range(request);
        let bad = illegal.iter().any(|address| (first..=last).contains(address));
        Act::Send(3, if bad { exception(request, 2) } else { right(request) })
    });
    let addresses = [10, 11, 12, 13, 19, 23, 24];
    let seen = run(&far, vec![device(7, 1000, &addresses)], Duration::from_millis(5500)).await;
    assert_eq!(seen.groups.len(), 6);
    for address in addresses {
        let expected = if address == 12 { Err(NoData::Configuration) } else { Ok(address.into()) };
        assert_eq!(seen.of("d7", &format!("r{address}")), [expected; 6], "register {address}");
    }
    let told = seen.standing();
    assert!(told.len() == 1 && told[0].contains("d7) does not have holding 12\n"), "{told:?}");
    assert!(told[0].contains("its other points are read normally"), "{told:?}");
    let ranges: Vec<_> = far.requests().iter().map(|request| range(request)).collect();
    let settled: Vec<_> = ranges[ranges.len() - 4..].to_vec();
    assert_eq!(settled, [(10, 11), (13, 13), (19, 19), (23, 24)], "{ranges:?}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_device_is_told_once_and_its_readings_say_exception() {
    let far = Far::rtu(|n, request| {
        Act::Send(3, if n < 3 { exception(request, 6) } else { right(request) })
    });
    let seen = run(&far, vec![device(7, 1000, &[16])], Duration::from_millis(2500)).await;
    assert_eq!(seen.of("d7", "r16"), [Err(NoData::DeviceException); 3]);
    let told = seen.standing();
    let text = "FG-M04  bus rs485-1: device 7 (d7) answers exception 6 to holding 16: it is busy";
    assert!(told.len() == 1 && told[0].starts_with(text), "{told:?}");
    let far = Far { asked: Arc::default(), ..far };
    let seen = run(&far, vec![device(7, 1000, &[16])], Duration::from_millis(4500)).await;
    assert_eq!(seen.of("d7", "r16").last(), Some(&Ok(16)));
    assert!(seen.standing().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_dead_device_of_five_leaves_the_others_their_polls() {
    let far = Far::rtu(|_, request| match request[0] {
        3 => Act::Silence,
        _ => Act::Send(20, right(request)),
    });
    // 5 devices at 5 Hz and about 25 ms a poll: the bus is busy to 60 %.
    let devices = (1..=5).map(|id| device(id, 200, &[16])).collect();
    let seen = run(&far, devices, secs(120)).await;
    for id in [1, 2, 4, 5] {
        let good = seen.of(&format!("d{id}"), "r16").iter().filter(|value| value.is_ok()).count();
        assert!(good >= 570, "device {id} had {good} of 600 polls");
    }
    let dead = seen.of("d3", "r16");
    assert!(dead.len() >= 570, "the dead one still reports: {}", dead.len());
    assert!(dead.iter().all(|value| *value == Err(NoData::Timeout)));
    let asked = far.requests().iter().filter(|request| request[0] == 3).count();
    assert!(asked < 20, "it was asked {asked} times");
    let told = seen.standing();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("FG-M03  bus rs485-1: device 3 (d3) has not answered for"));
    assert!(told[0].contains("Other devices on this bus answer normally"), "{}", told[0]);
}

#[tokio::test(start_paused = true)]
async fn a_device_is_back_within_one_probe() {
    let start = Instant::now();
    let far = Far::rtu(move |_, request| {
        if start.elapsed() < secs(20) { Act::Silence } else { Act::Send(5, right(request)) }
    });
    let seen = run(&far, vec![device(7, 1000, &[16, 17])], secs(60)).await;
    let values = seen.of("d7", "r16");
    let back = values.iter().position(Result::is_ok).unwrap();
    let asked = far.asked.lock().unwrap();
    let first_answered = asked.iter().find(|(at, _)| *at - start >= secs(20)).unwrap().0 - start;
    assert_eq!(back as u64, first_answered.as_secs(), "the first probe after its return brings it");
    assert!(values[back..].iter().all(|value| *value == Ok(16)), "{values:?}");
    assert!(seen.standing().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_block_that_is_never_answered_does_not_make_the_device_dead() {
    let far = Far::rtu(|_, request| match range(request) {
        (32, _) => Act::Silence,
        _ => Act::Send(5, right(request)),
    });
    let seen = run(&far, vec![device(7, 1000, &[16, 32, 48])], secs(60)).await;
    for name in ["r16", "r48"] {
        assert!(seen.of("d7", name).iter().all(Result::is_ok), "{name}");
    }
    assert!(seen.of("d7", "r32").iter().all(|value| *value == Err(NoData::Timeout)));
    let asked = far.requests().iter().filter(|request| range(request).0 == 32).count();
    assert!(asked < 20, "the silent block was asked {asked} times in 60 polls");
}

#[tokio::test(start_paused = true)]
async fn a_port_that_vanishes_is_opened_again_and_its_points_report_meanwhile() {
    let mut far =
        Far::rtu(move |n, request| if n == 3 { Act::Close } else { Act::Send(5, right(request)) });
    far.exists = Arc::new(|attempt| attempt == 0);
    let seen = run(&far, vec![device(7, 1000, &[16])], Duration::from_millis(8500)).await;
    let told = seen.standing();
    let lost = "FG-M01  bus rs485-1 lost /dev/ttyUSB0 while it was in use";
    assert!(told.len() == 1 && told[0].starts_with(lost), "{told:?}");

    let exists: Exists = Arc::new(|attempt| attempt == 0 || attempt > 4);
    let far = Far { asked: Arc::default(), dialled: Arc::default(), exists, ..far };
    let seen = run(&far, vec![device(7, 1000, &[16])], Duration::from_millis(29_500)).await;
    let values = seen.of("d7", "r16");
    assert_eq!(values.len(), 30, "a reading for every cycle");
    let gone = values.iter().filter(|value| **value == Err(NoData::Timeout)).count();
    assert!((3..=15).contains(&gone), "{values:?}");
    assert!(values[values.len() - 10..].iter().all(Result::is_ok), "{values:?}");
    assert!(seen.standing().is_empty(), "{:?}", seen.standing());
}

#[tokio::test(start_paused = true)]
async fn a_tcp_timeout_ends_the_connection_and_the_next_begins_at_once() {
    let script: Script = Arc::new(|n, request| match n {
        2 => Act::Silence,
        _ => Act::Send(5, right(request)),
    });
    let far = Far::new(Framing::Mbap, false, script);
    let seen = run(&far, vec![device(1, 1000, &[16])], Duration::from_millis(5500)).await;
    let timeout = Err(NoData::Timeout);
    assert_eq!(seen.of("d1", "r16"), [Ok(16), Ok(16), timeout, Ok(16), Ok(16), Ok(16)]);
    assert_eq!(far.dialled.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_closed_while_idle_costs_no_reading() {
    let script: Script = Arc::new(|n, request| match n {
        1 => Act::Close,
        _ => Act::Send(5, right(request)),
    });
    let far = Far::new(Framing::Mbap, false, script);
    let seen = run(&far, vec![device(1, 1000, &[16])], Duration::from_millis(3500)).await;
    assert_eq!(seen.of("d1", "r16"), [Ok(16); 4]);
}

#[tokio::test(start_paused = true)]
async fn missed_cycles_are_skipped_never_made_up() {
    let far = Far::rtu(|_, request| Act::Send(80, right(request)));
    let seen = run(&far, vec![device(7, 10, &[16])], secs(10)).await;
    let asked: Vec<Instant> = far.asked.lock().unwrap().iter().map(|(at, _)| *at).collect();
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(80)));
    assert!((110..=125).contains(&asked.len()), "the bus is used fully: {}", asked.len());
    assert!(seen.standing()[0].starts_with("FG-M08  bus rs485-1 cannot keep up"));
}

#[tokio::test(start_paused = true)]
async fn everything_is_read_at_once_and_then_in_its_period() {
    let start = Instant::now();
    let far = Far::rtu(|_, request| Act::Send(5, right(request)));
    let devices = (1..=4).map(|id| device(id, 60_000, &[16])).collect();
    let seen = run(&far, devices, secs(150)).await;
    let mut polls: HashMap<u8, Vec<Duration>> = HashMap::new();
    for (at, request) in far.asked.lock().unwrap().iter() {
        polls.entry(request[0]).or_default().push(*at - start);
    }
    for (id, at) in polls {
        assert_eq!(at.len(), 3, "device {id}: {at:?}");
        assert!(at[0] < Duration::from_millis(100), "device {id}: {at:?}");
        assert!(at[2] - at[1] >= secs(59) && at[2] - at[1] <= secs(61), "device {id}: {at:?}");
    }
    let lists: Vec<_> =
        seen.groups.iter().filter(|group| group.points == seen.groups[0].points).collect();
    assert!(lists.iter().all(|group| Arc::ptr_eq(&group.points, &seen.groups[0].points)));
}
