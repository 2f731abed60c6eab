//! What time it is, whether that can be believed, and what a reading is stamped with until it can.
//!
//! **Two kinds of time.** A board without a battery-backed clock wakes up in 1970, or at the moment
//! it was last switched off, and learns the time minutes or days later. What it reads until then is
//! stamped with the time since its boot, which no one can set, and the store adds what is missing
//! when it is known: exact, because nothing was guessed meanwhile. Both kinds travel in the same
//! [`UnixMillis`]: times below [`SINCE_BOOT_BELOW`] count from the boot. No reading is older than
//! mid-1978 and no board waits eight years for its time, so the number itself says which it is, at
//! no cost a reading. (RFC 8428 section 4.5.3 tells relative from absolute time at the same place.)
//!
//! **When it is believed.** See [`Evidence`]. The first that holds counts, until the next boot. A
//! clock that nothing vouches for is not believed however plausible it looks: a board that resumes
//! the time of its last shutdown looks plausible too.
//!
//! **Jumps.** Once believed, the clock is followed wherever it goes, small steps and large, as long
//! as it shows a time between [`EARLIEST_PLAUSIBLE`] and a hundred years later. Beyond that the last
//! time that was believed is counted on. Schedules never use any of this: they run on the runtime's
//! monotonic clock.

mod kernel;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::reading::UnixMillis;

pub use kernel::boot_name;

/// Tells what time it is. Three implementations: [`Board`] for the daemon, [`System`] for commands,
/// [`Manual`] for tests.
pub trait Clock: Send + Sync {
    /// Returns the time to stamp a reading with: milliseconds since 1970-01-01 UTC, or since boot
    /// while the clock is not set.
    fn now(&self) -> UnixMillis;

    /// Returns what is known about the clock itself.
    fn state(&self) -> State;

    /// Learns that the clock had been set in this boot before the program started.
    fn was_set(&self);

    /// Returns whether the clock is set, so that [`Clock::now`] counts from 1970.
    fn plausible(&self) -> bool {
        self.state().set.is_some()
    }
}

/// What is known about a clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Which boot times count from while the clock is not set. Another program start of the same
    /// boot sees the same name.
    pub boot: Arc<str>,
    /// Milliseconds to add to a time since boot: a guess while `set` is `None`.
    pub base: i64,
    /// Why the clock is believed.
    pub set: Option<Evidence>,
    /// The time it shows and that nobody believes, since it lies outside of what can be true.
    pub refused: Option<UnixMillis>,
}

/// Why a clock is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The configuration says so: `clock = "trusted"`.
    Trusted,
    /// The kernel calls it synchronised, or systemd-timesyncd has left its mark.
    Synced,
    /// A battery-backed clock shows the same time.
    Battery,
    /// The machine keeps time by itself: a PC, or a virtual machine on one, whose kernel reads it
    /// when it starts.
    Machine,
    /// It was set while the program ran: programs that resume an old time at boot do so before.
    Step,
    /// It was believed before the program was started again, in the same boot.
    Earlier,
}

impl Evidence {
    /// Returns it as the rest of a sentence about the clock.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Trusted => "clock = \"trusted\" in the configuration",
            Self::Synced => "a time service keeps it (synchronised)",
            Self::Battery => "a battery-backed clock shows the same",
            Self::Machine => "this machine keeps time by itself (PC or virtual machine)",
            Self::Step => "it was set since the start",
            Self::Earlier => "it was set before in this boot",
        }
    }
}

/// 2026-01-01T00:00:00Z: no gateway of this version ran before.
pub const EARLIEST_PLAUSIBLE: UnixMillis = UnixMillis(1_767_225_600_000);
/// A hundred years later.
const LATEST_PLAUSIBLE: UnixMillis = UnixMillis(EARLIEST_PLAUSIBLE.0 + 36_525 * 86_400_000);
/// Times below count from the boot (2^28 s: eight and a half years).
pub const SINCE_BOOT_BELOW: UnixMillis = UnixMillis(268_435_456_000);

