//! A session with an MQTT 3.1.1 broker: what the uplink and the zigbee2mqtt source share.
//!
//! `rumqttc` gives packets and codec; the session is ours, because its event loop cannot say which
//! publish was acknowledged (ARCHITECTURE.md, decision 2). A session is a value that ends with its
//! connection; nothing of it is carried to the next.

pub mod settings;

pub use settings::{Broker, Login, Tls, Will};
