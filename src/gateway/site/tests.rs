//! Tables, their tests, and versions that come to them: over the socket and as a file that changed.

use std::path::PathBuf;

use super::*;
use crate::api::Why;
use crate::api::rules::{Done, Push};
use crate::clock::System;
use crate::config::{Options, load};
use crate::gateway::orders::Orders;
use crate::rules::tests::kit::{Guest, MANIFEST, OK, filter};

/// A gateway's tables without anything that runs.
struct World {
    folder: tempfile::TempDir,
    events: Events,
}

/// Passes on every number above `limit`, under a version of its own.
fn passing_above(limit: f64, version: &str) -> Vec<u8> {
    versioned(filter(limit), version)
}

fn versioned(guest: Guest, version: &str) -> Vec<u8> {
    let manifest = Some(MANIFEST.replace("1.0.0\",\"licence", &format!("{version}\",\"licence")));
    Guest { manifest, ..guest }.build()
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), events: Events::default() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Configures these tests beside a rule with this file.
    fn config(&self, file: &[u8], tests: &str) -> Config {
        std::fs::write(self.at("kit.wasm"), file).unwrap();
        let text = format!(
            "[source.push]\nvia = \"coap listen 127.0.0.1:0\"\n[buffer]\npath = \"b/buffer.db\"\n\
             [rule.kit]\nfile = \"kit.wasm\"\non = \"*/*\"\n{tests}"
        );
        std::fs::create_dir_all(self.at("b")).unwrap();
        std::fs::write(self.at("fieldgate.toml"), text).unwrap();
        let loaded = load(&self.at("fieldgate.toml"), Options::default());
        loaded.unwrap_or_else(|faults| panic!("{faults}"))
    }

    /// As at a start of the daemon: what is chosen runs at no board.
    fn start(&self, config: &Config) -> Orders {
        let clock: Arc<dyn Clock> = Arc::new(System);
        let orders = Orders::open(config, &clock, &self.events);
        orders.configure_at_start(config.rules.clone(), &self.events);
        orders.take_in_first(&self.events);
        orders
    }

    fn says(&self, code: &str) -> Option<String> {
        let standing = self.events.standing();
        let found = standing.iter().find(|condition| condition.notice.code.id == code);
        found.map(|condition| condition.notice.to_string())
    }
}

async fn push(orders: &Orders, file: Vec<u8>) -> Result<Done, String> {
    let push = Push { file: file.into(), signature: None, to: None };
    orders.push(push).await.map_err(|refusal| {
        assert_eq!(refusal.why, Why::Refused);
        refusal.notice.to_string()
    })
}

/// Passes numbers above ten, and says so.
const TESTS: &str = "[test.low]\nrule = \"kit\"\nfeed = \"d/p = 9@0s 11@1s\"\n\
                     expect = \"d/p = 11@1s\"\n\
                     [test.high]\nrule = \"kit\"\nfeed = \"d/p = 99@0s\"\nexpect = \"d/p = 99@0s\"\n";

#[tokio::test]
async fn a_version_that_fails_a_test_of_the_gateway_is_refused_with_the_case_and_the_difference() {
    let world = World::new();
    let orders = world.start(&world.config(&passing_above(10.0, "1.0.0"), TESTS));
    let told = push(&orders, passing_above(50.0, "1.1.0")).await.unwrap_err();
    for words in ["FG-W67", "test.low", "expected d/p = 11@1s, nothing more came"] {
        assert!(told.contains(words), "{words} is missing: {told}");
    }
    let told = push(&orders, passing_above(8.0, "1.2.0")).await.unwrap_err();
    assert!(told.contains("came d/p = 9@0s"), "{told}");
    assert!(told.contains("What came: d/p = 9@0s; d/p = 11@1s"), "{told}");
    let failing = Guest::processing("(unreachable)");
    let told = push(&orders, versioned(failing, "1.3.0")).await.unwrap_err();
    assert!(told.contains("test.low") && told.contains("trap.unreachable"), "{told}");
    let listed = orders.all().unwrap().remove(0);
    assert_eq!(listed.trial, None, "none of them is on trial");
    let done = push(&orders, passing_above(10.5, "1.4.0")).await.unwrap();
    assert_eq!(done.stands, "trial");
}

