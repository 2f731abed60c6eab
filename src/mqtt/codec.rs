//! Packets to bytes and back, for MQTT 3.1.1 and 5, which differ in a byte of the protocol level,
//! in properties and in reason codes. Only what a client needs; it reads strictly, because what
//! answers may be anything.
//!
//! The packets are ours because the codec at hand for MQTT 5 loses what a broker says last: it
//! swallows a DISCONNECT that carries nothing but its reason, which is how mosquitto says goodbye,
//! and calls an unknown reason malformed (ARCHITECTURE.md).

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::fields::{self, Property, Value};
use super::packet::{ConnAck, Connect, Granted, Outgoing, Packet, Publish};
use super::reason::{Reason, Told};
use super::settings::Version;
use crate::limits;

/// Frames packets of one version.
pub(super) struct Codec {
    pub(super) version: Version,
    /// Bytes behind the fixed header of the largest packet that is read.
    pub(super) incoming_bytes_max: usize,
    /// Bytes of the largest packet that is written, header included.
    pub(super) outgoing_bytes_max: usize,
}

/// What reading or writing a packet failed with.
#[derive(Debug)]
pub(super) enum CodecError {
    /// The wire.
    Io(io::Error),
    /// Bytes that are not MQTT; as a sentence part.
    Malformed(&'static str),
    /// A packet of so many bytes is more than is read here.
    TooLong(usize),
    /// A packet of ours; nothing was written.
    TooLarge { bytes: usize, bytes_max: usize },
}

impl From<io::Error> for CodecError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// First bytes of the packets that are written (section 2.1): type and its fixed flags.
const CONNECT: u8 = 0x10;
const PUBLISH_QOS_1: u8 = 0x32;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const PINGREQ: u8 = 0xC0;
const DISCONNECT: u8 = 0xE0;

/// Properties that are written or read (MQTT 5, section 2.2.2.2).
mod property {
    pub(super) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(super) const SESSION_EXPIRY: u8 = 0x11;
    pub(super) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(super) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(super) const SERVER_REFERENCE: u8 = 0x1C;
    pub(super) const REASON_STRING: u8 = 0x1F;
    pub(super) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(super) const TOPIC_ALIAS: u8 = 0x23;
    pub(super) const MAXIMUM_QOS: u8 = 0x24;
    pub(super) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(super) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
}

impl Encoder<Outgoing<'_>> for Codec {
    type Error = CodecError;

    fn encode(&mut self, packet: Outgoing<'_>, out: &mut BytesMut) -> Result<(), CodecError> {
        let is_5 = self.version == Version::V5;
        match packet {
            Outgoing::Connect(connect) => {
                let mut body = BytesMut::new();
                put_connect(&connect, is_5, &mut body);
                self.begin(out, CONNECT, body.len())?;
                out.put_slice(&body);
            }
            Outgoing::Publish { id, topic, payload, retain, expiry_s } => {
                let expiry_s = expiry_s.filter(|_| is_5);
                let properties = expiry_s.map_or(0, |_| 5);
                let bytes = 2 + topic.len() + 2 + usize::from(is_5) + properties + payload.len();
                self.begin(out, PUBLISH_QOS_1 | u8::from(retain), bytes)?;
                fields::put_bytes(out, topic.as_bytes());
                out.put_u16(id.get());
                if is_5 {
                    fields::put_variable(out, properties);
                }
                if let Some(seconds) = expiry_s {
                    out.put_u8(property::MESSAGE_EXPIRY);
                    out.put_u32(seconds);
                }
                out.put_slice(payload);
            }
            // In MQTT 5 too, success needs neither reason nor properties (section 3.4.2.1).
            Outgoing::PubAck(id) => {
                self.begin(out, PUBACK, 2)?;
                out.put_u16(id);
            }
            Outgoing::Subscribe { id, filters } => {
                let texts: usize = filters.iter().map(|filter| 2 + filter.len() + 1).sum();
                self.begin(out, SUBSCRIBE, 2 + usize::from(is_5) + texts)?;
                out.put_u16(id.get());
                if is_5 {
                    out.put_u8(0);
                }
                for filter in filters {
                    fields::put_bytes(out, filter.as_bytes());
                    out.put_u8(1);
                }
            }
            Outgoing::PingReq => self.begin(out, PINGREQ, 0)?,
            Outgoing::Disconnect => self.begin(out, DISCONNECT, 0)?,
        }
        Ok(())
    }
}

impl Codec {
    /// Writes the fixed header of a packet with so many bytes behind it, if the broker takes it.
    fn begin(&self, out: &mut BytesMut, first: u8, remaining: usize) -> Result<(), CodecError> {
        let bytes = 1 + fields::variable_bytes(remaining) + remaining;
        let bytes_max = self.outgoing_bytes_max.min(fields::VARIABLE_MAX);
        if bytes > bytes_max {
            return Err(CodecError::TooLarge { bytes, bytes_max });
        }
        out.reserve(bytes);
        out.put_u8(first);
        fields::put_variable(out, remaining);
        Ok(())
    }
}

