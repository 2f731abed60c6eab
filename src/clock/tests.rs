//! The rules of belief against made-up boards.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::*;

const NOW: i64 = 1_790_000_000;
const YEAR: i64 = 365 * 86_400;

/// A board whose clock shows `wall` seconds, `boot` seconds after its start.
#[derive(Default)]
struct Made {
    wall: AtomicI64,
    boot: AtomicI64,
    synced: AtomicBool,
    from_the_start: Option<Evidence>,
}

impl Facts for Arc<Made> {
    fn read(&self) -> (i64, i64) {
        let read = |clock: &AtomicI64| clock.load(Ordering::Relaxed) * NANOS;
        (read(&self.wall), read(&self.boot))
    }

    fn synced(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }

    fn right_from_the_start(&self) -> Option<Evidence> {
        self.from_the_start
    }
}

impl Made {
    fn at(wall: i64) -> Self {
        Self { wall: wall.into(), boot: 10.into(), ..Self::default() }
    }

    fn pass(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::Relaxed);
        self.boot.fetch_add(seconds, Ordering::Relaxed);
    }

    fn step(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::Relaxed);
    }
}

fn board(made: Made, trust: Trust) -> (Arc<Made>, Kept<Arc<Made>>) {
    let made = Arc::new(made);
    (Arc::clone(&made), Kept::new(made, "boot".into(), trust))
}

fn seconds(board: &Kept<Arc<Made>>) -> i64 {
    board.look().1.0 / 1000
}

#[test]
fn what_vouches_for_a_clock_at_the_start() {
    let with = |wall, synced, from_the_start| Made {
        from_the_start,
        synced: AtomicBool::new(synced),
        ..Made::at(wall)
    };
    let battery = Some(Evidence::Battery);
    let table = [
        (with(NOW, true, None), Trust::Auto, Some(Evidence::Synced)),
        (with(NOW, true, battery), Trust::Auto, Some(Evidence::Synced)),
        (with(NOW, false, battery), Trust::Auto, battery),
        (with(NOW, false, None), Trust::Auto, None),
        (with(NOW, false, None), Trust::Trusted, Some(Evidence::Trusted)),
        (with(1000, true, battery), Trust::Trusted, None),
        (with(NOW + 120 * YEAR, true, battery), Trust::Auto, None),
    ];
    for (n, (made, trust, expected)) in table.into_iter().enumerate() {
        assert_eq!(board(made, trust).1.state().set, expected, "case {n}");
    }
}

#[test]
fn an_unset_clock_counts_from_boot_until_it_is_synchronised() {
    let (made, board) = board(Made::at(NOW - 14 * 86_400), Trust::Auto);
    assert_eq!(seconds(&board), 10);
    made.pass(100);
    assert_eq!(seconds(&board), 110);
    assert_eq!(board.state().base / 1000, NOW - 14 * 86_400 - 10, "the guess is at hand");
    made.synced.store(true, Ordering::Relaxed);
    made.pass(1);
    assert_eq!(seconds(&board), NOW - 14 * 86_400 + 101);
    assert_eq!(board.state().set, Some(Evidence::Synced));
}

#[test]
fn a_clock_that_is_set_while_the_program_runs_is_believed_and_one_that_creeps_is_not() {
    let (made, board) = board(Made::at(5), Trust::Auto);
    made.pass(3600);
    assert_eq!(board.state().set, None);
    made.step(1000);
    made.pass(1);
    assert_eq!((seconds(&board), board.state().set), (3611, None), "1970 is no time to believe");
    made.step(NOW);
    made.pass(1);
    assert_eq!(seconds(&board), NOW + 4607);
    assert_eq!(board.state().set, Some(Evidence::Step));
}

#[test]
fn jumps_of_thirty_years_are_followed_where_they_can_be_true_and_counted_over_where_not() {
    let (made, board) = board(Made { synced: true.into(), ..Made::at(NOW) }, Trust::Auto);
    made.step(30 * YEAR);
    assert_eq!(seconds(&board), NOW + 30 * YEAR);
    made.step(-30 * YEAR);
    made.pass(5);
    assert_eq!(seconds(&board), NOW + 5);
    made.step(-30 * YEAR);
    made.pass(5);
    assert_eq!(seconds(&board), NOW + 10, "1996 is counted over");
    let refused = board.state().refused.unwrap();
    assert_eq!(refused.0 / 1000, NOW + 10 - 30 * YEAR);
    made.step(30 * YEAR + 2);
    assert_eq!((seconds(&board), board.state().refused), (NOW + 12, None));
}

#[test]
fn a_clock_stays_believed_when_nobody_keeps_it_right_any_more() {
    let (made, board) = board(Made { synced: true.into(), ..Made::at(NOW) }, Trust::Auto);
    made.synced.store(false, Ordering::Relaxed);
    made.pass(100_000);
    assert_eq!(seconds(&board), NOW + 100_000);
}

#[test]
fn a_program_started_again_in_the_same_boot_believes_what_it_believed() {
    let (made, board) = board(Made::at(NOW), Trust::Auto);
    board.was_set();
    made.pass(1);
    assert_eq!((seconds(&board), board.state().set), (NOW + 1, Some(Evidence::Earlier)));
    let (_, lost) = self::board(Made::at(5), Trust::Auto);
    lost.was_set();
    assert_eq!(lost.state().set, None, "it has been set to 1970 since");
}

#[test]
fn this_machine_has_a_boot_and_a_time_since_then_that_only_grows() {
    let clock = Board::new(Trust::Auto);
    let (a, b) = (clock.now(), clock.now());
    assert!(a <= b && clock.state().boot.len() > 36, "{a:?} {b:?} {}", clock.state().boot);
    let trusted = Board::new(Trust::Trusted);
    let apart = trusted.now().0.abs_diff(System.now().0);
    assert!(apart < 1000, "{apart} ms between two ways to read one clock");
}
