//! Which notification is newer (RFC 7641 section 3.4), and how long silence may last.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// Sequence numbers have 24 bits and wrap (RFC 7641 section 2).
const HALF: u32 = 1 << 23;
/// After this long any number is newer: the sequence may have wrapped (RFC 7641 section 3.4).
const SEQUENCE_AGE_MAX: Duration = Duration::from_secs(128);
/// Age of a representation that states none (RFC 7252 section 5.10.5).
const MAX_AGE_DEFAULT_SECONDS: u32 = 60;
/// Least wait past Max-Age before registering again; up to [`MARGIN_SPREAD_MS`] more is random
/// (RFC 7641 section 3.3.1: between 5 and 15 seconds).
const MARGIN_MS_MIN: u64 = 5_000;
/// See [`MARGIN_MS_MIN`].
const MARGIN_SPREAD_MS: u64 = 10_000;

/// The newest notification seen of one registration.
#[derive(Debug, Default)]
pub(super) struct Order(Option<(u32, Instant)>);

impl Order {
    /// Begins anew: the answer to a registration is always the newest.
    pub(super) fn restart(&mut self, sequence: u32, now: Instant) {
        self.0 = Some((sequence, now));
    }

    /// Returns whether a notification is newer than all before, and remembers it if so.
    pub(super) fn is_newer(&mut self, sequence: u32, now: Instant) -> bool {
        let newer = self.0.is_none_or(|(last, at)| {
            last < sequence && sequence - last < HALF
                || last > sequence && last - sequence > HALF
                || now.duration_since(at) > SEQUENCE_AGE_MAX
        });
        if newer {
            self.0 = Some((sequence, now));
        }
        newer
    }
}

/// Returns how long a server may be silent: its answer's Max-Age, bounded, and a random margin
/// drawn from `random`.
pub(super) fn silence(max_age_seconds: Option<u32>, random: u64) -> Duration {
    let age = Duration::from_secs(max_age_seconds.unwrap_or(MAX_AGE_DEFAULT_SECONDS).into());
    let margin = Duration::from_millis(MARGIN_MS_MIN + random % MARGIN_SPREAD_MS);
    age.min(limits::COAP_SILENCE_MAX) + margin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_old_notification_is_never_newer_until_the_sequence_may_have_wrapped() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut order = Order::default();
        assert!(order.is_newer(5, start));
        for (sequence, at, newer) in [
            (4, after(1), false),
            (5, after(1), false),
            (6, after(1), true),
            (0x00ff_fffe, after(2), false),
            (0x0070_0000, after(3), true),
            (0x00e0_0000, after(4), true),
            (3, after(5), true),
            (0x00e0_0000, after(6), false),
            (2, after(133), false),
            (2, after(134), true),
        ] {
            assert_eq!(order.is_newer(sequence, at), newer, "{sequence:#x}");
        }
        order.restart(1, after(135));
        assert!(order.is_newer(2, after(135)), "a registration did not begin anew");
    }

    #[test]
    fn silence_is_max_age_and_five_to_fifteen_seconds_but_never_more_than_an_hour() {
        for random in [0, 9_999, u64::MAX] {
            let wait = silence(None, random).as_secs();
            assert!((65..75).contains(&wait), "{wait}");
        }
        assert_eq!(silence(Some(0), 0), Duration::from_secs(5));
        assert_eq!(silence(Some(u32::MAX), 0), limits::COAP_SILENCE_MAX + Duration::from_secs(5));
    }
}
