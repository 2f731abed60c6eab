//! The bounds of an uplink: its window, its patience, its data plan.

use std::time::Duration;

/// Uplinks of a gateway: each holds a window in memory.
pub const UPLINKS_MAX: usize = 8;

/// Batches sent and not yet acknowledged. 16 batches of 64 KiB keep a 300 ms satellite link of
/// 10 Mbit/s busy; the memory of the window is at most 16 times the batch limit.
pub const BATCHES_IN_FLIGHT_MAX: usize = 16;

/// Batches read from the store at once: enough to keep the window full, few enough that reading
/// ahead costs at most 2 MiB.
pub const BATCHES_READ_MAX: usize = 4;

/// Shortest time without an acknowledgement, batches being in flight, after which a connection is
/// given up; three keep-alives when that is longer. A broker that is alive acknowledges in
/// milliseconds, one that writes to a slow disk in seconds.
pub const ACKNOWLEDGEMENT_TIME_MIN: Duration = Duration::from_secs(60);

/// How long a new connection must last before the trouble before it is called over. A link that
/// flaps faster stays one condition with a count.
pub const LINK_STEADY_TIME: Duration = Duration::from_secs(10);

/// Connections in a row that end with the same batch unacknowledged first, before it is suspected.
pub const BATCH_SUSPECTED_AFTER: u32 = 5;

/// Refusals of one batch in a row, each with a reason that another try does not change, before it is
/// parked: three, because a broker in trouble may say so by mistake.
pub const BATCH_REFUSED_MAX: u32 = 3;

/// Batches that are parked at the same time. More than a few mean that it is the broker, not the
/// batches; from then on all wait.
pub const BATCHES_PARKED_MAX: usize = 64;

/// How long a parked batch rests before it is tried again: a person needs that long to raise a limit
/// of the broker, and half a megabyte an hour is no burden.
pub const BATCH_PARKED_TIME: Duration = Duration::from_secs(3600);

/// First and longest pause after a broker refused a batch because it is busy.
pub const BROKER_BUSY_TIME_MIN: Duration = Duration::from_secs(1);

/// See [`BROKER_BUSY_TIME_MIN`]: quotas of clouds count by the second or the minute.
pub const BROKER_BUSY_TIME_MAX: Duration = Duration::from_secs(60);

/// New batches that may wait, while a backlog drains, before they take three of four slots instead
/// of one.
pub const LIVE_BEHIND_MAX: u64 = 4;

/// Bytes in flight that no link is too slow for: a few batches of usual size, 1.4 s on LTE-M, and
/// enough to measure a faster one by.
pub const UPLINK_FLIGHT_BYTES_MIN: usize = 64 * 1024;

/// Longest wait of a long backlog after a connection began: the newest batches of a whole fleet are
/// through before its backlogs compete for a broker that comes back.
pub const DRAIN_SPREAD_MAX: Duration = Duration::from_secs(5);

/// Ranges of sequence numbers that an uplink remembers a stream, 16 bytes each. In order they are
/// one or two; what is forgotten beyond is sent once more under the same key.
pub const UPLINK_SPANS_MAX: usize = 1024;

/// Salvaged batches that the broker has and the receiver has not named, with `ack = "receiver"`; 64
/// bytes each. The next are read when some are named, which at a word every ten seconds is a hundred
/// batches a second: nobody waits for these.
pub const SALVAGED_UNNAMED_MAX: usize = 1024;

/// How long a batch that the broker has may stay unnamed while its receiver names others, before it
/// is sent again; at most twice that. A receiver speaks every ten seconds.
pub const RECEIPT_OVERDUE_AFTER: Duration = Duration::from_secs(60);

/// How long a receiver may say nothing, while the broker has batches for it, before a person is told.
pub const RECEIVER_SILENCE_MAX: Duration = Duration::from_secs(600);

/// Bytes of a receiver's acknowledgement that is read.
pub const RECEIPT_BYTES_MAX: usize = 64 * 1024;

/// Holes of a receiver's acknowledgement that are taken; what lies behind the last of them is left to
/// the next.
pub const RECEIPT_HOLES_MAX: usize = 256;

/// Longest pause while the broker hangs up on one batch: each try sends it again, and on a metered
/// link half a megabyte every half minute would be a gigabyte a day.
pub const UNWANTED_BATCH_DELAY_MAX: Duration = Duration::from_secs(300);

/// Part of a data plan, in percent, from which on a person is told that it runs short.
pub const DATA_PLAN_SHORT_PERCENT: u64 = 80;

/// Time of a month that must have been counted before the rest of it is foretold: days differ from
/// each other less than hours do.
pub const DATA_PLAN_FORETOLD_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Between two steps of longer batches, each twice as long, while a data plan will not do: an hour
/// shows what a step has saved.
pub const DATA_PLAN_STEP_TIME: Duration = Duration::from_secs(3600);

/// Steps of longer batches: 2^6 makes ten minutes of ten seconds.
pub const DATA_PLAN_STEPS_MAX: u32 = 6;

/// Longest that a batch is made to wait for a data plan; beyond, its header is no longer what costs.
pub const DATA_PLAN_AGE_MAX: Duration = Duration::from_secs(900);

/// Between two notes on disk of what a data plan has used, each with a commit that happens anyway:
/// one page a minute.
pub const DATA_PLAN_NOTE_TIME: Duration = Duration::from_secs(60);

/// Causes of one condition that are told; what comes beyond is counted with them.
pub const CAUSES_TOLD_MAX: usize = 8;

/// Bytes of `meta`: AWS IoT takes 128 KiB a message, and topic and header need some of it.
pub const META_BYTES_MAX: usize = 127 * 1024;

/// How long batches from before the clock was set wait for their dates before they are sent without:
/// network time comes within seconds of the network, and a receiver cannot undo a wrong date.
pub const CLOCK_SET_GRACE: Duration = Duration::from_secs(60);
/// Batches that one commit corrects when the clock was set, 8 MiB at the most; those that are sent
/// are corrected when they are.
pub const BATCHES_CORRECTED_MAX: usize = 16;

/// Between two looks at whether `status` or `meta` have news.
pub const STATUS_LOOK_TIME: Duration = Duration::from_secs(10);

/// Between two `status` without news.
pub const STATUS_TIME_MAX: Duration = Duration::from_secs(60);

/// Waiting for the broker to acknowledge the last `status` before goodbye; with
/// [`super::MQTT_GOODBYE_TIME_MAX`] it fits [`super::SHUTDOWN_TIME_MAX`].
pub const UPLINK_GOODBYE_TIME_MAX: Duration = Duration::from_secs(3);
