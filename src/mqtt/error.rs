//! How a broker can fail us, in words for people. No operating system error leaves this file bare.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::codec::CodecError;
use super::packet::ConnAck;
use super::reason::{Reason, Told};
use super::settings::Version;
use super::tls::TlsFault;
use crate::limits;

/// The steps of connecting, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Looking up the broker's name.
    Name,
    /// Opening the TCP connection.
    Tcp,
    /// The TLS handshake.
    Tls,
    /// CONNECT and its answer.
    Login,
}

/// Why no session came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// A secret or a file that the settings name cannot be used; nothing was sent.
    Settings(String),
    /// The broker's name has no address.
    Name {
        /// As configured.
        host: String,
        /// What the resolver answered, as a sentence part.
        why: &'static str,
    },
    /// Nothing listens there.
    Refused(SocketAddr),
    /// There is no way to it.
    Unreachable {
        /// The last address that was tried.
        address: SocketAddr,
        /// What was seen, as a sentence part.
        why: &'static str,
    },
    /// Nothing came back in [`limits::MQTT_CONNECT_TIME_MAX`].
    Silent(Step),
    /// TLS failed.
    Tls(TlsFault),
    /// The broker answered CONNECT with a refusal.
    Rejected(Rejection, Told),
    /// It accepts the login and lacks what an uplink needs; as a sentence part.
    Unfit(&'static str),
    /// The broker closed the connection instead of answering.
    Closed(Step),
    /// What answered does not speak MQTT.
    Violation(String),
}

/// The refusals of CONNACK (MQTT 3.1.1, section 3.2.2.3; MQTT 5, section 3.2.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It does not speak this version of MQTT.
    Version(Version),
    /// It does not allow this client identifier.
    Identifier,
    /// The MQTT service is not available, or busy.
    Unavailable,
    /// The user name or password is wrong.
    BadLogin,
    /// This client is not authorised to connect.
    NotAuthorised,
    /// Another reason; only MQTT 5 has them.
    Other(Reason),
}

