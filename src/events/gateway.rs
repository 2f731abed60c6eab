//! What the wiring board says. Codes FG-Gnn.

use std::io;

use std::time::Duration;

use super::{Code, Notice, counted, rounded};

/// A source panicked.
pub static SOURCE_FAILED: Code = Code {
    id: "FG-G01",
    title: "a source failed inside",
    about: "A source met a state its authors did not foresee and was stopped. Every other source \
            goes on. The gateway starts it again after a pause that doubles up to half a minute. \
            Please report the text together with the configuration of that source.",
};

/// Draining took too long.
pub static SLOW_STOP: Code = Code {
    id: "FG-G02",
    title: "stopped before everything was sent",
    about: "On a stop signal the gateway commits what it has read, tries to send it, and says \
            goodbye to the broker, all within ten seconds. What was not acknowledged by then stays \
            in the buffer and is sent after the next start; nothing is lost.",
};

/// The demonstration could not run.
pub static NO_DEMO: Code = Code {
    id: "FG-G03",
    title: "the demonstration did not work",
    about: "The demonstration needs a folder for its buffer, free ports on the loopback address and \
            two pseudo-terminals. One of them could not be had, or its buffer did not drain after \
            the outage. It changes nothing outside its own folder.",
};

/// A part without which there is no gateway has ended.
pub static PART_ENDED: Code = Code {
    id: "FG-G04",
    title: "the gateway broke",
    about: "The store, the pipeline or an uplink ended although nobody had asked it to: a fault in \
            fieldgate itself. What was committed is safe on disk. The gateway commits what it still \
            can, stops and returns 70, so that systemd starts it again; what was not acknowledged is \
            sent then. Please report the lines of the log around this one.",
};

/// The last readings did not reach the disk.
pub static NOT_COMMITTED: Code = Code {
    id: "FG-G05",
    title: "stopped without a last commit",
    about: "On a stop signal the disk did not take what was read last, or took too long. Readings \
            that were committed before are safe; the number of those that were not is told. The \
            gateway returns 70. Make room on the disk, or replace it when it reports errors.",
};

/// A command met a system that does not do its part.
pub static SYSTEM: Code = Code {
    id: "FG-G06",
    title: "the system does not do its part",
    about: "A command could not have what every program has: an event queue, signals, or an output \
            to write to. It ended without doing its work. The usual reasons are a full disk behind \
            the output, or a sandbox or limit on open files that is tighter than fieldgate needs.",
};

/// A part makes no progress.
pub static PART_STUCK: Code = Code {
    id: "FG-G07",
    title: "a part of the gateway hangs",
    about: "The store's thread has not answered for half a minute, or the task of an uplink or source \
            has not woken although its own timers should have woken it. While this lasts the watchdog \
            is not fed, so that systemd ends the gateway and starts it again. Readings that were \
            committed are safe. A store that hangs is most often a card or disk that takes a request \
            and never answers; a disk that refuses is told otherwise and is no reason to restart.",
};

/// The process died again and again right after its start.
pub static SAFE_MODE: Code = Code {
    id: "FG-G08",
    title: "safe mode",
    about: "The daemon died three times in a row within a minute of its start, so this start is a \
            careful one. What was kept is kept, the socket answers, rules stay off, and uplinks and \
            sources are started one by one; one with which the daemon died again is left out. It ends \
            with a changed or reloaded configuration (fieldgate apply), with an orderly restart, or \
            with another boot. The log around the deaths says more: journalctl -u fieldgate. Please \
            report it together with the part that is named.",
};

/// This room's codes.
pub const CODES: &[&Code] = &[
    &SOURCE_FAILED,
    &SLOW_STOP,
    &NO_DEMO,
    &PART_ENDED,
    &NOT_COMMITTED,
    &SYSTEM,
    &PART_STUCK,
    &SAFE_MODE,
];

/// A source panicked and will be started again.
#[must_use]
pub fn source_failed(name: &str, why: &str) -> Notice {
    Notice::error(&SOURCE_FAILED, name, format!("failed inside and is started again: {why}"))
        .likely("a fault in fieldgate itself, met through unusual input")
        .try_next("report this line with the configuration of that source")
}

/// The time for draining is over.
#[must_use]
pub fn slow_stop(after: Duration, batches: u64) -> Notice {
    let (after, batches) = (rounded(after), counted(batches, "batch"));
    Notice::warning(
        &SLOW_STOP,
        "gateway",
        format!("stops after {after} with {batches} not yet acknowledged"),
    )
    .seen("They are kept in the buffer and sent after the next start.")
    .try_next("fieldgate buffer status")
}

