//! One poll of one class: every request of one device that is due together becomes one group. What
//! fails is a sample without data; what the device does not have is cut out and remembered.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_modbus::ExceptionCode;

use super::breaker::{Breaker, Turn};
use super::frame::{Fault, Mismatch};
use super::guard::{Guard, Patience};
use super::link::{Dial, Link, Readiness};
use super::plan::{self, Class, Reach, Request, Span};
use super::settings::Device;
use super::speaker::{Answer, Speaker};
use crate::limits;
use crate::reading::{NoData, Sample};

/// A bus's way to its devices.
pub(super) struct Line {
    link: Link,
    guard: Guard,
    speaker: Speaker,
    /// Why the link failed last, until the bus has told it.
    pub(super) failure: Option<Failure>,
    /// Whether a request went out since.
    pub(super) works: bool,
}

/// How a link failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be opened.
    NotOpened(std::io::Error),
    /// It ended while in use.
    Ended,
}

impl Line {
    pub(super) fn new(dial: Arc<dyn Dial>) -> Self {
        let guard = dial.guard();
        let speaker = Speaker::new(guard.framing());
        Self { link: Link::new(dial), guard, speaker, failure: None, works: false }
    }

    /// Returns whether the link is there, opening it when it is time to.
    pub(super) async fn is_ready(&mut self) -> bool {
        match self.link.ready(&mut self.guard).await {
            Readiness::Up | Readiness::Opened => true,
            Readiness::Down => false,
            Readiness::Failed(error) => {
                self.failure = Some(Failure::NotOpened(error));
                false
            }
        }
    }

    /// Asks once; a connection that turns out to be gone is opened again and asked once more.
    async fn ask(&mut self, unit: &Unit, span: Span) -> Result<Answer, Fault> {
        let mut again = true;
        loop {
            let read = self.speaker.read(&mut self.guard, unit.id, span, unit.patience);
            match read.await {
                Err(Fault::Gone) if again => {
                    again = false;
                    if !self.is_ready().await {
                        // Of a cable it is told that it was pulled, of a host why it refuses.
                        if self.guard.is_serial() {
                            self.failure = Some(Failure::Ended);
                        }
                        return Err(Fault::Gone);
                    }
                }
                Err(Fault::Gone) => {
                    self.failure = Some(Failure::Ended);
                    return Err(Fault::Gone);
                }
                outcome => {
                    self.works = true;
                    if outcome.is_ok() {
                        self.link.proved();
                    }
                    return outcome;
                }
            }
        }
    }
}

/// A device as its bus knows it.
pub(super) struct Unit {
    pub(super) id: u8,
    patience: Patience,
    pub(super) breaker: Breaker,
    /// Short reads, the shortest first, to see whether it is there.
    probes: Vec<Span>,
    /// Kept to plan anew.
    reach: Reach,
}

/// Probes that take turns: one of them may be for a register that the device never answers.
const PROBES_MAX: usize = 4;

impl Unit {
    pub(super) fn new(settings: &Device, classes: &[Class]) -> Self {
        let mut probes: Vec<Span> = classes
            .iter()
            .flat_map(|class| &class.fields)
            .map(|field| Span { table: field.table, address: field.address, count: field.width })
            .collect();
        probes.sort_by_key(|span| span.count);
        probes.dedup();
        probes.truncate(PROBES_MAX);
        probes.shrink_to_fit();
        Self {
            id: settings.id,
            patience: Patience { timeout: settings.timeout, pause: settings.pause },
            breaker: Breaker::default(),
            probes,
            reach: Reach::of(settings),
        }
    }
}

/// What a poll learned about its device, for the notices.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Requests made and answers of any kind, exceptions included.
    pub(super) asked: u32,
    pub(super) answered: u32,
    /// It is given up just now.
    pub(super) fell_silent: bool,
    /// It was given up and answers again.
    pub(super) is_back: bool,
    pub(super) exception: Option<(ExceptionCode, Span)>,
    pub(super) garbage: bool,
    pub(super) never_silent: bool,
    pub(super) wrong: Option<Mismatch>,
    /// The set of refused registers changed.
    pub(super) refusals_changed: bool,
}

