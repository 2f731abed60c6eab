//! A network told by messages as zigbee2mqtt's documentation gives them, and what they amount to.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::network::{Network, Said};
use super::settings::Bridge;
use crate::limits::{ZIGBEE_DEVICES_MAX, ZIGBEE_STATE_BYTES_MAX};
use crate::mqtt::Broker;
use crate::reading::{Decimal, Points, Quality, UnixMillis, Value};

const DEVICES: &str = include_str!("../../../tests/it/fixtures/zigbee2mqtt-devices.json");
const NOW: UnixMillis = UnixMillis(1_770_000_000_000);

/// A network and the names of its points.
struct World(Network, Points);

fn bridge(points: &[&str], rename: &[(&str, &str)]) -> Bridge {
    Bridge {
        name: "zigbee".into(),
        broker: Broker::new("localhost", 1883, "test"),
        base: "zigbee2mqtt".into(),
        rename: rename.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        points: points.iter().map(|point| (*point).to_owned()).collect(),
    }
}

fn world(points: &[&str], rename: &[(&str, &str)]) -> World {
    let mut world = World(Network::new(bridge(points, rename)), Points::default());
    world.0.begin();
    world.tell("bridge/devices", DEVICES);
    world
}

impl World {
    /// Tells a live message and writes what it amounts to, a line each.
    fn tell(&mut self, topic: &str, payload: &str) -> Vec<String> {
        self.hear(topic, payload.as_bytes(), false)
    }

    fn hear(&mut self, topic: &str, payload: &[u8], retain: bool) -> Vec<String> {
        self.0.on_message(&format!("zigbee2mqtt/{topic}"), payload, retain, NOW, &self.1);
        self.said()
    }

    fn said(&mut self) -> Vec<String> {
        let Self(network, names) = self;
        let mut lines = Vec::new();
        for said in network.said() {
            match said {
                Said::Group(group) => {
                    let age = NOW.0 - group.at.0;
                    for reading in group.readings() {
                        let info = names.info(reading.point);
                        let value = match reading.sample.value {
                            Ok(Value::Decimal(Decimal { digits, places: 0 })) => digits.to_string(),
                            Ok(Value::Decimal(d)) => d.to_f64().to_string(),
                            Ok(Value::Bool(flag)) => flag.to_string(),
                            Ok(Value::Text(text)) => text.to_string(),
                            Ok(Value::Float(number)) => number.to_string(),
                            Err(why) => format!("{why:?}"),
                        };
                        let doubt = match reading.sample.quality {
                            Quality::Good => String::new(),
                            quality => format!(" {quality:?} {age} ms old"),
                        };
                        let unit = if info.unit.is_empty() { "" } else { " " };
                        lines.push(format!(
                            "{}/{} = {value}{unit}{}{doubt}",
                            info.device, info.point, info.unit
                        ));
                    }
                }
                Said::Raise(notice) => lines.push(format!("{} {}", notice.code.id, notice.subject)),
                Said::Clear(code, subject, _) if code.id == "FG-Z05" => {
                    lines.push(format!("over {} {subject}", code.id));
                }
                Said::Clear(..) => {}
                Said::Subscribe(filter) => lines.push(format!("+ {filter}")),
            }
        }
        lines
    }
}

