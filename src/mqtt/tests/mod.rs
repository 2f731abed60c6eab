//! Sessions against a scripted broker, on paused time: every wait below takes no time at all, and
//! a session that never ends would end the test instead.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::{Packet, Publish, QoS, SubAck, SubscribeReasonCode};
use tokio::time::Instant;

use super::script::{Peer, answered, connected, settings, wire};
use super::*;
use crate::limits;
use crate::secret::Secret;

mod v5;

fn message(topic: &str, id: u16) -> Packet {
    let qos = if id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let mut publish = Publish::new(topic, qos, topic);
    publish.pkid = id;
    Packet::Publish(publish)
}

fn acknowledged(id: u16) -> Incoming {
    Incoming::Acknowledged(PacketId::new(id).unwrap())
}

fn topic(incoming: Incoming) -> String {
    match incoming {
        Incoming::Received(message) => message.topic,
        other => panic!("no message: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn login_says_who_we_are_and_what_to_say_when_we_are_gone() {
    let (near, mut peer) = wire();
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let mut broker = settings();
    broker.login = Some(Login { user: "u".into(), password: Some(Secret::File(password)) });
    broker.will = Some(Will {
        topic: "fg/1/gw-1/status".into(),
        payload: Bytes::from_static(b"gone"),
        retain: true,
    });
    let (session, connect) = tokio::join!(Session::open(Box::new(near), &broker, true), async {
        let connect = peer.connect().await;
        peer.accept().await;
        connect
    });
    assert!(!session.unwrap().session_present());
    assert!(connect.clean_session);
    assert_eq!((connect.client_id.as_str(), connect.keep_alive), ("gw-1", 30));
    assert!(connect.login.unwrap().validate("u", "secret"));
    let will = connect.last_will.unwrap();
    assert_eq!((will.qos, will.retain), (QoS::AtLeastOnce, true));
    assert_eq!((will.topic.as_str(), &will.message[..]), ("fg/1/gw-1/status", &b"gone"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_password_that_cannot_be_read_is_told_before_anything_is_sent() {
    let (near, mut peer) = wire();
    let mut broker = settings();
    let password = Secret::File("/nonexistent/password".into());
    broker.login = Some(Login { user: "u".into(), password: Some(password) });
    let error = Session::open(Box::new(near), &broker, true).await.err().unwrap();
    assert_eq!(
        error,
        ConnectError::Settings("file /nonexistent/password does not exist".to_owned())
    );
    assert_eq!(peer.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn every_refusal_of_connack_has_its_own_name() {
    let all = [
        (1, Rejection::Version(Version::V311)),
        (2, Rejection::Identifier),
        (3, Rejection::Unavailable),
        (4, Rejection::BadLogin),
        (5, Rejection::NotAuthorised),
    ];
    for (code, rejection) in all {
        let error = answered(&[0x20, 2, 0, code]).await.err();
        assert_eq!(error, Some(ConnectError::Rejected(rejection, Told::default())));
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_not_connack_are_named_as_such() {
    let noise: Vec<u8> =
        (0..65_536_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let lies: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0x20, 2, 0, 9],
        &[0xD0, 0],
        &[0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        &[0x30, 0xFF, 0xFF, 0xFF, 0x7F],
        &noise,
    ];
    for lie in lies {
        let error = answered(lie).await.err().unwrap();
        assert!(matches!(error, ConnectError::Violation(_)), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_hangs_up_instead_of_answering_is_named_with_the_step() {
    let (near, mut peer) = wire();
    let settings = settings();
    let (session, _) = tokio::join!(Session::open(Box::new(near), &settings, true), async move {
        peer.connect().await;
    });
    assert_eq!(session.err(), Some(ConnectError::Closed(Step::Login)));
}

#[tokio::test(start_paused = true)]
async fn each_publish_is_acknowledged_once_by_its_own_puback() {
    let (mut session, mut peer) = connected().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(session.publish("t", Bytes::from(vec![n]), false).await.unwrap().get());
        let publish = peer.publish().await;
        assert_eq!(
            (publish.pkid, publish.dup, &publish.payload[..]),
            (ids[n as usize], false, &[n][..])
        );
    }
    // Out of order, twice, for nothing, and for zero.
    for id in [ids[2], ids[2], 999, 0, ids[0], ids[1]] {
        peer.puback(id).await;
    }
    for id in [ids[2], ids[0], ids[1]] {
        assert_eq!(session.next().await, Ok(acknowledged(id)));
    }
    assert_eq!(session.unmatched(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_payload_over_the_limit_is_refused_and_the_session_lives_on() {
    let (mut session, mut peer) = connected().await;
    let huge = Bytes::from(vec![0; limits::MQTT_PACKET_BYTES_MAX]);
    let error = session.publish("t", huge, false).await.unwrap_err();
    assert!(matches!(error, SessionError::TooLarge { .. }), "{error:?}");
    for topic in ["", "a/+", "#", &"x".repeat(65_536)] {
        let error = session.publish(topic, Bytes::new(), false).await.unwrap_err();
        assert_eq!(error, SessionError::Topic(topic.to_owned()));
    }
    let id = session.publish("t", Bytes::from_static(b"fits"), true).await.unwrap();
    let publish = peer.publish().await;
    assert_eq!(
        (publish.pkid, publish.retain, &publish.payload[..]),
        (id.get(), true, &b"fits"[..])
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_is_acknowledged_by_the_call_after_the_one_that_delivered_it() {
    let (mut session, mut peer) = connected().await;
    peer.send(message("a", 7)).await;
    assert_eq!(topic(session.next().await.unwrap()), "a");
    let quiet = tokio::time::timeout(Duration::from_secs(1), peer.next()).await;
    assert!(quiet.is_err(), "acknowledged before it was asked for more: {quiet:?}");
    peer.send(message("b", 0)).await;
    peer.send(message("c", 9)).await;
    assert_eq!(topic(session.next().await.unwrap()), "b");
    assert_eq!(topic(session.next().await.unwrap()), "c");
    let (_, acks) =
        tokio::join!(tokio::time::timeout(Duration::from_secs(1), session.next()), async {
            [peer.next().await, peer.next().await]
        });
    let id = |packet: &Option<Packet>| match packet {
        Some(Packet::PubAck(ack)) => ack.pkid,
        other => panic!("no PUBACK: {other:?}"),
    };
    assert_eq!([id(&acks[0]), id(&acks[1])], [7, 9]);
}

#[tokio::test(start_paused = true)]
async fn subscribing_keeps_what_arrives_before_its_answer_and_names_a_refused_filter() {
    let (mut session, mut peer) = connected().await;
    let filters = ["z/#".to_owned(), "secret/#".to_owned()];
    let (subscribed, _) = tokio::join!(session.subscribe(&filters), async {
        let Some(Packet::Subscribe(subscribe)) = peer.next().await else { panic!("no SUBSCRIBE") };
        assert!(subscribe.pkid != 0 && subscribe.filters[0].qos == QoS::AtLeastOnce);
        peer.send(message("z/a", 1)).await;
        peer.send(message("z/b", 0)).await;
        let codes =
            vec![SubscribeReasonCode::Success(QoS::AtLeastOnce), SubscribeReasonCode::Failure];
        peer.send(Packet::SubAck(SubAck::new(subscribe.pkid, codes))).await;
        peer.send(message("z/c", 2)).await;
    });
    assert_eq!(subscribed, Err(SessionError::Filter("secret/#".to_owned(), Reason::UNSPECIFIED)));
    for expected in ["z/a", "z/b", "z/c"] {
        assert_eq!(topic(session.next().await.unwrap()), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_not_answered_ends_in_bounded_time() {
    let (mut session, _peer) = connected().await;
    let begin = Instant::now();
    assert_eq!(session.subscribe(&["a".to_owned()]).await, Err(SessionError::Unanswered));
    assert_eq!(begin.elapsed().as_secs(), limits::MQTT_CONNECT_TIME_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_flood_before_the_answer_to_a_subscription_is_not_kept_for_ever() {
    let (mut session, mut peer) = connected().await;
    let filters = ["a".to_owned()];
    let flood = async {
        let big = vec![0_u8; 1 << 20];
        for _ in 0..32 {
            peer.send(Packet::Publish(Publish::new("a", QoS::AtMostOnce, big.clone()))).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        result = session.subscribe(&filters) => {
            assert!(matches!(result, Err(SessionError::Violation(_))), "{result:?}");
        }
        () = flood => {}
    }
}

/// Answers pings until the client goes; returns how many and when they came.
async fn answer_pings(peer: &mut Peer, count: usize) -> Vec<Duration> {
    let begin = Instant::now();
    let mut at = Vec::new();
    while at.len() < count {
        match peer.next().await {
            Some(Packet::PingReq) => at.push(begin.elapsed()),
            other => panic!("no ping: {other:?}"),
        }
        peer.send(Packet::PingResp).await;
    }
    at
}

#[tokio::test(start_paused = true)]
async fn a_quiet_session_is_kept_alive_and_a_silent_broker_ends_it() {
    let (mut session, mut peer) = connected().await;
    let begin = Instant::now();
    let (error, pings) = tokio::join!(session.next(), async {
        let pings = answer_pings(&mut peer, 4).await;
        // The fifth ping is read and not answered.
        let _ = peer.next().await;
        (pings, peer)
    });
    let keep_alive = Duration::from_secs(30);
    let mut before = Duration::ZERO;
    for at in pings.0 {
        assert!(at - before < keep_alive, "pinged after {:?}", at - before);
        before = at;
    }
    let Err(SessionError::Silent(silence)) = error else { panic!("{error:?}") };
    assert_eq!(silence.as_secs(), 45);
    assert_eq!((begin.elapsed() - before).as_secs(), 45);
}

#[tokio::test(start_paused = true)]
async fn one_who_only_listens_is_kept_alive_too() {
    let (mut session, mut peer) = connected().await;
    let talk = async {
        loop {
            peer.send(message("a", 0)).await;
            let wait = tokio::time::timeout(Duration::from_secs(5), peer.next());
            if let Ok(Some(Packet::PingReq)) = wait.await {
                return;
            }
        }
    };
    tokio::pin!(talk);
    let begin = Instant::now();
    loop {
        tokio::select! {
            incoming = session.next() => assert_eq!(topic(incoming.unwrap()), "a"),
            () = &mut talk => break,
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(30), "pinged after {:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_takes_no_bytes_is_given_up() {
    let (mut session, _peer) = connected().await;
    let begin = Instant::now();
    let big = Bytes::from(vec![0; 256 * 1024]);
    assert_eq!(session.publish("t", big, false).await, Err(SessionError::Stalled));
    assert_eq!(begin.elapsed().as_secs(), limits::MQTT_WRITE_TIME_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_slow_broker_is_not_given_up_while_it_takes_something() {
    let (near, far) = tokio::io::duplex(1024);
    let mut far = far;
    let settings = settings();
    let answer = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut byte = [0; 512];
        let _ = far.read(&mut byte).await;
        far.write_all(&[0x20, 2, 0, 0]).await.unwrap();
    };
    let (session, ()) = tokio::join!(Session::open(Box::new(near), &settings, true), answer);
    let mut session = session.unwrap();
    let begin = Instant::now();
    let sip = async {
        use tokio::io::AsyncReadExt;
        let mut some = [0; 1024];
        loop {
            tokio::time::sleep(Duration::from_secs(30)).await;
            far.read_exact(&mut some).await.unwrap();
        }
    };
    tokio::select! {
        result = session.publish("t", Bytes::from(vec![0; 8 * 1024]), false) => {
            assert!(result.is_ok(), "{result:?}");
        }
        () = sip => {}
    }
    assert!(begin.elapsed() > limits::MQTT_WRITE_TIME_MAX * 3);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_neither_loses_nor_repeats_a_packet() {
    let (mut session, mut peer) = connected().await;
    let body: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    // Cancelled in the middle of its bytes: the pipe takes 64 KiB.
    let publish = session.publish("t", Bytes::from(body.clone()), false);
    assert!(tokio::time::timeout(Duration::from_secs(1), publish).await.is_err());
    let (_, publish) =
        tokio::join!(tokio::time::timeout(Duration::from_secs(1), session.next()), peer.publish());
    assert_eq!(publish.payload, body);
    // A packet of ours that arrives in two halves, with a cancelled call between them.
    let [high, low] = publish.pkid.to_be_bytes();
    peer.raw(&[0x40, 2, high]).await;
    assert!(tokio::time::timeout(Duration::from_secs(1), session.next()).await.is_err());
    peer.raw(&[low]).await;
    assert_eq!(session.next().await, Ok(acknowledged(publish.pkid)));
}

#[tokio::test(start_paused = true)]
async fn what_a_broker_may_not_send_ends_the_session() {
    let lies: [&[u8]; 9] = [
        &[0x20, 2, 0, 0],             // a second CONNACK
        &[0x10, 0],                   // CONNECT without a body
        &[0x50, 2, 0, 1],             // PUBREC for a QoS 1 publish
        &[0x34, 5, 0, 1, b'a', 0, 1], // a message of QoS 2
        &[0x36, 5, 0, 1, b'a', 0, 1], // a message of QoS 3
        &[0x32, 5, 0, 1, b'a', 0, 0], // a message with packet identifier 0
        &[0x30, 3, 0, 9, b'a'],       // a topic longer than its packet
        &[0xF0, 0],                   // packet type 15
        &[0xC0, 0],                   // PINGREQ
    ];
    for lie in lies {
        let (mut session, mut peer) = connected().await;
        peer.raw(lie).await;
        let error = session.next().await.unwrap_err();
        assert!(matches!(error, SessionError::Violation(_)), "{lie:?}: {error:?}");
    }
    let (mut session, peer) = connected().await;
    drop(peer);
    assert!(matches!(session.next().await, Err(SessionError::Closed(_))));
}

#[tokio::test(start_paused = true)]
async fn goodbye_is_disconnect_and_is_bounded_when_nobody_listens() {
    let (session, mut peer) = connected().await;
    session.disconnect().await;
    assert_eq!(peer.next().await, Some(Packet::Disconnect));
    let (mut session, _peer) = connected().await;
    let stuck = session.publish("t", Bytes::from(vec![0; 256 * 1024]), false);
    let _ = tokio::time::timeout(Duration::from_secs(1), stuck).await;
    let begin = Instant::now();
    session.disconnect().await;
    assert_eq!(begin.elapsed().as_secs(), limits::MQTT_GOODBYE_TIME_MAX.as_secs());
}

#[tokio::test]
async fn a_port_where_nothing_listens_and_a_name_that_is_none_are_told_apart() {
    let mut broker = settings();
    broker.host = "127.0.0.1".to_owned();
    broker.port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let error = connect(&broker, true).await.err().unwrap();
    assert_eq!(error.to_string(), format!("nothing listens on 127.0.0.1:{}", broker.port));
    broker.host = "no such name.invalid".to_owned();
    let error = connect(&broker, true).await.err().unwrap();
    assert!(matches!(error, ConnectError::Name { .. }), "{error:?}");
}
