//! What the wiring board says. Codes FG-Gnn.

use super::{Code, Notice};

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

/// This room's codes.
pub const CODES: &[&Code] = &[&SOURCE_FAILED, &SLOW_STOP, &NO_DEMO];

/// A source panicked and will be started again.
#[must_use]
pub fn source_failed(name: &str, why: &str) -> Notice {
    Notice::error(&SOURCE_FAILED, name, format!("failed inside and is started again: {why}"))
        .likely("a fault in fieldgate itself, met through unusual input")
        .try_next("report this line with the configuration of that source")
}

/// The time for draining is over.
#[must_use]
pub fn slow_stop(seconds: u64, batches: u64) -> Notice {
    Notice::warning(
        &SLOW_STOP,
        "gateway",
        format!("stops after {seconds} s with {batches} batches not yet acknowledged"),
    )
    .seen("They are kept in the buffer and sent after the next start.")
    .try_next("fieldgate buffer status")
}

/// The demonstration could not be set up.
#[must_use]
pub fn no_demo(why: &str) -> Notice {
    Notice::error(&NO_DEMO, "the demonstration", format!("could not be set up: {why}"))
        .seen("It needs a folder, loopback ports and two pseudo-terminals (/dev/pts).")
        .try_next("fieldgate demo --folder /tmp/demo")
}

/// The buffer still held batches long after the outage.
#[must_use]
pub fn demo_did_not_drain(seconds: u64) -> Notice {
    let what = format!("did not drain its buffer within {seconds} s after the outage");
    Notice::error(&NO_DEMO, "the demonstration", what)
        .try_next("FIELDGATE_LOG=debug fieldgate demo --outage 10s")
}
