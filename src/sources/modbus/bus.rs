//! The worker of one bus: when which class is polled, and what an operator is told about it.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::frame::Mismatch;
use super::link::Dial;
use super::plan::{self, Class};
use super::poll::{Failure, Findings, Line, Poll, Unit};
use super::settings::{Bus, Link};
use crate::events::{Events, modbus as told};
use crate::reading::{Group, Points, Stream, TooManyPoints};
use crate::sources::{Outlet, Running, Source};

/// One Modbus bus: a serial line with its devices, or a TCP connection with the units behind it.
pub struct ModbusBus {
    /// `bus rs485-1`.
    name: String,
    /// Path or address, for notices.
    place: String,
    is_serial_port: bool,
    /// Whether RTU frames end up on a line, where devices can disturb each other.
    is_line: bool,
    dial: Arc<dyn Dial>,
    devices: Vec<Known>,
    classes: Vec<Class>,
    is_link_told: bool,
    backlog: Backlog,
    /// How it is reached; what it takes over is only good for the same.
    link: Link,
    /// Between two runs: the way to the devices, and when each class is due.
    paused: Option<(Line, Agenda)>,
}

/// A device and what stands told about it.
struct Known {
    /// As the configuration names it.
    name: Arc<str>,
    /// `bus rs485-1: device 7 (pump-7)`.
    subject: String,
    unit: Unit,
    answered_last: bool,
    told: Told,
}

#[derive(Default)]
struct Told {
    silent: bool,
    exception: bool,
    refused: bool,
    garbage: bool,
    wrong: bool,
}

impl ModbusBus {
    /// Plans the requests of a bus and makes its points known. Opens nothing.
    ///
    /// # Errors
    /// When there are more points than [`crate::limits::POINTS_MAX`].
    pub fn new(settings: Bus, points: &Points) -> Result<Self, TooManyPoints> {
        let dial = Arc::new(settings.link.clone());
        Self::over(settings, points, dial)
    }

    /// Like [`ModbusBus::new`], over wires that `dial` makes.
    pub(super) fn over(
        settings: Bus,
        points: &Points,
        dial: Arc<dyn Dial>,
    ) -> Result<Self, TooManyPoints> {
        let name = format!("bus {}", settings.name);
        let mut classes = Vec::new();
        let mut devices = Vec::new();
        for (index, device) in settings.devices.iter().enumerate() {
            let mut planned = plan::classes(index, device, points)?;
            devices.push(Known {
                name: Arc::clone(&device.name),
                subject: format!("{name}: device {} ({})", device.id, device.name),
                unit: Unit::new(device, &planned),
                answered_last: false,
                told: Told::default(),
            });
            classes.append(&mut planned);
        }
        let (place, is_serial_port, is_line) = match &settings.link {
            Link::Rtu(line) => (line.path.display().to_string(), true, true),
            Link::Tcp { host, port } => (format!("{host}:{port}"), false, false),
            Link::RtuOverTcp { host, port } => (format!("{host}:{port}"), false, true),
        };
        let backlog = Backlog::default();
        let (is_link_told, paused, link) = (false, None, settings.link);
        Ok(Self {
            name,
            place,
            is_serial_port,
            is_line,
            dial,
            devices,
            classes,
            is_link_told,
            backlog,
            link,
            paused,
        })
    }

