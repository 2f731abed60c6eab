//! The store against a plain list: random appends, commits, seals, acknowledgements of several
//! uplinks, quota drops, commits that fail, that find no room, that succeed and say they failed,
//! rows that are damaged, clocks that leap, orderly ends and crashes; after each commit everything is
//! compared.

use std::collections::VecDeque;

use super::*;

/// Pages that the store may use.
const PAGES: u64 = 44;
/// How many operations each walk does; each of the two tests takes two walks.
const OPERATIONS: usize = 25_000;
/// Pages of what is appended before a commit is to find no room: more than the file has free.
const LARGE: i64 = 20;

/// Goal: whatever the order of what happens to a store, it holds exactly what a plain list holds,
/// every count agrees, and no key ever stands for other bytes. Method: operations drawn from a
/// seed; the disk is memory, so that nothing waits.
#[test]
fn the_store_agrees_with_a_plain_list_whatever_happens() {
    run(&[]);
}

/// As above, with two uplinks that acknowledge each for itself.
#[test]
fn the_store_of_two_uplinks_agrees_with_a_plain_list_whatever_happens() {
    run(&["cloud", "site"]);
}

/// Seeds of the walks: always the same one, so that what was seen once is seen again, and one that
/// nobody has tried. `FIELDGATE_SEED` names the only one.
fn seeds() -> Vec<u64> {
    match std::env::var("FIELDGATE_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => vec![1, crate::backoff::random() % 1_000_000_000],
    }
}

fn run(uplinks: &'static [&'static str]) {
    for seed in seeds() {
        println!("FIELDGATE_SEED={seed}");
        let mut model = Model::new(seed, uplinks);
        for _ in 0..OPERATIONS {
            model.operate();
        }
        model.flush(true, Fault::None);
        println!("{:?}", model.tally);
        let Tally { lied, failed, full, killed, closed, damaged, dropped, leapt, .. } = model.tally;
        let each = [lied, failed, full, killed, closed, damaged, dropped, leapt];
        let often = each.iter().all(|times| *times > 50);
        assert!(often, "something hardly happened: {:?}", model.tally);
    }
}

struct Model {
    bench: Bench,
    uplinks: &'static [&'static str],
    random: u64,
    store: Option<(Store, StoreThread)>,
    last_number: i64,
    /// The last commit failed, or said so.
    refused: bool,
    /// It found no room. The next begins with what was acknowledged, in a commit of its own.
    no_room: bool,
    /// A commit was done of which nothing was seen yet: what it dropped is not known.
    unseen: bool,
    lanes: [ModelLane; 3],
    tally: Tally,
}

#[derive(Default)]
struct ModelLane {
    /// Appended, not committed.
    pending: VecDeque<i64>,
    /// Committed, in no batch that was seen.
    open: VecDeque<i64>,
    /// What each batch held when it was first seen, and its bytes.
    batches: BTreeMap<u64, (Vec<i64>, Bytes)>,
    /// What each uplink has, committed and not.
    had: [BTreeSet<u64>; 2],
    acknowledged: [BTreeSet<u64>; 2],
    highest: u64,
    dropped: u64,
    damaged: u64,
    /// The batch whose row was damaged last.
    hit: u64,
}

/// What is to happen to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It succeeds and says that it failed.
    Lie,
    /// Nothing may be written.
    Refuse,
    /// The file may not grow, which is not always needed.
    Full,
}

/// How often what is rare happened.
#[derive(Debug, Default)]
struct Tally {
    commits: u64,
    lied: u64,
    failed: u64,
    full: u64,
    killed: u64,
    closed: u64,
    damaged: u64,
    dropped: u64,
    leapt: u64,
}

