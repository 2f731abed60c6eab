//! A bus whose settings change while it runs: the next one takes over what stays.

use super::*;

/// When a unit was asked, in milliseconds since `origin`.
fn asked(far: &Far, unit: u8, origin: Instant) -> Vec<u128> {
    let asked = far.asked.lock().unwrap();
    let of_unit = asked.iter().filter(|(_, request)| request[0] == unit);
    of_unit.map(|(at, _)| at.duration_since(origin).as_millis()).collect()
}

fn steady() -> Far {
    Far::rtu(|_, request| Act::Send(5, right(request)))
}

#[tokio::test(start_paused = true)]
async fn a_device_that_stays_is_polled_at_its_moments_as_if_nothing_had_happened() {
    let far = steady();
    let (points, events) = (Arc::new(Points::default()), Events::default());
    let origin = Instant::now();
    let mut before = bus(&far, vec![device(7, 100, &[16]), device(8, 100, &[32])], &points);
    let mut groups = 0;
    for round in 0..50_u16 {
        // Rounds end at all moments of a cycle, some in the middle of a poll.
        let lasting = Duration::from_millis(300 + u64::from(round) * 7 % 100);
        let seen = run_on(&mut before, Arc::clone(&points), events.clone(), lasting).await;
        groups += seen.of("d7", "r16").len();
        // Another device beside it comes, changes and goes.
        let mut devices = vec![device(7, 100, &[16])];
        if round % 3 > 0 {
            devices.insert(usize::from(round % 2), device(8, 100 + u64::from(round), &[round]));
        }
        let mut next = bus(&far, devices, &points);
        let going_on = next.take_over(Box::new(before), &|name| name == "d7");
        assert!(going_on.iter().any(|subject| subject.ends_with("(d7)")), "{going_on:?}");
        before = next;
    }
    let asked = asked(&far, 7, origin);
    assert_eq!(asked.len(), groups, "an answer was thrown away");
    assert!(groups > 150, "{groups}");
    assert_eq!(far.dialled.load(Ordering::Relaxed), 1, "the line was closed");
    for (n, at) in asked.iter().enumerate() {
        // The other device may hold the line for a moment.
        let due = n as u128 * 100;
        assert!((due..due + 40).contains(at), "poll {n} was due at {due} and went out at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_told_of_a_device_that_stays_is_over_only_when_it_answers() {
    let answers = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&answers);
    let far = Far::rtu(move |_, request| match (request[0], heard.load(Ordering::Relaxed)) {
        (7, 0) => Act::Silence,
        _ => Act::Send(5, right(request)),
    });
    let (points, events) = (Arc::new(Points::default()), Events::default().of("bus rs485-1"));
    let mut before = bus(&far, vec![device(7, 100, &[16]), device(8, 100, &[32])], &points);
    run_on(&mut before, Arc::clone(&points), events.clone(), secs(5)).await;
    assert_eq!(events.standing().len(), 1, "{:?}", events.standing());
    let mut next = bus(&far, vec![device(7, 100, &[16])], &points);
    let going_on = next.take_over(Box::new(before), &|name| name == "d7");
    events.part_gone("bus rs485-1", &going_on);
    assert_eq!(events.standing().len(), 1, "it was forgotten");
    run_on(&mut next, Arc::clone(&points), events.clone(), secs(5)).await;
    assert_eq!(events.standing()[0].count, 1, "it was told again");
    answers.store(1, Ordering::Relaxed);
    run_on(&mut next, Arc::clone(&points), events.clone(), secs(60)).await;
    assert!(events.standing().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_device_that_changed_begins_anew_and_its_notices_end() {
    let far = Far::rtu(|_, _| Act::Silence);
    let (points, events) = (Arc::new(Points::default()), Events::default().of("bus rs485-1"));
    let mut before = bus(&far, vec![device(7, 100, &[16])], &points);
    run_on(&mut before, Arc::clone(&points), events.clone(), secs(5)).await;
    let asked = far.requests().len();
    let mut next = bus(&far, vec![device(7, 200, &[16])], &points);
    let going_on = next.take_over(Box::new(before), &|_| false);
    events.part_gone("bus rs485-1", &going_on);
    assert!(events.standing().is_empty());
    run_on(&mut next, Arc::clone(&points), events.clone(), Duration::from_millis(10)).await;
    assert_eq!(far.requests().len(), asked + 1, "it is given a chance at once");
}
