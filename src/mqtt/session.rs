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
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::Framed;

use super::codec::Codec;
use super::error::{ConnectError, SessionError, Step};
use super::flow::Flow;
use super::ids::{PacketId, PacketIds};
use super::incoming::{Arrived, Incoming, Message, Receipt};
use super::login::{Login, TEXT_BYTES_MAX, unfit};
use super::pace::Pace;
use super::packet::{Granted, Outgoing, Packet};
use super::preset::Preset;
use super::reason::Reason;
use super::settings::{Broker, Version};
use crate::limits;

/// What carries the bytes: TCP, TLS, or a pipe in tests.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection to a broker that has accepted our login.
pub struct Session {
    framed: Framed<Box<dyn Wire>, Codec>,
    present: bool,
    preset: &'static Preset,
    /// Of what is not retained.
    expiry_s: Option<u32>,
    granted: Granted,
    flow: Flow,
    ids: PacketIds,
    /// Publishes that the broker has not answered yet; SUBSCRIBE is not among them.
    publishing: usize,
    /// Arrived while waiting for a SUBACK, or for room to publish.
    kept: VecDeque<Arrived>,
    kept_bytes: usize,
    /// Delivered by the last [`Session::next`], acknowledged by the next.
    owed: Option<Receipt>,
    unmatched: u64,
    pace: Pace,
}

/// Remaining length of CONNACK (MQTT 3.1.1, section 3.2.1).
const CONNACK_BYTES: usize = 2;

