//! What is gathered between two commits: batches, statuses, and the acknowledgements owed for both
//! and for what was refused.

use super::sink::{Delivery, Status};
use crate::limits;
use crate::mqtt::Receipt;

/// Messages that are acknowledged together, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) statuses: Vec<Status>,
    /// One for every message, refused ones included.
    receipts: Vec<Receipt>,
    bytes: usize,
    readings: u64,
}

impl Slice {
    /// Returns whether another message may be taken from the broker.
    pub(super) fn has_room(&self) -> bool {
        self.receipts.len() < limits::SLICE_BATCHES_MAX
            && self.bytes < limits::SLICE_BYTES_MAX
            && self.readings < limits::SLICE_READINGS_MAX
            && self.statuses.len() < limits::SLICE_STATUSES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.statuses.is_empty() && self.receipts.is_empty()
    }

    pub(super) fn owe(&mut self, receipt: Option<Receipt>) {
        self.receipts.extend(receipt);
    }

    pub(super) fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.payload.len();
        self.readings += delivery.batch.readings();
        self.deliveries.push(delivery);
    }

    pub(super) fn receipts(&mut self) -> impl Iterator<Item = Receipt> + '_ {
        self.receipts.drain(..)
    }
}
