//! Every way to break the calling convention of the host: pointers out of the rule's memory, lengths
//! that are none, marks, ids and texts that do not exist, and more than a call may carry.

use super::*;

/// Misuse of the host's functions: name, code, the body of `process`. `$batch` holds two readings.
const MISUSES: &[(&str, &str, &str)] = &[
    // Floods.
    (
        "a flood of lookups",
        "fuel",
        "(loop $l (call $get (i32.const 0) (i32.const 4) (i32.const 512)) (br $l))",
    ),
    (
        "a flood of parameters",
        "fuel",
        "(loop $l (call $param (i32.const 0) (i32.const 4) (i32.const 512)) (br $l))",
    ),
    (
        "a flood of log lines",
        "fuel",
        "(loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 64)) (br $l))",
    ),
    (
        "a flood of scans",
        "fuel",
        "(loop $l (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 512)) (br $l))",
    ),
    (
        "a flood of values",
        "fuel",
        "(local $i i32) (loop $l (i32.store (i32.const 512) (local.get $i)) (call $set (i32.const 512) (i32.const 4) (i32.const 1024) (i32.const 60000)) (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $l))",
    ),
    (
        "a flood of keys",
        "fuel",
        "(local $i i32) (loop $l (i32.store (i32.const 512) (local.get $i)) (call $set (i32.const 512) (i32.const 3) (i32.const 1024) (i32.const 0)) (local.set $i (i32.and (i32.add (local.get $i) (i32.const 1)) (i32.const 0x7f7f7f))) (br $l))",
    ),
    (
        "a flood of one key",
        "fuel",
        "(loop $l (call $set (i32.const 512) (i32.const 3) (i32.const 1024) (i32.const 100)) (br $l))",
    ),
    (
        "a flood of timers",
        "fuel",
        "(local $i i32) (loop $l (i32.store (i32.const 512) (local.get $i)) (call $timer (i32.const 512) (i32.const 1) (i64.const 1)) (local.set $i (i32.and (i32.add (local.get $i) (i32.const 1)) (i32.const 0x7f))) (br $l))",
    ),
    (
        "a flood of cancelled timers",
        "fuel",
        "(loop $l (call $cancel (i32.const 512) (i32.const 1)) (br $l))",
    ),
    (
        "a flood of outputs",
        "fuel",
        "(loop $l (call $declare (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512)) (br $l))",
    ),
    (
        "a flood of empty emissions",
        "fuel",
        "(loop $l (call $emit (i32.const 0) (i32.const 0)) (br $l))",
    ),
    (
        "a flood of readings",
        "output.count",
        "(loop $l (call $emit (local.get $batch) (local.get $n)) (br $l))",
    ),
    ("too many readings at once", "output.count", "(call $emit (i32.const 0) (i32.const 73))"),
    // Sizes.
    (
        "a key of 257 bytes",
        "state.key",
        "(call $set (i32.const 0) (i32.const 257) (i32.const 0) (i32.const 0))",
    ),
    (
        "a key of 200,000 bytes",
        "state.key",
        "(call $set (i32.const 60000) (i32.const 200000) (i32.const 0) (i32.const 0))",
    ),
    ("a deleted key of 257 bytes", "state.key", "(call $delete (i32.const 0) (i32.const 257))"),
    (
        "a value of 65,537 bytes",
        "state.value",
        "(call $set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 65537))",
    ),
    (
        "a timer's name of 257 bytes",
        "timers.name",
        "(call $timer (i32.const 0) (i32.const 257) (i64.const 0))",
    ),
    (
        "a text of 40,000 bytes",
        "output.text",
        "(i32.store8 offset=24 (local.get $batch) (i32.const 3)) (i32.store offset=32 (local.get $batch) (i32.const 60000)) (i32.store offset=36 (local.get $batch) (i32.const 40000)) (call $emit (local.get $batch) (i32.const 1))",
    ),
    (
        "texts of 300,000 bytes together",
        "output.bytes",
        "(local $i i32) (i32.store8 offset=24 (local.get $batch) (i32.const 3)) (i32.store offset=32 (local.get $batch) (i32.const 60000)) (i32.store offset=36 (local.get $batch) (i32.const 30000)) (loop $l (call $emit (local.get $batch) (i32.const 1)) (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10))))",
    ),
    // Readings of nothing.
    (
        "a reading of a series it does not have",
        "output.series",
        "(i32.store (local.get $batch) (i32.const 3)) (call $emit (local.get $batch) (i32.const 1))",
    ),
    (
        "a reading of an output it did not declare",
        "output.series",
        "(i32.store (local.get $batch) (i32.const 0x80000000)) (call $emit (local.get $batch) (i32.const 1))",
    ),
    (
        "a reading of the largest series",
        "output.series",
        "(i32.store (local.get $batch) (i32.const -1)) (call $emit (local.get $batch) (i32.const 1))",
    ),
    (
        "a reading of the end of time",
        "output.time",
        "(i64.store offset=8 (local.get $batch) (i64.const 0x7fffffffffffffff)) (call $emit (local.get $batch) (i32.const 1))",
    ),
    (
        "a reading of the beginning of time",
        "output.time",
        "(i64.store offset=8 (local.get $batch) (i64.const 0x8000000000000000)) (call $emit (local.get $batch) (i32.const 1))",
    ),
    // Wild pointers.
    ("readings beyond its memory", "abi", "(call $emit (i32.const -40) (i32.const 1))"),
    (
        "readings across the end of its memory",
        "abi",
        "(call $emit (i32.const 262104) (i32.const 2))",
    ),
    ("readings without end", "abi", "(call $emit (i32.const 0) (i32.const -1))"),
    ("readings whose size wraps", "abi", "(call $emit (i32.const 0) (i32.const 0x06666667))"),
    ("readings at an odd place", "abi", "(call $emit (i32.const 4097) (i32.const 1))"),
    ("a key beyond its memory", "abi", "(call $get (i32.const -4) (i32.const 8) (i32.const 512))"),
    ("a key without end", "abi", "(call $get (i32.const 0) (i32.const -1) (i32.const 512))"),
    ("a key whose end wraps", "abi", "(call $get (i32.const -1) (i32.const 2) (i32.const 512))"),
    (
        "an answer beyond its memory",
        "abi",
        "(call $get (i32.const 0) (i32.const 3) (i32.const -4))",
    ),
    ("an answer at an odd place", "abi", "(call $get (i32.const 0) (i32.const 3) (i32.const 513))"),
    (
        "a value beyond its memory",
        "abi",
        "(call $set (i32.const 0) (i32.const 3) (i32.const 0x7fffffff) (i32.const 1))",
    ),
    (
        "a value without end",
        "abi",
        "(call $set (i32.const 0) (i32.const 3) (i32.const 4096) (i32.const -1))",
    ),
    ("a deleted key beyond its memory", "abi", "(call $delete (i32.const -1) (i32.const 1))"),
    (
        "a prefix beyond its memory",
        "abi",
        "(call $scan (i32.const -1) (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 512))",
    ),
    (
        "a scan after something beyond its memory",
        "abi",
        "(call $scan (i32.const 0) (i32.const 0) (i32.const 1) (i32.const -1) (i32.const 9) (i32.const 1) (i32.const 512))",
    ),
    (
        "a scan's answer beyond its memory",
        "abi",
        "(call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 9) (i32.const -8))",
    ),
    (
        "a timer's name beyond its memory",
        "abi",
        "(call $timer (i32.const -1) (i32.const 9) (i64.const 1))",
    ),
    ("a cancelled name beyond its memory", "abi", "(call $cancel (i32.const -1) (i32.const 9))"),
    ("a line beyond its memory", "abi", "(call $log (i32.const 1) (i32.const -1) (i32.const 9))"),
    ("a line without end", "abi", "(call $log (i32.const 1) (i32.const 0) (i32.const -1))"),
    (
        "a parameter's name beyond its memory",
        "abi",
        "(call $param (i32.const -1) (i32.const 9) (i32.const 512))",
    ),
    (
        "a parameter's answer beyond its memory",
        "abi",
        "(call $param (i32.const 0) (i32.const 1) (i32.const -8))",
    ),
    (
        "a device beyond its memory",
        "abi",
        "(call $declare (i32.const 0) (i32.const -1) (i32.const 4) (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))",
    ),
    (
        "a unit beyond its memory",
        "abi",
        "(call $declare (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 4) (i32.const 1) (i32.const -1) (i32.const 9) (i32.const 512))",
    ),
    (
        "an id beyond its memory",
        "abi",
        "(call $declare (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -4))",
    ),
    (
        "a text of a reading beyond its memory",
        "abi",
        "(i32.store8 offset=24 (local.get $batch) (i32.const 3)) (i32.store offset=32 (local.get $batch) (i32.const -9)) (i32.store offset=36 (local.get $batch) (i32.const 100)) (call $emit (local.get $batch) (i32.const 1))",
    ),
    // What is no value of a type.
    (
        "a value of an unknown kind",
        "abi",
        "(i32.store8 offset=24 (local.get $batch) (i32.const 5)) (call $emit (local.get $batch) (i32.const 1))",
    ),
    (
        "a value of kind 255",
        "abi",
        "(i32.store8 offset=24 (local.get $batch) (i32.const 255)) (call $emit (local.get $batch) (i32.const 1))",
    ),
    (
        "no data for an unknown reason",
        "abi",
        "(i32.store8 offset=24 (local.get $batch) (i32.const 4)) (i32.store8 offset=32 (local.get $batch) (i32.const 6)) (call $emit (local.get $batch) (i32.const 1))",
    ),
    ("an unknown log level", "abi", "(call $log (i32.const 4) (i32.const 0) (i32.const 1))"),
    ("a log level below none", "abi", "(call $log (i32.const -1) (i32.const 0) (i32.const 1))"),
    (
        "an unknown stream",
        "abi",
        "(call $declare (i32.const 2) (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))",
    ),
    (
        "a unit that is neither there nor not",
        "abi",
        "(call $declare (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 4) (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 512))",
    ),
    (
        "a scan that is neither after something nor not",
        "abi",
        "(call $scan (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 512))",
    ),
    ("a key that is no text", "abi", "(call $get (i32.const 3000) (i32.const 2) (i32.const 512))"),
    (
        "a set key that is no text",
        "abi",
        "(call $set (i32.const 3000) (i32.const 2) (i32.const 0) (i32.const 0))",
    ),
    (
        "half a character as a key",
        "abi",
        "(call $get (i32.const 3004) (i32.const 2) (i32.const 512))",
    ),
    (
        "a surrogate as a timer's name",
        "abi",
        "(call $timer (i32.const 3008) (i32.const 3) (i64.const 1))",
    ),
    ("a line that is no text", "abi", "(call $log (i32.const 1) (i32.const 3000) (i32.const 2))"),
    (
        "a device that is no text",
        "abi",
        "(call $declare (i32.const 0) (i32.const 3000) (i32.const 2) (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))",
    ),
    (
        "a text of a reading that is no text",
        "abi",
        "(i32.store8 offset=24 (local.get $batch) (i32.const 3)) (i32.store offset=32 (local.get $batch) (i32.const 3000)) (i32.store offset=36 (local.get $batch) (i32.const 2)) (call $emit (local.get $batch) (i32.const 1))",
    ),
    // Results.
    ("a result beyond its memory", "abi", "(return (i32.const -4))"),
    ("a result at an odd place", "abi", "(return (i32.const 17))"),
    (
        "a result that is neither good nor bad",
        "abi",
        "(i32.store8 (i32.const 512) (i32.const 2)) (return (i32.const 512))",
    ),
    (
        "an error whose code is beyond its memory",
        "abi",
        "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 516) (i32.const -9)) (i32.store (i32.const 520) (i32.const 99)) (return (i32.const 512))",
    ),
    (
        "an error whose message is without end",
        "abi",
        "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 528) (i32.const -1)) (return (i32.const 512))",
    ),
    (
        "an error whose code is no text",
        "abi",
        "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 516) (i32.const 3000)) (i32.store (i32.const 520) (i32.const 2)) (return (i32.const 512))",
    ),
    (
        "an error with an empty code",
        "rule.error",
        "(i32.store8 (i32.const 512) (i32.const 1)) (return (i32.const 512))",
    ),
    (
        "an error whose code is 200,000 bytes of anything",
        "rule.error",
        "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 516) (i32.const 4096)) (i32.store (i32.const 520) (i32.const 200000)) (memory.fill (i32.const 4096) (i32.const 10) (i32.const 200000)) (return (i32.const 512))",
    ),
];

/// Texts that are none: `ff fe`, half of an ä and an a, a surrogate.
pub(super) const NO_TEXTS: &str =
    r#"(data (i32.const 3000) "\ff\fe\00\00\c3a\00\00\ed\a0\80") (data (i32.const 1024) "pump")"#;

#[test]
fn every_misuse_of_the_host_is_stopped() {
    for engine in engines() {
        let mut good = Good::new(&engine);
        for (name, code, body) in MISUSES {
            let guest = Guest::processing(&format!("{body} {OK}")).with(NO_TEXTS);
            let failure = provoke(&engine, &patient(), &guest);
            let failure = failure.unwrap_or_else(|| panic!("{name} was not stopped"));
            assert_eq!(failure.code, *code, "{name}: {}", failure.message);
            assert!(failure.message.len() < 3000, "{name}: {}", failure.message.len());
            good.still_works();
        }
    }
}
