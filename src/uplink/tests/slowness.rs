//! What is slow and not dead: a link of 5 KiB/s, one with a long backlog, a store that takes minutes or
//! cannot answer now.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_answer_is_asked_again() {
    let outbox = run(async |world| {
        world.outbox.seal(Shelf::Data, 2);
        world.outbox.broken.store(true, Ordering::Relaxed);
        let mut peer = world.accept().await;
        let quiet = timeout(Duration::from_secs(30), batch(&mut peer)).await;
        assert!(quiet.is_err(), "{quiet:?}");
        world.outbox.broken.store(false, Ordering::Relaxed);
        let _ = timeout(Duration::from_secs(30), acknowledge_all(&mut peer)).await;
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=2));
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_is_not_taken_for_a_dead_one() {
    let begin = Instant::now();
    let outbox = run_on(Some(Duration::from_millis(200)), Ack::Broker, async |world| {
        // Two minutes each, four keep-alives.
        world.outbox.seal_of(600_000, Shelf::Data, 3);
        let mut peer = world.accept().await;
        let rest = async { tokio::join!(world.outbox.until_empty(), acknowledge_all(&mut peer)) };
        let _ = timeout(Duration::from_secs(1200), rest).await;
        assert_eq!(world.dialled.load(Ordering::Relaxed), 1);
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=3));
    assert!(begin.elapsed() > Duration::from_secs(360));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_minutes_does_not_cost_the_connection() {
    let outbox = run(async |world| {
        world.outbox.slow.store(true, Ordering::Relaxed);
        world.outbox.seal(Shelf::Data, 2);
        let mut peer = world.accept().await;
        let rest = async { tokio::join!(world.outbox.until_empty(), acknowledge_all(&mut peer)) };
        let _ = timeout(Duration::from_secs(600), rest).await;
        assert_eq!(world.dialled.load(Ordering::Relaxed), 1);
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=2));
}

/// Goal: after an outage whoever looks at a screen sees the present within five seconds, and goes on
/// to, while the hours before take their share of the link. Method: a backlog of minutes on a link of
/// 200 kbit/s, and something new every two seconds.
#[tokio::test(start_paused = true)]
async fn the_live_view_is_back_within_five_seconds_and_stays_while_a_backlog_drains() {
    const LIVE_WITHIN: Duration = Duration::from_secs(5);
    const BACKLOG: u64 = 600;
    const NEW: u64 = 60;
    run_on(Some(Duration::from_millis(40)), Ack::Broker, async |world| {
        world.outbox.seal_of(8000, Shelf::Data, BACKLOG);
        let mut peer = world.accept().await;
        let outbox = Arc::clone(&world.outbox);
        let mut sealed = BTreeMap::from([(BACKLOG, Instant::now())]);
        let mut late = BTreeMap::new();
        let present = async {
            for seq in BACKLOG + 1..=BACKLOG + NEW {
                sleep(Duration::from_secs(2)).await;
                sealed.insert(seq, Instant::now());
                outbox.seal_of(8000, Shelf::Data, 1);
            }
        };
        let mut arrived = BTreeMap::new();
        let broker = async {
            while !outbox.held.lock().unwrap().is_empty() {
                let publish = batch(&mut peer).await.unwrap();
                let name = name(&publish);
                let seq: u64 = name.strip_prefix("data/").unwrap().parse().unwrap();
                arrived.insert(seq, Instant::now());
                peer.puback(publish.pkid).await;
                // The client frees it before anything else happens here.
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::join!(present, broker);
        for (seq, at) in sealed {
            late.insert(seq, arrived[&seq] - at);
        }
        let (slowest, longest) = late.iter().max_by_key(|(_, time)| **time).unwrap();
        assert!(*longest <= LIVE_WITHIN, "data/{slowest} came after {longest:?}: {late:?}");
        let drained = arrived.values().max().unwrap().duration_since(arrived[&BACKLOG]);
        assert!(drained > Duration::from_secs(120), "there was no backlog to be seen: {drained:?}");
    })
    .await;
}
