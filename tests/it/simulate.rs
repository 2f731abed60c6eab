//! The fleet generator against a real broker: what it says it sent is what a subscriber gets.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use fieldgate::batch::decode;
use fieldgate::mqtt::{self, Broker, Incoming};
use serde_json::Value as Json;

use crate::peers::Mosquitto;

fn broker(port: u16) -> Broker {
    Broker::new("127.0.0.1", port, "subscriber")
}

/// What a subscriber saw of a fleet.
#[derive(Default)]
struct Seen {
    /// Readings by key: gateway and sequence number.
    batches: BTreeMap<(String, u64), u64>,
    /// Sequence numbers of each gateway in the order of their arrival.
    order: BTreeMap<String, Vec<u64>>,
    payloads: BTreeMap<(String, u64), Vec<u8>>,
    copies: u64,
    stopped: BTreeSet<String>,
    meta: BTreeSet<String>,
}

impl Seen {
    fn take(&mut self, topic: &str, payload: &[u8]) {
        let mut levels = topic.split('/').skip(2);
        let (gw, leaf) = (levels.next().unwrap().to_owned(), levels.next().unwrap());
        match leaf {
            "data" => {
                let header = decode(payload).unwrap().header;
                assert_eq!(header.gateway, gw);
                let key = (gw.clone(), header.sequence);
                self.order.entry(gw).or_default().push(header.sequence);
                if self.batches.insert(key.clone(), header.readings).is_some() {
                    self.copies += 1;
                    assert_eq!(self.payloads[&key], payload, "a copy differs");
                }
                self.payloads.insert(key, payload.to_vec());
            }
            "status" => {
                let status: Json = serde_json::from_slice(payload).unwrap();
                if status["up"] == false {
                    assert_eq!(status["why"], "stopped");
                    self.stopped.insert(gw);
                }
            }
            "meta" => drop(self.meta.insert(gw)),
            _ => panic!("{topic}"),
        }
    }

    fn readings(&self) -> u64 {
        self.batches.values().sum()
    }
}

/// Runs `simulate` with these arguments and returns its totals and what a subscriber saw.
fn run(port: u16, gateways: usize, arguments: &str) -> (Json, Seen) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut session = mqtt::connect(&broker(port), true).await.unwrap();
        session.subscribe(&["fg/1/#".to_owned()]).await.unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"))
            .args(["simulate", "--json", "--to", &format!("mqtt://127.0.0.1:{port}")])
            .args(["--gateways", &gateways.to_string()])
            .args(arguments.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        let mut seen = Seen::default();
        let all = async {
            while seen.stopped.len() < gateways {
                if let Incoming::Received(message) = session.next().await.unwrap() {
                    seen.take(&message.topic, &message.payload);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(120), all).await.expect("no end of the fleet");
        let output = done.await.unwrap();
        assert!(output.status.success(), "{output:?}");
        (serde_json::from_slice(&output.stdout).unwrap(), seen)
    })
}

#[test]
fn fifty_gateways_deliver_what_their_totals_say() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(folder.path(), "");
    let (totals, seen) =
        run(broker.port, 50, "--rate 200 --points 20 --max-age 1s --fast --batches 20");
    assert_eq!(totals["sealed_batches"], 50 * 20);
    assert_eq!(totals["acknowledged_readings"], 50 * 20 * 200);
    assert_eq!(totals["connected"], 50);
    assert_eq!(seen.readings(), 50 * 20 * 200);
    assert_eq!(seen.copies, 0);
    assert_eq!(seen.meta.len(), 50);
    for (gw, order) in &seen.order {
        assert_eq!(*order, (1..=20).collect::<Vec<u64>>(), "{gw}");
    }
}

#[test]
fn losses_copies_and_disorder_are_done_as_counted() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(folder.path(), "");
    let line = "--rate 100 --points 10 --max-age 1s --fast --batches 100 --connections 2 \
                --lose 0.1 --duplicate 0.1 --reorder 0.1 --seed 7";
    let (totals, seen) = run(broker.port, 10, line);
    assert_eq!(totals["connected"], 2);
    let count = |key: &str| totals[key].as_u64().unwrap();
    assert!(count("lost_batches") > 50 && count("duplicated") > 50 && count("reordered") > 50);
    assert_eq!(seen.readings(), count("acknowledged_readings"));
    assert_eq!(seen.batches.len() as u64, 1000 - count("lost_batches"));
    assert_eq!(seen.copies, count("duplicated"));
    let disorder = |order: &&Vec<u64>| order.windows(2).any(|pair| pair[0] > pair[1]);
    assert!(seen.order.values().filter(disorder).count() > 5);
}

#[test]
fn a_broker_that_is_killed_gets_everything_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Mosquitto::start(folder.path(), "");
    let child = Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"))
        .args(["simulate", "--json", "--to", &format!("mqtt://127.0.0.1:{}", broker.port)])
        .args("--gateways 5 --rate 200 --points 10 --max-age 100ms --batches 40".split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let watch = self::broker(broker.port);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Something of the fleet has arrived when the broker dies.
    runtime.block_on(async {
        let mut session = mqtt::connect(&watch, true).await.unwrap();
        session.subscribe(&["fg/1/+/data".to_owned()]).await.unwrap();
        for _ in 0..20 {
            session.next().await.unwrap();
        }
    });
    broker.stop();
    broker.resume();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let totals: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(totals["acknowledged_batches"], 5 * 40);
    assert!(totals["reconnected"].as_u64().unwrap() >= 1, "{totals}");
}
