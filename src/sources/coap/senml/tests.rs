//! Packs as RFC 8428 prints them, with the records they must resolve to, and properties that hold
//! for all packs.

use proptest::prelude::*;

use super::*;

/// 2020-01-01T00:00:00Z.
const NOW: UnixMillis = UnixMillis(1_577_836_800_000);

fn json(pack: &str) -> Vec<Resolved> {
    from_json(pack.as_bytes(), NOW).unwrap()
}

fn fault(pack: &str) -> String {
    from_json(pack.as_bytes(), NOW).unwrap_err().0
}

fn number(n: f64) -> Sample {
    Value::from_f64(n).into()
}

/// Whole name, unit, milliseconds and sample of each record.
fn plain(records: &[Resolved]) -> Vec<(String, &str, i64, Sample)> {
    let one = |r: &Resolved| (format!("{}{}", r.base, r.name), r.at.0, r.sample.clone());
    records
        .iter()
        .map(|r| {
            let (name, at, sample) = one(r);
            (name, &*r.unit, at, sample)
        })
        .collect()
}

#[test]
fn r8428_5_1_1_a_single_datapoint() {
    let records = json(r#"[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]"#);
    assert_eq!(
        plain(&records),
        [("urn:dev:ow:10e2073a01080063".into(), "Cel", NOW.0, number(23.1))]
    );
}

#[test]
fn r8428_5_1_2_multiple_datapoints_inherit_base_name_unit_and_time() {
    let records = json(
        r#"[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,
             "n":"voltage","u":"V","v":120.1},
            {"n":"current","t":-5,"v":1.2},
            {"n":"current","t":-1,"v":1.6},
            {"n":"current","v":1.7}]"#,
    );
    let name = |n| format!("urn:dev:ow:10e2073a0108006:{n}");
    assert_eq!(
        plain(&records),
        [
            (name("voltage"), "V", 1_276_020_076_001, number(120.1)),
            (name("current"), "A", 1_276_020_071_001, number(1.2)),
            (name("current"), "A", 1_276_020_075_001, number(1.6)),
            (name("current"), "A", 1_276_020_076_001, number(1.7)),
        ]
    );
}

#[test]
fn r8428_5_1_3_one_name_with_many_units() {
    let records = json(
        r#"[{"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":20},
            {"u":"lon","v":24.30621},{"u":"lat","v":60.07965},
            {"t":60,"v":20.3},{"u":"%EL","t":150,"v":98}]"#,
    );
    let name = || "urn:dev:ow:10e2073a01080063".to_owned();
    assert_eq!(
        plain(&records),
        [
            (name(), "%RH", 1_320_067_464_000, number(20.0)),
            (name(), "lon", 1_320_067_464_000, number(24.30621)),
            (name(), "lat", 1_320_067_464_000, number(60.07965)),
            (name(), "%RH", 1_320_067_524_000, number(20.3)),
            (name(), "%EL", 1_320_067_614_000, number(98.0)),
        ]
    );
}

#[test]
fn r8428_5_1_5_values_of_every_type() {
    let records = json(
        r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},
            {"n":"label","vs":"Machine Room"},{"n":"open","vb":false},
            {"n":"nfc-reader","vd":"aGkgCg"}]"#,
    );
    let samples: Vec<_> = records.into_iter().map(|record| record.sample).collect();
    assert_eq!(
        samples,
        [
            number(23.1),
            Sample::good(Value::from_text("Machine Room")),
            Sample::good(Value::Bool(false)),
            Sample::good(Value::from_text("aGkgCg")),
        ]
    );
}

#[test]
fn r8428_5_1_6_a_record_of_bases_alone_is_no_reading() {
    let records = json(
        r#"[{"bn":"urn:dev:ow:10e2073a01080063:"},
            {"n":"temp","u":"Cel","v":27.2},{"n":"humidity","u":"%RH","v":80}]"#,
    );
    assert_eq!(records.len(), 2);
    assert_eq!(
        (&*records[0].base, &*records[1].name),
        ("urn:dev:ow:10e2073a01080063:", "humidity")
    );
}

/// The second pack of section 5.1.2 as section 6 prints it in CBOR, with the last record only.
const CBOR: &[u8] = &[
    0x82, 0xa7, 0x21, 0x78, 0x1b, b'u', b'r', b'n', b':', b'd', b'e', b'v', b':', b'o', b'w', b':',
    b'1', b'0', b'e', b'2', b'0', b'7', b'3', b'a', b'0', b'1', b'0', b'8', b'0', b'0', b'6', b':',
    0x22, 0xfb, 0x41, 0xd3, 0x03, 0xa1, 0x5b, 0x00, 0x10, 0x62, 0x23, 0x61, b'A', 0x20, 0x05, 0x00,
    0x67, b'v', b'o', b'l', b't', b'a', b'g', b'e', 0x01, 0x61, b'V', 0x02, 0xfb, 0x40, 0x5e, 0x06,
    0x66, 0x66, 0x66, 0x66, 0x66, 0xa3, 0x00, 0x67, b'c', b'u', b'r', b'r', b'e', b'n', b't', 0x06,
    0x24, 0x02, 0xfb, 0x3f, 0xf3, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33,
];

