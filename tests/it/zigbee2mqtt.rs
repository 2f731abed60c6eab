//! zigbee2mqtt as seen through Debian's mosquitto: its documented messages, a large network, a
//! rename, garbage, and a broker that dies and comes back.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fieldgate::clock::System;
use fieldgate::events::Events;
use fieldgate::mqtt::Broker;
use fieldgate::reading::{Group, NoData, Points, Quality, Value};
use fieldgate::sources::zigbee2mqtt::Zigbee2Mqtt;
use fieldgate::sources::zigbee2mqtt::settings::Bridge;
use fieldgate::sources::{Outlet, Source};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::peers::Mosquitto;

const DEVICES: &str = include_str!("fixtures/zigbee2mqtt-devices.json");
const PATIENCE: Duration = Duration::from_secs(60);

fn broker(mosquitto: &Mosquitto, client_id: &str) -> Broker {
    Broker::new("127.0.0.1", mosquitto.port, client_id)
}

/// Publishes with mosquitto's own client, as zigbee2mqtt would.
fn publish(mosquitto: &Mosquitto, topic: &str, payload: &[u8], retain: bool) {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-q", "1", "-s", "-p"]).arg(mosquitto.port.to_string());
    command.arg("-t").arg(format!("zigbee2mqtt/{topic}"));
    if retain {
        command.arg("-r");
    }
    let mut client = match command.stdin(Stdio::piped()).spawn() {
        Ok(client) => client,
        Err(e) => panic!("mosquitto_pub cannot be started ({e}); tests/run installs it"),
    };
    client.stdin.take().unwrap().write_all(payload).unwrap();
    assert!(client.wait().unwrap().success(), "mosquitto_pub failed on {topic}");
}

struct Running {
    groups: mpsc::Receiver<Group>,
    events: Events,
    points: Arc<Points>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn run(mosquitto: &Mosquitto, points: &[&str]) -> Running {
    let bridge = Bridge {
        name: "zigbee".into(),
        broker: broker(mosquitto, "fieldgate-zigbee"),
        base: "zigbee2mqtt".into(),
        rename: [("0x00158d0001a2b3c4".to_owned(), "hall-north".to_owned())].into(),
        points: points.iter().map(|point| (*point).to_owned()).collect(),
    };
    let (sender, groups) = mpsc::channel(4096);
    let (events, points) = (Events::default(), Arc::new(Points::default()));
    let outlet = Outlet {
        groups: sender,
        points: Arc::clone(&points),
        clock: Arc::new(System),
        events: events.clone(),
    };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move { Zigbee2Mqtt::new(bridge).run(outlet, stopped).await });
    Running { groups, events, points, stop, task }
}

impl Running {
    /// Waits for the first reading of `device/point` that `wanted` takes.
    async fn reading(
        &mut self,
        point: &str,
        wanted: impl Fn(&Result<Value, NoData>, Quality) -> bool,
    ) -> Result<Value, NoData> {
        let search = async {
            loop {
                let group = self.groups.recv().await.unwrap();
                for reading in group.readings() {
                    let info = self.points.info(reading.point);
                    if format!("{}/{}", info.device, info.point) == point
                        && wanted(&reading.sample.value, reading.sample.quality)
                    {
                        return reading.sample.value;
                    }
                }
            }
        };
        let found = timeout(PATIENCE, search).await;
        found.unwrap_or_else(|_| panic!("no such reading of {point}; {:?}", self.standing()))
    }

    /// Publishes until the source has subscribed and says so with a reading.
    async fn heard(&mut self, mosquitto: &Mosquitto, topic: &str, point: &str, number: i64) {
        let property = point.split_once('/').unwrap().1;
        let payload = format!("{{\"{property}\": {number}}}");
        let wanted = Ok(Value::from_i64(number));
        for _ in 0..200 {
            publish(mosquitto, topic, payload.as_bytes(), false);
            let next = self.reading(point, |value, _| *value == wanted);
            if timeout(Duration::from_millis(300), next).await.is_ok() {
                return;
            }
        }
        panic!("{topic} is not heard; {:?}", self.standing());
    }

    fn standing(&self) -> Vec<String> {
        let conditions = self.events.standing();
        conditions.iter().map(|condition| condition.notice.code.id.to_owned()).collect()
    }
}

fn good(_: &Result<Value, NoData>, quality: Quality) -> bool {
    quality == Quality::Good
}

