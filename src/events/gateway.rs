//! What the wiring board says. Codes FG-Gnn.

use super::Code;

/// This room's codes.
pub const CODES: &[&Code] = &[];
