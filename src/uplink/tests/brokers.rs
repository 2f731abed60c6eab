//! Brokers that refuse, are away, lie, stall, or hang up: what is told of them, and that the uplink
//! comes back by itself.

use rumqttc::{ConnAck, ConnectReturnCode};

use super::*;
use crate::events::Weight;

#[tokio::test(start_paused = true)]
async fn a_refused_login_is_told_once_and_is_over_when_it_works() {
    run(async |world| {
        for _ in 0..3 {
            let mut peer = world.peers.recv().await.unwrap();
            peer.connect().await;
            let refusal = ConnAck::new(ConnectReturnCode::BadUserNamePassword, false);
            peer.send(Packet::ConnAck(refusal)).await;
        }
        let mut peer = world.accept().await;
        let standing = world.events.standing();
        assert_eq!(standing.len(), 1);
        assert_eq!((standing[0].count, standing[0].notice.weight), (3, Weight::Error));
        let text = standing[0].notice.to_string();
        let expected = "FG-U02  uplink cloud is refused by the broker broker:1883: \
                        the user name or password is wrong\n";
        assert!(text.starts_with(expected), "{text}");
        let steady = limits::LINK_STEADY_TIME + Duration::from_secs(1);
        let _ = timeout(steady, acknowledge_all(&mut peer)).await;
        assert!(world.standing().is_empty(), "{:?}", world.standing());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_dialled_with_growing_pauses() {
    run(async |world| {
        world.down.store(true, Ordering::Relaxed);
        // The first dial was quicker than this script.
        drop(world.peers.recv().await);
        sleep(Duration::from_secs(3600)).await;
        let dialled = world.dialled.load(Ordering::Relaxed);
        assert!((120..=600).contains(&dialled), "dialled {dialled} times in an hour");
        assert_eq!(world.standing(), ["FG-U01"]);
        world.outbox.seal(Shelf::Data, 2);
        world.down.store(false, Ordering::Relaxed);
        let mut peer = world.accept().await;
        let _ = timeout(Duration::from_secs(15), acknowledge_all(&mut peer)).await;
        assert!(world.standing().is_empty(), "{:?}", world.standing());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn noise_and_lies_end_the_connection_and_nothing_else() {
    let noise: Vec<u8> =
        (0..65_536_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let lies: [&[u8]; 6] = [
        &noise,
        b"\x00\x00",
        &[0x20, 2, 0, 0],
        &[0x30, 0xFF, 0xFF, 0xFF, 0x7F],
        &[0x40, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0x50, 2, 0, 3],
    ];
    let outbox = run(async |world| {
        world.outbox.seal(Shelf::Data, 2);
        for lie in lies {
            let mut peer = world.accept().await;
            batch(&mut peer).await.unwrap();
            peer.raw(lie).await;
            // The client must hang up; what it sent before may still be read.
            while batch(&mut peer).await.is_some() {}
        }
        assert_eq!(world.standing(), ["FG-U05"]);
        assert!(world.outbox.freed().is_empty());
        let mut peer = world.accept().await;
        let _ = timeout(Duration::from_secs(15), acknowledge_all(&mut peer)).await;
        assert!(world.standing().is_empty(), "{:?}", world.standing());
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=2));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_acknowledges_nothing_is_given_up_and_dialled_again() {
    let outbox = run(async |world| {
        world.outbox.seal(Shelf::Data, 2);
        let mut peer = world.accept().await;
        // It answers pings and reads on; only acknowledgements do not come.
        while batch(&mut peer).await.is_some() {}
        // That it answers the next login and takes `status` is no reason to call it over.
        let mut peer = world.accept().await;
        while batch(&mut peer).await.is_some() {}
        let standing = world.events.standing();
        assert_eq!((standing.len(), standing[0].notice.code.id), (1, "FG-U06"));
        assert_eq!(standing[0].count, 2);
        let text = standing[0].notice.to_string();
        assert!(text.contains("for 90 s (2 batches sent)"), "{text}");
        let mut peer = world.accept().await;
        let names = timeout(Duration::from_secs(15), async {
            let mut names = Vec::new();
            while let Some(publish) = batch(&mut peer).await {
                names.push(name(&publish));
                peer.puback(publish.pkid).await;
                if names.len() == 2 {
                    world.outbox.until_empty().await;
                    return names;
                }
            }
            names
        });
        assert_eq!(names.await.unwrap(), ["data/1", "data/2"]);
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=2));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_stalls_after_its_login_is_given_up() {
    let outbox = run(async |world| {
        world.outbox.seal_of(200_000, Shelf::Data, 10);
        let stalled = world.accept().await;
        let mut peer = world.accept().await;
        let text = world.events.standing()[0].notice.to_string();
        assert!(text.contains("the broker took no bytes for 60 s"), "{text}");
        drop(stalled);
        let rest = async { tokio::join!(world.outbox.until_empty(), acknowledge_all(&mut peer)) };
        let _ = timeout(Duration::from_secs(60), rest).await;
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=10));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_the_broker_hangs_up_on_is_parked_and_told_and_does_not_spin() {
    let outbox = run(async |world| {
        world.outbox.seal(Shelf::Data, 4);
        let mut connections = 0_u32;
        let hour = async {
            loop {
                let mut peer = world.peers.recv().await.unwrap();
                peer.connect().await;
                peer.accept().await;
                connections += 1;
                while let Some(publish) = batch(&mut peer).await {
                    if name(&publish) == "data/3" {
                        break;
                    }
                    peer.puback(publish.pkid).await;
                    // Let the acknowledgement arrive before the end does.
                    sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let _ = timeout(Duration::from_secs(3600), hour).await;
        assert!((5..=60).contains(&connections), "{connections} connections in an hour");
        let standing = world.events.standing();
        let notice = &standing.iter().find(|c| c.notice.code.id == "FG-U07").unwrap().notice;
        assert!(notice.what.contains("data/3 (1007 bytes)"), "{notice}");
        assert_eq!(world.outbox.freed(), data([1, 2, 4]));
        let mut peer = world.accept().await;
        let _ = timeout(limits::BATCH_PARKED_TIME, acknowledge_all(&mut peer)).await;
        assert!(world.standing().is_empty(), "{:?}", world.standing());
    })
    .await;
    assert_eq!(outbox.freed(), data([1, 2, 4, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_flapping_link_is_one_condition_with_a_count() {
    run(async |world| {
        for _ in 0..30 {
            let mut peer = world.accept().await;
            world.outbox.seal(Shelf::Data, 1);
            let publish = batch(&mut peer).await.unwrap();
            peer.puback(publish.pkid).await;
            world.outbox.until_empty().await;
        }
        let mut peer = world.accept().await;
        let standing = world.events.standing();
        assert_eq!((standing.len(), standing[0].count), (1, 30));
        let _ = timeout(Duration::from_secs(15), acknowledge_all(&mut peer)).await;
    })
    .await;
}
