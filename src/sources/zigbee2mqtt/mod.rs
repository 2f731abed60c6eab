//! A zigbee2mqtt bridge.

pub mod settings;
