//! The real outbox: the store, or an uplink's share of it.

use tokio::sync::watch;

use super::outbox::{Outbox, Sealed, Standing, Unreadable, Waiting};
use crate::store::{Batch, Share, Shelf, Store, Used};

impl From<Batch> for Sealed {
    fn from(batch: Batch) -> Self {
        Self { seq: batch.seq(), readings: batch.readings(), payload: batch.payload().clone() }
    }
}

impl Outbox for Share {
    fn sealed(&self) -> watch::Receiver<u64> {
        self.store().sealed()
    }

    async fn next(
        &self,
        stream: Shelf,
        after: u64,
        count: usize,
    ) -> Result<Vec<Sealed>, Unreadable> {
        match Self::next(self, stream, after, count).await {
            Ok(batches) => Ok(batches.into_iter().map(Sealed::from).collect()),
            Err(_) => Err(Unreadable),
        }
    }

    fn acknowledge(&self, epoch: u64, stream: Shelf, first: u64, last: u64) {
        self.acknowledge_of(epoch, stream, first, last);
    }

    fn standing(&self) -> Standing {
        let status = self.store().status();
        let waiting = |shelf| {
            let newest = status.shelf(shelf).seq_next.saturating_sub(1);
            let backlog = self.backlog(&status, shelf);
            Waiting { newest, lo: backlog.lo, oldest: backlog.oldest }
        };
        Standing { epoch: status.epoch, streams: Shelf::ALL.map(waiting) }
    }

    fn opened(&self) -> bool {
        self.store().status().opened
    }

    fn used(&self) -> Option<Used> {
        Self::used(self)
    }

    fn note_used(&self, used: Used) {
        Self::note_used(self, used);
    }

    fn stretch(&self, times: u32) {
        Self::stretch(self, times);
    }
}

/// The only uplink's.
impl Outbox for Store {
    fn sealed(&self) -> watch::Receiver<u64> {
        Self::sealed(self)
    }

    async fn next(
        &self,
        stream: Shelf,
        after: u64,
        count: usize,
    ) -> Result<Vec<Sealed>, Unreadable> {
        Outbox::next(&self.share(0), stream, after, count).await
    }

    fn acknowledge(&self, epoch: u64, stream: Shelf, first: u64, last: u64) {
        self.share(0).acknowledge_of(epoch, stream, first, last);
    }

    fn standing(&self) -> Standing {
        self.share(0).standing()
    }

    fn opened(&self) -> bool {
        self.status().opened
    }
}
