//! What the uplink and zigbee2mqtt say about their brokers. Codes FG-Unn.

use super::Code;

/// This room's codes.
pub const CODES: &[&Code] = &[];