#[test]
fn states_become_readings_with_the_units_and_types_of_their_definition() {
    let mut world = world(&[], &[]);
    let table: &[(&str, Json, &[&str])] = &[
        (
            "hall/climate",
            json!({"temperature": 27.34, "humidity": 44.72, "battery": 91, "linkquality": 120}),
            &[
                "hall.climate/battery = 91 %EL",
                "hall.climate/temperature = 27.34 Cel",
                "hall.climate/humidity = 44.72 %RH",
                "hall.climate/linkquality = 120 {lqi}",
            ],
        ),
        (
            "my_plug",
            json!({"state": "ON", "power": 23.0, "energy": 4.5, "consumer_connected": true}),
            &[
                "my_plug/state = true",
                "my_plug/power = 23 W",
                "my_plug/energy = 4.5 kWh",
                "my_plug/consumer_connected = true",
            ],
        ),
        (
            "my_bulb",
            json!({"state": "OFF", "color": {"x": 0.123, "y": 0.1}, "effect": "blink"}),
            &["my_bulb/state = false", "my_bulb/color.x = 0.123", "my_bulb/color.y = 0.1"],
        ),
        (
            "0x00158d0002b1c9d3",
            json!({"action": "single"}),
            &["0x00158d0002b1c9d3/action = single"],
        ),
        ("0x00158d0002b1c9d3", json!({"action": ""}), &[]),
        ("hall/climate", json!({"temperature": null}), &[]),
        (
            "hall/climate",
            json!({"temperature": "hot"}),
            &["hall.climate/temperature = Malformed Cel"],
        ),
        ("my_sensor", json!({"temperature": 21}), &[]),
        ("my_group", json!({"state": "ON"}), &[]),
        ("my_plug/set", json!({"state": "ON"}), &[]),
        ("bridge/logging", json!({"level": "info", "message": "x"}), &[]),
    ];
    for (topic, payload, expected) in table {
        assert_eq!(world.tell(topic, &payload.to_string()), *expected, "{topic}");
    }
}

#[test]
fn devices_are_subscribed_to_when_the_list_is_known_and_once_a_session() {
    let mut network = World(Network::new(bridge(&[], &[])), Points::default());
    let first = network.0.begin();
    assert_eq!(first.len(), 3, "{first:?}");
    assert!(!network.0.listed());
    let mut filters = network.tell("bridge/devices", DEVICES);
    filters.sort();
    assert_eq!(
        filters,
        [
            "+ zigbee2mqtt/+",
            "+ zigbee2mqtt/+/availability",
            "+ zigbee2mqtt/hall/climate",
            "+ zigbee2mqtt/hall/climate/availability"
        ]
    );
    assert!(network.0.listed());
    assert_eq!(network.tell("bridge/devices", DEVICES), [""; 0]);
    network.0.begin();
    assert_eq!(network.tell("bridge/devices", DEVICES).len(), 4);
}

