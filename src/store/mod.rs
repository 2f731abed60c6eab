//! Readings on disk until the cloud has them: SQLite behind one thread.
//!
//! **Way of a reading.** [`Store::append`] puts its group into the intake, in memory, and returns.
//! Every `commit` the thread writes all that waits in one transaction: what is on disk now survives
//! a power cut, what is not costs at most that time. Committed readings gather in an open batch, one
//! a stream, which is sealed at the first of its age, its readings or its bytes: the transaction that
//! seals it gives it a sequence number and writes the bytes that go over the wire. [`Store::next`]
//! hands batches to the uplink, and [`Store::acknowledge`] frees them with the next commit. A crash
//! before that commit means that the same bytes are sent again under the same key.
//!
//! **What a crash leaves.** Before the commit: nothing of the readings. After it: the readings, in
//! slots or in a batch, never in both (see `slots.rs`). The next start gathers what stands in slots
//! and seals it at once.
//!
//! **What is never there.** A batch that was not committed: only this room can make a [`Batch`]. A
//! sequence number that stands for two different payloads: it is given in the transaction that
//! writes the bytes, and a store that is lost is followed by one of another epoch. A wait for the
//! disk in the river: when the disk refuses, readings wait in memory up to
//! [`crate::limits::READINGS_UNCOMMITTED_MAX`], then the oldest are dropped and counted.
//!
//! **What it costs.** One sync a commit, and one page for a stream that has fresh readings
//! (`slots.rs`). Reading a batch wakes the thread; appending does not.
//!
//! Files beside the database: `-wal` and `-shm` (SQLite's log), `.lock` (keeps a second daemon out,
//! remembers the epoch), `.damaged-N` (stores that could not be read, moved aside and never
//! deleted).

mod age;
mod batches;
mod damaged;
mod dates;
mod disk;
#[doc(hidden)]
pub mod door;
mod examine;
mod file;
mod held;
mod intake;
mod jumps;
mod lane;
mod room;
mod rules;
mod salvage;
mod schema;
mod series;
pub mod settings;
mod shares;
mod shelf;
mod slots;
mod status;
#[cfg(test)]
mod tests;
mod traffic;
mod trouble;
mod wear;
mod wreck;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::events::Events;
use crate::reading::{Group, Points, UnixMillis};
use crate::state::{Change, Kept};
use intake::{Intake, Request, Stop};
use settings::Settings;
use writer::Writer;

pub use batches::footprint;
pub use examine::{Exported, Findings, check, export, is_cramped, is_salvaged, is_there};
pub use rules::RuleStatus;
pub use salvage::Progress;
pub use shelf::Shelf;
pub use status::{Backlog, Health, Status, StreamStatus, UplinkStatus, inspect, usage};
pub use traffic::Used;
pub use trouble::{OpenError, StoreError, Trouble};
pub use wear::{Day, Usage};

/// The store as everyone else sees it; cheap to clone. The thread behind it is [`StoreThread`].
#[derive(Clone)]
pub struct Store(Arc<Shared>);

/// What the handles and the thread share.
struct Shared {
    intake: Intake,
    status: Mutex<Status>,
    /// Batches sealed since the start. The thread sends, uplinks wait.
    sealed: watch::Sender<u64>,
    #[cfg(test)]
    faults: tests::Faults,
}

/// One uplink's door to the store; cheap to clone.
#[derive(Clone)]
pub struct Share {
    store: Store,
    uplink: u8,
}

/// The thread. Dropping it closes the store as [`StoreThread::close`] does.
pub struct StoreThread {
    shared: Arc<Shared>,
    join: Option<JoinHandle<()>>,
}

/// A sealed batch as it stands on disk. Only the store can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    shelf: Shelf,
    seq: u64,
    readings: u64,
    last: UnixMillis,
    payload: Bytes,
}

impl Batch {
    /// Returns its shelf.
    #[must_use]
    pub fn shelf(&self) -> Shelf {
        self.shelf
    }

    /// Returns its place on its shelf, from 1: its sequence number unless it was salvaged.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns how many readings it holds.
    #[must_use]
    pub fn readings(&self) -> u64 {
        self.readings
    }

    /// Returns the time of its latest reading.
    #[must_use]
    pub fn last(&self) -> UnixMillis {
        self.last
    }

    /// Returns the bytes to send.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

impl Store {
    /// Opens the store at `settings.path`, making it and its folder when there is none, and starts
    /// its thread. A store that cannot be read is moved aside and a new one made in its place.
    ///
    /// # Errors
    /// When another daemon holds it, a later version wrote it, it is another program's database, or
    /// the disk does not let us make or read it. The error's text is for people;
    /// [`OpenError::exit`] says how the daemon ends.
    pub fn open(
        settings: Settings,
        points: Arc<Points>,
        clock: Arc<dyn Clock>,
        events: Events,
    ) -> Result<(Self, StoreThread), OpenError> {
        Self::open_for(Vec::new(), settings, points, clock, events)
    }

