//! Readings from before the clock was set, clocks that jump, boards that restart.

use super::*;
use crate::clock::Clock as _;
use crate::limits::CLOCK_SET_GRACE;

const HOUR: Duration = Duration::from_secs(3600);
const YEAR_MS: i64 = 365 * 86_400_000;
/// What a board without a battery may believe when it starts: two weeks ago.
const RESUMED: UnixMillis = UnixMillis(START.0 - 14 * 86_400_000);

impl Bench {
    /// A board that has just started and does not know the time; it is `START` in truth.
    fn unset() -> Self {
        let bench = Self::new();
        bench.clock.boot("first", RESUMED);
        bench
    }

    /// Reads a number now, by the board's clock.
    fn read(&self, number: i64) -> Group {
        Group { at: self.clock.now(), ..self.group(Stream::Data, &[number]) }
    }

    /// Reads and seals a number.
    fn seal(&self, store: &Store, number: i64) {
        store.append(self.read(number));
        self.flush(store, true).unwrap();
    }

    /// What is handed out now; nothing while it waits for the clock.
    fn handed(&self, store: &Store, after: u64) -> Vec<Batch> {
        match self.runtime.block_on(store.next(Stream::Data, after, 1000)) {
            Ok(batches) => batches,
            Err(StoreError::Undated) => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Number, time and `ck` of each reading.
fn readings(batch: &Batch) -> Vec<(i64, i64, u64)> {
    let decoded = decode(batch.payload()).unwrap();
    let mut found = Vec::new();
    decoded.rows(|row| match row.value {
        Some(RowValue::Decimal(number)) => {
            found.push((number.digits, row.at.0, decoded.header.clock));
        }
        other => panic!("{other:?}"),
    });
    found
}

fn all(batches: &[Batch]) -> Vec<(i64, i64, u64)> {
    batches.iter().flat_map(readings).collect()
}

#[test]
fn readings_from_before_the_clock_was_set_get_their_dates_when_it_is() {
    let bench = Bench::unset();
    let (store, _thread) = bench.try_open().unwrap();
    bench.clock.advance(HOUR);
    bench.seal(&store, 1);
    bench.clock.advance(HOUR);
    store.append(bench.read(2));
    bench.flush(&store, false).unwrap();
    bench.clock.advance(HOUR);
    let stamped_before = bench.read(3);
    assert!(bench.says("FG-K01"));
    bench.clock.advance(HOUR);
    bench.clock.set(UnixMillis(START.0 + 4 * 3_600_000));
    store.append(stamped_before);
    bench.clock.advance(HOUR);
    bench.seal(&store, 4);
    let hour = |n: i64| START.0 + n * 3_600_000;
    let expected = [(1, hour(1), 2), (2, hour(2), 2), (3, hour(3), 2), (4, hour(5), 1)];
    let batches = bench.handed(&store, 0);
    assert_eq!(all(&batches), expected);
    assert_eq!(batches.iter().map(Batch::seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(batches[0].last(), UnixMillis(hour(1)));
    assert!(!bench.says("FG-K01"));
}

#[test]
fn batches_wait_a_moment_for_the_clock_and_never_change_after_they_were_handed_out() {
    let bench = Bench::unset();
    let (store, thread) = bench.try_open().unwrap();
    bench.seal(&store, 1);
    let first = || bench.runtime.block_on(store.next(Stream::Data, 0, 1));
    assert_eq!(first(), Err(StoreError::Undated));
    bench.clock.advance(CLOCK_SET_GRACE - Duration::from_millis(1));
    assert_eq!(first(), Err(StoreError::Undated));
    bench.clock.advance(Duration::from_millis(1));
    let sent = first().unwrap();
    assert_eq!(all(&sent), [(1, RESUMED.0, 0)]);
    bench.seal(&store, 2);
    bench.clock.set(UnixMillis(START.0 + 60_000));
    bench.seal(&store, 3);
    thread.abandon();
    let (store, _thread) = bench.try_open().unwrap();
    let after = bench.handed(&store, 0);
    assert_eq!(after[0], sent[0]);
    assert_eq!(all(&after[1..]), [(2, START.0 + 60_000, 2), (3, START.0 + 60_000, 1)]);
}

#[test]
fn what_a_boot_left_gets_its_dates_in_a_later_process_or_a_later_boot() {
    let bench = Bench::unset();
    let (store, thread) = bench.try_open().unwrap();
    bench.clock.advance(HOUR);
    bench.seal(&store, 1);
    store.append(bench.read(2));
    bench.flush(&store, false).unwrap();
    thread.abandon();
    // The clock is set while no gateway runs; the next one seals what stood in slots.
    bench.clock.set(UnixMillis(START.0 + 3_600_000));
    let (store, thread) = bench.try_open().unwrap();
    bench.flush(&store, true).unwrap();
    drop(store);
    thread.abandon();
    // And the power goes before anything was handed out.
    bench.clock.boot("second", RESUMED);
    let (store, _thread) = bench.try_open().unwrap();
    let hour = START.0 + 3_600_000;
    assert_eq!(all(&bench.handed(&store, 0)), [(1, hour, 2), (2, hour, 2)]);
}

#[test]
fn a_boot_that_never_knew_the_time_keeps_its_guess_and_says_so() {
    let bench = Bench::unset();
    let (store, thread) = bench.try_open().unwrap();
    bench.clock.advance(HOUR);
    bench.seal(&store, 1);
    store.append(bench.read(2));
    bench.flush(&store, false).unwrap();
    thread.abandon();
    bench.clock.boot("second", UnixMillis(RESUMED.0 + 7_200_000));
    let (store, _thread) = bench.try_open().unwrap();
    bench.clock.set(START);
    bench.seal(&store, 3);
    let guess = RESUMED.0 + 3_600_000;
    assert_eq!(all(&bench.handed(&store, 0)), [(1, guess, 0), (2, guess, 0), (3, START.0, 1)]);
}

#[test]
fn the_store_remembers_that_the_clock_was_set_in_this_boot() {
    let bench = Bench::unset();
    let (store, thread) = bench.try_open().unwrap();
    bench.clock.set(START);
    bench.seal(&store, 1);
    thread.close();
    let clock = Arc::new(Manual::new(START));
    clock.boot("first", START);
    let bench = Bench { clock, ..bench };
    let (_store, thread) = bench.try_open().unwrap();
    assert!(bench.clock.plausible());
    thread.close();
    bench.clock.boot("second", START);
    let (_store, _thread) = bench.try_open().unwrap();
    assert!(!bench.clock.plausible());
}

#[test]
fn jumps_of_thirty_years_drop_nothing_by_age_until_keep_has_passed_again() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    bench.append(&store, Stream::Data, 1..2);
    bench.flush(&store, true).unwrap();
    let held = |store: &Store| bench.numbers(store, Stream::Data);
    bench.clock.set(UnixMillis(START.0 + 30 * YEAR_MS));
    thread.close();
    let (store, thread) = bench.try_open().unwrap();
    bench.seal(&store, 2);
    assert_eq!(held(&store), [1, 2], "after a leap while no gateway ran");
    thread.close();
    bench.clock.advance(HOUR * 23);
    let (store, thread) = bench.try_open().unwrap();
    bench.seal(&store, 3);
    assert_eq!(held(&store), [1, 2, 3], "a restart does not shorten the distrust");
    thread.close();
    bench.clock.advance(HOUR * 2);
    let (store, _thread) = bench.try_open().unwrap();
    bench.seal(&store, 4);
    assert_eq!(held(&store), [1, 2, 3, 4], "what passed between two processes is not counted");
}

#[test]
fn damaged_rows_about_time_cost_a_date_and_no_reading() {
    let bench = Bench::unset();
    let (store, thread) = bench.try_open().unwrap();
    bench.seal(&store, 1);
    bench.seal(&store, 2);
    thread.close();
    bench.sql("UPDATE undated SET t0 = t0 + 1 WHERE id = 1; UPDATE boot SET guess = 'x'");
    let (store, thread) = bench.try_open().unwrap();
    bench.clock.set(START);
    bench.seal(&store, 3);
    let found = all(&bench.handed(&store, 0));
    assert_eq!(found.iter().map(|r| (r.0, r.2)).collect::<Vec<_>>(), [(1, 0), (2, 0), (3, 1)]);
    thread.close();
}

#[test]
fn undated_readings_of_another_store_are_marked_and_dated_ones_are_not() {
    let bench = Bench::unset();
    let mut undated = bench.read(1);
    let mut dated = bench.group(Stream::Data, &[2]);
    dates::doubt(&mut undated);
    dates::doubt(&mut dated);
    assert_eq!((undated.samples[0].mark(), dated.samples[0].mark()), (18, 0));
}

/// Goal: whatever the order of readings, commits, seals, restarts, reboots, syncs and jumps, no
/// committed reading is lost or reordered, bytes that were handed out never change, and every
/// reading of a boot whose clock was set before it was handed out is within 50 ms of the truth.
/// Method: random steps from a seed against the true time, which only the test knows.
#[test]
fn times_are_true_whatever_the_clock_does() {
    let seeds = match std::env::var("FIELDGATE_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..7).collect(),
    };
    for seed in seeds {
        println!("FIELDGATE_SEED={seed}");
        Truth::new(seed).run(400);
    }
}

struct Truth {
    bench: Bench,
    random: u64,
    store: Option<(Store, StoreThread)>,
    now: i64,
    /// Whether the clock was set in this boot, and how wrong it is since a jump.
    set: bool,
    wrong: i64,
    boots: u32,
    /// Readings by number: the true time, and how wrong a set clock was.
    taken: Vec<(i64, Option<i64>)>,
    /// Numbers appended and not committed.
    pending: Vec<i64>,
    committed: Vec<i64>,
    /// Those that a crash left in doubt: the store also commits by itself.
    perhaps: BTreeSet<i64>,
    /// Payloads that were handed out.
    handed: BTreeMap<u64, Batch>,
}

impl Truth {
    fn new(seed: u64) -> Self {
        let bench = Bench::unset();
        let store = Some(bench.try_open().unwrap());
        Self {
            bench,
            random: seed,
            store,
            now: START.0,
            set: false,
            wrong: 0,
            boots: 1,
            taken: Vec::new(),
            pending: Vec::new(),
            committed: Vec::new(),
            perhaps: BTreeSet::new(),
            handed: BTreeMap::new(),
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % limit
    }

    fn store(&self) -> Store {
        self.store.as_ref().unwrap().0.clone()
    }

    fn run(mut self, steps: usize) {
        for _ in 0..steps {
            match self.below(20) {
                0..=7 => self.read(),
                8..=9 => self.pass(),
                10..=11 => self.flush(false),
                12..=13 => self.flush(true),
                14 => self.sync(),
                15 => self.jump(),
                16..=17 => self.hand_out(),
                18 => self.restart(),
                _ => self.reboot(),
            }
        }
        self.sync();
        self.flush(true);
        self.hand_out();
        // A batch lists its readings by time, which goes back where the clock did.
        let in_order = |batch: &Batch| {
            let mut found = numbers(batch);
            found.sort_unstable();
            found
        };
        let mut found: Vec<i64> = self.handed.values().flat_map(in_order).collect();
        assert!(found.is_sorted_by(|a, b| a < b), "doubled or reordered: {found:?}");
        found.retain(|number| !self.perhaps.contains(number));
        assert_eq!(found, self.committed, "lost");
        let counts =
            [0, 1, 2].map(|ck| self.handed.values().filter(|b| header(b).clock == ck).count());
        assert!(counts.iter().all(|n| *n > 0), "this seed tries too little: {counts:?}");
    }

    fn read(&mut self) {
        for _ in 0..=self.below(4) {
            let number = self.taken.len() as i64;
            self.store().append(self.bench.read(number));
            self.taken.push((self.now, self.set.then_some(self.wrong)));
            self.pending.push(number);
            let millis = self.below(2000) as i64;
            self.advance(millis);
        }
    }

    fn advance(&mut self, millis: i64) {
        self.bench.clock.advance(Duration::from_millis(millis.unsigned_abs()));
        self.now += millis;
    }

    fn pass(&mut self) {
        let millis = self.below(100_000) as i64;
        self.advance(millis);
    }

    fn flush(&mut self, seal: bool) {
        self.bench.flush(&self.store(), seal).unwrap();
        self.committed.append(&mut self.pending);
    }

    fn sync(&mut self) {
        (self.set, self.wrong) = (true, 0);
        self.bench.clock.set(UnixMillis(self.now));
        // The store looks at the clock with every commit; a jump before that would be part of it.
        self.flush(false);
    }

    fn jump(&mut self) {
        if self.set {
            self.wrong = [30 * YEAR_MS, -3_600_000, 3000][self.below(3) as usize];
            self.bench.clock.set(UnixMillis(self.now + self.wrong));
        }
    }

    fn restart(&mut self) {
        let (_, thread) = self.store.take().unwrap();
        if self.below(2) == 0 {
            thread.close();
            self.committed.append(&mut self.pending);
        } else {
            thread.abandon();
            self.perhaps.extend(self.pending.drain(..));
        }
        self.store = Some(self.bench.try_open().unwrap());
    }

    fn reboot(&mut self) {
        self.store.take().unwrap().1.abandon();
        self.perhaps.extend(self.pending.drain(..));
        self.boots += 1;
        let off = self.below(10_000_000) as i64;
        self.now += off;
        self.set = false;
        self.bench.clock.boot(&self.boots.to_string(), UnixMillis(self.now - 2 * off));
        self.store = Some(self.bench.try_open().unwrap());
    }

    fn hand_out(&mut self) {
        for batch in self.bench.handed(&self.store(), 0) {
            match self.handed.get(&batch.seq()) {
                Some(before) => assert_eq!(*before, batch, "bytes changed after they were sent"),
                None => {
                    assert_eq!(batch.seq(), self.handed.len() as u64 + 1, "out of order");
                    self.judge(&batch);
                    self.handed.insert(batch.seq(), batch);
                }
            }
        }
    }

    fn judge(&self, batch: &Batch) {
        let readings = readings(batch);
        let off = |(number, at, _): &(i64, i64, u64)| at - self.taken[*number as usize].0;
        for reading in &readings {
            let wrong = self.taken[reading.0 as usize].1;
            match (reading.2, wrong) {
                (1, Some(wrong)) => assert_eq!(off(reading), wrong, "{reading:?}"),
                (2, None) => assert!(off(reading).abs() <= 50, "{reading:?}: {}", off(reading)),
                (0, None) => assert_eq!(off(reading), off(&readings[0]), "{reading:?}"),
                odd => panic!("ck and what the clock was do not agree: {odd:?}"),
            }
        }
        let header = header(batch);
        let times = || readings.iter().map(|reading| reading.1);
        assert!(times().all(|at| (header.t0..=header.t1).contains(&at)), "{header:?}");
    }
}
