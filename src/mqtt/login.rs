//! What CONNECT says of us, read and checked before anything is sent; and whether what CONNACK
//! says will do.

use super::error::ConnectError;
use super::pace::seconds;
use super::packet::{Connect, Granted};
use super::settings::Broker;

/// Longest text on the wire (MQTT 3.1.1, section 1.5.3).
pub(super) const TEXT_BYTES_MAX: usize = 0xFFFF;

/// A login whose secret has been read.
pub(super) struct Login {
    password: Option<String>,
}

impl Login {
    /// Reads the secret.
    ///
    /// # Errors
    /// [`ConnectError::Settings`] when it cannot be read, or when a text does not fit its field.
    pub(super) fn read(broker: &Broker) -> Result<Self, ConnectError> {
        let mut longest = broker.client_id.len();
        let mut password = None;
        if let Some(login) = &broker.login {
            let secret =
                login.password.read().map_err(|e| ConnectError::Settings(e.to_string()))?;
            if login.user.is_empty() {
                // MQTT 3.1.1, section 3.1.2.9.
                return Err(ConnectError::Settings("a password needs a user name".to_owned()));
            }
            longest = longest.max(login.user.len()).max(secret.len());
            password = Some(secret);
        }
        if let Some(will) = &broker.will {
            longest = longest.max(will.topic.len()).max(will.payload.len());
        }
        if longest > TEXT_BYTES_MAX {
            let why = "client id, user, password and will may have 65,535 bytes each";
            return Err(ConnectError::Settings(why.to_owned()));
        }
        Ok(Self { password })
    }

    /// Puts it together.
    pub(super) fn connect<'a>(&'a self, broker: &'a Broker, clean: bool) -> Connect<'a> {
        let user = broker.login.as_ref().map(|login| login.user.as_str());
        Connect {
            client_id: &broker.client_id,
            keep_alive: seconds(broker.keep_alive),
            clean,
            login: user.zip(self.password.as_deref()),
            will: broker.will.as_ref().map(|it| (it.topic.as_str(), &it.payload[..], it.retain)),
        }
    }
}

/// Says why nothing can be kept on a session that allows this.
pub(super) fn unfit(granted: &Granted) -> Option<&'static str> {
    if !granted.qos_1 {
        return Some("it takes QoS 0 only, so it acknowledges nothing");
    }
    None
}
