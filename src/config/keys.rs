//! Every key there is: its kind, bounds, default and one line of help. The reader finds unknown
//! keys and defaults here, `config schema` is made from it, and a test holds the annotated example
//! against it; so a key exists once.

mod rule;

use std::time::Duration;

use crate::limits;
use crate::reading::Decimal;

/// One key of a table.
#[derive(Debug)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// As a person would write it; `None` when the key may be absent or must be there.
    pub default: Option<&'static str>,
    /// What it does, one line.
    pub help: &'static str,
}

/// The keys of one table.
pub type Keys = &'static [Key];

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text.
    Text,
    /// Path; relative to the file that names it.
    File,
    /// Text with a unit: `"5s"`; bounds included.
    Duration(Duration, Duration),
    /// Text with a unit: `"2GiB"`; bounds included.
    Size(u64, u64),
    /// A size in a time, which stands first: `"200KiB/s"`; bounds of the size included.
    Rate(&'static str, u64, u64),
    /// Whole number; bounds included.
    Integer(i64, i64),
    /// Finite number.
    Number,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// List of texts.
    Texts,
    /// Table of texts.
    Words,
    /// Reference to where a secret is kept.
    Secret,
    /// A table with these keys.
    Table(Keys),
    /// A table whose keys are names and whose values are such tables.
    Named(&'static [Keys]),
    /// As [`Kind::Named`]; `false` leaves a template's point out.
    Points(&'static [Keys]),
    /// `"cobs"`, `"slip"` or a table with these keys.
    Frame(Keys),
    /// `true` or `false`.
    Flag,
    /// A pattern of points, or a list of them.
    Patterns,
    /// A table whose keys somebody else knows.
    Free,
    /// Known by name; what it asks for comes with a later version.
    Later(&'static str),
}

use Kind::{
    Choice, File, Flag, Frame, Free, Integer, Later, Named, Number, Patterns, Points, Rate, Secret,
    Size, Table, Text, Texts, Words,
};

pub use rule::{RULE, RULE_LIMIT, RULE_TRIAL, TEST};

const fn must(name: &'static str, kind: Kind, help: &'static str) -> Key {
    Key { name, kind, default: None, help }
}

const fn or(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { name, kind, default: Some(default), help }
}

#[expect(clippy::cast_possible_wrap, reason = "bounds in memory are far below 2^63")]
const fn whole(bound: usize) -> i64 {
    bound as i64
}

const EVERY: Kind = Kind::Duration(limits::EVERY_MIN, limits::EVERY_MAX);
const TIMEOUT: Kind = Kind::Duration(limits::TIMEOUT_MIN, limits::TIMEOUT_MAX);
const DECIMALS: Kind = Integer(0, Decimal::PLACES_MAX as i64);
const WORD_ORDER: Kind = Choice(&["ABCD", "CDAB", "BADC", "DCBA"]);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEARS: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// The file.
pub const ROOT: Keys = &[
    or("version", Integer(1, 1), "1", "version of this format"),
    must("gateway", Table(GATEWAY), "who this gateway is"),
    must("port", Named(&[PORT]), "serial ports, by name"),
    must("device", Named(&[MODBUS, SERIAL]), "devices that are read, by name"),
    must("source", Named(&[ZIGBEE, COAP_LISTEN, COAP_CLIENT]), "whole networks, by name"),
    must("buffer", Table(BUFFER), "where readings are kept until they are acknowledged"),
    must("uplink", Named(&[UPLINK]), "where batches go"),
    must("rule", Named(&[RULE]), "rules in WebAssembly, by name"),
    must("test", Named(&[TEST]), "tests of rules, which check --tests runs, by name"),
    must("api", Table(API), "where the daemon answers"),
    must("trust", Table(TRUST), "whose rules run here"),
];

/// `[gateway]`
pub const GATEWAY: Keys = &[
    must(
        "name",
        Text,
        "name in topics and batches, and the MQTT client id; default: the host name",
    ),
    must("site", Text, "free label, sent in meta"),
    must("groups", Texts, "free labels, sent in meta"),
    or(
        "clock",
        Choice(&["auto", "trusted"]),
        "auto",
        "when this board's clock is believed: when something vouches for it, or whatever it shows",
    ),
];

/// `[port.NAME]`
pub const PORT: Keys = &[
    must("path", File, "device node; /dev/serial/by-id/.. stays the same when replugged"),
    or("line", Text, "9600 8N1", "speed, data bits, parity, stop bits"),
];

/// `[device.NAME]` on a Modbus bus.
pub const MODBUS: Keys = &[
    must(
        "via",
        Text,
        "modbus PORT id N, modbus tcp HOST[:PORT] id N, modbus rtu-over-tcp HOST:PORT id N",
    ),
    must("template", Text, "file with points, scaling and units of this model"),
    or("every", EVERY, "5s", "how often points are read"),
    or("timeout", TIMEOUT, "1s", "longest wait for an answer"),
    or(
        "pause",
        Kind::Duration(Duration::ZERO, limits::TIMEOUT_MAX),
        "0s",
        "rest this device needs between two requests",
    ),
    or("word_order", WORD_ORDER, "ABCD", "order of bytes in values of two registers"),
    or(
        "gap",
        Integer(0, limits::MODBUS_REGISTERS_MAX as i64),
        "10",
        "unused registers read along to save a request; a request costs about as much as ten",
    ),
    or(
        "registers_max",
        Integer(1, limits::MODBUS_REGISTERS_MAX as i64),
        "125",
        "registers the device allows in one read",
    ),
    must("points", Points(&[MODBUS_POINT]), "what is read, by name"),
];

/// `points.NAME` of a Modbus device.
pub const MODBUS_POINT: Keys = &[
    must(
        "at",
        Text,
        "\"holding 8\" (protocol address, from 0) or \"40009\" (Modicon number, from 1)",
    ),
    must(
        "as",
        Text,
        "bool u16 i16 u32 i32 u64 i64 f32 f64 bcd16 bcd32 text(n) bits; default u16 or bool",
    ),
    must("bits", Words, "names of single bits of one register: { 0 = \"low_pressure\" }"),
    or("scale", Number, "1", "value = raw * scale + offset"),
    or("offset", Number, "0", "see scale"),
    must("decimals", DECIMALS, "decimals to keep"),
    or("unit", Text, "", "UCUM or SenML unit"),
    must("deadband", Number, "smallest change that is sent on, in the point's unit"),
    must("every", EVERY, "how often this point is read; default: as the device"),
    must("word_order", WORD_ORDER, "order of bytes; default: as the device"),
];

/// `[device.NAME]` on a serial line.
pub const SERIAL: Keys = &[
    must("via", Text, "serial PORT"),
    must("template", Text, "file with frame, match and points of this model"),
    must("frame", Frame(FRAME), "how bytes are cut into frames; default: up to CR LF"),
    must("match", Text, "regular expression; each point takes the group of its name"),
    must("format", Choice(&["json"]), "instead of match: frames are JSON objects"),
    must("ask", Text, "sent to ask for a frame"),
    or("every", EVERY, "5s", "how often it is asked"),
    must(
        "silent_after",
        Kind::Duration(limits::EVERY_MIN, DAY),
        "silence after which points are reported without data; default: 3 times every when asked",
    ),
    must("points", Points(&[SERIAL_POINT]), "what is taken from a frame, by name"),
];

/// `frame` of a serial device.
pub const FRAME: Keys = &[
    must("end", Text, "mark behind a frame"),
    must("start", Text, "mark before a frame; needs end"),
    must("length", Integer(1, whole(limits::SERIAL_FRAME_BYTES_MAX)), "bytes of a frame"),
    must(
        "gap",
        Kind::Duration(Duration::from_millis(1), Duration::from_secs(60)),
        "silence behind a frame",
    ),
    must("code", Choice(&["cobs", "slip"]), "byte stuffing: COBS, or SLIP (RFC 1055)"),
    must(
        "checksum",
        Choice(&["crc16-modbus", "crc16-ccitt", "crc32", "sum8", "xor8", "nmea"]),
        "what guards a frame; checked and cut off",
    ),
];

/// `points.NAME` of a serial device.
pub const SERIAL_POINT: Keys = &[
    must(
        "key",
        Text,
        "group of match, or path in the JSON object (sensor.temp); default: the point's name",
    ),
    must("as", Choice(&["number", "bool", "text", "any"]), "default: number, any for JSON"),
    or("scale", Number, "1", "value = raw * scale + offset"),
    or("offset", Number, "0", "see scale"),
    must("decimals", DECIMALS, "decimals to keep"),
    or("unit", Text, "", "UCUM or SenML unit"),
    must("deadband", Number, "smallest change that is sent on, in the point's unit"),
];

/// `[source.NAME]` of a zigbee2mqtt bridge.
pub const ZIGBEE: Keys = &[
    must("via", Text, "zigbee2mqtt mqtt://HOST[:PORT]"),
    or("base", Text, "zigbee2mqtt", "its base topic"),
    must("rename", Words, "IEEE address or friendly name to the device name used here"),
    must("points", Texts, "points to take; default: all the definitions describe"),
    or(
        "version",
        Choice(&["3.1.1", "5"]),
        "3.1.1",
        "MQTT version; a broker of 5 says why it refuses",
    ),
    must("auth", Table(AUTH), "user and password, or client certificate and key"),
    must("ca", File, "PEM file with the CAs to trust; default: the system's"),
];

/// `[source.NAME]` that listens for CoAP.
pub const COAP_LISTEN: Keys = &[
    must("via", Text, "coap listen ADDRESS:PORT"),
    must("allow", Texts, "senders that may post, as \"192.168.1.0/24\"; default: all"),
];

/// `[source.NAME]` that asks a CoAP server.
pub const COAP_CLIENT: Keys = &[
    must("via", Text, "coap coap://HOST[:PORT]/PATH"),
    must("mode", Choice(&["observe", "poll"]), "default: poll when every is given"),
    must("every", EVERY, "how often it is polled; default 10s"),
    or("format", Choice(&["auto", "text", "json", "senml"]), "auto", "how payloads are read"),
    must("point", Text, "name for a payload of one bare value; default: the last part of the path"),
    or("unit", Text, "", "unit for a payload that does not carry one"),
    or("timeout", TIMEOUT, "10s", "longest time one exchange may take"),
];

/// `[buffer]`
pub const BUFFER: Keys = &[
    or("path", File, "/var/lib/fieldgate/buffer.db", "database file"),
    or(
        "keep",
        Kind::Duration(Duration::from_secs(60), YEARS),
        "30d",
        "age after which data is dropped",
    ),
    or(
        "max",
        Size(limits::BUFFER_BYTES_MIN, limits::BUFFER_BYTES_MAX),
        "2GiB",
        "bytes after which data is dropped, oldest first",
    ),
    or(
        "free",
        Size(0, limits::BUFFER_BYTES_MAX),
        "64MiB",
        "bytes of the disk left to others; below, new batches take the place of the oldest",
    ),
    or("full", Choice(&["drop-oldest"]), "drop-oldest", "what is dropped when the buffer is full"),
    or(
        "commit",
        Kind::Duration(limits::COMMIT_MIN, limits::COMMIT_MAX),
        "1s",
        "what a power cut may cost at most",
    ),
    or(
        "write",
        Choice(&["always", "when-needed"]),
        "always",
        "when-needed: batches stay in memory while the broker acknowledges them promptly",
    ),
];

/// `[uplink.NAME]`
pub const UPLINK: Keys = &[
    or(
        "preset",
        Choice(&["mqtt", "aws", "azure", "thingsboard"]),
        "mqtt",
        "whose limits and topics to keep: any broker, AWS IoT Core, Azure IoT Hub, ThingsBoard",
    ),
    must("url", Text, "mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"),
    or(
        "version",
        Choice(&["3.1.1", "5"]),
        "3.1.1",
        "MQTT version; a broker of 5 says why it refuses",
    ),
    must("auth", Table(AUTH), "user and password, or client certificate and key"),
    must("ca", File, "PEM file with the CAs to trust; default: the system's"),
    or(
        "keep_alive",
        Kind::Duration(Duration::from_secs(5), Duration::from_secs(18 * 3600)),
        "60s",
        "longest silence towards the broker",
    ),
    must("client_id", Text, "MQTT client identifier; default: gateway.name"),
    must("batch", Table(BATCH), "when and how batches are sealed"),
    or(
        "ack",
        Choice(&["broker", "receiver"]),
        "broker",
        "who frees a batch: the broker's PUBACK, or its receiver on fg/1/GATEWAY/ack",
    ),
    must(
        "expire",
        Kind::Duration(Duration::from_secs(60), Duration::from_secs(365 * 86_400)),
        "how long the broker keeps a batch for a receiver that is away (MQTT 5); default: for ever",
    ),
    must(
        "drain",
        Rate("s", 1024, 1 << 40),
        "most that a backlog takes of the link beside what is new; default: all it leaves",
    ),
    must(
        "data_plan",
        Rate("month", 1_000_000, 1 << 50),
        "bytes a month that the link may carry: warns in time, then makes batches longer",
    ),
];

/// `auth`
pub const AUTH: Keys = &[
    must("user", Text, "user name"),
    must("password", Secret, "its password"),
    must("token", Secret, "access token, sent as the user name"),
    must("cert", File, "PEM file with the client certificate chain"),
    must("key", Secret, "PEM key of cert"),
];

/// `batch`
pub const BATCH: Keys = &[
    or(
        "max_age",
        Kind::Duration(Duration::from_millis(100), DAY),
        "10s",
        "longest time a reading waits for its batch",
    ),
    or(
        "max_readings",
        Integer(1, whole(limits::BATCH_READINGS_MAX)),
        "50000",
        "readings that fill a batch",
    ),
    or(
        "max_bytes",
        Size(4096, limits::BATCH_BYTES_MAX as u64),
        "512KiB",
        "bytes of a whole payload",
    ),
    or("compress", Choice(&["none", "zlib", "zstd"]), "zlib", "how bodies are compressed"),
];

/// `[api]`
pub const API: Keys = &[
    or("socket", File, crate::api::DEFAULT_SOCKET, "socket on which the daemon answers commands"),
    must("listen", Later("HTTP on a TCP port"), "address of the HTTP interface"),
    must("login", Later("HTTP on a TCP port"), "who may use the HTTP interface"),
];

/// `[trust]`
pub const TRUST: Keys = &[must(
    "keys",
    Texts,
    "minisign public keys: only what one of them has signed runs; \"KEY rules=A,B*\" narrows one",
)];

/// What a template says beside the keys of a device; it has no `via` and no `template`.
pub const TEMPLATE: Keys = &[
    must("about", Text, "what it is for"),
    must("manufacturer", Text, "who makes it"),
    must("protocol", Choice(&["modbus", "serial"]), "how it is spoken to"),
    must("probe", Named(&[PROBE]), "registers that tell this model from others, for scan"),
];

/// `probe.NAME` of a template: what a register of this model always holds.
pub const PROBE: Keys = &[
    must("at", Text, "as a point's"),
    must("as", Text, "as a point's"),
    must("word_order", WORD_ORDER, "order of bytes; default: as the template"),
    or("scale", Number, "1", "the bounds are those of the scaled value"),
    must("min", Number, "least plausible value"),
    must("max", Number, "most plausible value"),
    must("is", Text, "the text that stands there, or \"id\": the device's own id"),
];

/// Says to what kind of device or source a key belongs, for one who wrote it at another.
#[must_use]
pub fn belongs_to(name: &str) -> Option<&'static str> {
    let lists: [(&str, Keys); 7] = [
        ("a Modbus device", MODBUS),
        ("a serial device", SERIAL),
        ("a point of a Modbus device", MODBUS_POINT),
        ("a point of a serial device", SERIAL_POINT),
        ("a zigbee2mqtt source", ZIGBEE),
        ("a CoAP listener", COAP_LISTEN),
        ("a CoAP client", COAP_CLIENT),
    ];
    lists.into_iter().find(|(_, keys)| find(keys, name).is_some()).map(|(kind, _)| kind)
}

/// Finds a key by its name.
#[must_use]
pub fn find(keys: Keys, name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name)
}

impl Kind {
    /// Says what a value of this kind is, and shows one.
    #[must_use]
    pub fn takes(&self) -> (&'static str, &'static str) {
        match self {
            Text => ("text", "\"..\""),
            File => ("a path", "\"..\""),
            Self::Duration(..) => ("a duration with its unit", "\"5s\""),
            Size(..) => ("a size with its unit", "\"2GiB\""),
            Rate("s", ..) => ("a size a second", "\"200KiB/s\""),
            Rate(..) => ("a size a month", "\"500MB/month\""),
            Integer(..) => ("a whole number", "1"),
            Number => ("a number", "0.1"),
            Choice(words) => ("one of a few words", words.first().copied().unwrap_or_default()),
            Texts => ("a list of texts", "[\"..\", \"..\"]"),
            Words => ("a table of texts", "{ .. = \"..\" }"),
            Flag => ("true or false", "true"),
            Patterns => ("a pattern of points, or a list of them", "\"meter-1/*\""),
            Free => ("a table", "{ .. }"),
            Secret => ("a reference to a secret", "{ file = \"..\" }"),
            Table(_) | Named(_) | Points(_) | Later(_) => ("a table", "{ .. }"),
            Frame(_) => ("a table, \"cobs\" or \"slip\"", "{ end = \"\\r\\n\" }"),
        }
    }
}
