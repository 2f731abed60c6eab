//! Manifests as authors and strangers write them, and what operators give to their parameters.

use proptest::prelude::*;
use serde_json::{Value, json};
use toml::de::DeTable;

use super::*;

fn plain() -> Value {
    json!({
        "name": "deadband", "version": "1.2.0", "licence": "Apache-2.0", "author": "A. Author",
        "contract": CONTRACT,
        "parameters": [
            { "name": "band", "kind": "number", "unit": "Cel", "min": 0, "max": 100, "default": 0.1,
              "help": "Smallest change worth sending." },
            { "name": "heartbeat", "kind": "duration", "min": "1s", "max": "1day", "default": "10m" },
            { "name": "emit", "kind": "texts", "choices": ["mean", "max"], "default": ["mean"] },
            { "name": "event", "kind": "text", "optional": true },
            { "name": "count", "kind": "integer", "min": -5, "max": 5 },
        ],
        "outputs": [{ "stream": "data", "device": "{device}", "point": "{point}.{emit}", "unit": "Cel" }],
        "state_version": 3, "capabilities": ["output", "params", "state"],
        "limits": { "fuel": 400, "memory": 1_048_576 },
        "tests": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    })
}

fn read(json: &Value) -> Result<Manifest, String> {
    Manifest::parse(json.to_string().as_bytes()).map_err(|bad| bad.to_string())
}

fn with(text: &str) -> Result<Vec<(String, Param)>, Vec<ParamFault>> {
    let table = DeTable::parse(text).unwrap();
    read(&plain()).unwrap().params(table.get_ref())
}

fn component() -> Vec<u8> {
    wat::parse_str("(component (core module (func (export \"f\"))))").unwrap()
}

#[test]
fn a_manifest_reads_back_as_it_was_written() {
    let manifest = read(&plain()).unwrap();
    assert_eq!(read(&manifest.to_json()).unwrap(), manifest);
    let file = write(&component(), manifest.to_json().to_string().as_bytes()).unwrap();
    assert_eq!(Manifest::read(&file).unwrap().unwrap(), manifest);
    assert_eq!(manifest.parameters[1].min, Some(1e6), "durations are in microseconds");
    assert_eq!(
        manifest.limits,
        Asked { fuel: Some(400), memory: Some(1 << 20), ..Asked::default() }
    );
}

#[test]
fn a_file_without_a_manifest_has_none() {
    assert_eq!(Manifest::read(&component()), Ok(None));
}

#[test]
fn writing_again_replaces_and_taking_out_restores() {
    let bare = component();
    let once = write(&bare, b"{}").unwrap();
    let twice = write(&once, plain().to_string().as_bytes()).unwrap();
    assert!(Manifest::read(&twice).unwrap().is_some());
    assert_eq!(without(&twice).unwrap(), bare);
}

#[test]
fn the_section_further_out_overrules_one_within() {
    let inner = write(&wat::parse_str("(module)").unwrap(), b"{\"name\":\"inner\"}").unwrap();
    let mut outer = wasm_encoder::Component::new();
    outer.section(&wasm_encoder::RawSection { id: 1, data: &inner });
    let outer = outer.finish();
    let found = sections(&outer).unwrap();
    assert_eq!((found.depth, found.is_component), (1, true));
    assert_eq!(found.outermost, Some(&b"{\"name\":\"inner\"}"[..]));
    let both = write(&outer, plain().to_string().as_bytes()).unwrap();
    assert_eq!(Manifest::read(&both).unwrap().unwrap().name, "deadband");
    assert_eq!(without(&both).unwrap(), outer, "what lies within is left alone");
}

#[test]
fn two_sections_side_by_side_are_refused() {
    let section = wasm_encoder::CustomSection { name: SECTION.into(), data: b"{}".into() };
    let mut module = wasm_encoder::Module::new();
    module.section(&section).section(&section);
    let refusal = Manifest::read(&module.finish()).unwrap_err().to_string();
    assert!(refusal.contains("2 times"), "{refusal}");
}