impl Model {
    fn new(seed: u64, uplinks: &'static [&'static str]) -> Self {
        let mut bench = Bench::in_folder(on_memory());
        bench.settings.seal.readings_max = 60;
        bench.settings.bytes_max = quota(PAGES);
        let mut model = Self {
            bench,
            uplinks,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            store: None,
            last_number: 0,
            refused: false,
            no_room: false,
            unseen: false,
            lanes: Default::default(),
            tally: Tally::default(),
        };
        model.open();
        model
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

    fn shares(&self) -> u8 {
        u8::try_from(self.uplinks.len().max(1)).unwrap()
    }

    fn operate(&mut self) {
        match self.below(200) {
            0..=99 => self.append(),
            // With one uplink mostly nobody acknowledges, so that the quota has to drop.
            100..=146 if self.uplinks.is_empty() && self.below(3) > 0 => self.append(),
            100..=146 => self.acknowledge(),
            147 => self.leap(),
            148..=167 => self.flush(false, Fault::None),
            168..=181 => self.flush(true, Fault::None),
            182..=185 => self.flush_badly(Fault::Lie),
            186..=190 => self.flush_badly(Fault::Refuse),
            191..=194 => self.flush_badly(Fault::Full),
            195 => self.damage(),
            196..=197 => self.close(),
            _ => self.kill(),
        }
    }

    fn append(&mut self) {
        let stream = Stream::ALL[[0, 0, 0, 1, 2][self.below(5) as usize]];
        for _ in 0..=self.below(12) {
            self.last_number += 1;
            let number = self.last_number;
            self.store().append(self.bench.group(stream, &[number]));
            self.lanes[stream as usize].pending.push_back(number);
        }
    }

    /// The clock leaps, to anywhere in ten years: nothing is dropped for its age, and the order stays.
    fn leap(&mut self) {
        let day = self.below(3650) as i64;
        self.bench.clock.set(UnixMillis(START.0 + day * 86_400_000));
        self.tally.leapt += 1;
    }

    fn append_large(&mut self) {
        for _ in 0..LARGE {
            self.last_number += 1;
            self.bench.append_large(self.store(), self.last_number);
            self.lanes[Stream::Data as usize].pending.push_back(self.last_number);
        }
    }

    fn acknowledge(&mut self) {
        if self.unseen {
            return;
        }
        let stream = Stream::ALL[self.below(3) as usize];
        let uplink = self.below(self.shares().into()) as u8;
        let held = self.lanes[stream as usize].batches.len() as u64;
        let nth = self.below(held + 1) as usize;
        let highest = self.lanes[stream as usize].highest;
        let known = self.lanes[stream as usize].batches.keys().nth(nth).copied();
        // One that is not there any more now and then, and none that was never handed out.
        let first = known.unwrap_or_else(|| self.below(highest + 1));
        let last = (first + self.below(3)).min(highest);
        self.store().share(uplink).acknowledge(stream.into(), first, last);
        let lane = &mut self.lanes[stream as usize];
        let seqs = (first..=last).filter(|seq| lane.batches.contains_key(seq));
        lane.acknowledged[usize::from(uplink)].extend(seqs);
    }

    /// A fault strikes a store that works, so that it is known what it does.
    fn flush_badly(&mut self, fault: Fault) {
        if self.refused && (fault != Fault::Refuse || self.no_room) {
            self.flush(false, Fault::None);
        }
        let full = fault == Fault::Full;
        if full {
            self.append_large();
        }
        let seal = self.below(2) == 0 || full;
        self.flush(seal, fault);
    }

    fn flush(&mut self, seal: bool, fault: Fault) {
        let faults = &self.store().0.faults;
        faults.lie.store(fault == Fault::Lie, Ordering::Relaxed);
        faults.read_only.store(fault == Fault::Refuse, Ordering::Relaxed);
        faults.pages_max.store(u32::from(fault == Fault::Full), Ordering::Relaxed);
        let done = self.bench.flush(self.store(), seal);
        let faults = &self.store().0.faults;
        let lied = fault == Fault::Lie && !faults.lie.swap(false, Ordering::Relaxed);
        faults.read_only.store(false, Ordering::Relaxed);
        faults.pages_max.store(0, Ordering::Relaxed);
        self.refused = done.is_err();
        self.no_room = self.refused && fault == Fault::Full;
        self.tally.commits += 1;
        match (fault, done) {
            (Fault::Lie, Err(_)) if lied => {
                // It is on disk, and nothing can be seen of it yet.
                self.tally.lied += 1;
                self.unseen = true;
                self.settle();
            }
            (Fault::Refuse, Err(_)) => self.tally.failed += 1,
            (Fault::Full, Err(_)) => self.tally.full += 1,
            (_, Ok(())) => {
                self.settle();
                self.compare();
                let open =
                    self.store().status().streams.iter().map(|s| s.readings_open).sum::<u64>();
                assert!(!seal || open == 0);
            }
            (_, Err(error)) => panic!("{fault:?}: {error}"),
        }
    }

    /// What a commit does to the list.
    fn settle(&mut self) {
        let shares = usize::from(self.shares());
        for lane in &mut self.lanes {
            lane.open.append(&mut lane.pending);
            let (had, acknowledged) = (&mut lane.had, &mut lane.acknowledged);
            had.iter_mut().zip(acknowledged).for_each(|(had, fresh)| had.append(fresh));
            let (had, batches) = (&lane.had, &mut lane.batches);
            batches.retain(|seq, _| !had[..shares].iter().all(|had| had.contains(seq)));
        }
    }

    fn close(&mut self) {
        let (_, thread) = self.store.take().unwrap();
        assert_eq!(thread.close(), 0);
        self.tally.closed += 1;
        self.settle();
        // What an outage has made long becomes short again, so that the next has to make it longer.
        self.bench.sql("VACUUM");
        self.open();
    }

    fn kill(&mut self) {
        self.end_badly();
        self.open();
    }

    fn end_badly(&mut self) {
        self.store.take().unwrap().1.abandon();
        self.tally.killed += 1;
        for lane in &mut self.lanes {
            lane.pending.clear();
            lane.acknowledged = Default::default();
        }
    }

    /// Changes a byte of a batch while nobody looks: it is found, and everything else goes on.
    fn damage(&mut self) {
        self.end_badly();
        let stream = Stream::ALL[self.below(3) as usize];
        let known = self.lanes[stream as usize].batches.len() as u64;
        let nth = self.below(known.max(1)) as usize;
        let hit = self.lanes[stream as usize].batches.keys().nth(nth).copied();
        if let Some(seq) = hit {
            self.lanes[stream as usize].hit = seq;
            self.bench.sql(&format!(
                "UPDATE batch SET payload = substr(payload, 1, length(payload) - 1) || x'ff'
                 WHERE id = {} + {seq}",
                (stream as i64) << 56
            ));
        }
        self.open();
    }

    /// Opens; what stands in slots is sealed by itself, and everything is read once, since damage
    /// shows only then.
    fn open(&mut self) {
        let names = self.uplinks.iter().map(|name| Arc::from(*name)).collect();
        let opened = Store::open_for(
            names,
            self.bench.settings.clone(),
            Arc::clone(&self.bench.points),
            Arc::clone(&self.bench.clock) as _,
            self.bench.events.clone(),
        );
        let (store, thread) = opened.unwrap();
        store.0.intake.begin();
        for shelf in Shelf::ALL {
            (0..self.shares()).for_each(|uplink| drop(self.view(&store, uplink, shelf)));
        }
        self.bench.flush(&store, false).unwrap();
        self.store = Some((store, thread));
        (self.refused, self.no_room) = (false, false);
        self.compare();
    }

    fn view(&self, store: &Store, uplink: u8, shelf: Shelf) -> Vec<Batch> {
        let share = store.share(uplink);
        self.bench.runtime.block_on(share.next(shelf, 0, 100_000)).unwrap()
    }

    fn compare(&mut self) {
        self.unseen = false;
        let store = self.store().clone();
        let status = store.status();
        assert_eq!((status.uncommitted, status.health), (0, Health::Good));
        // A look at the file takes longer than everything else here.
        if self.tally.commits.is_multiple_of(20) {
            let count: u64 = status.streams.iter().map(|s| s.batches).sum();
            let used = usage(self.bench.path()).unwrap().bytes;
            // A row that is set aside takes its room before the next commit makes it.
            assert!(used <= (PAGES + 2) * 4096 || count == 1, "{used} bytes");
        }
        for stream in Stream::ALL {
            let views: Vec<Vec<Batch>> =
                (0..self.shares()).map(|n| self.view(&store, n, stream.into())).collect();
            let (before, damaged) = {
                let lane = &self.lanes[stream as usize];
                (lane.dropped, lane.damaged)
            };
            let lane = &mut self.lanes[stream as usize];
            lane.compare(stream, status.stream(stream), &views);
            self.tally.dropped += lane.dropped - before;
            self.tally.damaged += lane.damaged - damaged;
        }
    }
}

