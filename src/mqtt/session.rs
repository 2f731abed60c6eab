//! One connection to a broker after its login. A session changes nothing but its own wire: what
//! was in flight when it ends is its owner's to send again.
//!
//! Every method is safe to cancel: bytes that were not yet taken stay in the write buffer and go
//! out with the next call, a packet that was half read is read on. A session only lives while
//! [`Session::next`] is awaited: there it reads, answers, pings and notices that the broker is
//! gone.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use rumqttc::{
    Codec, Connect, ConnectReturnCode, LastWill, Packet, PubAck, Publish, QoS, Subscribe,
    SubscribeFilter, SubscribeReasonCode,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::Framed;

use super::error::{ConnectError, Rejection, SessionError, Step};
use super::ids::{PacketId, PacketIds};
use super::pace::{Pace, seconds};
use super::settings::Broker;
use crate::limits;

/// What carries the bytes: TCP, TLS, or a pipe in tests.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection to a broker that has accepted our login.
pub struct Session {
    framed: Framed<Box<dyn Wire>, Codec>,
    present: bool,
    ids: PacketIds,
    /// Arrived while waiting for a SUBACK.
    kept: VecDeque<Arrived>,
    kept_bytes: usize,
    /// Delivered by the last [`Session::next`], acknowledged by the next.
    owed: Option<Receipt>,
    unmatched: u64,
    pace: Pace,
}

/// What a broker sends that its client cares for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// The broker has taken over the publish of this identifier; it is free again.
    Acknowledged(PacketId),
    /// A message to one of our subscriptions.
    Received(Message),
}

/// A message from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic it was published to.
    pub topic: String,
    /// Payload; shares the memory of its packet.
    pub payload: Bytes,
    /// Whether the broker kept it from before our subscription: old news.
    pub retain: bool,
    /// Whether the broker may have sent it before.
    pub duplicate: bool,
}

/// The acknowledgement that a message is owed. It is worth nothing on another session.
#[derive(Debug, PartialEq)]
pub struct Receipt(PubAck);

/// Something for the owner, and the acknowledgement that the broker waits for.
struct Arrived {
    incoming: Incoming,
    owes: Option<Receipt>,
}

/// Longest text on the wire (MQTT 3.1.1, section 1.5.3).
const TEXT_BYTES_MAX: usize = 0xFFFF;

/// Remaining length of CONNACK (MQTT 3.1.1, section 3.2.1).
const CONNACK_REMAINING_BYTES: usize = 2;

/// Acknowledgements are gathered while packets wait to be read, up to this many bytes.
const GATHERED_BYTES_MAX: usize = 8 * 1024;

