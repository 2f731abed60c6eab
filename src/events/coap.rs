//! What the CoAP server and clients say. Codes FG-Pnn.

use super::Code;

/// This room's codes.
pub const CODES: &[&Code] = &[];
