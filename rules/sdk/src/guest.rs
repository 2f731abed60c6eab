//! Between the host, which calls once per batch, and a [`Rule`], which takes one reading at a time.
//!
//! Two kinds of keys are kept: `s/DEVICE/POINT` holds the state of a series, `w/DEVICE/POINT` the
//! time at which it wants to be woken (8 bytes, and one that is 1 when it waits for the watermark).
//! The host knows one timer, `wake`, at the earliest of those times: so a thousand series may wait
//! at once, and they are woken in the order of their times. States are loaded when needed; wakes when
//! the rule is told of their series, for which the host grants fuel by series and not by readings.
//! Both are written once per batch, and only when they changed.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use crate::out::{Declare, Out, Wake};
use crate::sys::{self, Level};
use crate::whole::{Context, Fired};
use crate::{Error, Param, Quality, Reading, Rule, Series, State, Timestamp};

/// What the host calls.
pub trait Guest: Sized {
    /// Version of the state it writes.
    const STATE_VERSION: u32;
    /// Reads parameters and declares outputs.
    ///
    /// # Errors
    /// When it cannot run like this; the host refuses the rule with these words.
    fn open(series: Vec<Series>, get: &mut dyn FnMut(&str) -> Option<Param>)
    -> Result<Self, Error>;
    /// Rewrites state of an earlier version.
    ///
    /// # Errors
    /// When it cannot; the state stays as it is.
    fn migrate(&mut self, from: u32) -> Result<(), Error>;
    /// Is told of more series.
    ///
    /// # Errors
    /// As [`Guest::open`].
    fn series_added(&mut self, series: Vec<Series>) -> Result<(), Error>;
    /// Takes a batch.
    ///
    /// # Errors
    /// When the rule says so; the host takes everything back.
    fn process(&mut self, context: &Context, batch: &[Reading<'_>]) -> Result<(), Error>;
    /// Timers went off.
    ///
    /// # Errors
    /// As [`Guest::process`].
    fn on_timer(&mut self, context: &Context, fired: &[Fired]) -> Result<(), Error>;
}

/// What `#[rule]` says of a rule.
pub trait Exported {
    /// As the host calls it.
    type Guest: Guest;
    /// The manifest, JSON.
    const MANIFEST: &'static str;
}

/// A [`Rule`] with the state of each of its series.
pub struct PerSeries<R: Rule> {
    rule: R,
    out: Out<R::Outputs>,
    slots: Vec<Slot<R::State>>,
    /// Slots that the current call has looked at.
    touched: Vec<usize>,
    /// When series want to be woken, in order.
    wakes: BTreeSet<(Timestamp, usize)>,
    /// What the host's timer stands at, as far as this instance knows.
    armed: Option<Timestamp>,
    bytes: Vec<u8>,
}

struct Slot<S> {
    /// The name, cut to what a key may be.
    name: String,
    state: Option<S>,
    /// As the host has it.
    written: Vec<u8>,
    wake: Option<Wake>,
    /// From which time on a reading wakes it first; the end of time when none does.
    due: Timestamp,
    wake_written: Option<Wake>,
    /// The current call has looked at it, so its state is loaded.
    touched: bool,
}

/// Later than any reading.
const NEVER: Timestamp = Timestamp(i64::MAX);

/// See [`Slot::due`].
fn due(wake: Option<Wake>) -> Timestamp {
    wake.filter(|wake| !wake.settled).map_or(NEVER, |wake| wake.at)
}

/// The host's one timer.
const TIMER: &str = "wake";
/// Series woken in one call, which has fuel for 200,000 instructions and one reading: each may take as
/// many as a reading may.
const WAKES_MAX: usize = 10;
/// Bytes of state from which on no further series is woken in the same call: a long state is long to
/// read and to write.
const WAKES_BYTES_MAX: usize = 2048;
/// Keys fetched at once.
const PAGE: u32 = 128;

impl<R: Rule> Guest for PerSeries<R> {
    const STATE_VERSION: u32 = <R::State as State>::VERSION;

    fn open(
        series: Vec<Series>,
        get: &mut dyn FnMut(&str) -> Option<Param>,
    ) -> Result<Self, Error> {
        let mut rule = R::read(get)?;
        rule.prepare()?;
        let mut all = Self {
            rule,
            out: Out::new(),
            slots: Vec::new(),
            touched: Vec::new(),
            wakes: BTreeSet::new(),
            armed: None,
            bytes: Vec::new(),
        };
        all.series_added(series)?;
        Ok(all)
    }

    fn migrate(&mut self, from: u32) -> Result<(), Error> {
        let mut after: Option<String> = None;
        loop {
            let page = sys::state_scan("s/", after.as_deref(), PAGE);
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, bytes) in &page {
                let Some(state) = self.rule.migrate(from, bytes) else {
                    return Err(Error::new(
                        "state.version",
                        "the state is of a version it cannot read",
                    ));
                };
                self.bytes.clear();
                state.save(&mut self.bytes);
                sys::state_set(key, &self.bytes);
            }
        }
    }

    fn series_added(&mut self, series: Vec<Series>) -> Result<(), Error> {
        for one in series {
            let outputs = self.rule.outputs(&one, &mut Declare(()))?;
            let name = key_of(&one);
            let wake = kept_wake(&name);
            let slot = Slot {
                name,
                state: None,
                written: Vec::new(),
                wake,
                due: due(wake),
                wake_written: wake,
                touched: false,
            };
            self.wakes.extend(wake.map(|wake| (wake.at, self.slots.len())));
            self.slots.push(slot);
            self.out.series.push((one, outputs));
        }
        Ok(())
    }

    fn process(&mut self, _: &Context, batch: &[Reading<'_>]) -> Result<(), Error> {
        for r in batch {
            let index = r.series as usize;
            self.out.current = index;
            let Some(slot) = self.slots.get_mut(index) else {
                return Err(Error::new("series", "a reading of a series it was not told of"));
            };
            if r.quality.has(Quality::LATE) {
                self.rule.late(*r, &mut self.out);
                continue;
            }
            if !slot.touched || r.at >= slot.due {
                self.make_ready(index, r.at);
            }
            if let Some(Slot { state: Some(state), .. }) = self.slots.get_mut(index) {
                self.rule.reading(*r, state, &mut self.out);
            }
            if self.out.asked.is_some() {
                self.take_wake(index, None);
            }
        }
        self.finish()
    }

    fn on_timer(&mut self, _: &Context, fired: &[Fired]) -> Result<(), Error> {
        let until = fired.iter().fold(Timestamp(i64::MIN), |until, one| until.max(one.at));
        self.armed = None;
        // What is more goes into the next call, for `finish` sets the timer to a time that has passed
        // already.
        let mut bytes = 0;
        for _ in 0..WAKES_MAX {
            let Some(&(at, index)) = self.wakes.first() else { break };
            if at > until || bytes > WAKES_BYTES_MAX {
                break;
            }
            self.out.current = index;
            self.load(index);
            bytes += self.slots[index].written.len();
            self.wake(index, at);
        }
        self.finish()
    }
}

impl<R: Rule> PerSeries<R> {
    /// Loads what is kept of a series, and wakes it as often as it wants before `at`.
    #[cold]
    fn make_ready(&mut self, index: usize, at: Timestamp) {
        self.load(index);
        while let Some(wake) = self.slots[index].wake
            && !wake.settled
            && wake.at <= at
        {
            self.wake(index, wake.at);
        }
    }

    fn load(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if !slot.touched {
            slot.touched = true;
            self.touched.push(index);
        }
        if slot.state.is_some() {
            return;
        }
        let mut state = None;
        if let Some(bytes) = sys::state_get(&with_prefix('s', &slot.name)) {
            state = R::State::load(&mut bytes.as_slice());
            if state.is_none() {
                sys::log(
                    Level::Warn,
                    "what was kept of a series does not read back; it begins anew",
                );
            }
            slot.written = bytes;
        }
        slot.state = Some(state.unwrap_or_default());
    }

    fn wake(&mut self, index: usize, at: Timestamp) {
        self.set_wake(index, None);
        if let Some(state) = &mut self.slots[index].state {
            self.rule.wake(at, state, &mut self.out);
        }
        self.take_wake(index, Some(at));
    }

    /// Takes over what the rule asked for. `after`: the wake that is going on, which never repeats.
    fn take_wake(&mut self, index: usize, after: Option<Timestamp>) {
        if let Some(mut asked) = self.out.asked.take() {
            if let (Some(wake), Some(after)) = (&mut asked, after) {
                wake.at = wake.at.max(Timestamp(after.0.saturating_add(1)));
            }
            self.set_wake(index, asked);
        }
    }

    fn set_wake(&mut self, index: usize, wake: Option<Wake>) {
        let slot = &mut self.slots[index];
        if slot.wake == wake {
            return;
        }
        if let Some(old) = slot.wake {
            self.wakes.remove(&(old.at, index));
        }
        (slot.wake, slot.due) = (wake, due(wake));
        if let Some(new) = wake {
            self.wakes.insert((new.at, index));
        }
    }

    /// Hands everything to the host.
    fn finish(&mut self) -> Result<(), Error> {
        if let Some(error) = self.out.failed.take() {
            self.out.outbox.clear();
            return Err(error);
        }
        self.out.outbox.flush();
        for index in self.touched.drain(..) {
            let slot = &mut self.slots[index];
            slot.touched = false;
            self.bytes.clear();
            if let Some(state) = &slot.state {
                state.save(&mut self.bytes);
            }
            if !are_equal(&self.bytes, &slot.written) {
                sys::state_set(&with_prefix('s', &slot.name), &self.bytes);
                core::mem::swap(&mut slot.written, &mut self.bytes);
            }
            if slot.wake != slot.wake_written {
                let key = with_prefix('w', &slot.name);
                match slot.wake {
                    Some(wake) => {
                        self.bytes.clear();
                        (wake.at, wake.settled).save(&mut self.bytes);
                        sys::state_set(&key, &self.bytes);
                    }
                    None => sys::state_delete(&key),
                }
                slot.wake_written = slot.wake;
            }
        }
        let first = self.wakes.first().map(|(at, _)| *at);
        if first != self.armed {
            match first {
                Some(at) => sys::timer_set(TIMER, at),
                None => sys::timer_cancel(TIMER),
            }
            self.armed = first;
        }
        Ok(())
    }
}

/// Compares by eight bytes: `==` goes byte by byte here, and state is compared with every batch.
fn are_equal(a: &[u8], b: &[u8]) -> bool {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    a.len() == b.len() && a_rest == b_rest && a.iter().zip(b).all(|(a, b)| word(a) == word(b))
}

/// When a series waits to be woken, as far as was kept.
fn kept_wake(name: &str) -> Option<Wake> {
    let bytes = sys::state_get(&with_prefix('w', name))?;
    let (at, settled) = <(Timestamp, bool)>::load(&mut bytes.as_slice())?;
    Some(Wake { at, settled })
}

fn with_prefix(prefix: char, name: &str) -> String {
    let mut key = String::with_capacity(name.len() + 2);
    key.push(prefix);
    key.push('/');
    key.push_str(name);
    key
}

/// Longest name within a key, which has 256 bytes with its prefix.
const NAME_BYTES_MAX: usize = 254;

/// `DEVICE/POINT`; of names that are too long, as much as fits and a digest of the rest.
fn key_of(series: &Series) -> String {
    let mut name = String::with_capacity(series.device.len() + series.point.len() + 1);
    name.push_str(&series.device);
    name.push('/');
    name.push_str(&series.point);
    if name.len() > NAME_BYTES_MAX {
        // FNV-1a, 64 bits.
        let digest = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut end = NAME_BYTES_MAX - 17;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        name.push('#');
        for shift in (0..16).rev() {
            let digit = u32::try_from((digest >> (shift * 4)) & 0xf).unwrap_or(0);
            name.push(char::from_digit(digit, 16).unwrap_or('0'));
        }
    }
    name
}