/// One poll in progress.
pub(super) struct Poll<'a> {
    pub(super) line: &'a mut Line,
    pub(super) unit: &'a mut Unit,
    pub(super) class: &'a mut Class,
    pub(super) samples: Vec<Sample>,
    pub(super) findings: Findings,
    splits: usize,
    /// Requests without an answer, to be rested when others were answered.
    silent: Vec<usize>,
    silent_in_a_row: usize,
}

/// Whether the poll goes on.
#[derive(PartialEq)]
enum Next {
    Request,
    SameAgain,
    GiveUp,
}

impl<'a> Poll<'a> {
    pub(super) fn new(line: &'a mut Line, unit: &'a mut Unit, class: &'a mut Class) -> Self {
        let samples = vec![Sample::none(NoData::Timeout); class.fields.len()];
        Self {
            line,
            unit,
            class,
            samples,
            findings: Findings::default(),
            splits: 0,
            silent: Vec::new(),
            silent_in_a_row: 0,
        }
    }

    /// Reads what can be read now.
    pub(super) async fn run(&mut self) {
        if !self.line.is_ready().await {
            return;
        }
        let now = Instant::now();
        match self.unit.breaker.turn(now) {
            Turn::Rest => return,
            Turn::Probe if !self.probe().await => return,
            Turn::Probe | Turn::Ask => {}
        }
        let mut index = 0;
        while index < self.class.requests.len() {
            match self.request(index, now).await {
                Next::Request => index += 1,
                Next::SameAgain => {}
                Next::GiveUp => break,
            }
        }
        self.conclude();
    }

    async fn probe(&mut self) -> bool {
        let turn = self.unit.breaker.failures as usize % self.unit.probes.len().max(1);
        let Some(span) = self.unit.probes.get(turn).copied() else { return true };
        self.findings.asked += 1;
        let answered = match self.line.ask(self.unit, span).await {
            Ok(Answer::Exception(code)) => !is_from_gateway(code),
            Ok(_) | Err(Fault::Wrong(_)) => true,
            Err(Fault::Gone) => {
                self.findings.asked -= 1;
                return false;
            }
            Err(_) => false,
        };
        if answered {
            self.findings.answered += 1;
            let gone = self.unit.breaker.since.map_or(Duration::ZERO, |since| since.elapsed());
            self.findings.is_back = self.unit.breaker.succeeded();
            if gone > limits::MODBUS_PROBE_DELAY_MAX * 2 {
                // It was away for long: it may have been replaced or updated.
                self.class.requests = plan::merge(&self.class.fields, self.unit.reach);
                self.findings.refusals_changed = true;
            }
        } else {
            self.unit.breaker.failed(Instant::now());
        }
        answered
    }

    async fn request(&mut self, index: usize, now: Instant) -> Next {
        let request = &self.class.requests[index];
        if request.refused_until.is_some_and(|until| now < until) {
            self.fill(index, NoData::Configuration);
            return Next::Request;
        }
        if request.breaker.turn(now) == Turn::Rest {
            return Next::Request;
        }
        let span = request.span;
        let begun = Instant::now();
        self.findings.asked += 1;
        let outcome = self.line.ask(self.unit, span).await;
        match outcome {
            Ok(Answer::Exception(code)) if is_from_gateway(code) => {
                self.findings.exception = Some((code, span));
                self.no_answer(index)
            }
            Ok(Answer::Exception(code)) => {
                self.answered(index);
                self.exception(index, code)
            }
            Ok(answer) => {
                self.answered(index);
                self.decode(index, &answer);
                Next::Request
            }
            Err(Fault::Gone) => {
                self.findings.asked -= 1;
                Next::GiveUp
            }
            Err(Fault::Timeout) => self.no_answer(index),
            Err(fault) => {
                self.fill(index, NoData::Malformed);
                match fault {
                    Fault::Wrong(mismatch) => self.findings.wrong = Some(mismatch),
                    _ => self.findings.garbage = true,
                }
                self.findings.never_silent |= fault == Fault::NeverSilent;
                if begun.elapsed() < self.unit.patience.timeout {
                    // Something answers; it costs the bus no more than an answer does.
                    self.findings.asked -= 1;
                    return Next::Request;
                }
                self.no_answer(index)
            }
        }
    }

