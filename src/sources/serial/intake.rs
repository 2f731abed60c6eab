//! What a device on a serial line amounts to: frames that were cut become readings, silence and
//! damage become readings without data, and each trouble is told once. No I/O: cuts and instants go
//! in, groups come out of [`Intake::take`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::framing::Cut;
use super::parse::{Parser, Refusal};
use super::settings::{Checksum, Device};
use crate::events::{Events, Notice, serial as told};
use crate::limits::{SERIAL_MALFORMED_EVERY, SERIAL_TROUBLE_OVER};
use crate::reading::{NoData, PointId, Points, Sample, TooManyPoints};

/// What happened on a line since the start; totals that never go back.
#[derive(Debug, Default)]
pub struct Counts {
    /// Attempts to open the port.
    pub opens: AtomicU64,
    /// Reads that returned, with bytes or without.
    pub reads: AtomicU64,
    /// Bytes that came.
    pub bytes: AtomicU64,
    /// Frames that became readings.
    pub frames: AtomicU64,
    /// Frames dropped for their checksum, stuffing or length.
    pub damaged: AtomicU64,
    /// Frames dropped because they were not understood.
    pub unread: AtomicU64,
    /// Questions that were not answered.
    pub unanswered: AtomicU64,
}

impl Counts {
    /// Returns frames that became readings, and frames that were dropped.
    #[must_use]
    pub fn outcomes(&self) -> (u64, u64) {
        let dropped = self.damaged.load(Ordering::Relaxed) + self.unread.load(Ordering::Relaxed);
        (self.frames.load(Ordering::Relaxed), dropped)
    }
}

/// Readings of one frame, on their way to become a group.
pub type Taken = (Arc<[PointId]>, Vec<Sample>);

/// The state of a device between frames.
#[derive(Debug)]
pub struct Intake {
    parser: Parser,
    checksum: Option<Checksum>,
    silent_after: Option<Duration>,
    subject: String,
    line: String,
    events: Option<Events>,
    counts: Arc<Counts>,
    ready: Vec<Taken>,
    /// When the last good frame came, or when waiting for one began.
    heard: Instant,
    /// Bytes since then, and since the last frame of any kind.
    bytes_unheard: u64,
    endless: Option<(Instant, u64)>,
    /// Whether the points are reported as timed out already.
    absent: bool,
    malformed: Option<Instant>,
    /// Questions since the last good frame.
    asked: u64,
    silence: Standing,
    damage: Standing,
    unread: Standing,
    ending: Standing,
}

/// Whether one kind of trouble is told, and when it was last seen.
#[derive(Debug, Default, Clone, Copy)]
struct Standing {
    last: Option<Instant>,
}

/// Bytes without a frame for this long are worth a word: no device needs longer for one frame.
const ENDLESS_AFTER: Duration = Duration::from_secs(30);
/// Fewer bytes than this may be what stands between frames (the line feed after a carriage return).
const ENDLESS_BYTES_MIN: u64 = 64;
/// Questions without an answer before it is told; each is a reading without data at once.
const ASKED_IN_VAIN: u64 = 3;

impl Intake {
    /// Compiles what `device` is told.
    ///
    /// # Errors
    /// When the process knows too many points already.
    pub fn new(device: &Device, names: &Points, now: Instant) -> Result<Self, TooManyPoints> {
        Ok(Self {
            parser: Parser::new(device, names)?,
            checksum: device.checksum,
            silent_after: device.silent_after,
            subject: format!("port {}: {}", device.line.name, device.name),
            line: device.line.line.to_string(),
            events: None,
            counts: Arc::default(),
            ready: Vec::new(),
            heard: now,
            bytes_unheard: 0,
            endless: None,
            absent: false,
            malformed: None,
            asked: 0,
            silence: Standing::default(),
            damage: Standing::default(),
            unread: Standing::default(),
            ending: Standing::default(),
        })
    }

    /// Returns the totals; they are shared, so a copy of the handle keeps counting.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Returns how notices call this device: `port rs232-1: scale`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Says where trouble is told, and begins to wait for frames.
    pub fn begin(&mut self, events: Events, now: Instant) {
        self.events = Some(events);
        self.heard = now;
    }

    /// Notes that `n` bytes came.
    pub fn bytes(&mut self, n: usize, now: Instant) {
        let n = n as u64;
        self.counts.bytes.fetch_add(n, Ordering::Relaxed);
        self.bytes_unheard += n;
        let (_, bytes) = self.endless.get_or_insert((now, 0));
        *bytes += n;
    }

    /// Takes what the cutter found.
    pub fn cut(&mut self, cut: &Cut<'_>, now: Instant) {
        match cut {
            Cut::Overlong => self.damaged("had no end within 64 KiB", &[], now),
            Cut::Broken => self.damaged("was cut short or stuffed wrongly", &[], now),
            Cut::Frame(frame) => {
                self.framed();
                match self.checksum.map(|checksum| checksum.strip(frame)) {
                    Some(None) => self.damaged("failed its checksum", frame, now),
                    Some(Some(body)) => self.frame(body, true, now),
                    None => self.frame(frame, false, now),
                }
            }
        }
    }

    /// Notes that the device is asked now; a question before that was not answered is a reading
    /// without data.
    pub fn ask(&mut self, answered: bool, now: Instant) {
        if !answered {
            self.counts.unanswered.fetch_add(1, Ordering::Relaxed);
            self.absent = true;
            self.ready.push(self.parser.without_data(NoData::Timeout));
            if self.asked >= ASKED_IN_VAIN {
                self.tell_silence(now);
            }
        }
        self.asked += 1;
    }

