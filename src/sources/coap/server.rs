//! The listener's protocol, without a socket: a datagram in, at most one datagram out, readings to
//! the outlet on the way. RFC 7252 section 4 and 5, RFC 7959 for uploads, RFC 7967 for senders that
//! want no answer.
//!
//! Order of checks, cheapest first, so that a flood costs little: allow list, rate of the sender,
//! shape of the datagram, repeat of an earlier message, options, path, body. What is refused
//! before the repeat check is not remembered.
//!
//! A body is acknowledged when all its groups are on their way. What the pipeline's queue cannot
//! take at once waits here as [`Server::backlog`], one body at most; while it waits, other bodies
//! are refused with 5.03. So a device's whole night of samples fits one post, and memory stays
//! bounded.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use coap_lite::link_format::{LINK_ATTR_CONTENT_FORMAT, LINK_ATTR_RESOURCE_TYPE, LinkFormatWrite};
use coap_lite::{
    CoapOption, MessageClass, MessageType, Packet, RequestType as Method, ResponseType as Code,
};
use tokio::time::Instant;

use super::answers::Answers;
use super::limiter::Limiter;
use super::payload::{self, Place, Refusal};
use super::rows::{self, Lists};
use super::settings::Listener;
use super::uploads::{Taken, Uploads};
use super::wire::{self, Block, Datagram};
use crate::backoff::random;
use crate::events::{self, Notice};
use crate::limits;
use crate::reading::Group;
use crate::sources::Outlet;

/// Seconds after which a sender may come again when the queue was full.
const BEHIND_SECONDS: u32 = 5;
/// Seconds after which a sender may come again when no new name can be taken.
const NAMES_SECONDS: u32 = 3600;
/// Content format of `/.well-known/core`: application/link-format (RFC 6690).
const LINK_FORMAT: u16 = 40;

/// How many datagrams met which fate, since the listener started.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Counters {
    /// All that came.
    pub received: u64,
    /// From outside the allow list.
    pub strangers: u64,
    /// Over their sender's rate.
    pub limited: u64,
    /// Not CoAP.
    pub malformed: u64,
    /// Pings, stray answers, acknowledgements and resets.
    pub rejected: u64,
    /// Repeats, answered from memory.
    pub repeated: u64,
    /// Bodies taken.
    pub taken: u64,
    /// Requests answered with an error.
    pub refused: u64,
}

/// A condition that has no end of its own: over when not seen for [`limits::COAP_CALM_TIME`].
#[derive(Debug)]
struct Standing {
    code: &'static events::Code,
    last: Option<Instant>,
}

/// The state of one listener.
#[derive(Debug)]
pub(super) struct Server {
    subject: String,
    allow: Vec<(IpAddr, u8)>,
    limiter: Limiter,
    answers: Answers,
    uploads: Uploads,
    lists: Lists,
    next_id: u16,
    standing: [Standing; 5],
    links: String,
    /// Groups of the last body that the queue could not take at once, earliest first.
    pub backlog: VecDeque<Group>,
    /// What happened to datagrams.
    pub counters: Counters,
}

/// What is answered, before it is a message.
#[derive(Debug)]
struct Answer {
    code: Code,
    block1: Option<Block>,
    block2: Option<Block>,
    size1: Option<u32>,
    max_age: Option<u32>,
    format: Option<u16>,
    payload: Cow<'static, [u8]>,
}

impl Answer {
    fn new(code: Code) -> Self {
        Self {
            code,
            block1: None,
            block2: None,
            size1: None,
            max_age: None,
            format: None,
            payload: Cow::Borrowed(b""),
        }
    }

    fn saying(code: Code, sentence: impl Into<Cow<'static, str>>) -> Self {
        let payload = match sentence.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Self { payload, ..Self::new(code) }
    }
}

