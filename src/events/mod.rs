//! Everything an operator may be told, and the rule for telling it: once when it begins, once when
//! it ends, with a count of what happened between. A link that flaps 500 times is two lines.
//!
//! Each room's messages stand in a file of their own here, as functions that build a [`Notice`];
//! rooms call them and never write prose themselves. A notice has a [`Code`], and every code has
//! a paragraph for whoever looks it up.

pub mod api;
pub mod apply;
pub mod author;
pub mod broker;
pub mod buffer;
pub mod chain;
pub mod clock;
pub mod coap;
pub mod config;
pub mod decode;
pub mod firsthour;
pub mod gateway;
pub mod modbus;
pub mod place;
pub mod plan;
pub mod push;
pub mod receive;
pub mod rules;
pub mod serial;
pub mod trial;
pub mod zigbee;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// A kind of trouble (or of relief) with a name that never changes.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `FG-M03`: room letter and number.
    pub id: &'static str,
    /// A few words, for lists.
    pub title: &'static str,
    /// What it means, what the gateway does about it by itself, what a person can do.
    pub about: &'static str,
}

/// How much it matters, by consequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Odd, nothing is lost.
    Warning,
    /// Data is being lost, or a person is needed.
    Error,
}

/// One thing to tell: what failed, where, what was seen; likely causes in order; the next command.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Which kind.
    pub code: &'static Code,
    /// How much it matters.
    pub weight: Weight,
    /// Where, as people write it: `bus rs485-1: device 7 (pump-7)`. With the code, the identity of
    /// the condition: the same subject raised again is counted, not told again.
    pub subject: String,
    /// What was seen, completing the subject: `has not answered for 4 min (120 requests)`.
    pub what: String,
    /// Which of several causes it has; when only that changes, it is told again, each cause once.
    pub cause: &'static str,
    /// Observations that narrow it down, one sentence each.
    pub evidence: Vec<String>,
    /// Causes, most likely first.
    pub likely: Vec<String>,
    /// Commands or steps to try next.
    pub next: Vec<String>,
}

impl Notice {
    /// Begins a warning.
    #[must_use]
    pub fn warning(
        code: &'static Code,
        subject: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Self {
            code,
            weight: Weight::Warning,
            subject: subject.into(),
            what: what.into(),
            cause: "",
            evidence: Vec::new(),
            likely: Vec::new(),
            next: Vec::new(),
        }
    }

    /// Begins an error.
    #[must_use]
    pub fn error(code: &'static Code, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { weight: Weight::Error, ..Self::warning(code, subject, what) }
    }

    /// Says which of the causes it is.
    #[must_use]
    pub fn because(mut self, cause: &'static str) -> Self {
        self.cause = cause;
        self
    }

    /// Adds an observation.
    #[must_use]
    pub fn seen(mut self, sentence: impl Into<String>) -> Self {
        self.evidence.push(sentence.into());
        self
    }

    /// Adds the next likely cause.
    #[must_use]
    pub fn likely(mut self, cause: impl Into<String>) -> Self {
        self.likely.push(cause.into());
        self
    }

    /// Adds a step to try.
    #[must_use]
    pub fn try_next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {} {}", self.code.id, self.subject, self.what)?;
        for sentence in &self.evidence {
            write!(f, "\n  {sentence}")?;
        }
        for (n, cause) in self.likely.iter().enumerate() {
            let lead = if n == 0 { "\n  Likely: " } else { "   " };
            write!(f, "{lead}{}. {cause}", n + 1)?;
        }
        for step in &self.next {
            write!(f, "\n  Try:    {step}")?;
        }
        Ok(())
    }
}

/// Where rooms report; cheap to clone, shared by the whole gateway.
#[derive(Debug, Clone, Default)]
pub struct Events {
    standing: Arc<Mutex<HashMap<Key, Condition>>>,
    /// The part that this handle was given to.
    part: Option<Arc<str>>,
}

