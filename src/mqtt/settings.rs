//! How a broker is reached: resolved by `config`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use crate::secret::Secret;

/// A broker and how to introduce oneself.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Name or address.
    pub host: String,
    /// 1883, or 8883 with TLS.
    pub port: u16,
    /// TLS, for `mqtts://`.
    pub tls: Option<Tls>,
    /// Unique on its broker.
    pub client_id: String,
    /// User name and password.
    pub login: Option<Login>,
    /// Longest silence towards the broker; it is pinged in time. Whole seconds.
    pub keep_alive: Duration,
    /// What the broker says for us when we are gone.
    pub will: Option<Will>,
}

/// User name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// As the broker knows it.
    pub user: String,
    /// Read at every connect, so a rotated password takes effect by itself.
    pub password: Secret,
}

/// TLS towards a broker; files are read at every connect, so rotated ones take effect by
/// themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the CAs to trust; the system's store when absent.
    pub ca: Option<PathBuf>,
    /// PEM file with the client certificate chain, and its key.
    pub client: Option<(PathBuf, Secret)>,
}

/// Last will (MQTT 3.1.1, section 3.1.2.5), QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
}
