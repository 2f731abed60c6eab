//! What the Modbus buses say. Codes FG-Mnn.

use super::Code;

/// This room's codes.
pub const CODES: &[&Code] = &[];
