//! Every bound of the program, with its unit and its reason. Rooms name a limit from here; a number
//! that stands anywhere else is a default in the configuration, not a bound.

mod api;
mod firsthour;
mod manifest;
mod push;
mod receive;
mod rules;
mod store;
mod trial;
mod uplink;

use std::time::Duration;

pub use api::*;
pub use firsthour::*;
pub use manifest::*;
pub use push::*;
pub use receive::*;
pub use rules::*;
pub use store::*;
pub use trial::*;
pub use uplink::*;

// What flows: readings, points and names.

/// Longest text value, bytes. A single value over 32 KiB would not fit the smallest broker limit
/// beside its neighbours (AWS IoT: 128 KiB a message), and no sensor has that much to say.
pub const TEXT_BYTES_MAX: usize = 32 * 1024;

/// Most points a process will ever know. Configured points stay far below.
pub const POINTS_MAX: usize = 100_000;

/// Most of them that senders may name by themselves (a CoAP client, a SenML pack). A board carries
/// as many within its 20 MB; a sender that puts a counter into a name must not take more than that,
/// nor the room of points that are configured.
pub const POINTS_LEARNED_MAX: usize = 10_000;

/// Longest device or point name, bytes: a topic level and a column that people can read.
pub const NAME_BYTES_MAX: usize = 128;

/// Longest unit, bytes: the longest in the SenML registry has 10, composed ones stay below 40.
pub const UNIT_BYTES_MAX: usize = 64;

/// Groups waiting between the sources and the pipeline. A 115,200 baud line makes at most 150 polls
/// a second and a Modbus TCP device about 1,000; this is a quarter of a second of the latter.
pub const GROUPS_QUEUED_MAX: usize = 256;

/// Longest silence of a point within its deadband: one reading in 15 minutes is 3 kB a month and
/// shows that the point lives.
pub const DEADBAND_SILENCE_MAX: Duration = Duration::from_secs(15 * 60);

// Batches: what the encoder makes and a decoder takes.

/// Readings in one batch (DESIGN section 4).
pub const BATCH_READINGS_MAX: usize = 50_000;

/// Encoded bytes of one batch (DESIGN section 4); presets may lower it.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Body bytes a decoder will inflate from one batch: 50,000 readings of long text stay below it,
/// a zlib bomb does not.
pub const BATCH_INFLATED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Readings a decoder will take from one batch. A column's missing tail costs no bytes, so a few
/// hundred bytes could claim billions; 20 times what any gateway seals is generous.
pub const BATCH_DECODED_READINGS_MAX: usize = 20 * BATCH_READINGS_MAX;

/// Frames, and apart from them series, that a decoder will take from one batch: each holds or names
/// at least one reading, and a gateway seals no more readings than this. Compressed, an empty frame
/// or series costs a few bits, so that without this bound 64 KiB could claim gigabytes.
pub const BATCH_PARTS_MAX: usize = 2 * BATCH_READINGS_MAX;

/// Words a decoder will take from one batch: device, point, unit and a text for every reading.
pub const BATCH_WORDS_MAX: usize = 4 * BATCH_READINGS_MAX;

/// Largest window of a zstd body, as a power of two: no more than the body may inflate to.
pub const BATCH_ZSTD_WINDOW_LOG_MAX: u32 = BATCH_INFLATED_BYTES_MAX.ilog2();

// A broker session.

/// Largest MQTT packet accepted from a broker, bytes. zigbee2mqtt's retained device list takes
/// about 2 KB a device: this fits a network of 2,000.
pub const MQTT_PACKET_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long an MQTT 5 broker is asked to keep a session that is meant to outlive its connection,
/// seconds: a receiver that is repaired over a long weekend finds what was published meanwhile.
pub const MQTT_SESSION_EXPIRY_S: u32 = 7 * 24 * 3600;

/// Messages that an MQTT 5 broker may send before the first is acknowledged. A receiver gathers
/// what it commits at once from them; brokers allow 20 to some thousands themselves.
pub const MQTT_RECEIVE_MAX: u16 = 1000;

/// Waiting for a broker to take a TCP connection, finish TLS and answer CONNECT.
pub const MQTT_CONNECT_TIME_MAX: Duration = Duration::from_secs(20);

/// Waiting for the broker to take bytes we write. One that stalls longer is given up and dialled
/// again; 60 s is what a cellular link may need to recover a cell change.
pub const MQTT_WRITE_TIME_MAX: Duration = Duration::from_secs(60);

