//! What was answered to whom, so that a repeated request is answered again and not executed again
//! (RFC 7252 section 4.5). Bounded by count and by EXCHANGE_LIFETIME, whichever ends first.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use tokio::time::Instant;

use crate::limits;

/// A message as its sender numbers it. Only the last 247 seconds of numbers are its own.
type Key = (SocketAddr, u16);

/// Answers by sender and message id, oldest first. The answer to a request that deserves none is
/// remembered too, as `None`.
#[derive(Debug, Default)]
pub(super) struct Answers {
    order: VecDeque<(Instant, Key)>,
    all: HashMap<Key, Option<Vec<u8>>>,
}

impl Answers {
    /// Returns what was answered to this very message, if it was seen before.
    pub(super) fn find(&mut self, key: Key, now: Instant) -> Option<&Option<Vec<u8>>> {
        self.forget(now);
        self.all.get(&key)
    }

    /// Remembers an answer to a message that was not seen before, forgetting the oldest when full.
    pub(super) fn remember(&mut self, key: Key, answer: Option<Vec<u8>>, now: Instant) {
        if self.order.len() >= limits::COAP_ANSWERS_REMEMBERED_MAX
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
        self.order.push_back((now, key));
        self.all.insert(key, answer);
    }

    /// Forgets what is older than any repeat can be.
    pub(super) fn forget(&mut self, now: Instant) {
        while let Some((at, key)) = self.order.front()
            && now.duration_since(*at) >= limits::COAP_EXCHANGE_LIFETIME
        {
            self.all.remove(key);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16, id: u16) -> Key {
        (SocketAddr::from(([10, 0, 0, 1], port)), id)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_remembered_for_one_exchange_lifetime() {
        let mut answers = Answers::default();
        let start = Instant::now();
        answers.remember(key(1, 7), Some(vec![1]), start);
        answers.remember(key(2, 7), None, start);
        let late = start + limits::COAP_EXCHANGE_LIFETIME - std::time::Duration::from_millis(1);
        assert_eq!(answers.find(key(1, 7), late), Some(&Some(vec![1])));
        assert_eq!(answers.find(key(2, 7), late), Some(&None));
        assert_eq!(answers.find(key(1, 8), late), None);
        assert_eq!(answers.find(key(1, 7), start + limits::COAP_EXCHANGE_LIFETIME), None);
        assert!(answers.all.is_empty() && answers.order.is_empty());
    }

    #[tokio::test]
    async fn a_flood_of_new_messages_costs_the_oldest_answers_and_no_more_memory() {
        let mut answers = Answers::default();
        let now = Instant::now();
        for n in 0..limits::COAP_ANSWERS_REMEMBERED_MAX as u32 + 10 {
            answers.remember(key((n >> 8) as u16, (n & 0xff) as u16), None, now);
        }
        assert_eq!(answers.all.len(), limits::COAP_ANSWERS_REMEMBERED_MAX);
        assert_eq!(answers.order.len(), limits::COAP_ANSWERS_REMEMBERED_MAX);
        assert_eq!(answers.find(key(0, 0), now), None);
        assert_eq!(answers.find(key(0, 10), now), Some(&None));
    }
}
