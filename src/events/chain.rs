//! What the chains of rules say, and the store about what rules keep. Codes FG-W20 to W39; the
//! subject is `rule NAME`.

use std::path::Path;
use std::time::Duration;

use super::{Code, Notice};

/// This room's codes.
pub const CODES: &[&Code] = &[
    &STATE_DAMAGED,
    &NOT_STARTED,
    &STOPPED,
    &BEHIND,
    &HELD_TOO_MANY,
    &ASIDE,
    &EXHAUSTED,
    &GIVEN_UP,
    &ALL_LATE,
    &SLOW_STOP,
    &STATE_UNREAD,
    &SLOW_BEGIN,
];

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

/// A rule could not be started.
pub static NOT_STARTED: Code = Code {
    id: "FG-W21",
    title: "a rule could not be started",
    about: "A rule's file cannot run here, the rule itself refused to begin, or it closes a circle of \
            rules that feed one another. When an earlier version of it was running, that goes on. \
            Else its readings go on without it, are dropped or wait, as its on_failure says. \
            Everything else runs. `fieldgate check` says more about the file.",
};

/// A running rule was taken out.
pub static STOPPED: Code = Code {
    id: "FG-W22",
    title: "a rule was stopped",
    about: "A running rule broke a bound of the river (it made more series than a gateway holds), or \
            the gateway itself failed while it ran the rule's chain. The rule stands still until the \
            configuration is applied again or the gateway is started again; its readings go the way \
            its on_failure says. What it had kept stays on disk.",
};

/// A chain does not keep up.
pub static BEHIND: Code = Code {
    id: "FG-W23",
    title: "a rule does not keep up",
    about: "Readings come faster than a rule, or one of its chain, processes them, and 10,000 of them \
            wait. Further ones go past the rule, unruled, or are dropped with on_failure = drop, \
            because the river does not wait for one rule. They are counted in the rule's status. Give \
            the rule fewer points, or one that does less a reading; `fieldgate rule bench` measures it.",
};

/// Too many readings wait for a rule that does not work.
pub static HELD_TOO_MANY: Code = Code {
    id: "FG-W24",
    title: "readings no longer wait for a rule",
    about: "A rule with on_failure = hold was given up, and as many readings wait for it in memory as \
            there is room for. From now on the oldest go on without it. They are not lost, but they \
            are what the rule would have reduced, checked or replaced. Mend the rule or go back to its \
            last good version.",
};

/// A reading that makes a rule fail.
pub static ASIDE: Code = Code {
    id: "FG-W25",
    title: "a reading made a rule fail",
    about: "A rule failed twice on a batch, and the reading that does it was found by halving the \
            batch. It was set aside: the rule goes on without it, and the receiver gets an event \
            (device: the rule's name, point: aside) that names it. A few of those within minutes, and \
            the rule is given up for a while. It is a fault of the rule, met through that reading.",
};

/// The search for the reading that makes a rule fail was ended.
pub static EXHAUSTED: Code = Code {
    id: "FG-W26",
    title: "a batch was not processed by a rule",
    about: "A rule failed on so many readings of one batch that the search for them was ended. The \
            rest of the batch goes the way the rule's on_failure says, and the rule is tried again \
            with the next batch. It is a fault of the rule, or a limit that is too low for it.",
};

/// A rule failed too often.
pub static GIVEN_UP: Code = Code {
    id: "FG-W27",
    title: "a rule was given up for now",
    about: "A rule failed again and again within minutes. It is not called for a while and then tried \
            again by itself; until it works its readings go on without it, are dropped or wait, as its \
            on_failure says. What it had kept stays as it was after its last good batch. When a last \
            good version of it is at hand, that one takes its place at once (FG-W82). The receiver \
            gets an event (device: the rule's name, point: given_up).",
};

/// A rule's readings are all late.
pub static ALL_LATE: Code = Code {
    id: "FG-W28",
    title: "a rule's readings are all late",
    about: "The readings that come are dated long before others that the rule has seen: the clock was \
            ahead and has been set back, or a device sends old readings. The rule's own time does not \
            go back, so that no window is closed twice; it gets these readings marked as late until \
            their time has caught up. If that is far away, begin the rule's state anew under another \
            name of the rule.",
};

/// A chain did not end in time.
pub static SLOW_STOP: Code = Code {
    id: "FG-W29",
    title: "a rule was not ready to stop",
    about: "On a stop, a rule had not processed all that waited for it within half a second. The \
            rest went on unruled, so nothing is lost. What the rule did in its last batch may be \
            missing, the readings and the state alike.",
};

/// What rules keep cannot be read.
pub static STATE_UNREAD: Code = Code {
    id: "FG-W30",
    title: "rules wait for the disk",
    about: "At the start, or when rules were changed, the buffer could not tell what rules had kept, \
            because the disk refuses. Rules are not begun without it: that would forget open windows. \
            Their readings go on unruled until the disk answers; it is asked again by itself.",
};

