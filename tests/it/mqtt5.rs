//! MQTT 5 against Debian's mosquitto: its limits are learned from CONNACK and kept, and what it
//! refuses is told and never called delivered.

use std::time::Duration;

use bytes::Bytes;
use fieldgate::mqtt::{Broker, Incoming, Outlook, Reason, Session, SessionError, Version, connect};

use crate::peers::Mosquitto;
use crate::uplink::Running;

fn broker(mosquitto: &Mosquitto, client_id: &str) -> Broker {
    Broker { version: Version::V5, ..Broker::new("localhost", mosquitto.port, client_id) }
}

/// A mosquitto with this in its configuration, and a session with it.
async fn session(extra: &str) -> (tempfile::TempDir, Mosquitto, Session) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("acl"), "topic write allowed\ntopic read allowed\n").unwrap();
    let extra = extra.replace("FOLDER", &folder.path().display().to_string());
    let mosquitto = Mosquitto::start(folder.path(), &format!("user root\n{extra}"));
    let session = connect(&broker(&mosquitto, "gw-1"), true).await.unwrap();
    (folder, mosquitto, session)
}

async fn next(session: &mut Session) -> Result<Incoming, SessionError> {
    let waited = tokio::time::timeout(Duration::from_secs(30), session.next()).await;
    waited.expect("nothing in 30 s")
}

#[tokio::test]
async fn a_receive_maximum_of_one_carries_a_backlog_one_by_one() {
    let (_folder, mosquitto, session) = session("max_inflight_messages 1").await;
    assert_eq!(session.limits().in_flight_max, 1);
    session.disconnect().await;
    let uplink = Running::start(broker(&mosquitto, "gw-1"));
    for seq in 1..=60 {
        uplink.list.seal(seq, 5000);
    }
    uplink.freed(60).await;
    let mut freed = uplink.list.freed();
    freed.sort_unstable();
    assert_eq!(freed, (1..=60).collect::<Vec<_>>());
    assert_eq!(uplink.link.borrow().connections, 1, "it never sent more than one at a time");
    uplink.stop().await;
}

#[tokio::test]
async fn a_packet_over_the_brokers_maximum_is_refused_before_it_is_sent() {
    let (_folder, _mosquitto, mut session) = session("max_packet_size 20000").await;
    assert_eq!(session.limits().packet_bytes_max, Some(20_000));
    let large = session.publish("t", Bytes::from(vec![0; 20_000]), false).await;
    let error = SessionError::TooLarge { bytes: 20_010, bytes_max: 20_000 };
    assert_eq!(large, Err(error));
    let id = session.publish("t", Bytes::from(vec![0; 19_990]), false).await.unwrap();
    assert_eq!(next(&mut session).await, Ok(Incoming::Acknowledged(id)));
}

#[tokio::test]
async fn what_3_1_1_cannot_say_of_a_payload_5_does_and_the_batch_is_kept() {
    let (_folder, mosquitto, mut session) = session("message_size_limit 20000").await;
    let id = session.publish("t", Bytes::from(vec![0; 30_000]), false).await.unwrap();
    let refused = next(&mut session).await;
    assert_eq!(refused, Ok(Incoming::Refused(id, Reason::PACKET_TOO_LARGE)));
    assert_eq!(Reason::PACKET_TOO_LARGE.outlook(), Outlook::NeverAsItIs);
    session.disconnect().await;
    let uplink = Running::start(broker(&mosquitto, "gw-1"));
    uplink.list.seal(1, 1000);
    uplink.list.seal(2, 30_000);
    uplink.freed(1).await;
    uplink.stop().await;
}

#[tokio::test]
async fn an_access_list_says_that_it_is_one() {
    let (_folder, _mosquitto, mut session) = session("acl_file FOLDER/acl").await;
    let allowed = session.publish("allowed", Bytes::new(), false).await.unwrap();
    assert_eq!(next(&mut session).await, Ok(Incoming::Acknowledged(allowed)));
    // This mosquitto hangs up behind the refusal.
    let denied = session.publish("denied", Bytes::new(), false).await.unwrap();
    assert_eq!(next(&mut session).await, Ok(Incoming::Refused(denied, Reason::NOT_AUTHORISED)));
}

#[tokio::test]
async fn a_goodbye_of_one_byte_is_told_in_its_words() {
    let (_folder, _mosquitto, mut session) = session("").await;
    let Err(SessionError::Ended(reason, _)) = session.subscribe(&["a/#/b".to_owned()]).await else {
        panic!("the reason is lost")
    };
    assert_eq!(reason.to_string(), "it calls our packet malformed (reason 0x81)");
}

#[tokio::test]
async fn where_nothing_is_retained_a_retained_publish_goes_out_as_an_ordinary_one() {
    let (_folder, _mosquitto, mut session) = session("retain_available false").await;
    assert!(!session.limits().retain);
    let id = session.publish("t", Bytes::from_static(b"status"), true).await.unwrap();
    assert_eq!(next(&mut session).await, Ok(Incoming::Acknowledged(id)));
}

/// Goal: `expire` is the broker's to keep. What it says is a time, so there is nothing to await but
/// that.
#[tokio::test]
async fn what_expires_waits_for_a_reader_no_longer_than_it_should_and_what_is_retained_stays() {
    let (_folder, mosquitto, mut lasting) = session("").await;
    let reader = broker(&mosquitto, "reader");
    let mut first = connect(&reader, false).await.unwrap();
    first.subscribe(&["t/#".to_owned()]).await.unwrap();
    drop(first);
    let short = Broker { expiry: Some(Duration::from_secs(1)), ..broker(&mosquitto, "short") };
    let mut short = connect(&short, true).await.unwrap();
    let payload = Bytes::from_static(b"batch");
    for (topic, retain) in [("t/gone", false), ("t/status", true)] {
        let id = short.publish(topic, payload.clone(), retain).await.unwrap();
        assert_eq!(next(&mut short).await, Ok(Incoming::Acknowledged(id)));
    }
    let id = lasting.publish("t/stays", payload, false).await.unwrap();
    assert_eq!(next(&mut lasting).await, Ok(Incoming::Acknowledged(id)));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let mut second = connect(&reader, false).await.unwrap();
    let mut topics = Vec::new();
    while topics.len() < 2 {
        let Ok(Incoming::Received(message)) = next(&mut second).await else { panic!("{topics:?}") };
        topics.push(message.topic);
    }
    topics.sort_unstable();
    assert_eq!(topics, ["t/status", "t/stays"]);
}

#[tokio::test]
async fn a_session_that_is_not_clean_outlives_its_connection() {
    let (_folder, mosquitto, mut sender) = session("").await;
    let reader = broker(&mosquitto, "reader");
    let mut first = connect(&reader, false).await.unwrap();
    assert!(!first.session_present());
    first.subscribe(&["t".to_owned()]).await.unwrap();
    drop(first);
    let id = sender.publish("t", Bytes::from_static(b"meanwhile"), false).await.unwrap();
    assert_eq!(next(&mut sender).await, Ok(Incoming::Acknowledged(id)));
    let mut second = connect(&reader, false).await.unwrap();
    assert!(second.session_present(), "the session ended with its connection");
    let Ok(Incoming::Received(message)) = next(&mut second).await else { panic!("no message") };
    assert_eq!(&message.payload[..], b"meanwhile");
}
