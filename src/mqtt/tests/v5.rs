//! MQTT 5: what a broker says it allows is kept, and what it refuses is never called delivered.
//! The bytes of both sides are written out or read by hand, so that this is no agreement of our
//! codec with itself.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_util::codec::{Decoder, Encoder};

use super::super::codec::{Codec, CodecError};
use super::super::packet::{Connect, Outgoing, Packet};
use super::super::script::{PIPE_BYTES, settings};
use super::super::*;
use crate::limits;

/// A broker that speaks in bytes.
struct Raw(DuplexStream);

impl Raw {
    /// Returns the next packet as it came, without its fixed header of two bytes; shorter ones
    /// only.
    async fn next(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).await.expect("the client has closed");
        assert!(head[1] < 0x80, "a packet of this test is longer than it should be");
        let mut body = vec![0; head[1].into()];
        self.0.read_exact(&mut body).await.unwrap();
        (head[0], body)
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }
}

/// Logs in to a broker that answers with this CONNACK; returns CONNECT too.
async fn open(clean: bool, connack: &[u8]) -> (Result<Session, ConnectError>, (u8, Vec<u8>), Raw) {
    let (near, far) = duplex(PIPE_BYTES);
    let mut raw = Raw(far);
    let broker = Broker { version: Version::V5, ..settings() };
    let (session, connect) = tokio::join!(Session::open(Box::new(near), &broker, clean), async {
        let connect = raw.next().await;
        raw.say(connack).await;
        connect
    });
    (session, connect, raw)
}

async fn opened(connack: &[u8]) -> (Session, Raw) {
    let (session, _, raw) = open(true, connack).await;
    (session.unwrap(), raw)
}

const WELCOME: &[u8] = &[0x20, 3, 0, 0, 0];

#[tokio::test(start_paused = true)]
async fn connect_asks_for_a_session_that_lasts_only_when_it_should() {
    let (_, (first, body), _) = open(true, WELCOME).await;
    assert_eq!(first, 0x10);
    assert_eq!(&body[..10], &[0, 4, b'M', b'Q', b'T', b'T', 5, 0x02, 0, 30]);
    assert_eq!(&body[10..16], &[13, 0x11, 0, 0, 0, 0]);
    assert_eq!(&body[16..19], &[0x21, 0x03, 0xE8]);
    assert_eq!(&body[19..24], &[0x27, 0x00, 0x40, 0x00, 0x00]);
    assert_eq!(&body[24..], b"\x00\x04gw-1");
    let (_, (_, body), _) = open(false, WELCOME).await;
    assert_eq!(body[7], 0x00);
    assert_eq!(body[11..16], [&[0x11][..], &limits::MQTT_SESSION_EXPIRY_S.to_be_bytes()].concat());
}

