//! What a metered link may carry in a month: counts, warns in time, and makes batches longer while
//! the plan will not do. Nothing is ever held back or dropped for it.
//!
//! Months are those of the clock once it is believed, in UTC; until then what passes counts to the
//! month that was counted last. What a month will take is foretold from the rate since its counting
//! began, after a day.

use tokio::time::Instant;

use super::outbox::Outbox;
use crate::clock::Clock;
use crate::events::Events;
use crate::events::plan::{self as say, Outlook};
use crate::limits;
use crate::mqtt::Meter;
use crate::reading::UnixMillis;
use crate::store::Used;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Plan {
    meter: Meter,
    /// What the meter showed at the last look.
    seen: u64,
    used: Used,
    /// How often batches were made twice as long, and when that was looked at.
    steps: u32,
    stepped: Option<Instant>,
    noted: Option<Instant>,
}

/// What to think of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It will do.
    Fine,
    /// Too close to say: what stands, stands.
    Close,
    /// Most of it is used, and it will do.
    Short,
    /// It will not do.
    Beyond,
    /// It did not.
    Passed,
}

impl Plan {
    /// Goes on with what was used before.
    pub(super) fn new(meter: Meter, plan: u64, used: Option<Used>) -> Self {
        let used = Used { plan, ..used.unwrap_or_default() };
        Self { meter, seen: 0, used, steps: 0, stepped: None, noted: None }
    }

    /// Counts what has passed since the last look, and does what is to be done about it.
    pub(super) fn look(
        &mut self,
        now: Instant,
        clock: &dyn Clock,
        outbox: &impl Outbox,
        (events, subject): (&Events, &str),
    ) {
        let shown = self.meter.bytes();
        self.used.bytes += shown - self.seen;
        self.seen = shown;
        let mut is_new = false;
        if clock.plausible() {
            is_new = self.follow(clock.now());
        }
        if is_new {
            self.steps = 0;
            outbox.stretch(1);
            events.clear(&say::DATA_PLAN_SHORT, subject, "has a new month");
        }
        let foretold = clock.plausible().then(|| self.foretell(clock.now())).flatten();
        let outlook = Outlook { used: self.used.bytes, plan: self.used.plan, foretold };
        let verdict = judge(&outlook);
        tell(events, subject, verdict, &outlook);
        self.step(now, verdict, foretold.is_some(), outbox);
        let is_due = |at: Instant| now.duration_since(at) >= limits::DATA_PLAN_NOTE_TIME;
        if is_new || self.noted.is_none_or(is_due) {
            self.noted = Some(now);
            outbox.note_used(self.used);
        }
    }

    /// Notes what was used, whenever that was done last.
    pub(super) fn note(&mut self, outbox: &impl Outbox) {
        let shown = self.meter.bytes();
        self.used.bytes += shown - self.seen;
        self.seen = shown;
        outbox.note_used(self.used);
    }

    /// Follows a clock that is believed; returns whether a month has ended.
    fn follow(&mut self, now: UnixMillis) -> bool {
        let (month, _) = month_of(now);
        let before = self.used.month;
        if before == month {
            return false;
        }
        self.used.month = month;
        self.used.from = now;
        if before == 0 {
            // What passed before the clock was set passed in this month.
            return false;
        }
        self.used.bytes = 0;
        true
    }

    /// Returns what the whole month will take.
    fn foretell(&self, now: UnixMillis) -> Option<u64> {
        let counted = u64::try_from(now.0 - self.used.from.0).ok()?;
        if u128::from(counted) < limits::DATA_PLAN_FORETOLD_AFTER.as_millis() {
            return None;
        }
        let left = u64::try_from(month_of(now).1.0 - now.0).ok()?;
        let rest = u128::from(self.used.bytes) * u128::from(left) / u128::from(counted);
        Some(self.used.bytes.saturating_add(u64::try_from(rest).unwrap_or(u64::MAX)))
    }

    /// Makes batches longer by one step, or shorter, once an hour.
    fn step(&mut self, now: Instant, verdict: Verdict, is_foretold: bool, outbox: &impl Outbox) {
        let recently = |at: Instant| now.duration_since(at) < limits::DATA_PLAN_STEP_TIME;
        if self.stepped.is_some_and(recently) {
            return;
        }
        let steps = match verdict {
            Verdict::Beyond | Verdict::Passed => (self.steps + 1).min(limits::DATA_PLAN_STEPS_MAX),
            // On its first day, four fifths are too much.
            Verdict::Short if !is_foretold => (self.steps + 1).min(limits::DATA_PLAN_STEPS_MAX),
            Verdict::Close => self.steps,
            Verdict::Short | Verdict::Fine => self.steps.saturating_sub(1),
        };
        if steps != self.steps {
            self.stepped = Some(now);
            self.steps = steps;
            outbox.stretch(1 << steps);
        }
    }
}

