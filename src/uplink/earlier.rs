//! Salvaged batches that wait for their receiver's word. It names them as it names all others, by the
//! epoch, stream and sequence number in their bytes; in the store and in the window they go by their
//! place on a shelf ([`Shelf`]). Here stands which is which, for those that are under way or at the
//! broker, and for no others: that is as much as may be unnamed at a time.

use std::collections::BTreeMap;

use crate::batch;
use crate::limits;
use crate::ranges::Ranges;
use crate::store::Shelf;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// Epoch and sequence number of each, by shelf and place. Bounded by
    /// [`limits::SALVAGED_UNNAMED_MAX`] and what one read returns.
    keys: BTreeMap<(Shelf, u64), (u64, u64)>,
    /// Whether the receiver has spoken, of whatever epoch, since this was last looked at.
    pub(super) heard: bool,
}

impl Earlier {
    /// Notes the key in a payload that is about to be sent; one that cannot be read has none.
    pub(super) fn note(&mut self, shelf: Shelf, place: u64, payload: &[u8]) {
        if let Ok(header) = batch::header(payload) {
            self.keys.insert((shelf, place), (header.epoch, header.sequence));
        }
    }

    /// Returns whether a receiver can name this one.
    pub(super) fn knows(&self, shelf: Shelf, place: u64) -> bool {
        self.keys.contains_key(&(shelf, place))
    }

    /// Returns whether no more are to be read until some are named.
    pub(super) fn is_full(&self) -> bool {
        self.keys.len() >= limits::SALVAGED_UNNAMED_MAX
    }

    /// Returns the places that a receiver's word covers: everything of an epoch up to `upto`, but
    /// `holes`.
    pub(super) fn named(&self, shelf: Shelf, epoch: u64, upto: u64, holes: &Ranges) -> Vec<u64> {
        let has = |(of, seq): &(u64, u64)| *of == epoch && *seq <= upto && !holes.contains(*seq);
        let keys = self.keys.range((shelf, 0)..=(shelf, u64::MAX));
        keys.filter(|(_, key)| has(key)).map(|((_, place), _)| *place).collect()
    }

    /// Forgets those from `first` to `last`.
    pub(super) fn forget(&mut self, shelf: Shelf, first: u64, last: u64) {
        self.keys.retain(|(of, place), _| *of != shelf || !(first..=last).contains(place));
    }

    /// Forgets all but those of which `is` is true.
    pub(super) fn retain(&mut self, is: impl Fn(Shelf, u64) -> bool) {
        self.keys.retain(|(shelf, place), _| is(*shelf, *place));
    }
}