#[tokio::test(start_paused = true)]
async fn what_connack_allows_is_kept() {
    let mut connack = vec![0x20, 0, 1, 0, 0];
    connack.extend([0x21, 0, 2]); // receive maximum
    connack.extend([0x27, 0, 0, 0, 40]); // maximum packet size
    connack.extend([0x13, 0, 9]); // server keep alive
    connack.extend([0x25, 0]); // retain available
    connack.extend([0x11, 0, 0, 0, 7]); // session expiry
    connack.extend(b"\x12\x00\x03one"); // assigned client identifier
    connack.extend(b"\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w"); // user properties, twice
    connack[1] = u8::try_from(connack.len() - 2).unwrap();
    connack[4] = u8::try_from(connack.len() - 5).unwrap();
    let (mut session, mut raw) = opened(&connack).await;
    assert!(session.session_present());
    let limits = Granted {
        in_flight_max: 2,
        packet_bytes_max: Some(40),
        qos_1: true,
        retain: false,
        keep_alive_s: Some(9),
        session_expiry_s: Some(7),
        client_id: Some("one".to_owned()),
    };
    assert_eq!((session.limits(), session.room()), (&limits, 2));

    // 2 + 2 + 1 + 2 + 1 bytes around the payload: 32 fit, 33 do not, and nothing is written.
    let error = session.publish("t", Bytes::from(vec![0; 33]), false).await.unwrap_err();
    assert_eq!(error, SessionError::TooLarge { bytes: 41, bytes_max: 40 });
    let first = session.publish("t", Bytes::from(vec![7; 32]), true).await.unwrap();
    let (head, body) = raw.next().await;
    assert_eq!((head, body.len(), body[5]), (0x32, 38, 0), "retained, or not as it was asked for");
    assert_eq!(u16::from_be_bytes([body[3], body[4]]), first.get());

    // Two may be in flight: the third waits for an acknowledgement, and loses nothing over it.
    let second = session.publish("t", Bytes::new(), false).await.unwrap();
    raw.next().await;
    assert_eq!(session.room(), 0);
    let waiting = session.publish("t", Bytes::new(), false);
    assert!(tokio::time::timeout(Duration::from_secs(8), waiting).await.is_err());
    assert_eq!(raw.next().await.0, 0xC0, "the broker's nine seconds of keep-alive hold");
    raw.say(&[0xD0, 0]).await;
    let [high, low] = second.get().to_be_bytes();
    let puback = [0x40, 2, high, low];
    let (third, ()) = tokio::join!(session.publish("t", Bytes::new(), false), raw.say(&puback));
    assert_eq!(session.next().await, Ok(Incoming::Acknowledged(second)));
    let (_, body) = raw.next().await;
    assert_eq!(u16::from_be_bytes([body[3], body[4]]), third.unwrap().get());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_makes_room_is_given_up() {
    let (mut session, mut raw) = opened(&[0x20, 6, 0, 0, 3, 0x21, 0, 1]).await;
    session.publish("t", Bytes::new(), false).await.unwrap();
    let pings = async {
        loop {
            if raw.next().await.0 == 0xC0 {
                raw.say(&[0xD0, 0]).await;
            }
        }
    };
    tokio::select! {
        error = session.publish("t", Bytes::new(), false) => {
            assert_eq!(error, Err(SessionError::Full(1)));
        }
        () = pings => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_publish_is_never_acknowledged_and_frees_its_identifier() {
    let (mut session, mut raw) = opened(WELCOME).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(session.publish("t", Bytes::new(), false).await.unwrap());
    }
    let id = |at: usize| ids[at].get().to_be_bytes();
    let [a, b, c, d] = [id(0), id(1), id(2), id(3)];
    raw.say(&[0x40, 3, a[0], a[1], 0x97]).await;
    raw.say(&[0x40, 8, b[0], b[1], 0x95, 4, 0x1F, 0, 1, b'x']).await;
    // No matching subscriber is a success.
    raw.say(&[0x40, 4, c[0], c[1], 0x10, 0]).await;
    // A reason that the standard does not have is a refusal by its number.
    raw.say(&[0x40, 3, d[0], d[1], 0xEE]).await;
    let refused = |at: usize, code| Ok(Incoming::Refused(ids[at], Reason::new(code)));
    assert_eq!(session.next().await, refused(0, 0x97));
    assert_eq!(session.next().await, refused(1, 0x95));
    assert_eq!(session.next().await, Ok(Incoming::Acknowledged(ids[2])));
    assert_eq!(session.next().await, refused(3, 0xEE));
    assert_eq!(session.room(), usize::from(u16::MAX));
    raw.say(&[0x40, 2, a[0], a[1]]).await;
    raw.say(&[0x30, 4, 0, 1, b'z', 0]).await;
    assert!(matches!(session.next().await, Ok(Incoming::Received(_))));
    assert_eq!(session.unmatched(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_is_told_in_the_brokers_words_even_when_it_is_one_byte() {
    let said: [(&[u8], &str); 4] = [
        (&[0xE0, 1, 0x8E], "another connection uses our client identifier (reason 0x8E)"),
        (&[0xE0, 0], "it said goodbye (reason 0x00)"),
        (b"\xE0\x08\x8B\x06\x1F\x00\x03now", "it is shutting down (reason 0x8B); it adds \"now\""),
        (
            b"\xE0\x0A\x9D\x08\x1C\x00\x05b.org",
            "we should use another broker from now on (reason 0x9D); it names b.org in its place",
        ),
    ];
    for (bytes, words) in said {
        let (mut session, mut raw) = opened(WELCOME).await;
        raw.say(bytes).await;
        let error = session.next().await.unwrap_err();
        assert_eq!(error.to_string(), format!("the broker ended the connection: {words}"));
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_of_connack_are_words_in_either_version() {
    let said: [(&[u8], &str); 7] = [
        (&[0x20, 3, 0, 0x84, 0], "it does not speak MQTT 5"),
        (&[0x20, 2, 0, 0x01], "it does not speak MQTT 5"),
        (&[0x20, 3, 0, 0x85, 0], "it does not allow this client identifier"),
        (&[0x20, 3, 0, 0x86, 0], "the user name or password is wrong"),
        (&[0x20, 3, 0, 0x8A, 0], "its operator has banned this client (reason 0x8A)"),
        (&[0x20, 3, 0, 0x9A, 0], "it keeps no retained messages (reason 0x9A)"),
        (
            b"\x20\x0A\x00\x9C\x07\x1C\x00\x04east",
            "we should use another broker for now (reason 0x9C); it names east in its place",
        ),
    ];
    for (bytes, words) in said {
        let error = open(true, bytes).await.0.err().unwrap();
        assert_eq!(error.to_string(), format!("the broker refuses: {words}"));
    }
    let only_qos_0 = open(true, &[0x20, 5, 0, 0, 2, 0x24, 0]).await.0.err();
    assert!(matches!(only_qos_0, Some(ConnectError::Unfit(_))), "{only_qos_0:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_subscription_says_which_and_why() {
    let (mut session, mut raw) = opened(WELCOME).await;
    let filters = ["a/#".to_owned(), "b".to_owned()];
    let (subscribed, ()) = tokio::join!(session.subscribe(&filters), async {
        let (first, body) = raw.next().await;
        assert_eq!((first, &body[2..]), (0x82, &b"\x00\x00\x03a/#\x01\x00\x01b\x01"[..]));
        raw.say(&[0x90, 5, body[0], body[1], 0, 1, 0x87]).await;
    });
    let error = SessionError::Filter("b".to_owned(), Reason::NOT_AUTHORISED);
    assert_eq!(subscribed, Err(error));
}

#[tokio::test(start_paused = true)]
async fn messages_come_without_their_properties_and_are_acknowledged() {
    let (mut session, mut raw) = opened(WELCOME).await;
    raw.say(b"\x3B\x14\x00\x01t\x00\x09\x0A\x01\x01\x02\x00\x00\x00\x3C\x0B\x80\x01body").await;
    let Ok(Incoming::Received(message)) = session.next().await else { panic!("no message") };
    assert_eq!((message.topic.as_str(), &message.payload[..]), ("t", &b"body"[..]));
    assert!(message.retain && message.duplicate);
    let (_, ack) =
        tokio::join!(tokio::time::timeout(Duration::from_secs(1), session.next()), raw.next());
    assert_eq!(ack, (0x40, vec![0, 9]));
}

#[tokio::test(start_paused = true)]
async fn what_an_mqtt_5_broker_may_not_send_ends_the_session() {
    let lies: [&[u8]; 10] = [
        &[0xF0, 2, 0x18, 0],                               // AUTH
        &[0x30, 3, 0, 0, 0],                               // a topic alias' place without one
        &[0x30, 7, 0, 1, b't', 3, 0x23, 0, 1],             // a topic alias
        &[0x30, 4, 0, 1, b't', 9],                         // properties longer than the packet
        &[0x30, 6, 0, 1, b't', 2, 0x7F, 0],                // no such property
        &[0x30, 8, 0, 1, b't', 4, 0x01, 0, 0x01, 0],       // one property twice
        &[0x30, 8, 0, 1, b't', 0xFF, 0xFF, 0xFF, 0xFF, 1], // a length of five bytes
        &[0x40, 5, 0, 1, 0x97, 0, 0],                      // bytes behind the last field
        &[0x30, 4, 0, 1, 0xFF, 0],                         // a topic that is not UTF-8
        &[0xE1, 0],                                        // flags
    ];
    for lie in lies {
        let (mut session, mut raw) = opened(WELCOME).await;
        raw.say(lie).await;
        let error = session.next().await.unwrap_err();
        assert!(matches!(error, SessionError::Violation(_)), "{lie:?}: {error:?}");
    }
    for nothing in [&[0x20, 6, 0, 0, 3, 0x21, 0, 0][..], &[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 0]] {
        let error = open(true, nothing).await.0.err();
        assert!(matches!(error, Some(ConnectError::Violation(_))), "{error:?}");
    }
}

fn codec(version: Version) -> Codec {
    Codec { version, incoming_bytes_max: 1 << 20, outgoing_bytes_max: 1 << 20 }
}

fn written(version: Version, packet: Outgoing<'_>) -> BytesMut {
    let mut bytes = BytesMut::new();
    codec(version).encode(packet, &mut bytes).unwrap();
    bytes
}

proptest! {
    /// Another hand reads what we write.
    #[test]
    fn what_we_write_is_read_by_others(
        topic in "[a-z/]{1,300}",
        payload in proptest::collection::vec(any::<u8>(), 0..400),
        number in 1_u16..,
        retain: bool,
        will: bool,
        expiry_s: Option<u32>,
        user in "[a-z]{1,200}",
    ) {
        use rumqttc::v5::mqttbytes::v5 as theirs;
        let id = PacketId::new(number).unwrap();
        let publish =
            Outgoing::Publish { id, topic: &topic, payload: &payload, retain, expiry_s };
        let old = rumqttc::Packet::read(&mut written(Version::V311, publish.clone()), 1 << 20);
        let Ok(rumqttc::Packet::Publish(old)) = old else { panic!("{old:?}") };
        prop_assert_eq!((&old.topic, old.pkid, old.retain), (&topic, number, retain));
        prop_assert_eq!(&old.payload, &payload);
        let new = theirs::Packet::read(&mut written(Version::V5, publish), None);
        let Ok(theirs::Packet::Publish(new)) = new else { panic!("{new:?}") };
        prop_assert_eq!((&new.topic[..], new.pkid, new.retain), (topic.as_bytes(), number, retain));
        prop_assert_eq!(&new.payload, &payload);
        let properties = new.properties;
        prop_assert_eq!(properties.and_then(|it| it.message_expiry_interval), expiry_s);

        let filters = [topic.clone(), user.clone()];
        let subscribe = Outgoing::Subscribe { id, filters: &filters };
        let old = rumqttc::Packet::read(&mut written(Version::V311, subscribe.clone()), 1 << 20);
        let Ok(rumqttc::Packet::Subscribe(old)) = old else { panic!("{old:?}") };
        prop_assert_eq!((old.pkid, old.filters.len()), (number, 2));
        let new = theirs::Packet::read(&mut written(Version::V5, subscribe), None);
        let Ok(theirs::Packet::Subscribe(new)) = new else { panic!("{new:?}") };
        prop_assert_eq!((new.pkid, &new.filters[1].path), (number, &user));

        let connect = Outgoing::Connect(Connect {
            client_id: &user,
            keep_alive: number,
            clean: retain,
            user: (!will).then_some(&user),
            password: (!will).then_some(&topic),
            will: will.then_some((&topic, &payload, retain)),
        });
        let old = rumqttc::Packet::read(&mut written(Version::V311, connect.clone()), 1 << 20);
        let Ok(rumqttc::Packet::Connect(old)) = old else { panic!("{old:?}") };
        prop_assert_eq!((old.client_id.as_str(), old.clean_session), (user.as_str(), retain));
        prop_assert_eq!((old.last_will.is_some(), old.login.is_some()), (will, !will));
        let new = theirs::Packet::read(&mut written(Version::V5, connect), None);
        let Ok(theirs::Packet::Connect(new, last, login)) = new else { panic!("{new:?}") };
        prop_assert_eq!((new.keep_alive, new.clean_start), (number, retain));
        prop_assert_eq!(last.map(|it| it.retain), will.then_some(retain));
        prop_assert_eq!(login.map(|it| it.password), (!will).then_some(topic));
        prop_assert_eq!(new.properties.unwrap().receive_maximum, Some(limits::MQTT_RECEIVE_MAX));
    }

    /// Noise never panics, never reads beyond its packet, and never waits for nothing.
    #[test]
    fn noise_is_a_packet_or_an_error_and_always_ends(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        first in 0_u8..16,
        framed: bool,
        is_5: bool,
    ) {
        let mut codec = codec(if is_5 { Version::V5 } else { Version::V311 });
        let mut input = BytesMut::new();
        if framed {
            input.extend([first << 4, u8::try_from(bytes.len() % 128).unwrap()]);
        }
        input.extend(&bytes);
        while input.has_remaining() {
            let before = input.len();
            match codec.decode(&mut input) {
                Ok(Some(_)) => prop_assert!(input.len() < before),
                Ok(None) => {
                    prop_assert!(!framed || input.len() < 2 || input.len() < 5 + 200);
                    break;
                }
                Err(CodecError::Io(_) | CodecError::TooLarge { .. }) => {
                    prop_assert!(false, "reading failed as if it had been writing");
                }
                Err(_) => break,
            }
        }
    }
}

#[test]
fn a_packet_that_comes_byte_by_byte_is_read_once() {
    let whole = b"\x90\x06\x00\x07\x00\x01\x87\x9E";
    let mut input = BytesMut::new();
    let mut codec = codec(Version::V5);
    for (at, byte) in whole.iter().enumerate() {
        assert!(input.len() == at && codec.decode(&mut input).unwrap().is_none());
        input.extend([*byte]);
    }
    let reasons = [0x01, 0x87, 0x9E].map(Reason::new).to_vec();
    assert_eq!(codec.decode(&mut input).unwrap(), Some(Packet::SubAck { id: 7, reasons }));
    assert!(input.is_empty());
}
