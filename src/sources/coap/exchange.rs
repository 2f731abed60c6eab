//! One conversation with one CoAP server over one connected UDP socket: confirmable requests
//! repeated as RFC 7252 section 4.2 asks, answers in the acknowledgement or on their own, bodies in
//! blocks (RFC 7959), notifications (RFC 7641). One request at a time (NSTART = 1). The socket is
//! connected, so the kernel drops what comes from anyone else.

use std::fmt;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use coap_lite::{
    CoapOption, MessageClass, MessageType, Packet, RequestType as Method, ResponseType,
};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use super::address::Address;
use super::wire::{self, Block};
use crate::backoff::random;
use crate::limits;

/// First wait for an acknowledgement (ACK_TIMEOUT, RFC 7252 section 4.8), stretched by up to
/// ACK_RANDOM_FACTOR = 1.5 and doubled with each repeat.
const ACK_TIMEOUT_MS: u64 = 2000;
/// Repeats of a request after the first (MAX_RETRANSMIT, RFC 7252 section 4.8).
const RETRANSMISSIONS_MAX: u32 = 4;
/// Token bytes: the most there can be, so that a stranger cannot guess one (section 5.3.1).
const TOKEN_BYTES: usize = 8;
/// Diagnostic text that is shown to a person, bytes.
const DIAGNOSTIC_BYTES_MAX: usize = 120;

/// Ties answers to their request (RFC 7252 section 5.3.1).
pub(super) type Token = [u8; TOKEN_BYTES];

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody answered, or nobody is there; why, in words.
    Silent(&'static str),
    /// The server answered with an error: its code and what it says about it.
    Refused(String, String),
    /// The answer is not what it should be; why, in words.
    Malformed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(why) => f.write_str(why),
            Self::Refused(code, _) => f.write_str(code),
            Self::Malformed(why) => f.write_str(why),
        }
    }
}

/// A conversation. It ends with its first failure to send or receive; another is begun then, which
/// asks the name service again.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    address: &'a Address,
    socket: UdpSocket,
    next_id: u16,
    buffer: Vec<u8>,
    patience: Duration,
    /// The observation, whose notifications may come between any two datagrams.
    watched: Option<Token>,
    /// A notification that came while another answer was awaited; only the last is of interest.
    aside: Option<Packet>,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// The first message of it, which carries the options.
    pub head: Packet,
    /// All its blocks.
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns its Observe sequence number, when the server has agreed to send changes.
    pub(super) fn sequence(&self) -> Option<u32> {
        wire::number(&self.head, CoapOption::Observe)
    }

    /// Returns how many seconds it is fresh, when it says so.
    pub(super) fn max_age(&self) -> Option<u32> {
        wire::number(&self.head, CoapOption::MaxAge)
    }
}

impl<'a> Conversation<'a> {
    /// Looks the host up and opens a socket to it. `patience` is how long one exchange may take.
    /// A name may stand for several addresses, of which not all need lead to the server, as with
    /// `localhost`; `turn` says which is tried, so that a caller who counts up tries them all.
    pub(super) async fn open(
        address: &'a Address,
        patience: Duration,
        turn: usize,
    ) -> Result<Self, Failure> {
        let lookup = timeout(patience, lookup_host((address.host.as_str(), address.port))).await;
        let server = lookup
            .map_err(|_| Failure::Silent("the name service does not answer"))?
            .map_err(|_| Failure::Silent("the name is not known"))?
            .collect::<Vec<_>>();
        let server = *server
            .get(turn % server.len().max(1))
            .ok_or(Failure::Silent("the name has no address"))?;
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await.map_err(|e| gone(e.kind()))?;
        socket.connect(server).await.map_err(|e| gone(e.kind()))?;
        Ok(Self {
            address,
            socket,
            next_id: (random() & 0xffff) as u16,
            buffer: vec![0; limits::COAP_DATAGRAM_BYTES_MAX],
            patience,
            watched: None,
            aside: None,
        })
    }

    /// Gets the resource once.
    pub(super) async fn get(&mut self) -> Result<Answer, Failure> {
        let first = self.exchange(token(), &[]).await?;
        self.complete(first).await
    }

