//! The grammar of tests, and what a test that fails says.

use proptest::prelude::*;

use super::*;
use crate::rules::wit::Value as V;

fn feed(text: &str) -> Feed {
    Feed::parse([text]).unwrap()
}

fn came(stream: Stream, name: &str, value: V, at_s: i64) -> Came {
    let (device, point) = name.split_once('/').unwrap();
    Came {
        stream,
        device: device.to_owned(),
        point: point.to_owned(),
        at: at_s * 1_000_000,
        value,
        quality: Quality::empty(),
    }
}

fn data(name: &str, value: f64, at_s: i64) -> Came {
    came(Stream::Data, name, V::Number(value), at_s)
}

fn failure(expect: &str, came: &[Came]) -> String {
    match compare(&Expect::parse([expect]).unwrap(), came) {
        Verdict::Passed => "passed".to_owned(),
        Verdict::Failed { difference, .. } => difference,
    }
}

#[test]
fn the_example_of_the_contract_is_understood() {
    let feed = feed("chiller/supply_temp = 3.0@0s 1.9@10s 1.8@41s");
    assert_eq!(feed.series, [("chiller".to_owned(), "supply_temp".to_owned())]);
    let seen: Vec<_> = feed.readings.iter().map(|r| (r.at / 1_000_000, r.value.clone())).collect();
    assert_eq!(seen, [(0, V::Number(3.0)), (10, V::Number(1.9)), (41, V::Number(1.8))]);
    assert_eq!(feed.readings[1].reading().at, BEGIN_US + 10_000_000);
    let expect = Expect::parse(["event freeze @40s"]).unwrap();
    assert_eq!(expect.wanted[0].line(), "event freeze @40s");
}

#[test]
fn values_of_every_kind_have_their_place() {
    let feed = feed(
        "d/p = -1.5e3@0s true@1s false@2s \"a b\"@3s 'c'@4s none@5s none:offline@6s 1:bad+late@1m30s",
    );
    let values: Vec<_> = feed.readings.iter().map(|r| r.value.clone()).collect();
    let text = |text: &str| V::Text(text.to_owned());
    let expected = [
        V::Number(-1500.0),
        V::Boolean(true),
        V::Boolean(false),
        text("a b"),
        text("c"),
        V::None(NoData::Timeout),
        V::None(NoData::Offline),
        V::Number(1.0),
    ];
    assert_eq!(values, expected);
    assert_eq!(feed.readings[7].quality, Quality::BAD | Quality::LATE);
    assert_eq!(feed.ends(), 90_000_000);
}

#[test]
fn rows_and_ramps_are_written_out() {
    let feed = feed("d/p = 1..3@0s..4s/1s 7@5s..6s/500ms");
    let seen: Vec<_> = feed.readings.iter().map(|r| (r.at / 1000, r.value.clone())).collect();
    let expected = [
        (0, 1.0),
        (1000, 1.5),
        (2000, 2.0),
        (3000, 2.5),
        (4000, 3.0),
        (5000, 7.0),
        (5500, 7.0),
        (6000, 7.0),
    ];
    assert_eq!(seen, expected.map(|(at, value)| (at, V::Number(value))));
}

#[test]
fn lines_are_merged_by_arrival_and_a_late_reading_arrives_late() {
    let feed = feed("# two sensors\na/x = 1@0s 3@10s 2@5s\n\nb/y = 4@7s 5@10s");
    let order: Vec<_> = feed.readings.iter().map(|r| (r.series, r.at / 1_000_000)).collect();
    assert_eq!(order, [(0, 0), (1, 7), (0, 10), (0, 5), (1, 10)]);
}

#[test]
fn slips_are_told_with_the_word_they_are_in() {
    for (text, word) in [
        ("power = 1@0s", "no series"),
        ("/p = 1@0s", "no series"),
        ("a/b/c = 1@0s", "no series"),
        ("a/b = 1", "time is missing"),
        ("a/b = 1@10", "has no unit"),
        ("a/b = 1@soon", "no time"),
        ("a/b = @5s", "value is missing"),
        ("a/b = x@5s", "no value"),
        ("a/b = 'x@5s", "not closed"),
        ("a/b = 1:good@5s", "none of uncertain"),
        ("a/b = 1:offline@5s", "none of uncertain"),
        ("a/b = 1..@5s", "two ends"),
        ("a/b = 1..2@5s", "row of times"),
        ("a/b = 1@5s..9s", "step"),
        ("a/b = 1@5s..1s/1s", "leads nowhere"),
        ("a/b = 1@5s..9s/0s", "leads nowhere"),
        ("a/b = 1@5s!", "behind the time"),
        ("a/b = 1~1@5s", "tolerances belong to expect"),
        ("a/b = 1@0s..10000d/1ms", "more than 100000 readings"),
        ("a/b = 1@99999999999d", "too far"),
        ("a/b = 1e999@0s", "no value"),
    ] {
        let slip = Feed::parse([text]).unwrap_err().to_string();
        assert!(slip.contains(word), "{text}: {slip}");
    }
    for (text, word) in [
        ("", "nothing is said"),
        ("# only a remark", "nothing is said"),
        ("power = 1@0s", "no series"),
        ("a/b", "is missing"),
        ("event freeze", "is missing"),
        ("a/b = 1..2@0s..9s/1s", "ramp"),
        ("a/b = 1~-1@0s", "may be off"),
    ] {
        let slip = Expect::parse([text]).unwrap_err().to_string();
        assert!(slip.contains(word), "{text}: {slip}");
    }
}

