//! Where sealed batches stand in line: a shelf for each stream's own sequence, and one for each
//! stream's batches that were salvaged from damaged stores.
//!
//! A salvaged batch keeps its bytes and with them its key of an earlier epoch, so it cannot stand in
//! the sequence of this one. On its shelf it has a *place*, which counts as sequence numbers do and
//! means nothing outside this store.

use crate::reading::Stream;

/// A line of batches, oldest first. The number stands in the `stream` table and in the keys of the
/// `batch` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Shelf {
    /// Readings, by sequence number.
    #[default]
    Data = 0,
    /// What rules raised, by sequence number.
    Event = 1,
    /// The gateway's own metrics, by sequence number.
    Own = 2,
    /// Readings of earlier epochs, by place.
    SalvagedData = 3,
    /// What rules raised in earlier epochs, by place.
    SalvagedEvent = 4,
    /// The gateway's own metrics of earlier epochs, by place.
    SalvagedOwn = 5,
}

impl Shelf {
    /// How many there are.
    pub const COUNT: usize = 6;
    /// Every shelf; the first three in the order of [`Stream::ALL`].
    pub const ALL: [Self; Self::COUNT] = [
        Self::Data,
        Self::Event,
        Self::Own,
        Self::SalvagedData,
        Self::SalvagedEvent,
        Self::SalvagedOwn,
    ];
    /// In the order in which a quota empties them: data first, oldest before newer, events last.
    pub(super) const DROPPED: [Self; Self::COUNT] = [
        Self::SalvagedData,
        Self::Data,
        Self::SalvagedOwn,
        Self::Own,
        Self::SalvagedEvent,
        Self::Event,
    ];

    /// Returns the stream whose topic its batches go to.
    #[must_use]
    pub fn stream(self) -> Stream {
        match self {
            Self::Data | Self::SalvagedData => Stream::Data,
            Self::Event | Self::SalvagedEvent => Stream::Event,
            Self::Own | Self::SalvagedOwn => Stream::Own,
        }
    }

    /// Returns whether its batches are of earlier epochs.
    #[must_use]
    pub fn is_salvaged(self) -> bool {
        self >= Self::SalvagedData
    }

    /// Returns the shelf for what is salvaged of a stream.
    #[must_use]
    pub fn salvaged(stream: Stream) -> Self {
        match stream {
            Stream::Data => Self::SalvagedData,
            Stream::Event => Self::SalvagedEvent,
            Stream::Own => Self::SalvagedOwn,
        }
    }

    /// Returns its name, as commands and messages show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Event => "event",
            Self::Own => "self",
            Self::SalvagedData => "salvaged data",
            Self::SalvagedEvent => "salvaged event",
            Self::SalvagedOwn => "salvaged self",
        }
    }
}

impl From<Stream> for Shelf {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Data => Self::Data,
            Stream::Event => Self::Event,
            Stream::Own => Self::Own,
        }
    }
}
