//! The format against itself and against noise; `tests/it/vectors.rs` holds it against its golden
//! vectors.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::limits;
use crate::reading::{
    Decimal, Group, NoData, PointId, PointInfo, Points, Quality, Sample, Stream, UnixMillis, Value,
};

const ENVELOPE: Envelope<'_> = Envelope {
    gateway: "gw-1",
    epoch: 1_789_990_000,
    stream: Stream::Data,
    sequence: 7,
    lowest_held: 5,
    dropped: 2,
    clock: 1,
    config_hash: "9f3a11c2",
};

/// What a reading looks like from outside, for comparing before and after.
type Flat = (String, i64, Option<String>, u8);

fn flat_value(value: &Value) -> String {
    match value {
        Value::Bool(flag) => format!("{flag}"),
        Value::Decimal(decimal) => format!("{}", decimal.to_f64()),
        Value::Float(number) => format!("{number}"),
        Value::Text(text) => format!("{text:?}"),
    }
}

fn flat_groups(groups: &[Group]) -> Vec<Flat> {
    let of = |group: &Group| {
        group
            .readings()
            .map(|reading| {
                let name = format!("p{}", reading.point.0);
                let value = reading.sample.value.as_ref().ok().map(flat_value);
                (name, reading.at.0, value, reading.sample.mark())
            })
            .collect::<Vec<_>>()
    };
    let mut all: Vec<Flat> = groups.iter().flat_map(of).collect();
    all.sort();
    all
}

fn flat_batches(payloads: &[Vec<u8>]) -> Vec<Flat> {
    let mut all = Vec::new();
    for payload in payloads {
        let batch = decode(payload).unwrap();
        batch.rows(|row| {
            assert!((batch.header.t0..=batch.header.t1).contains(&row.at.0));
            let value = row.value.map(|value| flat_value(&value.into()));
            all.push((batch.name(row.series).1.to_owned(), row.at.0, value, row.q));
        });
    }
    all.sort();
    all
}

fn points(count: u32) -> Points {
    let points = Points::default();
    for n in 0..count {
        points.intern(PointInfo::new("d", &format!("p{n}"), "V")).unwrap();
    }
    points
}

fn assembled(groups: &[Group]) -> Assembly {
    let mut assembly = Assembly::default();
    groups.iter().for_each(|group| assembly.push(group));
    assembly
}

fn sealed(groups: &[Group], coding: Coding, bytes_max: usize) -> Vec<Vec<u8>> {
    let bodies = assembled(groups).into_bodies(&points(8), coding, bytes_max);
    bodies.iter().map(|body| body.seal(&ENVELOPE)).collect()
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let value = prop_oneof![
        4 => (-1_000_000_i64..1_000_000, 0_u8..4)
            .prop_map(|(digits, places)| Value::Decimal(Decimal { digits, places })),
        1 => (-(1_i64 << 53) + 1..1 << 53, 0_u8..=9)
            .prop_map(|(digits, places)| Value::Decimal(Decimal { digits, places })),
        2 => any::<bool>().prop_map(Value::Bool),
        1 => any::<f64>().prop_filter_map("finite", |f| f.is_finite().then_some(Value::Float(f))),
        1 => "[a-c]{0,2}".prop_map(|text| Value::Text(text.into())),
    ];
    prop_oneof![
        8 => value.clone().prop_map(Sample::good),
        1 => value.prop_map(|value| Sample { value: Ok(value), quality: Quality::Uncertain }),
        1 => Just(Sample::none(NoData::Timeout)),
        1 => Just(Sample::none(NoData::SensorFault)),
    ]
}

