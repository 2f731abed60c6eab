//! A store that loses rows of committed readings and its first page, and one that writes only when it
//! must, against what was promised of each reading. Beside `model`, which knows exactly what is to be
//! there, this knows for each reading whether it must, must not or may be there, which is all that can
//! be said of such days.

use super::*;

/// What must hold of a reading at the next look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Appended, and not said to be committed.
    Pending,
    /// Committed: it is there.
    Kept,
    /// Its batch was freed, and that was committed: it is not there.
    Gone,
    /// What happened leaves both open. Never twice, all the same.
    Open,
}

#[derive(Debug, Default)]
struct Tally {
    killed: u32,
    closed: u32,
    freed: u32,
    slots_hit: u32,
    slots_lost: u32,
    wrecked: u32,
    back: u32,
    held_lost: u32,
}

struct Walk {
    bench: Bench,
    random: u64,
    store: Option<(Store, StoreThread)>,
    fates: Vec<Fate>,
    /// Batches whose acknowledgement waits for a commit, by key.
    freed: BTreeMap<Key, Vec<i64>>,
    seen: BTreeMap<Key, Bytes>,
    tally: Tally,
}

/// Epoch and sequence number.
type Key = (u64, u64);

impl Walk {
    fn new(write: Write, seed: u64) -> Self {
        let mut bench = Bench::in_folder(on_memory());
        bench.settings.write = write;
        bench.settings.seal.readings_max = 60;
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let (store, freed, seen) = (None, BTreeMap::new(), BTreeMap::new());
        // Number 0 is nobody's.
        let fates = vec![Fate::Gone];
        let mut walk = Self { bench, random, store, fates, freed, seen, tally: Tally::default() };
        walk.open();
        walk
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit
    }

    fn store(&self) -> &Store {
        &self.store.as_ref().unwrap().0
    }

    /// Everything that is held: what stands in memory is shown behind what is on disk.
    fn all(&self) -> Vec<(Shelf, Batch)> {
        let (mut all, share) = (Vec::new(), self.store().share(0));
        for shelf in [Shelf::Data, Shelf::SalvagedData] {
            let mut after = 0;
            loop {
                let next = share.next(shelf, after, 100_000);
                let batches = self.bench.runtime.block_on(next).unwrap();
                let Some(last) = batches.last() else { break };
                after = last.seq();
                all.extend(batches.into_iter().map(|batch| (shelf, batch)));
            }
        }
        all
    }

    /// Plays every card of a deck once, in an order of its own: what is rare happens as often in
    /// each walk, and only when it happens is left to chance.
    fn play(&mut self) {
        let mut deck: Vec<u64> = (0..200).collect();
        while !deck.is_empty() {
            let drawn = self.below(deck.len() as u64) as usize;
            match deck.swap_remove(drawn) {
                0..=99 => self.append(),
                100..=139 => self.commit(false),
                140..=169 => self.commit(true),
                170..=189 => self.free(),
                190..=193 => self.kill(),
                194..=196 => self.hit_a_slot(),
                197 => self.wreck(),
                _ => self.close(),
            }
        }
    }

    /// Sees to it that readings are committed and stand in no batch.
    fn leave_unsealed(&mut self) {
        self.append();
        self.commit(false);
    }

    fn append(&mut self) {
        for _ in 0..=self.below(12) {
            let number = self.fates.len() as i64;
            self.store().append(self.bench.group(Stream::Data, &[number]));
            self.fates.push(Fate::Pending);
        }
    }

    fn commit(&mut self, seal: bool) {
        self.bench.flush(self.store(), seal).unwrap();
        self.committed();
        if seal {
            self.look();
        }
    }

    fn committed(&mut self) {
        self.fates.iter_mut().filter(|fate| **fate == Fate::Pending).for_each(|f| *f = Fate::Kept);
        for number in std::mem::take(&mut self.freed).into_values().flatten() {
            self.fates[number as usize] = Fate::Gone;
        }
    }

    /// Frees one batch, or all there are: an empty store is what holding in memory begins with.
    fn free(&mut self) {
        let mut all = self.all();
        if all.is_empty() {
            return;
        }
        if self.below(3) > 0 {
            let nth = self.below(all.len() as u64) as usize;
            all = vec![all.swap_remove(nth)];
        }
        for (shelf, batch) in &all {
            self.store().acknowledge(*shelf, batch.seq());
            self.freed.insert(key(batch), numbers(batch));
            self.tally.freed += 1;
        }
    }

