//! What serial lines say. Codes FG-Snn.

use super::Code;

/// This room's codes.
pub const CODES: &[&Code] = &[];