impl Server {
    pub(super) fn new(settings: &Listener, now: Instant) -> Self {
        let mut links = String::new();
        let mut write = LinkFormatWrite::new(&mut links);
        write
            .link("/")
            .attr(LINK_ATTR_RESOURCE_TYPE, "fieldgate")
            .attr_quoted(LINK_ATTR_CONTENT_FORMAT, "0 50 110 112");
        // Writing into a string cannot fail.
        let _ = write.finish();
        let standing = [
            &events::coap::STRANGER,
            &events::coap::FLOOD,
            &events::coap::UNREADABLE_POST,
            &events::coap::BEHIND,
            &events::coap::NAMES,
        ];
        Self {
            subject: settings.subject(),
            allow: settings.allow.clone(),
            limiter: Limiter::new(now),
            answers: Answers::default(),
            uploads: Uploads::default(),
            lists: Lists::default(),
            next_id: (random() & 0xffff) as u16,
            standing: standing.map(|code| Standing { code, last: None }),
            links,
            backlog: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes a datagram and returns what is to be sent back to `from`, if anything.
    pub(super) fn on_datagram(
        &mut self,
        outlet: &Outlet,
        from: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Option<Vec<u8>> {
        self.counters.received += 1;
        let address = from.ip().to_canonical();
        if !self.allow.is_empty() && !self.allow.iter().any(|net| within(address, *net)) {
            self.counters.strangers += 1;
            self.tell(outlet, &events::coap::STRANGER, now, |subject| {
                events::coap::stranger(subject, address)
            });
            return None;
        }
        if !self.limiter.admit(address, now) {
            self.counters.limited += 1;
            self.tell(outlet, &events::coap::FLOOD, now, |subject| {
                events::coap::flood(subject, address)
            });
            return None;
        }
        let request = match Datagram::read(bytes) {
            Datagram::Request(request) => request,
            Datagram::Rejected(id) => {
                self.counters.rejected += 1;
                return id.map(|id| wire::empty(MessageType::Reset, id));
            }
            Datagram::Malformed(id) => {
                self.counters.malformed += 1;
                return id.map(|id| wire::empty(MessageType::Reset, id));
            }
        };
        let key = (from, request.header.message_id);
        if let Some(answer) = self.answers.find(key, now) {
            self.counters.repeated += 1;
            return answer.clone();
        }
        let answer = self.answer(outlet, from, &request, now);
        if answer.as_ref().is_none_or(|answer| answer.code.is_error()) {
            self.counters.refused += 1;
        }
        let most = bytes.len() * limits::COAP_AMPLIFICATION_MAX;
        let reply = answer.and_then(|answer| self.encode(&request, answer, most));
        self.answers.remember(key, reply.clone(), now);
        reply
    }

    /// Forgets what has run out and ends conditions that were not seen for a while.
    pub(super) fn on_tick(&mut self, outlet: &Outlet, now: Instant) {
        self.answers.forget(now);
        self.uploads.forget(now);
        for standing in &mut self.standing {
            if standing.last.is_some_and(|at| now.duration_since(at) >= limits::COAP_CALM_TIME) {
                standing.last = None;
                outlet.events.clear(standing.code, &self.subject, "has seen no more of it");
            }
        }
    }

    /// Returns the answer to a request seen for the first time; `None` to reject it in silence.
    fn answer(
        &mut self,
        outlet: &Outlet,
        from: SocketAddr,
        request: &Packet,
        now: Instant,
    ) -> Option<Answer> {
        if let Some(number) = first_critical_unknown(request) {
            if matches!(number, 35 | 39) {
                return Some(Answer::new(Code::ProxyingNotSupported));
            }
            // RFC 7252 section 5.4.1: only a confirmable request is told.
            let told = request.header.get_type() == MessageType::Confirmable;
            return told
                .then(|| Answer::saying(Code::BadOption, format!("option {number} not known")));
        }
        let path: Vec<Vec<u8>> =
            request.get_option(CoapOption::UriPath).into_iter().flatten().cloned().collect();
        if path.iter().map(Vec::as_slice).eq([&b".well-known"[..], b"core"]) {
            return Some(self.discovery(request));
        }
        let reserved = path.first().is_some_and(|segment| segment == b".well-known");
        if reserved || path.is_empty() || path.len() > 2 || path.iter().any(Vec::is_empty) {
            return Some(Answer::saying(Code::NotFound, "use /device/point or /device"));
        }
        if !matches!(request.header.code, MessageClass::Request(Method::Post | Method::Put)) {
            return Some(Answer::saying(Code::MethodNotAllowed, "use POST or PUT"));
        }
        let format = wire::content_format(request);
        let Some(value) = request.get_first_option(CoapOption::Block1) else {
            return Some(self.take(outlet, from, &path, (format, &request.payload), now));
        };
        let Some(block) = Block::read(value) else {
            return Some(Answer::saying(Code::BadRequest, "Block1 cannot be read"));
        };
        let part = (request.payload.as_slice(), format);
        let announced = wire::number(request, CoapOption::Size1);
        let answer = match self.uploads.take((from, path.clone()), block, part, announced, now) {
            Taken::Continue => Answer::new(Code::Continue),
            Taken::Whole(body) => self.take(outlet, from, &path, (format, &body), now),
            Taken::Incomplete => Answer::saying(Code::RequestEntityIncomplete, "block missing"),
            Taken::Uneven => Answer::saying(Code::BadRequest, "block not full"),
            Taken::TooLarge => Answer {
                size1: u32::try_from(limits::COAP_BODY_BYTES_MAX).ok(),
                ..Answer::new(Code::RequestEntityTooLarge)
            },
            Taken::Busy => {
                Answer { max_age: Some(BEHIND_SECONDS), ..Answer::new(Code::ServiceUnavailable) }
            }
        };
        Some(Answer { block1: Some(block), ..answer })
    }

    /// Takes a whole body.
    fn take(
        &mut self,
        outlet: &Outlet,
        from: SocketAddr,
        path: &[Vec<u8>],
        (format, body): (Option<u16>, &[u8]),
        now: Instant,
    ) -> Answer {
        let rows = match place(path)
            .and_then(|place| payload::posted(&place, format, body, outlet.clock.now()))
        {
            Ok(rows) => rows,
            Err(refusal) => {
                let (code, why) = match refusal {
                    Refusal::Bad(why) => (Code::BadRequest, why),
                    Refusal::Unsupported(why) => (Code::UnsupportedContentFormat, why.to_owned()),
                };
                self.tell(outlet, &events::coap::UNREADABLE_POST, now, |subject| {
                    let path = path.iter().map(|part| String::from_utf8_lossy(part));
                    let path = path.collect::<Vec<_>>().join("/").escape_debug().to_string();
                    events::coap::unreadable_post(subject, from.ip().to_canonical(), &path, &why)
                });
                return Answer::saying(code, why);
            }
        };
        let groups = match rows::group(rows, &outlet.points, &mut self.lists) {
            Ok(groups) => groups,
            Err(new) => {
                self.tell(outlet, &events::coap::NAMES, now, |subject| {
                    events::coap::too_many_names(subject, &new.to_string())
                });
                let answer = Answer::saying(Code::ServiceUnavailable, "too many names");
                return Answer { max_age: Some(NAMES_SECONDS), ..answer };
            }
        };
        if !self.hand_on(outlet, groups) {
            self.tell(outlet, &events::coap::BEHIND, now, events::coap::behind);
            return Answer {
                max_age: Some(BEHIND_SECONDS),
                ..Answer::new(Code::ServiceUnavailable)
            };
        }
        self.counters.taken += 1;
        Answer::new(Code::Changed)
    }

    /// Hands all groups of a body on, now or from the backlog, or none of them.
    fn hand_on(&mut self, outlet: &Outlet, groups: Vec<Group>) -> bool {
        if !self.backlog.is_empty() {
            return false;
        }
        let room = groups.len().min(outlet.groups.capacity());
        let Ok(permits) = outlet.groups.try_reserve_many(room) else { return false };
        if room == 0 {
            return false;
        }
        let mut groups = groups.into_iter();
        for (permit, group) in permits.zip(groups.by_ref()) {
            permit.send(group);
        }
        self.backlog.extend(groups);
        true
    }

    /// Answers `GET /.well-known/core` (RFC 6690), in blocks when asked (RFC 7959 section 2.4).
    fn discovery(&self, request: &Packet) -> Answer {
        if request.header.code != MessageClass::Request(Method::Get) {
            return Answer::saying(Code::MethodNotAllowed, "use GET");
        }
        let accept = wire::number(request, CoapOption::Accept);
        if accept.is_some_and(|format| format != u32::from(LINK_FORMAT)) {
            return Answer::new(Code::NotAcceptable);
        }
        let links = self.links.as_bytes();
        let answer = Answer { format: Some(LINK_FORMAT), ..Answer::new(Code::Content) };
        match request.get_first_option(CoapOption::Block2).map(|value| Block::read(value)) {
            None => Answer { payload: links.to_vec().into(), ..answer },
            Some(Some(block)) if block.offset() < links.len() => {
                let end = links.len().min(block.offset() + block.size());
                let part = links[block.offset()..end].to_vec();
                let block = Block { more: end < links.len(), ..block };
                Answer { block2: Some(block), payload: part.into(), ..answer }
            }
            Some(_) => Answer::new(Code::BadOption),
        }
    }

    /// Writes the answer: in the acknowledgement of a confirmable request, in a message of its own
    /// otherwise. Diagnostics are cut so that no more than `most` bytes go out.
    fn encode(&mut self, request: &Packet, answer: Answer, most: usize) -> Option<Vec<u8>> {
        let confirmable = request.header.get_type() == MessageType::Confirmable;
        let id = request.header.message_id;
        if unwanted(request, answer.code) {
            return confirmable.then(|| wire::empty(MessageType::Acknowledgement, id));
        }
        let mut reply = Packet::new();
        reply.header.code = MessageClass::Response(answer.code);
        reply.set_token(request.get_token().to_vec());
        if confirmable {
            reply.header.set_type(MessageType::Acknowledgement);
            reply.header.message_id = id;
        } else {
            reply.header.set_type(MessageType::NonConfirmable);
            reply.header.message_id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1);
        }
        for (option, block) in
            [(CoapOption::Block1, answer.block1), (CoapOption::Block2, answer.block2)]
        {
            if let Some(block) = block {
                reply.add_option(option, block.bytes());
            }
        }
        for (option, number) in [
            (CoapOption::ContentFormat, answer.format.map(u32::from)),
            (CoapOption::MaxAge, answer.max_age),
            (CoapOption::Size1, answer.size1),
        ] {
            if let Some(number) = number {
                reply.add_option(option, wire::uint_bytes(number));
            }
        }
        let bare = reply.to_bytes_unlimited().ok()?;
        let room = most.saturating_sub(bare.len() + 1);
        reply.payload = match answer.payload {
            payload if answer.code.is_error() => cut(&payload, room).to_vec(),
            payload => payload.into_owned(),
        };
        reply.to_bytes_unlimited().ok()
    }

    /// Tells of a condition once while it stands, building its notice only then.
    fn tell(
        &mut self,
        outlet: &Outlet,
        code: &'static events::Code,
        now: Instant,
        notice: impl FnOnce(&str) -> Notice,
    ) {
        let Some(standing) = self.standing.iter_mut().find(|standing| standing.code == code) else {
            return;
        };
        if standing.last.replace(now).is_none() {
            outlet.events.raise(notice(&self.subject));
        }
    }
}

/// Cuts a diagnostic between characters; it was UTF-8 when it was written.
fn cut(text: &[u8], room: usize) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(text) => &text.as_bytes()[..text.floor_char_boundary(room)],
        Err(_) => b"",
    }
}

