//! Tables of datagrams: what goes in, what comes back, which readings come out.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::clock::{Clock, Manual};
use crate::events::Events;
use crate::reading::{NoData, Points, Sample, UnixMillis, Value};

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

/// A server without a socket, and both ends of its outlet.
struct Bench {
    server: Server,
    outlet: Outlet,
    groups: mpsc::Receiver<Group>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(&[], 64)
    }

    fn with(allow: &[(IpAddr, u8)], queue: usize) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Listener { name: "push".into(), listen, allow: allow.to_vec() };
        let (sender, groups) = mpsc::channel(queue);
        let clock: Arc<dyn Clock> = Arc::new(Manual::new(NOW));
        let points = Arc::new(Points::default());
        let outlet = Outlet { groups: sender, points, clock, events: Events::default() };
        let now = Instant::now();
        Self { server: Server::new(&settings, now), outlet, groups, now }
    }

    fn raw(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.raw_from(from(1), bytes)
    }

    fn raw_from(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        self.server.on_datagram(&self.outlet, from, bytes, self.now)
    }

    /// Sends a request and returns the answer's code and diagnostic.
    fn ask(&mut self, request: &Packet) -> (String, String) {
        let reply = self.raw(&request.to_bytes_unlimited().unwrap()).expect("no answer");
        let reply = Packet::from_bytes(&reply).unwrap();
        assert_eq!(reply.get_token(), request.get_token());
        (reply.header.get_code(), String::from_utf8(reply.payload).unwrap())
    }

    fn post(&mut self, path: &str, format: Option<u16>, body: &[u8]) -> (String, String) {
        self.ask(&post(path, format, body))
    }

    /// Returns what came out, as `device/point unit time sample`.
    fn rows(&mut self) -> Vec<(String, String, i64, Sample)> {
        let mut rows = Vec::new();
        while let Ok(group) = self.groups.try_recv() {
            for reading in group.readings() {
                let info = self.outlet.points.info(reading.point);
                let name = format!("{}/{}", info.device, info.point);
                rows.push((name, info.unit.to_string(), reading.at.0, reading.sample));
            }
        }
        rows
    }

    fn told(&self) -> Vec<&'static str> {
        self.outlet.events.standing().iter().map(|condition| condition.notice.code.id).collect()
    }
}

fn from(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 40_000))
}

fn request(code: u8, path: &str) -> Packet {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let mut packet = Packet::new();
    packet.header.code = code.into();
    packet.header.message_id = NEXT.fetch_add(1, Ordering::Relaxed);
    packet.set_token(vec![1, 2, 3, 4, 5, 6, 7, 8]);
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        packet.add_option(CoapOption::UriPath, segment.as_bytes().to_vec());
    }
    packet
}

fn post(path: &str, format: Option<u16>, body: &[u8]) -> Packet {
    let mut packet = request(2, path);
    if let Some(format) = format {
        packet.add_option(CoapOption::ContentFormat, wire::uint_bytes(format.into()));
    }
    packet.payload = body.to_vec();
    packet
}

fn block(path: &str, value: Block, payload: &[u8]) -> Packet {
    let mut packet = post(path, None, payload);
    packet.add_option(CoapOption::Block1, value.bytes());
    packet
}

fn number(n: f64) -> Sample {
    Value::from_f64(n).into()
}

#[tokio::test]
async fn the_same_confirmable_post_three_times_makes_one_group_and_three_equal_answers() {
    let mut bench = Bench::new();
    let bytes = post("tank/level", Some(0), b"3.5").to_bytes().unwrap();
    let answers: Vec<_> = (0..3).map(|_| bench.raw(&bytes)).collect();
    assert!(answers[0].is_some());
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(bench.rows(), [("tank/level".into(), String::new(), NOW.0, number(3.5))]);
    assert_eq!(bench.server.counters.repeated, 2);
    // The same number from another sender is another message.
    assert!(bench.raw_from(from(2), &bytes).is_some());
    assert_eq!(bench.rows().len(), 1);
}

