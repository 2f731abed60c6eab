//! What the store says. Codes FG-Bnn.

use super::Code;

/// This room's codes.
pub const CODES: &[&Code] = &[];