#[test]
fn what_comes_as_expected_passes() {
    let all = [
        data("m/p.mean", 0.1 + 0.2, 10),
        came(Stream::Event, "m/freeze", V::Boolean(true), 40),
        data("m/p.mean", 3.04, 20),
    ];
    for expect in [
        "m/p.mean = 0.3@10s 3~0.05@20s\nevent freeze @40s",
        "event m/freeze = true@40s\nm/p.mean = 0.3@10s 3.04@21s~1s",
        "event freeze @40s\n...",
        "event freeze @40s\nm/other = nothing\n...",
    ] {
        assert_eq!(failure(expect, &all), "passed", "{expect}");
    }
    assert_eq!(failure("nothing", &[]), "passed");
}

#[test]
fn the_first_difference_is_told_in_words() {
    let all = [data("m/p", 2.0, 10), data("m/p", 3.0, 20)];
    let freeze = |at| came(Stream::Event, "m/freeze", V::Boolean(true), at);
    for (expect, came, told) in [
        ("nothing", &all[..1], "expected nothing, came m/p = 2@10s"),
        ("m/p = 2@10s", &all, "m/p = 3@20s came, and nothing more was expected of it"),
        ("m/p = 2@10s 3@20s 4@30s", &all, "expected m/p = 4@30s, nothing more came"),
        ("m/p = 2@10s 3@15s", &all, "expected m/p = 3@15s, came m/p = 3@20s (5s too late)"),
        ("m/p = 2@10s 3@25s", &all, "expected m/p = 3@25s, came m/p = 3@20s (5s too early)"),
        ("m/p = 2@10s 3.5@20s", &all, "expected m/p = 3.5@20s, came m/p = 3@20s (off by 0.5)"),
        ("m/p = 2@10s true@20s", &all, "expected m/p = true@20s, came m/p = 3@20s (3 is not true)"),
        (
            "m/p = 2:bad@10s 3@20s",
            &all,
            "expected m/p = 2:bad@10s, came m/p = 2@10s (its quality differs)",
        ),
        (
            "event freeze @40s",
            &[freeze(50)],
            "expected event freeze @40s, came event m/freeze = true@50s (10s too late)",
        ),
        (
            "event frost @40s",
            &[freeze(40)],
            "expected event frost @40s, nothing more came of event frost; event m/freeze = true@40s did",
        ),
        (
            "event freeze @40s",
            &[freeze(40), data("m/p", 1.0, 1)],
            "m/p = 1@1s came besides, which was not expected (a line \"...\" allows other series)",
        ),
        ("m/p = nothing\n...", &all, "m/p = 2@10s came, and nothing more was expected of it"),
    ] {
        assert_eq!(failure(expect, came), told, "{expect}");
    }
}

#[test]
fn what_came_is_shown_as_one_would_write_it() {
    let mut odd = came(Stream::Data, "m/p", V::None(NoData::Offline), 90);
    odd.quality = Quality::LATE | Quality::DERIVED;
    assert_eq!(odd.to_string(), "m/p = none:offline+late+derived@1m30s");
    let text = came(Stream::Data, "m/p", V::Text("a\u{1b}\"b".to_owned()), 0);
    assert_eq!(text.to_string(), "m/p = 'a\\u{1b}\"b'@0s");
    for came in [odd, data("m/p", -0.25, 3), came(Stream::Event, "m/e", V::Boolean(false), 7)] {
        let expect = Expect::parse([came.to_string().as_str()]).unwrap();
        assert_eq!(compare(&expect, &[came]), Verdict::Passed);
    }
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(line in "[ -~\u{e4}\u{20ac}]{0,60}", start in "a/b = [0-9.@s~:/]{0,30}") {
        for text in [line, start] {
            let _ = Feed::parse([text.as_str()]);
            let _ = Expect::parse([text.as_str()]);
        }
    }
}
