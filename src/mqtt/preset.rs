//! What brokers of the large clouds allow, as data. `config` refuses what a cloud would refuse, the
//! session keeps to what is left, and a new figure from a cloud is a new line here.
//!
//! All figures are of one connection and were compared with their sources on [`AS_OF`]. Clouds
//! change them without a word to their clients, so this table is the first place to look when one
//! hangs up.

use std::time::Duration;

use super::settings::Version;

/// When the figures were last compared with their sources.
pub const AS_OF: &str = "2026-11-22";

/// The limits of one kind of broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    /// As written in the configuration.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Where the figures come from.
    pub source: &'static str,
    /// Bytes of the largest payload; `None` when the broker's operator decides.
    pub payload_bytes_max: Option<usize>,
    /// Bytes of a batch when the configuration does not say: below the largest payload, so that a
    /// limit that is counted with topic and properties is kept too.
    pub batch_bytes: usize,
    /// Bytes of the longest topic.
    pub topic_bytes_max: usize,
    /// Slashes in a topic.
    pub topic_slashes_max: usize,
    /// Bytes of the longest client identifier.
    pub client_id_bytes_max: usize,
    /// Whether retained messages and retained wills are taken.
    pub retain: bool,
    /// Shortest and longest keep-alive, both included.
    pub keep_alive: (Duration, Duration),
    /// Publishes in flight.
    pub in_flight_max: u16,
    /// Publishes in any second.
    pub publishes_per_s_max: Option<u32>,
    /// Bytes of publishes in any second.
    pub bytes_per_s_max: Option<u32>,
    /// The MQTT versions it speaks.
    pub versions: &'static [Version],
    /// Whether it takes connections over TLS only, and finds the customer by the name in the TLS
    /// handshake (RFC 6066, section 3), which an address does not have.
    pub tls_by_name: bool,
    /// On which other port than 8883 it speaks MQTT when asked by this name (RFC 7301).
    pub alpn: Option<(u16, &'static str)>,
    /// What it takes as topics.
    pub topics: Layout,
}

/// What topics and payloads a broker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Any: `fg/1/{gateway}/..`.
    Own,
    /// One topic for each device, with properties in its last level; nothing can be subscribed to
    /// but what the hub itself sends.
    AzureHub,
    /// JSON in the gateway API of ThingsBoard.
    ThingsBoard,
}

/// The presets by their names.
pub const ALL: [&Preset; 4] = [&MQTT, &AWS, &AZURE, &THINGSBOARD];

/// The longest keep-alive there is (MQTT 3.1.1, section 3.1.2.10).
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(0xFFFF);

/// Any broker of one's own: nothing is assumed, and MQTT 5 says the rest in CONNACK.
pub static MQTT: Preset = Preset {
    name: "mqtt",
    title: "a broker of one's own",
    source: "MQTT 3.1.1, sections 1.5.3, 2.3.1 and 3.1.2.10",
    payload_bytes_max: None,
    batch_bytes: 512 * 1024,
    topic_bytes_max: 0xFFFF,
    topic_slashes_max: usize::MAX,
    client_id_bytes_max: 0xFFFF,
    retain: true,
    keep_alive: (Duration::from_secs(1), KEEP_ALIVE_MAX),
    in_flight_max: u16::MAX,
    publishes_per_s_max: None,
    bytes_per_s_max: None,
    versions: &[Version::V311, Version::V5],
    tls_by_name: false,
    alpn: None,
    topics: Layout::Own,
};

/// AWS IoT Core. A retained message is stored, but never sent to a subscription with wildcards.
pub static AWS: Preset = Preset {
    name: "aws",
    title: "AWS IoT Core",
    source: "docs.aws.amazon.com/general/latest/gr/iot-core.html, message broker and protocol limits",
    payload_bytes_max: Some(128 * 1024),
    batch_bytes: 100 * 1024,
    topic_bytes_max: 256,
    topic_slashes_max: 7,
    client_id_bytes_max: 128,
    retain: true,
    keep_alive: (Duration::from_secs(30), Duration::from_secs(1200)),
    in_flight_max: 100,
    publishes_per_s_max: Some(100),
    bytes_per_s_max: Some(512 * 1024),
    versions: &[Version::V311, Version::V5],
    tls_by_name: true,
    alpn: Some((443, "x-amzn-mqtt-ca")),
    topics: Layout::Own,
};