#[tokio::test]
async fn a_repeated_non_confirmable_post_makes_one_group() {
    let mut bench = Bench::new();
    let mut packet = post("tank/level", Some(0), b"3.5");
    packet.header.set_type(MessageType::NonConfirmable);
    let bytes = packet.to_bytes().unwrap();
    let reply = Packet::from_bytes(&bench.raw(&bytes).unwrap()).unwrap();
    assert_eq!(reply.header.get_type(), MessageType::NonConfirmable);
    bench.raw(&bytes);
    assert_eq!(bench.rows().len(), 1);
}

#[tokio::test]
async fn what_is_no_request_gets_a_reset_or_nothing() {
    for (bytes, reply) in [
        (&[0x40, 0, 0x12, 0x34][..], Some(&[0x70, 0, 0x12, 0x34][..])), // ping
        (&[0x50, 0, 0x12, 0x34], None),                                 // empty NON
        (&[0x60, 0, 0x12, 0x34], None),                                 // ACK
        (&[0x70, 0, 0x12, 0x34], None),                                 // RST
        (&[0x60, 0x45, 0x12, 0x34], None),                              // answer in an ACK
        (&[0x40, 0x45, 0x12, 0x34], Some(&[0x70, 0, 0x12, 0x34])),      // answer nobody awaits
        (&[0x40, 0x20, 0x12, 0x34], Some(&[0x70, 0, 0x12, 0x34])),      // reserved class 1
        (&[0x40, 0xe1, 0x12, 0x34], Some(&[0x70, 0, 0x12, 0x34])),      // class 7 (CoAP over TCP)
        (&[0x60, 0x02, 0x12, 0x34], None),                              // request in an ACK
        (&[0x49, 0x02, 0x12, 0x34, 0], Some(&[0x70, 0, 0x12, 0x34])),   // token of 9 bytes
        (&[0x59, 0x02, 0x12, 0x34, 0], None),                           // the same, NON
        (&[0x40, 0x02, 0x12, 0x34, 0xf0], Some(&[0x70, 0, 0x12, 0x34])), // option delta 15
        (&[0x40, 0x02, 0x12, 0x34, 0xb9, 0], Some(&[0x70, 0, 0x12, 0x34])), // option cut short
        (&[0x40, 0x02, 0x12, 0x34, 0xff], Some(&[0x70, 0, 0x12, 0x34])), // marker, no payload
        (&[0x40, 0, 0x12, 0x34, 0], Some(&[0x70, 0, 0x12, 0x34])),      // ping with a tail
        (&[0x80, 0x02, 0x12, 0x34], None),                              // version 2
        (&[0x40, 0x02, 0x12], None),                                    // half a header
        (&[], None),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.raw(bytes).as_deref(), reply, "{bytes:02x?}");
        let counters = &bench.server.counters;
        assert_eq!(counters.malformed + counters.rejected, 1, "{bytes:02x?}");
        assert!(bench.told().is_empty());
    }
}

