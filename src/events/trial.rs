//! What is said when the gateway itself takes a version of a rule away. Codes FG-W80 to W99; the
//! subject is `rule NAME`.

use std::time::Duration;

use super::{Code, Notice};

/// This room's codes.
pub const CODES: &[&Code] = &[&SENT_AWAY, &CAME_BACK, &GAVE_WAY];

/// A trial ended badly.
pub static SENT_AWAY: Code = Code {
    id: "FG-W80",
    title: "a version on trial was sent away",
    about: "A new version of a rule ran beside the one that counts, on the same readings, and did not \
            hold: it failed (a trap, a limit, an error of its own), it emitted far more or far fewer \
            readings, it took far more fuel or time, or more of its readings differed than the \
            operator allows ([rule.x] trial). The running version never stopped, and nothing the \
            other made went on. Its file stays in the rules folder; pushed again it is tried again.",
};

/// A promoted version was taken back.
pub static CAME_BACK: Code = Code {
    id: "FG-W81",
    title: "the last good version of a rule came back",
    about: "A version that had passed its trial, or was promoted by hand, failed within an hour of \
            taking its place ([rule.x] trial: probation), flooded or cost far more than the one \
            before, or no batch was acknowledged for five minutes after it had come though batches \
            were before (silence). The last version that had proven itself runs again, over the \
            state that is there. When the uplink was the reason the new one may be innocent: push \
            it again once the uplink is well.",
};

/// A version that had proven itself was given up.
pub static GAVE_WAY: Code = Code {
    id: "FG-W82",
    title: "a version of a rule that was given up gave way to the last good one",
    about: "A version that had proven itself failed again and again within minutes (FG-W27 says with \
            what), long after its first hour. Before its readings go the way its on_failure says for \
            good, the version before it runs again, over the state that is there. If that one is given \
            up, too, there is none left to go back to, and on_failure holds: then the readings, not \
            the code, are likely what has changed. Its file stays in the rules folder; pushed again it \
            goes on trial.",
};

fn subject(post: &str) -> String {
    format!("rule {post}")
}

/// A version on trial was sent away; `seen` says what both sides had done by then.
#[must_use]
pub fn sent_away(post: &str, version: &str, (code, why): (&str, &str), seen: &str) -> Notice {
    Notice::warning(&SENT_AWAY, subject(post), format!("sends version {version} away: {why}"))
        .seen(format!("The running version goes on ({code}); {seen}."))
        .likely("the new version has a fault that its own tests do not find")
        .likely("the bounds in [rule.x] trial are too narrow for what it is meant to change")
        .try_next(format!("fieldgate rule logs {post}"))
        .try_next(format!("fieldgate rule push FILE --to {post}     (a mended version)"))
}

/// A promoted version gave its place back to the last good one, within its probation; `versions` are
/// the one that failed, the one that came back, and one that was on trial meanwhile.
#[must_use]
pub fn came_back(
    post: &str,
    versions: &[String; 3],
    probation: Duration,
    (code, why): (&str, &str),
) -> Notice {
    let hour = humantime::format_duration(probation);
    let fault = "the new version has a fault that shows only when its output counts";
    let lost = "the uplink was lost for a reason of its own";
    let notice = back(&CAME_BACK, post, versions, why)
        .seen(format!("It was within the {hour} in which a version has to prove itself ({code})."));
    let notice = left(notice, versions);
    if code == "trial.uplink" {
        return notice
            .likely(lost)
            .likely("the new version sends what the broker or the line does not take")
            .try_next("fieldgate doctor uplink")
            .try_next(format!(
                "fieldgate rule push FILE --to {post}     (once the uplink is well)"
            ));
    }
    notice.likely(fault).try_next(format!("fieldgate rule logs {post}"))
}

/// A version that had proven itself was given up, and gave its place back; `versions` as in
/// [`came_back`].
#[must_use]
pub fn gave_way(post: &str, versions: &[String; 3], (code, why): (&str, &str)) -> Notice {
    let notice = back(&GAVE_WAY, post, versions, why);
    let notice = notice.seen(format!("It had proven itself and was given up ({code})."));
    left(notice, versions)
        .likely("readings of a kind that it never met before")
        .likely("what it keeps has grown into a limit")
        .try_next(format!("fieldgate rule logs {post}"))
        .try_next(format!("fieldgate rule push FILE --to {post}     (a mended version)"))
}

fn back(code: &'static Code, post: &str, [failed, good, _]: &[String; 3], why: &str) -> Notice {
    let what = format!("goes back from version {failed} to {good}: {why}");
    Notice::warning(code, subject(post), what)
}

fn left(notice: Notice, [.., trial]: &[String; 3]) -> Notice {
    if trial.is_empty() {
        return notice;
    }
    notice
        .seen(format!("Version {trial}, on trial beside it, went with it: it had no measure left."))
}
