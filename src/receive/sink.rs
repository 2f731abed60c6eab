//! The seam behind the receiver: where batches end.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::batch::Decoded;
use crate::events::Notice;
use crate::reading::UnixMillis;

/// A batch that passed all checks.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// As it was published to: `fg/1/{gw}/{st}`.
    pub topic: String,
    /// As sealed by the gateway.
    pub payload: Bytes,
    /// What the payload says; `batch.header` holds the key.
    pub batch: Decoded,
    /// When this receiver had it.
    pub received_at: UnixMillis,
}

/// A sequence of batches: one stream of one epoch of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sequence {
    /// Gateway.
    pub gw: String,
    /// Unix seconds when its store was created.
    pub ep: u64,
    /// `data`, `event` or `self`.
    pub st: String,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the sink, for good.
    Stored,
    /// It was there before; nothing was added.
    Seen,
    /// This sink will never take it, and says why as a sentence part. It is put aside.
    Refused(String),
}

/// A sink that cannot take anything now. The slice is offered again, and nothing of it was stored;
/// or, where a sink cannot know that, it sees its own duplicates.
#[derive(Debug)]
pub struct Away(pub Box<Notice>);

/// What a gateway says of itself in `status`, as far as a ledger can use it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// From the topic.
    #[serde(skip)]
    pub gw: String,
    /// Whether it says that it is connected; the last will says that it is not.
    pub up: bool,
    /// Its epoch; absent in a goodbye.
    #[serde(default)]
    pub ep: Option<u64>,
    /// Highest `seq` of `data` that it has sealed.
    #[serde(default)]
    pub seq: Option<u64>,
    /// Lowest `seq` of `data` that it still holds.
    #[serde(default)]
    pub lo: Option<u64>,
    /// Age of the oldest batch that waits, seconds.
    #[serde(default)]
    pub backlog_s: Option<u64>,
    /// Its version.
    #[serde(default)]
    pub ver: Option<String>,
}

/// What a ledger has of a sequence (DESIGN section 4, `ack`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ack {
    /// Gateway; stands in the topic.
    #[serde(skip)]
    pub gw: String,
    /// Epoch.
    pub ep: u64,
    /// Stream.
    pub st: String,
    /// Everything up to here is stored, but for the holes.
    pub upto: u64,
    /// Inclusive ranges at or below `upto` that are not stored; those the gateway does not hold any
    /// more are left out.
    pub holes: Vec<(u64, u64)>,
}

/// Where batches end. One method carries the promise: [`Sink::store`] returns when what it names as
/// stored survives the death of this process.
pub trait Sink: Send {
    /// Takes a slice and answers for each batch, in order. The same batch may stand in it twice.
    ///
    /// Dropping the future before it ends must leave the sink usable.
    ///
    /// # Errors
    /// [`Away`] when the slice has to be offered again.
    fn store<'a>(&'a mut self, slice: &'a [Delivery]) -> BoxFuture<'a, Result<Vec<Verdict>, Away>>;

    /// Looks whether there is anyone to take batches, so that a target that is not there is told at
    /// the start and not with the first batch. Sinks that know since they were opened say nothing.
    ///
    /// # Errors
    /// [`Away`] when there is no one; whoever asked goes on all the same.
    fn reach(&mut self) -> BoxFuture<'_, Result<(), Away>> {
        Box::pin(async { Ok(()) })
    }

    /// Takes what gateways said of themselves since the last call, newest last. Sinks without use
    /// for it ignore it.
    ///
    /// # Errors
    /// [`Away`] when it has to be offered again.
    fn note<'a>(&'a mut self, statuses: &'a [Status]) -> BoxFuture<'a, Result<(), Away>> {
        let _ = statuses;
        Box::pin(async { Ok(()) })
    }

    /// Returns what the ledger has of these sequences, for the gateways to read. A sink without a
    /// ledger knows nothing.
    ///
    /// # Errors
    /// [`Away`] when it cannot be known now.
    fn acks<'a>(&'a mut self, sequences: &'a [Sequence]) -> BoxFuture<'a, Result<Vec<Ack>, Away>> {
        let _ = sequences;
        Box::pin(async { Ok(Vec::new()) })
    }
}

impl Delivery {
    /// Returns the sequence it belongs to.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        let header = &self.batch.header;
        Sequence { gw: header.gateway.clone(), ep: header.epoch, st: header.stream.clone() }
    }
}
