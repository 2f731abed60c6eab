//! Batches on their way: in which order they go, whose word frees them, and that none is lost or freed
//! twice however often the connection ends.

use rumqttc::{SubAck, SubscribeReasonCode};

use super::*;

#[tokio::test(start_paused = true)]
async fn batches_go_out_in_order_and_are_freed_by_their_own_puback() {
    let outbox = run(async |world| {
        world.outbox.seal(Shelf::Data, 3);
        world.outbox.seal(Shelf::Event, 1);
        let mut peer = world.accept().await;
        let mut got = Vec::new();
        for _ in 0..4 {
            got.push(batch(&mut peer).await.unwrap());
        }
        let names: Vec<_> = got.iter().map(name).collect();
        assert_eq!(names, ["event/1", "data/1", "data/2", "data/3"]);
        assert!(world.outbox.freed().is_empty(), "freed before it was acknowledged");
        // Out of order, twice, and for what was never sent.
        for publish in [&got[3], &got[3], &got[1]] {
            peer.puback(publish.pkid).await;
        }
        peer.puback(60_000).await;
        peer.puback(got[0].pkid).await;
        peer.puback(got[2].pkid).await;
        world.outbox.until_empty().await;
        // What is sealed later goes out without being asked for.
        world.outbox.seal(Shelf::Data, 1);
        let fourth = batch(&mut peer).await.unwrap();
        peer.puback(fourth.pkid).await;
        world.outbox.until_empty().await;
        let link = *world.link.borrow();
        assert_eq!((link.connected, link.batches, link.readings), (true, 5, 50));
    })
    .await;
    let expected =
        [(Shelf::Data, 3), (Shelf::Data, 1), (Shelf::Event, 1), (Shelf::Data, 2), (Shelf::Data, 4)];
    assert_eq!(outbox.freed(), expected);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_for_an_earlier_connection_free_nothing() {
    let outbox = run(async |world| {
        world.outbox.seal(Shelf::Data, 4);
        let mut peer = world.accept().await;
        let mut old = Vec::new();
        for _ in 0..4 {
            old.push(batch(&mut peer).await.unwrap().pkid);
        }
        drop(peer);
        let mut peer = world.accept().await;
        for id in old {
            peer.puback(id).await;
        }
        let mut again = Vec::new();
        for _ in 0..4 {
            again.push(batch(&mut peer).await.unwrap());
        }
        let quiet = timeout(Duration::from_secs(5), batch(&mut peer)).await;
        assert!(quiet.is_err(), "{quiet:?}");
        assert!(world.outbox.freed().is_empty(), "freed by the acknowledgement of another packet");
        let names: Vec<_> = again.iter().map(name).collect();
        assert_eq!(names, ["data/1", "data/2", "data/3", "data/4"]);
        for publish in again {
            peer.puback(publish.pkid).await;
        }
        world.outbox.until_empty().await;
    })
    .await;
    assert_eq!(outbox.freed(), data(1..=4));
}

#[tokio::test(start_paused = true)]
async fn twenty_forced_disconnects_lose_nothing() {
    let outbox = run(async |world| {
        // Two and a half fit the pipe, so a broker that stops reading stops in the middle of one.
        world.outbox.seal_of(25_000, Shelf::Data, 60);
        world.outbox.seal(Shelf::Own, 5);
        for round in 0..20_u64 {
            let mut peer = world.accept().await;
            let mut last = BTreeMap::new();
            // Ends after some batches, some of them acknowledged.
            for n in 0..round % 7 {
                let publish = batch(&mut peer).await.unwrap();
                let name = name(&publish);
                let (stream, seq) = name.split_once('/').unwrap();
                let seq: u64 = seq.parse().unwrap();
                // The newest goes first beside a backlog of more than a window.
                let before = if seq == 60 { None } else { last.insert(stream.to_owned(), seq) };
                assert!(before.is_none_or(|before| before < seq), "{name} after {before:?}");
                if n % 3 != 1 {
                    peer.puback(publish.pkid).await;
                }
            }
        }
        let mut peer = world.accept().await;
        let rest = async { tokio::join!(world.outbox.until_empty(), acknowledge_all(&mut peer)) };
        let _ = timeout(Duration::from_secs(60), rest).await;
        assert!(world.outbox.held.lock().unwrap().is_empty());
    })
    .await;
    let mut freed = outbox.freed();
    freed.sort_unstable();
    let own = (1..=5).map(|seq| (Shelf::Own, seq));
    let expected: Vec<_> = data(1..=60).into_iter().chain(own).collect();
    assert_eq!(freed, expected, "each freed once");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_misses_what_the_broker_had_gets_it_again_and_silence_is_told() {
    let outbox = run_on(None, Ack::Receiver, async |world| {
        world.outbox.seal(Shelf::Data, 3);
        let mut peer = world.peers.recv().await.unwrap();
        peer.connect().await;
        peer.accept().await;
        let Some(Packet::Subscribe(wish)) = peer.next().await else { panic!("no subscription") };
        assert_eq!(wish.filters[0].path, "fg/1/gw-1/ack");
        let granted = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
        peer.send(Packet::SubAck(SubAck::new(wish.pkid, granted))).await;
        let say = async |peer: &mut Peer, word: &[u8]| {
            let message = Publish::new("fg/1/gw-1/ack", QoS::AtMostOnce, word);
            peer.send(Packet::Publish(message)).await;
        };
        let quiet = async |peer: &mut Peer, seconds| {
            let _ = timeout(Duration::from_secs(seconds), acknowledge_all(peer)).await;
        };
        quiet(&mut peer, 900).await;
        assert!(world.outbox.freed().is_empty(), "freed on the broker's word");
        assert_eq!(world.standing(), ["FG-U20"]);
        let word = br#"{"ep":1700000000,"st":"data","upto":3,"holes":[[2,2]]}"#;
        say(&mut peer, word).await;
        assert_eq!(name(&batch(&mut peer).await.unwrap()), "data/2");
        assert!(world.standing().is_empty());
        let word = br#"{"ep":1700000000,"st":"data","upto":3}"#;
        say(&mut peer, word).await;
        world.outbox.until_empty().await;
        assert!(world.link.borrow().last_receipt.is_some());
    })
    .await;
    assert_eq!(outbox.freed(), data([1, 3, 2]));
}
