//! What the chains of rules say, and the store about what rules keep. Codes FG-W20 to W39; the
//! subject is `rule NAME`.

use std::path::Path;

use super::{Code, Notice};

/// This room's codes.
pub const CODES: &[&Code] = &[&STATE_DAMAGED];

/// What was kept of a rule is damaged.
pub static STATE_DAMAGED: Code = Code {
    id: "FG-W20",
    title: "a rule's state was damaged",
    about: "What a rule had kept in the buffer (its keys and values, timers, outputs and its place in \
            the input) failed a checksum. All of it was forgotten, because half a state is worse than \
            none, and the rule begins as on its first day: windows that were open start again. \
            Readings, other rules and the start of the gateway are not touched. The usual cause is a \
            worn-out card or a medium that does not keep what it promised to have written.",
};

/// Returns the subject of everything about a rule.
#[must_use]
pub fn subject(rule: &str) -> String {
    format!("rule {rule}")
}

/// What was kept of a rule in the buffer at `path` cannot be believed.
#[must_use]
pub fn state_damaged(rule: &str, path: &Path) -> Notice {
    let what = format!("begins anew: what it had kept in {} was damaged", path.display());
    Notice::warning(&STATE_DAMAGED, subject(rule), what)
        .seen("A checksum failed; readings and other rules are not touched.")
        .likely("a power cut on a medium that does not keep what it promised to have written")
        .likely("a worn-out card")
        .try_next("fieldgate buffer check")
}