/// The same with the properties of MQTT 5: five texts of 64 KiB would be allowed, and no broker
/// has that much to say.
const CONNACK_5_BYTES_MAX: usize = 8 * 1024;

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
        let login = Login::read(broker)?;
        let codec = Codec {
            version: broker.version,
            // CONNACK first, and nothing longer: noise with a large length is not waited for.
            incoming_bytes_max: match broker.version {
                Version::V311 => CONNACK_BYTES,
                Version::V5 => CONNACK_5_BYTES_MAX,
            },
            outgoing_bytes_max: limits::MQTT_PACKET_BYTES_MAX,
        };
        let mut framed = Framed::new(wire, codec);
        // The bound on what is buffered is kept here, where a stall is noticed.
        framed.set_backpressure_boundary(usize::MAX);
        let mut session = Self {
            framed,
            present: false,
            preset: broker.preset,
            expiry_s: broker.expiry.map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX)),
            granted: Granted::default(),
            flow: Flow::new(broker.preset),
            ids: PacketIds::after_earlier_connections(),
            publishing: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            owed: None,
            unmatched: 0,
            pace: Pace::new(broker.keep_alive),
        };
        let answer = async {
            session.put(Outgoing::Connect(login.connect(broker, clean)))?;
            session.packet().await
        };
        match answer.await {
            Ok(Packet::ConnAck(answer)) if answer.code == 0 => {
                session.present = answer.present;
                session.begin(answer.granted)?;
                Ok(session)
            }
            Ok(Packet::ConnAck(answer)) => Err(ConnectError::rejected(broker.version, answer)),
            Ok(other) => Err(ConnectError::Violation(format!("{} first", other.name()))),
            Err(SessionError::Tls(fault)) => Err(ConnectError::Tls(fault)),
            Err(SessionError::Violation(what)) => Err(ConnectError::Violation(what)),
            Err(SessionError::Silent(_) | SessionError::Stalled) => {
                Err(ConnectError::Silent(Step::Login))
            }
            Err(_) => Err(ConnectError::Closed(Step::Login)),
        }
    }

    /// Takes over what the broker allows.
    fn begin(&mut self, mut granted: Granted) -> Result<(), ConnectError> {
        if let Some(why) = unfit(&granted) {
            return Err(ConnectError::Unfit(why));
        }
        if let Some(seconds) = granted.keep_alive_s.filter(|seconds| *seconds > 0) {
            self.pace = Pace::new(Duration::from_secs(seconds.into()));
        }
        let codec = self.framed.codec_mut();
        codec.incoming_bytes_max = limits::MQTT_PACKET_BYTES_MAX;
        if let Some(bytes_max) = granted.packet_bytes_max {
            let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
            codec.outgoing_bytes_max = codec.outgoing_bytes_max.min(bytes_max);
        }
        granted.in_flight_max = granted.in_flight_max.min(self.preset.in_flight_max);
        granted.retain &= self.preset.retain;
        self.granted = granted;
        Ok(())
    }

    /// Returns what the broker allows on this session, by its own words and by its preset. It is
    /// kept here: a publish waits while as many are in flight, one that is too large is refused
    /// before anything is sent, and one that should be retained goes out unretained where nothing
    /// is. A broker that speaks MQTT 3.1.1 cannot say anything of it.
    #[must_use]
    pub fn limits(&self) -> &Granted {
        &self.granted
    }

    /// Returns how many more publishes the broker takes before it has to acknowledge one.
    #[must_use]
    pub fn room(&self) -> usize {
        usize::from(self.granted.in_flight_max).saturating_sub(self.publishing)
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
            return Err(SessionError::Filter(bad.clone(), Reason::new(0x8F)));
        }
        let id = self.ids.take().ok_or(SessionError::NoPacketId)?;
        self.put(Outgoing::Subscribe { id, filters })?;
        let reasons = match timeout(limits::MQTT_CONNECT_TIME_MAX, self.suback(id)).await {
            Ok(reasons) => reasons?,
            Err(_) => return Err(SessionError::Unanswered),
        };
        if reasons.len() != filters.len() {
            let what = format!("{} answers to {} filters", reasons.len(), filters.len());
            return Err(SessionError::Violation(what));
        }
        match filters.iter().zip(reasons).find(|(_, reason)| reason.is_failure()) {
            Some((filter, reason)) => Err(SessionError::Filter(filter.clone(), reason)),
            None => Ok(()),
        }
    }

    /// Publishes with QoS 1 and returns as soon as the bytes are on their way; where the broker
    /// allows few publishes in flight or in a second, it first waits for its turn. The packet
    /// identifier comes back in [`Incoming::Acknowledged`] or [`Incoming::Refused`], once.
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
        let fits = topic.len() <= TEXT_BYTES_MAX && self.preset.takes_topic(topic);
        if topic.is_empty() || !fits || topic.contains(['+', '#', '\0']) {
            return Err(SessionError::Topic(topic.to_owned()));
        }
        let bytes = payload.len();
        if let Some(bytes_max) = self.preset.payload_bytes_max.filter(|max| bytes > *max) {
            return Err(SessionError::TooLarge { bytes, bytes_max });
        }
        self.wait_for_turn(bytes + topic.len()).await?;
        let id = self.ids.take().ok_or(SessionError::NoPacketId)?;
        let retain = retain && self.granted.retain;
        // What is retained is the last word until there is another.
        let expiry_s = self.expiry_s.filter(|_| !retain);
        let publish = Outgoing::Publish { id, topic, payload: &payload, retain, expiry_s };
        if let Err(error) = self.put(publish) {
            self.ids.free(id);
            return Err(error);
        }
        self.publishing += 1;
        self.flow.take(bytes + topic.len());
        // The window holds the bytes; the write buffer has its own copy by now.
        drop(payload);
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
        self.put(Outgoing::PubAck(receipt.0))
    }

    /// Says goodbye, so that the broker does not publish the last will.
    pub async fn disconnect(mut self) {
        let goodbye = async {
            if let Some(receipt) = self.owed.take() {
                self.acknowledge(receipt)?;
            }
            self.put(Outgoing::Disconnect)?;
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
    fn put(&mut self, packet: Outgoing<'_>) -> Result<(), SessionError> {
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
                        self.put(Outgoing::PingReq)?;
                    }
                }
            }
        }
    }

    /// Sorts out what a packet means. `None` is for what needs no word to the owner.
    fn sort(&mut self, packet: Packet) -> Result<Option<Arrived>, SessionError> {
        match packet {
            Packet::PubAck { id, reason } => {
                let Some(id) = PacketId::new(id).filter(|id| self.ids.free(*id)) else {
                    self.unmatched += 1;
                    return Ok(None);
                };
                self.publishing = self.publishing.saturating_sub(1);
                let incoming = match reason.is_failure() {
                    true => Incoming::Refused(id, reason),
                    false => Incoming::Acknowledged(id),
                };
                Ok(Some(Arrived { incoming, owes: None }))
            }
            Packet::Publish(publish) => Ok(Some(Arrived {
                owes: publish.id.map(Receipt),
                incoming: Incoming::Received(Message {
                    topic: publish.topic,
                    payload: publish.payload,
                    retain: publish.retain,
                    duplicate: publish.duplicate,
                }),
            })),
            // The answer to a subscription that was cancelled.
            Packet::SubAck { id, .. } => {
                if !PacketId::new(id).is_some_and(|id| self.ids.free(id)) {
                    self.unmatched += 1;
                }
                Ok(None)
            }
            Packet::Disconnect { reason, told } => Err(SessionError::Ended(reason, told)),
            Packet::PingResp => Ok(None),
            other => Err(SessionError::Violation(other.name().to_owned())),
        }
    }

    /// Waits until the broker takes one more publish, of so many bytes; keeps what else arrives.
    async fn wait_for_turn(&mut self, bytes: usize) -> Result<(), SessionError> {
        let given_up = Instant::now() + limits::MQTT_WRITE_TIME_MAX;
        loop {
            let (is_full, turn) = (self.room() == 0, self.flow.due(bytes));
            if !is_full && turn <= Instant::now() {
                return Ok(());
            }
            let due = if is_full { given_up } else { turn };
            match timeout_at(due, self.packet()).await {
                Ok(packet) => self.keep(packet?)?,
                Err(_) if is_full => return Err(SessionError::Full(self.granted.in_flight_max)),
                Err(_) => {}
            }
        }
    }

    /// Waits for the answer to SUBSCRIBE `id`; keeps what else arrives.
    async fn suback(&mut self, id: PacketId) -> Result<Vec<Reason>, SessionError> {
        loop {
            match self.packet().await? {
                Packet::SubAck { id: answered, reasons } if answered == id.get() => {
                    self.ids.free(id);
                    return Ok(reasons);
                }
                other => self.keep(other)?,
            }
        }
    }

    /// Keeps what a packet means for [`Session::next`].
    fn keep(&mut self, packet: Packet) -> Result<(), SessionError> {
        let Some(arrived) = self.sort(packet)? else { return Ok(()) };
        self.kept_bytes += arrived.bytes();
        self.kept.push_back(arrived);
        if self.kept_bytes > limits::MQTT_KEPT_BYTES_MAX {
            let what = format!("{} bytes before an answer", self.kept_bytes);
            return Err(SessionError::Violation(what));
        }
        Ok(())
    }
}
