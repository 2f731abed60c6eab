//! Which sequences have news that their gateways should hear of, and when.

use std::collections::HashSet;
use std::mem;

use tokio::time::Instant;

use super::sink::Sequence;
use crate::limits;

/// Sequences with news. A gateway that is heard of for the first time is told at once, so that one
/// that waits for us frees its buffer; all others wait for the next round.
#[derive(Debug)]
pub(super) struct Due {
    news: HashSet<Sequence>,
    at_once: Vec<Sequence>,
    next_round: Instant,
}

impl Due {
    pub(super) fn new() -> Self {
        let next_round = Instant::now() + limits::ACK_EVERY;
        Self { news: HashSet::new(), at_once: Vec::new(), next_round }
    }

    /// Notes that a batch of `sequence` was stored or seen.
    pub(super) fn note(&mut self, sequence: Sequence, first_contact: bool) {
        if first_contact {
            self.at_once.push(sequence);
        } else if self.news.len() < limits::ACKS_DUE_MAX {
            self.news.insert(sequence);
        }
    }

    /// Returns when [`Due::take`] has something.
    pub(super) fn when(&self) -> Instant {
        if self.at_once.is_empty() { self.next_round } else { Instant::now() }
    }

    /// Takes the sequences that are due now, at most [`limits::ACKS_AT_ONCE_MAX`].
    pub(super) fn take(&mut self) -> Vec<Sequence> {
        let mut taken = mem::take(&mut self.at_once);
        if taken.len() > limits::ACKS_AT_ONCE_MAX {
            self.at_once = taken.split_off(limits::ACKS_AT_ONCE_MAX);
            return taken;
        }
        if Instant::now() >= self.next_round {
            let mut rest = HashSet::new();
            for sequence in mem::take(&mut self.news) {
                if taken.len() < limits::ACKS_AT_ONCE_MAX {
                    taken.push(sequence);
                } else {
                    rest.insert(sequence);
                }
            }
            if rest.is_empty() {
                self.next_round = Instant::now() + limits::ACK_EVERY;
            }
            self.news = rest;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(n: usize) -> Sequence {
        Sequence { gw: format!("gw-{n}"), ep: 1, st: "data".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn first_contact_is_told_at_once_and_the_rest_in_rounds_of_bounded_size() {
        let mut due = Due::new();
        due.note(sequence(0), true);
        for n in 0..limits::ACKS_AT_ONCE_MAX + 10 {
            due.note(sequence(n), false);
            due.note(sequence(n), false);
        }
        assert!(due.when() <= Instant::now());
        assert_eq!(due.take(), [sequence(0)]);
        assert!(due.when() > Instant::now() && due.take().is_empty());
        tokio::time::advance(limits::ACK_EVERY).await;
        assert_eq!(due.take().len(), limits::ACKS_AT_ONCE_MAX);
        assert!(due.when() <= Instant::now(), "the round is not over");
        assert_eq!(due.take().len(), 10);
        assert!(due.when() > Instant::now());
    }
}
