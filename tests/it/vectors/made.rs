//! The golden vectors' payloads: by the encoder from fixed readings, by hand where no gateway of
//! today would send such a thing, and damaged.

use std::sync::Arc;

use fieldgate::batch::{Assembly, Coding, Envelope};
use fieldgate::limits;
use fieldgate::reading::{
    Decimal, Group, NoData, PointId, PointInfo, Points, Quality, Sample, Stream, UnixMillis, Value,
};
use serde_json::{Value as Json, json};

use crate::reference;

const ENVELOPE: Envelope<'_> = Envelope {
    gateway: "gw-4f2a",
    epoch: 1_789_990_000,
    stream: Stream::Data,
    sequence: 4711,
    lowest_held: 4690,
    dropped: 0,
    clock: 1,
    config_hash: "9f3a11c2",
};

/// Gathers readings of fixed inputs and seals them.
#[derive(Default)]
struct Maker {
    points: Points,
    assembly: Assembly,
    lists: Vec<Arc<[PointId]>>,
}

impl Maker {
    /// Adds a poll of `points` of one device, `after` milliseconds behind the reference start.
    fn poll(mut self, device: &str, points: &[(&str, &str)], after: i64, all: Vec<Sample>) -> Self {
        let of = |(point, unit): &(&str, &str)| {
            self.points.intern(PointInfo::new(device, point, unit)).unwrap()
        };
        let ids: Arc<[PointId]> = points.iter().map(of).collect();
        let ids = self.lists.iter().find(|list| **list == ids).map_or(ids, Arc::clone);
        self.lists.push(Arc::clone(&ids));
        let at = UnixMillis(reference::START + after);
        self.assembly.push(&Group { stream: Stream::Data, at, points: ids, samples: all });
        self
    }

    /// Polls `v` of `device` once a second.
    fn series(mut self, unit: &str, samples: Vec<Sample>) -> Self {
        for (sample, second) in samples.into_iter().zip(0..) {
            self = self.poll("meter", &[("v", unit)], 1000 * second, vec![sample]);
        }
        self
    }

    fn seal(self, coding: Coding, envelope: &Envelope<'_>, bytes_max: usize) -> Vec<Vec<u8>> {
        let bodies = self.assembly.into_bodies(&self.points, coding, bytes_max);
        let sealed = bodies.iter().zip(envelope.sequence..);
        sealed.map(|(body, sequence)| body.seal(&Envelope { sequence, ..*envelope })).collect()
    }

    fn plain(self) -> Vec<u8> {
        self.seal(Coding::Plain, &ENVELOPE, limits::BATCH_BYTES_MAX).remove(0)
    }
}

fn decimal(digits: i64, places: u8) -> Sample {
    Sample::good(Value::Decimal(Decimal { digits, places }))
}

fn int(n: i64) -> Sample {
    decimal(n, 0)
}

fn text(text: &str) -> Sample {
    Sample::good(Value::Text(text.into()))
}

fn flag(flag: bool) -> Sample {
    Sample::good(Value::Bool(flag))
}

fn none(why: NoData) -> Sample {
    Sample::none(why)
}

/// A payload put together by hand, for what no gateway of today would send.
fn by_hand(n: u64, body: &Json) -> Vec<u8> {
    let payload = json!({"v": 1, "gw": "gw-4f2a", "ep": 1_789_990_000, "seq": 4711, "lo": 4690,
        "n": n, "dr": 0, "t0": reference::START, "t1": reference::START + 10_000, "ck": 1,
        "cv": "9f3a11c2", "z": 0, "b": body});
    rmp_serde::to_vec(&payload).unwrap()
}

/// A payload by hand whose body is coded bytes.
fn coded_by_hand(n: u64, z: u64, body: &[u8]) -> Vec<u8> {
    let envelope = json!({"v": 1, "gw": "gw-4f2a", "ep": 1_789_990_000, "seq": 4711,
        "n": n, "t0": reference::START, "t1": reference::START + 10_000, "z": z});
    let mut out = rmp_serde::to_vec(&envelope).unwrap();
    // One more key than the fixed-size map of eight has.
    assert_eq!(out[0], 0x88);
    out[0] = 0x89;
    rmp::encode::write_str(&mut out, "b").unwrap();
    rmp::encode::write_bin(&mut out, body).unwrap();
    out
}

/// A body of one series of `kind` with the given frames.
fn body(kind: i64, frames: &Json) -> Json {
    json!({"w": ["meter", "v", "V"], "s": [[0, 1, 2, kind]], "f": frames})
}

