//! What zigbee2mqtt sources say. Codes FG-Znn.

use super::Code;

/// This room's codes.
pub const CODES: &[&Code] = &[];
