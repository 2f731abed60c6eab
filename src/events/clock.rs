//! What is said about the board's clock. Codes FG-Knn.

use std::time::Duration;

use super::{Code, Notice, rounded};
use crate::clock::Evidence;
use crate::reading::UnixMillis;

/// This room's codes.
pub const CODES: &[&Code] = &[&NOT_SET, &JUMPED, &REFUSED];

/// Whom all of them are about.
pub const SUBJECT: &str = "clock";

/// FG-K01.
pub static NOT_SET: Code = Code {
    id: "FG-K01",
    title: "the clock is not set",
    about: "Nothing vouches for this board's clock since it was switched on: no network time, no \
            battery-backed clock. Readings are taken and kept all the same, with the exact time \
            since boot. When the clock is set, everything that was not sent yet gets its right \
            date (`ck` 2 in its batch); what must be sent before goes out with the date that the \
            board shows and says so (`ck` 0). A person can start a time service, fit a battery, \
            or say `clock = \"trusted\"` under [gateway] where the clock is known to be right.",
};

/// FG-K02.
pub static JUMPED: Code = Code {
    id: "FG-K02",
    title: "the clock jumped",
    about: "The clock was believed and then moved by more than ten seconds at once. The gateway \
            follows it: readings before keep their times, readings after have the new ones, order \
            and sequence numbers stay, timers do not notice. After a jump that is large beside \
            `keep`, nothing is dropped for its age until `keep` has passed once more, so that a \
            wrong clock cannot empty the buffer.",
};

/// FG-K03.
pub static REFUSED: Code = Code {
    id: "FG-K03",
    title: "the clock shows a time that cannot be",
    about: "The clock was believed and then moved to a time before this program was written, or a \
            hundred years later. The gateway does not follow: it counts on from the last time it \
            believed, by the time since boot, so readings keep good dates. It follows the clock \
            again as soon as that shows a time that can be true. A person sets the clock, or looks \
            for the program that set it wrong.",
};

/// Nothing vouches for the clock.
#[must_use]
pub fn not_set() -> Notice {
    Notice::warning(&NOT_SET, SUBJECT, "is not set: nothing vouches for it since the board started")
        .seen("Readings are kept and get their dates when it is set.")
        .likely("network time has not answered yet")
        .likely("no time service runs on this board")
        .likely("its battery-backed clock is missing or its battery is flat")
        .try_next("timedatectl")
        .try_next("clock = \"trusted\" under [gateway], if this clock is known to be right")
}

/// Completes the subject when the clock was set.
#[must_use]
pub fn set(moved_ms: i64, why: Evidence) -> String {
    let why = match why {
        Evidence::Trusted => "the configuration trusts it",
        Evidence::Synced => "it is synchronised",
        Evidence::Battery => "its battery-backed clock agrees",
        Evidence::Machine => "the machine keeps time",
        Evidence::Step => "somebody set it",
        Evidence::Earlier => "it was set before in this boot",
    };
    format!("is set ({why}); it moved {}, and readings since boot get their dates", way(moved_ms))
}

/// The clock jumped.
#[must_use]
pub fn jumped(moved_ms: i64) -> Notice {
    Notice::warning(&JUMPED, SUBJECT, format!("jumped {}", way(moved_ms)))
        .seen("Nothing is lost or reordered; readings from now on have the new time.")
        .likely("it was corrected by hand or by a time service")
        .likely("the machine was paused and went on")
        .try_next("timedatectl")
}

/// The clock shows what cannot be.
#[must_use]
pub fn refused(shown: UnixMillis) -> Notice {
    let shown = crate::batch::text::rfc3339(shown);
    Notice::warning(&REFUSED, SUBJECT, format!("shows {shown}, which cannot be true"))
        .seen("Readings go on with the time since the clock was last right.")
        .likely("a program or a person set it wrong")
        .try_next("timedatectl")
}

fn way(moved_ms: i64) -> String {
    let by = rounded(Duration::from_millis(moved_ms.unsigned_abs()));
    format!("{by} {}", if moved_ms < 0 { "back" } else { "forward" })
}