fn any_groups() -> impl Strategy<Value = Vec<Group>> {
    let lists = [vec![0], vec![1, 2, 3], vec![4, 5], vec![0, 5, 7], vec![6]];
    let lists = lists.map(|ids: Vec<u32>| ids.into_iter().map(PointId).collect::<Arc<[_]>>());
    let group = (0..lists.len(), -5000_i64..5000).prop_flat_map(move |(list, at)| {
        let points = Arc::clone(&lists[list]);
        prop::collection::vec(any_sample(), points.len()).prop_map(move |samples| Group {
            stream: Stream::Data,
            at: UnixMillis(1_790_000_000_000 + at),
            points: Arc::clone(&points),
            samples,
        })
    });
    prop::collection::vec(group, 1..60)
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(groups in any_groups(), coding in 0..3) {
        let coding = [Coding::Plain, Coding::Zlib, Coding::Zstd][coding as usize];
        prop_assert_eq!(flat_batches(&sealed(&groups, coding, 1 << 20)), flat_groups(&groups));
    }

    #[test]
    fn a_small_limit_splits_by_time_and_loses_nothing(groups in any_groups()) {
        let payloads = sealed(&groups, Coding::Plain, 600);
        prop_assert_eq!(flat_batches(&payloads), flat_groups(&groups));
        for pair in payloads.windows(2) {
            let (a, b) = (decode(&pair[0]).unwrap().header, decode(&pair[1]).unwrap().header);
            prop_assert!(a.t1 <= b.t1, "batches out of order");
        }
    }

    #[test]
    fn a_chunk_gives_back_what_was_committed(groups in any_groups()) {
        let bytes = chunk::encode(&assembled(&groups), |point| i64::from(point.0) + 1000);
        let number = |n: i64| u32::try_from(n - 1000).ok().map(PointId);
        let back = chunk::decode(&bytes, Stream::Data, number).unwrap();
        prop_assert_eq!(flat_groups(&back), flat_groups(&groups));
    }

    #[test]
    fn the_estimate_is_near_the_truth(groups in any_groups()) {
        let estimate = assembled(&groups).bytes_estimate();
        let real: usize = sealed(&groups, Coding::Plain, 1 << 20).iter().map(Vec::len).sum();
        prop_assert!(estimate + 64 >= real, "estimated {estimate}, took {real}");
    }

    #[test]
    fn noise_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&bytes).is_err());
        let _ = chunk::decode(&bytes, Stream::Data, |_| None);
    }

    #[test]
    fn a_damaged_batch_never_panics(
        groups in any_groups(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut payload = sealed(&groups, Coding::Plain, 1 << 20).remove(0);
        for (at, byte) in flips {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if let Ok(batch) = decode(&payload) {
            batch.rows(|_| ());
        }
    }
}

#[test]
fn a_batch_cut_short_is_refused_at_every_length() {
    let group = Group {
        stream: Stream::Data,
        at: UnixMillis(5),
        points: (0..8).map(PointId).collect(),
        samples: vec![Sample::good(Value::from_i64(300)); 8],
    };
    let payload = sealed(&[group.clone(), group], Coding::Plain, 1 << 20).remove(0);
    for len in 0..payload.len() {
        assert!(decode(&payload[..len]).is_err(), "took {len} of {} bytes", payload.len());
    }
}

#[test]
fn a_claim_of_billions_of_readings_is_refused() {
    // 60,000 times and 60,000 columns of one value each: 3.6 billion readings in 300 kB.
    let mut out = pack::Writer::default();
    let many = 60_000;
    out.map(3);
    out.str("w");
    out.array(1);
    out.str("");
    out.str("s");
    out.array(1);
    out.array(4);
    [0, 0, 0, 0].iter().for_each(|n| out.int(*n));
    out.str("f");
    out.array(1);
    out.array(4);
    out.int(0);
    out.array(many);
    (0..many).for_each(|_| out.int(0));
    out.array(many);
    (0..many).for_each(|_| out.int(0));
    out.array(many);
    (0..many).for_each(|_| {
        out.array(1);
        out.int(0);
    });
    assert_eq!(decode(&by_hand(0, 0, &out.0)), Err(DecodeError::TooLarge));
}

/// An envelope around a body: a map, or coded bytes.
fn by_hand(readings: u64, coding: u64, body: &[u8]) -> Vec<u8> {
    let mut payload = pack::Writer::default();
    payload.map(8);
    for (key, n) in [("v", 1), ("ep", 1), ("seq", 1), ("n", readings), ("t0", 0), ("z", coding)] {
        payload.str(key);
        payload.uint(n);
    }
    payload.str("gw");
    payload.str("g");
    payload.str("b");
    if coding == 0 {
        payload.0.extend_from_slice(body)
    } else {
        payload.bin(body)
    }
    payload.0
}

/// A body of one word, one series of `kind`, and frames as they stand in `frames`.
fn body_of(kind: i64, frames: &[u8]) -> Vec<u8> {
    let mut out = pack::Writer::default();
    out.map(3);
    out.str("w");
    out.array(1);
    out.str("");
    out.str("s");
    out.array(1);
    out.array(4);
    [0, 0, 0, kind].iter().for_each(|n| out.int(*n));
    out.str("f");
    out.0.extend_from_slice(frames);
    out.0
}

/// A body whose only key is a list of `count` times `one`.
fn list_of(key: &str, count: usize, one: &[u8]) -> Vec<u8> {
    let mut out = pack::Writer::default();
    out.map(1);
    out.str(key);
    out.array(count);
    (0..count).for_each(|_| out.0.extend_from_slice(one));
    out.0
}

#[test]
fn lists_that_cost_more_memory_than_bytes_are_refused_by_their_length() {
    let many = [
        list_of("w", limits::BATCH_WORDS_MAX + 1, &[0xa0]),
        list_of("s", limits::BATCH_PARTS_MAX + 1, &[0x94, 0, 0, 0, 0]),
        list_of("f", limits::BATCH_PARTS_MAX + 1, &[0x94, 1, 0x90, 0x90, 0x90]),
    ];
    for body in many {
        assert_eq!(decode(&by_hand(0, 0, &body)), Err(DecodeError::TooLarge));
    }
}

#[test]
fn times_without_columns_count_against_the_limit() {
    let mut frames = pack::Writer::default();
    frames.array(1);
    frames.array(4);
    frames.int(0);
    let rows = limits::BATCH_DECODED_READINGS_MAX + 1;
    frames.array(rows);
    frames.0.resize(frames.0.len() + rows, 0);
    frames.array(0);
    frames.array(0);
    assert_eq!(decode(&by_hand(0, 0, &body_of(0, &frames.0))), Err(DecodeError::TooLarge));
}

#[test]
fn more_marks_than_readings_are_refused() {
    let grid = [0x91, 0x95, 0, 0x91, 0, 0x91, 0, 0x91, 0x91, 5];
    let mark = [0x93, 0, 0, 1];
    let one = [&grid[..], &[0x91], &mark].concat();
    assert_eq!(decode(&by_hand(1, 0, &body_of(0, &one))).unwrap().readings(), 1);
    let two = [&grid[..], &[0x92], &mark, &mark].concat();
    let found = decode(&by_hand(1, 0, &body_of(0, &two)));
    assert_eq!(found, Err(DecodeError::NotABatch("more marks than readings")));
}

#[test]
fn nesting_is_followed_to_a_depth_and_no_further() {
    let nested = |depth: usize| [&[0x81, 0xa1, b'x'][..], &vec![0x91; depth], &[0]].concat();
    assert!(decode(&by_hand(0, 0, &nested(30))).is_ok());
    assert!(matches!(decode(&by_hand(0, 0, &nested(100_000))), Err(DecodeError::NotABatch(_))));
}

#[test]
fn a_body_key_that_is_no_text_is_unknown() {
    let body = [0x82, 7, 0x91, 7, 0xa1, b'f', 0x90];
    assert_eq!(decode(&by_hand(0, 0, &body)).unwrap().readings(), 0);
}

#[test]
fn a_number_that_is_none_is_no_value() {
    let frames = [0x91, 0x94, 1, 0x91, 0, 0x91, 0, 0x91, 0xca, 0x7f, 0xc0, 0, 0];
    let mut values = Vec::new();
    let batch = decode(&by_hand(1, 0, &body_of(kind::RAW, &frames))).unwrap();
    batch.rows(|row| values.push(row.value.is_none()));
    assert_eq!(values, [true]);
}

#[test]
fn a_group_with_fewer_samples_than_points_invents_nothing() {
    let group = |samples| Group {
        stream: Stream::Data,
        at: UnixMillis(5),
        points: (0..2).map(PointId).collect(),
        samples,
    };
    let sample = || Sample::good(Value::from_i64(300));
    let groups = [group(vec![sample(), sample()]), group(vec![sample()])];
    let expected =
        [group(vec![sample(); 2]), group(vec![sample(), Sample::none(NoData::Malformed)])];
    assert_eq!(flat_batches(&sealed(&groups, Coding::Plain, 1 << 20)), flat_groups(&expected));
}

#[test]
fn a_zlib_bomb_is_refused() {
    let zeros = vec![0_u8; limits::BATCH_INFLATED_BYTES_MAX + 2];
    let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut coder, &zeros).unwrap();
    let payload = by_hand(0, 1, &coder.finish().unwrap());
    assert_eq!(decode(&payload), Err(DecodeError::TooLarge));
}

