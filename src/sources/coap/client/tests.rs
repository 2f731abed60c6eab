//! A client against a server played by the test, on the loopback interface and in paused time:
//! every answer a device may give, in every order.

use std::net::SocketAddr;

use coap_lite::MessageType;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::super::wire::Block;
use super::*;
use crate::clock;
use crate::events::Events;
use crate::reading::{Points, Value};

/// The played server, and what the client's outlet brought. The client's address is known from
/// its first datagram on.
struct Bench {
    socket: UdpSocket,
    client: SocketAddr,
    groups: mpsc::Receiver<Group>,
    points: Arc<Points>,
    events: Events,
}

/// Runs a client of `mode` and `format` against `play`.
async fn against<F: Future<Output = ()>>(
    (mode, format): (Mode, Format),
    play: impl FnOnce(Bench) -> F,
) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let url = format!("coap://{}/pack?x=1", socket.local_addr().unwrap());
    let (sender, groups) = mpsc::channel(64);
    let points = Arc::new(Points::default());
    let events = Events::default();
    let outlet = Outlet {
        groups: sender,
        points: Arc::clone(&points),
        clock: Arc::new(clock::System),
        events: events.clone(),
    };
    let settings = Client {
        name: "tank".into(),
        url,
        mode,
        format,
        point: "level".into(),
        unit: "m".into(),
        timeout: Duration::from_secs(100),
    };
    let client = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut source = CoapClient::new(settings).unwrap();
    let stop = CancellationToken::new();
    let bench = Bench { socket, client, groups, points, events };
    tokio::select! {
        () = source.run(outlet, stop) => panic!("a source never returns by itself"),
        () = play(bench) => {}
    }
}

impl Bench {
    async fn receive(&mut self) -> Packet {
        let mut buffer = [0; 2000];
        let (length, from) = self.socket.recv_from(&mut buffer).await.unwrap();
        self.client = from;
        Packet::from_bytes(&buffer[..length]).unwrap()
    }

    async fn send(&self, packet: &Packet) {
        self.socket.send_to(&packet.to_bytes().unwrap(), self.client).await.unwrap();
    }

    async fn answer(&self, request: &Packet, code: &str, options: &[(u16, u32)], body: &str) {
        self.send(&reply(request, MessageType::Acknowledgement, code, options, body)).await;
    }

    /// Sends a notification in a message of its own and returns what the client says to it.
    async fn notify(&mut self, register: &Packet, options: &[(u16, u32)], body: &str) -> Packet {
        let mut packet = reply(register, MessageType::Confirmable, "2.05", options, body);
        packet.header.message_id = (random() & 0xffff) as u16;
        self.send(&packet).await;
        let said = self.receive().await;
        assert_eq!(said.header.message_id, packet.header.message_id);
        said
    }

    /// Returns the next group as `device/point unit` with its samples.
    async fn group(&mut self) -> Vec<(String, Sample)> {
        let group = self.groups.recv().await.unwrap();
        let name = |id: &PointId| {
            let info = self.points.info(*id);
            format!("{}/{} {}", info.device, info.point, info.unit)
        };
        group.points.iter().map(name).zip(group.samples).collect()
    }

    fn told(&self) -> Vec<&'static str> {
        self.events.standing().iter().map(|condition| condition.notice.code.id).collect()
    }
}

fn reply(
    request: &Packet,
    kind: MessageType,
    code: &str,
    options: &[(u16, u32)],
    body: &str,
) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.message_id = request.header.message_id;
    packet.set_token(request.get_token().to_vec());
    packet.header.set_code(code);
    for (option, value) in options {
        packet.add_option(CoapOption::from(*option), wire::uint_bytes(*value));
    }
    packet.payload = body.as_bytes().to_vec();
    packet
}

fn number(n: f64) -> Sample {
    Value::from_f64(n).into()
}

fn level(sample: Sample) -> Vec<(String, Sample)> {
    vec![("tank/level m".into(), sample)]
}

const POLL: Mode = Mode::Poll(Duration::from_secs(200));
const OBSERVE: u16 = 6;
const CONTENT_FORMAT: u16 = 12;
const MAX_AGE: u16 = 14;
const BLOCK2: u16 = 23;