    /// Polls until it is told to stop, and then ends the poll at hand: what a device has begun to
    /// answer is not thrown away.
    async fn work(&mut self, outlet: &Outlet, stop: &CancellationToken) {
        let (mut line, mut agenda) = self.paused.take().unwrap_or_else(|| {
            let line = Line::new(Arc::clone(&self.dial));
            (line, Agenda::new(&self.classes, Instant::now()))
        });
        while let Some((index, due)) = agenda.next() {
            let stopped = if Instant::now() < due {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => true,
                    () = sleep_until(due) => false,
                }
            } else {
                stop.is_cancelled()
            };
            if stopped {
                agenda.put_back(index, due);
                break;
            }
            let group = self.poll(&mut line, index, outlet).await;
            outlet.send(group).await;
            let skipped = agenda.advance(index, Instant::now());
            self.count_skipped(skipped, &outlet.events);
        }
        stop.cancelled().await;
        self.paused = Some((line, agenda));
    }

    async fn poll(&mut self, line: &mut Line, index: usize, outlet: &Outlet) -> Group {
        let class = &mut self.classes[index];
        let device = class.device;
        let points = Arc::clone(&class.points);
        let mut poll = Poll::new(line, &mut self.devices[device].unit, class);
        poll.run().await;
        let Poll { samples, findings, .. } = poll;
        let at = outlet.clock.now();
        self.tell_link(line, &outlet.events);
        self.tell_device(device, &findings, &outlet.events);
        Group { stream: Stream::Data, at, points, samples }
    }

    fn tell_link(&mut self, line: &mut Line, events: &Events) {
        if let Some(failure) = line.failure.take() {
            line.works = false;
            if !self.is_link_told {
                self.is_link_told = true;
                let (name, place) = (&self.name, &self.place);
                events.raise(match (failure, self.is_serial_port) {
                    (Failure::NotOpened(error), true) => told::port_not_opened(name, place, &error),
                    (Failure::Ended, true) => told::port_vanished(name, place),
                    (Failure::NotOpened(error), false) => told::not_connected(name, place, &error),
                    (Failure::Ended, false) => {
                        let ended = std::io::ErrorKind::ConnectionReset.into();
                        told::not_connected(name, place, &ended)
                    }
                });
            }
        } else if self.is_link_told && line.works {
            self.is_link_told = false;
            let code = if self.is_serial_port { &told::PORT_GONE } else { &told::UNREACHABLE };
            events.clear(code, &self.name, "is back");
        }
    }

    fn tell_device(&mut self, index: usize, findings: &Findings, events: &Events) {
        if findings.asked > 0 || findings.answered > 0 {
            self.devices[index].answered_last = findings.answered > 0;
        }
        if findings.fell_silent {
            self.tell_silent(index, events);
        }
        if findings.refusals_changed {
            self.tell_refused(index, events);
        }
        let is_line = self.is_line;
        let Known { subject, told, .. } = &mut self.devices[index];
        if findings.is_back && std::mem::take(&mut told.silent) {
            events.clear(&told::SILENT, subject, "answers again");
        }
        let clean = findings.answered > 0;
        match findings.exception {
            Some((code, span)) if !told.exception => {
                told.exception = true;
                events.raise(told::exception(subject, code.into(), &span.words()));
            }
            None if clean && std::mem::take(&mut told.exception) => {
                events.clear(&told::EXCEPTION, subject, "answers without exceptions");
            }
            _ => {}
        }
        if findings.garbage && !told.garbage {
            told.garbage = true;
            events.raise(told::garbage(subject, findings.never_silent, is_line));
        } else if clean && !findings.garbage && std::mem::take(&mut told.garbage) {
            events.clear(&told::GARBAGE, subject, "gives intact answers");
        }
        match findings.wrong {
            Some(mismatch) if !told.wrong => {
                told.wrong = true;
                events.raise(told::wrong(subject, &in_words(mismatch)));
            }
            None if clean && std::mem::take(&mut told.wrong) => {
                events.clear(&told::WRONG, subject, "answers what it is asked");
            }
            _ => {}
        }
    }

    fn tell_silent(&mut self, index: usize, events: &Events) {
        let answering = |(other, known): (usize, &Known)| other != index && known.answered_last;
        let others_answering = self.devices.iter().enumerate().filter(|d| answering(*d)).count();
        let others = self.devices.len() - 1;
        let Known { subject, unit, told, .. } = &mut self.devices[index];
        told.silent = true;
        let seen = told::Silence {
            lasted: unit.breaker.since.map_or(Duration::ZERO, |since| since.elapsed()),
            requests: unit.breaker.failures,
            others,
            others_answering,
            serial: self.is_line,
        };
        events.raise(told::silent(subject, unit.id, seen));
    }

    fn tell_refused(&mut self, index: usize, events: &Events) {
        let mut refused = Vec::new();
        let mut others = false;
        for class in self.classes.iter().filter(|class| class.device == index) {
            for request in &class.requests {
                match request.refused_until {
                    Some(_) => refused.push(request.span.words()),
                    None => others = true,
                }
            }
        }
        let Known { subject, told, .. } = &mut self.devices[index];
        if refused.is_empty() {
            if std::mem::take(&mut told.refused) {
                events.clear(&told::REFUSED, subject, "has all its registers");
            }
        } else if !told.refused {
            told.refused = true;
            let total = refused.len();
            refused.truncate(REFUSED_LISTED_MAX);
            events.raise(told::refused(subject, &refused, total, others));
        }
    }

    fn count_skipped(&mut self, skipped: u64, events: &Events) {
        match self.backlog.count(skipped) {
            Some(true) => {
                events.raise(told::behind(&self.name, self.backlog.skipped));
            }
            Some(false) => {
                events.clear(&told::BEHIND, &self.name, "keeps up");
            }
            None => {}
        }
    }
}