#[test]
fn files_that_are_no_webassembly_are_told_by_what_they_are() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "empty"),
        (b"\x7FELF\x02\x01\x01\x00 and so on", "ELF"),
        (b"(module) ;; text", "text form"),
        (b"untrusted comment: signature", "signature"),
        (b"\x1F\x8B\x08 and so on", "gzip"),
        (b"PK\x03\x04 and so on", "zip"),
        (b"#!/bin/sh and so on", "no WebAssembly"),
    ];
    for (file, word) in cases {
        let refusal = Manifest::read(file).unwrap_err().to_string();
        assert!(refusal.contains(word), "{refusal}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_or_whole() {
    let file = write(&component(), plain().to_string().as_bytes()).unwrap();
    let whole = Manifest::read(&file).unwrap();
    for len in 0..file.len() {
        if let Ok(found) = Manifest::read(&file[..len]) {
            assert!(found.is_none() || found == whole, "cut at {len}");
        }
    }
}

#[test]
fn nesting_and_sections_have_bounds() {
    let mut nested = wat::parse_str("(component)").unwrap();
    for _ in 0..=crate::limits::MANIFEST_DEPTH_MAX {
        let mut outer = wasm_encoder::Component::new();
        outer.section(&wasm_encoder::RawSection { id: 4, data: &nested });
        nested = outer.finish();
    }
    assert!(Manifest::read(&nested).unwrap_err().why.contains("deep"));
    let mut many = wasm_encoder::Module::new();
    let empty = wasm_encoder::CustomSection { name: "".into(), data: [][..].into() };
    for _ in 0..=crate::limits::MANIFEST_SECTIONS_MAX {
        many.section(&empty);
    }
    assert!(Manifest::read(&many.finish()).unwrap_err().why.contains("sections"));
}

/// Each entry: what is put where, and a word of the refusal.
fn malformed() -> Vec<(&'static str, Value, &'static str)> {
    let long = "a".repeat(1600);
    let many = |n: usize| Value::Array((0..n).map(|n| json!(format!("c{n}"))).collect());
    vec![
        ("/name", json!(null), "missing"),
        ("/name", json!(""), "empty"),
        ("/name", json!(7), "a number, not text"),
        ("/name", json!("Deadband"), "lower-case"),
        ("/name", json!("dead_band"), "lower-case"),
        ("/name", json!("7up"), "begins with a letter"),
        ("/name", json!("../../etc/passwd"), "no name"),
        ("/name", json!("a\u{1b}[2J"), "\\u{1b}"),
        ("/name", json!(long), "no name"),
        ("/version", json!("1.2"), "semantic version"),
        ("/version", json!("v1.2.0"), "semantic version"),
        ("/version", json!("99999999999999999999999.0.0"), "semantic version"),
        ("/version", json!(format!("1.0.0-{long}")), "semantic version"),
        ("/version", json!(1), "not text"),
        ("/licence", json!(["MIT"]), "a list, not text"),
        ("/licence", json!(long), "1600 bytes"),
        ("/author", json!("a\u{7}b"), "control characters"),
        ("/contract", json!("fieldgate:rule@2.0.0"), "speaks fieldgate:rule@1.0.0"),
        ("/contract", json!("fieldgate:rule@1.1.0"), "speaks fieldgate:rule@1.0.0"),
        ("/contract", json!("fieldgate:rule@0.9.0"), "speaks"),
        ("/contract", json!("wasi:cli@0.2.0"), "no contract"),
        ("/contract", json!("fieldgate:rule"), "no contract"),
        ("/state_version", json!(-1), "whole number"),
        ("/state_version", json!(1.5), "whole number"),
        ("/state_version", json!(4_294_967_296_u64), "32 bits"),
        ("/capabilities", json!(["clock"]), "cannot grant"),
        ("/capabilities", json!("state"), "not a list"),
        ("/capabilities", json!([1]), "short text"),
        ("/capabilities", many(17), "17 entries"),
        ("/limits", json!([]), "not a table"),
        ("/limits", json!({ "fuel": 0 }), "could do nothing"),
        ("/limits", json!({ "fuel": -3 }), "whole number"),
        ("/limits", json!({ "fuel": "much" }), "whole number"),
        ("/limits", json!({ "feul": 3 }), "not known here"),
        ("/limits", json!({ "memory": 1e300 }), "whole number"),
        ("/limits", json!({ "deadline": "50" }), "duration with its unit"),
        ("/limits", json!({ "deadline": "0s" }), "duration with its unit"),
        ("/tests", json!("abc"), "SHA-256"),
        ("/tests", json!("A".repeat(64)), "SHA-256"),
        ("/parameters", json!({}), "not a list"),
        ("/parameters", Value::Array(vec![json!({}); 65]), "65 entries"),
        ("/parameters/0", json!("band"), "parameters[0] is text"),
        ("/parameters/1", json!({ "name": "band", "kind": "text" }), "two parameters"),
        ("/parameters/0/name", json!("Band"), "parameters[0].name"),
        ("/parameters/0/name", json!("device/point"), "no name"),
        ("/parameters/0/kind", json!("float"), "is not one of number"),
        ("/parameters/0/kind", json!("text"), "has no bounds"),
        ("/parameters/0/kind", json!(null), "missing"),
        ("/parameters/0/min", json!("0"), "a bound of number"),
        ("/parameters/0/min", json!(101), "larger than max"),
        ("/parameters/0/min", json!(5), "from 5 Cel to 100 Cel"),
        ("/parameters/0/max", json!(0.05), "from 0 Cel to 0.05 Cel"),
        ("/parameters/0/default", json!("0.1"), "takes a number"),
        ("/parameters/0/default", json!(null), "takes a number"),
        ("/parameters/0/choices", json!(["a"]), "only text"),
        ("/parameters/0/unit", json!("x".repeat(65)), "65 bytes"),
        ("/parameters/0/help", json!(long), "1600 bytes"),
        ("/parameters/0/optional", json!("yes"), "not true or false"),
        ("/parameters/0/secret", json!(true), "not known here"),
        ("/parameters/1/default", json!("10"), "takes a duration"),
        ("/parameters/1/default", json!(600), "takes a duration"),
        ("/parameters/1/default", json!("2days"), "from 1s to 1day"),
        ("/parameters/1/min", json!(1), "such as \"10s\""),
        ("/parameters/2/default", json!(["median"]), "is one of \"mean\", \"max\""),
        ("/parameters/2/default", json!("mean"), "takes a list of texts"),
        ("/parameters/2/choices", many(65), "65 entries"),
        ("/parameters/2/choices", json!(["x".repeat(65)]), "short text"),
        ("/parameters/4/min", json!(0.5), "a bound of integer"),
        ("/parameters/4/max", json!(9_007_199_254_740_994_i64), "a bound of integer"),
        ("/outputs", json!("data"), "not a list"),
        ("/outputs", Value::Array(vec![json!({}); 65]), "65 entries"),
        ("/outputs/0/stream", json!("self"), "neither"),
        ("/outputs/0/device", json!(null), "missing"),
        ("/outputs/0/device", json!("{device"), "not closed"),
        ("/outputs/0/point", json!("{band}{nobody}"), "{nobody}"),
        ("/outputs/0/point", json!("p".repeat(129)), "no name of a series"),
        ("/outputs/0/at", json!("now"), "not known here"),
        ("/schema", json!(2), "not known here"),
    ]
}

#[test]
fn what_breaks_the_form_is_refused_with_its_place() {
    for (place, value, word) in malformed() {
        let mut json = plain();
        let (within, key) = place.rsplit_once('/').unwrap();
        let table = json.pointer_mut(within).unwrap();
        match table {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
            table => table[key] = value,
        }
        let refusal = read(&json).expect_err(place);
        assert!(refusal.contains(word), "{place}: {refusal}");
        let name = place.split('/').nth(1).unwrap();
        assert!(refusal.contains(name), "{place} is not named: {refusal}");
        assert!(!refusal.contains(|c: char| c.is_control()), "{refusal:?} would act on a terminal");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let large = format!("{{\"x-pad\":\"{}\"}}", "a".repeat(crate::limits::MANIFEST_BYTES_MAX));
    for text in ["", "{", "[]", "null", "\"name\"", "{\"name\":1e999}", "\u{feff}{}", &deep, &large]
    {
        let refusal = Manifest::parse(text.as_bytes()).unwrap_err();
        assert!(refusal.why.starts_with("is ") || refusal.why.starts_with("has "), "{refusal}");
    }
    assert!(Manifest::parse(b"\xFF\xFE").is_err());
    assert!(write(&component(), large.as_bytes()).is_err());
}

#[test]
fn keys_that_only_tell_something_are_passed_over() {
    let mut json = plain();
    json["x-built-with"] = json!("some tool 3");
    assert!(read(&json).is_ok());
}

#[test]
fn an_operator_gets_defaults_in_the_authors_order() {
    let params = with("count = 3").unwrap();
    let expected = vec![
        ("band".to_owned(), Param::Number(0.1)),
        ("heartbeat".to_owned(), Param::DurationUs(600_000_000)),
        ("emit".to_owned(), Param::Texts(vec!["mean".to_owned()])),
        ("count".to_owned(), Param::Integer(3)),
    ];
    assert_eq!(params, expected);
    let params = with("count = 0x3\nband = 2\nheartbeat = \"1m 30s\"\nemit = \"max\"").unwrap();
    assert_eq!(params[0].1, Param::Number(2.0), "a whole number is a number");
    assert_eq!(params[1].1, Param::DurationUs(90_000_000));
    assert_eq!(params[2].1, Param::Texts(vec!["max".to_owned()]), "one text is a list of one");
}

#[test]
fn an_operators_slips_are_told_all_at_once_with_their_places() {
    let text = "bnad = 1.0\nheartbeat = 10\nemit = [\"maen\"]\ncount = 9\nevent = true";
    let faults = with(text).unwrap_err();
    let told: Vec<_> = faults
        .iter()
        .map(|fault| (&text[fault.span.clone().unwrap()], fault.found.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("bnad", "unknown parameter \"bnad\" of rule deadband"),
            ("10", "heartbeat is a whole number"),
            ("[\"maen\"]", "emit = [\"maen\"] does not do"),
            ("9", "count = 9 does not do"),
            ("true", "event is true or false"),
        ]
    );
    assert_eq!(faults[0].hint, "did you mean \"band\"?");
    assert_eq!(faults[1].hint, "heartbeat = \"10m\"");
    assert_eq!(faults[2].hint, "did you mean \"mean\"?");
    assert_eq!(faults[3].why, "count is from -5 to 5");
}

#[test]
fn what_must_be_given_is_asked_for() {
    let faults = with("").unwrap_err();
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].span.as_ref(), faults[0].hint.as_str()), (None, "with = { count = 3 }"));
}