#[test]
fn a_zstd_bomb_is_refused_by_its_size_and_by_its_window() {
    let zeros = vec![0_u8; limits::BATCH_INFLATED_BYTES_MAX + 2];
    let coded = zstd::bulk::compress(&zeros, 19).unwrap();
    assert!(coded.len() < 10_000);
    assert_eq!(decode(&by_hand(0, 2, &coded)), Err(DecodeError::TooLarge));
    // A window of 2 GiB, which a decoder would have to allocate (RFC 8878, section 3.1.1.1.2).
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
    assert_eq!(decode(&by_hand(0, 2, &window)), Err(DecodeError::Damaged));
}

#[test]
fn a_length_of_four_billion_is_believed_nowhere() {
    let groups = [0, 1].map(|row| Group {
        stream: Stream::Data,
        at: UnixMillis(5 + row),
        points: (0..4).map(PointId).collect(),
        samples: vec![Sample::good(Value::from_text("word")); 4],
    });
    let payload = sealed(&groups, Coding::Plain, 1 << 20).remove(0);
    for at in 0..payload.len() {
        for marker in [0xdb, 0xc6, 0xc9, 0xdd, 0xdf] {
            let head = [marker, 0xff, 0xff, 0xff, 0xff];
            let hostile = [&payload[..at], &head, &payload[at..]].concat();
            assert!(decode(&hostile).is_err(), "{marker:x} at {at}");
        }
    }
}

