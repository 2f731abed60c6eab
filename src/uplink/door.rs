//! A door for the fuzzers: what anybody may publish to a gateway's `ack` topic.

use super::receipt;
use crate::limits;

/// Reads an acknowledgement at a store of this epoch; returns its epoch and `upto`.
///
/// # Errors
/// Why it is not believed.
///
/// # Panics
/// When something is taken that cannot be true.
pub fn receipt(payload: &[u8], epoch: u64) -> Result<(u64, u64), String> {
    let receipt = receipt::read(payload, epoch)?;
    assert!(receipt.epoch <= epoch, "of an epoch to come");
    assert!(receipt.holes.spans() <= limits::RECEIPT_HOLES_MAX, "more holes than are kept");
    for (first, last) in receipt.holes.iter() {
        assert!(0 < first && first <= last && last <= receipt.upto, "a hole outside of it");
    }
    Ok((receipt.epoch, receipt.upto))
}