#[tokio::test(start_paused = true)]
async fn a_request_without_answer_is_repeated_with_the_same_number_then_given_up() {
    against((POLL, Format::Text), |mut bench| async move {
        let first = bench.receive().await;
        let start = Instant::now();
        assert_eq!(first.get_option(CoapOption::UriPath).unwrap().front().unwrap(), b"pack");
        assert_eq!(first.get_option(CoapOption::UriQuery).unwrap().front().unwrap(), b"x=1");
        let mut gaps = Vec::new();
        let mut last = start;
        for _ in 0..4 {
            assert_eq!(bench.receive().await, first);
            gaps.push(last.elapsed().as_secs_f64());
            last = Instant::now();
        }
        assert!((2.0..=3.1).contains(&gaps[0]), "{gaps:?}");
        assert!(gaps.windows(2).all(|pair| (1.9..2.1).contains(&(pair[1] / pair[0]))), "{gaps:?}");
        assert_eq!(bench.group().await, level(Sample::none(NoData::Timeout)));
        assert!(start.elapsed() <= Duration::from_secs(100));
        assert_eq!(bench.told(), ["FG-P07"]);
        let again = bench.receive().await;
        assert_ne!(again.get_token(), first.get_token());
        bench.answer(&again, "2.05", &[], "1.5").await;
        assert_eq!(bench.group().await, level(number(1.5)));
        assert!(bench.told().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_its_own_is_awaited_and_acknowledged() {
    against((POLL, Format::Auto), |mut bench| async move {
        let request = bench.receive().await;
        let later = wire::empty(MessageType::Acknowledgement, request.header.message_id);
        bench.socket.send_to(&later, bench.client).await.unwrap();
        sleep(Duration::from_secs(50)).await;
        let mut late = reply(&request, MessageType::Confirmable, "2.05", &[], "2.5");
        late.header.message_id = 77;
        bench.send(&late).await;
        let said = bench.receive().await;
        assert_eq!(said.header.get_type(), MessageType::Acknowledgement, "it was asked again");
        assert_eq!(said.header.message_id, 77);
        assert_eq!(bench.group().await, level(number(2.5)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn answers_to_other_requests_are_never_taken() {
    against((POLL, Format::Auto), |mut bench| async move {
        let request = bench.receive().await;
        let mut other = reply(&request, MessageType::Confirmable, "2.05", &[], "9");
        other.set_token(b"stranger".to_vec());
        other.header.message_id = 78;
        bench.send(&other).await;
        assert_eq!(bench.receive().await.header.get_type(), MessageType::Reset);
        let mut old = reply(&request, MessageType::Acknowledgement, "2.05", &[], "9");
        old.header.message_id = request.header.message_id.wrapping_sub(1);
        bench.send(&old).await;
        bench.socket.send_to(b"junk", bench.client).await.unwrap();
        bench.answer(&request, "2.05", &[], "1").await;
        assert_eq!(bench.group().await, level(number(1.0)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn each_failure_has_its_own_absence_and_only_the_present_one_is_told() {
    against((POLL, Format::Auto), |mut bench| async move {
        let pack = r#"{"a":1,"b":{"value":2,"unit":"Cel"}}"#;
        let good = vec![("tank/a m".into(), number(1.0)), ("tank/b Cel".into(), number(2.0))];
        let none = |why| good.iter().map(|(n, _)| (String::clone(n), Sample::none(why))).collect();
        for (code, format, body, want, told) in [
            ("2.05", 50, pack, good.clone(), &[][..]),
            ("4.04", 0, "no such thing", none(NoData::DeviceException), &["FG-P08"]),
            ("5.00", 0, "", none(NoData::DeviceException), &["FG-P08"]),
            ("2.05", 50, "{", none(NoData::Malformed), &["FG-P09"]),
            ("2.05", 41, "<a/>", none(NoData::Malformed), &["FG-P09"]),
            ("2.05", 50, pack, good.clone(), &[]),
        ] {
            let request = bench.receive().await;
            bench.answer(&request, code, &[(CONTENT_FORMAT, format)], body).await;
            let got: Vec<(String, Sample)> = bench.group().await;
            assert_eq!(got, want, "{code} {body}");
            assert_eq!(bench.told(), told, "{code} {body}");
        }
        let request = bench.receive().await;
        let reset = wire::empty(MessageType::Reset, request.header.message_id);
        bench.socket.send_to(&reset, bench.client).await.unwrap();
        let got: Vec<(String, Sample)> = bench.group().await;
        assert_eq!(got, none(NoData::Timeout));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_in_blocks_is_put_together_and_a_wrong_block_spoils_it() {
    against((POLL, Format::Json), |mut bench| async move {
        let body = format!("{{\"a\":{}1}}", " ".repeat(40));
        let part = |num: usize| &body[num * 16..body.len().min(num * 16 + 16)];
        let value = |num, more| {
            let bytes = Block { num, more, exponent: 0 }.bytes();
            bytes.iter().fold(0, |n, byte| n << 8 | u32::from(*byte))
        };
        for last in [2, 1] {
            let first = bench.receive().await;
            bench.answer(&first, "2.05", &[(BLOCK2, value(0, true))], part(0)).await;
            let second = bench.receive().await;
            let asked = Block::read(second.get_first_option(CoapOption::Block2).unwrap()).unwrap();
            assert_eq!((asked.num, asked.exponent), (1, 0));
            bench.answer(&second, "2.05", &[(BLOCK2, value(1, true))], part(1)).await;
            let third = bench.receive().await;
            bench.answer(&third, "2.05", &[(BLOCK2, value(last, false))], part(2)).await;
            let sample = if last == 2 { number(1.0) } else { Sample::none(NoData::Malformed) };
            assert_eq!(bench.group().await, vec![("tank/a m".into(), sample)]);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_without_end_is_given_up_at_the_limit() {
    against((POLL, Format::Text), |mut bench| async move {
        let mut num = 0;
        let full = "x".repeat(1024);
        while bench.groups.is_empty() {
            tokio::select! {
                request = bench.receive() => {
                    let value = num << 4 | 0x8 | 0x6;
                    bench.answer(&request, "2.05", &[(BLOCK2, value)], &full).await;
                    num += 1;
                }
                () = sleep(Duration::from_secs(1)) => {}
            }
        }
        assert_eq!(bench.group().await, level(Sample::none(NoData::Malformed)));
        assert_eq!(num as usize, limits::COAP_BODY_BYTES_MAX / 1024 + 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_promises_blocks_and_sends_none_is_given_up() {
    against((POLL, Format::Text), |mut bench| async move {
        let first = bench.receive().await;
        bench.answer(&first, "2.05", &[(BLOCK2, 0x08)], "0123456789abcdef").await;
        let second = bench.receive().await;
        bench.answer(&second, "2.05", &[(BLOCK2, 0x18)], "").await;
        assert_eq!(bench.group().await, level(Sample::none(NoData::Malformed)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_changes_while_its_blocks_are_fetched_gives_way_to_the_next() {
    against((Mode::Observe, Format::Json), |mut bench| async move {
        let register = bench.receive().await;
        bench.answer(&register, "2.05", &[(OBSERVE, 1)], "1").await;
        assert_eq!(bench.group().await, level(number(1.0)));
        let options = [(OBSERVE, 2), (BLOCK2, 0x08)];
        let mut large = reply(&register, MessageType::NonConfirmable, "2.05", &options, "");
        large.payload = b"2               ".to_vec();
        bench.send(&large).await;
        let second = bench.receive().await;
        let options = [(OBSERVE, 3)];
        bench.send(&reply(&register, MessageType::NonConfirmable, "2.05", &options, "3")).await;
        let etag = 4;
        bench.answer(&second, "2.05", &[(etag, 7), (BLOCK2, 0x10)], " ").await;
        assert_eq!(bench.group().await, level(number(3.0)), "the old body was reported");
        assert!(bench.told().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_old_notification_never_follows_a_newer_one() {
    against((Mode::Observe, Format::Text), |mut bench| async move {
        let register = bench.receive().await;
        assert_eq!(wire::number(&register, CoapOption::Observe), Some(0));
        bench.answer(&register, "2.05", &[(OBSERVE, 10)], "1").await;
        for (sequence, body) in [(12, "3"), (11, "2"), (12, "3"), (13, "4")] {
            let said = bench.notify(&register, &[(OBSERVE, sequence)], body).await;
            assert_eq!(said.header.get_type(), MessageType::Acknowledgement);
        }
        for value in [1.0, 3.0, 4.0] {
            assert_eq!(bench.group().await, level(number(value)));
        }
        assert!(bench.groups.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_asked_again_after_max_age_and_its_silence_is_told() {
    against((Mode::Observe, Format::Text), |mut bench| async move {
        let register = bench.receive().await;
        bench.answer(&register, "2.05", &[(OBSERVE, 10), (MAX_AGE, 20)], "1").await;
        let start = Instant::now();
        let again = bench.receive().await;
        let waited = start.elapsed().as_secs();
        assert!((25..=35).contains(&waited), "{waited} s");
        assert_eq!(again.get_token(), register.get_token());
        assert_eq!(wire::number(&again, CoapOption::Observe), Some(0));
        bench.answer(&again, "2.05", &[(OBSERVE, 2)], "2").await;
        let said = bench.notify(&register, &[(OBSERVE, 3)], "3").await;
        assert_eq!(said.header.get_type(), MessageType::Acknowledgement);
        for value in [1.0, 2.0, 3.0] {
            assert_eq!(bench.group().await, level(number(value)));
        }
        // From now on nobody answers: the registration is repeated and given up.
        assert_eq!(bench.group().await, level(Sample::none(NoData::Timeout)));
        assert_eq!(bench.told(), ["FG-P07"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_error_ends_an_observation_and_another_begins() {
    against((Mode::Observe, Format::Text), |mut bench| async move {
        let register = bench.receive().await;
        bench.answer(&register, "2.05", &[(OBSERVE, 10)], "1").await;
        let mut gone = reply(&register, MessageType::NonConfirmable, "4.04", &[], "gone");
        gone.header.message_id = 1;
        bench.send(&gone).await;
        assert_eq!(bench.group().await, level(number(1.0)));
        assert_eq!(bench.group().await, level(Sample::none(NoData::DeviceException)));
        let again = bench.receive().await;
        assert_ne!(again.get_token(), register.get_token());
        bench.answer(&again, "2.05", &[(OBSERVE, 1)], "2").await;
        assert_eq!(bench.group().await, level(number(2.0)));
        assert!(bench.told().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_an_observation_without_an_error_is_asked_again_a_little_later() {
    against((Mode::Observe, Format::Text), |mut bench| async move {
        let register = bench.receive().await;
        bench.answer(&register, "2.05", &[(OBSERVE, 10)], "1").await;
        bench.notify(&register, &[], "2").await;
        let start = Instant::now();
        let again = bench.receive().await;
        assert!(start.elapsed() >= UNOBSERVED_PAUSE_MIN);
        bench.answer(&again, "2.05", &[(OBSERVE, 1)], "3").await;
        for value in [1.0, 2.0, 3.0] {
            assert_eq!(bench.group().await, level(number(value)));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_observed_is_polled_by_its_max_age() {
    against((Mode::Observe, Format::Text), |mut bench| async move {
        for value in 0..3 {
            let register = bench.receive().await;
            bench.answer(&register, "2.05", &[(MAX_AGE, 30)], &value.to_string()).await;
            assert_eq!(bench.group().await, level(number(value.into())));
        }
        assert_eq!(bench.told(), ["FG-P10"]);
        let register = bench.receive().await;
        bench.answer(&register, "2.05", &[(OBSERVE, 1)], "9").await;
        assert_eq!(bench.group().await, level(number(9.0)));
        bench.notify(&register, &[(OBSERVE, 2)], "10").await;
        assert!(bench.told().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_observer_says_goodbye_to_its_server() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let url = format!("coap://{}/pack", socket.local_addr().unwrap());
    let (groups, _kept) = mpsc::channel(8);
    let outlet = Outlet {
        groups,
        points: Arc::new(Points::default()),
        clock: Arc::new(clock::System),
        events: Events::default(),
    };
    let settings = Client {
        name: "tank".into(),
        url,
        mode: Mode::Observe,
        format: Format::Text,
        point: "level".into(),
        unit: "m".into(),
        timeout: Duration::from_secs(10),
    };
    let mut source = CoapClient::new(settings).unwrap();
    let stop = CancellationToken::new();
    let play = async {
        let mut buffer = [0; 200];
        let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
        let register = Packet::from_bytes(&buffer[..length]).unwrap();
        stop.cancel();
        let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
        let goodbye = Packet::from_bytes(&buffer[..length]).unwrap();
        assert_eq!(goodbye.get_token(), register.get_token());
        assert_eq!(wire::number(&goodbye, CoapOption::Observe), Some(1));
    };
    tokio::join!(source.run(outlet, stop.clone()), play);
}

#[tokio::test(start_paused = true)]
async fn in_a_pack_the_base_name_is_the_device() {
    against((POLL, Format::Senml), |mut bench| async move {
        let request = bench.receive().await;
        let pack = r#"[{"n":"own","v":1},{"bn":"urn:dev:ow:1:","n":"a","u":"Cel","v":2},
                       {"bn":"urn:dev:ow:2","v":3}]"#;
        bench.answer(&request, "2.05", &[], pack).await;
        let names: Vec<_> = bench.group().await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["tank/own m", "urn:dev:ow:1/a Cel", "urn:dev:ow:2/level m"]);
    })
    .await;
}
