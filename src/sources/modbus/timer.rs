//! Waiting to a tenth of a millisecond. At 19,200 baud the silence between frames is 1.8 ms; the
//! runtime's timer ticks in milliseconds and would stretch it to 3, five polls in a hundred lost. A
//! timer of the kernel wakes the reactor instead: no spinning, three system calls a request. A
//! spinning wait was the alternative; it costs 2 % of a core a bus on a small board.

use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// A way to wait for an instant.
pub(super) enum Timer {
    /// The runtime's: enough for networks, and the one that tests can wind forward.
    Coarse,
    /// The kernel's.
    Fine(AsyncFd<OwnedFd>),
}

impl Timer {
    /// Makes a fine timer; a coarse one where the kernel has none, which only costs speed.
    pub(super) fn fine() -> Self {
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd never changes its fd")]
        let register = AsyncFd::new;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        timerfd_create(TimerfdClockId::Monotonic, flags)
            .and_then(|fd| register(fd).map_err(|_| rustix::io::Errno::NOSYS))
            .map_or(Self::Coarse, Self::Fine)
    }

    /// Returns at `end`, at once when that has passed.
    pub(super) async fn until(&self, end: Instant) {
        let Self::Fine(fd) = self else {
            if Instant::now() < end {
                tokio::time::sleep_until(end).await;
            }
            return;
        };
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let once = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                },
            };
            let set = timerfd_settime(fd, TimerfdTimerFlags::empty(), &once);
            match (set, fd.readable().await) {
                (Ok(_), Ok(mut ready)) => ready.clear_ready(),
                _ => return tokio::time::sleep_until(end).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_fine_timer_never_returns_early() {
        let timer = Timer::fine();
        assert!(matches!(timer, Timer::Fine(_)));
        for micros in [0, 50, 700, 1800, 5000] {
            let end = Instant::now() + Duration::from_micros(micros);
            timer.until(end).await;
            assert!(Instant::now() >= end);
        }
    }
}
