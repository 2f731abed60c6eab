//! One open database with everything known about it. A step either commits and leaves this in step
//! with the file, or fails and the whole value is thrown away: nothing here is ever repaired after
//! an error, it is read anew from the file.

mod quota;
mod seal;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Result};

use crate::batch::{Assembly, chunk};
use crate::clock::Clock;
use crate::ranges::Ranges;
use crate::reading::{Group, Points, Stream, UnixMillis};
use crate::store::age::Age;
use crate::store::batches::{self, Dropped};
use crate::store::dates::Dates;
use crate::store::held::Held;
use crate::store::lane::Lane;
use crate::store::rules::{self, Changes, Rules};
use crate::store::salvage::{self, Haul, Progress};
use crate::store::series::Series;
use crate::store::settings::Settings;
use crate::store::shares::Shares;
use crate::store::slots::Slots;
use crate::store::status::UplinkStatus;
use crate::store::traffic::{self, Traffic, Used};
use crate::store::wear::Wear;
use crate::store::{Batch, Shelf, room, schema};

/// See the file's head.
pub(super) struct Disk {
    conn: Connection,
    pub(super) epoch: u64,
    /// Number of the last chunk or seal; rises by one with each.
    pub(super) ordinal: u64,
    pub(super) lanes: [Lane; Shelf::COUNT],
    slots: Slots,
    series: Series,
    shares: Shares,
    pub(super) traffic: Traffic,
    pub(super) rules: Rules,
    dates: Dates,
    age: Age,
    /// Chunks and slots that were set aside when the file was opened.
    pub(super) damaged: u64,
    age_checked: Option<Instant>,
}

/// What uplinks have acknowledged, by their place in the configuration.
pub(super) type Acknowledged = BTreeMap<(u8, Shelf), Acks>;

/// What one uplink has acknowledged of one shelf.
#[derive(Default)]
pub(super) struct Acks {
    /// Of the store whose batches they are.
    pub(super) epoch: u64,
    pub(super) seqs: Ranges,
}

impl Acks {
    /// Adds more. Of two epochs the later counts: the store of the other is gone.
    pub(super) fn extend(&mut self, epoch: u64, seqs: &Ranges) {
        if epoch > self.epoch {
            *self = Self { epoch, seqs: Ranges::default() };
        }
        if epoch == self.epoch {
            self.seqs.extend(seqs);
        }
    }

    /// Returns them when they are of the store of this epoch.
    pub(super) fn of(&self, epoch: u64) -> Option<&Ranges> {
        (self.epoch == epoch).then_some(&self.seqs)
    }
}

/// What a transaction is to write.
#[derive(Default)]
pub(super) struct Work {
    /// In the order of their arrival.
    pub(super) groups: VecDeque<Group>,
    /// Readings of each stream that never reached the disk.
    pub(super) dropped: [u64; 3],
    /// What changed of rules with these groups.
    pub(super) rules: Changes,
    /// What came back from a damaged store.
    pub(super) salvaged: Option<Box<Haul>>,
    /// Batches that were acknowledged.
    pub(super) acknowledged: Acknowledged,
    /// What uplinks have used of their data plans, by their place; no reason for a commit.
    pub(super) used: BTreeMap<u8, Used>,
}

/// The world around a transaction.
pub(super) struct Around<'a> {
    pub(super) settings: &'a Settings,
    pub(super) points: &'a Points,
    pub(super) clock: &'a dyn Clock,
    /// Monotonic time.
    pub(super) now: Instant,
    /// Counts that are to be saved.
    pub(super) wear: Option<&'a Wear>,
    /// Seal whatever is open, however young.
    pub(super) seal: bool,
    /// How many times as long as usual batches gather.
    pub(super) stretch: u32,
}