fn reference_set() -> Vec<u8> {
    let mut maker = Maker::default();
    let groups = reference::groups(&maker.points);
    groups.iter().for_each(|group| maker.assembly.push(group));
    maker.seal(Coding::Zlib, &ENVELOPE, limits::BATCH_BYTES_MAX).remove(0)
}

fn grid() -> Maker {
    let points = [("temperature", "Cel"), ("energy", "Wh"), ("running", "")];
    (0..30).fold(Maker::default(), |maker, n| {
        let all = vec![decimal(215 + n % 4 - n % 3, 1), int(8_412_000 + 3 * n), flag(n % 20 < 15)];
        maker.poll("meter-01", &points, 1000 * n + n % 2, all)
    })
}

fn every_quality() -> Vec<u8> {
    let (why, trust) = (
        [
            NoData::Timeout,
            NoData::DeviceException,
            NoData::Malformed,
            NoData::SensorFault,
            NoData::Configuration,
        ],
        [
            Quality::Uncertain,
            Quality::Bad,
            Quality::Substituted,
            Quality::Clamped,
            Quality::ClockUnsynced,
        ],
    );
    let trusted = trust.map(|quality| Sample { value: int(7).value, quality });
    Maker::default().series("V", trusted.into_iter().chain(why.map(none)).collect()).plain()
}

