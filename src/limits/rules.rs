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

/// Deadlines that a call which only prepares (`open`, `migrate`, `series-added`) may compute: the first
/// runs through code that nothing has run before, 50 ms on a machine twenty times slower than a
/// server, and a rule that it stops stays off.
pub const RULE_PREPARE_DEADLINES: u32 = 8;

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

/// What one call may make the host allocate for what it passes (texts, lists), bytes.
pub const RULE_HOSTCALL_BYTES_MAX: usize = 1024 * 1024;

/// Core instances, tables and memories of one rule, each: componentised rules have three of the
/// first and one or two of the others.
pub const RULE_PARTS_MAX: usize = 32;

/// Table elements of one rule: functions it may call through pointers; large ones have thousands.
pub const RULE_TABLE_ELEMENTS_MAX: usize = 20_000;

/// Handles of a rule's own resources; the contract has none.
pub const RULE_HANDLES_MAX: usize = 100;

/// Fuel of a call to the host, besides what the rule spends on making it: a lookup and a copy take
/// about as long as this many instructions. So fuel also bounds floods of host calls.
pub const RULE_FUEL_HOSTCALL: u64 = 500;

/// Bytes passed to or from the host for one unit of fuel.
pub const RULE_FUEL_BYTES: usize = 4;

/// Fuel of a reading that is emitted.
pub const RULE_FUEL_EMITTED: u64 = 50;

/// Readings a rule may emit for each it was given: a value and three alarms, say.
pub const RULE_EMITTED_PER_INPUT: usize = 4;

/// Most readings for each one in that an operator may grant: what a frame of many fields is cut into.
pub const RULE_EMITTED_PER_INPUT_MAX: usize = 100;

/// Readings a rule may emit besides: windows of all series may close at the same time.
pub const RULE_EMITTED_BASE: usize = 64;

/// Bytes of what a rule emits for one batch: texts, and [`RULE_READING_BYTES`] a reading.
pub const RULE_EMITTED_BYTES: usize = 256 * 1024;

/// Most of it that an operator may grant, bytes: what one call may make the host allocate
/// ([`RULE_HOSTCALL_BYTES_MAX`]).
pub const RULE_EMITTED_BYTES_MAX: usize = 1024 * 1024;

/// What a reading without text counts, bytes.
pub const RULE_READING_BYTES: usize = 24;

/// Latest and, negative, earliest time of a reading that a rule emits, microseconds since 1970: the
/// year 3000. Decoders hold milliseconds of 53 bits; a rule that is beyond this has miscalculated.
pub const RULE_TIME_US_MAX: u64 = 32_503_680_000_000_000;

/// Outputs a rule may declare: four for each of 1,000 series.
pub const RULE_OUTPUTS_MAX: usize = 4000;

/// Bytes of keys and values that a rule may keep; the mirror of them is in memory.
pub const RULE_STATE_BYTES: usize = 1024 * 1024;

/// Most of it that an operator may grant, bytes: it is in memory, and read at every start.
pub const RULE_STATE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Keys a rule may keep.
pub const RULE_KEYS: usize = 10_000;

/// Most of them that an operator may grant: five for each of 10,000 points.
pub const RULE_KEYS_MAX: usize = 50_000;

/// Longest key, and name of a timer, bytes.
pub const RULE_KEY_BYTES_MAX: usize = 256;

/// Longest value, bytes.
pub const RULE_VALUE_BYTES_MAX: usize = 64 * 1024;

/// Timers a rule may have set.
pub const RULE_TIMERS: usize = 1000;

/// Most of them that an operator may grant: each is looked at with every step of the watermark.
pub const RULE_TIMERS_MAX: usize = 10_000;

/// Lines a rule may write to its log in one go.
pub const RULE_LOG_BURST: u32 = 50;

/// Lines a minute of the readings' time after that.
pub const RULE_LOG_PER_MINUTE: u32 = 20;

/// Most of them that an operator may grant: ten a second, to look for a fault.
pub const RULE_LOG_PER_MINUTE_MAX: u32 = 600;

/// Longest such line, bytes.
pub const RULE_LOG_LINE_BYTES_MAX: usize = 1024;

/// Characters of the code of an error that a rule returns.
pub const RULE_CODE_CHARS_MAX: usize = 64;

/// Bytes of a rule's file. Rules in Rust have 30 to 60 kB, the interpreter of another language 1.7 MB.
pub const RULE_FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Modules and components in one file; `rule build` makes four of the first and one of the second.
pub const RULE_FILE_PARTS_MAX: usize = 64;

/// How deep they may be nested.
pub const RULE_FILE_DEPTH_MAX: usize = 8;