/// Rules take long to begin.
pub static SLOW_BEGIN: Code = Code {
    id: "FG-W31",
    title: "rules take long to begin",
    about: "At a start sources wait for the rules that take their readings, so that nothing is read \
            that only memory holds. Rules whose code was compiled before begin within milliseconds; \
            new ones, and all of them after another version of fieldgate was installed, are compiled \
            first, which takes a small board seconds a rule. When that takes too long, or the disk \
            does not say what the rules had kept, sources begin without them: what is read goes on \
            unruled or is dropped, as each rule's on_failure says, and is counted in its status.",
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

/// A rule cannot run; `runs` says that an earlier version of it goes on.
#[must_use]
pub fn not_started(rule: &str, runs: bool, code: &str, why: &str) -> Notice {
    let (what, seen) = if runs {
        ("is not changed", "It goes on as it was.")
    } else {
        ("is not started", "Its readings go the way its on_failure says; everything else runs.")
    };
    Notice::error(&NOT_STARTED, subject(rule), format!("{what}: {why} ({code})"))
        .seen(seen)
        .try_next("fieldgate check")
}

/// A running rule was taken out.
#[must_use]
pub fn stopped(rule: &str, code: &str, why: &str) -> Notice {
    Notice::error(&STOPPED, subject(rule), format!("is stopped: {why} ({code})"))
        .seen("Its readings go the way its on_failure says; what it had kept stays on disk.")
        .try_next("fieldgate rule list")
}

/// More waits for a rule than there is room for.
#[must_use]
pub fn behind(rule: &str, most: usize) -> Notice {
    let what = format!("does not keep up: {most} readings wait, further ones go past it");
    Notice::warning(&BEHIND, subject(rule), what)
        .likely("it takes more points than it has time for")
        .likely("its code was made for a faster machine, or runs in the interpreter")
        .try_next("fieldgate rule list")
        .try_next("fieldgate rule bench FILE")
}

/// As many readings wait for a rule as there is room for.
#[must_use]
pub fn held_too_many(rule: &str, most: usize) -> Notice {
    let what = format!("is waited for by {most} readings; the oldest now go on without it");
    Notice::warning(&HELD_TOO_MANY, subject(rule), what)
        .try_next(format!("fieldgate rule logs {rule}"))
}

/// A reading (`meter/power = 3`) was set aside.
#[must_use]
pub fn aside(rule: &str, reading: &str, code: &str, why: &str) -> Notice {
    let what = format!("failed on {reading}, which was set aside: {why} ({code})");
    Notice::warning(&ASIDE, subject(rule), what)
        .seen("It failed twice on the batch, and alone on this reading.")
        .likely("a case that the rule's author did not foresee")
        .try_next(format!("fieldgate rule logs {rule}"))
}

/// A batch had too many readings on which a rule fails.
#[must_use]
pub fn exhausted(rule: &str, left: usize, code: &str, why: &str) -> Notice {
    let what = format!("did not process {left} readings of a batch: {why} ({code})");
    Notice::warning(&EXHAUSTED, subject(rule), what)
        .likely("a fault that most readings meet")
        .likely("a limit that is too low for it")
        .try_next(format!("fieldgate rule logs {rule}"))
}

/// A rule is not called for a while.
#[must_use]
pub fn given_up(rule: &str, poisons: usize, (code, why): (&str, &str), policy: &str) -> Notice {
    let what = format!("is given up for now after {poisons} failures: {why} ({code})");
    Notice::error(&GIVEN_UP, subject(rule), what)
        .seen(policy)
        .seen("It is tried again by itself.")
        .likely(match LIMITS.contains(&code) {
            true => "a limit that is too low for what it has to do (`limit` in its table)",
            false => "a fault of this version of the rule",
        })
        .try_next(format!("fieldgate rule logs {rule}"))
        .try_next("fieldgate rule list")
}

/// Failures at a bound that an operator may raise, by their codes.
const LIMITS: [&str; 8] = [
    "fuel",
    "deadline",
    "memory",
    "output.count",
    "output.bytes",
    "state.bytes",
    "state.keys",
    "timers.count",
];

/// All readings of a rule are this much late.
#[must_use]
pub fn all_late(rule: &str, seconds: i64) -> Notice {
    let what = format!("gets readings dated {seconds} s before others that it has seen");
    Notice::warning(&ALL_LATE, subject(rule), what)
        .seen("They are handed to it marked as late; no window is closed twice.")
        .likely("the clock was ahead and was set back")
        .likely("a device sends what it had stored")
        .try_next("date, and timedatectl on the gateway")
}

/// Readings that a rule did not get to before a stop.
#[must_use]
pub fn slow_stop(rule: &str, readings: usize) -> Notice {
    let what = format!("was not ready to stop; {readings} readings went on without it");
    Notice::warning(&SLOW_STOP, subject(rule), what).try_next("fieldgate rule list")
}

/// What rules had kept cannot be read now.
#[must_use]
pub fn state_unread(why: &str) -> Notice {
    Notice::error(&STATE_UNREAD, "rules", format!("wait for the disk: {why}"))
        .seen("Their readings go on unruled; it is asked again by itself.")
        .try_next("fieldgate buffer status")
}

/// Sources begin before the rules.
#[must_use]
pub fn slow_begin(waited: Duration) -> Notice {
    let what = format!("have not begun within {} s; sources begin without them", waited.as_secs());
    Notice::warning(&SLOW_BEGIN, "rules", what)
        .seen("Until they have begun, what is read goes the way their on_failure says.")
        .likely("their files are being compiled for the first time on this board")
        .likely("the disk does not say what they had kept")
        .try_next("fieldgate rule list; fieldgate buffer status")
}
