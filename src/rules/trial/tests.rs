//! Trials: what counts as alike, and what the judge makes of it.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn made(point: &str, at: i64, value: f64) -> Made {
    let sample = Sample::good(Value::from_f64(value).unwrap());
    Made { stream: Stream::Data, point: point.into(), at, sample }
}

fn give(trial: &Trial, side: Side, readings: u64) {
    trial.was_given(side, readings);
}

fn run(trial: &Trial, side: Side, readings: Vec<Made>) {
    trial.made(side, readings, 100, Duration::from_micros(1));
}

/// Both sides given so many readings and emitting these.
fn both(bounds: &Bounds, taken: u64, live: Vec<Made>, other: Vec<Made>) -> Compared {
    let trial = Trial::new(bounds);
    give(&trial, Side::Live, taken);
    give(&trial, Side::Trial, taken);
    run(&trial, Side::Live, live);
    run(&trial, Side::Trial, other);
    trial.compared()
}

fn code(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Open => "open",
        Verdict::Passed => "passed",
        Verdict::Failed(failure) => &failure.code,
    }
}

#[test]
fn readings_meet_by_point_and_time_in_whatever_order_the_sides_emit_them() {
    let trial = Trial::new(&Bounds::default());
    run(&trial, Side::Trial, vec![made("m/a", 2, 5.0), made("m/b", 1, 7.0)]);
    run(&trial, Side::Live, vec![made("m/b", 1, 7.0), made("m/a", 2, 6.5), made("m/a", 3, 1.0)]);
    let compared = trial.compared();
    assert_eq!((compared.same, compared.differing, compared.waiting), (1, 1, 1));
    assert!((compared.distance_max - 1.5).abs() < 1e-9);
    let (point, at, live, other) = compared.first.unwrap();
    assert_eq!((&*point, at, live.as_str(), other.as_str()), ("m/a", 2, "6.5", "5"));
}

#[test]
fn the_tolerance_makes_near_values_the_same_and_marks_are_never_near() {
    let bounds = Bounds { tolerance: 0.5, ..Bounds::default() };
    let near = both(&bounds, 1, vec![made("m/a", 1, 1.0)], vec![made("m/a", 1, 1.5)]);
    assert_eq!((near.same, near.differing), (1, 0));
    let mut marked = made("m/a", 1, 1.0);
    marked.sample.quality = crate::reading::Quality::Bad;
    let far = both(&bounds, 1, vec![made("m/a", 1, 1.0)], vec![marked]);
    assert_eq!((far.same, far.differing), (0, 1));
}

#[test]
fn two_readings_of_one_instant_each_find_one_of_the_other_side() {
    let twice = || vec![made("m/a", 1, 1.0), made("m/a", 1, 2.0)];
    let compared = both(&Bounds::default(), 2, twice(), twice());
    assert_eq!((compared.same, compared.differing, compared.waiting), (2, 0, 0));
}

#[test]
fn what_waits_is_bounded_and_the_oldest_is_missing_or_too_much() {
    let trial = Trial::new(&Bounds::default());
    let most = limits::TRIAL_UNMATCHED_MAX as i64;
    for at in 0..most + 10 {
        run(&trial, Side::Live, vec![made("m/a", at, 0.0)]);
    }
    assert_eq!((trial.compared().missing, trial.compared().waiting), (10, most as u64));
    // The other side comes too late for the first ten: they are older than all that waits.
    run(&trial, Side::Trial, (0..10).map(|at| made("m/a", at, 0.0)).collect());
    assert_eq!((trial.compared().extra, trial.compared().missing), (10, 10));
}

#[test]
fn a_trial_passes_after_its_time_and_its_readings_and_not_before() {
    let bounds = Bounds { time: HOUR, readings: 500, ..Bounds::default() };
    let compared = both(&bounds, 499, vec![], vec![]);
    assert_eq!(compared.judge(&bounds, 2 * HOUR), Verdict::Open, "readings");
    let compared = both(&bounds, 500, vec![], vec![]);
    assert_eq!(compared.judge(&bounds, HOUR / 2), Verdict::Open, "time");
    assert_eq!(compared.judge(&bounds, HOUR), Verdict::Passed);
}

#[test]
fn a_version_that_was_never_fed_does_not_pass_however_long_it_waits() {
    let bounds = Bounds { time: HOUR, ..Bounds::default() };
    assert_eq!(both(&bounds, 0, vec![], vec![]).judge(&bounds, 100 * HOUR), Verdict::Open);
}