    /// As [`Store::open`], for several uplinks of these names: each takes its batches through its own
    /// [`Store::share`], and a batch is freed when the last has acknowledged it. What an uplink has
    /// is known by its name; one that is new gets all that is held, one that is gone is forgotten. An
    /// empty name is a place that nobody has ([`Store::change`]).
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_for(
        uplinks: Vec<Arc<str>>,
        settings: Settings,
        points: Arc<Points>,
        clock: Arc<dyn Clock>,
        events: Events,
    ) -> Result<(Self, StoreThread), OpenError> {
        let shared = Arc::new(Shared {
            intake: Intake::default(),
            status: Mutex::default(),
            sealed: watch::Sender::new(0),
            #[cfg(test)]
            faults: tests::Faults::default(),
        });
        let path = settings.path.clone();
        let writer = Writer::open(Arc::clone(&shared), settings, uplinks, points, clock, events)?;
        let ended = Ended(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("store".into());
        let run = move || {
            let _ended = ended;
            writer.run();
        };
        let join = thread.spawn(run).map_err(|e| OpenError::unusable(&path, Trouble::of_io(&e)))?;
        Ok((Self(Arc::clone(&shared)), StoreThread { shared, join: Some(join) }))
    }

    /// Takes a group. Never waits for the disk and never fails; what it takes is on disk within the
    /// commit time, or sooner for the first after a start. While the disk refuses, readings beyond
    /// [`crate::limits::READINGS_UNCOMMITTED_MAX`] are dropped, oldest first, and counted.
    pub fn append(&self, group: Group) {
        self.0.intake.append(group);
    }

    /// As [`Store::append`], for the groups of one batch of rules with all that changed of these
    /// rules: they are on disk together or not at all. While the disk refuses, changes wait merged by
    /// key and none is lost, although readings may be. Returns the rules whose next change is to
    /// stand on nothing ([`Kept::to_change`]), because a damaged store took what was known of them
    /// along, or because so much waits that the whole is less.
    pub fn append_with(&self, groups: Vec<Group>, changes: Vec<Change>) -> Vec<Arc<str>> {
        self.0.intake.append_with(groups, changes)
    }

    /// Returns all that is kept of rules, by their names, after committing what waits. A rule of
    /// which something is damaged is told, forgotten and not among them.
    ///
    /// # Errors
    /// When the disk refuses, too many requests wait, or the store has ended.
    pub async fn kept(&self) -> Result<BTreeMap<Arc<str>, Kept>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.0.intake.request(Request::Kept { reply })?;
        answer.await.unwrap_or(Err(StoreError::Ended))
    }

    /// Forgets all that is kept of a rule, with the next commit.
    pub fn forget_rule(&self, name: Arc<str>) {
        self.append_with(Vec::new(), vec![Change::gone(name)]);
    }

    /// Returns a count of sealed batches that changes whenever there is something new to send, or
    /// the disk can be read again.
    #[must_use]
    pub fn sealed(&self) -> watch::Receiver<u64> {
        self.0.sealed.subscribe()
    }

    /// Returns the batches of a shelf with places above `after`, oldest first: at most `count`, and
    /// fewer when they are large. Acknowledged ones are not among them.
    ///
    /// # Errors
    /// When the disk refuses, too many requests wait, or the store has ended.
    pub async fn next(
        &self,
        shelf: impl Into<Shelf>,
        after: u64,
        count: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        self.share(0).next(shelf.into(), after, count).await
    }

    /// Frees a batch that its receiver has, with the next commit. A batch that is not there any more
    /// (freed before, or dropped while it was on its way) is no error.
    pub fn acknowledge(&self, shelf: impl Into<Shelf>, seq: u64) {
        self.share(0).acknowledge(shelf.into(), seq, seq);
    }

    /// Takes other settings, without losing or sending anything twice. The path and the gateway's name
    /// stay as they were. In `uplinks` each that stays keeps its place; an empty name is a place that
    /// nobody has. Whoever lost its place must have ended before. What was read until now is committed
    /// first, so an error says that the disk refuses; the change is in force all the same.
    ///
    /// # Errors
    /// When the disk refuses, too many requests wait, or the store has ended.
    pub async fn change(
        &self,
        settings: Settings,
        uplinks: Vec<Arc<str>>,
    ) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let settings = Box::new(settings);
        self.0.intake.request(Request::Change { settings, uplinks, reply })?;
        answer.await.unwrap_or(Err(StoreError::Ended))
    }

    /// Returns the door of the uplink that stands at this place among the names.
    #[must_use]
    pub fn share(&self, uplink: u8) -> Share {
        Share { store: self.clone(), uplink }
    }

