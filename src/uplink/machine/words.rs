//! What the window hears and orders: [`Event`] and [`Action`], and what they speak of.

use crate::limits;
use crate::mqtt::PacketId;
use crate::ranges::Ranges;
use crate::reading::Stream;
use crate::store::Shelf;
use crate::uplink::outbox::{Sealed, Standing};
use crate::uplink::parked::Reason;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection begins, and this waits.
    Connected(Standing),
    /// The connection ended; `closed` when the other side ended it, which may be its way to say
    /// that it does not want a batch.
    Lost {
        /// Whether the other side ended it.
        closed: bool,
    },
    /// What waits now; also when nothing new does and a pause has ended.
    News(Standing),
    /// The answer to [`Action::Read`]: oldest first; none when there are no more, and fewer than
    /// asked when they are large.
    Read(Shelf, Vec<Sealed>),
    /// The store could not answer [`Action::Read`]; it is asked again when there is news.
    Unread(Shelf),
    /// The batch of the oldest [`Action::Send`] is on its way.
    Sent(PacketId),
    /// The broker has what it got under this identifier.
    Acknowledged(PacketId),
    /// The broker does not take what it got under this identifier.
    Refused(PacketId, Refusal),
    /// The receiver has everything up to `upto` but `holes`; see [`Machine::believes`].
    Receipt {
        /// Of which stream.
        stream: Shelf,
        /// Highest sequence number it has.
        upto: u64,
        /// What it misses below.
        holes: Ranges,
    },
    /// As [`Event::Receipt`], of an earlier epoch: it speaks of batches that were salvaged.
    Earlier {
        /// Which epoch.
        epoch: u64,
        /// Of which stream.
        stream: Stream,
        /// Highest sequence number it has.
        upto: u64,
        /// What it misses below.
        holes: Ranges,
    },
}

/// Why a broker does not take a batch (MQTT 5, section 3.4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not now: a quota is exceeded, or it is busy.
    Busy,
    /// Not as it is.
    Never,
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read up to `count` batches of a stream after a sequence number, and report.
    Read {
        /// Which stream.
        stream: Shelf,
        /// Batches above this one.
        after: u64,
        /// At most so many.
        count: usize,
    },
    /// Publish, and report.
    Send(Shelf, Sealed),
    /// The broker has taken it: proof that the link works.
    Taken(Flying),
    /// Tell the store that these are through, `first` to `last`.
    Free {
        /// Their stream.
        stream: Shelf,
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// It stays on disk and is not sent for [`limits::BATCH_PARKED_TIME`]: tell the operator.
    Park(Flying, Reason),
    /// All that was parked is through or gone.
    Unparked,
}

/// A batch on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flying {
    /// Its stream.
    pub stream: Shelf,
    /// Its sequence number there.
    pub seq: u64,
    /// Readings in it.
    pub readings: u64,
    /// Bytes of its payload.
    pub bytes: usize,
}

/// A batch that was the first unacknowledged one at the end of several connections in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    /// The batch.
    pub batch: Flying,
    /// Connections that ended so.
    pub times: u32,
}

/// What the link allows now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Batches in flight.
    pub batches: usize,
    /// Bytes in flight, beyond one batch.
    pub bytes: usize,
    /// Bytes of a payload that the broker takes.
    pub payload: usize,
    /// Whether a backlog has to wait.
    pub paced: bool,
}

impl Default for Allowance {
    fn default() -> Self {
        let batches = limits::BATCHES_IN_FLIGHT_MAX;
        Self { batches, bytes: usize::MAX, payload: usize::MAX, paced: false }
    }
}
