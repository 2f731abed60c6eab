//! The bounds of how rules come to a gateway: signatures, the rules folder, desired states.

use std::time::Duration;

/// Bytes of a detached signature: minisign's four lines are 300 and a comment.
pub const SIGNATURE_BYTES_MAX: usize = 4096;

/// Bytes of a signature's trusted comment; minisign itself takes 8192.
pub const TRUSTED_COMMENT_BYTES_MAX: usize = 1024;

/// Names in one list of a trusted comment; its bytes hold not many more.
pub const SIGNED_NAMES_MAX: usize = 64;

/// Bytes of a rule's name: a folder on every file system, and a word in a table.
pub const RULE_NAME_BYTES_MAX: usize = 64;

/// Keys in `[trust]`. Each costs a check of a signature, 0.2 ms on a board, for every file.
pub const TRUST_KEYS_MAX: usize = 16;

/// Bytes of the rules folder: a dozen versions of the largest rule, some hundred of usual size.
pub const RULES_FOLDER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of the ledger: 100 rules with three versions each take 60 KiB.
pub const RULES_LEDGER_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a desired state: [`super::RULES_MAX`] rules with their signatures fit the smallest broker
/// limit (AWS IoT: 128 KiB a message) up to 200 rules, which is more than a board runs.
pub const WANT_BYTES_MAX: usize = 128 * 1024;

/// Shortest and longest chunk of a file over MQTT. Below, a file of 4 MiB would be thousands of
/// subscriptions; above, AWS IoT takes no message.
pub const CHUNK_BYTES_MIN: usize = 1024;

/// See [`CHUNK_BYTES_MIN`].
pub const CHUNK_BYTES_MAX: usize = 120 * 1024;

/// Bytes of an HTTPS address.
pub const FETCH_URL_BYTES_MAX: usize = 2048;

/// `[rule.NAME]` tables; each is an instance of up to 1.5 MiB.
pub const RULES_MAX: usize = 128;

/// Chunks of a file that are asked for at once: with the longest, 2 MiB on their way.
pub const CHUNKS_ASKED_MAX: usize = 16;

/// How long a chunk that was asked for may stay away before it is asked for again: a publisher on a
/// GPRS link needs 13 s for 32 KiB.
pub const CHUNK_TIME_MAX: Duration = Duration::from_secs(30);

/// How often chunks are asked for, without a single one coming, before a transfer is given up.
pub const CHUNK_TRIES_MAX: u32 = 10;

/// Messages for the courier that wait: what was asked for at once, and as much from an eager sender.
pub const LETTERS_QUEUED_MAX: usize = 2 * CHUNKS_ASKED_MAX;

/// Errands that wait for a connection: topics and an answer for each of a few rounds.
pub const ERRANDS_QUEUED_MAX: usize = 16;

/// Fetching a file over HTTPS, from the first look-up to its last byte: 4 MiB at 100 kbit/s.
pub const FETCH_TIME_MAX: Duration = Duration::from_secs(360);

/// Redirects that are followed when a file is fetched: from a name to a release to a store.
pub const FETCH_REDIRECTS_MAX: u32 = 4;
