//! What a framed serial device is told: resolved by `config`, valid by construction there.

use std::sync::Arc;
use std::time::Duration;

use crate::sources::line::SerialLine;

/// One device alone on its line.
#[derive(Debug, Clone)]
pub struct Device {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// The line it talks on.
    pub line: SerialLine,
    /// How its bytes are cut into frames.
    pub framing: Framing,
    /// What guards a frame, if anything.
    pub checksum: Option<Checksum>,
    /// How a frame becomes points.
    pub parse: Parse,
    /// Its points.
    pub points: Vec<Point>,
    /// Bytes to send to ask for a frame, and how often (at least 10 ms); `None` for devices that
    /// talk by themselves.
    pub ask: Option<(Vec<u8>, Duration)>,
    /// Silence after which its points are reported without data; `None` never reports.
    pub silent_after: Option<Duration>,
}

/// How bytes are cut into frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framing {
    /// Up to this mark, which is not part of the frame.
    End(Vec<u8>),
    /// Always this many bytes. A pause of 50 characters, at least 50 ms, begins a frame anew; until
    /// the first one nothing is taken, because nothing else tells where a frame begins.
    Length(usize),
    /// Between these marks, which are not part of the frame. A start mark inside a frame begins it
    /// anew: the end was lost.
    StartEnd(Vec<u8>, Vec<u8>),
    /// Until the line has been silent this long.
    Gap(Duration),
    /// Consistent Overhead Byte Stuffing, zero-terminated.
    Cobs,
    /// RFC 1055.
    Slip,
}

/// What guards a frame. It is checked over the frame without the checksum, which is then cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// CRC-16/MODBUS, low byte first, in the last two bytes.
    Crc16Modbus,
    /// CRC-16/CCITT-FALSE (IBM-3740), high byte first, in the last two bytes.
    Crc16Ccitt,
    /// CRC-32/ISO-HDLC, high byte first, in the last four bytes.
    Crc32,
    /// Sum of all bytes modulo 256, in the last byte.
    Sum8,
    /// Exclusive or of all bytes, in the last byte.
    Xor8,
    /// Exclusive or between `$` and `*`, as two hexadecimal digits after `*` (NMEA 0183).
    Nmea,
}

/// How a frame becomes points.
#[derive(Debug, Clone)]
pub enum Parse {
    /// A regular expression over the frame as UTF-8 text (Latin-1 where it is not); each point takes
    /// the group of its own name.
    Match(regex::Regex),
    /// A JSON object; each point takes the member its `key` names.
    Json,
}

/// One point of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Name within the device.
    pub name: Arc<str>,
    /// Name of the group in the regular expression, or path in the JSON object (`sensor.temp`).
    pub key: String,
    /// What it is.
    pub form: Form,
    /// `value = raw * scale + offset`.
    pub scale: f64,
    /// See `scale`; in the point's unit.
    pub offset: f64,
    /// Decimals to keep; `None` keeps what the number has.
    pub decimals: Option<u8>,
    /// UCUM or SenML unit; empty when it has none.
    pub unit: Arc<str>,
}

/// What a captured piece of a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A decimal number.
    Number,
    /// `1`, `true`, `on`, `yes` and their opposites, in any case.
    Bool,
    /// Text as it stands, without blanks around it.
    Text,
    /// Whatever it looks like: `true` and `false`, number, else text. The default for JSON.
    Any,
}