fn streams() -> [(&'static str, Vec<u8>); 2] {
    let raised = Maker::default()
        .poll("rules", &[("freeze-alarm", "")], 12, vec![text("freeze")])
        .poll("rules", &[("freeze-alarm", "")], 31_870, vec![text("over")])
        .poll("rules", &[("door-open", "")], 31_870, vec![flag(true)]);
    let own = (0..3).fold(Maker::default(), |maker, n| {
        let points = [("resident", "By"), ("backlog", "s"), ("cpu", "%")];
        let all = vec![int(9_437_184 + 4096 * n), int(0), decimal(13 + n, 1)];
        maker.poll("gateway", &points, 10_000 * n, all)
    });
    let event = Envelope { stream: Stream::Event, sequence: 12, lowest_held: 12, ..ENVELOPE };
    let of_self = Envelope { stream: Stream::Own, sequence: 88, lowest_held: 80, ..ENVELOPE };
    [
        ("23-event-stream", raised.seal(Coding::Plain, &event, limits::BATCH_BYTES_MAX).remove(0)),
        ("24-self-stream", own.seal(Coding::Plain, &of_self, limits::BATCH_BYTES_MAX).remove(0)),
    ]
}

/// Vectors that the gateway's own encoder makes.
#[expect(clippy::too_many_lines, reason = "a table of vectors")]
pub fn encoded() -> Vec<(&'static str, Vec<u8>)> {
    const TOP: i64 = (1 << 53) - 1;
    let split = grid().seal(Coding::Plain, &ENVELOPE, 450);
    assert_eq!(split.len(), 2, "the split vector wants two batches");
    let ups =
        (0..10).map(|places| (format!("p{places}"), 1_234_567_891 + i64::from(places), places));
    let all: Vec<_> = ups.collect();
    let names: Vec<(&str, &str)> = all.iter().map(|(name, ..)| (name.as_str(), "")).collect();
    let value = |up: i64| all.iter().map(|(_, n, places)| decimal(n + up, *places)).collect();
    let words = [("state", ""), ("mode", "")];
    let float = |f: f64| Sample::good(Value::Float(f));
    let mut vectors = vec![
        ("10-zstd", grid().seal(Coding::Zstd, &ENVELOPE, limits::BATCH_BYTES_MAX).remove(0)),
        ("11-reference-set", reference_set()),
        ("12-split-first", split[0].clone()),
        ("13-split-second", split[1].clone()),
        (
            "14-kind-changes",
            Maker::default()
                .series(
                    "",
                    vec![decimal(215, 1), decimal(21_553, 3), flag(true), text("off"), int(4)],
                )
                .plain(),
        ),
        (
            "15-words",
            ["auto", "auto", "hand", "auto", "off"]
                .iter()
                .zip(0..)
                .fold(Maker::default(), |maker, (mode, n)| {
                    maker.poll("chiller", &words, 500 * n, vec![text("running"), text(mode)])
                })
                .plain(),
        ),
        (
            "16-mixed-raw",
            Maker::default()
                .series("", vec![float(1.0 / 3.0), int(-5), flag(false), text(""), float(1e300)])
                .plain(),
        ),
        (
            "17-no-value-at-all",
            (0..4)
                .fold(Maker::default(), |maker, n| {
                    let all = vec![int(230 + n), none(NoData::DeviceException)];
                    maker.poll("meter", &[("u", "V"), ("i", "A")], 1000 * n, all)
                })
                .plain(),
        ),
        (
            "18-leading-no-value",
            [none(NoData::Timeout), none(NoData::Timeout), decimal(497, 1), decimal(498, 1)]
                .into_iter()
                .zip(0..)
                .fold(Maker::default(), |maker, (sample, n)| {
                    let points = [("frequency", "Hz"), ("running", "")];
                    maker.poll("meter", &points, 1000 * n, vec![sample, flag(n > 1)])
                })
                .plain(),
        ),
        (
            "19-negative-numbers",
            Maker::default()
                .series("Cel", [-1, -32, -33, -128, -129, -40_000, 5].map(|n| decimal(n, 1)).into())
                .plain(),
        ),
        (
            "20-limits",
            Maker::default().series("", [TOP, -TOP, TOP - 1, 1 - TOP, 0].map(int).into()).plain(),
        ),
        (
            "21-decimals",
            (0..3)
                .fold(Maker::default(), |m, n| m.poll("meter", &names, 1000 * n, value(n * n)))
                .plain(),
        ),
        (
            "22-unicode",
            Maker::default()
                .poll(
                    "Kühlhaus-東",
                    &[("Temperatur °", "Cel"), ("состояние", "")],
                    3,
                    vec![decimal(-185, 1), text("zu ❄ kalt")],
                )
                .plain(),
        ),
        (
            "29-far-apart",
            [0, 1, 86_400_000, 86_400_001, 31_536_000_000_000, 31_536_000_000_500]
                .iter()
                .fold(Maker::default(), |maker, after| {
                    maker.poll(
                        "buoy",
                        &[("level", "m"), ("t", "Cel")],
                        *after,
                        vec![int(3), int(4)],
                    )
                })
                .plain(),
        ),
        ("30-single", Maker::default().series("V", vec![decimal(2301, 1)]).plain()),
        ("31-every-quality", every_quality()),
    ];
    vectors.extend(streams());
    vectors
}

/// Vectors that a later gateway, or one of another maker, could send.
#[expect(clippy::too_many_lines, reason = "a table of vectors")]
pub fn from_elsewhere() -> Vec<(&'static str, Vec<u8>)> {
    let mut wide = by_hand(4, &body(0, &json!([])));
    // The same integers in each width that MessagePack has, none of them the shortest.
    let empty = wide.len() - 1;
    assert_eq!(wide[empty], 0x90);
    wide.truncate(empty);
    wide.extend([
        0x91, 0x94, 0xcc, 0, 0xdc, 0, 4, 0xcd, 0, 1, 0xce, 0, 0, 0, 2, 0xd0, 3, 0xd1, 0, 4,
    ]);
    wide.extend([0x91, 0xd2, 0, 0, 0, 0, 0xdd, 0, 0, 0, 1, 0x94]);
    wide.extend([0xcf, 0, 0, 0, 0, 0, 0, 0, 5, 0xd3, 255, 255, 255, 255, 255, 255, 255, 254]);
    wide.extend([0xcd, 0, 6, 0xd1, 255, 249]);
    let attrs = json!({"w": ["meter", "v", "V"], "s": [
        [0, 1, 2, 1, {"a": "mean", "win": 10_000, "src": "holding 107", "later": [1, {"x": null}]}],
        [0, 1, 2, 1, {"a": "max", "win": 10_000}, "behind"]],
        "f": [[0, [0, 10_000], [0, 1], [[2301, 2], [2325]]]]});
    let kinds = json!({"w": ["meter", "v", "V", "u"], "s": [[0, 1, 2, 12], [0, 3, 2, 0]], "f": [
        [0, [0, 1000], [0, 1, 0], [{"new": "shape"}, [5, 1], 7], [[0, 1, 32], [1, 1, 1], [2, 0, 2]]],
        [1, [0, 5, 0], [0, 1, 0], ["x", 9, [1, 2]], [[0, 2], [1, 17]]]]});
    let keys = json!({"w": ["meter", "v", "V"], "later": {"a": [1, 2]}, "s": [[0, 1, 2, 0]],
        "f": [[0, [0, 1000], [0], [[5, 1]], [], "behind", {}], [7, "of a later time"], "what", []],
        "": 0});
    vec![
        ("25-attributes", by_hand(4, &attrs)),
        ("26-unknown-series-kind", by_hand(9, &kinds)),
        ("27-unknown-body-keys", by_hand(2, &keys)),
        (
            "28-unknown-marks",
            by_hand(
                4,
                &body(
                    0,
                    &json!([[
                        0,
                        [0, 1000, 0, 0],
                        [0],
                        [[5, 1]],
                        [[0, 0, 9], [0, 1, 31], [0, 2, 37], [0, 3, 200]]
                    ]]),
                ),
            ),
        ),
        ("32-wide-integers", wide),
        (
            "33-two-frames-one-series",
            by_hand(
                5,
                &body(
                    1,
                    &json!([
                        [1, [7, 3], [0, 0], [100, 5]],
                        [1, [0], [0], [100]],
                        [0, [0, 1000], [0], [[100]]]
                    ]),
                ),
            ),
        ),
        (
            "34-raw-oddities",
            by_hand(
                5,
                &body(
                    -2,
                    &json!([[
                        0,
                        [0, 1, 0, 0, 0],
                        [0],
                        [[null, 4_503_599_627_370_497_i64, "x", true]]
                    ]]),
                ),
            ),
        ),
    ]
}

/// What every decoder must refuse.
pub fn invalid() -> Vec<(&'static str, Vec<u8>)> {
    let whole = grid().plain();
    let zlib = |body: &[u8]| {
        let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut coder, body).unwrap();
        coder.finish().unwrap()
    };
    let good = rmp_serde::to_vec(&body(0, &json!([[0, [0, 1], [0], [[5]]]]))).unwrap();
    let mut behind = good.clone();
    behind.push(0);
    let envelope = |key: &str, value: Json| {
        let mut all = json!({"v": 1, "gw": "g", "ep": 1, "seq": 1, "n": 0, "t0": 0, "b": {}});
        all[key] = value;
        rmp_serde::to_vec(&all).unwrap()
    };
    let frames = |n: u64, kind: i64, frames: Json| by_hand(n, &body(kind, &frames));
    let many = vec![0; 1001];
    let mut no_text = by_hand(0, &json!({"w": ["??"]}));
    let end = no_text.len();
    no_text[end - 2..].copy_from_slice(&[0xff, 0xfe]);
    vec![
        ("body-cut-short", coded_by_hand(2, 1, &zlib(&good)[..12])),
        ("bytes-behind-the-body", coded_by_hand(2, 1, &zlib(&behind))),
        ("bytes-behind-the-envelope", [whole.clone(), vec![0]].concat()),
        (
            "claims-a-million-readings",
            by_hand(
                1_002_001,
                &json!({"w": [""], "s": [[0, 0, 0, 0]],
            "f": [[0, many, many, vec![vec![0]; 1001]]]}),
            ),
        ),
        ("column-too-long", frames(1, 0, json!([[0, [0], [0], [[5, 1]]]]))),
        ("columns-do-not-match-ids", frames(1, 0, json!([[0, [0], [0], []]]))),
        ("count-mismatch", frames(3, 0, json!([[0, [0, 1], [0], [[5]]]]))),
        ("cut-short", whole[..whole.len() / 2].to_vec()),
        ("id-out-of-range", frames(2, 0, json!([[0, [0, 1], [1], [[5]]]]))),
        ("mark-out-of-range", frames(2, 0, json!([[0, [0, 1], [0], [[5]], [[0, 2, 1]]]]))),
        (
            "no-epoch",
            rmp_serde::to_vec(&json!({"v": 1, "gw": "g", "seq": 1, "n": 0, "t0": 0, "b": {}}))
                .unwrap(),
        ),
        ("not-a-map", rmp_serde::to_vec(&json!([1, 2, 3])).unwrap()),
        ("number-of-2-to-the-53", frames(1, 0, json!([[0, [0], [0], [[1_i64 << 53]]]]))),
        ("sequence-of-zero", envelope("seq", json!(0))),
        ("time-of-2-to-the-53", frames(1, 0, json!([[1, [1_i64 << 53], [0], [5]]]))),
        ("text-where-a-difference-belongs", frames(1, 0, json!([[1, [0], [0], ["5"]]]))),
        ("unknown-coding", coded_by_hand(2, 9, &good)),
        ("value-names-no-word", frames(1, -3, json!([[1, [0], [0], [3]]]))),
        ("version-2", envelope("v", json!(2))),
        ("word-is-no-utf-8", no_text),
        ("word-out-of-range", by_hand(0, &json!({"w": ["a"], "s": [[0, 0, 1, 0]], "f": []}))),
        ("wrong-type", envelope("seq", json!("1"))),
        ("zlib-bomb", coded_by_hand(0, 1, &zlib(&vec![0; limits::BATCH_INFLATED_BYTES_MAX + 1]))),
    ]
}