#[tokio::test]
async fn a_first_version_that_fails_them_never_starts_whichever_way_it_came() {
    let world = World::new();
    let runs = |orders: &Orders| {
        let running = orders.running();
        running.iter().map(|rule| rule.version.to_string()).collect::<Vec<_>>()
    };
    // As the configured file, at a start: expected to run, until it is known that it does not hold.
    let failing = world.config(&passing_above(50.0, "1.0.0"), TESTS);
    let clock: Arc<dyn Clock> = Arc::new(System);
    let orders = Orders::open(&failing, &clock, &world.events);
    orders.configure_at_start(failing.rules.clone(), &world.events);
    assert_eq!((runs(&orders).len(), orders.in_force().1), (0, true), "it is not compiled yet");
    orders.take_in_first(&world.events);
    assert_eq!((runs(&orders).len(), orders.in_force().1), (0, false));
    let told = world.says("FG-W67").unwrap();
    assert!(told.contains("test.low") && told.contains("expected d/p = 11@1s"), "{told}");
    // Over the socket, with nothing beside it.
    let told = push(&orders, passing_above(51.0, "1.0.1")).await.unwrap_err();
    assert!(told.contains("FG-W67") && told.contains("test.low"), "{told}");
    assert_eq!(orders.all().unwrap()[0].live, None);
    // As a file that changed, while the daemon runs.
    let reload = |file: &[u8]| {
        orders.configure(world.config(file, TESTS).rules, &world.events);
        runs(&orders)
    };
    assert_eq!(reload(&passing_above(52.0, "1.0.2")), [""; 0]);
    assert_eq!(reload(&passing_above(10.0, "1.0.3")), ["1.0.3"]);
    assert_eq!(world.says("FG-W67"), None);
    // And it is not tried again at every start once it runs.
    let orders = Orders::open(&failing, &clock, &world.events);
    let config = world.config(&passing_above(10.0, "1.0.3"), TESTS);
    orders.configure_at_start(config.rules.clone(), &world.events);
    assert_eq!(runs(&orders), ["1.0.3"]);
}

#[tokio::test]
async fn a_recording_is_held_against_a_version_before_its_trial() {
    let world = World::new();
    std::fs::write(
        world.at("day.csv"),
        "t,device,point,value\n2026-11-22T10:00:00Z,d,p,9\n2026-11-22T10:00:01Z,d,p,40\n",
    )
    .unwrap();
    std::fs::write(world.at("day.expected"), "d/p = 40@1s\n").unwrap();
    let tests = "[test.day]\nrule = \"kit\"\nrecording = \"day.csv\"\n\
                 expected = \"day.expected\"\n";
    let orders = world.start(&world.config(&passing_above(10.0, "1.0.0"), tests));
    let told = push(&orders, passing_above(50.0, "1.1.0")).await.unwrap_err();
    for words in ["FG-W67", "test.day", "d/p = 40@1s"] {
        assert!(told.contains(words), "{words} is missing: {told}");
    }
    assert_eq!(orders.all().unwrap()[0].trial, None);
    let done = push(&orders, passing_above(39.0, "1.2.0")).await.unwrap();
    assert_eq!(done.stands, "trial");
}

#[tokio::test]
async fn what_a_table_does_not_grant_keeps_a_version_that_asks_for_it_out() {
    let world = World::new();
    let grants = |words: &str| format!("grant = [{words}]\n{TESTS}");
    let everything = "[\"params\",\"output\",\"state\",\"timers\",\"log\"]";
    let modest = MANIFEST.replace(everything, "[\"output\"]");
    let first = Guest { manifest: Some(modest.clone()), ..filter(10.0) }.build();
    let orders = world.start(&world.config(&first, &grants("\"output\"")));
    let rights = orders.all().unwrap().remove(0).rights.unwrap();
    assert_eq!((rights.asks, rights.granted), (vec!["output".into()], vec!["output".into()]));
    // One that asks for everything.
    let told = push(&orders, passing_above(10.0, "1.1.0")).await.unwrap_err();
    for words in ["FG-W67", "asks for params, state, timers, log", "grant gives it output"] {
        assert!(told.contains(words), "{words} is missing: {told}");
    }
    assert_eq!(orders.all().unwrap()[0].trial, None);
    // The same as the configured file is a fault of the configuration.
    std::fs::write(world.at("kit.wasm"), passing_above(10.0, "1.1.0")).unwrap();
    let told = load(&world.at("fieldgate.toml"), Options::default()).unwrap_err().to_string();
    assert!(told.contains("asks for params, state, timers, log"), "{told}");
    assert!(told.contains("grant = [\"output\"]"), "it shows the place: {told}");
    // A file that uses what its manifest does not ask for is no way around it.
    let sly = Guest { manifest: Some(modest.replace("[\"output\"]", "[]")), ..filter(10.0) };
    let told = push(&orders, sly.build()).await.unwrap_err();
    assert!(
        told.contains("its file uses params, output") && told.contains("does not ask for it"),
        "{told}"
    );
}