#[tokio::test]
async fn an_unknown_critical_option_is_refused_and_an_elective_one_passed_over() {
    let mut bench = Bench::new();
    for (option, value, code) in [
        (9, vec![0], "4.02"),       // OSCORE
        (65_001, vec![], "4.02"),   // nobody's
        (5, vec![], "4.02"),        // If-None-Match
        (7, vec![1, 2, 3], "4.02"), // Uri-Port of three bytes
        (3, vec![], "4.02"),        // Uri-Host of none
        (35, b"coap://x".to_vec(), "5.05"),
        (39, b"coap".to_vec(), "5.05"),
        (65_000, vec![1], "2.04"),
        (292, vec![1], "2.04"),        // Request-Tag
        (15, b"x=1".to_vec(), "2.04"), // Uri-Query
    ] {
        let mut packet = post("tank/level", Some(0), b"3.5");
        packet.add_option(CoapOption::from(option), value);
        assert_eq!(bench.ask(&packet).0, code, "option {option}");
    }
    let mut twice = post("tank/level", Some(0), b"3.5");
    twice.add_option(CoapOption::Accept, vec![0]);
    twice.add_option(CoapOption::Accept, vec![50]);
    assert_eq!(bench.ask(&twice).0, "4.02");
    let mut quiet = post("tank/level", Some(0), b"3.5");
    quiet.header.set_type(MessageType::NonConfirmable);
    quiet.add_option(CoapOption::from(9), vec![0]);
    assert_eq!(bench.raw(&quiet.to_bytes().unwrap()), None, "a NON is rejected in silence");
    assert_eq!(bench.rows().len(), 3);
}

#[tokio::test]
async fn methods_and_paths_that_are_not_there_are_told_so() {
    let mut bench = Bench::new();
    for (code, path, answer) in [
        (1, "tank/level", "4.05"),
        (4, "tank/level", "4.05"),
        (5, "tank", "4.05"),
        (6, "tank", "4.05"),
        (0x1f, "tank", "4.05"),
        (2, "", "4.04"),
        (2, "a/b/c", "4.04"),
        (2, ".well-known/core", "4.05"),
        (2, ".well-known/x", "4.04"),
        (2, ".well-known", "4.04"),
    ] {
        assert_eq!(bench.ask(&request(code, path)).0, answer, "{code} {path}");
    }
    for path in ["a+b/c", "#/c"] {
        assert_eq!(bench.post(path, Some(0), b"1").0, "4.00", "{path}");
    }
    let mut slash = request(2, "");
    slash.add_option(CoapOption::UriPath, b"a/b".to_vec());
    slash.payload = b"{\"x\":1}".to_vec();
    assert_eq!(bench.ask(&slash).0, "4.00");
    let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
    assert_eq!(bench.post(&long, Some(50), b"{\"x\":1}").0, "4.00");
    assert!(bench.rows().is_empty());
}

