//! When a session must ping its broker, and when it must give it up.

use std::time::Duration;

use tokio::time::Instant;

use super::SessionError;
use crate::limits;

/// When the broker was last heard, when it last took bytes, when it was pinged.
pub(super) struct Pace {
    keep_alive: Duration,
    pub(super) received: Instant,
    pub(super) sent: Instant,
    pub(super) pinged: Option<Instant>,
    /// Set while bytes wait to be taken: since when none was.
    pub(super) stuck: Option<Instant>,
}

impl Pace {
    pub(super) fn new(keep_alive: Duration) -> Self {
        let now = Instant::now();
        let keep_alive = Duration::from_secs(seconds(keep_alive).into());
        Self { keep_alive, received: now, sent: now, pinged: None, stuck: None }
    }

    /// Three quarters of a keep-alive after either side was last heard: early enough that a ping
    /// that takes its time still counts as in time.
    fn ping_due(&self) -> Instant {
        self.sent.min(self.received) + self.keep_alive * 3 / 4
    }

    /// A ping has half a keep-alive at least, and the silence lasts one and a half.
    fn silence_due(&self, pinged: Instant) -> Instant {
        (self.received + self.keep_alive * 3 / 2).max(pinged + self.keep_alive / 2)
    }

    pub(super) fn stall_due(&self) -> Instant {
        self.stuck.unwrap_or_else(Instant::now) + limits::MQTT_WRITE_TIME_MAX
    }

    pub(super) fn due(&self) -> Instant {
        let next = match self.pinged {
            None => self.ping_due(),
            Some(pinged) => self.silence_due(pinged),
        };
        if self.stuck.is_some() { next.min(self.stall_due()) } else { next }
    }

    pub(super) fn ping_is_due(&self) -> bool {
        self.pinged.is_none() && Instant::now() >= self.ping_due()
    }

    pub(super) fn check_silence(&self) -> Result<(), SessionError> {
        let now = Instant::now();
        match self.pinged {
            Some(pinged) if now >= self.silence_due(pinged) => {
                Err(SessionError::Silent(now - self.received))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_stall(&self) -> Result<(), SessionError> {
        match self.stuck {
            Some(_) if Instant::now() >= self.stall_due() => Err(SessionError::Stalled),
            _ => Ok(()),
        }
    }
}

/// Returns a keep-alive in the wire's whole seconds: at least one, for zero would turn it off.
pub(super) fn seconds(keep_alive: Duration) -> u16 {
    u16::try_from(keep_alive.as_secs().max(1)).unwrap_or(u16::MAX)
}
