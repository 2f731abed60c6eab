//! What stands in damaged stores comes back: a thread of its own reads them ([`Wreck`]) and hands
//! what it finds to the store's thread, a little at a time, which writes it beside what is fresh.
//!
//! **Batches** keep their bytes and with them the key of their epoch; they get a shelf of their own
//! ([`Shelf`]). One that was acknowledged before and comes again is known to receivers by its key.
//! **Readings in slots** were in no batch, so nobody has them: they are appended again and sealed in
//! the present epoch, in the transaction that notes that it was done.
//!
//! How far a salvage came stands in the table `salvage`, written with what came back; one that was
//! interrupted goes on there. That it is done, and that slots were taken, also stands in a file
//! beside the damaged store, because this store may be lost too: its successor must not append the
//! same readings once more.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension as _, Result, params};
use tokio::sync::oneshot;

use crate::events::{Events, buffer};
use crate::limits;
use crate::reading::{Group, Points, Stream};
use crate::store::batches::Sealed;
use crate::store::intake::Request;
use crate::store::schema::{count, int};
use crate::store::trouble::Trouble;
use crate::store::wreck::{Key, Survey, Wreck};
use crate::store::{Shared, Shelf, file, slots};

/// How far the salvage of one damaged store has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Name of the damaged store's file.
    pub name: String,
    /// Batches that came back.
    pub batches: u64,
    /// Readings in them.
    pub readings: u64,
    /// Readings that were committed and in no batch, and came back.
    pub slots: u64,
    /// Batches that the store held, by its own count, and that could not be found, at most.
    pub missing: u64,
    /// Chunks of committed readings left where they are, damaged or not certain to be in no batch.
    pub uncertain: u64,
    /// Whether all that can be found has come back.
    pub done: bool,
    after: Option<Key>,
    slots_taken: bool,
}

/// What one commit is to bring back.
pub(super) struct Haul {
    pub(super) batches: Vec<(Shelf, Sealed)>,
    /// Moved to the work's groups before the commit.
    pub(super) groups: Vec<Group>,
    progress: Progress,
    reply: oneshot::Sender<()>,
}

/// What a salvage needs to know.
pub(super) struct Job {
    pub(super) path: PathBuf,
    pub(super) gateway: Arc<str>,
    /// Highest epoch known at this path when the store was damaged.
    pub(super) hint: u64,
    pub(super) points: Arc<Points>,
    pub(super) events: Events,
    /// What earlier runs noted.
    pub(super) known: Vec<Progress>,
}

/// The thread. It ends when this is dropped, at the next page.
pub(super) struct Salvage {
    thread: JoinHandle<()>,
    /// Its end is the message.
    _stay: SyncSender<()>,
}

/// The other end of it.
struct Leave(mpsc::Receiver<()>);

impl Salvage {
    /// Starts where there is something to do.
    pub(super) fn start(job: Job, shared: &Arc<Shared>) -> Option<Self> {
        let todo: Vec<_> = file::damaged_stores(&job.path)
            .into_iter()
            .map(|aside| (job.progress(&aside), aside))
            .filter(|(progress, _)| !progress.done)
            .collect();
        if todo.is_empty() {
            return None;
        }
        let (sender, receiver) = mpsc::sync_channel(0);
        let shared = Arc::downgrade(shared);
        let run = move || {
            let leave = Leave(receiver);
            for (progress, aside) in todo {
                if job.salvage(progress, &aside, &shared, &leave).is_none() {
                    return;
                }
            }
        };
        // Without a thread there is no salvage now; the next start tries again.
        let thread = std::thread::Builder::new().name("salvage".into()).spawn(run).ok()?;
        Some(Self { thread, _stay: sender })
    }
}

impl Salvage {
    /// Returns whether everything has come back.
    pub(super) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Leave {
    fn is_said(&self) -> bool {
        matches!(self.0.try_recv(), Err(mpsc::TryRecvError::Disconnected))
    }

    /// Waits; `None` when it is time to leave.
    fn pause(&self, time: std::time::Duration) -> Option<()> {
        match self.0.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Some(()),
            _ => None,
        }
    }
}

impl Job {
    fn progress(&self, aside: &Path) -> Progress {
        let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let known = self.known.iter().find(|known| known.name == name).cloned();
        let mut progress = known.unwrap_or_else(|| Progress { name, ..Progress::default() });
        let mark = file::salvage_mark(aside);
        progress.slots_taken |= mark.slots_taken;
        progress.done |= mark.done;
        progress
    }

    /// Brings one store back; `None` when it is time to leave.
    fn salvage(
        &self,
        mut progress: Progress,
        aside: &Path,
        shared: &Weak<Shared>,
        leave: &Leave,
    ) -> Option<()> {
        loop {
            let wreck = match Wreck::open(aside) {
                Ok(wreck) => wreck,
                Err(error) => {
                    let words = Trouble::of_io(&error).words();
                    self.events.raise(buffer::salvage_stuck(aside, words));
                    return Some(());
                }
            };
            let survey = wreck.survey(progress.after, self.hint, || !leave.is_said())?;
            progress.missing = survey.held.saturating_sub(survey.found() + progress.batches);
            progress.uncertain = survey.uncertain;
            if progress.slots_taken && progress.slots == 0 {
                progress.uncertain += survey.slots.len() as u64;
            }
            if !progress.slots_taken {
                let groups = self.groups(&survey, &mut progress);
                progress.slots_taken = true;
                self.deliver(&progress, (Vec::new(), groups), shared, leave)?;
                file::mark_salvage(aside, false);
            }
            self.batches(&wreck, &survey, &mut progress, shared, leave)?;
            if !survey.more {
                break;
            }
        }
        progress.done = true;
        self.deliver(&progress, (Vec::new(), Vec::new()), shared, leave)?;
        file::mark_salvage(aside, true);
        let Progress { batches, readings, slots, missing, uncertain, .. } = progress;
        let back = (batches, readings + slots);
        let notice = buffer::salvaged(aside, back, (missing, uncertain));
        if (missing, uncertain) == (0, 0) {
            Events::tell(&notice);
        } else {
            self.events.raise(notice);
        }
        Some(())
    }