    /// Returns when [`Intake::tick`] has something to do.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        let silent = self.silent_after.filter(|_| !self.absent).map(|after| self.heard + after);
        let endless = self.endless().map(|(since, _)| since + ENDLESS_AFTER);
        silent.into_iter().chain(endless).min()
    }

    /// Notes silence.
    pub fn tick(&mut self, now: Instant) {
        if let Some(after) = self.silent_after
            && !self.absent
            && now >= self.heard + after
        {
            self.absent();
            self.tell_silence(now);
        }
        if let Some((since, bytes)) = self.endless()
            && now >= since + ENDLESS_AFTER
        {
            self.ending.last = Some(now);
            self.raise(|s| told::endless(&s.subject, bytes, now - since, &s.line));
        }
    }

    /// Notes that the port is gone: its points have no data until the device is heard again.
    pub fn gone(&mut self) {
        if !self.absent {
            self.absent();
        }
        self.asked = 0;
        self.endless = None;
    }

    /// Notes that the port is open: waiting begins anew.
    pub fn opened(&mut self, now: Instant) {
        self.heard = now;
        self.bytes_unheard = 0;
    }

    /// Hands out the readings that are ready.
    pub fn take(&mut self) -> std::vec::Drain<'_, Taken> {
        self.ready.drain(..)
    }

    /// Returns since when bytes come without a frame, and how many, if that is not told yet.
    fn endless(&self) -> Option<(Instant, u64)> {
        self.endless.filter(|(_, bytes)| *bytes >= ENDLESS_BYTES_MIN && self.ending.last.is_none())
    }

    fn absent(&mut self) {
        self.absent = true;
        self.ready.push(self.parser.without_data(NoData::Timeout));
    }

    fn frame(&mut self, frame: &[u8], intact: bool, now: Instant) {
        match self.parser.frame(frame) {
            Ok(taken) => {
                self.ready.push(taken);
                self.counts.frames.fetch_add(1, Ordering::Relaxed);
                self.heard(now);
            }
            Err(refusal) => self.refused(refusal, frame, intact, now),
        }
    }

    fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.bytes_unheard = 0;
        self.absent = false;
        self.asked = 0;
        if self.silence.last.take().is_some() {
            self.clear(&told::SILENT, "is heard again");
        }
        if self.damage.over(now) {
            self.clear(&told::DAMAGED, "sends whole frames again");
        }
        if self.unread.over(now) {
            self.clear(&told::UNREAD, "is understood again");
        }
    }

    /// Some frame ended, good or bad.
    fn framed(&mut self) {
        self.endless = None;
        if self.ending.last.take().is_some() {
            self.clear(&told::ENDLESS, "sends frames");
        }
    }

    fn damaged(&mut self, why: &str, frame: &[u8], now: Instant) {
        self.counts.damaged.fetch_add(1, Ordering::Relaxed);
        self.damage.last = Some(now);
        if self.malformed(now) {
            self.raise(|s| told::damaged(&s.subject, why, frame, &s.line));
        }
    }

    fn refused(&mut self, refusal: Refusal, frame: &[u8], intact: bool, now: Instant) {
        self.counts.unread.fetch_add(1, Ordering::Relaxed);
        // A valid checksum, or JSON that is whole, proves that this is another kind of frame and
        // not one of ours that was damaged. Devices that speak NMEA send a dozen kinds in turn.
        if intact || refusal == Refusal::NoPoint {
            let never = self.counts.frames.load(Ordering::Relaxed) == 0;
            if never && self.unread.last.is_none() {
                self.tell_unread(refusal, frame, now);
            }
        } else if self.malformed(now) {
            self.tell_unread(refusal, frame, now);
        } else {
            self.unread.last = Some(now);
        }
    }

    fn tell_unread(&mut self, refusal: Refusal, frame: &[u8], now: Instant) {
        let why = match refusal {
            Refusal::NoMatch => "does not fit `match`",
            Refusal::NotJson => "is not a JSON object",
            Refusal::NoPoint => "holds none of the configured points",
        };
        self.unread.last = Some(now);
        self.raise(|s| told::unread(&s.subject, why, frame));
    }

    /// Marks every point as malformed, unless that was done a moment ago. Returns whether it was.
    fn malformed(&mut self, now: Instant) -> bool {
        if self.malformed.is_some_and(|last| now < last + SERIAL_MALFORMED_EVERY) {
            return false;
        }
        self.malformed = Some(now);
        self.ready.push(self.parser.without_data(NoData::Malformed));
        true
    }

    fn tell_silence(&mut self, now: Instant) {
        self.silence.last = Some(now);
        let silence = told::Silence {
            lasted: now - self.heard,
            asked: self.asked,
            bytes: self.bytes_unheard,
        };
        self.raise(|s| told::silent(&s.subject, silence, &s.line));
    }

    fn raise(&self, notice: impl FnOnce(&Self) -> Notice) {
        if let Some(events) = &self.events {
            events.raise(notice(self));
        }
    }

    fn clear(&self, code: &'static crate::events::Code, now: &str) {
        if let Some(events) = &self.events {
            events.clear(code, &self.subject, now);
        }
    }
}

impl Standing {
    /// Returns whether trouble stood and has stayed away long enough; it does not stand any more.
    fn over(&mut self, now: Instant) -> bool {
        let over = self.last.is_some_and(|last| now >= last + SERIAL_TROUBLE_OVER);
        if over {
            self.last = None;
        }
        over
    }
}