/// Registers that a notice lists.
const REFUSED_LISTED_MAX: usize = 5;

fn in_words(mismatch: Mismatch) -> String {
    match mismatch {
        Mismatch::Unit(unit) => format!("as device {unit}"),
        Mismatch::Function(function) => format!("another function (0x{function:02X})"),
        Mismatch::Count(count) => format!("another count ({count} bytes)"),
        Mismatch::Transaction => "an earlier question".into(),
        Mismatch::Surplus => "more than was asked".into(),
    }
}

impl Source for ModbusBus {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn pace(&self) -> Option<Duration> {
        self.classes.iter().map(|class| class.every).min()
    }

    fn take_over(&mut self, before: Box<dyn Any>, stays: &dyn Fn(&str) -> bool) -> Vec<String> {
        let Ok(before) = before.downcast::<Self>() else { return Vec::new() };
        if before.link != self.link {
            // Another line may behave in another way.
            return Vec::new();
        }
        succeed(self, *before, stays)
    }

    fn run<'a>(&'a mut self, outlet: Outlet, stop: CancellationToken) -> Running<'a> {
        Box::pin(async move { self.work(&outlet, &stop).await })
    }
}

/// When each class is due. Everything is due at the start; after that each class keeps to a grid of
/// its own, a little apart from its neighbours.
pub(super) struct Agenda {
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    grids: Vec<Grid>,
}

#[derive(Clone, Copy)]
pub(super) struct Grid {
    origin: Instant,
    every: Duration,
    /// The cell that was polled last, counted from `origin`.
    cell: u64,
}

impl Agenda {
    fn new(classes: &[Class], start: Instant) -> Self {
        // All classes run on the same beat: one wake-up serves a whole bus, which costs a fifth of
        // the CPU time that spreading them out did.
        let grid = |class: &Class| Grid {
            origin: start,
            every: class.every.max(Duration::from_millis(1)),
            cell: 0,
        };
        let grids = classes.iter().map(grid).collect();
        let due = (0..classes.len()).map(|index| Reverse((start, index))).collect();
        Self { due, grids }
    }

    /// Makes one of the places of classes in another: their grids, and when each is due. A class that
    /// has none there is due at once.
    fn succeeding(&self, classes: &[Class], places: &[Option<usize>]) -> Self {
        let mut agenda = Self::new(classes, Instant::now());
        let due_before = |at| self.due.iter().find(|Reverse((_, index))| *index == at);
        agenda.due.clear();
        for (index, place) in places.iter().enumerate() {
            let known = place.and_then(|at| Some((self.grids[at], due_before(at)?.0.0)));
            let (grid, due) = known.unwrap_or((agenda.grids[index], agenda.grids[index].origin));
            agenda.grids[index] = grid;
            agenda.due.push(Reverse((due, index)));
        }
        agenda
    }