/// A part ended unasked: `the store`, `the pipeline`, `an uplink`.
#[must_use]
pub fn part_ended(part: &str) -> Notice {
    Notice::error(&PART_ENDED, "gateway", format!("stops: {part} ended by itself"))
        .seen("What was committed is safe; systemd starts the gateway again.")
        .likely("a fault in fieldgate itself, met through unusual input")
        .try_next("report the lines of the log before this one")
}

/// A part hangs: `the store`, `bus rs485-1`, `uplink cloud`.
#[must_use]
pub fn part_stuck(part: &str) -> Notice {
    let notice = Notice::error(&PART_STUCK, part, "makes no progress")
        .seen("The watchdog is not fed until it does; systemd then starts the gateway again.");
    let notice = if part == "the store" {
        notice.likely("the card or disk has stopped answering")
    } else {
        notice.likely("a fault in fieldgate itself, met through unusual input")
    };
    notice.try_next("dmesg | tail; then report the lines of the log before this one")
}

/// The last commit failed; `lost` readings were not written.
#[must_use]
pub fn not_committed(lost: u64, why: &str) -> Notice {
    let what = format!("stopped without its last commit: {why}");
    Notice::error(&NOT_COMMITTED, "gateway", what)
        .seen(format!("{lost} readings of the last moments were not written; all others are."))
        .likely("the file system is full or read-only")
        .likely("the card or disk is failing")
        .try_next("fieldgate buffer status")
}

/// The system does not give a command what it needs; `what` completes "fieldgate".
#[must_use]
pub fn system(what: &str, kind: io::ErrorKind) -> Notice {
    Notice::error(&SYSTEM, "fieldgate", format!("{what}: {}", words(kind)))
        .likely("a disk is full, or a limit on open files is too low")
        .likely("a sandbox forbids it")
        .try_next("df; ulimit -n")
}

/// Says in words why the system refused.
fn words(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "it does not exist",
        io::ErrorKind::PermissionDenied => "this user may not",
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => "a file stands in the way",
        io::ErrorKind::AddrInUse => "another program has the port",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => "the other end is gone",
        _ => "the system refuses",
    }
}

/// The demonstration could not be set up.
#[must_use]
pub fn no_demo(kind: io::ErrorKind) -> Notice {
    let what = format!("could not be set up: {}", words(kind));
    Notice::error(&NO_DEMO, "the demonstration", what)
        .seen("It needs a folder, loopback ports and two pseudo-terminals (/dev/pts).")
        .try_next("fieldgate demo --folder /tmp/demo")
}

/// A simulated device or the broker ended.
#[must_use]
pub fn demo_lost(what: &str, kind: io::ErrorKind) -> Notice {
    Notice::error(&NO_DEMO, "the demonstration", format!("lost {what}: {}", words(kind)))
        .try_next("start it again")
}

/// The buffer still held batches long after the outage.
#[must_use]
pub fn demo_did_not_drain(seconds: u64) -> Notice {
    let what = format!("did not drain its buffer within {seconds} s after the outage");
    Notice::error(&NO_DEMO, "the demonstration", what)
        .try_next("FIELDGATE_LOG=debug fieldgate demo --outage 10s")
}

/// What a notice about the whole gateway is about.
pub const ALL_OF_IT: &str = "the gateway";

/// The daemon keeps dying right after its start. `next` is the part that was started last, on trial.
#[must_use]
pub fn safe_mode(left_out: &[&str], next: Option<&str>) -> Notice {
    let notice =
        Notice::error(&SAFE_MODE, ALL_OF_IT, "runs in safe mode: it died three times in a row")
            .seen(
                "What was kept is kept. Rules are off; uplinks and sources are started one by one.",
            );
    let notice = match left_out {
        [] => notice,
        parts => notice
            .seen(format!("Left out, since it died again with them: {}.", parts.join(", ")))
            .likely(format!("a fault in fieldgate itself, met through {}", parts.join(", "))),
    };
    let notice = match next {
        Some(part) => notice.seen(format!("On trial now: {part}.")),
        None => notice.seen("Everything else runs."),
    };
    notice
        .likely("a rule, or a part that is not used any more, took more memory than the board has")
        .try_next("journalctl -u fieldgate -n 100")
        .try_next("fieldgate apply        (starts everything again)")
}