    /// Commits now, and with `seal` also seals whatever is open.
    ///
    /// # Errors
    /// When the disk refuses (the readings are kept and tried again), or the store has ended.
    pub async fn flush(&self, seal: bool) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.0.intake.request(Request::Flush { seal, reply })?;
        answer.await.unwrap_or(Err(StoreError::Ended))
    }

    /// Returns whether the thread has answered a question that costs it nothing, however long that
    /// takes: `true` says that it goes on, with a disk that refuses too. `false` comes at once when
    /// too many requests wait, or the store has ended.
    pub async fn answers(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.0.intake.request(Request::Alive { reply }).is_ok() && answer.await.is_ok()
    }

    fn epoch(&self) -> u64 {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner).epoch
    }

    /// Returns the state after the last commit, with the readings that wait for the next one.
    #[must_use]
    pub fn status(&self) -> Status {
        let shown = self.0.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Status { uncommitted: self.0.intake.readings(), ..shown }
    }
}

impl Share {
    /// Returns the store itself.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// As [`Store::next`], without what this uplink has.
    ///
    /// # Errors
    /// As [`Store::next`].
    pub async fn next(
        &self,
        shelf: Shelf,
        after: u64,
        count: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let from = (self.uplink, shelf);
        self.store.0.intake.request(Request::Next { from, after, count, reply })?;
        answer.await.unwrap_or(Err(StoreError::Ended))
    }

    /// Notes with the next commit that this uplink has batches `first` to `last`; what all uplinks
    /// have is freed. What is not there any more is no error.
    pub fn acknowledge(&self, shelf: Shelf, first: u64, last: u64) {
        self.acknowledge_of(self.store.epoch(), shelf, first, last);
    }

    /// As [`Share::acknowledge`], for batches of the store of this epoch. When another has taken its
    /// place meanwhile, nothing is noted: the numbers mean other batches there.
    pub fn acknowledge_of(&self, epoch: u64, shelf: Shelf, first: u64, last: u64) {
        self.store.0.intake.acknowledge((self.uplink, shelf), epoch, (first, last));
    }

    /// Returns what this uplink had used of its data plan when that was last written.
    #[must_use]
    pub fn used(&self) -> Option<Used> {
        let status = self.store.status();
        let name = status.names.get(usize::from(self.uplink))?;
        status.traffic.get(name).copied()
    }

    /// Notes with the next commit what this uplink has used of its data plan.
    pub fn note_used(&self, used: Used) {
        self.store.0.intake.used(self.uplink, used);
    }

    /// Makes batches gather so many times as long as usual, up to
    /// [`crate::limits::DATA_PLAN_AGE_MAX`]; 1 ends it. Events are exempt. When several uplinks ask,
    /// the largest number counts, since a batch is sealed once for all.
    pub fn stretch(&self, times: u32) {
        self.store.0.intake.stretch(self.uplink, times);
    }

    /// Returns what this uplink has not got of a shelf, after the last commit.
    #[must_use]
    pub fn backlog(&self, status: &Status, shelf: Shelf) -> Backlog {
        let name = status.names.get(usize::from(self.uplink));
        match status.uplinks.iter().find(|uplink| Some(&uplink.name) == name) {
            Some(uplink) => uplink.shelves[shelf as usize],
            None => {
                let StreamStatus { lo, batches, oldest, .. } = *status.shelf(shelf);
                Backlog { lo, batches, oldest }
            }
        }
    }
}

impl StoreThread {
    /// Commits what waits, empties the log into the database and ends the thread. Nothing is sealed
    /// for it. Waits for the disk: call it where waiting is allowed. Returns how many readings could
    /// not be written and are lost, 0 unless the disk refuses.
    pub fn close(mut self) -> u64 {
        self.end(Stop::Flush);
        self.shared.intake.readings()
    }

    /// Ends the thread where it stands, as `kill -9` would.
    #[cfg(test)]
    pub(crate) fn abandon(mut self) {
        self.kill();
    }

    /// As [`StoreThread::abandon`], for one that others still hold.
    #[cfg(test)]
    pub(crate) fn kill(&mut self) {
        self.end(Stop::Abandon);
    }

    fn end(&mut self, how: Stop) {
        if let Some(join) = self.join.take() {
            self.shared.intake.stop(how);
            // A panic was told by the panic hook; there is nothing to add.
            let _ = join.join();
        }
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.end(Stop::Flush);
    }
}

/// Marks the store as ended when the thread goes, even in a panic.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.intake.end();
        self.0.set_health(Health::Ended);
    }
}

impl Shared {
    fn show(&self, status: Status, sealed: u64) {
        let mut shown = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let healed = shown.health != Health::Good && status.health == Health::Good;
        *shown = status;
        drop(shown);
        if sealed > 0 || healed {
            self.sealed.send_modify(|count| *count += sealed);
        }
    }

    fn set_health(&self, health: Health) {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).health = health;
        self.sealed.send_modify(|_| {});
    }

    /// A place for tests to make a commit fail that in truth succeeded.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests look here"))]
    fn fault(&self, outcome: disk::Outcome) -> rusqlite::Result<disk::Outcome> {
        #[cfg(test)]
        self.faults.after_commit()?;
        Ok(outcome)
    }
}