impl ModelLane {
    fn compare(&mut self, stream: Stream, shown: &StreamStatus, views: &[Vec<Batch>]) {
        // A batch is freed when all have it, so each that is there is in some view.
        let all: BTreeMap<u64, &Batch> =
            views.iter().flatten().map(|batch| (batch.seq(), batch)).collect();
        assert_eq!(all.len() as u64, shown.batches, "{stream:?}");
        let lo = all.keys().next().copied().unwrap_or(shown.seq_next);
        assert_eq!(shown.lo, lo);
        let payloads = all.values().map(|batch| batch.payload().len() as u64);
        assert_eq!(payloads.map(footprint).sum::<u64>(), shown.bytes);
        assert_eq!(all.values().map(|batch| batch.readings()).sum::<u64>(), shown.readings);
        self.forget_gone(stream, shown, &all, lo);
        for (seq, batch) in &all {
            match self.batches.get(seq) {
                Some((_, payload)) => {
                    assert_eq!(payload, batch.payload(), "the same key stands for other bytes");
                }
                None => self.meet(stream, batch),
            }
        }
        let rest = usize::try_from(shown.readings_open).unwrap();
        let unseen = self.open.len().checked_sub(rest).expect("more is open than was appended");
        self.dropped += self.open.drain(..unseen).count() as u64;
        assert_eq!(self.dropped, shown.dropped, "{stream:?}");
        assert_eq!(self.batches.len(), all.len(), "{stream:?}");
        for (had, view) in self.had.iter_mut().zip(views) {
            had.retain(|seq| all.contains_key(seq));
            let wanted = all.keys().filter(|seq| !had.contains(seq));
            assert!(view.iter().map(Batch::seq).eq(wanted.copied()), "{stream:?}");
        }
    }

