//! Whether a port is there, and when to say so: once when it goes, once when it is back, and for a
//! loose plug that flaps not more often than that.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::intake::Intake;
use crate::events::{Events, Notice, serial as told};
use crate::limits::SERIAL_TROUBLE_OVER;
use crate::sources::line::{SerialLine, ports};

/// What was told of a port.
#[derive(Debug, Default)]
pub struct Away {
    /// Told to be away, and not yet to be back.
    told: bool,
    /// Went away again soon after it was told to be back.
    flapping: bool,
    /// When it was last told to be back.
    returned: Option<Instant>,
    /// When an open port counts as back even if its device says nothing.
    back_at: Option<Instant>,
}

/// A port that stays open this long is back, whether its device says something or not.
const BACK_AFTER: Duration = Duration::from_secs(5);
/// A port that goes again within this time has never really been back.
const FLAPPING_WITHIN: Duration = Duration::from_secs(600);

impl Away {
    /// Notes that the open port ended.
    pub fn closed(&mut self, intake: &Intake, line: &SerialLine, events: &Events) {
        self.lost(events, told::gone(intake.subject(), &line.path));
    }

    /// Notes that the port could not be opened.
    pub fn not_opened(
        &mut self,
        error: &io::Error,
        intake: &Intake,
        line: &SerialLine,
        events: &Events,
    ) {
        let (subject, path) = (intake.subject(), &line.path);
        let notice = match error.kind() {
            // The unit's sandbox knows the drivers that were there when it started.
            io::ErrorKind::PermissionDenied => told::denied(subject, path).likely(
                "its driver was loaded after the service had started: sudo systemctl restart fieldgate",
            ),
            _ if !path.exists() => told::missing(subject, path),
            io::ErrorKind::ResourceBusy => {
                // Finding out who holds it walks through all processes: once is enough.
                let holder = if self.told { None } else { ports::holder(path) };
                let holder = holder.map(|by| format!("pid {} ({})", by.pid, by.command));
                told::taken(subject, path, holder.as_deref())
            }
            _ => told::unfit(subject, path, &line.line.to_string()),
        };
        self.lost(events, notice);
    }

    /// Notes that the port is open.
    pub fn opened(&mut self, now: Instant) {
        let wait = if self.flapping { SERIAL_TROUBLE_OVER } else { BACK_AFTER };
        self.back_at = self.told.then_some(now + wait);
    }

    /// Returns when [`Away::settled`] has something to say.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        self.back_at
    }

    /// Says that the port is back: at the first frame, or when it stayed open long enough.
    pub fn settled(&mut self, heard: bool, now: Instant, subject: &str, events: &Events) {
        let stayed = self.back_at.is_some_and(|at| now >= at);
        if self.told && (stayed || heard && !self.flapping) {
            events.clear(&told::AWAY, subject, "is back");
            events.clear(&told::REFUSED, subject, "is open");
            *self = Self { returned: Some(now), ..Self::default() };
        }
    }

    fn lost(&mut self, events: &Events, notice: Notice) {
        if !self.told {
            let soon = |returned| Instant::now() < returned + FLAPPING_WITHIN;
            self.flapping = self.returned.is_some_and(soon);
        }
        self.told = true;
        self.back_at = None;
        events.raise(notice);
    }
}
