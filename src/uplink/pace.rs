//! How much may be on its way: the link's rate as acknowledgements show it, and when a backlog may
//! go. What is new waits behind whatever is in flight, so that is kept to two seconds of the link.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// Shortest time over which a rate is measured: long against one round trip.
const MEASURED_OVER: Duration = Duration::from_millis(250);

/// See the file's head. A connection begins with a new one.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes a second; 0 until measured.
    rate: u64,
    /// Acknowledged since, while there was something in flight all the time.
    bytes: u64,
    since: Option<Instant>,
    /// Whether the window was full meanwhile.
    full: bool,
    /// A backlog waits until then, and for its own bytes beyond that.
    drain_from: Instant,
    /// Bytes a second that a backlog may take, when it is limited.
    drain: Option<u64>,
}

impl Pace {
    pub(super) fn new(now: Instant, drain: Option<u64>, spread: Duration) -> Self {
        Self { rate: 0, bytes: 0, since: None, full: false, drain_from: now + spread, drain }
    }

    /// Something leaves.
    pub(super) fn sent(&mut self, now: Instant, bytes: usize, from_backlog: bool) {
        self.since.get_or_insert(now);
        if let Some(rate) = self.drain.filter(|_| from_backlog) {
            let takes = Duration::from_secs_f64(as_f64(bytes as u64) / as_f64(rate.max(1)));
            self.drain_from = self.drain_from.max(now) + takes;
        }
    }

    /// Something was acknowledged, and so much is still in flight.
    pub(super) fn acknowledged(&mut self, now: Instant, bytes: usize, in_flight: usize) {
        self.bytes += bytes as u64;
        let Some(since) = self.since else { return };
        // What fills the window shows the link; less than half of it shows how little there was.
        self.full |= bytes + in_flight > self.bytes_max() / 2;
        let took = now.duration_since(since);
        if took < MEASURED_OVER && in_flight > 0 {
            return;
        }
        let bytes = self.bytes.saturating_mul(1000);
        let rate = bytes / u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        // Down slowly: one pause of the broker is no slower link.
        let least = if self.full { self.rate - self.rate / 4 } else { self.rate };
        self.rate = rate.max(least);
        self.bytes = 0;
        self.full = false;
        self.since = (in_flight > 0).then_some(now);
    }

    /// Returns how many bytes may be in flight.
    pub(super) fn bytes_max(&self) -> usize {
        let two_seconds = usize::try_from(self.rate.saturating_mul(2)).unwrap_or(usize::MAX);
        two_seconds.max(limits::UPLINK_FLIGHT_BYTES_MIN)
    }

    /// Returns until when a backlog has to wait, if it has to.
    pub(super) fn waits_until(&self, now: Instant) -> Option<Instant> {
        (self.drain_from > now).then_some(self.drain_from)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate does not need its last bit")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends batches over a link of `rate` bytes a second with `delay` for the way there and back,
    /// keeping in flight what is allowed; returns the allowance at the end.
    fn settles_at(rate: u64, delay: Duration, batch: usize) -> usize {
        let begin = Instant::now();
        let mut now = begin;
        let mut pace = Pace::new(begin, None, Duration::ZERO);
        let mut flight = std::collections::VecDeque::new();
        let mut bytes = 0;
        let mut free_at = begin;
        for _ in 0..3000 {
            while bytes == 0 || bytes < pace.bytes_max() {
                pace.sent(now, batch, true);
                free_at = free_at.max(now) + Duration::from_secs_f64(batch as f64 / rate as f64);
                flight.push_back(free_at + delay);
                bytes += batch;
            }
            now = now.max(flight.pop_front().unwrap());
            bytes -= batch;
            pace.acknowledged(now, batch, bytes);
        }
        pace.bytes_max()
    }

    #[tokio::test]
    async fn what_is_in_flight_settles_at_two_seconds_of_the_link() {
        for (rate, delay, batch) in [
            (200_000, Duration::from_millis(600), 8_000),
            (5_000_000, Duration::from_millis(40), 60_000),
            (100_000_000, Duration::from_millis(1), 500_000),
        ] {
            let settled = settles_at(rate, delay, batch) as u64;
            assert!((rate..=rate * 3).contains(&settled), "{settled} at {rate} bytes a second");
        }
        let slow = settles_at(2_000, Duration::from_millis(600), 8_000);
        assert_eq!(slow, limits::UPLINK_FLIGHT_BYTES_MIN);
    }

    #[tokio::test]
    async fn a_limited_backlog_takes_its_rate_and_no_more() {
        let begin = Instant::now();
        let mut now = begin;
        let mut pace = Pace::new(begin, Some(10_000), Duration::from_secs(3));
        assert_eq!(pace.waits_until(now), Some(begin + Duration::from_secs(3)));
        let mut sent = 0;
        while now < begin + Duration::from_secs(103) {
            if let Some(until) = pace.waits_until(now) {
                now = until;
            } else {
                pace.sent(now, 25_000, true);
                pace.sent(now, 1_000_000, false);
                sent += 25_000;
            }
        }
        assert!((1_000_000..=1_025_000).contains(&sent), "{sent}");
    }
}
