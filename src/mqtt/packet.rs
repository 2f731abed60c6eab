//! The packets of MQTT that a client sends and gets, the same for 3.1.1 and 5: what one version
//! lacks is absent or has its default. `codec` is the one place that knows how they differ.

use bytes::Bytes;

use super::ids::PacketId;
use super::reason::{Reason, Told};

/// A packet of ours.
#[derive(Debug, Clone)]
pub(super) enum Outgoing<'a> {
    /// Begins a session.
    Connect(Connect<'a>),
    /// QoS 1.
    Publish {
        /// Free until its acknowledgement.
        id: PacketId,
        /// Checked by the session.
        topic: &'a str,
        /// As it is.
        payload: &'a [u8],
        /// Whether the broker keeps it.
        retain: bool,
        /// How long it waits for a subscriber that is away, seconds; for ever on MQTT 3.1.1.
        expiry_s: Option<u32>,
    },
    /// Acknowledges a message.
    PubAck(u16),
    /// All with QoS 1.
    Subscribe {
        /// Free until its acknowledgement.
        id: PacketId,
        /// Checked by the session.
        filters: &'a [String],
    },
    /// Asks whether the broker lives.
    PingReq,
    /// Says goodbye.
    Disconnect,
}

/// CONNECT.
#[derive(Debug, Clone)]
pub(super) struct Connect<'a> {
    pub(super) client_id: &'a str,
    /// Whole seconds.
    pub(super) keep_alive: u16,
    /// Whether the broker forgets an earlier session.
    pub(super) clean: bool,
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    /// Topic, payload, whether it is kept.
    pub(super) will: Option<(&'a str, &'a [u8], bool)>,
}

/// A packet of the broker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    /// The answer to CONNECT.
    ConnAck(ConnAck),
    /// A message.
    Publish(Publish),
    /// A publish of ours arrived, or was refused.
    PubAck { id: u16, reason: Reason },
    /// The answer to SUBSCRIBE, a reason a filter.
    SubAck { id: u16, reasons: Vec<Reason> },
    /// The broker lives.
    PingResp,
    /// The broker ends the session (MQTT 5 only).
    Disconnect { reason: Reason, told: Told },
    /// Well framed, and nothing that a broker may send to this client.
    Other(&'static str),
}

impl Packet {
    /// Returns what it is, for one who did not expect it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::ConnAck(_) => "a second CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::PubAck { .. } => "PUBACK",
            Self::SubAck { .. } => "SUBACK",
            Self::PingResp => "PINGRESP",
            Self::Disconnect { .. } => "DISCONNECT",
            Self::Other(name) => name,
        }
    }
}

/// CONNACK. In MQTT 3.1.1 all but the first two fields have their defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConnAck {
    /// Return code of 3.1.1 or reason code of 5.
    pub(super) code: u8,
    pub(super) present: bool,
    pub(super) granted: Granted,
    pub(super) told: Told,
}

/// What a broker allows on a session, as CONNACK says it (MQTT 5, section 3.2.2.3). MQTT 3.1.1 has
/// no words for any of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Publishes that may be unacknowledged at the same time.
    pub in_flight_max: u16,
    /// Bytes of the largest packet it takes, header included; `None` when it does not say.
    pub packet_bytes_max: Option<u32>,
    /// Whether it takes QoS 1.
    pub qos_1: bool,
    /// Whether it keeps retained messages.
    pub retain: bool,
    /// Seconds of keep-alive that it wants in place of ours.
    pub keep_alive_s: Option<u16>,
    /// Seconds for which it keeps the session after a lost connection, in place of what we asked.
    pub session_expiry_s: Option<u32>,
    /// The identifier that it gave us.
    pub client_id: Option<String>,
}

/// PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Publish {
    /// Set for QoS 1 only.
    pub(super) id: Option<u16>,
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) retain: bool,
    pub(super) duplicate: bool,
}

impl Default for Granted {
    /// What holds when a broker says nothing (MQTT 5, section 3.2.2.3).
    fn default() -> Self {
        Self {
            in_flight_max: u16::MAX,
            packet_bytes_max: None,
            qos_1: true,
            retain: true,
            keep_alive_s: None,
            session_expiry_s: None,
            client_id: None,
        }
    }
}