#[test]
fn one_failure_ends_a_trial_at_once_and_the_first_is_told() {
    let bounds = Bounds::default();
    let trial = Trial::new(&bounds);
    for code in ["trap.unreachable", "fuel"] {
        trial.failed(&Failure { code: code.into(), message: "it did".into() });
    }
    let Verdict::Failed(failure) = trial.compared().judge(&bounds, Duration::ZERO) else {
        panic!("it goes on");
    };
    assert_eq!(failure.code, "trial.failed");
    assert!(failure.message.contains("trap.unreachable"), "{}", failure.message);
}

#[test]
fn volume_counts_in_both_directions_once_there_is_enough_to_judge() {
    let bounds = Bounds { volume: 2.0, ..Bounds::default() };
    let many = |count: i64| (0..count).map(|at| made("m/a", at, 0.0)).collect::<Vec<_>>();
    let judge = |taken, live, other| {
        code(&both(&bounds, taken, many(live), many(other)).judge(&bounds, Duration::ZERO))
            .to_owned()
    };
    assert_eq!(judge(1000, 500, 1064), "open");
    assert_eq!(judge(1000, 500, 1065), "trial.volume");
    assert_eq!(judge(1000, 500, 186), "open");
    assert_eq!(judge(1000, 500, 185), "trial.volume");
    assert_eq!(judge(limits::TRIAL_READINGS_JUDGED - 1, 0, 4000), "open", "too early to say");
}

#[test]
fn fuel_and_time_count_against_the_running_version_above_what_nobody_minds() {
    let bounds = Bounds { cost: 2.0, ..Bounds::default() };
    let judge = |fuel: (u64, u64), micros: (u64, u64)| {
        let trial = Trial::new(&bounds);
        for (side, fuel, micros) in
            [(Side::Live, fuel.0, micros.0), (Side::Trial, fuel.1, micros.1)]
        {
            give(&trial, side, 1000);
            trial.made(side, Vec::new(), fuel * 1000, Duration::from_micros(micros * 1000));
        }
        code(&trial.compared().judge(&bounds, Duration::ZERO)).to_owned()
    };
    assert_eq!(judge((10, limits::TRIAL_FUEL_FREE), (1, 1)), "open", "cheap is never costly");
    assert_eq!(judge((3000, 6000), (1, 1)), "open");
    assert_eq!(judge((3000, 6001), (1, 1)), "trial.fuel");
    assert_eq!(judge((1, 1), (1, 50)), "open");
    assert_eq!(judge((1, 1), (40, 81)), "trial.time");
}

#[test]
fn the_share_that_differs_is_judged_at_the_end_and_only_when_asked_for() {
    let compared =
        both(&Bounds::default(), 10, vec![made("m/a", 1, 1.0)], vec![made("m/a", 1, 2.0)]);
    let strict = Bounds { difference: Some(0.5), ..Bounds::default() };
    assert_eq!(code(&compared.judge(&strict, Duration::ZERO)), "open");
    assert_eq!(code(&compared.judge(&strict, HOUR)), "trial.difference");
    assert_eq!(code(&compared.judge(&Bounds::default(), HOUR)), "passed");
}

fn tally(taken: u64, emitted: u64, fuel: u64, micros: u64) -> Tally {
    Tally { taken, emitted, fuel, took: Duration::from_micros(micros) }
}

/// Judges a version on probation, whose place had done something before it came.
fn judged(usual: Option<Tally>, done: Tally, silent: Duration, so_far: Duration) -> String {
    let began = tally(70, 60, 50, 40);
    let tally = Tally {
        taken: began.taken + done.taken,
        emitted: began.emitted + done.emitted,
        fuel: began.fuel + done.fuel,
        took: began.took + done.took,
    };
    let bounds = Bounds { volume: 2.0, cost: 2.0, ..Bounds::default() };
    let seen = Seen { tally, silent, ..Seen::default() };
    code(&Probation::new(usual, began, true).judge(&seen, &bounds, so_far)).to_owned()
}