#[test]
fn r8428_6_the_same_pack_in_cbor_resolves_to_the_same_records() {
    let same = json(
        r#"[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,
             "n":"voltage","u":"V","v":120.1},{"n":"current","t":-5,"v":1.2}]"#,
    );
    assert_eq!(from_cbor(CBOR, NOW).unwrap(), same);
}

#[test]
fn every_prefix_of_a_cbor_pack_is_refused() {
    for end in 0..CBOR.len() {
        assert!(from_cbor(&CBOR[..end], NOW).is_err(), "{end} bytes were taken");
    }
    assert!(from_cbor(&[CBOR, &[0]].concat(), NOW).is_err());
}

#[test]
fn cbor_numbers_of_every_kind_are_the_decimal_they_stand_for() {
    let one = |value: &[u8]| {
        let pack = [&[0x81, 0xa2, 0x00, 0x61, b'x', 0x02], value].concat();
        from_cbor(&pack, NOW).map(|records| records[0].sample.value.clone())
    };
    let decimal = |digits, places| Ok(Ok(Value::Decimal(Decimal { digits, places })));
    assert_eq!(one(&[0xf9, 0x4d, 0x48]), decimal(21_125, 3), "binary16");
    assert_eq!(one(&[0xf9, 0x00, 0x01]).unwrap(), Ok(Value::Float(2_f64.powi(-24))));
    assert_eq!(one(&[0xf9, 0x7e, 0x00]), Ok(Err(NoData::SensorFault)), "binary16 NaN");
    assert_eq!(one(&[0xfa, 0x41, 0xa8, 0xcc, 0xcd]), decimal(211, 1), "binary32");
    assert_eq!(one(&[0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]), Ok(Err(NoData::SensorFault)), "NaN");
    assert_eq!(one(&[0x38, 0x63]), decimal(-100, 0), "negative integer");
    assert_eq!(
        one(&[0x1b, 255, 255, 255, 255, 255, 255, 255, 255]).unwrap(),
        Ok(Value::Float(18_446_744_073_709_551_615.0))
    );
    assert_eq!(one(&[0xc4, 0x82, 0x21, 0x19, 0x08, 0x3f]), decimal(2111, 2), "decimal fraction");
    assert_eq!(one(&[0xf6]), Ok(Err(NoData::SensorFault)), "null");
    assert!(one(&[0xc2, 0x41, 1]).is_err(), "a bignum is not a SenML number");
    assert!(one(&[0x61, b'x']).is_err(), "text is no number");
}

#[test]
fn cbor_packs_without_lengths_and_with_text_labels_are_read() {
    let streamed = [0x9f, 0xbf, 0x00, 0x7f, 0x61, b'a', 0x61, b'b', 0xff, 0x04, 0xf5, 0xff, 0xff];
    let records = from_cbor(&streamed, NOW).unwrap();
    assert_eq!((&*records[0].name, &records[0].sample), ("ab", &Sample::good(Value::Bool(true))));
    let named =
        [0x81, 0xa3, 0x61, b'n', 0x61, b'a', 0x61, b'v', 0x07, 0x63, b'f', b'o', b'o', 0x80];
    assert_eq!(from_cbor(&named, NOW).unwrap()[0].sample, number(7.0));
    let must = [0x81, 0xa3, 0x00, 0x61, b'a', 0x02, 0x07, 0x62, b'x', b'_', 0x00];
    assert!(from_cbor(&must, NOW).unwrap_err().0.contains("\"x_\""));
}

#[test]
fn cbor_data_is_the_text_that_json_carries() {
    let pack = [0x81, 0xa2, 0x00, 0x61, b'x', 0x08, 0x44, b'h', b'i', b' ', b'\n'];
    assert_eq!(from_cbor(&pack, NOW).unwrap()[0].sample, Sample::good(Value::from_text("aGkgCg")));
}