/// Bytes that the kernel may hold unsent for a broker. A ping stands behind them: 32 KiB are 13 s on
/// a GPRS link of 20 kbit/s, just under half of the usual keep-alive. What is sent and not yet
/// acknowledged by TCP comes on top, so fast links with long delays are not slowed.
pub const MQTT_UNSENT_BYTES_MAX: u32 = 32 * 1024;

/// Saying goodbye to a broker; one that does not listen any more is left.
pub const MQTT_GOODBYE_TIME_MAX: Duration = Duration::from_secs(2);

/// Bytes of messages kept while a broker has not yet answered SUBSCRIBE: what it retains for us may
/// come before its answer (MQTT 3.1.1, section 3.8.4). Twice the largest packet.
pub const MQTT_KEPT_BYTES_MAX: usize = 2 * MQTT_PACKET_BYTES_MAX;

/// First and longest pause before a broker is dialled again; full jitter between, as with all such
/// pairs.
pub const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(500);

/// See [`RECONNECT_DELAY_MIN`]. With full jitter 10,000 gateways that all lost their broker dial it
/// 670 times a second, which one core of a broker takes; a person in front of a gateway waits at
/// most half a minute.
pub const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(30);

// Serial lines.

/// Longest serial frame, bytes; longer ones are noise or a missing end mark and are dropped whole.
pub const SERIAL_FRAME_BYTES_MAX: usize = 64 * 1024;

/// First and longest pause before a serial port that is gone is opened again: a replugged adapter
/// takes about half a second to appear, and nobody stands in front of a cabinet for more than 5 s.
pub const SERIAL_REOPEN_DELAY_MIN: Duration = Duration::from_millis(250);

/// See [`SERIAL_REOPEN_DELAY_MIN`].
pub const SERIAL_REOPEN_DELAY_MAX: Duration = Duration::from_secs(5);

/// Frames that cannot be read become at most one group without data in this time: a line that
/// makes noise at 115,200 baud must not fill the buffer with the fact that it does.
pub const SERIAL_MALFORMED_EVERY: Duration = Duration::from_secs(1);

/// Trouble on a serial line is over when it stayed away this long: a loose plug is two lines in the
/// log, not two lines a minute.
pub const SERIAL_TROUBLE_OVER: Duration = Duration::from_secs(60);

// Modbus.

/// Registers in one Modbus read: FC 3 and 4 (Modbus Application Protocol 1.1b3, section 6.3).
pub const MODBUS_REGISTERS_MAX: u16 = 125;

/// Bits in one Modbus read: FC 1 and 2 (same, section 6.1).
pub const MODBUS_BITS_MAX: u16 = 2000;

/// Failed cycles after which a Modbus device is probed now and then instead of polled.
pub const MODBUS_FAILURES_MAX: u32 = 2;

/// First pause before a device that does not answer is probed again; it doubles each time.
pub const MODBUS_PROBE_DELAY_MIN: Duration = Duration::from_secs(1);

/// Longest such pause: with a timeout of 1 s, a dead device takes 3 % of its bus.
pub const MODBUS_PROBE_DELAY_MAX: Duration = Duration::from_secs(30);

/// Pause before registers that a device says it does not have are asked for again.
pub const MODBUS_REFUSED_DELAY: Duration = Duration::from_secs(600);

/// Reads that one poll may add by cutting refused ones in two; the rest waits for the next poll.
pub const MODBUS_SPLITS_PER_POLL_MAX: usize = 16;

/// Shortest quarantine of a serial bus after a timeout or a damaged answer: longer than a USB
/// adapter holds bytes back (16 ms) and than operating systems pause within a frame.
pub const MODBUS_QUARANTINE_MIN: Duration = Duration::from_millis(50);

/// Longest quarantine: what one slow device may cost the others on its bus.
pub const MODBUS_QUARANTINE_MAX: Duration = Duration::from_secs(2);

/// How long after an unanswered request its answer may still turn up and is looked out for.
pub const MODBUS_LATE_ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long a line that never falls silent is listened to before its poll is given up.
pub const MODBUS_NOISE_TIME_MAX: Duration = Duration::from_secs(2);

/// Bytes of noise after which the same is done: 64 KiB take 5.7 s at 115,200 baud, so only a
/// network or a pseudo-terminal gets here first.
pub const MODBUS_NOISE_BYTES_MAX: usize = 64 * 1024;

