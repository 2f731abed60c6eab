//! How a broker is reached: resolved by `config`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::meter::Meter;
use super::preset::{self, Preset};
use crate::secret::Secret;

/// Which MQTT is spoken. A broker of the other version refuses the login; none is tried behind a
/// person's back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// MQTT 3.1.1 (OASIS, 2014): every broker speaks it.
    #[default]
    V311,
    /// MQTT 5 (OASIS, 2019): the broker says what it allows, and why it refuses.
    V5,
}

/// A broker and how to introduce oneself.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Name or address.
    pub host: String,
    /// 1883, or 8883 with TLS.
    pub port: u16,
    /// Whose limits to keep.
    pub preset: &'static Preset,
    /// Which MQTT to speak.
    pub version: Version,
    /// TLS, for `mqtts://`.
    pub tls: Option<Tls>,
    /// Unique on its broker.
    pub client_id: String,
    /// User name and password.
    pub login: Option<Login>,
    /// Longest silence towards the broker; it is pinged in time. Whole seconds.
    pub keep_alive: Duration,
    /// How long the broker may keep what is published and not retained for a subscriber that is away
    /// (MQTT 5, section 3.3.2.3.3). Whole seconds; MQTT 3.1.1 cannot say it.
    pub expiry: Option<Duration>,
    /// What the broker says for us when we are gone.
    pub will: Option<Will>,
    /// Counts what its connections take of the link.
    pub meter: Meter,
}

impl Broker {
    /// Names a broker, with MQTT 3.1.1, without TLS, login or will, and a keep-alive of a minute.
    #[must_use]
    pub fn new(host: &str, port: u16, client_id: &str) -> Self {
        Self {
            host: host.to_owned(),
            port,
            preset: &preset::MQTT,
            version: Version::default(),
            tls: None,
            client_id: client_id.to_owned(),
            login: None,
            keep_alive: Duration::from_secs(60),
            expiry: None,
            will: None,
            meter: Meter::default(),
        }
    }
}

impl Login {
    /// Returns the references that have to be read for it.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let token = match &self.user {
            User::Token(secret) => Some(secret),
            User::Name(_) => None,
        };
        token.into_iter().chain(&self.password)
    }
}

impl From<&str> for User {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Token(secret) => write!(f, "the token in {secret}"),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        })
    }
}

/// User name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// As the broker knows it.
    pub user: User,
    /// Read at every connect, so a rotated password takes effect by itself. Where a certificate
    /// or the user name itself is the proof, there is none.
    pub password: Option<Secret>,
}

/// A user name, which some brokers want to be secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// As it is.
    Name(String),
    /// An access token in the place of a name.
    Token(Secret),
}

/// TLS towards a broker; files are read at every connect, and an uplink connects anew when they
/// change (`files`).
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