#[test]
fn a_key_that_is_repeated_counts_once_and_costs_nothing() {
    let mut payload = by_hand(0, 0, &[0x80]);
    let many = 2_000_000_u32;
    payload.splice(..1, [&[0xdf][..], &(many + 8).to_be_bytes()].concat());
    (0..many).for_each(|_| payload.extend([0xa1, b'v', 1]));
    assert_eq!(decode(&payload).unwrap().header.sequence, 1);
}

#[test]
fn times_that_no_decoder_can_hold_are_refused() {
    let late = Err(DecodeError::NotABatch("a time of 2^53 ms or more"));
    let head = [0x91, 0x94, 1, 0x91, 0xcf, 0x00, 0x20, 0, 0, 0, 0, 0, 0];
    let frames = [&head[..], &[0x91, 0, 0x91, 5]].concat();
    assert_eq!(decode(&by_hand(1, 0, &body_of(0, &frames))), late);
    let overflow = [0x92, 0xcf, 0x00, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xd3, 0x7f];
    let frames = [&[0x91, 0x94, 1][..], &overflow, &[0xff; 7], &[0x92, 0, 0, 0x92, 5, 5]].concat();
    assert!(decode(&by_hand(2, 0, &body_of(0, &frames))).is_err());
}

#[test]
fn a_later_version_is_named() {
    let mut payload = pack::Writer::default();
    payload.map(2);
    payload.str("v");
    payload.uint(2);
    payload.str("gw");
    payload.map(0);
    assert_eq!(decode(&payload.0), Err(DecodeError::Version(2)));
}