    fn close(&mut self) {
        assert_eq!(self.store.take().unwrap().1.close(), 0);
        self.committed();
        self.tally.closed += 1;
        self.open();
    }

    /// Ends it as a kill would: what was not committed is open, and so is what only memory held.
    fn end_badly(&mut self) {
        let shown: Vec<Batch> = self.all().into_iter().map(|(_, batch)| batch).collect();
        self.store.take().unwrap().1.abandon();
        self.tally.killed += 1;
        let conn = rusqlite::Connection::open(self.bench.path()).unwrap();
        let keep = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        conn.set_db_config(keep, true).unwrap();
        let on_disk = |batch: &Batch| {
            let sql = "SELECT count(*) FROM batch WHERE payload = ?1";
            let rows: i64 = conn.query_row(sql, [&batch.payload()[..]], |row| row.get(0)).unwrap();
            rows > 0
        };
        for batch in shown.iter().filter(|batch| !on_disk(batch)) {
            assert_eq!(self.bench.settings.write, Write::WhenNeeded, "a batch that is not written");
            self.tally.held_lost += 1;
            self.doubt(&numbers(batch));
        }
        for number in std::mem::take(&mut self.freed).into_values().flatten() {
            self.fates[number as usize] = Fate::Open;
        }
        let pending = self.fates.iter_mut().filter(|fate| **fate == Fate::Pending);
        pending.for_each(|fate| *fate = Fate::Open);
    }

    /// Returns whether a store that was moved aside is still being read.
    fn salvages(&self) -> bool {
        let asides = file::damaged_stores(self.bench.path());
        asides.iter().any(|aside| !file::salvage_mark(aside).done)
    }

    fn doubt(&mut self, numbers: &[i64]) {
        numbers.iter().for_each(|number| self.fates[*number as usize] = Fate::Open);
    }

    fn kill(&mut self) {
        self.end_badly();
        self.open();
    }

    /// What was committed and stands in no batch. A batch that was freed is not shown any more, and
    /// is a batch all the same: its readings stand in no slot, and nothing is lost with them.
    fn unsealed(&self) -> Vec<i64> {
        let mut sealed: BTreeSet<i64> =
            self.all().iter().flat_map(|(_, batch)| numbers(batch)).collect();
        sealed.extend(self.freed.values().flatten());
        (0..self.fates.len() as i64)
            .filter(|n| self.fates[*n as usize] == Fate::Kept && !sealed.contains(n))
            .collect()
    }

    /// A bit flips in a row of committed readings: those may be lost, and it is told when they are.
    fn hit_a_slot(&mut self) {
        // Each other time it is the row that was written last, which holds something mostly.
        let newest = self.tally.slots_hit.is_multiple_of(2);
        if newest {
            self.leave_unsealed();
        }
        let unsealed = self.unsealed();
        self.end_badly();
        let nth = if newest { 0 } else { self.below(3) };
        // Bytes 5 to 12 are the ordinal, the lowest first; here it stays below 2^24.
        self.bench.sql(&format!(
            "UPDATE slot SET body = CAST(substr(body, 1, 24) || x'a5' || substr(body, 26) AS BLOB)
             WHERE id = (SELECT id FROM slot WHERE length(body) > 99 ORDER BY
                         hex(substr(body, 7, 1)) || hex(substr(body, 6, 1)) ||
                         hex(substr(body, 5, 1)) DESC LIMIT 1 OFFSET {nth})"
        ));
        self.doubt(&unsealed);
        self.open();
        self.bench.flush(self.store(), true).unwrap();
        let there: BTreeSet<i64> =
            self.all().iter().flat_map(|(_, batch)| numbers(batch)).collect();
        let lost = unsealed.iter().any(|number| !there.contains(number));
        self.tally.slots_hit += 1;
        self.tally.slots_lost += u32::from(lost);
        let told = self.store().status().damaged_chunks;
        assert!(!lost || told > 0, "readings are lost and nobody says so");
        self.look();
    }