#[tokio::test]
async fn a_file_that_fails_them_is_told_of_until_it_passes_and_what_ran_goes_on() {
    let world = World::new();
    let orders = world.start(&world.config(&passing_above(10.0, "1.0.0"), TESTS));
    let reload = |file: &[u8], tests: &str| {
        let rules = world.config(file, tests).rules;
        orders.configure(rules, &world.events)
    };
    let running = reload(&passing_above(50.0, "1.1.0"), TESTS);
    assert_eq!(running.iter().map(|rule| &*rule.version).collect::<Vec<_>>(), ["1.0.0"]);
    let told = world.says("FG-W67").unwrap();
    assert!(told.contains("rule kit") && told.contains("test.low"), "{told}");
    let running = reload(&passing_above(10.5, "1.2.0"), TESTS);
    assert_eq!(running.iter().map(|rule| &*rule.version).collect::<Vec<_>>(), ["1.0.0", "1.2.0"]);
    assert_eq!(world.says("FG-W67"), None, "a file that passes ends it");
    // Tests that changed count for the next version, without a restart.
    reload(&passing_above(10.5, "1.2.0"), &TESTS.replace("9@0s 11@1s", "10.2@0s 11@1s"));
    let told = push(&orders, passing_above(10.0, "1.3.0")).await.unwrap_err();
    assert!(told.contains("came d/p = 10.2@0s"), "{told}");
}

#[tokio::test]
async fn a_file_that_changed_while_nothing_ran_keeps_no_start_waiting() {
    let world = World::new();
    world.start(&world.config(&passing_above(10.0, "1.0.0"), TESTS));
    for (version, limit, runs) in [("1.1.0", 50.0, 1), ("1.2.0", 10.5, 2)] {
        let config = world.config(&passing_above(limit, version), TESTS);
        let orders = world.start(&config);
        let running = orders.running();
        assert_eq!(running.iter().map(|rule| &*rule.version).collect::<Vec<_>>(), ["1.0.0"]);
        assert_eq!(world.says("FG-W67"), None, "{version} was not looked at yet");
        orders.take_in_changed(&world.events);
        assert_eq!(orders.running().len(), runs, "{version}");
        assert_eq!(world.says("FG-W67").is_some(), runs == 1, "{version}");
        // At the next start it is looked at again, or goes on with its trial.
        world.events.clear(&say::REFUSED, "rule kit", "is forgotten by the test");
    }
}

#[tokio::test]
async fn tests_that_take_too_long_end_and_refuse() {
    let world = World::new();
    // Sets itself a timer with every timer: days of them, each with all the fuel it may use.
    let busy = "(local $k i32) (loop $more
        (local.set $k (i32.add (local.get $k) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $k) (i32.const 10000))))";
    let set = "(call $timer (i32.const 1024) (i32.const 1)
        (i64.add (local.get $now) (i64.const 100000)))";
    let guest = Guest {
        process: format!("{set} {OK}"),
        timer: format!("{busy} {set} {OK}"),
        ..Guest::default()
    };
    let guest = guest.with("(data (i32.const 1024) \"t\")");
    let tests = TESTS.replace("expect", "until = \"8000h\"\nexpect");
    let orders = world.start(&world.config(&passing_above(10.0, "1.0.0"), &tests));
    let told = push(&orders, versioned(guest, "1.1.0")).await.unwrap_err();
    assert!(told.contains("test.low"), "{told}");
    assert!(told.contains("timers.endless") || told.contains("test.time"), "{told}");
}

#[tokio::test]
async fn a_table_that_the_running_version_no_longer_fits_takes_the_new_one_at_once() {
    let world = World::new();
    let with = |parameter: &str, version: &str| {
        let parameters = format!(
            "\"parameters\":[{{\"name\":\"{parameter}\",\"kind\":\"number\",\"help\":\"h\"}}]"
        );
        let manifest = MANIFEST
            .replace("1.0.0\",\"licence", &format!("{version}\",\"licence"))
            .replace("\"parameters\":[]", &parameters);
        Guest { manifest: Some(manifest), ..filter(10.0) }.build()
    };
    let table = |parameter: &str| format!("with = {{ {parameter} = 1.0 }}\n");
    let orders = world.start(&world.config(&with("old", "1.0.0"), &table("old")));
    let rules = world.config(&with("new", "2.0.0"), &table("new")).rules;
    let running = orders.configure(rules, &world.events);
    assert_eq!(running.iter().map(|rule| &*rule.version).collect::<Vec<_>>(), ["2.0.0"]);
    assert_eq!(world.says("FG-W67"), None);
}