fn place(path: &[Vec<u8>]) -> Result<Place, Refusal> {
    let mut names = path.iter().map(|segment| {
        let text = std::str::from_utf8(segment).map_err(|_| "the path is not UTF-8".to_owned())?;
        if text.contains('/') { Err("a path segment holds \"/\"".into()) } else { rows::name(text) }
    });
    let device = names.next().ok_or_else(|| "the path is empty".to_owned())??;
    let point = names.next().transpose()?;
    Ok(Place { device, point })
}

/// Returns whether `address` begins with the bits of `network`.
fn within(address: IpAddr, (network, bits): (IpAddr, u8)) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let differing = a.to_bits() ^ n.to_bits();
            differing.leading_zeros() >= u32::from(bits.min(32))
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let differing = a.to_bits() ^ n.to_bits();
            differing.leading_zeros() >= u32::from(bits.min(128))
        }
        _ => false,
    }
}

/// Returns the first critical option (odd numbers, RFC 7252 section 5.4.1) that is not understood,
/// stands more often than it may, or has a length its definition does not allow: the three are to
/// be treated alike (sections 5.4.3 and 5.4.5).
fn first_critical_unknown(request: &Packet) -> Option<u16> {
    let wrong = |(number, values): (&u16, &std::collections::LinkedList<Vec<u8>>)| {
        let (repeatable, lengths) = match CoapOption::from(*number) {
            CoapOption::UriHost => (false, 1..=255),
            CoapOption::UriPort | CoapOption::Accept => (false, 0..=2),
            CoapOption::UriPath | CoapOption::UriQuery => (true, 0..=255),
            CoapOption::Block1 | CoapOption::Block2 => (false, 0..=3),
            _ => return true,
        };
        values.len() > 1 && !repeatable || values.iter().any(|v| !lengths.contains(&v.len()))
    };
    request
        .options()
        .filter(|(number, _)| *number % 2 == 1)
        .find(|option| wrong(*option))
        .map(|(number, _)| *number)
}

/// Returns whether the sender asked not to be answered with this class of code (RFC 7967 section
/// 2.1: one bit a class). A continued upload needs its answers.
fn unwanted(request: &Packet, code: Code) -> bool {
    let Some(classes) = wire::number(request, CoapOption::NoResponse) else { return false };
    let class = u8::from(MessageClass::Response(code)) >> 5;
    code != Code::Continue && classes >> (class - 1) & 1 == 1
}

#[cfg(test)]
mod tests;
