//! The bounds of `fieldgate-receive` and of its simulated fleet; boards never meet them.

use std::time::Duration;

use super::NAME_BYTES_MAX;

// The receiver.

/// Batches in one slice, which is one transaction of a sink. Brokers hold back after 20 to 1,000
/// unacknowledged messages, so more would rarely come together.
pub const SLICE_BATCHES_MAX: usize = 256;

/// Payload bytes in one slice: 32 batches of the largest size. A slice under way and the next one
/// take twice this, and about five times as much again while they are decoded.
pub const SLICE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Readings in one slice, so that a few hundred hostile bytes that claim a million readings each
/// cannot gather: 40 MB decoded.
pub const SLICE_READINGS_MAX: u64 = 1_000_000;

/// Statuses that wait to be noted; of more only the newest of each gateway would count.
pub const SLICE_STATUSES_MAX: usize = 1000;

/// Longest `status` that is read, bytes; real ones stay below 300.
pub const STATUS_BYTES_MAX: usize = 16 * 1024;

/// Longest name of a device or point that is received, bytes. Rules may compose names; an index
/// entry of PostgreSQL takes 2,700 bytes, and four names stand in one.
pub const RECEIVED_NAME_BYTES_MAX: usize = 4 * NAME_BYTES_MAX;

/// Gateways whose first contact is remembered and that are counted: ten times the largest fleet we
/// plan for. One beyond is told what the ledger has at the next round instead of at once.
pub const GATEWAYS_KNOWN_MAX: usize = 100_000;

/// Sequences with news for the next round of acknowledgements; one beyond is left to the round after
/// its next batch.
pub const ACKS_DUE_MAX: usize = 100_000;

/// Sequences whose standing is asked of the ledger at once: a query of a few milliseconds, between
/// which batches are stored.
pub const ACKS_AT_ONCE_MAX: usize = 500;

/// Between two rounds of acknowledgements (DESIGN section 4).
pub const ACK_EVERY: Duration = Duration::from_secs(10);

/// Holes named in one acknowledgement; with more, `upto` ends before the next. 200 ranges are 4 KiB.
pub const ACK_HOLES_MAX: usize = 200;

/// Between two tries of a sink that is away, at first and at longest: PostgreSQL restarts in
/// seconds, and a person who watches it come back should not wait for us.
pub const SINK_RETRY_DELAY_MIN: Duration = Duration::from_millis(250);

/// See [`SINK_RETRY_DELAY_MIN`].
pub const SINK_RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// Numbers of series remembered, about 100 bytes each; beyond it all are asked for again.
pub const SERIES_NUMBERED_MAX: usize = 1_000_000;
/// Bytes of one line protocol request: about 15,000 lines, three times what InfluxDB advises, and
/// what proxies take by default.
pub const LINE_PROTOCOL_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Waiting for a line protocol server to connect, take a request and answer. InfluxDB gives up a
/// write after 10 s itself.
pub const LINE_PROTOCOL_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes of such an answer that are read: what it says, not a page of HTML.
pub const LINE_PROTOCOL_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Waiting for a Kafka cluster to take a slice: a leader's election takes some seconds.
pub const KAFKA_TIME_MAX: Duration = Duration::from_secs(30);

/// How long the start waits to see whether a sink is there: one that is answers within a second, and
/// nothing is received meanwhile.
pub const SINK_REACH_TIME_MAX: Duration = Duration::from_secs(5);

/// Payload bytes of one Kafka request; clusters take 1 MiB by default (`message.max.bytes`), a batch
/// has half of that at most, and each record needs some for itself.
pub const KAFKA_REQUEST_BYTES_MAX: usize = 900 * 1024;

/// Visitors of the metrics at once, and how long one may take: Prometheus is one, in milliseconds.
pub const METRICS_VISITORS_MAX: usize = 16;

/// See [`METRICS_VISITORS_MAX`].
pub const METRICS_TIME_MAX: Duration = Duration::from_secs(10);

/// Pause before another visitor is let in when the process is out of files.
pub const METRICS_ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Refused payloads kept in `--rejects`; the oldest make room. Each is at most one MQTT packet, real
/// ones at most a batch: half a gigabyte.
pub const REJECTS_MAX: usize = 1000;

/// Between two progress lines on a terminal, and as JSON.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(1);

// The fleet simulator.

/// Batches that a simulated gateway holds while its broker is away; then the oldest are dropped and
/// counted, as by a quota. At a batch in 10 s they last 2.7 hours, and take 24 bytes each.
pub const SIMULATE_BATCHES_HELD_MAX: usize = 1000;

/// Batches in flight on a connection that simulated gateways share: with 64 KiB each, 64 MiB that
/// a broker may hold for it.
pub const SIMULATE_IN_FLIGHT_MAX: usize = 1024;

/// Pause between the first connections of a simulated fleet: 1,000 a second, which one core of a
/// broker takes.
pub const SIMULATE_DIAL_PAUSE: Duration = Duration::from_millis(1);

/// Open files that a simulation needs beside its connections.
pub const SIMULATE_SPARE_FILES: u32 = 32;

/// Between two lines of a simulation's progress.
pub const SIMULATE_PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Waiting for what is in flight at the end of a simulation.
pub const SIMULATE_DRAIN_TIME_MAX: Duration = Duration::from_secs(60);
