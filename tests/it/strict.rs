//! A broker that hangs up on whatever a cloud would refuse, by figures of its own: it shares neither
//! the table of presets nor the codec with what it judges.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rumqttc::{
    Codec, ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, Subscribe,
    SubscribeReasonCode,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

/// What is taken; all else ends the connection and is written down.
#[derive(Clone)]
pub struct Rules {
    pub payload_bytes_max: usize,
    pub topic_bytes_max: usize,
    pub slashes_max: usize,
    pub retain: bool,
    pub keep_alive: RangeInclusive<u16>,
    pub in_flight_max: usize,
    /// Topics of one SUBSCRIBE; 0 where there is nothing of ours to hear.
    pub filters_max: usize,
    pub publishes_per_s: f64,
    pub bytes_per_s: f64,
    /// Whether a client of this identifier may publish to this topic.
    pub topic: fn(&str, &str) -> bool,
    /// Whether this login is right.
    pub login: fn(&Connect) -> bool,
    /// Whether this payload can be read there.
    pub payload: fn(&str, &[u8]) -> bool,
    /// The name that the TLS handshake has to ask for.
    pub server_name: Option<&'static str>,
    /// The protocol that it has to ask for.
    pub protocol: Option<&'static str>,
}

/// AWS IoT Core: 128 KiB, 256 bytes and 7 slashes of topic, keep-alive from 30 s to 20 min, 100
/// publishes and 512 KiB a second, 100 unacknowledged, 8 topics a SUBSCRIBE, no QoS 2, TLS for its own
/// name only.
pub fn aws() -> Rules {
    Rules {
        payload_bytes_max: 131_072,
        topic_bytes_max: 256,
        slashes_max: 7,
        retain: true,
        keep_alive: 30..=1200,
        in_flight_max: 100,
        filters_max: 8,
        publishes_per_s: 100.0,
        bytes_per_s: 524_288.0,
        topic: |_, _| true,
        login: |connect| connect.client_id.len() <= 128,
        payload: |_, _| true,
        server_name: Some("localhost"),
        protocol: None,
    }
}

/// Azure IoT Hub: 256 KiB with everything, one topic a device, nothing retained, a user name of its
/// own form, keep-alive up to 1177 s.
pub fn azure() -> Rules {
    Rules {
        payload_bytes_max: 262_144,
        topic_bytes_max: 65_535,
        slashes_max: usize::MAX,
        retain: false,
        keep_alive: 1..=1177,
        in_flight_max: 100,
        filters_max: 0,
        publishes_per_s: 100.0,
        bytes_per_s: f64::INFINITY,
        topic: |client, topic| {
            topic
                .strip_prefix(&format!("devices/{client}/messages/events/"))
                .is_some_and(|properties| !properties.contains(['/', ' ', '+', '#']))
        },
        login: |connect| {
            connect.login.as_ref().is_some_and(|login| {
                let hub = format!("localhost/{}/?api-version=", connect.client_id);
                login.username.starts_with(&hub)
            })
        },
        payload: |_, _| true,
        server_name: Some("localhost"),
        protocol: None,
    }
}

/// ThingsBoard: JSON in the topics of its gateway and device API, 64 KiB, the access token as the
/// user name.
pub fn thingsboard() -> Rules {
    Rules {
        payload_bytes_max: 65_536,
        topic_bytes_max: 65_535,
        slashes_max: usize::MAX,
        retain: false,
        keep_alive: 1..=65_535,
        in_flight_max: 100,
        filters_max: 0,
        publishes_per_s: 100.0,
        bytes_per_s: f64::INFINITY,
        topic: |_, topic| ["v1/gateway/telemetry", "v1/devices/me/attributes"].contains(&topic),
        login: |connect| {
            connect
                .login
                .as_ref()
                .is_some_and(|login| login.username == "A1_TEST_TOKEN" && login.password.is_empty())
        },
        payload: |topic, payload| {
            let Ok(json) = serde_json::from_slice::<serde_json::Value>(payload) else {
                return false;
            };
            let Some(object) = json.as_object() else { return false };
            topic != "v1/gateway/telemetry"
                || object.values().all(|list| {
                    list.as_array().is_some_and(|list| {
                        list.iter().all(|it| it["ts"].is_i64() && it["values"].is_object())
                    })
                })
        },
        server_name: None,
        protocol: None,
    }
}

