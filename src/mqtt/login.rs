//! What CONNECT says of us, read and checked before anything is sent; and whether what CONNACK
//! says will do.

use super::error::ConnectError;
use super::pace::seconds;
use super::packet::{Connect, Granted};
use super::settings::{Broker, User, Will};
use crate::secret::Secret;

/// Longest text on the wire (MQTT 3.1.1, section 1.5.3).
pub(super) const TEXT_BYTES_MAX: usize = 0xFFFF;

/// A login whose secret has been read.
pub(super) struct Login {
    user: Option<String>,
    password: Option<String>,
}

impl Login {
    /// Reads the secret.
    ///
    /// # Errors
    /// [`ConnectError::Settings`] when it cannot be read, or when a text does not fit its field.
    pub(super) fn read(broker: &Broker) -> Result<Self, ConnectError> {
        let mut longest = broker.client_id.len();
        let (mut user, mut password) = (None, None);
        if let Some(login) = &broker.login {
            let read =
                |secret: &Secret| secret.read().map_err(|e| ConnectError::Settings(e.to_string()));
            let name = match &login.user {
                User::Name(name) => name.clone(),
                User::Token(secret) => read(secret)?,
            };
            password = login.password.as_ref().map(read).transpose()?;
            if name.is_empty() {
                // MQTT 3.1.1, section 3.1.2.9.
                return Err(ConnectError::Settings("a password needs a user name".to_owned()));
            }
            longest = longest.max(name.len()).max(password.as_ref().map_or(0, String::len));
            user = Some(name);
        }
        if let Some(will) = &broker.will {
            longest = longest.max(will.topic.len()).max(will.payload.len());
        }
        if longest > TEXT_BYTES_MAX {
            let why = "client id, user, password and will may have 65,535 bytes each";
            return Err(ConnectError::Settings(why.to_owned()));
        }
        Ok(Self { user, password })
    }

    /// Puts it together.
    pub(super) fn connect<'a>(&'a self, broker: &'a Broker, clean: bool) -> Connect<'a> {
        let retain = broker.preset.retain;
        let will = |it: &'a Will| (it.topic.as_str(), &it.payload[..], it.retain && retain);
        Connect {
            client_id: &broker.client_id,
            keep_alive: seconds(broker.keep_alive),
            clean,
            user: self.user.as_deref(),
            password: self.password.as_deref(),
            will: broker.will.as_ref().map(will),
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