#[test]
fn times_below_2_to_the_28_count_from_now_and_others_from_1970() {
    let at =
        |base: &str, t: &str| json(&format!(r#"[{{"bt":{base},"n":"a","t":{t},"v":1}}]"#))[0].at;
    assert_eq!(at("0", "0"), NOW);
    assert_eq!(at("0", "-0.25"), UnixMillis(NOW.0 - 250));
    assert_eq!(at("-100", "40"), UnixMillis(NOW.0 - 60_000));
    assert_eq!(at("268435455", "0.5"), UnixMillis(NOW.0 + 268_435_455_500));
    assert_eq!(at("268435455", "1"), UnixMillis(268_435_456_000), "the sum decides, not its parts");
    assert_eq!(at("268435456", "0"), UnixMillis(268_435_456_000));
    assert!(fault(r#"[{"n":"a","t":1e300,"v":1}]"#).contains("record 1: its time"));
    assert!(fault(r#"[{"n":"a","t":-1e9,"v":1}]"#).contains("its time"));
}

#[test]
fn bases_are_added_as_decimals_and_missing_parts_count_as_zero() {
    let values: Vec<_> = json(
        r#"[{"bn":"a","bv":0.2,"v":0.1},{"n":"x"},{"bv":-1,"n":"y","v":0.5},{"n":"b","vb":true}]"#,
    )
    .into_iter()
    .map(|record| record.sample.value.unwrap())
    .collect();
    let decimal = |digits, places| Value::Decimal(Decimal { digits, places });
    assert_eq!(values, [decimal(3, 1), decimal(2, 1), decimal(-5, 1), Value::Bool(true)]);
}

#[test]
fn a_sum_is_a_point_of_its_own_in_units_times_seconds() {
    let records = json(r#"[{"bs":100,"n":"power","u":"W","v":5,"s":0.5},{"n":"p2","s":1}]"#);
    assert_eq!(
        plain(&records),
        [
            ("power_sum".into(), "W.s", NOW.0, number(100.5)),
            ("power".into(), "W", NOW.0, number(5.0)),
            ("p2_sum".into(), "", NOW.0, number(101.0)),
        ]
    );
}

#[test]
fn what_must_be_understood_and_is_not_refuses_the_whole_pack() {
    assert!(
        fault(r#"[{"n":"a","v":1},{"n":"b","v":1,"far_":1}]"#).contains("record 2: label \"far_\"")
    );
    assert!(fault(r#"[{"bver":11,"n":"a","v":1}]"#).contains("version 11"));
    assert!(
        fault(r#"[{"bver":5,"n":"a","v":1},{"bver":10,"n":"a","v":1}]"#).contains("bver differs")
    );
    assert_eq!(json(r#"[{"n":"a","v":1,"far":{"x":[1]},"ut":5}]"#).len(), 1);
}

#[test]
fn what_is_no_record_is_named() {
    for (pack, part) in [
        ("{}", "array of records"),
        ("[1]", "record 1: it is no object"),
        (r#"[{"n":"a"}]"#, "record 1: it has no value"),
        (r#"[{"n":"a","v":1,"vb":true}]"#, "more than one value"),
        (r#"[{"n":"a","vs":"x","vd":"x"}]"#, "more than one value"),
        (r#"[{"n":"a","v":"1"}]"#, "\"v\" is not a number"),
        (r#"[{"n":1,"v":1}]"#, "\"n\" is not text"),
        (r#"[{"n":"a","vb":1}]"#, "true or false"),
        ("[{", "not JSON at line 1"),
    ] {
        assert!(fault(pack).contains(part), "{pack}: {}", fault(pack));
    }
    let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
    assert!(fault(&format!(r#"[{{"bn":"{long}","v":1}}]"#)).contains("bn is longer"));
    assert!(fault(&format!(r#"[{{"n":"{long}","v":1}}]"#)).contains("too long"));
    assert_eq!(json(r#"[{"n":"a","v":null}]"#)[0].sample, Sample::none(NoData::SensorFault));
}

proptest! {
    #[test]
    fn a_resolved_pack_written_without_bases_resolves_to_itself(
        base in "[a-z:]{0,8}",
        bt in prop_oneof![Just(0.0), 3e8..4e9],
        rows in prop::collection::vec(("[a-z]{1,6}", -1e6..1e6_f64, 0..1000_i32), 1..20),
    ) {
        let pack: Vec<_> = rows
            .iter()
            .enumerate()
            .map(|(i, (n, v, t))| match i {
                0 => serde_json::json!({"bn": base, "bt": bt, "bu": "V", "n": n, "v": v, "t": t}),
                _ => serde_json::json!({"n": n, "v": v, "t": t}),
            })
            .collect();
        let resolved = from_json(&serde_json::to_vec(&pack).unwrap(), NOW).unwrap();
        prop_assert_eq!(resolved.len(), rows.len());
        let again: Vec<_> = resolved
            .iter()
            .zip(&rows)
            .map(|(record, (_, v, _))| {
                let name = format!("{}{}", record.base, record.name);
                #[expect(clippy::cast_precision_loss)]
                let t = record.at.0 as f64 / 1000.0;
                serde_json::json!({"n": name, "u": "V", "v": v, "t": t})
            })
            .collect();
        let again = from_json(&serde_json::to_vec(&again).unwrap(), NOW).unwrap();
        prop_assert_eq!(plain(&resolved), plain(&again));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_cbor(&bytes, NOW);
        let _ = from_json(&bytes, NOW);
    }

    #[test]
    fn a_damaged_pack_never_panics(at in 0..CBOR.len(), byte: u8) {
        let mut pack = CBOR.to_vec();
        pack[at] = byte;
        for record in from_cbor(&pack, NOW).unwrap_or_default() {
            prop_assert!(record.base.len() + record.name.len() <= 2 * limits::NAME_BYTES_MAX + 4);
        }
    }
}
