//! What a gateway says of itself: `status`, `meta`, and its last word.

use super::*;
use crate::reading::PointInfo;

async fn publish_of(peer: &mut Peer, leaf: &str) -> serde_json::Value {
    loop {
        match peer.next().await.unwrap() {
            Packet::Publish(p) => {
                peer.puback(p.pkid).await;
                if p.topic == format!("fg/1/gw-1/{leaf}") {
                    assert!(p.retain && p.qos == QoS::AtLeastOnce);
                    return serde_json::from_slice(&p.payload).unwrap();
                }
            }
            Packet::PingReq => peer.send(Packet::PingResp).await,
            other => panic!("unexpected: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn status_and_meta_are_told_on_connect_and_when_they_have_news() {
    run(async |world| {
        world.outbox.seal(Shelf::Data, 3);
        let info = PointInfo { src: Some("holding 8".into()), ..PointInfo::new("m", "t", "Cel") };
        world.points.intern(info).unwrap();
        let mut peer = world.peers.recv().await.unwrap();
        let connect = peer.connect().await;
        assert!(connect.clean_session);
        let will = connect.last_will.unwrap();
        assert_eq!((will.topic.as_str(), will.retain), ("fg/1/gw-1/status", true));
        assert_eq!(&will.message[..], br#"{"up":false,"why":"lost"}"#);
        peer.accept().await;
        let status = publish_of(&mut peer, "status").await;
        let version = env!("CARGO_PKG_VERSION");
        let expected = serde_json::json!({
            "up": true, "ep": 1_700_000_000, "seq": 3, "lo": 1, "ver": version, "cv": "c0ffee",
            "backlog_s": 90,
        });
        assert_eq!(status, expected);
        let meta = publish_of(&mut peer, "meta").await;
        let expected = serde_json::json!({
            "gw": "gw-1", "ver": version, "cv": "c0ffee", "ep": 1_700_000_000,
            "labels": {"site": "hall-3", "group": ["pumps", "north"]},
            "series": [["m", "t", "Cel", "holding 8"]], "series_count": 1, "rules": [],
        });
        assert_eq!(meta, expected);
        world.points.intern(PointInfo::new("m", "u", "V")).unwrap();
        let meta = publish_of(&mut peer, "meta").await;
        assert_eq!(meta["series"][1], serde_json::json!(["m", "u", "V"]));
        // The backlog is gone: that is news before the minute is over.
        let begin = Instant::now();
        let status = publish_of(&mut peer, "status").await;
        assert_eq!((&status["backlog_s"], &status["lo"]), (&0.into(), &4.into()));
        assert!(begin.elapsed() <= limits::STATUS_LOOK_TIME);
        let begin = Instant::now();
        publish_of(&mut peer, "status").await;
        assert_eq!(begin.elapsed().as_secs(), limits::STATUS_TIME_MAX.as_secs());
        world.clock.set(UnixMillis(0));
        assert_eq!(publish_of(&mut peer, "status").await["backlog_s"], 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_list_of_series_that_does_not_fit_is_told_as_a_number() {
    run(async |world| {
        for n in 0..5000 {
            let info = PointInfo::new(&format!("device-{n}"), "temperature", "Cel");
            world.points.intern(info).unwrap();
        }
        let mut peer = world.accept().await;
        let meta = publish_of(&mut peer, "meta").await;
        assert_eq!((&meta["series_count"], meta.get("series")), (&5000.into(), None));
        assert_eq!(world.standing(), ["FG-U08"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn stopping_says_so_and_disconnects_only_after_the_broker_has_it() {
    run(async |world| {
        let mut peer = world.accept().await;
        assert!(timeout(Duration::from_secs(1), batch(&mut peer)).await.is_err());
        world.stop.cancel();
        let Some(Packet::Publish(last)) = peer.next().await else { panic!("no last status") };
        assert_eq!(&last.payload[..], br#"{"up":false,"why":"stopped"}"#);
        assert!(last.retain && last.qos == QoS::AtLeastOnce);
        let early = timeout(Duration::from_secs(1), peer.next()).await;
        assert!(early.is_err(), "gone before the acknowledgement: {early:?}");
        peer.puback(last.pkid).await;
        assert_eq!(peer.next().await, Some(Packet::Disconnect));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn stopping_is_bounded_when_the_broker_does_not_answer_and_leaves_the_will_to_speak() {
    let begin = Instant::now();
    run(async |world| {
        let mut peer = world.accept().await;
        assert!(timeout(Duration::from_secs(1), batch(&mut peer)).await.is_err());
        world.stop.cancel();
        assert!(matches!(peer.next().await, Some(Packet::Publish(_))));
        assert_eq!(peer.next().await, None, "a goodbye would silence the last will");
    })
    .await;
    assert!(begin.elapsed() < limits::SHUTDOWN_TIME_MAX);
}
