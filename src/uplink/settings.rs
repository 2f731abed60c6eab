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
    /// Who frees a batch.
    pub ack: Ack,
    /// Bytes a second that a backlog may take beside what is new; the whole link when absent.
    pub drain: Option<u64>,
    /// Bytes a month that the link may carry, by what its provider counts.
    pub data_plan: Option<u64>,
}

/// Whose word frees a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// The broker's PUBACK: from there on it is the broker's to keep.
    #[default]
    Broker,
    /// The receiver's word on `fg/1/{gw}/ack`: a broker may lose what it acknowledged.
    Receiver,
}