#[tokio::test]
async fn a_network_is_learned_from_its_bridge_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), "");
    publish(&mosquitto, "bridge/devices", DEVICES.as_bytes(), true);
    publish(&mosquitto, "my_plug", br#"{"power": 7, "state": "ON"}"#, true);
    publish(&mosquitto, "my_bulb/availability", br#"{"state":"offline"}"#, true);
    let mut source = run(&mosquitto, &[]);

    let kept = source.reading("my_plug/power", |_, quality| quality == Quality::Uncertain).await;
    assert_eq!(kept, Ok(Value::from_i64(7)), "a retained state is old");
    let gone = source.reading("my_bulb/color.x", |_, _| true).await;
    assert_eq!(gone, Err(NoData::Timeout));
    assert_eq!(source.standing(), ["FG-Z05"]);

    source.heard(&mosquitto, "hall/climate", "hall-north/temperature", 21).await;
    publish(&mosquitto, "my_plug", br#"{"power": 8, "state": "OFF"}"#, false);
    assert_eq!(source.reading("my_plug/state", good).await, Ok(Value::Bool(false)));

    let renamed = DEVICES.replace("\"my_plug\"", "\"pumps/plug\"");
    publish(&mosquitto, "bridge/devices", renamed.as_bytes(), true);
    source.heard(&mosquitto, "pumps/plug", "pumps.plug/power", 9).await;

    source.stop.cancel();
    timeout(PATIENCE, &mut source.task).await.expect("stops when told").unwrap();
}

#[tokio::test]
async fn garbage_and_a_state_of_64_kib_do_not_stop_the_next_state() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), "");
    publish(&mosquitto, "bridge/devices", DEVICES.as_bytes(), true);
    let mut source = run(&mosquitto, &["power"]);
    source.heard(&mosquitto, "my_plug", "my_plug/power", 1).await;
    publish(&mosquitto, "my_plug", &[0xff; 64 * 1024], false);
    let bad = source.reading("my_plug/power", |value, _| value.is_err()).await;
    assert_eq!(bad, Err(NoData::Malformed));
    assert_eq!(source.standing(), ["FG-Z04"]);
    let long = format!("{{\"power\": 2, \"x\": \"{}\"}}", "x".repeat(64 * 1024));
    publish(&mosquitto, "my_plug", long.as_bytes(), false);
    assert_eq!(source.reading("my_plug/power", good).await, Ok(Value::from_i64(2)));
    assert!(source.standing().is_empty(), "{:?}", source.standing());
    publish(&mosquitto, "bridge/devices", b"[{]", true);
    source.heard(&mosquitto, "my_plug", "my_plug/power", 3).await;
    assert_eq!(source.standing(), ["FG-Z03"]);
}

#[tokio::test]
async fn three_hundred_devices_are_learned_and_their_broker_may_die_and_return() {
    let folder = tempfile::tempdir().unwrap();
    let mut mosquitto = Mosquitto::start(folder.path(), "");
    let list = large_list(300);
    assert!(list.len() > 500 * 1024, "{} bytes", list.len());
    publish(&mosquitto, "bridge/devices", list.as_bytes(), true);
    let mut source = run(&mosquitto, &["m0"]);
    source.heard(&mosquitto, "room/sensor299", "room.sensor299/m0", 1).await;
    source.heard(&mosquitto, "room/sensor0", "room.sensor0/m0", 2).await;

    mosquitto.stop();
    let gone = source.reading("room.sensor0/m0", |value, _| value.is_err()).await;
    assert_eq!(gone, Err(NoData::Timeout));
    assert!(source.standing().contains(&"FG-U01".to_owned()), "{:?}", source.standing());

    mosquitto.resume();
    publish(&mosquitto, "bridge/devices", list.as_bytes(), true);
    source.heard(&mosquitto, "room/sensor299", "room.sensor299/m0", 3).await;
    assert!(source.standing().is_empty(), "{:?}", source.standing());
}

/// A network whose list is as long as real ones: about 2 KB a device.
fn large_list(devices: usize) -> String {
    let expose = |n: usize| {
        format!(
            "{{\"type\":\"numeric\",\"name\":\"m{n}\",\"property\":\"m{n}\",\"unit\":\"V\",\
             \"access\":1,\"description\":\"Measured value of input number {n}\"}}"
        )
    };
    let exposes = (0..20).map(expose).collect::<Vec<_>>().join(",");
    let entry = |n: usize| {
        format!(
            "{{\"ieee_address\":\"0x{n:016x}\",\"type\":\"EndDevice\",\
             \"friendly_name\":\"room/sensor{n}\",\"supported\":true,\"endpoints\":{{}},\
             \"definition\":{{\"model\":\"X\",\"vendor\":\"Y\",\"exposes\":[{exposes}]}}}}"
        )
    };
    format!("[{}]", (0..devices).map(entry).collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn a_broker_without_zigbee2mqtt_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), "");
    let mut source = run(&mosquitto, &[]);
    let told = async {
        while source.standing() != ["FG-Z01"] {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("the missing list is not told");
    publish(&mosquitto, "bridge/devices", DEVICES.as_bytes(), true);
    source.heard(&mosquitto, "my_plug", "my_plug/power", 4).await;
    assert!(source.standing().is_empty(), "{:?}", source.standing());
}
