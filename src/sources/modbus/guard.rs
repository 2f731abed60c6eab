//! The guard: the only one that touches the wire, and the one that lets nothing through but the
//! answer to the question. The page of the room, `mod.rs`, says why each step is there.

mod knock;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

pub(super) use self::knock::Heard;
use super::frame::{
    Expected, FRAME_BYTES_MAX, Fault, Framing, Mismatch, Shape, Verdict, is_some_frame,
};
use super::timer::Timer;
use crate::limits;

/// Bytes to a device and back: a serial port, a TCP connection, a pipe in a test.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// What a device needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the end of the request to the first byte of the answer.
    pub(super) timeout: Duration,
    /// Between the last byte on the bus and the request.
    pub(super) pause: Duration,
}

/// A bus with its memory, which outlives connections.
pub(super) struct Guard {
    framing: Framing,
    /// `None` while the port or connection is gone; the link sets it again.
    wire: Option<Box<dyn Wire>>,
    timer: Timer,
    /// On a serial line, how long a character takes.
    character: Option<Duration>,
    /// 3.5 characters; zero on a network.
    silence: Duration,
    /// Whether a fault ends the connection, as it does on a network.
    drops_on_fault: bool,
    /// Silence counts from here: the last byte in either direction.
    last_byte: Instant,
    quarantine: Option<Instant>,
    /// Longest answer time seen, slowly forgotten.
    slowest: Duration,
    /// Answers that may still come, youngest first.
    owed: Vec<Debt>,
    bytes: Box<[u8; BUFFER_BYTES]>,
}

/// An answer that did not come in time.
struct Debt {
    answer: Shape,
    asked: Instant,
}

/// Debts remembered. They expire after [`limits::MODBUS_LATE_ANSWER_MAX`], and a unit that keeps
/// silent is asked less and less often.
const OWED_MAX: usize = 64;

/// How many sizes of a read are tried to find one that no late answer fits. A device that owes more
/// is asked less and less often, so that older debts expire.
const WIDENED_MAX: u16 = 16;

/// A frame and what may come right behind it.
const BUFFER_BYTES: usize = 2 * FRAME_BYTES_MAX;

/// Above 19,200 baud the silence between frames is fixed (MODBUS over Serial Line 1.02, section
/// 2.5.1.1): 1.750 ms.
const SILENCE_FAST: Duration = Duration::from_micros(1750);
const SILENCE_FAST_ABOVE_BAUD: u32 = 19_200;

impl Guard {
    /// Guards a serial line.
    pub(super) fn serial(line: crate::sources::line::LineSettings, timer: Timer) -> Self {
        let silence =
            if line.baud > SILENCE_FAST_ABOVE_BAUD { SILENCE_FAST } else { line.characters(7) / 2 };
        let mut guard = Self::network(Framing::Rtu);
        guard.timer = timer;
        guard.character = Some(line.characters(1));
        guard.silence = silence;
        guard.drops_on_fault = false;
        guard
    }

    /// Guards TCP connections.
    pub(super) fn network(framing: Framing) -> Self {
        Self {
            framing,
            wire: None,
            timer: Timer::Coarse,
            character: None,
            silence: Duration::ZERO,
            drops_on_fault: true,
            last_byte: Instant::now(),
            quarantine: None,
            slowest: Duration::ZERO,
            owed: Vec::new(),
            bytes: Box::new([0; BUFFER_BYTES]),
        }
    }

    /// Takes a fresh wire.
    pub(super) fn attach(&mut self, wire: Box<dyn Wire>) {
        self.wire = Some(wire);
        self.last_byte = Instant::now();
    }

    pub(super) fn is_attached(&self) -> bool {
        self.wire.is_some()
    }

