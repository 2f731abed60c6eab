//! A small MQTT 3.1.1 broker for the demonstration: QoS 0 and 1, retained messages, wildcards, last
//! wills, one process, nothing kept on disk. It can be taken away and brought back.
//!
//! It is not a broker for the field: no sessions, no passwords, no TLS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rumqttc::{Codec, ConnAck, ConnectReturnCode, LastWill, Packet, PubAck, Publish, QoS};
use rumqttc::{SubAck, Subscribe, SubscribeReasonCode, UnsubAck, matches};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::codec::Framed;

use crate::limits;

/// Publishes waiting for one subscriber; a slower one loses QoS 0 messages, as brokers do.
const QUEUED_MAX: usize = 256;

/// The broker, shared between its listener, its connections and the demonstration.
#[derive(Clone)]
pub struct Broker {
    hub: Arc<Mutex<Hub>>,
    up: Arc<watch::Sender<bool>>,
}

#[derive(Default)]
struct Hub {
    retained: HashMap<String, Publish>,
    subscribers: HashMap<u64, Subscriber>,
    next: u64,
}

struct Subscriber {
    filters: Vec<String>,
    /// To the subscriber's connection, which ends when this is dropped.
    out: mpsc::Sender<Publish>,
}

impl Broker {
    /// A broker that is up and has no listener yet; see [`Broker::serve`].
    #[must_use]
    pub fn new() -> Self {
        Self { hub: Arc::default(), up: Arc::new(watch::Sender::new(true)) }
    }

    /// Takes the broker away: connections are cut, new ones refused. Retained messages stay, as on
    /// a broker that is only unreachable.
    pub fn take_away(&self) {
        self.up.send_replace(false);
    }

    /// Brings it back.
    pub fn bring_back(&self) {
        self.up.send_replace(true);
    }

    /// Publishes from inside the process.
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>, retain: bool) {
        let mut publish = Publish::from_bytes(topic, QoS::AtMostOnce, payload.into());
        publish.retain = retain;
        self.route(publish);
    }

    /// Receives what is published on topics that match `filter`.
    #[must_use]
    pub fn subscribe(&self, filter: &str) -> mpsc::Receiver<Publish> {
        let (out, inbox) = mpsc::channel(QUEUED_MAX);
        let mut hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
        hub.add(Subscriber { filters: vec![filter.to_owned()], out });
        inbox
    }

    /// Accepts connections on `address` for ever.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn serve(self, address: SocketAddr) -> std::io::Result<()> {
        let mut up = self.up.subscribe();
        let mut connections = JoinSet::new();
        loop {
            // Waiting fails only when the sender is gone, and `self` holds it.
            let _ = up.wait_for(|up| *up).await;
            let listener = TcpListener::bind(address).await?;
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        connections.spawn(self.clone().connection(stream));
                    },
                    _ = up.wait_for(|up| !*up) => break,
                    Some(_) = connections.join_next() => {}
                }
            }
            drop(listener);
            connections.shutdown().await;
        }
    }

    async fn connection(self, stream: TcpStream) {
        let codec = Codec {
            max_incoming_size: limits::MQTT_PACKET_BYTES_MAX,
            max_outgoing_size: limits::MQTT_PACKET_BYTES_MAX,
        };
        let mut framed = Framed::new(stream, codec);
        let Some(Ok(Packet::Connect(connect))) = framed.next().await else { return };
        let welcome = ConnAck::new(ConnectReturnCode::Success, false);
        if framed.send(Packet::ConnAck(welcome)).await.is_err() {
            return;
        }
        let (out, inbox) = mpsc::channel(QUEUED_MAX);
        let id = {
            let mut hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
            hub.add(Subscriber { filters: Vec::new(), out })
        };
        // The future is dropped in the middle when the broker is taken away; the guard still runs.
        let mut goodbye = Goodbye { broker: self.clone(), id, will: connect.last_will };
        if self.converse(&mut framed, inbox, id).await {
            goodbye.will = None;
        }
    }

    /// Serves one client until it leaves; returns whether it said goodbye.
    async fn converse(
        &self,
        framed: &mut Framed<TcpStream, Codec>,
        mut inbox: mpsc::Receiver<Publish>,
        id: u64,
    ) -> bool {
        loop {
            let answer = tokio::select! {
                packet = framed.next() => match packet {
                    Some(Ok(Packet::Publish(publish))) => {
                        let (qos, pkid) = (publish.qos, publish.pkid);
                        self.route(publish);
                        (qos == QoS::AtLeastOnce).then(|| Packet::PubAck(PubAck::new(pkid)))
                    }
                    Some(Ok(Packet::Subscribe(subscribe))) => Some(self.add_filters(id, subscribe)),
                    Some(Ok(Packet::Unsubscribe(unsubscribe))) => {
                        Some(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)))
                    }
                    Some(Ok(Packet::PingReq)) => Some(Packet::PingResp),
                    Some(Ok(Packet::Disconnect)) => return true,
                    Some(Ok(_)) => None,
                    Some(Err(_)) | None => return false,
                },
                publish = inbox.recv() => match publish {
                    Some(publish) => Some(Packet::Publish(publish)),
                    None => return false,
                },
            };
            if let Some(packet) = answer
                && framed.send(packet).await.is_err()
            {
                return false;
            }
        }
    }

    fn add_filters(&self, id: u64, subscribe: Subscribe) -> Packet {
        let mut hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
        let hub = &mut *hub;
        let mut codes = Vec::new();
        for filter in subscribe.filters {
            codes.push(SubscribeReasonCode::Success(QoS::AtMostOnce));
            let Some(subscriber) = hub.subscribers.get_mut(&id) else { continue };
            for publish in hub.retained.values().filter(|p| matches(&p.topic, &filter.path)) {
                let _ = subscriber.out.try_send(publish.clone());
            }
            subscriber.filters.push(filter.path);
        }
        Packet::SubAck(SubAck::new(subscribe.pkid, codes))
    }

    fn route(&self, mut publish: Publish) {
        publish.qos = QoS::AtMostOnce;
        let mut hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
        if publish.retain {
            hub.retained.insert(publish.topic.clone(), publish.clone());
            publish.retain = false;
        }
        for subscriber in hub.subscribers.values() {
            if subscriber.filters.iter().any(|filter| matches(&publish.topic, filter)) {
                let _ = subscriber.out.try_send(publish.clone());
            }
        }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}

impl Hub {
    fn add(&mut self, subscriber: Subscriber) -> u64 {
        self.next += 1;
        self.subscribers.insert(self.next, subscriber);
        self.next
    }
}

/// Ends a connection's subscriptions and says its last will, unless it left politely.
struct Goodbye {
    broker: Broker,
    id: u64,
    will: Option<LastWill>,
}

impl Drop for Goodbye {
    fn drop(&mut self) {
        let mut hub = self.broker.hub.lock().unwrap_or_else(PoisonError::into_inner);
        hub.subscribers.remove(&self.id);
        drop(hub);
        if let Some(will) = self.will.take() {
            self.broker.publish(&will.topic, will.message, will.retain);
        }
    }
}