/// What it has seen.
#[derive(Default)]
pub struct Seen {
    refused: Mutex<Vec<String>>,
    messages: Mutex<Vec<(String, Bytes)>>,
    subscribed: Mutex<Vec<String>>,
    connected: Mutex<HashMap<String, CancellationToken>>,
}

/// A running broker.
pub struct Strict {
    pub port: u16,
    pub seen: Arc<Seen>,
    stop: CancellationToken,
}

/// Its certificate and key, and the CA of its clients; all in PEM.
pub struct Identity<'a> {
    pub chain: &'a Path,
    pub key: &'a Path,
    pub clients: &'a Path,
}

impl Strict {
    pub async fn start(rules: Rules, identity: Option<Identity<'_>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = identity.map(|identity| acceptor(&identity, rules.protocol));
        let (seen, stop) = (Arc::<Seen>::default(), CancellationToken::new());
        let strict = Self { port, seen: Arc::clone(&seen), stop: stop.clone() };
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (rules, seen, tls) = (rules.clone(), Arc::clone(&seen), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else { return serve(stream, &rules, &seen).await };
                    match tls.accept(stream).await {
                        Err(e) => seen.refuse(&format!("a TLS handshake: {e}")),
                        Ok(stream) => {
                            let name = stream.get_ref().1.server_name();
                            let protocol = stream.get_ref().1.alpn_protocol();
                            if name != rules.server_name {
                                seen.refuse(&format!("the server name {name:?}"));
                            } else if protocol != rules.protocol.map(str::as_bytes) {
                                seen.refuse(&format!("the protocol {protocol:?}"));
                            } else {
                                serve(stream, &rules, &seen).await;
                            }
                        }
                    }
                });
            }
        }));
        strict
    }

    pub fn refused(&self) -> Vec<String> {
        self.seen.refused.lock().unwrap().clone()
    }

    pub fn subscribed(&self) -> Vec<String> {
        self.seen.subscribed.lock().unwrap().clone()
    }

    pub fn messages(&self) -> Vec<(String, Bytes)> {
        self.seen.messages.lock().unwrap().clone()
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Seen {
    fn refuse(&self, what: &str) {
        self.refused.lock().unwrap().push(what.to_owned());
    }
}

fn acceptor(identity: &Identity<'_>, protocol: Option<&str>) -> TlsAcceptor {
    let certificates = |path| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(identity.clients));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            certificates(identity.chain),
            PrivateKeyDer::from_pem_file(identity.key).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// How long an acknowledgement takes; so more than one publish is in flight.
const ACKNOWLEDGED_AFTER: Duration = Duration::from_millis(20);

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, rules: &Rules, seen: &Seen) {
    let codec = Codec { max_incoming_size: 16 << 20, max_outgoing_size: 16 << 20 };
    let mut framed = Framed::new(stream, codec);
    let Some(Ok(Packet::Connect(connect))) = framed.next().await else { return };
    let kicked = match welcome(&connect, rules, seen) {
        Ok(kicked) => kicked,
        Err(why) => return seen.refuse(&why),
    };
    let _ = framed.send(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))).await;
    let mut client = Client::new(rules, connect.client_id);
    loop {
        let due = client.owed.front().map(|(at, _)| *at);
        let packet = tokio::select! {
            () = kicked.cancelled() => return,
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let Some((_, id)) = client.owed.pop_front() else { continue };
                let _ = framed.send(Packet::PubAck(PubAck::new(id))).await;
                continue;
            }
            packet = framed.next() => packet,
        };
        match packet {
            Some(Ok(Packet::Publish(publish))) => match client.judge(&publish, rules) {
                Err(why) => return seen.refuse(&why),
                Ok(()) => {
                    if publish.qos == QoS::AtLeastOnce {
                        client.owed.push_back((Instant::now() + ACKNOWLEDGED_AFTER, publish.pkid));
                    }
                    seen.messages.lock().unwrap().push((publish.topic, publish.payload));
                }
            },
            Some(Ok(Packet::Subscribe(wish))) => match heard(&wish, rules) {
                Err(why) => return seen.refuse(&why),
                Ok(answer) => {
                    let topics = wish.filters.into_iter().map(|filter| filter.path);
                    seen.subscribed.lock().unwrap().extend(topics);
                    let _ = framed.send(Packet::SubAck(answer)).await;
                }
            },
            Some(Ok(Packet::PingReq)) => {
                let _ = framed.send(Packet::PingResp).await;
            }
            Some(Ok(Packet::Disconnect)) | None => return,
            Some(Ok(other)) => return seen.refuse(&format!("{other:?}")),
            Some(Err(e)) => return seen.refuse(&format!("bytes: {e}")),
        }
    }
}