/// How often a clock that is not set is looked at.
const LOOK_EVERY: i64 = NANOS;
/// A clock that moves by more between two looks was set.
const STEP_MIN: i64 = NANOS;
/// How far a battery-backed clock, which shows whole seconds, may be from the clock it vouches for.
const BATTERY_TOLERANCE_S: u64 = 2;
const NANOS: i64 = 1_000_000_000;
const NANOS_PER_MILLI: i64 = 1_000_000;

/// Returns whether a reading's time counts from the boot of its board.
#[must_use]
pub fn counts_from_boot(at: UnixMillis) -> bool {
    at < SINCE_BOOT_BELOW
}

/// Returns whether a clock may show this at all: between [`EARLIEST_PLAUSIBLE`] and a hundred years
/// later.
#[must_use]
pub fn believable(at: UnixMillis) -> bool {
    plausible(at)
}

fn plausible(at: UnixMillis) -> bool {
    (EARLIEST_PLAUSIBLE..LATEST_PLAUSIBLE).contains(&at)
}

/// The operating system's clock as it stands, for commands that show times and keep nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct System;

impl Clock for System {
    fn now(&self) -> UnixMillis {
        UnixMillis(wall() / NANOS_PER_MILLI)
    }

    fn state(&self) -> State {
        let set = plausible(self.now()).then_some(Evidence::Trusted);
        State { boot: "".into(), base: 0, set, refused: None }
    }

    fn was_set(&self) {}
}

/// Nanoseconds since 1970 as the operating system believes; it ends in the year 2262.
fn wall() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is the one home of wall time")]
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since_1970.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}

/// Which clocks are believed: `clock` in `[gateway]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// Those that something vouches for.
    #[default]
    Auto,
    /// Whatever the board shows, as long as it can be true.
    Trusted,
}

/// What a board knows of time; its second implementation is in the tests.
trait Facts: Send + Sync {
    /// Returns nanoseconds since 1970 and since boot, of the same moment.
    fn read(&self) -> (i64, i64);
    /// Returns whether somebody keeps the clock right.
    fn synced(&self) -> bool;
    /// Returns whether the clock was right when the board started.
    fn right_from_the_start(&self) -> Option<Evidence>;
}

/// The clock of the daemon.
pub struct Board(Kept<kernel::Kernel>);

impl Board {
    /// Looks at the board's clock for the first time.
    #[must_use]
    pub fn new(trust: Trust) -> Self {
        Self(Kept::new(kernel::Kernel, boot_name(), trust))
    }
}

impl Clock for Board {
    fn now(&self) -> UnixMillis {
        self.0.look().1
    }

    fn state(&self) -> State {
        self.0.state()
    }

    fn was_set(&self) {
        self.0.was_set();
    }
}

/// The rules of belief, whatever the facts come from.
struct Kept<F> {
    facts: F,
    boot: Arc<str>,
    trust: Trust,
    belief: Mutex<Belief>,
}

struct Belief {
    set: Option<Evidence>,
    /// Wall minus boot, nanoseconds.
    base: i64,
    /// When an unset clock was looked at, nanoseconds since boot.
    looked: i64,
    refused: Option<UnixMillis>,
}

impl<F: Facts> Kept<F> {
    fn new(facts: F, boot: Arc<str>, trust: Trust) -> Self {
        let (wall, since_boot) = facts.read();
        let set = match trust {
            _ if !plausible(UnixMillis(wall / NANOS_PER_MILLI)) => None,
            Trust::Trusted => Some(Evidence::Trusted),
            Trust::Auto if facts.synced() => Some(Evidence::Synced),
            Trust::Auto => facts.right_from_the_start(),
        };
        let belief = Belief { set, base: wall - since_boot, looked: since_boot, refused: None };
        Self { facts, boot, trust, belief: Mutex::new(belief) }
    }