    /// What is missing at the front was dropped; in the middle there is room for damage alone.
    fn forget_gone(
        &mut self,
        stream: Stream,
        shown: &StreamStatus,
        all: &BTreeMap<u64, &Batch>,
        lo: u64,
    ) {
        let gone: Vec<u64> =
            self.batches.keys().filter(|seq| !all.contains_key(seq)).copied().collect();
        let damaged = shown.damaged - self.damaged;
        assert!(damaged <= 1, "one row was damaged");
        self.damaged = shown.damaged;
        for seq in gone {
            let (numbers, _) = self.batches.remove(&seq).unwrap();
            if damaged == 1 && seq == self.hit {
                continue;
            }
            assert!(seq < lo, "{stream:?}: batch {seq} is gone from the middle");
            self.dropped += numbers.len() as u64;
        }
    }

    /// A batch that was not seen before has what was open, from the front.
    fn meet(&mut self, stream: Stream, batch: &Batch) {
        assert!(batch.seq() > self.highest, "a sequence number came again");
        self.highest = batch.seq();
        let numbers = numbers(batch);
        let skipped = self.open.iter().position(|n| *n == numbers[0]).expect("nobody appended it");
        self.dropped += self.open.drain(..skipped).count() as u64;
        assert!(self.open.drain(..numbers.len()).eq(numbers.iter().copied()), "{stream:?}");
        let header = header(batch);
        assert_eq!((header.sequence, header.readings), (batch.seq(), batch.readings()));
        assert!(header.lowest_held <= batch.seq() && header.dropped <= self.dropped);
        self.batches.insert(batch.seq(), (numbers, batch.payload().clone()));
    }
}