/// Writes what stands behind the fixed header of CONNECT (section 3.1).
fn put_connect(connect: &Connect<'_>, is_5: bool, out: &mut BytesMut) {
    let Connect { client_id, keep_alive, clean, user, password, will } = connect;
    fields::put_bytes(out, b"MQTT");
    out.put_u8(if is_5 { 5 } else { 4 });
    let will_flags = will.map_or(0, |(_, _, retain)| 0x04 | 0x08 | u8::from(retain) << 5);
    let login_flags = u8::from(user.is_some()) << 7 | u8::from(password.is_some()) << 6;
    out.put_u8(u8::from(*clean) << 1 | will_flags | login_flags);
    out.put_u16(*keep_alive);
    if is_5 {
        // A session that should outlive its connection has to say so; 0 is the default.
        let expiry = if *clean { 0 } else { limits::MQTT_SESSION_EXPIRY_S };
        let packet = u32::try_from(limits::MQTT_PACKET_BYTES_MAX).unwrap_or(u32::MAX);
        let mut properties = BytesMut::with_capacity(13);
        properties.put_u8(property::SESSION_EXPIRY);
        properties.put_u32(expiry);
        properties.put_u8(property::RECEIVE_MAXIMUM);
        properties.put_u16(limits::MQTT_RECEIVE_MAX);
        properties.put_u8(property::MAXIMUM_PACKET_SIZE);
        properties.put_u32(packet);
        fields::put_variable(out, properties.len());
        out.put_slice(&properties);
    }
    fields::put_bytes(out, client_id.as_bytes());
    if let Some((topic, payload, _)) = will {
        if is_5 {
            out.put_u8(0);
        }
        fields::put_bytes(out, topic.as_bytes());
        fields::put_bytes(out, payload);
    }
    for text in [user, password].into_iter().flatten() {
        fields::put_bytes(out, text.as_bytes());
    }
}

impl Decoder for Codec {
    type Item = Packet;
    type Error = CodecError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Packet>, CodecError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        // Only PUBLISH has flags of its own, only PUBREL, SUBSCRIBE and UNSUBSCRIBE have a fixed
        // one that is set (section 2.1.3); brokers send none of those three to us.
        if first >> 4 != 3 && first & 0x0F != 0 {
            return Err(CodecError::Malformed("a packet with flags that no packet has"));
        }
        let Some((remaining, own)) = fields::variable(rest)? else { return Ok(None) };
        if remaining > self.incoming_bytes_max {
            return Err(CodecError::TooLong(remaining));
        }
        let whole = 1 + own + remaining;
        if bytes.len() < whole {
            bytes.reserve(whole - bytes.len());
            return Ok(None);
        }
        let mut body = bytes.split_to(whole).freeze();
        body.advance(1 + own);
        self.packet(first, body).map(Some)
    }
}

impl Codec {
    fn packet(&self, first: u8, mut body: Bytes) -> Result<Packet, CodecError> {
        let is_5 = self.version == Version::V5;
        let packet = match first >> 4 {
            2 => connack(&mut body, is_5)?,
            3 => return publish(first, body, is_5),
            4 => {
                let id = fields::two(&mut body)?;
                Packet::PubAck { id, reason: reason(&mut body, is_5)?.0 }
            }
            9 => suback(&mut body, is_5)?,
            13 => Packet::PingResp,
            14 if is_5 => {
                let (reason, told) = reason(&mut body, is_5)?;
                Packet::Disconnect { reason, told }
            }
            other => return Ok(Packet::Other(name(other, is_5)?)),
        };
        if body.is_empty() { Ok(packet) } else { Err(LONG) }
    }
}

const LONG: CodecError = CodecError::Malformed("a packet with bytes behind its last field");