/// What a transaction did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    /// Batches sealed.
    pub(super) sealed: u64,
    /// Batches that got their dates late.
    pub(super) corrected: u64,
    /// Bytes of the file that they take, or would take.
    pub(super) sealed_bytes: u64,
    /// Batches dropped by quota.
    pub(super) dropped: Dropped,
    /// Whether no batch was on disk when it began, and the disk takes what it is given.
    pub(super) empty: bool,
    /// Whether it was one of those, a minute apart, that look at ages; [`Disk::tidy`] is due too.
    pub(super) looked_around: bool,
}

/// The answer to a question for batches.
#[derive(Default)]
pub(super) struct Next {
    pub(super) batches: Vec<Batch>,
    /// Batches found damaged and set aside.
    pub(super) damaged: u64,
    /// Whether there are none because those there are wait for the clock.
    pub(super) waits: bool,
}

/// How often ages are looked at; a quota of days does not need more.
const AGE_CHECK_EVERY: Duration = Duration::from_secs(60);

impl Work {
    /// Returns whether no reading in it, kept or dropped, and no rule's change waits to be written.
    pub(super) fn is_settled(&self) -> bool {
        self.groups.is_empty() && self.dropped == [0; 3] && self.rules.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.is_settled() && self.acknowledged.is_empty() && self.salvaged.is_none()
    }
}

impl Disk {
    /// Lets tests reach behind.
    #[cfg(test)]
    pub(super) fn conn(&self) -> &Connection {
        &self.conn
    }

    /// Reads the state of a store and gathers what was committed and not sealed.
    pub(super) fn load(
        conn: Connection,
        uplinks: &[Arc<str>],
        points: &Points,
        clock: &dyn Clock,
    ) -> Result<Self> {
        schema::prepare(&conn)?;
        let epoch = schema::epoch(&conn, schema::VERSION)?;
        let mut lanes = Lane::load(&conn, epoch, schema::VERSION)?;
        let series = Series::load(&conn, epoch)?;
        let shares = Shares::load(&conn, epoch, uplinks)?;
        let traffic = traffic::load(&conn)?;
        let rules = Rules::load(&conn, epoch)?;
        let dates = Dates::load(&conn, &clock.state())?;
        if dates.was_set() {
            clock.was_set();
        }
        let age = Age::load(&conn)?;
        let (slots, found) = Slots::load(&conn, epoch, &lanes, points, clock.now())?;
        for group in &found.groups {
            lanes[group.stream as usize].open.push(group);
        }
        let started = Instant::now();
        for lane in &mut lanes {
            lane.opened = (!lane.open.is_empty()).then_some(started);
        }
        let ordinal = lanes.iter().map(Lane::ordinal).fold(found.ordinal, u64::max);
        let damaged = found.damaged;
        let age_checked = None;
        Ok(Self {
            conn,
            epoch,
            ordinal,
            lanes,
            slots,
            series,
            shares,
            traffic,
            rules,
            dates,
            age,
            damaged,
            age_checked,
        })
    }