/// Azure IoT Hub. Its sends are counted for all devices of a hub together (100 a second in the
/// smallest paid one), so a gateway that drains an outage takes a tenth. It has no figure for
/// publishes in flight on MQTT 3.1.1; sixteen was that of its MQTT 5 preview, which has ended.
pub static AZURE: Preset = Preset {
    name: "azure",
    title: "Azure IoT Hub",
    source: "learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub; \
             learn.microsoft.com/azure/iot-hub/iot-hub-devguide-quotas-throttling",
    payload_bytes_max: Some(255 * 1024),
    batch_bytes: 200 * 1024,
    topic_bytes_max: 0xFFFF,
    topic_slashes_max: usize::MAX,
    client_id_bytes_max: 128,
    retain: false,
    keep_alive: (Duration::from_secs(1), Duration::from_secs(1177)),
    in_flight_max: 16,
    publishes_per_s_max: Some(10),
    bytes_per_s_max: None,
    versions: &[Version::V311],
    tls_by_name: true,
    alpn: None,
    topics: Layout::AzureHub,
};

/// ThingsBoard. The payload limit is the default of `transport.mqtt.netty.max_payload_size`; it is
/// counted in the JSON that is sent.
pub static THINGSBOARD: Preset = Preset {
    name: "thingsboard",
    title: "ThingsBoard",
    source: "thingsboard.io/docs/reference/gateway-mqtt-api; thingsboard.yml, transport.mqtt",
    payload_bytes_max: Some(64 * 1024),
    batch_bytes: 60 * 1024,
    topic_bytes_max: 0xFFFF,
    topic_slashes_max: usize::MAX,
    client_id_bytes_max: 0xFFFF,
    retain: false,
    keep_alive: (Duration::from_secs(1), KEEP_ALIVE_MAX),
    in_flight_max: 16,
    publishes_per_s_max: Some(50),
    bytes_per_s_max: None,
    versions: &[Version::V311, Version::V5],
    tls_by_name: false,
    alpn: None,
    topics: Layout::ThingsBoard,
};

/// The version of the hub's interface that its user name asks for.
const AZURE_API: &str = "2021-04-12";

/// Returns the user name that Azure IoT Hub wants of a device.
#[must_use]
pub fn azure_user(host: &str, device: &str) -> String {
    format!("{host}/{device}/?api-version={AZURE_API}")
}

impl Preset {
    /// Finds a preset by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|preset| preset.name == name)
    }

    /// Returns the protocol to ask for in the TLS handshake on this port.
    #[must_use]
    pub fn alpn_on(&self, port: u16) -> Option<&'static str> {
        self.alpn.filter(|(on, _)| *on == port).map(|(_, protocol)| protocol)
    }

    /// Returns whether the broker takes this topic.
    #[must_use]
    pub fn takes_topic(&self, topic: &str) -> bool {
        let slashes = topic.bytes().filter(|byte| *byte == b'/').count();
        topic.len() <= self.topic_bytes_max && slashes <= self.topic_slashes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn every_preset_can_carry_a_batch_of_its_own_size() {
        for preset in ALL {
            let payload = preset.payload_bytes_max.unwrap_or(limits::BATCH_BYTES_MAX);
            assert!(preset.batch_bytes <= payload.min(limits::BATCH_BYTES_MAX), "{}", preset.name);
            assert!(preset.keep_alive.0 <= preset.keep_alive.1 && preset.in_flight_max > 0);
            assert!(!preset.versions.is_empty() && !preset.source.is_empty());
            assert_eq!(Preset::named(preset.name), Some(preset));
            // One packet of the largest size has to fit the pace.
            let bytes_per_s = preset.bytes_per_s_max.map_or(usize::MAX, |n| n as usize);
            assert!(bytes_per_s > payload, "{}", preset.name);
        }
        assert_eq!(Preset::named("gcp"), None);
    }

    #[test]
    fn topics_are_counted_in_bytes_and_slashes() {
        assert!(AWS.takes_topic("a/b/c/d/e/f/g/h") && !AWS.takes_topic("a/b/c/d/e/f/g/h/i"));
        assert!(AWS.takes_topic(&"x".repeat(256)) && !AWS.takes_topic(&"ü".repeat(129)));
        assert_eq!((AWS.alpn_on(443), AWS.alpn_on(8883)), (Some("x-amzn-mqtt-ca"), None));
    }
}