#[test]
fn numbers_that_cannot_be_calculated_with_and_bare_numbers_are_refused() {
    for (text, word) in [
        ("band = nan", "calculate"),
        ("band = inf", "calculate"),
        ("band = -0.5", "from 0 Cel to 100 Cel"),
        ("heartbeat = \"10\"", "needs its unit"),
        ("heartbeat = \"soon\"", "number with its unit"),
        ("heartbeat = \"500ms\"", "from 1s to 1day"),
        ("band = \"0.1\"", "takes a number"),
        ("count = 1.0", "takes a whole number"),
        ("emit = [\"mean\", 3]", "takes a list of texts"),
        ("emit = 1979-05-27", "takes a list of texts"),
    ] {
        let text =
            if text.starts_with("count") { text.to_owned() } else { format!("count = 1\n{text}") };
        let faults = with(&text).unwrap_err();
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        assert!(faults[0].why.contains(word), "{text}: {faults:?}");
    }
}

#[test]
fn a_later_table_overrides_and_keeps_its_place() {
    let (base, over) =
        (DeTable::parse("count = 1\nband = 1").unwrap(), DeTable::parse("band = 2").unwrap());
    let manifest = read(&plain()).unwrap();
    let params = manifest.params_of(&[base.get_ref(), over.get_ref()]).unwrap();
    assert_eq!(params[0].1, Param::Number(2.0));
    let wrong = DeTable::parse("band = true").unwrap();
    let faults = manifest.params_of(&[base.get_ref(), wrong.get_ref()]).unwrap_err();
    assert_eq!((faults.len(), faults[0].layer, faults[0].span.clone()), (1, 1, Some(7..11)));
}

#[test]
fn outputs_are_named_by_input_and_parameters() {
    let manifest = read(&plain()).unwrap();
    let params = vec![("emit".to_owned(), Param::Texts(vec!["mean".to_owned(), "max".to_owned()]))];
    let pair = |point: &str| ("meter-1".to_owned(), point.to_owned());
    assert_eq!(
        manifest.outputs[0].names("meter-1", "power", &params),
        [pair("power.mean"), pair("power.max")]
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cut in 0_usize..400,
    ) {
        let _ = Manifest::parse(&bytes);
        let mut file = write(&component(), plain().to_string().as_bytes()).unwrap();
        let at = cut % file.len();
        for (place, byte) in file[at..].iter_mut().zip(&bytes) {
            *place = *byte;
        }
        if let Ok(Some(manifest)) = Manifest::read(&file) {
            prop_assert_eq!(read(&manifest.to_json()).unwrap(), manifest);
        }
    }
}
