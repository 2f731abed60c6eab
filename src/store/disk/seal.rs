//! From open batches to sealed ones: when, in which order, under which key.

use rusqlite::Result;

use super::{Around, Disk, Outcome, Work};
use crate::batch::{Body, Envelope, Timing};
use crate::reading::{Stream, UnixMillis};
use crate::store::batches::{self, Sealed};
use crate::store::held::Held;

impl Disk {
    /// Gathers the groups into the open batches and seals those that are full or due. Returns, for
    /// each stream, from where on its groups are not in a sealed batch.
    pub(super) fn gather(
        &mut self,
        work: &Work,
        held: &mut Held,
        around: &Around<'_>,
        outcome: &mut Outcome,
    ) -> Result<[usize; 3]> {
        let seal = &around.settings.seal;
        let mut unsealed = [0; 3];
        for (index, group) in work.groups.iter().enumerate() {
            let lane = &mut self.lanes[group.stream as usize];
            lane.open.push(group);
            lane.opened.get_or_insert(around.now);
            if lane.is_full(seal.readings_max, seal.bytes_max) {
                self.seal(group.stream, held, around, outcome)?;
                unsealed[group.stream as usize] = index + 1;
            }
        }
        for stream in Stream::ALL {
            let due = around.seal || held.on || self.is_stream_due(stream, around);
            if !self.lanes[stream as usize].open.is_empty() && due {
                self.seal(stream, held, around, outcome)?;
                unsealed[stream as usize] = work.groups.len();
            }
        }
        Ok(unsealed)
    }

    /// Returns whether a stream's open batch has gathered long enough.
    pub(super) fn is_stream_due(&self, stream: Stream, around: &Around<'_>) -> bool {
        let Around { settings, now, stretch, .. } = around;
        let age_max = settings.seal.age_max_of(stream, *stretch);
        self.lanes[stream as usize].is_due(*now, age_max, settings.commit)
    }

    /// Takes what the clock says now. Readings that an earlier boot left are sealed before any of
    /// this one come: their times count from somewhere else, and they are older.
    pub(super) fn follow_clock(
        &mut self,
        held: &mut Held,
        around: &Around<'_>,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let (state, now) = (around.clock.state(), around.clock.now());
        self.dates.follow(&self.conn, &state)?;
        if state.set.is_some() {
            let keep = around.settings.keep;
            self.age.follow(&self.conn, &self.lanes, (&state, now), keep)?;
        }
        if self.dates.are_left_over() {
            for stream in Stream::ALL {
                if !self.lanes[stream as usize].open.is_empty() {
                    self.seal(stream, held, around, outcome)?;
                }
            }
            self.dates.took_over();
        }
        outcome.corrected = self.dates.correct(&self.conn, &mut self.lanes)?;
        Ok(())
    }

    /// Turns the open batch of a stream into sealed ones: sequence number and bytes in the same
    /// transaction. The readings' slots are free from here on.
    fn seal(
        &mut self,
        stream: Stream,
        held: &mut Held,
        around: &Around<'_>,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let lane = &mut self.lanes[stream as usize];
        let open = std::mem::take(&mut lane.open);
        lane.opened = None;
        let seal = &around.settings.seal;
        for (assembly, (base, timing)) in
            [(open.undated, self.dates.basis()), (open.dated, (0, Timing::Set))]
        {
            if assembly.is_empty() {
                continue;
            }
            // What is on disk stays on disk, and what waits for its date waits there.
            let hold = held.on && timing == Timing::Set && !self.slots.are_used(stream);
            for body in assembly.into_bodies(around.points, seal.coding, seal.bytes_max) {
                outcome.sealed_bytes +=
                    self.seal_body(stream, body, (base, timing), (held, hold), around)?;
                outcome.sealed += 1;
            }
        }
        self.ordinal += 1;
        let lane = &mut self.lanes[stream as usize];
        lane.floor = self.ordinal;
        lane.touch();
        self.slots.release(stream);
        Ok(())
    }

    fn seal_body(
        &mut self,
        stream: Stream,
        mut body: Body,
        (base, timing): (i64, Timing),
        (held, hold): (&mut Held, bool),
        around: &Around<'_>,
    ) -> Result<u64> {
        let lane = &mut self.lanes[stream as usize];
        let shelf = stream.into();
        let lowest = batches::oldest(&self.conn, shelf)?.map(|(seq, _)| seq);
        let lowest = lowest.or_else(|| held.lowest(shelf)).unwrap_or(lane.seq_next);
        let since_boot = body.span().0;
        body.shift(base);
        let envelope = Envelope {
            gateway: &around.settings.gateway,
            epoch: self.epoch,
            stream,
            sequence: lane.seq_next,
            lowest_held: lowest,
            dropped: lane.dropped,
            clock: timing as u8,
            config_hash: &around.settings.config_hash,
        };
        let (first, last) = body.span();
        let seq = lane.seq_next;
        let batch = Sealed {
            readings: body.readings() as u64,
            span: (UnixMillis(first), UnixMillis(last)),
            sealed_at: around.clock.now(),
            payload: body.seal(&envelope).into(),
        };
        lane.seq_next += 1;
        let bytes = batches::footprint(batch.payload.len() as u64);
        if hold {
            held.seal(shelf, seq, batch);
            return Ok(bytes);
        }
        batches::insert(&self.conn, lane, seq, &batch)?;
        if timing == Timing::Unset {
            self.dates.note(&self.conn, batches::key(shelf, seq), since_boot)?;
        }
        Ok(bytes)
    }
}