    /// Looks at the clock, and decides whether to believe it. Costs two readings of a clock once it
    /// is believed, and a few system calls a second before.
    fn look(&self) -> (MutexGuard<'_, Belief>, UnixMillis) {
        let mut belief = self.belief.lock().unwrap_or_else(PoisonError::into_inner);
        let (wall, since_boot) = self.facts.read();
        let shown = UnixMillis(wall / NANOS_PER_MILLI);
        let base = wall - since_boot;
        if belief.set.is_none() && since_boot - belief.looked >= LOOK_EVERY {
            belief.looked = since_boot;
            if plausible(shown) {
                belief.set = self.why(base.abs_diff(belief.base) >= STEP_MIN.unsigned_abs());
            }
            belief.base = base;
        }
        let at = match belief.set {
            None => since_boot,
            Some(_) => {
                belief.refused = (!plausible(shown)).then_some(shown);
                if belief.refused.is_none() {
                    belief.base = base;
                }
                since_boot + belief.base
            }
        };
        (belief, UnixMillis(at / NANOS_PER_MILLI))
    }

    fn why(&self, stepped: bool) -> Option<Evidence> {
        match self.trust {
            Trust::Trusted => Some(Evidence::Trusted),
            Trust::Auto if self.facts.synced() => Some(Evidence::Synced),
            Trust::Auto => stepped.then_some(Evidence::Step),
        }
    }

    fn state(&self) -> State {
        let belief = self.look().0;
        State {
            boot: Arc::clone(&self.boot),
            base: belief.base / NANOS_PER_MILLI,
            set: belief.set,
            refused: belief.refused,
        }
    }

    fn was_set(&self) {
        let (wall, since_boot) = self.facts.read();
        let mut belief = self.belief.lock().unwrap_or_else(PoisonError::into_inner);
        if belief.set.is_none() && plausible(UnixMillis(wall / NANOS_PER_MILLI)) {
            belief.set = Some(Evidence::Earlier);
            belief.base = wall - since_boot;
        }
    }
}

/// A clock that moves only when told, for tests and replays.
#[derive(Debug)]
pub struct Manual(Mutex<(i64, State)>);

impl Manual {
    /// A clock that shows `at` and is set; one that is not set when `at` cannot be true.
    #[must_use]
    pub fn new(at: UnixMillis) -> Self {
        let set = plausible(at).then_some(Evidence::Trusted);
        Self(Mutex::new((at.0, State { boot: "manual".into(), base: 0, set, refused: None })))
    }

    fn lock(&self) -> MutexGuard<'_, (i64, State)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the board again under a new name: its clock shows `guess`, and is not set.
    pub fn boot(&self, name: &str, guess: UnixMillis) {
        let state = State { boot: name.into(), base: guess.0, set: None, refused: None };
        *self.lock() = (0, state);
    }

    /// Steps to `at`, forwards or backwards, and sets the clock when that can be true.
    pub fn set(&self, at: UnixMillis) {
        let mut clock = self.lock();
        if plausible(at) {
            clock.1.base = at.0 - clock.0;
            clock.1.set = Some(Evidence::Step);
        } else {
            *clock = (at.0, State { base: 0, set: None, ..clock.1.clone() });
        }
    }

    /// Moves forward by `by`, to the millisecond.
    pub fn advance(&self, by: Duration) {
        self.lock().0 += i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    }
}

impl Clock for Manual {
    fn now(&self) -> UnixMillis {
        let clock = self.lock();
        UnixMillis(clock.0 + if clock.1.set.is_some() { clock.1.base } else { 0 })
    }

    fn state(&self) -> State {
        self.lock().1.clone()
    }

    fn was_set(&self) {
        let mut clock = self.lock();
        if plausible(UnixMillis(clock.0 + clock.1.base)) {
            clock.1.set.get_or_insert(Evidence::Earlier);
        }
    }
}
