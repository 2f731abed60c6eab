//! What is said about the rule host: files, the start of a rule, and where rules run. Codes FG-W01 to
//! W19; what befalls a rule that runs stands with the chains it runs in.

use super::{Code, Notice};

/// A file is no rule that can run here.
pub static REFUSED: Code = Code {
    id: "FG-W01",
    title: "a rule's file was refused",
    about: "The file of a rule is not what it has to be: a WebAssembly component with the functions of \
            fieldgate:rule@1, a manifest, and no import that the contract does not have. Nothing of it \
            was run. The readings that the rule should have had go on, wait or are dropped, as its \
            `on_failure` says; other rules are not touched.",
};

/// A rule does not open.
pub static NOT_OPENED: Code = Code {
    id: "FG-W02",
    title: "a rule does not start",
    about: "The file is a rule, but its `open` (or the migration of what an earlier version of it kept) \
            ended with an error, a trap or at a limit. Nothing that is kept of it was changed, so an \
            earlier version can be put back as it was. Its parameters are the first thing to look at.",
};

/// Rules run in the interpreter although native code was asked for.
pub static INTERPRETED: Code = Code {
    id: "FG-W03",
    title: "rules run in the interpreter",
    about: "Native code was asked for, and memory may not become executable here: systemd's \
            MemoryDenyWriteExecute= or the kernel forbids it. Rules run four to five times slower, with \
            the same results and the same fuel. The packaged unit forbids it on purpose.",
};

/// Compiled code cannot be kept.
pub static NOT_KEPT: Code = Code {
    id: "FG-W04",
    title: "compiled rules cannot be kept on disk",
    about: "Rules are compiled at each start instead of once: a fraction of a second for a rule in Rust, \
            up to a minute for one with an interpreter in it, on a small board. Everything else works. \
            The folder must belong to the gateway's user and lie on a disk that can be written.",
};

/// This room's codes.
pub const CODES: &[&Code] = &[&REFUSED, &NOT_OPENED, &INTERPRETED, &NOT_KEPT];

/// What rules are called in notices.
#[must_use]
pub fn subject(rule: &str) -> String {
    format!("rule {rule}")
}

/// The file `file` of a rule is refused: `what` completes "the file", `next` is a sentence or empty.
#[must_use]
pub fn refused(rule: &str, file: &str, code: &str, what: &str, next: &str) -> Notice {
    let notice = Notice::error(&REFUSED, subject(rule), format!("does not run: {file} {what}"))
        .seen(format!("code {code}"));
    let notice = if next.is_empty() { notice } else { notice.try_next(next) };
    notice.try_next(format!("fieldgate rule check {file}"))
}

/// A rule's `open` failed.
#[must_use]
pub fn not_opened(rule: &str, code: &str, message: &str) -> Notice {
    Notice::error(&NOT_OPENED, subject(rule), format!("does not start: {message}"))
        .seen(format!("code {code}"))
        .likely("a parameter in its `with` table that it cannot work with")
        .likely("state of an earlier version that it cannot migrate")
        .try_next(format!("fieldgate rule logs {rule}"))
}

/// Native code was asked for and cannot be.
#[must_use]
pub fn interpreted(why: &str) -> Notice {
    Notice::warning(&INTERPRETED, "rules", format!("run in the interpreter: {why}"))
        .try_next("leave it so; or set MemoryDenyWriteExecute=no in an override of the unit")
}

/// Compiled code cannot be kept; `why` is a clause that names the folder.
#[must_use]
pub fn not_kept(why: &str) -> Notice {
    Notice::warning(&NOT_KEPT, "rules", format!("are compiled at each start: {why}"))
        .try_next("systemctl cat fieldgate | grep StateDirectory")
}