impl Session {
    /// Logs in over a wire that is already open.
    ///
    /// # Errors
    /// As [`super::connect`]; but time is not bounded here.
    pub async fn open(
        wire: Box<dyn Wire>,
        broker: &Broker,
        clean: bool,
    ) -> Result<Self, ConnectError> {
        let login = login(broker, clean)?;
        let codec = Codec {
            // CONNACK first, and nothing longer: noise with a large length is not waited for.
            max_incoming_size: CONNACK_REMAINING_BYTES,
            max_outgoing_size: limits::MQTT_PACKET_BYTES_MAX,
        };
        let mut framed = Framed::new(wire, codec);
        // The bound on what is buffered is kept here, where a stall is noticed.
        framed.set_backpressure_boundary(usize::MAX);
        let mut session = Self {
            framed,
            present: false,
            ids: PacketIds::after_earlier_connections(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            owed: None,
            unmatched: 0,
            pace: Pace::new(broker.keep_alive),
        };
        let answer = async {
            session.put(Packet::Connect(login))?;
            session.packet().await
        };
        match answer.await {
            Ok(Packet::ConnAck(answer)) if answer.code == ConnectReturnCode::Success => {
                session.present = answer.session_present;
                session.framed.codec_mut().max_incoming_size = limits::MQTT_PACKET_BYTES_MAX;
                Ok(session)
            }
            Ok(Packet::ConnAck(answer)) => Err(ConnectError::Rejected(rejection(answer.code))),
            Ok(other) => Err(ConnectError::Violation(format!("{} first", name(&other)))),
            Err(SessionError::Tls(fault)) => Err(ConnectError::Tls(fault)),
            Err(SessionError::Violation(what)) => Err(ConnectError::Violation(what)),
            Err(SessionError::Silent(_) | SessionError::Stalled) => {
                Err(ConnectError::Silent(Step::Login))
            }
            Err(_) => Err(ConnectError::Closed(Step::Login)),
        }
    }

    /// Returns whether the broker remembered an earlier session of this client.
    #[must_use]
    pub fn session_present(&self) -> bool {
        self.present
    }

    /// Returns how many acknowledgements came for nothing that was in flight; they are ignored.
    #[must_use]
    pub fn unmatched(&self) -> u64 {
        self.unmatched
    }

    /// Subscribes with QoS 1 and waits for the broker's answer. What arrives meanwhile is kept for
    /// [`Session::next`]. Cancelling it leaves the subscription undecided.
    ///
    /// # Errors
    /// [`SessionError::Filter`] names the first filter that the broker refuses; the others stand.
    pub async fn subscribe(&mut self, filters: &[String]) -> Result<(), SessionError> {
        if filters.is_empty() {
            return Ok(());
        }
        if let Some(bad) = filters.iter().find(|f| f.len() > TEXT_BYTES_MAX || f.is_empty()) {
            return Err(SessionError::Filter(bad.clone()));
        }
        let id = self.ids.take().ok_or(SessionError::NoPacketId)?;
        let filter = |path: &String| SubscribeFilter::new(path.clone(), QoS::AtLeastOnce);
        let mut subscribe = Subscribe::new_many(filters.iter().map(filter));
        subscribe.pkid = id.get();
        self.put(Packet::Subscribe(subscribe))?;
        let codes = match timeout(limits::MQTT_CONNECT_TIME_MAX, self.suback(id)).await {
            Ok(codes) => codes?,
            Err(_) => return Err(SessionError::Unanswered),
        };
        if codes.len() != filters.len() {
            let what = format!("{} answers to {} filters", codes.len(), filters.len());
            return Err(SessionError::Violation(what));
        }
        match codes.iter().position(|code| *code == SubscribeReasonCode::Failure) {
            Some(at) => Err(SessionError::Filter(filters[at].clone())),
            None => Ok(()),
        }
    }

    /// Publishes with QoS 1 and returns as soon as the bytes are on their way. The packet
    /// identifier comes back in [`Incoming::Acknowledged`], once, when the broker has it.
    ///
    /// # Errors
    /// [`SessionError::TooLarge`], [`SessionError::Topic`] and [`SessionError::NoPacketId`] before
    /// anything is written; the others end the session. A publish that was cancelled or failed may
    /// still arrive at the broker.
    pub async fn publish(
        &mut self,
        topic: &str,
        payload: Bytes,
        retain: bool,
    ) -> Result<PacketId, SessionError> {
        if topic.is_empty() || topic.len() > TEXT_BYTES_MAX || topic.contains(['+', '#', '\0']) {
            return Err(SessionError::Topic(topic.to_owned()));
        }
        let mut publish = Publish::from_bytes(topic, QoS::AtLeastOnce, payload);
        publish.retain = retain;
        let id = self.ids.take().ok_or(SessionError::NoPacketId)?;
        publish.pkid = id.get();
        if let Err(error) = self.put(Packet::Publish(publish)) {
            self.ids.free(id);
            return Err(error);
        }
        self.flush().await?;
        Ok(id)
    }

    /// Waits for the next acknowledgement or message, and keeps the session alive meanwhile.
    ///
    /// A message is acknowledged by the call after the one that returned it: whoever asks for more
    /// has dealt with it. A session that is dropped in between gets it again, when it is not clean.
    ///
    /// # Errors
    /// Whatever ends the session: it is closed, silent, stalled, or breaks the protocol.
    pub async fn next(&mut self) -> Result<Incoming, SessionError> {
        let (incoming, receipt) = self.receive().await?;
        self.owed = receipt;
        Ok(incoming)
    }

    /// As [`Session::next`], but leaves the acknowledgement of a message to its owner: what has to
    /// be done first may take its time, and other messages may pass meanwhile, as many as the
    /// broker allows.
    ///
    /// # Errors
    /// As [`Session::next`].
    pub async fn receive(&mut self) -> Result<(Incoming, Option<Receipt>), SessionError> {
        if let Some(receipt) = self.owed.take() {
            self.acknowledge(receipt)?;
        }
        let arrived = match self.kept.pop_front() {
            Some(kept) => {
                self.kept_bytes -= kept.bytes();
                kept
            }
            None => loop {
                let packet = self.packet().await?;
                if let Some(arrived) = self.sort(packet)? {
                    break arrived;
                }
            },
        };
        Ok((arrived.incoming, arrived.owes))
    }

    /// Acknowledges a message that [`Session::receive`] returned on this session. The bytes leave
    /// with the next call that waits.
    ///
    /// # Errors
    /// As [`Session::next`].
    pub fn acknowledge(&mut self, receipt: Receipt) -> Result<(), SessionError> {
        self.put(Packet::PubAck(receipt.0))
    }

    /// Says goodbye, so that the broker does not publish the last will.
    pub async fn disconnect(mut self) {
        let goodbye = async {
            if let Some(receipt) = self.owed.take() {
                self.acknowledge(receipt)?;
            }
            self.put(Packet::Disconnect)?;
            self.flush().await?;
            // Closing is the broker's part now; TLS says it on its own layer too.
            let _ = self.framed.get_mut().shutdown().await;
            Ok::<(), SessionError>(())
        };
        // Whoever does not hear a goodbye publishes the will, which is then the truth.
        let _ = timeout(limits::MQTT_GOODBYE_TIME_MAX, goodbye).await;
    }
}

/// Below the public calls: packets in and out, and time.
impl Session {
    /// Puts a packet into the write buffer. Never waits.
    fn put(&mut self, packet: Packet) -> Result<(), SessionError> {
        Pin::new(&mut self.framed).start_send(packet).map_err(SessionError::from_codec)?;
        let now = Instant::now();
        self.pace.sent = now;
        self.pace.stuck.get_or_insert(now);
        Ok(())
    }

