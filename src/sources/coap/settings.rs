//! What CoAP sources are told: resolved by `config`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A listener that devices post to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Name in the configuration.
    pub name: String,
    /// Where it listens (UDP).
    pub listen: SocketAddr,
    /// Senders that may post; empty allows all. Prefixes: address and leading bits.
    pub allow: Vec<(std::net::IpAddr, u8)>,
}

impl Listener {
    /// Returns what people call it, as a notice's subject.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("coap listener {}", self.name)
    }
}

/// A resource that is polled or observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// Name in the configuration; the device name when the payload does not carry one.
    pub name: Arc<str>,
    /// `coap://host[:port]/path?query`.
    pub url: String,
    /// How values are obtained.
    pub mode: Mode,
    /// How payloads are read.
    pub format: Format,
    /// Point name for a payload that is one bare value; the URL's last path segment by default.
    pub point: Arc<str>,
    /// Unit for a payload that does not carry one.
    pub unit: Arc<str>,
    /// How long one exchange may take.
    pub timeout: Duration,
}

impl Client {
    /// Returns what people call it, as a notice's subject.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("coap client {}", self.name)
    }
}

/// How values are obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A GET this often.
    Poll(Duration),
    /// Registered as an observer (RFC 7641), registered anew when the server falls silent.
    Observe,
}

/// How payloads are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// By the Content-Format option; by looking at the payload when there is none.
    #[default]
    Auto,
    /// One value as text.
    Text,
    /// JSON: a bare value, or an object of points.
    Json,
    /// SenML in JSON or CBOR (RFC 8428).
    Senml,
}
