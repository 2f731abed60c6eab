//! The other end of the uplink: `fieldgate-receive` takes batches from a broker, puts each into a
//! sink exactly once, and acknowledges it only then.

use crate::error::Exit;

/// Runs the receiver's command line.
#[must_use]
pub fn main() -> Exit {
    Exit::Done
}
