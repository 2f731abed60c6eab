//! Safe mode: what a gateway does that keeps dying right after its start.
//!
//! Each start is noted in a small file in the state folder and each orderly end takes the note back,
//! so that a start that finds one knows of a death; the note says whether the process had lived for a
//! minute by then. After three quick deaths in a row the next start is a safe one: store and socket
//! come up, rules stay off, and uplinks and sources are started one by one, each with its name in the
//! note for as long as it is on trial. The one that was on trial when the process died again is left
//! out from then on. So what is needed to keep data and to talk runs, the part that kills is found,
//! and no person had to say before which parts can be done without.
//!
//! It ends with a changed configuration, an orderly stop or another boot; not by itself, since
//! whatever killed three processes is still there. A death that came with the board's own (a power
//! cut) is not the daemon's: notes of another boot count for nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::parts::name_of;
use super::uplinks::part;
use crate::config::Config;

/// Deaths in a row after which a start is a safe one.
const QUICK_DEATHS_MAX: u32 = 3;
/// A death is quick within this time of the start.
const QUICK: Duration = Duration::from_secs(60);
/// After this long nothing is held against it any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);
/// How long a part is on trial before the next is started.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// What is known of earlier starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Note {
    /// The boot it is about.
    boot: String,
    /// Quick deaths in a row.
    deaths: u32,
    /// Whether a process that began lately has neither lived for a minute nor ended in order.
    young: bool,
    /// The part on trial.
    trying: Option<String>,
    /// Parts that were on trial when the process died.
    left_out: BTreeSet<String>,
}

/// This start and those before it.
pub struct Starts {
    path: PathBuf,
    note: Note,
    safe: bool,
    begun: Instant,
    /// Parts that run.
    running: BTreeSet<String>,
    /// When something is to be done next, and what.
    due: Option<(Instant, Due)>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// It has lived for a minute.
    Grown,
    /// It has lived for five.
    Forgotten,
    /// The next part.
    Part,
}

impl Starts {
    /// Notes a start of the gateway that keeps its state in `folder`, in this boot.
    #[must_use]
    pub fn begin(folder: &Path, boot: &str) -> Self {
        let path = folder.join("starts.json");
        let read = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut note: Note = read.unwrap_or_default();
        if note.boot != boot {
            note = Note { boot: boot.to_owned(), ..Note::default() };
        }
        if let Some(part) = note.trying.take() {
            note.deaths += 1;
            note.left_out.insert(part);
        } else if note.young {
            note.deaths += 1;
        }
        note.young = true;
        let (safe, begun) = (note.deaths >= QUICK_DEATHS_MAX, Instant::now());
        let due = if safe { (begun, Due::Part) } else { (begun + QUICK, Due::Grown) };
        let starts = Self { path, note, safe, begun, running: BTreeSet::new(), due: Some(due) };
        starts.write();
        starts
    }