/// A code's id and a subject.
type Key = (&'static str, String);

/// Something that is wrong now.
#[derive(Debug, Clone)]
pub struct Condition {
    /// As it was told last.
    pub notice: Notice,
    /// The causes that were told.
    pub causes: Vec<&'static str>,
    /// When it began.
    pub since: Instant,
    /// How often it was raised since.
    pub count: u64,
    /// The part of the gateway that raised it, when it has a handle of its own.
    pub part: Option<Arc<str>>,
}

impl Events {
    /// Says that something is wrong. The first time it is logged in full; while it stands, raising
    /// it again only counts, unless its cause is another. Returns whether it was told; beyond
    /// [`limits::CONDITIONS_MAX`] nothing more is told until something is over.
    pub fn raise(&self, notice: Notice) -> bool {
        let mut standing = self.lock();
        let key = (notice.code.id, notice.subject.clone());
        if let Some(condition) = standing.get_mut(&key) {
            condition.count += 1;
            let told = condition.causes.contains(&notice.cause);
            if told || condition.causes.len() >= limits::CAUSES_TOLD_MAX {
                return false;
            }
            log(&notice);
            condition.causes.push(notice.cause);
            condition.notice = notice;
            return true;
        }
        if standing.len() >= limits::CONDITIONS_MAX {
            // Nobody would remember that it was told, so it would be told again and again.
            tracing::debug!("beyond {} standing conditions: {notice}", limits::CONDITIONS_MAX);
            return false;
        }
        log(&notice);
        let (causes, since) = (vec![notice.cause], Instant::now());
        let part = self.part.clone();
        standing.insert(key, Condition { notice, causes, since, count: 1, part });
        true
    }

    /// Says once that something went well and is over: it is in the journal by its code, and nothing
    /// stands.
    pub fn tell(notice: &Notice) {
        let (code, subject) = (notice.code.id, notice.subject.as_str());
        tracing::info!(fg.code = code, fg.subject = subject, "{notice}");
    }

    /// Says that it is over, completing the subject with `now` (`answers again`). Nothing is said
    /// when it was not raised. Returns the condition that ended.
    pub fn clear(&self, code: &'static Code, subject: &str, now: &str) -> Option<Condition> {
        let key = (code.id, subject.to_owned());
        let ended = self.lock().remove(&key)?;
        let lasted = rounded(ended.since.elapsed());
        let times = match ended.count {
            1 => String::new(),
            n => format!(" (seen {n} times)"),
        };
        tracing::info!(
            fg.code = code.id,
            fg.subject = subject,
            "{}  {subject} {now} after {lasted}{times}",
            code.id
        );
        Some(ended)
    }

    /// Returns a handle for one part of the gateway: what it raises ends with it.
    #[must_use]
    pub fn of(&self, part: &str) -> Self {
        Self { standing: Arc::clone(&self.standing), part: Some(part.into()) }
    }

    /// Says that a part is gone: whatever it raised is over, but what is about one of `going_on`,
    /// which its successor knows of.
    pub fn part_gone(&self, part: &str, going_on: &[String]) {
        let ended = |condition: &Condition| {
            condition.part.as_deref() == Some(part) && !going_on.contains(&condition.notice.subject)
        };
        let mut over: Vec<Key> = Vec::new();
        self.lock().retain(|key, condition| {
            let ended = ended(condition);
            if ended {
                over.push(key.clone());
            }
            !ended
        });
        for (code, subject) in over {
            tracing::info!(
                fg.code = code,
                fg.subject = subject.as_str(),
                "{code}  {subject} is configured anew, or no more"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Condition>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is wrong now, longest first.
    #[must_use]
    pub fn standing(&self) -> Vec<Condition> {
        let standing = self.lock();
        let mut all: Vec<_> = standing.values().cloned().collect();
        all.sort_by_key(|condition| condition.since);
        all
    }
}

/// Logs a notice. What a program may ask for goes along as fields ([`place`]).
fn log(notice: &Notice) {
    let (code, subject) = (notice.code.id, notice.subject.as_str());
    match notice.weight {
        Weight::Warning => tracing::warn!(fg.code = code, fg.subject = subject, "{notice}"),
        Weight::Error => tracing::error!(fg.code = code, fg.subject = subject, "{notice}"),
    }
}

/// Returns a number of things: `1 batch`, `2 batches`.
#[must_use]
pub fn counted<N: fmt::Display + PartialEq + From<u8>>(number: N, thing: &str) -> String {
    let plural = match thing {
        _ if number == N::from(1) => "",
        _ if thing.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{number} {thing}{plural}")
}

/// Returns a duration as people say it: `4 min`, `12 s`, `1.5 s`.
#[must_use]
pub fn rounded(duration: Duration) -> String {
    let (seconds, tenth) = (duration.as_secs(), duration.subsec_millis() / 100);
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..=9 if tenth > 0 => format!("{seconds}.{tenth} s"),
        1..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Every code there is, for lookup and for the test that walks them.
pub fn catalogue() -> impl Iterator<Item = &'static Code> {
    [
        gateway::CODES,
        modbus::CODES,
        serial::CODES,
        zigbee::CODES,
        coap::CODES,
        buffer::CODES,
        chain::CODES,
        clock::CODES,
        broker::CODES,
        plan::CODES,
        config::CODES,
        decode::CODES,
        firsthour::CODES,
        receive::CODES,
        rules::CODES,
        author::CODES,
        api::CODES,
        push::CODES,
        apply::CODES,
        trial::CODES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    static CODE: Code = Code { id: "FG-T01", title: "test", about: "Only in tests." };

    #[test]
    fn a_notice_reads_as_the_contract_lays_out() {
        let notice = Notice::warning(&CODE, "bus a: device 7", "has not answered for 4 min")
            .seen("Other devices on this bus answer normally.")
            .likely("device 7 is off")
            .likely("its plug is loose")
            .try_next("fieldgate ports");
        assert_eq!(
            notice.to_string(),
            "FG-T01  bus a: device 7 has not answered for 4 min\n\
             \x20 Other devices on this bus answer normally.\n\
             \x20 Likely: 1. device 7 is off   2. its plug is loose\n\
             \x20 Try:    fieldgate ports"
        );
    }

    #[test]
    fn numbers_and_times_are_said_as_people_say_them() {
        let said = [0usize, 1, 2].map(|n| counted(n, "batch"));
        assert_eq!(said, ["0 batches", "1 batch", "2 batches"]);
        assert_eq!(counted(1u64, "device") + ", " + &counted(2u32, "fault"), "1 device, 2 faults");
        let said = [300, 1000, 1500, 9990, 10_900, 119_000, 7_199_000].map(Duration::from_millis);
        assert_eq!(
            said.map(rounded),
            ["300 ms", "1 s", "1.5 s", "9.9 s", "10 s", "119 s", "119 min"]
        );
    }

    #[test]
    fn a_standing_condition_is_counted_not_told_again() {
        let events = Events::default();
        assert!(events.raise(Notice::warning(&CODE, "a", "failed")));
        assert!(!events.raise(Notice::warning(&CODE, "a", "failed")));
        assert!(events.raise(Notice::warning(&CODE, "b", "failed")));
        assert_eq!(events.clear(&CODE, "a", "works again").unwrap().count, 2);
        assert!(events.clear(&CODE, "a", "works again").is_none());
        assert_eq!(events.standing().len(), 1);
    }

    #[test]
    fn another_cause_is_told_once_until_all_is_over() {
        let events = Events::default();
        let raise = |cause| events.raise(Notice::warning(&CODE, "a", cause).because(cause));
        let told = ["dns", "dns", "refused", "dns", "refused", "silent"].map(raise);
        assert_eq!(told, [true, false, true, false, false, true]);
        let standing = events.standing();
        assert_eq!((standing.len(), standing[0].count), (1, 6));
        assert_eq!(standing[0].notice.what, "silent");
        assert_eq!(events.clear(&CODE, "a", "works again").unwrap().count, 6);
        assert!(raise("dns"), "it is over, so it is new");
    }

    #[test]
    fn a_crowd_of_conditions_is_told_up_to_its_bound_and_no_further() {
        let events = Events::default();
        let told = (0..limits::CONDITIONS_MAX + 5)
            .filter(|n| events.raise(Notice::warning(&CODE, n.to_string(), "failed")))
            .count();
        assert_eq!(
            (told, events.standing().len()),
            (limits::CONDITIONS_MAX, limits::CONDITIONS_MAX)
        );
        events.clear(&CODE, "0", "works again");
        assert!(events.raise(Notice::warning(&CODE, "new", "failed")));
    }

    #[test]
    fn every_code_has_its_own_id_and_a_paragraph() {
        let mut seen = std::collections::HashSet::new();
        for code in catalogue() {
            assert!(seen.insert(code.id), "{} stands twice", code.id);
            assert!(code.id.starts_with("FG-") && code.id.len() == 6, "{}", code.id);
            assert!(code.about.len() > 80, "{} explains nothing", code.id);
        }
    }
}