/// CONNACK (section 3.2).
fn connack(body: &mut Bytes, is_5: bool) -> Result<Packet, CodecError> {
    let flags = fields::byte(body)?;
    let code = fields::byte(body)?;
    if flags > 1 || !is_5 && code > 5 {
        return Err(CodecError::Malformed("CONNACK with a meaning that is not known"));
    }
    let mut granted = Granted::default();
    let (mut text, mut elsewhere) = (None, None);
    // A broker that does not know version 5 answers in its own, without properties.
    if is_5 && !body.is_empty() {
        fields::properties(body, |Property { id, value }| {
            match (id, value) {
                (property::RECEIVE_MAXIMUM, Value::Number(n)) => {
                    granted.in_flight_max = u16::try_from(n).unwrap_or(u16::MAX);
                }
                (property::MAXIMUM_PACKET_SIZE, Value::Number(n)) => {
                    granted.packet_bytes_max = Some(n);
                }
                (property::MAXIMUM_QOS, Value::Number(n)) => granted.qos_1 = n > 0,
                (property::RETAIN_AVAILABLE, Value::Number(n)) => granted.retain = n > 0,
                (property::SERVER_KEEP_ALIVE, Value::Number(n)) => {
                    granted.keep_alive_s = u16::try_from(n).ok();
                }
                (property::SESSION_EXPIRY, Value::Number(n)) => granted.session_expiry_s = Some(n),
                (property::ASSIGNED_CLIENT_ID, Value::Text(id)) => {
                    granted.client_id = Some(fields::text(&id)?.to_owned());
                }
                (property::REASON_STRING, Value::Text(said)) => text = Some(said),
                (property::SERVER_REFERENCE, Value::Text(said)) => elsewhere = Some(said),
                _ => {}
            }
            Ok(())
        })?;
        // Section 3.2.2.3: it is a protocol error for either to be zero.
        if granted.in_flight_max == 0 || granted.packet_bytes_max == Some(0) {
            return Err(CodecError::Malformed("CONNACK that allows nothing"));
        }
    }
    let told = told(text.as_ref(), elsewhere.as_ref())?;
    Ok(Packet::ConnAck(ConnAck { code, present: flags == 1, granted, told }))
}

/// PUBLISH (section 3.3).
fn publish(first: u8, mut body: Bytes, is_5: bool) -> Result<Packet, CodecError> {
    let topic = fields::data(&mut body)?;
    let id = match first >> 1 & 0x03 {
        0 => None,
        1 => Some(fields::identifier(&mut body)?),
        2 => return Ok(Packet::Other("a message of QoS 2")),
        _ => return Err(CodecError::Malformed("a message of QoS 3")),
    };
    if is_5 {
        fields::properties(&mut body, |property| match property.id {
            // Section 3.3.2.3.4: we allow no alias, so none may come.
            property::TOPIC_ALIAS => Err(CodecError::Malformed("a topic alias")),
            _ => Ok(()),
        })?;
    }
    if topic.is_empty() {
        return Err(CodecError::Malformed("a message without a topic"));
    }
    Ok(Packet::Publish(Publish {
        id,
        topic: fields::text(&topic)?.to_owned(),
        payload: body,
        retain: first & 0x01 != 0,
        duplicate: first & 0x08 != 0,
    }))
}

/// SUBACK (section 3.9).
fn suback(body: &mut Bytes, is_5: bool) -> Result<Packet, CodecError> {
    let id = fields::two(body)?;
    if is_5 {
        fields::properties(body, |_| Ok(()))?;
    }
    let codes = body.split_to(body.len());
    Ok(Packet::SubAck { id, reasons: codes.iter().map(|code| Reason::new(*code)).collect() })
}

/// Reads a reason and its properties; both may be left out for success (sections 3.4.2, 3.14.2).
fn reason(body: &mut Bytes, is_5: bool) -> Result<(Reason, Told), CodecError> {
    if !is_5 || body.is_empty() {
        return Ok((Reason::new(0), Told::default()));
    }
    let reason = Reason::new(fields::byte(body)?);
    let (mut text, mut elsewhere) = (None, None);
    if !body.is_empty() {
        fields::properties(body, |Property { id, value }| {
            match (id, value) {
                (property::REASON_STRING, Value::Text(said)) => text = Some(said),
                (property::SERVER_REFERENCE, Value::Text(said)) => elsewhere = Some(said),
                _ => {}
            }
            Ok(())
        })?;
    }
    Ok((reason, told(text.as_ref(), elsewhere.as_ref())?))
}

fn told(text: Option<&Bytes>, elsewhere: Option<&Bytes>) -> Result<Told, CodecError> {
    let text = text.map(|said| fields::text(said)).transpose()?;
    let elsewhere = elsewhere.map(|said| fields::text(said)).transpose()?;
    Ok(Told::new(text, elsewhere))
}

/// Names a packet that is not for us.
fn name(kind: u8, is_5: bool) -> Result<&'static str, CodecError> {
    Ok(match kind {
        1 => "CONNECT",
        5 => "PUBREC",
        6 => "PUBREL",
        7 => "PUBCOMP",
        8 => "SUBSCRIBE",
        10 => "UNSUBSCRIBE",
        11 => "UNSUBACK",
        12 => "PINGREQ",
        14 => "DISCONNECT",
        // Section 4.12: only for a client that asked for an authentication method.
        15 if is_5 => "AUTH, an exchange that we did not ask for,",
        _ => return Err(CodecError::Malformed("a packet of a kind that does not exist")),
    })
}
