//! What an uplink says about its data plan. Codes FG-U22 and up; the subject is `uplink cloud`.

use bytesize::ByteSize;

use super::{Code, Notice};

/// This room's codes.
pub const CODES: &[&Code] = &[&DATA_PLAN_SHORT];

/// FG-U22.
pub static DATA_PLAN_SHORT: Code = Code {
    id: "FG-U22",
    title: "data plan runs short",
    about: "An uplink with a data_plan has used four fifths of it, or will need more than all of it \
            at the present rate, or has passed it. Nothing is dropped: the gateway makes batches \
            longer, step by step up to a quarter of an hour, because larger batches compress better \
            and cost fewer packets; events go out as fast as ever. It ends with the month. A person \
            raises intervals or deadbands, sends fewer points, or buys more data.",
};

/// What a month looks like, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// Used until now.
    pub used: u64,
    /// The plan.
    pub plan: u64,
    /// What the whole month will take at the present rate, when that can be said.
    pub foretold: Option<u64>,
}

/// Builds the notice for a plan of which much is used.
#[must_use]
pub fn short(subject: &str, outlook: &Outlook) -> Notice {
    let Outlook { used, plan, .. } = *outlook;
    let what = format!("has used {} of the {} it may this month", size(used), size(plan));
    advise(subject, what, outlook).because("short")
}

/// Builds the notice for a plan that will not do.
#[must_use]
pub fn beyond(subject: &str, outlook: &Outlook) -> Notice {
    let needs = size(outlook.foretold.unwrap_or(outlook.used));
    let what = format!(
        "will need {needs} this month at the present rate, and may use {}",
        size(outlook.plan)
    );
    advise(subject, what, outlook).because("beyond")
}

/// Builds the notice for a plan that was passed.
#[must_use]
pub fn passed(subject: &str, outlook: &Outlook) -> Notice {
    let Outlook { used, plan, .. } = *outlook;
    let what = format!("has passed its data plan: {} of {} this month", size(used), size(plan));
    advise(subject, what, outlook).because("passed")
}

fn advise(subject: &str, what: String, outlook: &Outlook) -> Notice {
    let notice = Notice::warning(&DATA_PLAN_SHORT, subject, what)
        .seen("Nothing is dropped; batches of data are made longer while it looks like this.");
    let notice = match outlook.foretold {
        Some(foretold) => notice.seen(format!("The whole month will take {} so.", size(foretold))),
        None => notice,
    };
    notice
        .likely("points are polled more often than the plan has room for")
        .likely("the link flaps: every connection costs a TLS handshake")
        .likely("an outage left a backlog")
        .try_next("fieldgate buffer status")
        .try_next("raise every, or set deadbands")
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}