    fn batches(
        &self,
        wreck: &Wreck,
        survey: &Survey,
        progress: &mut Progress,
        shared: &Weak<Shared>,
        leave: &Leave,
    ) -> Option<()> {
        let (mut haul, mut bytes) = (Vec::new(), 0);
        for key in survey.keys() {
            progress.after = Some(key);
            // One that cannot be read any more is missing; its neighbours are not.
            let Some(found) = wreck.fetch(survey, key).filter(|f| f.gateway == *self.gateway)
            else {
                progress.missing += 1;
                continue;
            };
            bytes += found.batch.payload.len();
            progress.batches += 1;
            progress.readings += found.batch.readings;
            haul.push((Shelf::salvaged(key.1), found.batch));
            if bytes >= limits::SALVAGE_BYTES_A_COMMIT {
                self.deliver(progress, (std::mem::take(&mut haul), Vec::new()), shared, leave)?;
                leave.pause(limits::SALVAGE_PAUSE)?;
                bytes = 0;
            }
        }
        self.deliver(progress, (haul, Vec::new()), shared, leave)
    }

    /// The readings of chunks that are in no batch.
    fn groups(&self, survey: &Survey, progress: &mut Progress) -> Vec<Group> {
        let mut groups = Vec::new();
        for (stream, data) in &survey.slots {
            let point = |id| self.points.intern(survey.names.get(&id)?.clone()).ok();
            match slots::groups(data, *stream, point) {
                Some(found) => groups.extend(found),
                None => progress.uncertain += 1,
            }
        }
        progress.slots = groups.iter().map(|group| group.samples.len() as u64).sum();
        groups
    }

    /// Hands something to the store's thread and waits until it is on disk. While the disk has no
    /// room for it, what is fresh goes first.
    fn deliver(
        &self,
        progress: &Progress,
        (batches, groups): (Vec<(Shelf, Sealed)>, Vec<Group>),
        shared: &Weak<Shared>,
        leave: &Leave,
    ) -> Option<()> {
        while file::room(&self.path).is_some_and(|room| room < limits::SALVAGE_ROOM_BYTES_MIN) {
            leave.pause(limits::DISK_RETRY_DELAY_MAX)?;
        }
        let (reply, answer) = oneshot::channel();
        let haul = Haul { batches, groups, progress: progress.clone(), reply };
        let mut request = Request::Salvaged(Box::new(haul));
        loop {
            let shared = shared.upgrade()?;
            match shared.intake.offer(request) {
                Ok(()) => break,
                Err(back) => request = back?,
            }
            drop(shared);
            leave.pause(limits::SALVAGE_PAUSE)?;
        }
        answer.blocking_recv().ok()
    }
}

impl Haul {
    /// Notes how far the salvage came, in the transaction that writes the rest.
    pub(super) fn note(&self, conn: &Connection) -> Result<()> {
        let Progress { name, after, .. } = &self.progress;
        let (epoch, stream, seq) = after.unwrap_or((0, Stream::Data, 0));
        conn.prepare_cached(
            "INSERT OR REPLACE INTO salvage (name, after_epoch, after_stream, after_seq, batches,
             readings, slots, missing, uncertain, slots_taken, done)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            name,
            int(epoch),
            stream as u8,
            int(seq),
            int(self.progress.batches),
            int(self.progress.readings),
            int(self.progress.slots),
            int(self.progress.missing),
            int(self.progress.uncertain),
            self.progress.slots_taken,
            self.progress.done,
        ])?;
        Ok(())
    }

    /// Says that it is on disk.
    pub(super) fn committed(self) {
        // A salvage that has left needs no answer.
        let _ = self.reply.send(());
    }
}

/// Reads how far all salvages have come.
pub(super) fn progress(conn: &Connection) -> Result<Vec<Progress>> {
    let there = conn
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'salvage'", [], |_| Ok(()))
        .optional()?;
    if there.is_none() {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare(
        "SELECT name, after_epoch, after_stream, after_seq, batches, readings, slots, missing,
         uncertain, slots_taken, done FROM salvage ORDER BY name",
    )?;
    let rows = statement.query_map([], |row| {
        let stream = Stream::ALL.get(usize::try_from(count(row, 2)?).unwrap_or(usize::MAX));
        let after = (count(row, 1)?, *stream.unwrap_or(&Stream::Data), count(row, 3)?);
        Ok(Progress {
            name: row.get(0)?,
            after: (after.2 > 0).then_some(after),
            batches: count(row, 4)?,
            readings: count(row, 5)?,
            slots: count(row, 6)?,
            missing: count(row, 7)?,
            uncertain: count(row, 8)?,
            slots_taken: row.get(9)?,
            done: row.get(10)?,
        })
    })?;
    rows.collect()
}