    /// The first page is gone: every batch comes back under its key, and what was unsealed in new ones
    /// or not at all.
    fn wreck(&mut self) {
        if self.tally.wrecked.is_multiple_of(2) {
            self.leave_unsealed();
        }
        let unsealed = self.unsealed();
        self.end_badly();
        // Else the log would put the page back.
        self.bench.sql("SELECT 1");
        let mut bytes = std::fs::read(self.bench.path()).unwrap();
        bytes[..4096].fill(0xa5);
        std::fs::write(self.bench.path(), bytes).unwrap();
        self.doubt(&unsealed);
        // What was freed after the last seal may come again.
        let gone = self.fates.iter_mut().filter(|fate| **fate == Fate::Gone);
        gone.for_each(|fate| *fate = Fate::Open);
        self.open();
        while self.salvages() {
            self.bench.flush(self.store(), false).unwrap();
        }
        self.bench.flush(self.store(), true).unwrap();
        let there: BTreeSet<i64> =
            self.all().iter().flat_map(|(_, batch)| numbers(batch)).collect();
        self.tally.wrecked += 1;
        let back = !unsealed.is_empty() && unsealed.iter().all(|number| there.contains(number));
        self.tally.back += u32::from(back);
        self.look();
    }

    fn open(&mut self) {
        let (store, thread) = self.bench.try_open().unwrap();
        self.store = Some((store, thread));
        self.bench.flush(self.store(), false).unwrap();
        self.look();
    }

    /// Seals everything and holds what is there against what was promised.
    fn look(&mut self) {
        // In this order: a salvage that ends after the first line may bring something that the second
        // does not seal or the third does not see.
        let salvages = self.salvages();
        self.bench.flush(self.store(), true).unwrap();
        let mut there = BTreeSet::new();
        for (_, batch) in self.all() {
            let payload = self.seen.entry(key(&batch)).or_insert_with(|| batch.payload().clone());
            assert_eq!(*payload, batch.payload(), "the same key stands for other bytes");
            for number in numbers(&batch) {
                assert!(there.insert(number), "{number} is there twice");
            }
        }
        for (number, fate) in self.fates.iter().enumerate() {
            let is_there = there.contains(&(number as i64));
            match fate {
                Fate::Kept => assert!(is_there || salvages, "{number} is lost"),
                Fate::Gone | Fate::Pending => assert!(!is_there, "{number} is {fate:?} and there"),
                Fate::Open => {}
            }
        }
        // What may have been lost and is there is kept from now on; what is not will not come back.
        if !salvages {
            for (number, fate) in self.fates.iter_mut().enumerate() {
                let freed = || self.freed.values().flatten().any(|n| *n == number as i64);
                if *fate == Fate::Open && !freed() {
                    let is_there = there.contains(&(number as i64));
                    *fate = if is_there { Fate::Kept } else { Fate::Gone };
                }
            }
        }
    }
}

fn key(batch: &Batch) -> Key {
    let header = header(batch);
    (header.epoch, header.sequence)
}

fn walk(write: Write, decks: u32) -> Tally {
    let seed = std::env::var("FIELDGATE_SEED")
        .ok()
        .map_or_else(|| crate::backoff::random() % 1_000_000_000, |seed| seed.parse().unwrap());
    println!("FIELDGATE_SEED={seed}");
    let mut walk = Walk::new(write, seed);
    for _ in 0..decks {
        walk.play();
    }
    walk.commit(true);
    println!("{:?}", walk.tally);
    walk.tally
}

#[test]
fn a_store_that_loses_rows_and_pages_keeps_what_it_can_and_doubles_nothing() {
    let tally = walk(Write::Always, 13);
    let Tally { killed, closed, freed, slots_hit, slots_lost, wrecked, back, .. } = tally;
    assert!(killed > 50 && closed > 10 && freed > 100 && slots_hit > 20, "{tally:?}");
    assert!(slots_lost > 0 && wrecked > 5 && back > 0, "{tally:?}");
}

#[test]
fn a_store_that_writes_when_it_must_loses_in_a_crash_what_it_said_and_doubles_nothing() {
    let tally = walk(Write::WhenNeeded, 13);
    assert!(tally.killed > 50 && tally.freed > 100 && tally.held_lost > 20, "{tally:?}");
}