    /// Registers as an observer, anew with the token it had before. The answer is the resource as
    /// it is now; it has a sequence number when the server agreed.
    pub(super) async fn register(&mut self) -> Result<Answer, Failure> {
        let token = *self.watched.get_or_insert_with(token);
        let first = self.exchange(token, &[(CoapOption::Observe, Vec::new())]).await?;
        self.aside = None;
        self.complete(first).await
    }

    /// Waits for the next notification of the observation, as long as it takes.
    pub(super) async fn notified(&mut self) -> Result<Packet, Failure> {
        if let Some(packet) = self.aside.take() {
            return Ok(packet);
        }
        loop {
            let (kind, packet) = self.receive(None).await?;
            if kind == Kind::Notification {
                return Ok(packet);
            }
        }
    }

    /// Fetches the blocks of an answer that are still missing.
    pub(super) async fn complete(&mut self, head: Packet) -> Result<Answer, Failure> {
        refuse_errors(&head)?;
        let mut body = head.payload.clone();
        let mut block = block2(&head)?;
        if block.is_some_and(|block| block.num != 0) {
            return Err(Failure::Malformed("it begins with another block than the first".into()));
        }
        let etag = head.get_first_option(CoapOption::ETag);
        while let Some(Block { more: true, exponent, .. }) = block {
            let size = 16 << exponent;
            if !body.len().is_multiple_of(size) || body.is_empty() {
                return Err(Failure::Malformed("a block is not full".into()));
            }
            let num = u32::try_from(body.len() / size).unwrap_or(u32::MAX);
            let wanted = Block { num, more: false, exponent };
            let next = self.exchange(token(), &[(CoapOption::Block2, wanted.bytes())]).await?;
            refuse_errors(&next)?;
            if next.get_first_option(CoapOption::ETag) != etag {
                return Err(Failure::Malformed("it changed while it was fetched".into()));
            }
            block = block2(&next)?;
            if block.is_none_or(|block| block.offset() != body.len()) {
                return Err(Failure::Malformed("another block came than was asked for".into()));
            }
            if next.payload.is_empty() && block.is_some_and(|block| block.more) {
                return Err(Failure::Malformed("a block is empty and more are to follow".into()));
            }
            body.extend_from_slice(&next.payload);
            if body.len() > limits::COAP_BODY_BYTES_MAX {
                return Err(Failure::Malformed("it is longer than 64 KiB".into()));
            }
        }
        Ok(Answer { head, body })
    }

    /// Tells the server that nobody observes any more, once and without waiting: when the datagram
    /// is lost, the server's next notification finds a closed port.
    pub(super) async fn farewell(&mut self) {
        if let Some(token) = self.watched.take() {
            let mut request = self.request(token, &[(CoapOption::Observe, vec![1])]);
            request.header.set_type(MessageType::NonConfirmable);
            if let Ok(bytes) = request.to_bytes() {
                let _ = self.socket.send(&bytes).await;
            }
        }
    }

    /// Returns whether a notification came while another answer was awaited.
    pub(super) fn is_overtaken(&self) -> bool {
        self.aside.is_some()
    }

    /// Ends the observation on this side; late notifications are rejected from now on.
    pub(super) fn forget(&mut self) {
        self.watched = None;
        self.aside = None;
    }

    fn request(&mut self, token: Token, options: &[(CoapOption, Vec<u8>)]) -> Packet {
        let mut request = Packet::new();
        request.header.code = MessageClass::Request(Method::Get);
        request.header.set_type(MessageType::Confirmable);
        request.header.message_id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        request.set_token(token.to_vec());
        self.address.write(&mut request);
        for (option, value) in options {
            request.add_option(*option, value.clone());
        }
        request
    }

    /// Sends a request until its answer comes, at most as long as one exchange may take.
    async fn exchange(
        &mut self,
        token: Token,
        options: &[(CoapOption, Vec<u8>)],
    ) -> Result<Packet, Failure> {
        let request = self.request(token, options);
        let id = request.header.message_id;
        let bytes = request
            .to_bytes()
            .map_err(|_| Failure::Malformed("the address is too long for one datagram".into()))?;
        let end = Instant::now() + self.patience;
        let mut wait = Duration::from_millis(ACK_TIMEOUT_MS + random() % ACK_TIMEOUT_MS / 2);
        let silent = Failure::Silent("no answer in time");
        for _ in 0..=RETRANSMISSIONS_MAX {
            self.socket.send(&bytes).await.map_err(|e| gone(e.kind()))?;
            let until = end.min(Instant::now() + wait);
            match timeout_at(until, self.answer(id, token)).await {
                Ok(Ok(Some(answer))) => return Ok(answer),
                // The answer will come in a message of its own: nothing is repeated any more.
                Ok(Ok(None)) => {
                    let late = timeout_at(end, self.answer(id, token)).await;
                    return late.map_or(Err(silent.clone()), |late| late?.ok_or(silent));
                }
                Ok(Err(failure)) => return Err(failure),
                Err(_) if Instant::now() >= end => break,
                Err(_) => wait *= 2,
            }
        }
        Err(silent)
    }