    /// Returns whether it guards a serial line of this board.
    pub(super) fn is_serial(&self) -> bool {
        self.character.is_some()
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Returns how many elements to ask `unit` for so that it gets at least `count` and no late
    /// answer fits: `count` itself unless an answer of that shape is owed. A device may answer in any
    /// order, so it owes an answer until that has come or is too old to come. `None` when no number
    /// will do.
    pub(super) fn distinct_count(&mut self, unit: u8, function: u8, count: u16) -> Option<u16> {
        self.owed.retain(|debt| debt.asked.elapsed() < limits::MODBUS_LATE_ANSWER_MAX);
        if self.framing == Framing::Mbap {
            return Some(count);
        }
        let (step, most) = match function {
            0x01 | 0x02 => (8, limits::MODBUS_BITS_MAX),
            _ => (1, limits::MODBUS_REGISTERS_MAX),
        };
        (0..=WIDENED_MAX).map(|n| count.saturating_add(n * step)).find(|count| {
            let shape = Shape::of(unit, function, *count);
            *count <= most
                && shape.is_some_and(|shape| self.owed.iter().all(|debt| debt.answer != shape))
        })
    }

    /// Returns whether an exception from `unit` may be about an earlier question.
    pub(super) fn is_owed_by(&self, unit: u8) -> bool {
        self.framing == Framing::Rtu && self.owed.iter().any(|debt| debt.answer.unit == unit)
    }

    /// Forgets what `unit` owes, after a quarantine: it will not give more elements than asked for,
    /// so the order of its answers is all there is to go by.
    pub(super) fn forgive(&mut self, unit: u8) {
        self.owed.retain(|debt| debt.answer.unit != unit);
        self.hold(self.slowest);
    }

    /// Sends one request frame and returns the answer frame that fits it, checked byte for byte. On
    /// a fault, either the connection is gone or the bus is in quarantine.
    pub(super) async fn exchange(
        &mut self,
        request: &[u8],
        patience: Patience,
    ) -> Result<&[u8], Fault> {
        let expected = Expected::of(self.framing, request).ok_or(Fault::Garbage)?;
        let place = self.attempt(request, &expected, patience).await?;
        Ok(&self.bytes[place])
    }

    async fn attempt(
        &mut self,
        request: &[u8],
        expected: &Expected,
        patience: Patience,
    ) -> Result<std::ops::Range<usize>, Fault> {
        let mut asked = None;
        let outcome = match self.fall_silent(patience.pause).await {
            Ok(()) => {
                asked = Some(Instant::now());
                self.converse(request, expected, patience.timeout).await
            }
            Err(fault) => Err(fault),
        };
        self.last_byte = Instant::now();
        match (&outcome, asked) {
            (Ok(_), Some(asked)) => {
                self.slowest = asked.elapsed().max(self.slowest - self.slowest / 64);
            }
            (Err(Fault::Gone), _) => self.wire = None,
            (Err(fault), asked) => {
                if matches!(fault, Fault::Wrong(_)) {
                    self.note_late(BUFFER_BYTES);
                }
                if let Some(asked) = asked {
                    self.owed.truncate(OWED_MAX - 1);
                    self.owed.insert(0, Debt { answer: expected.shape, asked });
                }
                self.hold(self.slowest);
                if self.drops_on_fault {
                    self.wire = None;
                }
            }
            (Ok(_), None) => {}
        }
        outcome
    }

    /// Lets nobody speak for as long as an answer may take.
    fn hold(&mut self, longest: Duration) {
        let hold = longest.clamp(limits::MODBUS_QUARANTINE_MIN, limits::MODBUS_QUARANTINE_MAX);
        let end = Instant::now() + hold;
        self.quarantine = Some(self.quarantine.map_or(end, |before| before.max(end)));
    }

    /// Drains what nobody asked for and returns when the bus has been silent long enough. Silence
    /// that has passed already is not waited for.
    async fn fall_silent(&mut self, pause: Duration) -> Result<(), Fault> {
        let begun = Instant::now();
        let mut drained = 0;
        loop {
            let silent = self.last_byte + self.silence.max(pause);
            let end = self.quarantine.map_or(silent, |quarantine| quarantine.max(silent));
            let wire = self.wire.as_mut().ok_or(Fault::Gone)?;
            let got = tokio::select! {
                biased;
                got = wire.read(&mut self.bytes[..]) => got.unwrap_or(0),
                () = self.timer.until(end) => break,
            };
            if got == 0 {
                return Err(Fault::Gone);
            }
            if self.framing == Framing::Mbap {
                return Err(Fault::Wrong(Mismatch::Transaction));
            }
            self.last_byte = Instant::now();
            self.note_late(got);
            self.hold(limits::MODBUS_QUARANTINE_MIN);
            drained += got;
            if drained > limits::MODBUS_NOISE_BYTES_MAX
                || begun.elapsed() > limits::MODBUS_NOISE_TIME_MAX + limits::MODBUS_QUARANTINE_MAX
            {
                return Err(Fault::NeverSilent);
            }
        }
        self.quarantine = None;
        Ok(())
    }

    /// Recognises the answer to an earlier question: learns how late answers are, and that this one
    /// cannot come again.
    fn note_late(&mut self, got: usize) {
        let bytes = &self.bytes[..got];
        let oldest = self.owed.iter().rposition(|debt| debt.answer.begins(bytes));
        if let Some(oldest) = oldest {
            let debt = self.owed.remove(oldest);
            self.slowest = self.slowest.max(debt.asked.elapsed());
        }
    }

    async fn converse(
        &mut self,
        request: &[u8],
        expected: &Expected,
        timeout: Duration,
    ) -> Result<std::ops::Range<usize>, Fault> {
        let wire = self.wire.as_mut().ok_or(Fault::Gone)?;
        let on_the_wire = |bytes: usize| {
            let count = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.character.map_or(Duration::ZERO, |character| character * count)
        };
        let mut end = Instant::now() + on_the_wire(request.len()) + timeout;
        // No flush: nothing is buffered here, and on a serial port it would block the whole reactor
        // until the last character has left (tcdrain).
        match timeout_at(end, wire.write_all(request)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Fault::Gone),
            Err(_) => return Err(Fault::Timeout),
        }
        let mut filled = 0;
        loop {
            match timeout_at(end, wire.read(&mut self.bytes[filled..])).await {
                Ok(Ok(0) | Err(_)) => return Err(Fault::Gone),
                Ok(Ok(got)) => {
                    if filled == 0 {
                        // The answer has begun: it may take its time on the line.
                        let rest = on_the_wire(2 * expected.answer_bytes());
                        end = end.max(Instant::now() + rest + limits::MODBUS_QUARANTINE_MIN);
                    }
                    filled += got;
                }
                Err(_) if filled == 0 => return Err(Fault::Timeout),
                Err(_) => return Err(Fault::Garbage),
            }
            match expected.judge(&self.bytes[..filled]) {
                Verdict::More if filled < BUFFER_BYTES => {}
                Verdict::More | Verdict::Damaged => return Err(Fault::Garbage),
                Verdict::Answer(place) => return Ok(place),
                Verdict::Unfit(mismatch) => return Err(self.tell_apart(filled, mismatch).await),
            }
        }
    }

    /// Reads on until the line pauses, to tell an intact answer to something else from noise.
    async fn tell_apart(&mut self, mut filled: usize, mismatch: Mismatch) -> Fault {
        if self.framing == Framing::Mbap {
            return Fault::Wrong(mismatch);
        }
        let gap = self.silence + limits::MODBUS_QUARANTINE_MIN / 2;
        while filled < BUFFER_BYTES
            && let Some(wire) = self.wire.as_mut()
            && let Ok(Ok(got @ 1..)) =
                tokio::time::timeout(gap, wire.read(&mut self.bytes[filled..])).await
        {
            filled += got;
        }
        if is_some_frame(&self.bytes[..filled]) { Fault::Wrong(mismatch) } else { Fault::Garbage }
    }
}