fn judge(outlook: &Outlook) -> Verdict {
    let Outlook { used, plan, foretold } = *outlook;
    let foretold = foretold.unwrap_or(used);
    if used > plan {
        Verdict::Passed
    } else if foretold > plan {
        Verdict::Beyond
    } else if used >= plan / 100 * limits::DATA_PLAN_SHORT_PERCENT {
        Verdict::Short
    } else if foretold > plan / 10 * 9 {
        Verdict::Close
    } else {
        Verdict::Fine
    }
}

fn tell(events: &Events, subject: &str, verdict: Verdict, outlook: &Outlook) {
    match verdict {
        Verdict::Passed => drop(events.raise(say::passed(subject, outlook))),
        Verdict::Beyond => drop(events.raise(say::beyond(subject, outlook))),
        Verdict::Short => drop(events.raise(say::short(subject, outlook))),
        Verdict::Fine => {
            events.clear(&say::DATA_PLAN_SHORT, subject, "will do with its data plan");
        }
        Verdict::Close => {}
    }
}

const DAY_MS: i64 = 86_400_000;

/// Returns the month of a time, counted from January 1970, and when it ends.
fn month_of(at: UnixMillis) -> (u64, UnixMillis) {
    let (mut month, mut begins) = (0_u64, 0_i64);
    loop {
        let ends = begins + days_in(month) * DAY_MS;
        if at.0 < ends {
            return (month, UnixMillis(ends));
        }
        (month, begins) = (month + 1, ends);
    }
}