    /// Waits for the answer to request `id`, or for the server's word that it will come later.
    async fn answer(&mut self, id: u16, token: Token) -> Result<Option<Packet>, Failure> {
        loop {
            let (kind, packet) = self.receive(Some(token)).await?;
            let same = packet.header.message_id == id;
            match (kind, packet.header.get_type()) {
                (Kind::Answer, MessageType::Acknowledgement) if !same => {}
                (Kind::Answer, _) => return Ok(Some(packet)),
                (Kind::Notification, _) => self.aside = Some(packet),
                (Kind::Empty, MessageType::Acknowledgement) if same => return Ok(None),
                (Kind::Empty, MessageType::Reset) if same => {
                    return Err(Failure::Silent("the device rejects the request"));
                }
                _ => {}
            }
        }
    }

    /// Receives the next message for `token`, for the observation, or without an owner; the last
    /// kind only when it is empty, which concerns a message id. What asks for it is acknowledged
    /// when it is ours and reset when it is not, which also ends an observation nobody knows.
    async fn receive(&mut self, token: Option<Token>) -> Result<(Kind, Packet), Failure> {
        loop {
            let length = self.socket.recv(&mut self.buffer).await.map_err(|e| gone(e.kind()))?;
            let Some(packet) = wire::read_packet(&self.buffer[..length]) else { continue };
            let kind = if packet.header.code == MessageClass::Empty {
                Kind::Empty
            } else if is_answer_to(&packet, token) {
                Kind::Answer
            } else if is_answer_to(&packet, self.watched) {
                Kind::Notification
            } else {
                Kind::Stray
            };
            if packet.header.get_type() == MessageType::Confirmable {
                let ours = matches!(kind, Kind::Answer | Kind::Notification);
                let reply = if ours { MessageType::Acknowledgement } else { MessageType::Reset };
                let reply = wire::empty(reply, packet.header.message_id);
                // When it is lost, the server repeats its message and is told again.
                let _ = self.socket.send(&reply).await;
            }
            if kind != Kind::Stray {
                return Ok((kind, packet));
            }
        }
    }
}

/// What a received message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Empty,
    Answer,
    Notification,
    Stray,
}

fn is_answer_to(packet: &Packet, token: Option<Token>) -> bool {
    matches!(packet.header.code, MessageClass::Response(_) | MessageClass::Reserved(0x40..))
        && token.is_some_and(|token| packet.get_token() == token)
}

fn block2(packet: &Packet) -> Result<Option<Block>, Failure> {
    match packet.get_first_option(CoapOption::Block2).map(|value| Block::read(value)) {
        Some(None) => Err(Failure::Malformed("its Block2 option cannot be read".into())),
        block => Ok(block.flatten()),
    }
}

/// Passes 2.xx; anything else is the server's refusal.
pub(super) fn refuse_errors(packet: &Packet) -> Result<(), Failure> {
    let code = u8::from(packet.header.code);
    if code >> 5 == 2 && !matches!(packet.header.code, MessageClass::Response(ResponseType::Valid))
    {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&packet.payload);
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let text = text[..text.floor_char_boundary(DIAGNOSTIC_BYTES_MAX)].trim().to_owned();
    Err(Failure::Refused(packet.header.code.to_string(), text))
}

fn token() -> Token {
    random().to_be_bytes()
}

/// Says why a socket cannot send or receive. A connected UDP socket hears when nobody listens.
fn gone(kind: ErrorKind) -> Failure {
    Failure::Silent(match kind {
        ErrorKind::ConnectionRefused => "nobody listens on that port",
        ErrorKind::HostUnreachable => "the host cannot be reached",
        ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => "there is no network to it",
        ErrorKind::PermissionDenied => "a firewall on this machine forbids it",
        _ => "the system cannot send to it",
    })
}
