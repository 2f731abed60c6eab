//! What an uplink is told: resolved by `config`.

use std::sync::Arc;

use crate::mqtt::Broker;

/// One receiver of batches.
#[derive(Debug, Clone)]
pub struct Uplink {
    /// Name in the configuration (`cloud` of `[uplink.cloud]`).
    pub name: String,
    /// The gateway's name, a topic level.
    pub gateway: Arc<str>,
    /// Short hash of the effective configuration, sent in `status` and `meta`.
    pub config_hash: Arc<str>,
    /// Site and groups, sent in `meta`.
    pub labels: Vec<(String, String)>,
    /// Its broker. The last will is set by the uplink itself.
    pub broker: Broker,
}