/// Why a session ended, or why it refused a request. After any but [`SessionError::TooLarge`],
/// [`SessionError::Topic`] and [`SessionError::Filter`] the session is of no further use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionError {
    /// The other side closed the connection, or the network lost it.
    Closed(&'static str),
    /// The broker sent nothing for one and a half keep-alives, and did not answer a ping.
    Silent(Duration),
    /// The broker took no bytes for [`limits::MQTT_WRITE_TIME_MAX`].
    Stalled,
    /// As many publishes as the broker allows were in flight, and it acknowledged none of them for
    /// [`limits::MQTT_WRITE_TIME_MAX`].
    Full(u16),
    /// The broker ended the session and said why (MQTT 5, section 3.14).
    Ended(Reason, Told),
    /// The broker did not answer a SUBSCRIBE in [`limits::MQTT_CONNECT_TIME_MAX`].
    Unanswered,
    /// The broker sent what MQTT does not allow.
    Violation(String),
    /// TLS broke; a refused client certificate is told as late as here.
    Tls(TlsFault),
    /// The packet is larger than the session may send; nothing was written.
    TooLarge {
        /// Bytes of the whole packet.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// The topic is empty, longer than 65,535 bytes or has a wildcard; nothing was written.
    Topic(String),
    /// The broker refuses this subscription.
    Filter(String, Reason),
    /// All 65,535 packet identifiers are in flight.
    NoPacketId,
}

impl ConnectError {
    /// Takes a CONNACK that refuses.
    pub(super) fn rejected(version: Version, answer: ConnAck) -> Self {
        let rejection = match answer.code {
            // A broker that does not know our version answers in its own.
            0x01 | 0x84 => Rejection::Version(version),
            0x02 | 0x85 => Rejection::Identifier,
            0x03 | 0x88 | 0x89 => Rejection::Unavailable,
            0x04 | 0x86 => Rejection::BadLogin,
            0x05 | 0x87 => Rejection::NotAuthorised,
            code => Rejection::Other(Reason::new(code)),
        };
        Self::Rejected(rejection, answer.told)
    }

    /// Takes what reading or writing failed with, inside the TLS handshake.
    pub(super) fn from_io(error: &io::Error, step: Step) -> Self {
        match TlsFault::of(error) {
            Some(fault) => Self::Tls(fault),
            None => Self::Closed(step),
        }
    }
}

impl SessionError {
    /// Takes what the codec or the wire below it failed with.
    pub(super) fn from_codec(error: CodecError) -> Self {
        match error {
            CodecError::Io(e) => Self::from_io(&e),
            CodecError::TooLong(bytes) => {
                Self::Violation(format!("a packet of {bytes} bytes, more than is read here"))
            }
            CodecError::TooLarge { bytes, bytes_max } => Self::TooLarge { bytes, bytes_max },
            CodecError::Malformed(what) => Self::Violation(what.to_owned()),
        }
    }

    /// Returns whether the other side ended the session in a way that may be its answer to
    /// something we published on it.
    #[must_use]
    pub fn may_be_about_a_publish(&self) -> bool {
        match self {
            Self::Closed(_) => true,
            Self::Ended(reason, _) => reason.may_be_about_a_publish(),
            _ => false,
        }
    }

    pub(super) fn from_io(error: &io::Error) -> Self {
        match TlsFault::of(error) {
            Some(fault) => Self::Tls(fault),
            None => Self::Closed(words(error.kind())),
        }
    }
}

/// Says in words what the network did.
pub(super) fn words(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind as Kind;
    match kind {
        Kind::ConnectionRefused => "nothing listens there",
        Kind::ConnectionReset | Kind::ConnectionAborted => "the connection was reset",
        Kind::BrokenPipe | Kind::UnexpectedEof | Kind::NotConnected | Kind::WriteZero => {
            "the broker closed the connection"
        }
        Kind::HostUnreachable => "no router knows a way to it",
        Kind::NetworkUnreachable => "this board has no route to that network",
        Kind::NetworkDown | Kind::AddrNotAvailable => "this board has no network",
        Kind::TimedOut => "packets are sent and nothing comes back",
        Kind::PermissionDenied => "a firewall of this board forbids it",
        _ => "the network failed",
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "looking up its name",
            Self::Tcp => "opening a TCP connection",
            Self::Tls => "the TLS handshake",
            Self::Login => "the MQTT login",
        })
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version(version) => return write!(f, "it does not speak MQTT {version}"),
            Self::Other(reason) => return reason.fmt(f),
            Self::Identifier => "it does not allow this client identifier",
            Self::Unavailable => "its MQTT service is not available",
            Self::BadLogin => "the user name or password is wrong",
            Self::NotAuthorised => "this client is not authorised",
        })
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(why) => f.write_str(why),
            Self::Name { host, why } => write!(f, "the name {host} {why}"),
            Self::Refused(address) => write!(f, "nothing listens on {address}"),
            Self::Unreachable { address, why } => write!(f, "{address} is not reached: {why}"),
            Self::Silent(step) => write!(
                f,
                "no answer within {} s during {step}",
                limits::MQTT_CONNECT_TIME_MAX.as_secs()
            ),
            Self::Tls(fault) => fault.fmt(f),
            Self::Rejected(rejection, told) => write!(f, "the broker refuses: {rejection}{told}"),
            Self::Unfit(why) => f.write_str(why),
            Self::Closed(step) => write!(f, "the broker closed the connection during {step}"),
            Self::Violation(what) => write!(f, "the answer is not MQTT: {what}"),
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(why) => f.write_str(why),
            Self::Silent(silence) => {
                write!(f, "the broker has been silent for {} s", silence.as_secs())
            }
            Self::Stalled => write!(
                f,
                "the broker took no bytes for {} s",
                limits::MQTT_WRITE_TIME_MAX.as_secs()
            ),
            Self::Full(count) => write!(
                f,
                "the broker allows {count} publishes in flight and acknowledged none for {} s",
                limits::MQTT_WRITE_TIME_MAX.as_secs()
            ),
            Self::Ended(reason, told) => {
                write!(f, "the broker ended the connection: {reason}{told}")
            }
            Self::Unanswered => f.write_str("the broker did not answer a subscription"),
            Self::Violation(what) => write!(f, "the broker sent {what}"),
            Self::Tls(fault) => fault.fmt(f),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "a packet of {bytes} bytes is over the limit of {bytes_max}")
            }
            Self::Topic(topic) => write!(f, "{topic:?} cannot be published to"),
            Self::Filter(filter, reason) => {
                write!(f, "the broker refuses the subscription {filter}: {reason}")
            }
            Self::NoPacketId => f.write_str("all packet identifiers are in flight"),
        }
    }
}

impl std::error::Error for ConnectError {}
impl std::error::Error for SessionError {}
