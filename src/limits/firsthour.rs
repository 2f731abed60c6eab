//! Bounds of the commands of the first hour: scan, read, setup, doctor, support.

use std::time::Duration;

/// Bytes of a template that is looked through for its probe: a thousand points are 100 KiB.
pub const PROBED_TEMPLATE_BYTES_MAX: usize = 256 * 1024;

/// Wait for an answer while scanning a line: most devices answer within 50 ms, and one that takes
/// longer is recognised by its late answer. With it, 247 ids at 4 settings take 100 s.
pub const SCAN_TIMEOUT_LINE: Duration = Duration::from_millis(80);

/// The same over a network: a gateway asks the line behind it and waits there, too.
pub const SCAN_TIMEOUT_NETWORK: Duration = Duration::from_millis(600);

/// Wait for an answer to a read that a person asked for, and for the registers that tell a model.
pub const ASK_TIMEOUT: Duration = Duration::from_millis(1000);

/// Wait for an answer of a unit that was heard to answer late: slow radio links and gateways that wait
/// for others take a second or two.
pub const SCAN_PATIENCE: Duration = Duration::from_secs(3);

/// How long a line is listened to before anything is sent on it: a second master asks several times a
/// second.
pub const LISTEN_TIME: Duration = Duration::from_millis(400);

/// Ids a way that are asked again with patience because of noise: an answer that is late by just so
/// much collides with the next question. A line full of noise is not asked twice as a whole.
pub const SCAN_SUSPECTS_MAX: usize = 8;

/// How long after its last question a scan waits for a device that answers late.
pub const SCAN_LATE_TIME: Duration = Duration::from_millis(300);

/// Bytes of one part of a support archive, the last of what a program says: a thousand lines of a
/// journal are 200 KiB.
pub const SUPPORT_PART_BYTES_MAX: usize = 1024 * 1024;