/// Judges a SUBSCRIBE; returns the answer to it.
fn heard(wish: &Subscribe, rules: &Rules) -> Result<SubAck, String> {
    let count = wish.filters.len();
    if !(1..=rules.filters_max).contains(&count) {
        return Err(format!("a subscription to {count} topics"));
    }
    let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    Ok(SubAck::new(wish.pkid, vec![granted; count]))
}

/// Judges a CONNECT; whoever has the same identifier is thrown out.
fn welcome(connect: &Connect, rules: &Rules, seen: &Seen) -> Result<CancellationToken, String> {
    if !rules.keep_alive.contains(&connect.keep_alive) {
        return Err(format!("a keep-alive of {} s", connect.keep_alive));
    }
    if !(rules.login)(connect) {
        return Err(format!("the login {:?}", connect.login));
    }
    if let Some(will) = &connect.last_will {
        if will.retain && !rules.retain {
            return Err("a retained will".to_owned());
        }
        if !(rules.topic)(&connect.client_id, &will.topic) {
            return Err(format!("the will's topic {}", will.topic));
        }
    }
    let mine = CancellationToken::new();
    let before = seen.connected.lock().unwrap().insert(connect.client_id.clone(), mine.clone());
    if let Some(before) = before {
        before.cancel();
    }
    Ok(mine)
}

/// One connection's account.
struct Client {
    id: String,
    owed: VecDeque<(Instant, u16)>,
    publishes: Bucket,
    bytes: Bucket,
}

/// A second's worth, filled again as time passes: a stall of this machine is no offence.
struct Bucket {
    per_s: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(per_s: f64) -> Self {
        Self { per_s, left: per_s, at: Instant::now() }
    }

    fn takes(&mut self, count: f64) -> bool {
        let now = Instant::now();
        let more = (now - self.at).as_secs_f64() * self.per_s.min(1e12);
        (self.left, self.at) = ((self.left + more).min(self.per_s) - count, now);
        self.left >= 0.0
    }
}

impl Client {
    fn new(rules: &Rules, id: String) -> Self {
        let (publishes, bytes) =
            (Bucket::new(rules.publishes_per_s), Bucket::new(rules.bytes_per_s));
        Self { id, owed: VecDeque::new(), publishes, bytes }
    }

    #[expect(clippy::cast_precision_loss, reason = "sizes of messages")]
    fn judge(&mut self, publish: &Publish, rules: &Rules) -> Result<(), String> {
        let (topic, bytes) = (&publish.topic, publish.payload.len());
        let slashes = topic.matches('/').count();
        let faults = [
            (publish.qos == QoS::ExactlyOnce, "QoS 2".to_owned()),
            (publish.retain && !rules.retain, format!("a retained message to {topic}")),
            (bytes > rules.payload_bytes_max, format!("a payload of {bytes} bytes")),
            (topic.len() > rules.topic_bytes_max, format!("a topic of {} bytes", topic.len())),
            (slashes > rules.slashes_max, format!("a topic with {slashes} slashes")),
            (!(rules.topic)(&self.id, topic), format!("the topic {topic}")),
            (!(rules.payload)(topic, &publish.payload), format!("a payload to {topic}")),
            (self.owed.len() >= rules.in_flight_max, "too many in flight".to_owned()),
            (!self.publishes.takes(1.0), "publishes too fast".to_owned()),
            (!self.bytes.takes(bytes as f64), "bytes too fast".to_owned()),
        ];
        match faults.into_iter().find(|(is_fault, _)| *is_fault) {
            Some((_, what)) => Err(what),
            None => Ok(()),
        }
    }
}