    /// Waits until the broker's side has taken all that is buffered.
    async fn flush(&mut self) -> Result<(), SessionError> {
        loop {
            let due = self.pace.stall_due();
            match timeout_at(due, std::future::poll_fn(|cx| self.poll_flush(cx))).await {
                Ok(result) => return result,
                Err(_) => self.pace.check_stall()?,
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        let waiting = self.framed.write_buffer().len();
        let polled = Pin::new(&mut self.framed).poll_flush(cx);
        match polled {
            Poll::Ready(Ok(())) => self.pace.stuck = None,
            Poll::Ready(Err(_)) => {}
            Poll::Pending if self.framed.write_buffer().len() < waiting => {
                self.pace.stuck = Some(Instant::now());
            }
            Poll::Pending => {}
        }
        polled.map_err(SessionError::from_codec)
    }

    /// Reads a packet; while there is none, writes what is buffered.
    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<Result<Packet, SessionError>> {
        // A broker that sends and does not take our acknowledgements is not read on.
        if self.framed.write_buffer().len() > GATHERED_BYTES_MAX {
            ready!(self.poll_flush(cx))?;
        }
        match Pin::new(&mut self.framed).poll_next(cx) {
            Poll::Ready(Some(Ok(packet))) => {
                self.pace.received = Instant::now();
                self.pace.pinged = None;
                Poll::Ready(Ok(packet))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(SessionError::from_codec(error))),
            Poll::Ready(None) => {
                Poll::Ready(Err(SessionError::Closed("the broker closed the connection")))
            }
            Poll::Pending => {
                if self.pace.stuck.is_some()
                    && let Poll::Ready(Err(error)) = self.poll_flush(cx)
                {
                    return Poll::Ready(Err(error));
                }
                Poll::Pending
            }
        }
    }

    /// Waits for a packet, and pings in time.
    async fn packet(&mut self) -> Result<Packet, SessionError> {
        loop {
            let due = self.pace.due();
            match timeout_at(due, std::future::poll_fn(|cx| self.poll_packet(cx))).await {
                Ok(result) => return result,
                Err(_) => {
                    self.pace.check_stall()?;
                    self.pace.check_silence()?;
                    if self.pace.ping_is_due() {
                        self.pace.pinged = Some(Instant::now());
                        self.put(Packet::PingReq)?;
                    }
                }
            }
        }
    }

    /// Sorts out what a packet means. `None` is for what needs no word to the owner.
    fn sort(&mut self, packet: Packet) -> Result<Option<Arrived>, SessionError> {
        match packet {
            Packet::PubAck(ack) => {
                if let Some(id) = PacketId::new(ack.pkid)
                    && self.ids.free(id)
                {
                    return Ok(Some(Arrived { incoming: Incoming::Acknowledged(id), owes: None }));
                }
                self.unmatched += 1;
                Ok(None)
            }
            Packet::Publish(publish) => Ok(Some(Arrived {
                owes: match publish.qos {
                    QoS::AtMostOnce => None,
                    QoS::AtLeastOnce => Some(Receipt(PubAck::new(publish.pkid))),
                    QoS::ExactlyOnce => {
                        return Err(SessionError::Violation("a message of QoS 2".to_owned()));
                    }
                },
                incoming: Incoming::Received(Message {
                    topic: publish.topic,
                    payload: publish.payload,
                    retain: publish.retain,
                    duplicate: publish.dup,
                }),
            })),
            // The answer to a subscription that was cancelled.
            Packet::SubAck(answer) => {
                if !PacketId::new(answer.pkid).is_some_and(|id| self.ids.free(id)) {
                    self.unmatched += 1;
                }
                Ok(None)
            }
            Packet::PingResp => Ok(None),
            other => Err(SessionError::Violation(format!("{} to a client", name(&other)))),
        }
    }

    /// Waits for the answer to SUBSCRIBE `id`; keeps what else arrives.
    async fn suback(&mut self, id: PacketId) -> Result<Vec<SubscribeReasonCode>, SessionError> {
        loop {
            match self.packet().await? {
                Packet::SubAck(answer) if answer.pkid == id.get() => {
                    self.ids.free(id);
                    return Ok(answer.return_codes);
                }
                other => {
                    let Some(arrived) = self.sort(other)? else { continue };
                    self.kept_bytes += arrived.bytes();
                    self.kept.push_back(arrived);
                    if self.kept_bytes > limits::MQTT_KEPT_BYTES_MAX {
                        let what = format!("{} bytes before SUBACK", self.kept_bytes);
                        return Err(SessionError::Violation(what));
                    }
                }
            }
        }
    }
}

impl Arrived {
    /// Returns what keeping it costs, bytes; more than nothing even for an empty message.
    fn bytes(&self) -> usize {
        let own = match &self.incoming {
            Incoming::Acknowledged(_) => 0,
            Incoming::Received(message) => message.topic.len() + message.payload.len(),
        };
        own + size_of::<Self>()
    }
}

fn login(broker: &Broker, clean: bool) -> Result<Connect, ConnectError> {
    let mut connect = Connect::new(broker.client_id.clone());
    connect.keep_alive = seconds(broker.keep_alive);
    connect.clean_session = clean;
    let mut longest = broker.client_id.len();
    if let Some(login) = &broker.login {
        let password = login.password.read().map_err(|e| ConnectError::Settings(e.to_string()))?;
        if login.user.is_empty() {
            // MQTT 3.1.1, section 3.1.2.9.
            return Err(ConnectError::Settings("a password needs a user name".to_owned()));
        }
        longest = longest.max(login.user.len()).max(password.len());
        connect.set_login(login.user.clone(), password);
    }
    if let Some(will) = &broker.will {
        longest = longest.max(will.topic.len()).max(will.payload.len());
        connect.last_will = Some(LastWill {
            topic: will.topic.clone(),
            message: will.payload.clone(),
            qos: QoS::AtLeastOnce,
            retain: will.retain,
        });
    }
    if longest > TEXT_BYTES_MAX {
        let why = "client id, user, password and will may have 65,535 bytes each";
        return Err(ConnectError::Settings(why.to_owned()));
    }
    Ok(connect)
}

fn rejection(code: ConnectReturnCode) -> Rejection {
    match code {
        ConnectReturnCode::RefusedProtocolVersion => Rejection::Version,
        ConnectReturnCode::BadClientId => Rejection::Identifier,
        ConnectReturnCode::Success | ConnectReturnCode::ServiceUnavailable => {
            Rejection::Unavailable
        }
        ConnectReturnCode::BadUserNamePassword => Rejection::BadLogin,
        ConnectReturnCode::NotAuthorized => Rejection::NotAuthorised,
    }
}

fn name(packet: &Packet) -> &'static str {
    match packet {
        Packet::Connect(_) => "CONNECT",
        Packet::ConnAck(_) => "a second CONNACK",
        Packet::Publish(_) => "PUBLISH",
        Packet::PubAck(_) => "PUBACK",
        Packet::PubRec(_) => "PUBREC",
        Packet::PubRel(_) => "PUBREL",
        Packet::PubComp(_) => "PUBCOMP",
        Packet::Subscribe(_) => "SUBSCRIBE",
        Packet::SubAck(_) => "SUBACK",
        Packet::Unsubscribe(_) => "UNSUBSCRIBE",
        Packet::UnsubAck(_) => "UNSUBACK",
        Packet::PingReq => "PINGREQ",
        Packet::PingResp => "PINGRESP",
        Packet::Disconnect => "DISCONNECT",
    }
}
