//! The real outbox: the store.

use tokio::sync::watch;

use super::outbox::{Outbox, Sealed, Standing, Unreadable, Waiting};
use crate::store::{Batch, Shelf, Store};

impl From<Batch> for Sealed {
    fn from(batch: Batch) -> Self {
        Self { seq: batch.seq(), readings: batch.readings(), payload: batch.payload().clone() }
    }
}

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
        match Self::next(self, stream, after, count).await {
            Ok(batches) => Ok(batches.into_iter().map(Sealed::from).collect()),
            Err(_) => Err(Unreadable),
        }
    }

    fn acknowledge(&self, stream: Shelf, first: u64, last: u64) {
        for seq in first..=last {
            Self::acknowledge(self, stream, seq);
        }
    }

    fn standing(&self) -> Standing {
        let status = self.status();
        let waiting = |stream| {
            let stream = status.shelf(stream);
            Waiting {
                newest: stream.seq_next.saturating_sub(1),
                lo: stream.lo,
                oldest: stream.oldest,
            }
        };
        Standing { epoch: status.epoch, streams: Shelf::ALL.map(waiting) }
    }
}
