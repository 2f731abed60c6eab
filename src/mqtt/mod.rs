//! A session with an MQTT 3.1.1 broker: what the uplink and the zigbee2mqtt source share.
//!
//! `rumqttc` gives packets and codec; the session is ours, because its event loop cannot say which
//! publish was acknowledged (ARCHITECTURE.md, decision 2). A session is a value that ends with its
//! connection; nothing of it is carried to the next. There is no task and no queue behind it: it
//! moves while its owner awaits it. Dialling again, and when, is its owner's business too.

mod dial;
mod error;
mod ids;
mod pace;
#[cfg(test)]
pub mod script;
mod session;
pub mod settings;
#[cfg(test)]
mod tests;
mod tls;

pub use dial::connect;
pub use error::{ConnectError, Rejection, SessionError, Step};
pub use ids::PacketId;
pub use session::{Incoming, Message, Receipt, Session, Wire};
pub use settings::{Broker, Login, Tls, Will};
pub use tls::TlsFault;
