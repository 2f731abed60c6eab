//! What the uplink needs of the store: sealed batches, oldest first, and to say which are through.
//! The second implementation is the list in this room's tests.

use std::future::Future;

use bytes::Bytes;
use tokio::sync::watch;

use crate::reading::UnixMillis;
use crate::store::{Shelf, Used};

/// A batch as the uplink sees it. Its bytes are the bytes on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Sequence number in its stream.
    pub seq: u64,
    /// Readings in it.
    pub readings: u64,
    /// The payload, sent as it is.
    pub payload: Bytes,
}

/// What waits, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Unix seconds when the store was created.
    pub epoch: u64,
    /// In the order of [`Shelf::ALL`].
    pub streams: [Waiting; Shelf::COUNT],
}

/// What waits in one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Newest sequence number given; 0 before the first.
    pub newest: u64,
    /// Lowest sequence number still held; `newest + 1` when none is.
    pub lo: u64,
    /// When the oldest batch that waits was sealed.
    pub oldest: Option<UnixMillis>,
}

/// The store cannot answer now; it has told the operator itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// Where sealed batches wait until they are acknowledged.
pub trait Outbox: Send + Sync {
    /// Returns a watch that changes whenever a batch was sealed, after [`Outbox::standing`] tells
    /// of it, or can be read again.
    fn sealed(&self) -> watch::Receiver<u64>;

    /// Returns up to `count` batches of `stream` with sequence numbers over `after`, oldest first,
    /// without those that were acknowledged; fewer when they are large, none only when there are
    /// none.
    fn next(
        &self,
        stream: Shelf,
        after: u64,
        count: usize,
    ) -> impl Future<Output = Result<Vec<Sealed>, Unreadable>> + Send;

    /// Frees batches `first` to `last` of the store of this epoch: once another has taken its place,
    /// the numbers mean other batches, and none is freed. What is not held any more is no error.
    fn acknowledge(&self, epoch: u64, stream: Shelf, first: u64, last: u64);

    /// Returns what waits.
    fn standing(&self) -> Standing;

    /// Returns whether the store was read since the start, which a disk may not allow.
    fn opened(&self) -> bool {
        true
    }

    /// Returns what was used of the data plan before this start.
    fn used(&self) -> Option<Used> {
        None
    }

    /// Keeps what was used of the data plan, soon.
    fn note_used(&self, _used: Used) {}

    /// Makes batches so many times as long as usual.
    fn stretch(&self, _times: u32) {}
}