    /// Does all of `work` in one transaction, seals what is due, and applies the quotas.
    pub(super) fn commit(
        &mut self,
        work: &Work,
        held: &mut Held,
        around: &Around<'_>,
    ) -> Result<Outcome> {
        held.begin();
        self.run("BEGIN IMMEDIATE")?;
        let outcome = self.apply(work, held, around)?;
        self.run("COMMIT")?;
        Ok(outcome)
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn apply(&mut self, work: &Work, held: &mut Held, around: &Around<'_>) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let bytes_max = room::bytes_max(&self.conn, around.settings)?;
        self.ordinal += 1;
        self.follow_clock(held, around, &mut outcome)?;
        self.shares.take(&self.conn, self.epoch, &mut self.lanes, &work.acknowledged)?;
        for (lane, dropped) in self.lanes.iter_mut().zip(work.dropped) {
            if dropped > 0 {
                lane.dropped += dropped;
                lane.touch();
            }
        }
        if let Some(haul) = &work.salvaged {
            self.take_back(haul, &mut outcome)?;
        }
        self.drop_old(around, &mut outcome)?;
        outcome.empty = self.lanes.iter().all(|lane| lane.batches == 0) && held.is_empty();
        for (shelf, seq, batch) in held.write_out() {
            batches::insert(&self.conn, &mut self.lanes[shelf as usize], seq, batch)?;
        }
        let unsealed = self.gather(work, held, around, &mut outcome)?;
        for lane in Stream::ALL {
            let from = unsealed[lane as usize];
            self.write_chunk(lane, work.groups.range(from..), around.points)?;
        }
        self.drop_beyond_quota(bytes_max, &mut outcome)?;
        if let Some(wear) = around.wear {
            wear.save(&self.conn, around.clock.now(), self.bytes())?;
        }
        for lane in &mut self.lanes {
            lane.save(&self.conn, self.ordinal)?;
        }
        self.shares.save(&self.conn, self.epoch, &self.lanes)?;
        self.rules.write(&self.conn, self.epoch, &work.rules)?;
        self.keep_used(&work.used)?;
        Ok(outcome)
    }

    /// Reads all that is kept of rules. What is damaged is forgotten, and named.
    pub(super) fn kept(&mut self) -> Result<rules::Found> {
        self.run("BEGIN IMMEDIATE")?;
        let found = self.rules.read(&self.conn, self.epoch)?;
        self.run("COMMIT")?;
        Ok(found)
    }

    /// Writes what uplinks have used of their data plans.
    fn keep_used(&mut self, all: &BTreeMap<u8, Used>) -> Result<()> {
        for (uplink, used) in all {
            let Some(name) = self.shares.name(*uplink) else { continue };
            traffic::save(&self.conn, name, used)?;
            self.traffic.insert(Arc::clone(name), *used);
        }
        Ok(())
    }

    /// Puts what came back on its shelf.
    fn take_back(&mut self, haul: &Haul, outcome: &mut Outcome) -> Result<()> {
        for (shelf, batch) in &haul.batches {
            let lane = &mut self.lanes[*shelf as usize];
            let place = lane.seq_next;
            lane.seq_next += 1;
            batches::insert(&self.conn, lane, place, batch)?;
            outcome.sealed += 1;
        }
        haul.note(&self.conn)
    }

    fn write_chunk<'a>(
        &mut self,
        stream: Stream,
        groups: impl Iterator<Item = &'a Group>,
        points: &Points,
    ) -> Result<()> {
        let mut fresh = Assembly::default();
        let mut latest: Option<&Group> = None;
        for group in groups.filter(|group| group.stream == stream) {
            if !latest.is_some_and(|last| Arc::ptr_eq(&last.points, &group.points)) {
                self.series.write(&self.conn, &group.points, points)?;
            }
            latest = Some(group);
            fresh.push(group);
        }
        if fresh.is_empty() {
            return Ok(());
        }
        self.ordinal += 1;
        let data = chunk::encode(&fresh, |point| self.series.of(point));
        self.slots.write(&self.conn, stream, self.ordinal, &data)
    }