/// Computing time of the process that compiles a rule: the interpreter of another language takes 5 s
/// on a server and ten times that on a board.
pub const RULE_COMPILE_TIME_MAX: Duration = Duration::from_secs(60);

/// Characters of a digest that `status` shows: enough to tell a gateway's versions apart at sight.
pub const DIGEST_SHOWN_CHARS: usize = 12;

/// Sources wait for rules that begin: with code that was compiled before, some milliseconds. A first
/// start compiles, which takes a board seconds a rule; after this time what is read goes unruled, as
/// `on_failure` says, rather than not being read at all.
pub const RULES_BEGIN_TIME_MAX: Duration = Duration::from_secs(30);

/// Waiting for that process: it may have to share a busy board.
pub const RULE_COMPILE_WAIT_MAX: Duration = Duration::from_secs(240);

/// Memory of that process, bytes of address space. Beside the gateway's own 40 MiB it fits into what
/// the packaged unit allows.
pub const RULE_COMPILE_BYTES_MAX: u64 = 192 * 1024 * 1024;

/// Bytes of compiled code of one rule: three to five times its file.
pub const RULE_CODE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of compiled code kept on disk, of all rules; those not used for longest go first.
pub const RULE_CACHE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Calls that one batch may take when a rule fails: enough to find two poisoned readings among a
/// thousand.
pub const RULE_LADDER_CALLS_MAX: usize = 48;

/// Readings that may be set aside within [`RULE_POISON_TIME_US`] before the rule is given up.
pub const RULE_POISONS_MAX: usize = 3;

/// See [`RULE_POISONS_MAX`]; microseconds of the readings' clock: ten minutes.
pub const RULE_POISON_TIME_US: i64 = 600_000_000;

/// After which a rule that was given up is tried again; microseconds of the readings' clock: five
/// minutes. A broker that is back or a device that is right again shall not need a person.
pub const RULE_GIVEN_UP_TIME_US: i64 = 300_000_000;

// Chains.

/// Readings that a chain takes as one batch; one group may bring more. Enough that the cost of a batch
/// is small beside its readings, and few enough that the next waits milliseconds.
pub const RULE_BATCH_READINGS_MAX: usize = 1000;

/// Readings that wait for a chain, then further ones go past it unruled: two seconds at 5,000 a
/// second, and about 1 MB.
pub const RULE_INBOX_READINGS_MAX: usize = 10_000;

/// Readings that wait in memory for one rule that was given up, with `on_failure = "hold"`: three
/// hours of one a second, and about 1 MB. Then the oldest go on without it.
pub const RULE_HELD_READINGS_MAX: usize = 10_000;

/// Steps in which a rule's watermark moves. Each costs a call, so a second of readings costs ten at
/// most, and a timer fires at most this much later than its time.
pub const RULE_TIME_STEP: Duration = Duration::from_millis(100);

/// How long readings may be on their way before they are late, unless the configuration says
/// otherwise: a bus with a slow device, and a message that was sent twice.
pub const RULE_LATENESS: &str = "5s";

/// Longest such time an operator may set: windows stay open that long.
pub const RULE_LATENESS_MAX: Duration = Duration::from_secs(3600);

/// How often the gateway's clock is looked at while a rule waits for a timer and no reading comes.
pub const RULE_CLOCK_LOOK: Duration = Duration::from_secs(1);

/// What a watermark that the gateway's clock moves stays behind besides its lateness: readings wait
/// that long at most between their source and their chain.
pub const RULE_CLOCK_GRACE: Duration = Duration::from_secs(1);

/// A reading dated further ahead of the gateway's clock does not move a watermark: its device's clock
/// is wrong.
pub const RULE_AHEAD_MAX: Duration = Duration::from_secs(10);

/// Readings that come this much too late are told, when nothing else comes: a clock went back.
pub const RULE_LATE_TOLD: Duration = Duration::from_secs(60);

/// Rounds in which timers fire that fired timers set, each time the watermark moves. A rule that
/// catches up an hour of minutes needs sixty; the rest comes with the next step.
pub const RULE_TIMER_ROUNDS_MAX: usize = 100;

/// Lists of points that a chain remembers, so that readings of the same poll share one.
pub const RULE_POINT_LISTS_MAX: usize = 256;

/// Lines of its log that are remembered of a rule.
pub const RULE_LOG_LINES_KEPT: usize = 100;

/// Stack of a chain's thread, bytes: that of a rule ([`RULE_STACK_BYTES_MAX`]), and wasmtime's own.
pub const RULE_CHAIN_STACK_BYTES: usize = 1024 * 1024;
