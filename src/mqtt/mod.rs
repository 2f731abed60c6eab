//! A session with an MQTT broker, 3.1.1 or 5: what uplink, receiver and zigbee2mqtt source share.
//!
//! The session is ours, because the event loops at hand cannot say which publish was acknowledged
//! (ARCHITECTURE.md, decision 2). A session is a value that ends with its connection; nothing of it
//! is carried to the next. There is no task and no queue behind it: it moves while its owner awaits
//! it. Dialling again, and when, is its owner's business too.
//!
//! `session` knows no version: `packet` is what both have in common, `codec` and `fields` put it
//! on the wire, and `reason` has the words for what MQTT 5 can say. What clouds allow is data in
//! `preset`; a session keeps to it by itself.

mod certificate;
mod codec;
mod dial;
mod errand;
mod error;
mod fields;
mod files;
mod flow;
mod ids;
mod incoming;
mod login;
mod meter;
mod pace;
mod packet;
pub mod preset;
mod reason;
#[cfg(test)]
pub mod script;
mod session;
pub mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod witness;

pub use certificate::Certificate;
pub use dial::{Passed, connect, connect_watched};
pub use errand::{Carrier, Errand, Sender as ErrandSender, errands};
pub use error::{ConnectError, Rejection, SessionError, Step};
pub use files::Files;
pub use ids::PacketId;
pub use incoming::{Incoming, Message, Receipt};
pub use meter::Meter;
pub use packet::Granted;
pub use preset::{Layout, Preset};
pub use reason::{Outlook, Reason, Told};
pub use session::{Session, Wire};
pub use settings::{Broker, Login, Tls, User, Version, Will};
pub use tls::{TlsFault, configuration as tls_configuration};
