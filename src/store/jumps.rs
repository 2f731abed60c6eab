//! Tells what the clock does: the store's thread wakes every commit anyway, and what it keeps is
//! what a wrong clock harms.

use std::time::{Duration, Instant};

use crate::clock::State;
use crate::events::{Events, clock};

/// A clock that moved by more between two looks jumped; network time creeps slower.
const JUMP_MIN_MS: u64 = 10_000;
/// A jump is over when none followed for so long.
const CALM_AFTER: Duration = Duration::from_secs(3600);

/// What was seen last.
#[derive(Default)]
pub(super) struct Jumps {
    seen: Option<State>,
    jumped: Option<Instant>,
}

impl Jumps {
    pub(super) fn look(&mut self, state: &State, events: &Events) {
        if self.jumped.is_some_and(|at| at.elapsed() > CALM_AFTER) {
            self.jumped = None;
            events.clear(&clock::JUMPED, clock::SUBJECT, "has been steady");
        }
        if self.seen.as_ref() == Some(state) {
            return;
        }
        let moved = self.seen.as_ref().map_or(0, |seen| state.base - seen.base);
        let was_set = self.seen.as_ref().is_some_and(|seen| seen.set.is_some());
        match state.set {
            None => drop(events.raise(clock::not_set())),
            Some(why) if !was_set => {
                events.clear(&clock::NOT_SET, clock::SUBJECT, &clock::set(moved, why));
            }
            Some(_) if moved.unsigned_abs() >= JUMP_MIN_MS => {
                self.jumped = Some(Instant::now());
                events.raise(clock::jumped(moved));
            }
            Some(_) => {}
        }
        match state.refused {
            Some(shown) => drop(events.raise(clock::refused(shown))),
            None => drop(events.clear(&clock::REFUSED, clock::SUBJECT, "can be believed again")),
        }
        self.seen = Some(state.clone());
    }
}
