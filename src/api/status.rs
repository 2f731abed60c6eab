//! `GET /v1/status`: how the gateway does, as JSON. Times that have passed are in seconds (`_s`),
//! points in time in milliseconds since 1970 UTC (`_ms`). Keys are only ever added.

use serde::{Deserialize, Serialize};

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The gateway's name.
    pub gateway: String,
    /// The program's version.
    pub version: String,
    /// Hash of the configuration in force, as in batches (`cv`).
    pub config: String,
    /// Since the gateway started.
    pub uptime_s: u64,
    /// The daemon's process.
    pub pid: u32,
    /// Worst of what stands: `good`, `degraded` (a warning), `bad` (an error: data is being lost, or a
    /// person is needed).
    pub health: Health,
    /// The board's clock.
    pub clock: Clock,
    /// What is wrong now, longest first.
    pub standing: Vec<Standing>,
    /// Where readings wait.
    pub store: Store,
    /// Where they go.
    pub uplinks: Vec<Uplink>,
    /// What is read.
    pub sources: Vec<Source>,
    /// What rules do with it, in the order of the files.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// Worst of what stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Nothing stands.
    Good,
    /// Something is odd; nothing is lost.
    Degraded,
    /// Data is being lost, or a person is needed.
    Bad,
}

/// What is known about the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Whether it is believed.
    pub set: bool,
    /// Why: `trusted`, `synced`, `battery`, `machine`, `step`, `earlier`; absent while it is not.
    pub why: Option<String>,
    /// What readings are stamped with now; counts from boot while the clock is not set.
    pub now_ms: i64,
}

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// `FG-M03`.
    pub code: String,
    /// `warning` or `error`.
    pub weight: String,
    /// Whom it is about.
    pub subject: String,
    /// The whole notice, as in the log.
    pub text: String,
    /// Since it began.
    pub since_s: u64,
    /// How often it was seen since.
    pub count: u64,
}

/// The store after its last commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// The database file.
    pub path: String,
    /// Unix seconds when it was created.
    pub epoch: u64,
    /// `good`, `refused` (the disk does not take what it is given) or `ended`.
    pub health: String,
    /// Bytes of the file and its log.
    pub disk_bytes: u64,
    /// Readings that are in memory only.
    pub uncommitted: u64,
    /// One entry a stream.
    pub streams: Vec<Stream>,
}

/// A stream of batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// `data`, `event` or `self`.
    pub name: String,
    /// Sequence number that the next batch gets.
    pub seq_next: u64,
    /// Sealed batches that wait.
    pub batches: u64,
    /// Readings in them.
    pub readings: u64,
    /// Readings that wait for their batch.
    pub readings_open: u64,
    /// Bytes that the sealed batches take.
    pub bytes: u64,
    /// Readings dropped since the epoch began.
    pub dropped: u64,
    /// When the oldest waiting batch was sealed.
    pub oldest_ms: Option<i64>,
}

/// An uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// As the configuration names it.
    pub name: String,
    /// Whether a broker has accepted our login and the connection stands.
    pub connected: bool,
    /// Logins accepted since the start.
    pub connections: u64,
    /// Since the broker last acknowledged anything.
    pub acknowledged_s: Option<u64>,
    /// Since the receiver last named batches that it has; with `ack = "receiver"`.
    pub receipt_s: Option<u64>,
    /// Batches acknowledged since the start.
    pub batches_sent: u64,
    /// Readings in them.
    pub readings_sent: u64,
    /// Batches that it has not got yet.
    pub batches_waiting: u64,
    /// When the oldest of them was sealed.
    pub oldest_ms: Option<i64>,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `bus rs485-1`, `source zigbee`.
    pub name: String,
}

/// A `[rule.NAME]` table; `/v1/rules` says more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The table's name.
    pub rule: String,
    /// `running`, `given up`, `waiting`, `stopped`, `off` (disabled), or `not running`.
    pub state: String,
    /// The rule's own name.
    pub name: String,
    /// The version whose output counts.
    pub version: String,
    /// The beginning of the SHA-256 of its file.
    pub digest: String,
    /// Readings it was given since it was started.
    pub taken: u64,
    /// Readings it emitted.
    pub emitted: u64,
    /// Readings that went past it, because it could not run or was behind.
    pub passed: u64,
    /// Readings dropped for the same reason.
    pub dropped: u64,
    /// Fuel a reading, on the average; absent before the first.
    pub fuel_a_reading: Option<u64>,
    /// Why it failed last.
    pub failure: Option<String>,
    /// The version on trial beside it.
    pub trial: Option<String>,
}
