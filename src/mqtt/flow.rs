//! How fast publishes may leave: never more in any second than a broker takes.

use std::time::Duration;

use tokio::time::Instant;

use super::preset::Preset;

/// Paces publishes by their number and their bytes.
#[derive(Debug)]
pub(super) struct Flow {
    publishes: Option<Meter>,
    bytes: Option<Meter>,
}

/// A leaky bucket that may be ahead of its even pace by `burst`: in any second at most
/// `pace + burst` leave.
#[derive(Debug)]
struct Meter {
    each: Duration,
    ahead_max: Duration,
    /// When all that has left would have left at an even pace.
    even: Instant,
}

impl Meter {
    fn new(pace_per_s: u32, burst: u32) -> Self {
        let each = Duration::from_secs(1) / pace_per_s.max(1);
        Self { each, ahead_max: each * burst, even: Instant::now() }
    }

    /// Returns when so much may leave; what is more than the burst waits for an even start.
    fn due(&self, count: u32) -> Instant {
        let own = self.each * count;
        (self.even + own).checked_sub(self.ahead_max.max(own)).unwrap_or(self.even)
    }

    fn take(&mut self, count: u32) {
        self.even = self.even.max(Instant::now()) + self.each * count;
    }
}

impl Flow {
    /// Begins with nothing sent. Of a limit, the larger part is the pace and the rest the burst:
    /// for publishes a tenth, for bytes a quarter, which is a packet of the largest size.
    pub(super) fn new(preset: &Preset) -> Self {
        let publishes = preset.publishes_per_s_max;
        let bytes = preset.bytes_per_s_max;
        Self {
            publishes: publishes.map(|max| Meter::new(max - max / 10, max / 10)),
            bytes: bytes.map(|max| Meter::new(max - max / 4, max / 4)),
        }
    }

    /// Returns when a publish of so many bytes may leave.
    pub(super) fn due(&self, bytes: usize) -> Instant {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let by_count = self.publishes.as_ref().map(|meter| meter.due(1));
        let by_bytes = self.bytes.as_ref().map(|meter| meter.due(bytes));
        by_count.max(by_bytes).unwrap_or_else(Instant::now)
    }

    /// Counts a publish that leaves now.
    pub(super) fn take(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Some(meter) = &mut self.publishes {
            meter.take(1);
        }
        if let Some(meter) = &mut self.bytes {
            meter.take(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::preset;
    use super::*;

    /// Sends as fast as it may; returns when each left.
    async fn send(flow: &mut Flow, sizes: impl Iterator<Item = usize>) -> Vec<(Instant, usize)> {
        let mut sent = Vec::new();
        for bytes in sizes {
            tokio::time::sleep_until(flow.due(bytes)).await;
            flow.take(bytes);
            sent.push((Instant::now(), bytes));
        }
        sent
    }

    fn most_in_a_second(sent: &[(Instant, usize)], of: impl Fn(usize) -> usize) -> usize {
        let within = |at: Instant| {
            let window =
                sent.iter().filter(move |(t, _)| *t >= at && *t - at < Duration::from_secs(1));
            window.map(|(_, bytes)| of(*bytes)).sum()
        };
        sent.iter().map(|(at, _)| within(*at)).max().unwrap_or(0)
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_carries_more_than_the_broker_takes_and_nearly_all_of_it_is_used() {
        let mut flow = Flow::new(&preset::AWS);
        let begin = Instant::now();
        // Rests in between must not be saved up.
        let mut sent = send(&mut flow, std::iter::repeat_n(100, 500)).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        sent.extend(send(&mut flow, std::iter::repeat_n(100, 500)).await);
        assert!(most_in_a_second(&sent, |_| 1) <= 100);
        assert!(most_in_a_second(&sent, |_| 1) >= 95);
        let busy = begin.elapsed() - Duration::from_secs(60);
        assert!(busy < Duration::from_secs(12), "{busy:?} for 1,000 publishes");
    }

    #[tokio::test(start_paused = true)]
    async fn large_ones_are_counted_by_their_bytes() {
        let mut flow = Flow::new(&preset::AWS);
        let sent =
            send(&mut flow, (0..200).map(|n| if n % 3 == 0 { 131_000 } else { 40_000 })).await;
        let most = most_in_a_second(&sent, |bytes| bytes);
        assert!((400_000..=512 * 1024).contains(&most), "{most}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let mut flow = Flow::new(&preset::MQTT);
        let begin = Instant::now();
        send(&mut flow, std::iter::repeat_n(1 << 20, 10_000)).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
