//! Rules in the whole daemon, killed again and again at moments that nobody chose. The rule counts the
//! readings of each second and keeps them, too: what arrives says by itself whether every reading was
//! counted, in one window, once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::river::{Received, World, receive, signal, subscribe};

const KILLS: u32 = 30;
const EVERY_MS: i64 = 50;
const WINDOW_MS: i64 = 1000;
/// Windows that must have come before all is counted.
const WINDOWS_MIN: usize = 10;

/// A row of numbers that no two runs share.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        println!("seed {seed}");
        Self(u64::try_from(seed & u128::from(u64::MAX)).unwrap() | 1)
    }

    fn between(&mut self, least: u64, most: u64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(least + (self.0 >> 11) % (most - least))
    }
}

/// A gateway whose rule sends count and sum of every second beside the readings themselves.
fn world(write: &str) -> World {
    let world = World::new(&format!("{EVERY_MS}ms"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rules/aggregate.wasm");
    assert!(file.exists(), "{} is missing: rules/build makes it", file.display());
    world.configure(&format!(
        "[rule.windows]\nfile = {:?}\non = \"counter/polls\"\nkeep = true\nlateness = \"100ms\"\n\
         with = {{ window = \"{WINDOW_MS}ms\", emit = [\"count\", \"sum\"] }}\n",
        file.to_str().unwrap()
    ));
    world.replace("[buffer]", &format!("[buffer]\nwrite = \"{write}\""));
    world
}

/// Windows by their ends: how many readings, and their sum.
type Windows = BTreeMap<i64, (i64, i64)>;

/// Counts raw readings as the rule is to have counted them.
fn counted(received: &Received) -> Windows {
    let mut windows = Windows::new();
    for (at, poll) in received.points("polls") {
        let end = (at.div_euclid(WINDOW_MS) + 1) * WINDOW_MS;
        let (count, sum) = windows.entry(end).or_default();
        (*count, *sum) = (*count + 1, *sum + poll);
    }
    windows
}

/// What the rule says of its windows. Fails when it says something twice.
fn told(received: &Received) -> Windows {
    let mut windows = Windows::new();
    for (at, count) in received.points("polls.count") {
        assert!(windows.insert(at, (count, 0)).is_none(), "the window to {at} was closed twice");
    }
    let sums: BTreeMap<i64, i64> = received.points("polls.sum").into_iter().collect();
    assert_eq!(sums.len(), received.points("polls.sum").len(), "a sum was sent twice");
    assert!(sums.keys().eq(windows.keys()), "counts and sums are of other windows");
    for (at, sum) in sums {
        windows.entry(at).and_modify(|window| window.1 = sum);
    }
    windows
}

/// Asserts that every reading that arrived was counted in its window, once, and that no more were lost
/// than `lost_max`.
fn account(received: &Received, lost_max: i64) {
    let mut polls = received.points("polls");
    // Within a batch frames follow one another, not readings.
    polls.sort_unstable();
    let polls: Vec<i64> = polls.into_iter().map(|(_, poll)| poll).collect();
    assert!(polls.windows(2).all(|pair| pair[1] > pair[0]), "doubled or misdated: {polls:?}");
    let lost: i64 = polls[0] + polls.windows(2).map(|pair| pair[1] - pair[0] - 1).sum::<i64>();
    assert!(lost <= lost_max, "{lost} polls were lost, {lost_max} may be: {polls:?}");
    let (mut counted, told) = (counted(received), told(received));
    // The last windows were open when all ended.
    let last = *told.last_key_value().expect("no window was closed").0;
    counted.retain(|end, _| *end <= last);
    assert_eq!(told, counted);
    assert!(told.len() >= WINDOWS_MIN, "{} windows", told.len());
}

/// Goal: whenever it is killed, raw readings and the windows they led to stay one. Method: thirty
/// kills at random moments, from before the first reading on; then everything that was kept is
/// received and counted again.
async fn kill_again_and_again(write: &str, at_risk_ms: i64) {
    let world = world(write);
    let mut dice = Dice::new();
    let mut received = Received::default();
    let mut inbox = subscribe(world.broker.port).await;
    // The first start compiles the rule.
    let daemon = world.start();
    receive(&mut inbox, &mut received, |r| !r.polls().is_empty()).await;
    daemon.kill();
    for _ in 0..KILLS {
        let daemon = world.start();
        // Before the first poll, or after some; and then at any moment.
        let polls = u16::try_from(dice.between(0, 16).as_millis()).unwrap();
        let killed = async {
            world.pass(polls).await;
            tokio::time::sleep(dice.between(0, 300)).await;
        };
        tokio::select! {
            () = killed => {}
            () = receive(&mut inbox, &mut received, |_| false) => panic!("the broker is gone"),
        }
        daemon.kill();
    }
    let daemon = world.start();
    let so_far = i64::from(world.polls()) + 2 * WINDOW_MS / EVERY_MS;
    let enough = |r: &Received| {
        r.polls().iter().max() > Some(&so_far) && r.points("polls.count").len() >= WINDOWS_MIN
    };
    receive(&mut inbox, &mut received, enough).await;
    signal(&daemon, "-TERM");
    let is_over = |r: &Received| r.said().last().is_some_and(|status| status.contains("stopped"));
    receive(&mut inbox, &mut received, is_over).await;
    daemon.ended();
    // What is at risk, the poll under way, and one that was answered while it was killed.
    let lost_max = i64::from(KILLS + 1) * (at_risk_ms / EVERY_MS + 2);
    account(&received, lost_max);
}

#[tokio::test]
async fn thirty_kills_lose_no_window_and_close_none_twice() {
    kill_again_and_again("always", 200).await;
}

#[tokio::test]
async fn thirty_kills_lose_no_window_and_close_none_twice_when_batches_wait_in_memory() {
    // Readings wait for their batch, half a second.
    kill_again_and_again("when-needed", 500).await;
}

/// Goal: readings that a rule is to take are not read before it runs, so that a kill while it is
/// compiled costs none. Method: kills into starts that have to compile everything anew.
#[tokio::test]
async fn a_kill_while_rules_are_compiled_costs_no_more_than_any_other() {
    const TIMES: i64 = 6;
    let world = world("always");
    let mut dice = Dice::new();
    let mut received = Received::default();
    let mut inbox = subscribe(world.broker.port).await;
    let mut before_reading = 0;
    for _ in 0..TIMES {
        world.forget_code();
        let polls = world.polls();
        let daemon = world.start();
        tokio::time::sleep(dice.between(300, 900)).await;
        daemon.kill();
        before_reading += u32::from(world.polls() == polls);
    }
    println!("{before_reading} kills came before the first poll");
    world.forget_code();
    let daemon = world.start();
    let enough = |r: &Received| r.points("polls.count").len() >= WINDOWS_MIN;
    receive(&mut inbox, &mut received, enough).await;
    signal(&daemon, "-TERM");
    let is_over = |r: &Received| r.said().last().is_some_and(|status| status.contains("stopped"));
    receive(&mut inbox, &mut received, is_over).await;
    daemon.ended();
    account(&received, TIMES * (200 / EVERY_MS + 2));
}
