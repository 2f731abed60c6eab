//! What the wiring board says. Codes FG-Gnn.

use super::{Code, Notice};

/// A source panicked.
pub static SOURCE_FAILED: Code = Code {
    id: "FG-G01",
    title: "a source failed inside",
    about: "A source met a state its authors did not foresee and was stopped. Every other source \
            goes on. The gateway starts it again after a pause that doubles up to five minutes. \
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

/// This room's codes.
pub const CODES: &[&Code] = &[&SOURCE_FAILED, &SLOW_STOP];

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
