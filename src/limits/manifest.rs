//! The bounds of a rule's manifest: what a file that anybody may push can say about itself.

/// Bytes of the custom section `fieldgate:rule`. The largest shipped rule takes 3 KB; a section is
/// held in memory once for each version of a rule.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;

/// Modules and components within each other that are looked into for the section. A component that
/// `rule build` made has two; each level costs a parser's state.
pub const MANIFEST_DEPTH_MAX: usize = 8;

/// Sections of a file that are looked at before it is given up: a component of 4 MiB made of empty
/// sections would take as many steps as it has bytes.
pub const MANIFEST_SECTIONS_MAX: usize = 50_000;

/// Parameters of one rule; a person reads them on one screen.
pub const MANIFEST_PARAMETERS_MAX: usize = 64;

/// Outputs that a rule tells of in advance.
pub const MANIFEST_OUTPUTS_MAX: usize = 64;

/// Capabilities that a rule asks for; there are five.
pub const MANIFEST_CAPABILITIES_MAX: usize = 16;

/// Words that a parameter can be.
pub const MANIFEST_CHOICES_MAX: usize = 64;

/// Bytes of a rule's, parameter's or capability's name, and of a version: they stand in topics,
/// file names and tables.
pub const MANIFEST_NAME_BYTES_MAX: usize = 64;

/// Bytes of a help text: ten lines.
pub const MANIFEST_HELP_BYTES_MAX: usize = 1000;

/// Bytes of licence and author.
pub const MANIFEST_WORDS_BYTES_MAX: usize = 200;

/// Texts or numbers in one parameter, as an operator gives it: a table of a hundred corrections is
/// large, and all of it is handed over at each start of the rule.
pub const PARAM_ENTRIES_MAX: usize = 1000;

/// Bytes of one text in a parameter; an expression over points takes a few hundred.
pub const PARAM_TEXT_BYTES_MAX: usize = 8 * 1024;

// Tests of rules.

/// Readings of one test, fed or expected: more than a day at one a second, and still read in a
/// moment.
pub const CASE_READINGS_MAX: usize = 100_000;

/// Bytes of a recording that a test is fed with: a hundred thousand readings as JSON take 12 MB.
pub const RECORDING_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Bytes of a file that says what must come of a recording: as many readings, in a test's words.
pub const EXPECTED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Series that one test feeds.
pub const CASE_SERIES_MAX: usize = 1000;

/// Longest lateness and longest time behind the last reading of a test: a year, which a rule that
/// counts by the month is tried with.
pub const CASE_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(366 * 24 * 3600);

/// Rounds of timers without a reading between, after which a test is ended: a timer a minute for
/// a week.
pub const CASE_TIMERS_MAX: usize = 10_080;

/// What all tests that a gateway has for a rule may take together, before a version that was pushed
/// goes on trial: whoever pushed it waits, and so does the next push. A test takes milliseconds.
pub const CASES_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// Lines of a rule's log that a test keeps.
pub const CASE_LOG_LINES_MAX: usize = 100;

/// Tests of rules in one configuration.
pub const TESTS_MAX: usize = 500;