#[test]
fn a_renamed_device_keeps_its_address_and_may_keep_its_name() {
    let plug = r#"{"power": 1}"#;
    let answer = r#"{"data":{"from":"my_plug","to":"pump/plug","homeassistant_rename":false},"status":"ok"}"#;
    let renamed = DEVICES.replace("\"my_plug\"", "\"pump/plug\"");

    let mut free = world(&[], &[]);
    assert_eq!(free.tell("bridge/response/device/rename", answer).len(), 2, "new filters");
    assert_eq!(free.tell("pump/plug", plug), ["my_plug/power = 1 W"]);
    free.tell("bridge/devices", &renamed);
    assert_eq!(free.tell("pump/plug", plug), ["pump.plug/power = 1 W"]);
    assert_eq!(free.tell("my_plug", plug), [""; 0]);

    let mut pinned = world(&[], &[("0x00158d00018255df", "pump-1"), ("my_bulb", "lamp")]);
    assert_eq!(pinned.tell("my_plug", plug), ["pump-1/power = 1 W"]);
    pinned.tell("bridge/devices", &renamed);
    assert_eq!(pinned.tell("pump/plug", plug), ["pump-1/power = 1 W"]);
    assert_eq!(pinned.tell("my_bulb", r#"{"state":"ON"}"#), ["lamp/state = true"]);
    let failed = r#"{"data":{"from":"my_bulb","to":"x"},"status":"error","error":"no"}"#;
    pinned.tell("bridge/response/device/rename", failed);
    assert_eq!(pinned.tell("my_bulb", r#"{"state":"ON"}"#), ["lamp/state = true"]);
}

#[test]
fn two_devices_never_share_a_name() {
    let mut world = world(&[], &[("my_plug", "same"), ("my_bulb", "same")]);
    assert_eq!(world.tell("my_plug", r#"{"state":"ON"}"#), ["same/state = true"]);
    assert_eq!(world.tell("my_bulb", r#"{"state":"ON"}"#), ["same-94fc/state = true"]);
}

#[test]
fn retained_and_remembered_states_are_old_and_carry_the_time_of_last_seen() {
    let mut world = world(&[], &[]);
    let state = |seen: Json| json!({"power": 5, "last_seen": seen}).to_string().into_bytes();
    let table = [
        (state(json!(null)), true, "my_plug/power = 5 W Uncertain 0 ms old"),
        (state(json!(NOW.0 - 5000)), true, "my_plug/power = 5 W Uncertain 5000 ms old"),
        (state(json!(NOW.0 - 5000)), false, "my_plug/power = 5 W"),
        (state(json!(NOW.0 - 600_000)), false, "my_plug/power = 5 W Uncertain 600000 ms old"),
        (state(json!(NOW.0 + 600_000)), false, "my_plug/power = 5 W"),
    ];
    for (payload, retain, expected) in &table {
        assert_eq!(world.hear("my_plug", payload, *retain), [*expected]);
    }
    let iso = humantime::format_rfc3339(
        std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_999_000),
    );
    let payload = state(json!(iso.to_string()));
    let expected = "my_plug/power = 5 W Uncertain 1000000 ms old";
    assert_eq!(world.hear("my_plug", &payload, false), [expected]);
}

#[test]
fn an_offline_device_has_no_data_once_until_it_speaks_again() {
    let mut world = world(&["power", "state", "available"], &[]);
    let offline = [
        "FG-Z05 source zigbee: my_plug",
        "my_plug/state = Timeout",
        "my_plug/power = Timeout W",
        "my_plug/available = false",
    ];
    assert_eq!(world.tell("my_plug/availability", r#"{"state":"offline"}"#), offline);
    assert_eq!(world.tell("my_plug/availability", "offline"), [offline[0], offline[3]]);
    let online = ["over FG-Z05 source zigbee: my_plug", "my_plug/available = true"];
    assert_eq!(world.tell("my_plug/availability", "online"), online);
    assert_eq!(world.tell("my_plug", r#"{"power":1}"#), ["my_plug/power = 1 W"]);
    assert_eq!(world.tell("my_plug/availability", r#"{"state":"offline"}"#), offline);
    assert_eq!(world.tell("my_plug/availability", "maybe"), [""; 0]);
    let nested = world.tell("hall/climate/availability", r#"{"state":"offline"}"#);
    assert_eq!(nested[0], "FG-Z05 source zigbee: hall.climate");
}

#[test]
fn a_bridge_that_stops_takes_every_point_with_it_once() {
    let mut world = world(&["power", "temperature"], &[]);
    let stopped = world.tell("bridge/state", r#"{"state":"offline"}"#);
    assert_eq!(stopped[0], "FG-Z02 source zigbee");
    assert!(stopped.contains(&"my_plug/power = Timeout W".to_owned()), "{stopped:?}");
    assert_eq!(stopped.len(), 3, "nothing is said of points that no device describes: {stopped:?}");
    assert!(stopped.contains(&"hall.climate/temperature = Timeout Cel".to_owned()), "{stopped:?}");
    assert_eq!(world.tell("bridge/state", "offline"), ["FG-Z02 source zigbee"]);
    world.0.away(NOW, &world.1);
    assert_eq!(world.said(), [""; 0], "a lost broker says nothing new");
}

#[test]
fn only_the_wanted_points_are_taken_and_undescribed_ones_when_named() {
    let mut world = world(&["temperature", "color", "last_seen", "update.state"], &[]);
    let climate = r#"{"temperature": 20, "humidity": 40, "update": {"state": "idle"}}"#;
    assert_eq!(
        world.tell("hall/climate", climate),
        ["hall.climate/temperature = 20 Cel", "hall.climate/update.state = idle"]
    );
    assert_eq!(
        world.tell("my_sensor", r#"{"temperature": 20, "x": 1}"#),
        ["my_sensor/temperature = 20"]
    );
    let bulb = r#"{"state": "ON", "color": {"x": 0.5}}"#;
    assert_eq!(world.tell("my_bulb", bulb), ["my_bulb/color.x = 0.5"]);
    assert_eq!(
        world.tell("my_plug/availability", "online"),
        ["over FG-Z05 source zigbee: my_plug"]
    );
}

#[test]
fn garbage_is_told_and_malformed_once_and_the_next_good_state_counts() {
    let mut world = world(&["power"], &[]);
    let deep = [b"[".repeat(60_000), b"]".repeat(60_000)].concat();
    let long = format!("{{\"power\": 1, \"x\": \"{}\"}}", "x".repeat(ZIGBEE_STATE_BYTES_MAX));
    let told = "FG-Z04 source zigbee: my_plug";
    assert_eq!(world.hear("my_plug", b"\xff\x00{", false), [told, "my_plug/power = Malformed W"]);
    for garbage in [&b"[1]"[..], b"12.5", &deep, long.as_bytes()] {
        assert_eq!(world.hear("my_plug", garbage, false), [told]);
    }
    let full = format!("{{\"power\": 1, \"x\": \"{}\"}}", "x".repeat(64 * 1024));
    assert_eq!(world.tell("my_plug", &full), ["my_plug/power = 1 W"]);
    assert_eq!(world.hear("my_plug", b"", true), [""; 0], "a cleared topic says nothing");
}

#[test]
fn a_bad_list_is_told_and_leaves_the_devices_that_were_known() {
    let mut world = world(&["power"], &[]);
    for list in ["[", "{}", "\"devices\"", r#"[{"definition": 7}]"#, "[null]"] {
        assert_eq!(world.tell("bridge/devices", list), ["FG-Z03 source zigbee"], "{list}");
    }
    assert_eq!(world.tell("my_plug", r#"{"power": 1}"#), ["my_plug/power = 1 W"]);
    let odd =
        r#"[{"ieee_address": "0x1", "definition": {"exposes": [{}, {"type": "numeric"}]}}, {}]"#;
    assert_eq!(world.tell("bridge/devices", odd), [""; 0]);
    assert_eq!(world.tell("0x1", r#"{"power": 1}"#), ["0x1/power = 1"]);
}

#[test]
fn a_list_longer_than_is_taken_is_cut_and_told() {
    let entry =
        |n: usize| json!({"ieee_address": format!("0x{n}"), "friendly_name": format!("d{n}")});
    let list = Json::Array((0..ZIGBEE_DEVICES_MAX + 3).map(entry).collect()).to_string();
    let mut world = world(&["power"], &[]);
    assert_eq!(world.tell("bridge/devices", &list)[0], "FG-Z03 source zigbee");
    assert_eq!(world.tell("d1999", r#"{"power": 1}"#), ["d1999/power = 1"]);
    assert_eq!(world.tell("d2000", r#"{"power": 1}"#), [""; 0]);
}

proptest! {
    #[test]
    fn no_message_panics_and_no_value_is_invented(
        topic in prop_oneof![
            Just("my_plug".to_owned()), Just("bridge/devices".to_owned()),
            Just("bridge/state".to_owned()), Just("my_plug/availability".to_owned()),
            Just("bridge/response/device/rename".to_owned()), "\\PC{0,20}",
        ],
        payload in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "[\\[\\]{}\":,a-z0-9 ]{0,80}".prop_map(String::into_bytes),
        ],
        retain in any::<bool>(),
    ) {
        let mut world = world(&["power"], &[]);
        for line in world.hear(&topic, &payload, retain) {
            let known = line.contains("= Malformed") || line.contains("= Timeout")
                || line.starts_with("FG-Z") || line.starts_with("over ") || line.starts_with("+ ")
                || topic == "my_plug";
            prop_assert!(known, "{}", line);
        }
    }
}
