//! What zigbee2mqtt sources say. Codes FG-Znn.

use super::{Code, Notice};

/// This room's codes.
pub const CODES: &[&Code] = &[&NO_LIST, &BRIDGE_OFFLINE, &LIST_UNREAD, &STATE_UNREAD, &OFFLINE];

/// Connected, but nothing is known about devices.
pub static NO_LIST: Code = Code {
    id: "FG-Z01",
    title: "no Zigbee device list",
    about: "The broker works, but zigbee2mqtt's retained list of devices (bridge/devices) does not \
            arrive, and without it no state can be read: types and units come from there. The \
            gateway keeps the subscription, so readings begin by themselves once zigbee2mqtt has \
            started. A person checks that zigbee2mqtt uses this broker and this base topic.",
};

/// zigbee2mqtt itself has stopped.
pub static BRIDGE_OFFLINE: Code = Code {
    id: "FG-Z02",
    title: "zigbee2mqtt is offline",
    about: "zigbee2mqtt said that it stops, or its broker noticed that it died. No sensor of this \
            network can be heard until it runs again; their points are marked as timed out once. \
            The gateway waits; readings resume by themselves. A person looks at zigbee2mqtt's own \
            log, most often for its USB stick.",
};

/// The list came and is of no use.
pub static LIST_UNREAD: Code = Code {
    id: "FG-Z03",
    title: "Zigbee device list cannot be used",
    about: "The list of devices that zigbee2mqtt keeps at the broker is not the JSON its \
            documentation describes, or names more devices or points than the gateway takes. \
            Devices known before stay known, and what fits is used. A person checks that the base \
            topic belongs to zigbee2mqtt 1.17 or newer, and narrows `points` if there are too many.",
};

/// A device's state is no JSON object.
pub static STATE_UNREAD: Code = Code {
    id: "FG-Z04",
    title: "Zigbee state cannot be read",
    about: "What was published on a device's topic is not a JSON object, or far too long. Its points \
            are marked as malformed once; the next good state ends that. Usually something else than \
            zigbee2mqtt publishes there, or zigbee2mqtt is set to `output: attribute`, which puts \
            every property on a topic of its own; set it to `json`.",
};

/// zigbee2mqtt cannot reach a device.
pub static OFFLINE: Code = Code {
    id: "FG-Z05",
    title: "Zigbee device is offline",
    about: "zigbee2mqtt has not heard a device for longer than its availability timeout (10 minutes \
            for mains-powered devices, 25 hours for battery-powered ones, unless configured \
            otherwise). Its points are marked as timed out once, and resume by themselves. A person \
            checks battery and distance, and whether a router between was unplugged.",
};

/// No device list after a reasonable wait.
#[must_use]
pub fn no_list(subject: &str, base: &str) -> Notice {
    Notice::warning(&NO_LIST, subject, format!("finds no device list at {base}/bridge/devices"))
        .seen("The broker itself answers, and the subscription was accepted.")
        .likely("zigbee2mqtt is not running, or has never run with this broker")
        .likely(format!("its base topic is not \"{base}\""))
        .likely("the broker does not keep retained messages")
        .try_next("fieldgate config show")
}

/// zigbee2mqtt said goodbye, or its will did.
#[must_use]
pub fn bridge_offline(subject: &str) -> Notice {
    Notice::error(&BRIDGE_OFFLINE, subject, "hears nothing: zigbee2mqtt is offline")
        .likely("zigbee2mqtt was stopped or is being updated")
        .likely("its USB stick was pulled, so it cannot start")
        .try_next("look at zigbee2mqtt's log")
}

/// The list is not what the documentation says, or too long; `why` completes the subject.
#[must_use]
pub fn list_unread(subject: &str, why: impl Into<String>) -> Notice {
    Notice::error(&LIST_UNREAD, subject, why)
        .likely("something else publishes on zigbee2mqtt's topics")
        .likely("zigbee2mqtt is older than 1.17 or far newer than this gateway")
        .try_next("fieldgate config show")
}

/// A state that is no JSON object.
#[must_use]
pub fn state_unread(subject: &str, friendly: &str, payload: &[u8]) -> Notice {
    const BYTES_SHOWN_MAX: usize = 60;
    let shown = payload[..payload.len().min(BYTES_SHOWN_MAX)].escape_ascii();
    let bytes = payload.len();
    Notice::warning(&STATE_UNREAD, subject, "sent a state that cannot be read")
        .seen(format!("{bytes} bytes under the name {friendly:?}: \"{shown}\""))
        .likely("something else publishes on this topic")
        .likely("zigbee2mqtt is set to `output: attribute` instead of `json`")
        .try_next("look at zigbee2mqtt's settings, section advanced")
}

/// zigbee2mqtt has not heard a device for too long.
#[must_use]
pub fn offline(subject: &str, address: &str) -> Notice {
    Notice::warning(&OFFLINE, subject, "is offline, says zigbee2mqtt")
        .seen(format!("Its address is {address}."))
        .likely("its battery is empty or its plug was pulled")
        .likely("it is out of reach, or a router on the way was switched off")
        .try_next("check its battery, then its distance to the next mains-powered device")
}