    fn answered(&mut self, index: usize) {
        self.findings.answered += 1;
        self.silent_in_a_row = 0;
        let request = &mut self.class.requests[index];
        request.breaker.succeeded();
        if request.refused_until.take().is_some() {
            self.findings.refusals_changed = true;
        }
    }

    fn no_answer(&mut self, index: usize) -> Next {
        self.silent.push(index);
        self.silent_in_a_row += 1;
        // Two timeouts in a row: the rest would only cost the bus the same again.
        if self.silent_in_a_row >= 2 { Next::GiveUp } else { Next::Request }
    }

    /// Cuts a refused read in two, or learns that the device does not have this value.
    fn exception(&mut self, index: usize, code: ExceptionCode) -> Next {
        let request = &self.class.requests[index];
        let fields = &self.class.fields;
        let refuses = matches!(
            code,
            ExceptionCode::IllegalFunction
                | ExceptionCode::IllegalDataAddress
                | ExceptionCode::IllegalDataValue
        );
        let divisible = match code {
            ExceptionCode::IllegalDataAddress | ExceptionCode::IllegalDataValue => true,
            // A device that fails may do so over registers nobody asked for, but not over others:
            // cutting on would never be undone.
            ExceptionCode::ServerDeviceFailure => request.has_gap(fields),
            _ => false,
        };
        if divisible && let Some((left, right)) = request.split(fields) {
            if self.splits >= limits::MODBUS_SPLITS_PER_POLL_MAX {
                self.fill(index, NoData::DeviceException);
                return Next::Request;
            }
            self.splits += 1;
            self.class.requests.splice(index..=index, [left, right]);
            return Next::SameAgain;
        }
        if refuses {
            self.class.requests[index].refused_until =
                Some(Instant::now() + limits::MODBUS_REFUSED_DELAY);
            self.findings.refusals_changed = true;
            self.fill(index, NoData::Configuration);
        } else {
            self.findings.exception = Some((code, request.span));
            self.fill(index, NoData::DeviceException);
        }
        Next::Request
    }

    fn decode(&mut self, index: usize, answer: &Answer) {
        let Request { span, fields, .. } = &self.class.requests[index];
        for slot in fields.clone() {
            let field = &self.class.fields[slot];
            let decoder = &self.class.decoders[field.decoder as usize];
            let from = usize::from(field.address - span.address);
            let sample = match answer {
                Answer::Words(words) => words
                    .get(from..from + usize::from(field.width))
                    .map(|words| decoder.words(words)),
                Answer::Bits(bits) => bits.get(from).map(|set| decoder.coil(*set)),
                Answer::Exception(_) => None,
            };
            self.samples[slot] = sample.unwrap_or(Sample::none(NoData::Malformed));
        }
    }

    fn fill(&mut self, index: usize, why: NoData) {
        self.samples[self.class.requests[index].fields.clone()].fill(Sample::none(why));
    }

    /// Draws the conclusions about the device as a whole and about single requests.
    fn conclude(&mut self) {
        let now = Instant::now();
        if self.findings.answered > 0 {
            self.findings.is_back |= self.unit.breaker.succeeded();
            for index in &self.silent {
                self.class.requests[*index].breaker.failed(now);
            }
        } else if self.findings.asked > 0 {
            self.findings.fell_silent = self.unit.breaker.failed(now);
        }
    }
}

/// Exceptions of a gateway that reached no device: for the device they are no answer.
fn is_from_gateway(code: ExceptionCode) -> bool {
    matches!(code, ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice)
}
