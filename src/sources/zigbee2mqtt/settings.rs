//! What a zigbee2mqtt source is told: resolved by `config`.

use std::collections::BTreeMap;

use crate::mqtt::Broker;

/// One bridge, seen through its broker.
#[derive(Debug, Clone)]
pub struct Bridge {
    /// Name in the configuration (`zigbee` of `[source.zigbee]`).
    pub name: String,
    /// The broker it publishes to.
    pub broker: Broker,
    /// Its base topic; `zigbee2mqtt` unless its own configuration says otherwise.
    pub base: String,
    /// IEEE address (`0x00158d0001a2b3c4`) or friendly name to the device name used here.
    pub rename: BTreeMap<String, String>,
    /// Points to take; empty takes every point the device definitions describe.
    pub points: Vec<String>,
}
