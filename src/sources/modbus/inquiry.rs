//! A person's questions to a bus: who is there, and what stands in these registers. One connection
//! for one command; no schedule, no breaker, no plan. Values are read through the same guard as the
//! daemon's, so an inquiry does not tell another register's value either.

use std::io;
use std::time::Duration;

use super::decode::Decoder;
use super::frame::{Fault, Framing, sealed};
use super::guard::{Guard, Heard, Patience};
use super::link::Dial;
use super::plan::Span;
use super::settings::{Link, Point, Table};
use super::speaker::{Answer, Speaker};
use crate::reading::Sample;

/// An open bus.
pub struct Inquiry {
    link: Link,
    guard: Guard,
    speaker: Speaker,
    /// Of the next knock over TCP.
    transaction: u16,
}

/// What a unit said to a read.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// As many registers as were asked for.
    Words(Vec<u16>),
    /// At least as many bits as were asked for.
    Bits(Vec<bool>),
    /// It answered with this exception (Modbus Application Protocol 1.1b3, section 7).
    Exception(u8),
    /// Nothing came in time.
    Silence,
    /// Bytes came that are no answer.
    Noise,
    /// The port or the connection is gone.
    Gone,
}

/// What a knock brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Knock {
    /// The unit answered; inside, the exception it answered with.
    pub answer: Option<Option<u8>>,
    /// Other units that were heard, which answer late.
    pub others: Vec<u8>,
    /// Bytes that belong to no intact answer.
    pub noise: usize,
    /// The adapter gives back what is sent.
    pub echo: bool,
    /// The port or the connection is gone.
    pub gone: bool,
}

impl Inquiry {
    /// Opens the port, for this process alone, or the connection.
    ///
    /// # Errors
    /// The system's; `events` has the words for it.
    pub async fn open(link: Link) -> io::Result<Self> {
        let wire = link.dial().await?;
        let mut guard = link.guard();
        let speaker = Speaker::new(guard.framing());
        guard.attach(wire);
        Ok(Self { link, guard, speaker, transaction: 0 })
    }

    /// Reads `count` elements from `address` of `unit`. A network connection that the question
    /// before has cost is made anew.
    pub async fn read(
        &mut self,
        unit: u8,
        (table, address, count): (Table, u16, u16),
        timeout: Duration,
    ) -> Reply {
        if !self.guard.is_attached() {
            let Ok(wire) = self.link.dial().await else { return Reply::Gone };
            self.guard.attach(wire);
        }
        let span = Span { table, address, count };
        let patience = Patience { timeout, pause: Duration::ZERO };
        let mut answer = self.speaker.read(&mut self.guard, unit, span, patience).await;
        // Some gateways close after each answer, and take the next question on a new connection.
        if matches!(answer, Err(Fault::Gone)) && !self.guard.is_serial() {
            let Ok(wire) = self.link.dial().await else { return Reply::Gone };
            self.guard.attach(wire);
            answer = self.speaker.read(&mut self.guard, unit, span, patience).await;
        }
        match answer {
            Ok(Answer::Words(words)) => Reply::Words(words),
            Ok(Answer::Bits(bits)) => Reply::Bits(bits),
            Ok(Answer::Exception(code)) => Reply::Exception(code.into()),
            Err(Fault::Timeout) => Reply::Silence,
            Err(Fault::Gone) => Reply::Gone,
            Err(Fault::Garbage | Fault::NeverSilent | Fault::Wrong(_)) => Reply::Noise,
        }
    }

    /// Reads a point and makes of its registers what the daemon would.
    ///
    /// # Errors
    /// The reply that is no value.
    pub async fn value(
        &mut self,
        unit: u8,
        point: &Point,
        timeout: Duration,
    ) -> Result<Sample, Reply> {
        let span = (point.table, point.address, point.form.width());
        match self.read(unit, span, timeout).await {
            Reply::Words(words) => Ok(decode(point, &words)),
            Reply::Bits(bits) if !bits.is_empty() => Ok(Decoder::of(point).coil(bits[0])),
            other => Err(other),
        }
    }

    /// Asks `unit` for its first holding register and says what came: whoever is there answers, and
    /// be it with an exception.
    pub async fn knock(&mut self, unit: u8, timeout: Duration) -> Knock {
        if !self.guard.is_attached() && !self.guard.is_serial() {
            let Ok(wire) = self.link.dial().await else {
                return Knock { gone: true, ..Knock::default() };
            };
            self.guard.attach(wire);
        }
        let body = [unit, 0x03, 0, 0, 0, 1];
        let request = match self.guard.framing() {
            Framing::Rtu => sealed(&body),
            Framing::Mbap => {
                self.transaction = self.transaction.wrapping_add(1);
                let [high, low] = self.transaction.to_be_bytes();
                [&[high, low, 0, 0, 0, 6], &body[..]].concat()
            }
        };
        told(self.guard.knock(&request, timeout).await)
    }

    /// Says what comes within `patience` although nobody is asked: those who answer late are `others`.
    pub async fn overhear(&mut self, patience: Duration) -> Knock {
        told(self.guard.overhear(patience).await)
    }

    /// Returns how many bytes come within `patience` although nobody asked.
    pub async fn listen(&mut self, patience: Duration) -> usize {
        self.guard.listen(patience).await
    }
}

fn told(heard: Heard) -> Knock {
    let Heard { answer, others, noise, echo, gone } = heard;
    Knock { answer, others, noise, echo, gone }
}

/// Makes of registers what the daemon would make of them for `point`; they are as many as its form
/// takes.
#[must_use]
pub fn decode(point: &Point, words: &[u16]) -> Sample {
    Decoder::of(point).words(words)
}
