//! What arrives on a session for its owner.

use bytes::Bytes;

use super::ids::PacketId;
use super::reason::Reason;

/// What a broker sends that its client cares for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// The broker has taken over the publish of this identifier; it is free again.
    Acknowledged(PacketId),
    /// The broker has refused the publish of this identifier (MQTT 5 only): it is **not**
    /// delivered. The identifier is free again.
    Refused(PacketId, Reason),
    /// A message to one of our subscriptions.
    Received(Message),
}

/// A message from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic it was published to.
    pub topic: String,
    /// Payload; shares the memory of its packet.
    pub payload: Bytes,
    /// Whether the broker kept it from before our subscription: old news.
    pub retain: bool,
    /// Whether the broker may have sent it before.
    pub duplicate: bool,
}

/// The acknowledgement that a message is owed. It is worth nothing on another session.
#[derive(Debug, PartialEq)]
pub struct Receipt(pub(super) u16);

/// Something for the owner, and the acknowledgement that the broker waits for.
pub(super) struct Arrived {
    pub(super) incoming: Incoming,
    pub(super) owes: Option<Receipt>,
}

impl Arrived {
    /// Returns what keeping it costs, bytes; more than nothing even for an empty message.
    pub(super) fn bytes(&self) -> usize {
        let own = match &self.incoming {
            Incoming::Acknowledged(_) | Incoming::Refused(..) => 0,
            Incoming::Received(message) => message.topic.len() + message.payload.len(),
        };
        own + size_of::<Self>()
    }
}
