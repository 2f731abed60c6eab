//! The bounds of rules. A rule is a stranger's program: what it may use of the board is written here
//! to the last byte. Authors may ask for less, operators may grant more, up to the second number.

use std::time::Duration;

/// Fuel of a call before its first reading; about one unit an instruction. Loading the state of some
/// hundred series after a restart fits in.
pub const RULE_FUEL_CALL: u64 = 200_000;

/// Fuel a reading adds. A rule in Rust uses 80 to 500, one in an embedded interpreter 30,000, for
/// which the operator raises it.
pub const RULE_FUEL_READING: u64 = 20_000;

/// Most fuel a reading an operator may grant.
pub const RULE_FUEL_READING_MAX: u64 = 10_000_000;

/// Computing time of a call before its first reading. Fuel is the limit that counts; this stops what
/// costs more time than fuel.
pub const RULE_DEADLINE_CALL: Duration = Duration::from_millis(50);

/// Computing time a reading adds.
pub const RULE_DEADLINE_READING: Duration = Duration::from_micros(100);

/// Longest computing time of a call an operator may grant: the chain waits that long.
pub const RULE_DEADLINE_CALL_MAX: Duration = Duration::from_secs(10);

/// How often the clock behind the deadlines ticks while a rule runs.
pub const RULE_TICK: Duration = Duration::from_millis(10);

/// Ticks that the clock goes on when no rule runs, so that a rule called every few milliseconds does
/// not wake a thread each time.
pub const RULE_IDLE_TICKS_MAX: u32 = 5;

/// Stack of the clock's thread, bytes; it calls nothing.
pub const RULE_CLOCK_STACK_BYTES: usize = 64 * 1024;

/// Linear memory of a rule, bytes. A rule in Rust starts with 1.1 MiB, most of it stack that it
/// never touches.
pub const RULE_MEMORY_BYTES: usize = 4 * 1024 * 1024;

/// Most linear memory an operator may grant a rule, bytes: a quarter of the smallest board.
pub const RULE_MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Stack of a rule, bytes. Not to be mistaken for the stack that compilers put into linear memory.
pub const RULE_STACK_BYTES_MAX: usize = 128 * 1024;