    fn put_back(&mut self, index: usize, due: Instant) {
        self.due.push(Reverse((due, index)));
    }

    fn next(&mut self) -> Option<(usize, Instant)> {
        let Reverse((due, index)) = self.due.pop()?;
        Some((index, due))
    }

    /// Plans the next poll of a class: the next cell, or when that has passed, the one that runs now.
    /// Returns how many cells in between are skipped.
    fn advance(&mut self, index: usize, now: Instant) -> u64 {
        let grid = &mut self.grids[index];
        let planned = grid.cell + 1;
        let since = now.saturating_duration_since(grid.origin).as_nanos();
        let running = u64::try_from(since / grid.every.as_nanos().max(1)).unwrap_or(u64::MAX);
        let next = planned.max(running);
        grid.cell = next;
        let nanos = u128::from(next) * grid.every.as_nanos();
        let due = grid.origin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.due.push(Reverse((due, index)));
        next - planned
    }
}

/// Whether skipped cycles are an accident or the rule.
#[derive(Default)]
struct Backlog {
    /// In total.
    skipped: u64,
    /// Rises with each skipped cycle, falls with each kept one.
    score: u64,
    stands: bool,
}

impl Backlog {
    const ALARM: u64 = 20;

    /// Counts a poll and the cycles skipped after it. Returns a change of the verdict.
    fn count(&mut self, skipped: u64) -> Option<bool> {
        self.skipped += skipped;
        self.score = if skipped > 0 {
            (self.score + skipped).min(2 * Self::ALARM)
        } else {
            self.score.saturating_sub(1)
        };
        let stands = if self.stands { self.score > 0 } else { self.score >= Self::ALARM };
        let changed = stands != self.stands;
        self.stands = stands;
        changed.then_some(stands)
    }
}

/// Gives a bus what the one before it has learned of the devices that stay, over the same link: the
/// open line, what each device refuses and whether it answers, and when its next poll is due. So a
/// device that stays is polled at the same moments as if nothing had happened.
fn succeed(bus: &mut ModbusBus, before: ModbusBus, stays: &dyn Fn(&str) -> bool) -> Vec<String> {
    let ModbusBus { devices, classes, paused, is_link_told, backlog, name, .. } = before;
    let Some((line, agenda)) = paused else { return Vec::new() };
    let mut going_on = vec![name];
    let mut old: Vec<Option<Known>> = devices.into_iter().map(Some).collect();
    // For each device its place before.
    let mut was = vec![None; bus.devices.len()];
    for (index, known) in bus.devices.iter_mut().enumerate() {
        let same = |other: &Option<Known>| other.as_ref().is_some_and(|o| o.name == known.name);
        if let Some(at) = old.iter().position(same).filter(|_| stays(&known.name))
            && let Some(taken) = old[at].take()
        {
            going_on.push(taken.subject.clone());
            *known = taken;
            was[index] = Some(at);
        }
    }
    let mut old: Vec<Option<Class>> = classes.into_iter().map(Some).collect();
    let mut places = Vec::new();
    for class in &mut bus.classes {
        let same = |other: &Option<Class>| {
            other
                .as_ref()
                .is_some_and(|o| Some(o.device) == was[class.device] && o.every == class.every)
        };
        let place = old.iter().position(same);
        if let Some(taken) = place.and_then(|at| old[at].take()) {
            *class = Class { device: class.device, ..taken };
        }
        places.push(place);
    }
    let agenda = agenda.succeeding(&bus.classes, &places);
    (bus.is_link_told, bus.backlog, bus.paused) = (is_link_told, backlog, Some((line, agenda)));
    going_on
}