/// First and longest pause before a vanished port or connection is opened again, jitter between.
pub const MODBUS_REOPEN_DELAY_MIN: Duration = Duration::from_millis(250);

/// See [`MODBUS_REOPEN_DELAY_MIN`].
pub const MODBUS_REOPEN_DELAY_MAX: Duration = Duration::from_secs(5);

/// Waiting for a TCP connection to a device.
pub const MODBUS_CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// How much of that wait a poll shares before it reports that there is no data.
pub const MODBUS_CONNECT_POLL_MAX: Duration = Duration::from_millis(900);

// Zigbee.

/// Devices of one Zigbee network: what a retained list of [`MQTT_PACKET_BYTES_MAX`] holds, and ten
/// times what coordinators carry.
pub const ZIGBEE_DEVICES_MAX: usize = 2000;

/// Properties taken of one Zigbee device; the richest definitions have about 150.
pub const ZIGBEE_FEATURES_MAX: usize = 256;

/// Longest state of one Zigbee device that is read, bytes. Real ones stay below 4 KiB; parsed JSON
/// takes up to twenty times its text.
pub const ZIGBEE_STATE_BYTES_MAX: usize = 128 * 1024;

// CoAP.

/// Largest CoAP body assembled from blocks, bytes.
pub const COAP_BODY_BYTES_MAX: usize = 64 * 1024;

/// Block-wise uploads in progress at once; with the body limit, 4 MiB.
pub const COAP_UPLOADS_MAX: usize = 64;

/// Answered requests remembered so that a repeat is answered, not executed (RFC 7252 section 4.5).
pub const COAP_ANSWERS_REMEMBERED_MAX: usize = 4096;

/// How long an answered request is remembered: EXCHANGE_LIFETIME (RFC 7252 section 4.8.2).
pub const COAP_EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);

/// Block-wise uploads in progress from one address, so that one sender cannot take all of
/// [`COAP_UPLOADS_MAX`].
pub const COAP_UPLOADS_PER_SOURCE_MAX: usize = 8;

/// An upload without a new block for this long is forgotten: MAX_TRANSMIT_WAIT, after which its
/// sender has given up by its own rules (RFC 7252 section 4.8.2).
pub const COAP_UPLOAD_IDLE_MAX: Duration = Duration::from_secs(93);

/// Addresses whose request rate is followed; others share one allowance while the table is full.
pub const COAP_SOURCES_MAX: usize = 1024;

/// Requests a second taken from one address (IPv6: one /64). A sensor posts once a second at most,
/// a block-wise upload on a wired network reaches a few hundred for a moment.
pub const COAP_REQUESTS_PER_SECOND_MAX: u32 = 200;

/// Requests an address may save up for such a moment.
pub const COAP_REQUESTS_BURST_MAX: u32 = 400;

/// Answer bytes to request bytes: more would make the gateway an amplifier for forged senders
/// (draft-irtf-t2trg-amplification-attacks, section 5).
pub const COAP_AMPLIFICATION_MAX: usize = 3;

/// Largest UDP datagram: a 16-bit length with its headers.
pub const COAP_DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// Pause before a listener tries again to take a port that another program holds.
pub const COAP_BIND_RETRY_DELAY: Duration = Duration::from_secs(5);

/// A stranger or a flood not seen for this long is over.
pub const COAP_CALM_TIME: Duration = Duration::from_secs(300);

/// First and longest pause before an observation that failed is registered again; longer ones
/// would hide a device that came back.
pub const COAP_REGISTER_DELAY_MIN: Duration = Duration::from_secs(2);

/// See [`COAP_REGISTER_DELAY_MIN`].
pub const COAP_REGISTER_DELAY_MAX: Duration = Duration::from_secs(60);

/// Longest silence believed of an observed server, whatever Max-Age it claims: a device that died
/// is noticed within the hour.
pub const COAP_SILENCE_MAX: Duration = Duration::from_secs(3600);

/// Points of one CoAP client that are reported without data when its server fails.
pub const COAP_CLIENT_POINTS_MAX: usize = 2000;

// The configuration.

/// Bytes of all configuration files together: room for 30,000 points of 130 bytes. A larger file is
/// not a configuration.
pub const CONFIG_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Characters kept of who asked for a version of the configuration: a user, or one as another.
pub const CONFIG_BY_CHARS_MAX: usize = 100;

/// Versions of the configuration that are kept to go back to: a week of daily changes, twice.
pub const CONFIG_VERSIONS_MAX: usize = 16;