#[test]
fn a_promoted_version_that_fails_in_any_way_within_its_hour_goes_back_and_says_how() {
    let probation = Probation::new(None, Tally::default(), true);
    for code_ in ["trap.unreachable", "fuel", "memory", "deadline", "output.count", "open.trap"] {
        let failure = Failure { code: code_.into(), message: "it did".into() };
        let seen = Seen { failure: Some(failure.clone()), ..Seen::default() };
        for so_far in [Duration::ZERO, HOUR / 2, HOUR] {
            let verdict = probation.judge(&seen, &Bounds::default(), so_far);
            assert_eq!(verdict, Verdict::Failed(failure.clone()));
        }
    }
    let seen = Seen::default();
    let judge = |so_far| code(&probation.judge(&seen, &Bounds::default(), so_far)).to_owned();
    assert_eq!(judge(HOUR - Duration::from_millis(1)), "open");
    assert_eq!(judge(HOUR), "passed");
}

#[test]
fn a_version_that_has_proven_itself_goes_back_only_when_it_is_given_up() {
    let failure = Failure { code: "trap.unreachable".into(), message: "it did".into() };
    let flood = tally(1000, u64::MAX, u64::MAX, u64::MAX);
    let silent = HOUR * 24;
    let once = Seen { tally: flood, failure: Some(failure.clone()), silent, given_up: false };
    assert_eq!(Probation::afterwards(&once), Verdict::Open, "a failure that it recovered from");
    let given_up = Seen { given_up: true, ..once };
    assert_eq!(Probation::afterwards(&given_up), Verdict::Failed(failure));
    assert_eq!(Probation::afterwards(&Seen::default()), Verdict::Open);
}

#[test]
fn a_promoted_version_floods_only_beyond_what_it_is_given_and_beyond_what_was_usual() {
    let judge = |usual: (u64, u64), done: (u64, u64)| {
        let usual = tally(usual.0, usual.1, 0, 0);
        judged(Some(usual), tally(done.0, done.1, 0, 0), Duration::ZERO, Duration::ZERO)
    };
    // A dead band on a quiet night before, a busy morning after.
    assert_eq!(judge((1000, 1), (1000, 1000)), "open");
    assert_eq!(judge((1000, 1), (1000, 1064)), "open");
    assert_eq!(judge((1000, 1), (1000, 1065)), "trial.volume");
    // A busy day before, silence after.
    assert_eq!(judge((1000, 900), (1000, 0)), "open");
    // One that always made three of one.
    assert_eq!(judge((1000, 3000), (1000, 6064)), "open");
    assert_eq!(judge((1000, 3000), (1000, 6065)), "trial.volume");
    assert_eq!(judge((1000, 1), (199, 4000)), "open", "too early to say");
    assert_eq!(judge((199, 1), (1000, 4000)), "open", "nobody knows what was usual");
}

#[test]
fn a_promoted_version_may_not_cost_far_more_than_the_one_before() {
    let judge = |usual: (u64, u64), done: (u64, u64)| {
        let usual = tally(1000, 0, usual.0 * 1000, usual.1 * 1000);
        let done = tally(1000, 0, done.0 * 1000, done.1 * 1000);
        judged(Some(usual), done, Duration::ZERO, Duration::ZERO)
    };
    assert_eq!(judge((10, 1), (limits::TRIAL_FUEL_FREE, 50)), "open", "cheap is never costly");
    assert_eq!(judge((3000, 40), (6000, 80)), "open");
    assert_eq!(judge((3000, 40), (6001, 80)), "trial.fuel");
    assert_eq!(judge((3000, 40), (6000, 81)), "trial.time");
    let unknown = judged(None, tally(1000, 9000, u64::MAX / 2, 0), Duration::ZERO, Duration::ZERO);
    assert_eq!(unknown, "open");
}

#[test]
fn an_uplink_that_was_there_before_the_promotion_and_falls_silent_takes_it_back() {
    let bounds = Bounds::default();
    let judge = |was_linked, silent: Duration| {
        let probation = Probation::new(None, Tally::default(), was_linked);
        let seen = Seen { silent, ..Seen::default() };
        code(&probation.judge(&seen, &bounds, HOUR / 2)).to_owned()
    };
    assert_eq!(judge(true, limits::TRIAL_UPLINK_SILENCE - Duration::from_secs(1)), "open");
    assert_eq!(judge(true, limits::TRIAL_UPLINK_SILENCE), "trial.uplink");
    assert_eq!(judge(false, HOUR / 2), "open", "it was lost before");
}