#[tokio::test]
async fn one_value_is_taken_as_text_and_as_json() {
    let mut bench = Bench::new();
    let fault = || Sample::none(NoData::SensorFault);
    let text = |t: &str| Sample::good(Value::from_text(t));
    let flag = |b| Sample::good(Value::Bool(b));
    for (format, body, sample) in [
        (Some(0), "21.50", Sample::good(crate::sources::number::number("21.50").unwrap())),
        (Some(0), " -3\n", number(-3.0)),
        (Some(0), "true", flag(true)),
        (Some(0), "nan", fault()),
        (Some(0), "open", text("open")),
        (None, "21.5", number(21.5)),
        (None, "\"21.5\"", text("21.5")),
        (Some(50), "21.5", number(21.5)),
        (Some(50), "null", fault()),
        (Some(50), "false", flag(false)),
        (Some(50), "\"NaN\"", fault()),
        (Some(50), "{\"value\":21.5}", number(21.5)),
        (None, " {\"v\":21.5,\"battery\":[3]}", number(21.5)),
    ] {
        assert_eq!(bench.post("d/p", format, body.as_bytes()).0, "2.04", "{body}");
        assert_eq!(bench.rows(), [("d/p".into(), String::new(), NOW.0, sample)], "{body}");
    }
    let body = br#"{"value":21.5,"unit":"Cel","t":-2}"#;
    assert_eq!(
        bench
            .ask(&{
                let mut put = post("d/p", Some(50), body);
                put.header.code = 3.into();
                put
            })
            .0,
        "2.04"
    );
    assert_eq!(bench.rows(), [("d/p".into(), "Cel".into(), NOW.0 - 2000, number(21.5))]);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_a_sentence_and_leaves_nothing() {
    let mut bench = Bench::new();
    for (path, format, body, code, part) in [
        ("d/p", Some(0), &b""[..], "4.00", "empty"),
        ("d/p", Some(0), b"\xff\xfe", "4.00", "UTF-8"),
        ("d/p", Some(50), b"{", "4.00", "not JSON at line 1"),
        ("d/p", Some(50), b"{\"x\":1}", "4.00", "needs a \"value\""),
        ("d/p", Some(50), b"{\"value\":1,\"unit\":2}", "4.00", "unit"),
        ("d/p", Some(50), b"{\"value\":1,\"t\":\"now\"}", "4.00", "seconds"),
        ("d/p", Some(110), b"[]", "4.15", "SenML"),
        ("d/p", Some(42), b"x", "4.15", "text (0)"),
        ("d/p", Some(41), b"<x/>", "4.15", "text (0)"),
        ("d", Some(0), b"21.5", "4.15", "/device/point"),
        ("d", None, b"21.5", "4.00", "/device/point"),
        ("d", Some(50), b"21.5", "4.00", "object of points"),
        ("d", Some(50), b"{}", "4.00", "no value"),
        ("d", Some(50), b"{\"a\":1,\"b\":[]}", "4.00", "array"),
        ("d", Some(110), b"[{\"n\":\"a\",\"v\":1},{\"n\":\"b\"}]", "4.00", "record 2"),
        ("d", Some(112), b"\x81\xa1", "4.00", "record 1"),
        ("d", Some(112), b"junk", "4.00", "CBOR array"),
    ] {
        let mut packet = post(path, format, body);
        // Enough of a request to leave room for the whole sentence.
        packet.add_option(CoapOption::UriQuery, vec![b'x'; 60]);
        let (got, sentence) = bench.ask(&packet);
        assert_eq!(got, code, "{path} {format:?} {sentence}");
        assert!(sentence.contains(part), "{sentence}");
    }
    assert!(bench.rows().is_empty());
    assert_eq!(bench.told(), ["FG-P06"], "told once");
}

#[tokio::test]
async fn a_json_object_is_a_group_of_points() {
    let mut bench = Bench::new();
    let body = br#"{"temp":21.5,"hum":{"value":40,"unit":"%RH"},"3303/0/5700":null}"#;
    assert_eq!(bench.post("room", Some(50), body).0, "2.04");
    let group = bench.groups.try_recv().unwrap();
    let names: Vec<_> =
        group.points.iter().map(|id| bench.outlet.points.info(*id).point.to_string()).collect();
    assert_eq!(names, ["temp", "hum", "3303.0.5700"]);
    assert_eq!(group.samples[2], Sample::none(NoData::SensorFault));
    assert_eq!(bench.post("room", Some(50), body).0, "2.04");
    let again = bench.groups.try_recv().unwrap();
    assert!(Arc::ptr_eq(&group.points, &again.points), "the same pack has another list");
}

#[tokio::test]
async fn senml_names_lose_the_base_that_all_records_share() {
    for (pack, names) in [
        (r#"[{"bn":"urn:dev:ow:1:","n":"a","v":1},{"n":"b","v":2}]"#, &["a", "b"][..]),
        (r#"[{"bn":"urn:dev:ow:1","u":"Cel","v":1}]"#, &["value"]),
        (r#"[{"bn":"dev/","n":"/3303/0","v":1}]"#, &["3303.0"]),
        (r#"[{"n":"urn:dev:ow:1","v":1}]"#, &["urn:dev:ow:1"]),
        (
            r#"[{"bn":"urn:dev:ow:1:","n":"a","v":1},{"bn":"urn:dev:ow:12:","n":"a","v":2}]"#,
            &["1:a", "12:a"],
        ),
        (r#"[{"n":"own","v":1},{"bn":"x:","n":"a","v":2}]"#, &["own", "x:a"]),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.post("d", Some(110), pack.as_bytes()).0, "2.04", "{pack}");
        let wanted: Vec<_> = names.iter().map(|name| format!("d/{name}")).collect();
        let got: Vec<_> = bench.rows().into_iter().map(|row| row.0).collect();
        assert_eq!(got, wanted, "{pack}");
    }
}

#[tokio::test]
async fn records_of_different_times_are_groups_in_time_order() {
    let mut bench = Bench::new();
    let pack = br#"[{"bn":"x:","bt":1700000000,"n":"a","v":3},{"n":"a","t":-10,"v":1},
                    {"n":"b","t":-10,"v":2},{"n":"b","v":4}]"#;
    assert_eq!(bench.post("d", None, pack).0, "2.04");
    let mut seen = Vec::new();
    while let Ok(group) = bench.groups.try_recv() {
        seen.push((group.at.0, group.samples.clone()));
    }
    assert_eq!(
        seen,
        [
            (1_699_999_990_000, vec![number(1.0), number(2.0)]),
            (1_700_000_000_000, vec![number(3.0), number(4.0)]),
        ]
    );
}

#[tokio::test]
async fn blocks_are_assembled_and_answered_one_by_one() {
    let mut bench = Bench::new();
    let body = format!("{{\"temp\":21.5,\"note\":\"{}\"}}", "x".repeat(40));
    let parts: Vec<_> = body.as_bytes().chunks(16).collect();
    for (num, part) in parts.iter().enumerate() {
        let more = num + 1 < parts.len();
        let value = Block { num: num as u32, more, exponent: 0 };
        let packet = block("d", value, part);
        let reply = bench.raw(&packet.to_bytes().unwrap()).unwrap();
        let reply = Packet::from_bytes(&reply).unwrap();
        let echoed = Block::read(reply.get_first_option(CoapOption::Block1).unwrap());
        assert_eq!(reply.header.get_code(), if more { "2.31" } else { "2.04" });
        assert_eq!(echoed, Some(value));
    }
    assert_eq!(bench.rows().len(), 2);
}

#[tokio::test]
async fn a_missing_block_is_4_08_and_a_body_too_long_4_13_with_the_limit() {
    let mut bench = Bench::new();
    let full = vec![b'1'; 1024];
    let value = |num, more| Block { num, more, exponent: 6 };
    assert_eq!(bench.ask(&block("d/p", value(0, true), &full)).0, "2.31");
    assert_eq!(bench.ask(&block("d/p", value(2, true), &full)).0, "4.08");
    assert_eq!(bench.ask(&block("d/p", value(3, true), &full)).0, "4.08");
    let most = limits::COAP_BODY_BYTES_MAX as u32 / 1024;
    for num in 0..most {
        assert_eq!(bench.ask(&block("d/p", value(num, true), &full)).0, "2.31");
    }
    let last = block("d/p", value(most, true), &full).to_bytes().unwrap();
    let reply = Packet::from_bytes(&bench.raw(&last).unwrap()).unwrap();
    assert_eq!(reply.header.get_code(), "4.13");
    assert_eq!(wire::number(&reply, CoapOption::Size1), Some(limits::COAP_BODY_BYTES_MAX as u32));
    let mut reserved = post("d/p", None, b"x");
    reserved.add_option(CoapOption::Block1, vec![0x07]);
    assert_eq!(bench.ask(&reserved).0, "4.00");
    assert!(bench.rows().is_empty());
}

#[tokio::test]
async fn outside_the_allow_list_there_is_no_answer() {
    let mut bench = Bench::with(&[([10, 0, 0, 0].into(), 31), ("fd00::".parse().unwrap(), 64)], 8);
    let bytes = post("d/p", Some(0), b"1").to_bytes().unwrap();
    for (sender, answered) in [
        ("10.0.0.1:1", true),
        ("10.0.0.2:1", false),
        ("[::ffff:10.0.0.1]:1", true),
        ("[fd00::7]:1", true),
        ("[fd00:0:0:1::7]:1", false),
        ("[::1]:1", false),
    ] {
        let reply = bench.raw_from(sender.parse().unwrap(), &bytes);
        assert_eq!(reply.is_some(), answered, "{sender}");
    }
    assert_eq!(bench.server.counters.strangers, 3);
    assert_eq!(bench.told(), ["FG-P02"]);
    bench.server.on_tick(&bench.outlet, bench.now + limits::COAP_CALM_TIME);
    assert!(bench.told().is_empty(), "it never ends");
}

#[tokio::test]
async fn a_flood_from_one_address_is_cut_and_others_are_served() {
    let mut bench = Bench::new();
    for _ in 0..2 * limits::COAP_REQUESTS_BURST_MAX {
        bench.raw(&[0x40, 0, 0, 1]);
    }
    assert_eq!(bench.server.counters.limited, u64::from(limits::COAP_REQUESTS_BURST_MAX));
    let bytes = post("d/p", Some(0), b"1").to_bytes().unwrap();
    assert!(bench.raw(&bytes).is_none());
    assert!(bench.raw_from(from(2), &bytes).is_some());
    assert_eq!(bench.told(), ["FG-P03"]);
    bench.now += Duration::from_secs(1);
    assert!(bench.raw(&bytes).is_some(), "the flood's sender is never heard again");
}

#[tokio::test]
async fn a_full_queue_is_5_03_with_max_age_and_nothing_is_half_taken() {
    let mut bench = Bench::with(&[], 2);
    let pack = br#"[{"bn":"x:","n":"a","t":-3,"v":1},{"n":"a","t":-2,"v":2},{"n":"a","v":3}]"#;
    assert_eq!(bench.post("d", Some(110), pack).0, "2.04");
    assert_eq!(bench.server.backlog.len(), 1, "the third time waits");
    let bytes = post("d/p", Some(0), b"1").to_bytes().unwrap();
    let reply = Packet::from_bytes(&bench.raw(&bytes).unwrap()).unwrap();
    assert_eq!(reply.header.get_code(), "5.03");
    assert_eq!(wire::number(&reply, CoapOption::MaxAge), Some(5));
    assert_eq!(bench.rows().len(), 2);
    bench.server.backlog.clear();
    assert_eq!(bench.post("d/p", Some(0), b"1").0, "2.04");
    assert_eq!(bench.post("d/p", Some(0), b"2").0, "2.04");
    assert_eq!(bench.post("d/p", Some(0), b"3").0, "5.03");
    assert_eq!(bench.rows().len(), 2);
    assert_eq!(bench.told(), ["FG-P04"]);
}

#[tokio::test]
async fn a_sender_that_invents_names_is_put_off_and_known_points_go_on() {
    let mut bench = Bench::new();
    assert_eq!(bench.post("d/known", Some(0), b"1").0, "2.04");
    for n in 1..limits::POINTS_LEARNED_MAX {
        let info = crate::reading::PointInfo::new("x", &n.to_string(), "");
        bench.outlet.points.learn(info).unwrap();
    }
    assert_eq!(bench.post("d/new", Some(0), b"1").0, "5.03");
    assert_eq!(bench.post("d/known", Some(0), b"1").0, "2.04");
    assert_eq!(bench.told(), ["FG-P05"]);
    assert!(bench.outlet.events.standing()[0].notice.what.contains("d/new"));
    assert_eq!(bench.rows().len(), 2);
}

#[tokio::test]
async fn a_sender_that_wants_no_answer_gets_none() {
    let mut bench = Bench::new();
    for (classes, body, non, answer) in [
        (2, &b"1"[..], true, None),
        (2, b"1", false, Some(4)),
        (2, b"", true, Some(60)),
        (26, b"", true, None),
        (8, b"1", true, Some(60)),
    ] {
        let mut packet = post("d/p", Some(0), body);
        packet.add_option(CoapOption::NoResponse, wire::uint_bytes(classes));
        if non {
            packet.header.set_type(MessageType::NonConfirmable);
        }
        let reply = bench.raw(&packet.to_bytes().unwrap());
        match answer {
            None => assert_eq!(reply, None),
            Some(4) => assert_eq!(reply.unwrap().len(), 4, "only an empty acknowledgement"),
            Some(most) => assert!(reply.unwrap().len() < most),
        }
    }
}

#[tokio::test]
async fn discovery_names_the_root_and_its_formats_also_in_blocks() {
    let mut bench = Bench::new();
    let links = r#"</>;rt=fieldgate;ct="0 50 110 112""#;
    assert_eq!(bench.ask(&request(1, ".well-known/core")), ("2.05".into(), links.into()));
    let mut all = String::new();
    for num in 0.. {
        let mut packet = request(1, ".well-known/core");
        packet.add_option(CoapOption::Block2, Block { num, more: false, exponent: 0 }.bytes());
        let reply = bench.raw(&packet.to_bytes().unwrap()).unwrap();
        let reply = Packet::from_bytes(&reply).unwrap();
        all += std::str::from_utf8(&reply.payload).unwrap();
        if !Block::read(reply.get_first_option(CoapOption::Block2).unwrap()).unwrap().more {
            break;
        }
    }
    assert_eq!(all, links);
    let mut packet = request(1, ".well-known/core");
    packet.add_option(CoapOption::Accept, vec![50]);
    assert_eq!(bench.ask(&packet).0, "4.06");
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let path = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..4);
    let options =
        prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..5)), 0..3);
    let body = prop::collection::vec(any::<u8>(), 0..80);
    (any::<u8>(), path, options, body, any::<u16>(), any::<bool>()).prop_map(
        |(code, path, options, body, id, non)| {
            let mut packet = Packet::new();
            packet.header.code = (code & 0x9f).into();
            packet.header.message_id = id;
            if non {
                packet.header.set_type(MessageType::NonConfirmable);
            }
            for segment in path {
                packet.add_option(CoapOption::UriPath, segment);
            }
            for (number, value) in options {
                packet.add_option(CoapOption::from(number % 300), value);
            }
            packet.payload = body;
            packet.to_bytes_unlimited().unwrap()
        },
    )
}

proptest! {
    #[test]
    fn no_datagram_panics_or_is_answered_with_more_than_three_times_its_bytes(
        mut datagram in prop_oneof![
            any_request(),
            prop::collection::vec(any::<u8>(), 0..100),
        ],
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut bench = Bench::new();
        for (at, byte) in damage {
            if !datagram.is_empty() {
                let at = at.index(datagram.len());
                datagram[at] = byte;
            }
        }
        if let Some(reply) = bench.raw(&datagram) {
            prop_assert!(reply.len() <= limits::COAP_AMPLIFICATION_MAX * datagram.len());
            prop_assert!(Packet::from_bytes(&reply).is_ok());
        }
    }
}

#[tokio::test]
async fn the_largest_datagrams_are_read_or_refused() {
    let mut bench = Bench::new();
    for fill in [0x00, 0x40, 0x7b, 0x81, 0xff] {
        bench.raw(&vec![fill; limits::COAP_DATAGRAM_BYTES_MAX]);
        let body = vec![fill; 65_000];
        for (path, format) in [("d/p", 0), ("d", 50), ("d", 110), ("d", 112)] {
            bench.raw(&post(path, Some(format), &body).to_bytes_unlimited().unwrap());
        }
    }
    let nested = [vec![b'['; 60_000]].concat();
    assert_eq!(bench.post("d", Some(110), &nested).0, "4.00");
    let nested = [&[0x81, 0xa2, 0x00, 0x61, b'x', 0x09][..], &[0x81; 60_000]].concat();
    assert_eq!(bench.post("d", Some(112), &nested).0, "4.00");
}