/// Bytes of kept versions together: sixteen of half a megabyte. Of larger ones fewer are kept, and
/// never less than the one before.
pub const CONFIG_VERSIONS_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Files in `conf.d`: one a device on the largest site we know, times four.
pub const CONFIG_FILES_MAX: usize = 1000;

/// Bytes of a broken file whose syntax faults are all collected; of a larger one only the first.
pub const CONFIG_RECOVERY_BYTES_MAX: usize = 256 * 1024;

/// Faults of a configuration that are told; more only say the same.
pub const FAULTS_MAX: usize = 200;

/// Shortest and longest polling interval. A Modbus TCP round trip takes about a millisecond, so ten
/// leave a busy device room to breathe; a value read less than once a day is a task for a person.
pub const EVERY_MIN: Duration = Duration::from_millis(10);

/// See [`EVERY_MIN`].
pub const EVERY_MAX: Duration = Duration::from_secs(24 * 3600);

/// Shortest and longest wait for an answer. One character at 2400 baud takes 4.6 ms; a gateway
/// that waits over a minute for one device starves its neighbours.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(5);

/// See [`TIMEOUT_MIN`].
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

// The gateway as a whole.

/// Conditions that may stand at the same time: every device of the largest Zigbee network, and room
/// for all else. Each takes about 500 bytes.
pub const CONDITIONS_MAX: usize = 2 * ZIGBEE_DEVICES_MAX;

/// After a start: brokers and devices are dialled and the first batches have gone, or it will be a
/// while; what only the start has needed is given back.
pub const SETTLED_AFTER: Duration = Duration::from_secs(15);

/// Between two times of giving it back after that: a reload leaves 5 MB of code mapped that nobody
/// runs again, and mapping what is in use anew costs some fifty page faults.
pub const SETTLED_EVERY: Duration = Duration::from_secs(600);

/// Time the daemon has to drain and say goodbye after a stop signal.
pub const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(10);

/// Waiting for sources to end after a stop signal; they promise a second.
pub const STOP_SOURCES_TIME_MAX: Duration = Duration::from_millis(1500);

/// Waiting for rules to process what waits for them; what they do not get to goes on unruled.
pub const STOP_RULES_TIME_MAX: Duration = Duration::from_millis(500);
/// Orders over the socket that wait while another is carried out.
pub const ORDERS_QUEUED_MAX: usize = 4;

/// Shortest time within which a configuration on trial must be confirmed: a batch has to be sealed and
/// acknowledged in it, and a person to type.
pub const CONFIRM_TIME_MIN: Duration = Duration::from_secs(5);

/// Longest such time. Who wants more wants no trial.
pub const CONFIRM_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// Waiting for changed sources to end before they are started anew. They end the poll at hand first,
/// so it is longer than the longest wait for an answer: a slow device that stays loses nothing, and
/// its bus keeps its connection. One that takes longer still is dropped where it stands.
pub const RELOAD_SOURCES_TIME_MAX: Duration = Duration::from_secs(TIMEOUT_MAX.as_secs() + 5);

/// Waiting for what they left to be committed and sealed: an SD card in trouble takes a second.
pub const STOP_COMMIT_TIME_MAX: Duration = Duration::from_millis(1500);

/// Waiting for the broker to acknowledge what is held: long enough for a working link and a small
/// backlog, and no loss otherwise.
pub const STOP_DRAIN_TIME_MAX: Duration = Duration::from_millis(1500);

/// Between two looks at what is still held; each one may cost a commit.
pub const DRAIN_LOOK_TIME: Duration = Duration::from_millis(100);

// Between limits. The stages of a stop fit the whole.
const _: () = assert!(
    STOP_SOURCES_TIME_MAX.as_millis()
        + STOP_RULES_TIME_MAX.as_millis()
        + STOP_COMMIT_TIME_MAX.as_millis()
        + STOP_DRAIN_TIME_MAX.as_millis()
        + UPLINK_GOODBYE_TIME_MAX.as_millis()
        + MQTT_GOODBYE_TIME_MAX.as_millis()
        <= SHUTDOWN_TIME_MAX.as_millis()
);
// A batch that the encoder may make, the broker session can send.
const _: () = assert!(BATCH_BYTES_MAX < MQTT_PACKET_BYTES_MAX);
const _: () = assert!(BATCH_READINGS_MAX < READINGS_UNCOMMITTED_MAX);
const _: () = assert!(TEXT_BYTES_MAX < BATCH_BYTES_MAX / 4);