    /// Returns whether this start is a safe one.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.safe
    }

    /// Returns the parts that are left out for good.
    pub fn left_out(&self) -> impl Iterator<Item = &str> {
        self.note.left_out.iter().map(String::as_str)
    }

    /// Takes out of a configuration what does not run now: in safe mode, all that had no turn yet.
    pub fn limit(&self, config: &mut Config) {
        if !self.safe {
            return;
        }
        config.rules.clear();
        config.sources.retain(|source| self.running.contains(&name_of(source)));
        config.uplinks.retain(|uplink| self.running.contains(&part(&uplink.name)));
    }

    /// Returns when a note or a part is due. In safe mode `true`: another part is to be started, and
    /// [`Starts::next`] says which.
    pub(super) async fn due(&mut self) -> bool {
        loop {
            let Some((at, due)) = self.due else { return std::future::pending().await };
            sleep_until(at).await;
            match due {
                Due::Part => return true,
                Due::Grown => {
                    self.note.young = false;
                    self.write();
                    self.due = Some((self.begun + FORGOTTEN_AFTER, Due::Forgotten));
                }
                Due::Forgotten => {
                    self.due = None;
                    self.clear();
                }
            }
        }
    }

    /// Puts the next part of `config` on trial: uplinks first, so that what is kept gets out. `None`
    /// when all have had their turn.
    pub(super) fn next(&mut self, config: &Config) -> Option<String> {
        let uplinks = config.uplinks.iter().map(|uplink| part(&uplink.name));
        let parts = uplinks.chain(config.sources.iter().map(name_of));
        let next = parts
            .into_iter()
            .find(|part| !self.running.contains(part) && !self.note.left_out.contains(part));
        self.note.trying.clone_from(&next);
        self.note.young &= self.begun.elapsed() < QUICK;
        self.write();
        self.due = next.as_ref().map(|_| (Instant::now() + PROVEN_AFTER, Due::Part));
        self.running.extend(next.clone());
        next
    }

    /// Ends the safe mode: everything runs from now on. Another quick death is one more.
    pub(super) fn leave(&mut self) {
        self.safe = false;
        self.note.trying = None;
        self.note.left_out.clear();
        self.note.young = true;
        self.begun = Instant::now();
        self.due = Some((self.begun + QUICK, Due::Grown));
        self.write();
    }

    /// Notes an orderly end: nothing is held against the next start.
    pub fn end(self) {
        self.clear();
    }

    fn clear(&self) {
        let _ = fs::remove_file(&self.path);
    }

    /// A disk that does not take the note knows of no deaths, and the gateway starts as it always
    /// does.
    fn write(&self) {
        let beside = self.path.with_extension("new");
        let bytes = serde_json::to_vec(&self.note).unwrap_or_default();
        let written = fs::write(&beside, bytes)
            .and_then(|()| fs::File::open(&beside)?.sync_all())
            .and_then(|()| fs::rename(&beside, &self.path));
        if written.is_err() {
            tracing::debug!("the state folder does not take a note of this start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, load};
    use tokio::time::{advance, timeout};

    fn config(folder: &Path) -> Config {
        let path = folder.join("fieldgate.toml");
        let text = "[source.a]\nvia = \"coap listen [::]:1\"\n[source.b]\nvia = \"coap listen [::]:2\"\n\
                    [uplink.u]\nurl = \"mqtt://127.0.0.1:1\"\n";
        fs::write(&path, text).unwrap();
        load(&path, Options::default()).unwrap_or_else(|faults| panic!("{faults}"))
    }

    /// Lives for so long and dies.
    async fn live_and_die(folder: &Path, boot: &str, time: Duration) -> bool {
        let mut starts = Starts::begin(folder, boot);
        let _ = timeout(time, async {
            while !starts.due().await {}
            std::future::pending::<()>().await;
        })
        .await;
        starts.is_safe()
    }

    #[tokio::test(start_paused = true)]
    async fn three_quick_deaths_in_a_row_make_the_next_start_a_safe_one() {
        let folder = tempfile::tempdir().unwrap();
        let quick = Duration::from_secs(5);
        for expected in [false, false, false, true, true] {
            assert_eq!(live_and_die(folder.path(), "b", quick).await, expected);
        }
        // Another boot knows of nothing.
        assert!(!live_and_die(folder.path(), "c", quick).await);
        // A life of five minutes forgives, one of two neither forgives nor counts.
        for (life, safe) in [(5, false), (120, false), (5, false), (400, true)] {
            assert_eq!(live_and_die(folder.path(), "c", Duration::from_secs(life)).await, safe);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_life_and_an_orderly_end_forgive_everything() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..4 {
            let quick = Duration::from_secs(5);
            assert!(!live_and_die(folder.path(), "b", quick).await);
            assert!(!live_and_die(folder.path(), "b", quick).await);
            Starts::begin(folder.path(), "b").end();
            assert!(!live_and_die(folder.path(), "b", quick).await);
            assert!(!live_and_die(folder.path(), "b", Duration::from_secs(301)).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn parts_are_started_one_by_one_and_the_one_that_kills_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        for _ in 0..3 {
            live_and_die(folder.path(), "b", Duration::from_secs(1)).await;
        }
        let mut tried = Vec::new();
        let mut starts = Starts::begin(folder.path(), "b");
        while timeout(Duration::from_secs(60), starts.due()).await == Ok(true) {
            let Some(part) = starts.next(&config) else { break };
            tried.push(part.clone());
            if part == "coap listener a" {
                // It dies of it, long after its start.
                advance(Duration::from_secs(7)).await;
                starts = Starts::begin(folder.path(), "b");
                assert_eq!(starts.left_out().collect::<Vec<_>>(), ["coap listener a"]);
            }
        }
        assert_eq!(
            tried,
            ["uplink u", "coap listener a", "uplink u", "coap listener b"],
            "uplinks first, and what kills only once"
        );
        let mut limited = self::config(folder.path());
        starts.limit(&mut limited);
        assert_eq!((limited.sources.len(), limited.uplinks.len()), (1, 1));
        starts.leave();
        let mut whole = self::config(folder.path());
        starts.limit(&mut whole);
        assert_eq!((whole.sources.len(), starts.left_out().count()), (2, 0));
    }
}