    /// Returns whether committed readings wait for their batch.
    pub(super) fn has_open(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.open.is_empty())
    }

    /// Returns the bytes that sealed batches take.
    pub(super) fn bytes(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.bytes).sum()
    }

    /// Returns the next batches of a shelf. What is handed out never changes again, so those that
    /// can be corrected are, and those that may soon be are left out for a while.
    pub(super) fn next(
        &mut self,
        (uplink, shelf): (u8, Shelf),
        after: u64,
        most: usize,
        acknowledged: &Acknowledged,
        clock: &dyn Clock,
    ) -> Result<Next> {
        let after = self.shares.past(uplink, shelf, after);
        let upto = self.release(shelf, after, most, clock)?;
        let fresh = acknowledged.get(&(uplink, shelf)).and_then(|acks| acks.of(self.epoch));
        let skip = |seq| {
            let has = fresh.is_some_and(|seqs| seqs.contains(seq));
            seq >= upto || has || self.shares.has(uplink, shelf, seq)
        };
        let found = batches::read(&self.conn, shelf, after, most, skip)?;
        if !found.damaged.is_empty() {
            self.run("BEGIN IMMEDIATE")?;
            let lane = &mut self.lanes[shelf as usize];
            for seq in &found.damaged {
                batches::set_aside(&self.conn, lane, *seq, clock.now())?;
            }
            lane.save(&self.conn, self.ordinal)?;
            self.run("COMMIT")?;
        }
        let waits = found.batches.is_empty() && upto < u64::MAX;
        Ok(Next { batches: found.batches, damaged: found.damaged.len() as u64, waits })
    }

    /// Settles the dates of what is about to be handed out. Returns the sequence number from which
    /// on batches wait for the clock; the highest there is when none does.
    fn release(&mut self, shelf: Shelf, after: u64, most: usize, clock: &dyn Clock) -> Result<u64> {
        if !self.dates.is_pending() {
            return Ok(u64::MAX);
        }
        self.run("BEGIN IMMEDIATE")?;
        self.dates.follow(&self.conn, &clock.state())?;
        let keys = (batches::key(shelf, after), batches::key(shelf, u64::MAX));
        let held = self.dates.release(&self.conn, &mut self.lanes, keys, most, clock.now())?;
        self.lanes[shelf as usize].save(&self.conn, self.ordinal)?;
        self.run("COMMIT")?;
        Ok(held.map_or(u64::MAX, batches::seq))
    }

    /// Says what each of several uplinks has not got yet. A failure to look shows up at the next
    /// commit.
    pub(super) fn uplinks(&self) -> Vec<UplinkStatus> {
        self.shares.status(&self.conn, &self.lanes).unwrap_or_default()
    }

    /// Returns the lowest sequence number held and when it was sealed.
    pub(super) fn oldest(&self, shelf: Shelf) -> Result<Option<(u64, UnixMillis)>> {
        if self.lanes[shelf as usize].batches == 0 {
            return Ok(None);
        }
        batches::oldest(&self.conn, shelf)
    }

    /// Returns whether a step is due although no reading arrived.
    pub(super) fn is_due(&self, around: &Around<'_>) -> bool {
        let now = around.now;
        let age_unchecked = |at: Instant| now.duration_since(at) >= AGE_CHECK_EVERY;
        self.age_checked.is_none_or(age_unchecked)
            || self.dates.is_ripe(&around.clock.state())
            || self.is_seal_due(around.settings, now, around.stretch)
    }

    /// Returns the highest ordinal that stands in a stream's row.
    pub(super) fn reached(&self) -> u64 {
        self.lanes.iter().map(Lane::ordinal).max().unwrap_or(0)
    }

    /// Returns how far salvages have come.
    pub(super) fn salvages(&self) -> Result<Vec<Progress>> {
        salvage::progress(&self.conn)
    }

    /// Returns whether an open batch is due.
    pub(super) fn is_seal_due(&self, settings: &Settings, now: Instant, stretch: u32) -> bool {
        let age_max = |stream| settings.seal.age_max_of(stream, stretch);
        let due = |lane: &Lane| lane.is_due(now, age_max(lane.shelf.stream()), settings.commit);
        self.lanes.iter().any(due)
    }

    /// Forgets names that nothing refers to, empties the log into the file and closes it. Names wait
    /// until here because a process that has just started does not know its own points yet.
    pub(super) fn finish(
        mut self,
        points: &Points,
        (wear, now): (&Wear, UnixMillis),
        used: &BTreeMap<u8, Used>,
    ) -> Result<()> {
        self.keep_used(used)?;
        wear.save(&self.conn, now, self.bytes())?;
        if !self.has_open() {
            self.run("BEGIN IMMEDIATE")?;
            self.series.prune(&self.conn, points)?;
            self.run("COMMIT")?;
        }
        schema::checkpoint(&self.conn)?;
        self.conn.close().map_err(|(_, error)| error)
    }
}