/// Returns the days of a month counted from January 1970.
fn days_in(month: u64) -> i64 {
    let year = 1970 + month / 12;
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    match month % 12 + 1 {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use tokio::sync::watch;

    use super::*;
    use crate::clock::Manual;
    use crate::store::Shelf;
    use crate::uplink::{Sealed, Standing, Unreadable};

    /// 2026-11-01T00:00:00Z, and the month's days.
    const BEGIN: UnixMillis = UnixMillis(1_793_491_200_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const MB: u64 = 1_000_000;

    #[derive(Default)]
    struct Kept {
        stretch: std::sync::Mutex<Vec<u32>>,
        used: std::sync::Mutex<Option<Used>>,
    }

    impl Outbox for Kept {
        fn sealed(&self) -> watch::Receiver<u64> {
            unreachable!()
        }
        async fn next(&self, _: Shelf, _: u64, _: usize) -> Result<Vec<Sealed>, Unreadable> {
            unreachable!()
        }
        fn acknowledge(&self, _: u64, _: Shelf, _: u64, _: u64) {}
        fn standing(&self) -> Standing {
            unreachable!()
        }
        fn note_used(&self, used: Used) {
            *self.used.lock().unwrap() = Some(used);
        }
        fn stretch(&self, times: u32) {
            self.stretch.lock().unwrap().push(times);
        }
    }

    /// A gateway with a plan of 100 MB, looked at every hour.
    struct Month {
        plan: RefCell<Plan>,
        meter: Meter,
        kept: Kept,
        clock: Manual,
        events: Events,
        now: RefCell<Instant>,
    }

    impl Month {
        fn new(at: UnixMillis, used: Option<Used>) -> Self {
            let meter = Meter::default();
            let plan = RefCell::new(Plan::new(meter.clone(), 100 * MB, used));
            let (kept, events, clock) = (Kept::default(), Events::default(), Manual::new(at));
            let month =
                Self { plan, meter, kept, clock, events, now: RefCell::new(Instant::now()) };
            month.look();
            month
        }

        fn look(&self) {
            let to = (&self.events, "uplink cloud");
            self.plan.borrow_mut().look(*self.now.borrow(), &self.clock, &self.kept, to);
        }

        fn pass(&self, hours: u32, bytes_an_hour: u64) {
            for _ in 0..hours {
                *self.now.borrow_mut() += HOUR;
                self.clock.advance(HOUR);
                self.meter.add(bytes_an_hour);
                self.look();
            }
        }

        fn used(&self) -> Used {
            self.kept.used.lock().unwrap().unwrap()
        }

        fn stretch(&self) -> u32 {
            self.kept.stretch.lock().unwrap().last().copied().unwrap_or(1)
        }

        fn told(&self) -> String {
            let standing = self.events.standing();
            standing.first().map_or_else(String::new, |condition| condition.notice.what.clone())
        }
    }

    #[test]
    fn a_plan_that_will_not_do_is_told_after_a_day_and_stretches_batches_until_the_month_ends() {
        let month = Month::new(BEGIN, None);
        month.pass(23, MB / 4);
        assert_eq!((month.told().as_str(), month.stretch()), ("", 1), "too early to say");
        // 0.25 MB an hour are 180 MB in thirty days.
        month.pass(1, MB / 4);
        assert!(month.told().starts_with("will need 180.0 MB"), "{}", month.told());
        assert_eq!(month.stretch(), 2);
        month.pass(3, MB / 4);
        assert_eq!(month.stretch(), 16);
        month.pass(24, MB / 4);
        assert_eq!(month.stretch(), 1 << limits::DATA_PLAN_STEPS_MAX);
        // Passed on the seventeenth day.
        month.pass(16 * 24, MB / 4);
        assert!(month.told().starts_with("has passed its data plan: "), "{}", month.told());
        month.pass(12 * 24 + 21, 0);
        assert_eq!((month.told().as_str(), month.stretch()), ("", 1), "a new month");
        assert_eq!(month.used().month_name().unwrap(), "2026-12");
        assert_eq!(month.used().bytes, 0);
    }

    #[test]
    fn four_fifths_are_told_and_batches_stay_short_when_the_rest_will_do() {
        let month = Month::new(BEGIN, None);
        month.pass(29 * 24, 117_000);
        assert!(month.told().starts_with("has used 80.0 MB"), "{}", month.told());
        assert_eq!(month.stretch(), 1);
    }

    #[test]
    fn batches_grow_shorter_again_when_the_rate_has_fallen() {
        let month = Month::new(BEGIN, None);
        month.pass(48, MB / 5);
        assert_eq!(month.stretch(), 1 << limits::DATA_PLAN_STEPS_MAX);
        month.pass(48, 0);
        assert_eq!((month.told().as_str(), month.stretch()), ("", 1));
    }

    #[test]
    fn a_start_goes_on_counting_and_a_month_that_passed_while_it_was_off_begins_anew() {
        let month = Month::new(BEGIN, None);
        month.pass(2, MB);
        let before = month.used();
        assert_eq!((before.bytes, before.plan), (2 * MB, 100 * MB));
        let again = Month::new(UnixMillis(BEGIN.0 + 86_400_000), Some(before));
        again.pass(1, MB);
        assert_eq!((again.used().bytes, again.used().from), (3 * MB, BEGIN));
        let later = UnixMillis(BEGIN.0 + 45 * 86_400_000);
        let december = Month::new(later, Some(before));
        assert_eq!((december.used().bytes, december.used().from), (0, later));
    }

    #[test]
    fn without_a_clock_it_counts_into_the_month_that_it_knew() {
        let before = Used { month: 682, from: BEGIN, bytes: 79 * MB, plan: 100 * MB };
        let month = Month::new(UnixMillis(5_000), Some(before));
        month.pass(2, MB);
        assert_eq!((month.used().bytes, month.used().month), (81 * MB, 682));
        assert!(month.told().starts_with("has used 80.0 MB"), "{}", month.told());
        // A board that never knew counts as well, and finds its month later.
        let month = Month::new(UnixMillis(5_000), None);
        month.pass(2, MB);
        assert_eq!(month.used().month_name(), None);
        month.clock.set(BEGIN);
        month.pass(1, MB);
        assert_eq!(month.used().month_name().unwrap(), "2026-11");
        assert_eq!(month.used().bytes, 3 * MB);
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        assert_eq!(month_of(UnixMillis(0)), (0, UnixMillis(31 * DAY_MS)));
        let (month, ends) = month_of(BEGIN);
        assert_eq!((month, ends.0), (682, BEGIN.0 + 30 * DAY_MS));
        assert_eq!(month_of(UnixMillis(BEGIN.0 - 1)).0, 681);
        // 2028-02-29T12:00:00Z
        assert_eq!(month_of(UnixMillis(1_835_438_400_000)).0, 58 * 12 + 1);
    }
}
