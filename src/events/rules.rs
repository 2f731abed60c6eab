//! What is said about the rule host. What befalls a rule, from its file being refused to its being
//! given up, stands with the chains it runs in.

use super::{Code, Notice};

/// Compiled code cannot be kept.
pub static NOT_KEPT: Code = Code {
    id: "FG-W01",
    title: "compiled rules cannot be kept on disk",
    about: "Rules are compiled at each start instead of once: a fraction of a second for a rule in Rust, \
            up to a minute for one with an interpreter in it, on a small board. Everything else works. \
            The folder must belong to the gateway's user and lie on a disk that can be written.",
};

/// This room's codes.
pub const CODES: &[&Code] = &[&NOT_KEPT];

/// Compiled code cannot be kept; `why` is a clause that names the folder.
#[must_use]
pub fn not_kept(why: &str) -> Notice {
    Notice::warning(&NOT_KEPT, "rules", format!("are compiled at each start: {why}"))
        .try_next("systemctl cat fieldgate | grep StateDirectory")
}
