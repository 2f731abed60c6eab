//! A client as a source: one resource of one server, polled or observed. Every failure is readings
//! without data for the points known so far, and one notice that ends when a value comes again.

use std::sync::Arc;
use std::time::Duration;

use coap_lite::{CoapOption, Packet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::address::Address;
use super::exchange::{self, Answer, Conversation, Failure};
use super::observe::{Order, silence};
use super::payload::Defaults;
use super::rows::{self, Lists};
use super::settings::{Client, Format, Mode};
use super::wire;
use crate::backoff::{Backoff, random};
use crate::events::{self, Code, Notice};
use crate::limits;
use crate::reading::{Group, NoData, PointId, PointInfo, Sample, Stream};
use crate::sources::{Outlet, Running, Source};

/// Shortest time between polls, whatever is asked: no UDP round trip takes less.
const POLL_PERIOD_MIN: Duration = Duration::from_millis(1);
/// Shortest pause between registrations when a server answers but does not agree to be observed, or
/// no longer does.
const UNOBSERVED_PAUSE_MIN: Duration = Duration::from_secs(5);

/// A resource of a CoAP server, polled or observed.
pub struct CoapClient {
    settings: Client,
    address: Address,
}

/// What a client has learned while it runs.
struct Session<'a> {
    settings: &'a Client,
    address: &'a Address,
    outlet: &'a Outlet,
    subject: String,
    defaults: Defaults,
    lists: Lists,
    /// Every point that an answer ever named, in the order of its first naming.
    known: Vec<PointId>,
    known_list: Arc<[PointId]>,
    /// The list learned last; most servers send the same one each time.
    learned: Arc<[PointId]>,
    /// Counts failures to reach the server, so that all addresses of its name are tried.
    turn: usize,
    /// What is told and not over.
    trouble: Option<&'static Code>,
}

impl CoapClient {
    /// Prepares a client; nothing is sent before it runs.
    ///
    /// # Errors
    /// When the address is none, as [`Address::parse`] says.
    pub fn new(settings: Client) -> Result<Self, String> {
        let address = Address::parse(&settings.url)?;
        Ok(Self { settings, address })
    }
}

impl Source for CoapClient {
    fn name(&self) -> String {
        self.settings.subject()
    }

    fn pace(&self) -> Option<Duration> {
        match self.settings.mode {
            Mode::Poll(every) => Some(every.max(POLL_PERIOD_MIN)),
            Mode::Observe => None,
        }
    }

    fn run<'a>(&'a mut self, outlet: Outlet, stop: CancellationToken) -> Running<'a> {
        Box::pin(async move {
            let mut session = Session::new(&self.settings, &self.address, &outlet);
            match self.settings.mode {
                Mode::Poll(every) => {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = session.poll(every) => {}
                    }
                }
                Mode::Observe => session.observe(&stop).await,
            }
        })
    }
}

impl<'a> Session<'a> {
    fn new(settings: &'a Client, address: &'a Address, outlet: &'a Outlet) -> Self {
        let defaults = Defaults {
            device: Arc::clone(&settings.name),
            point: Arc::clone(&settings.point),
            unit: Arc::clone(&settings.unit),
            format: settings.format,
        };
        let mut session = Self {
            settings,
            address,
            outlet,
            subject: settings.subject(),
            defaults,
            lists: Lists::default(),
            known: Vec::new(),
            known_list: Arc::from([]),
            learned: Arc::from([]),
            turn: 0,
            trouble: None,
        };
        // Text has one point, which is known before the device ever answered.
        if settings.format == Format::Text {
            let Defaults { device, point, unit, .. } = &session.defaults;
            let (device, point, unit) = (device.clone(), point.clone(), unit.clone());
            if let Ok(id) = outlet.points.intern(PointInfo { device, point, unit, src: None }) {
                session.learn(&[id].into());
            }
        }
        session
    }

    /// Gets the resource every so often, one exchange at a time; a slow one skips turns.
    async fn poll(&mut self, every: Duration) {
        let mut turns = interval(every.max(POLL_PERIOD_MIN));
        turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut open: Option<Conversation<'_>> = None;
        loop {
            turns.tick().await;
            let got = match open.take() {
                Some(conversation) => Ok(conversation),
                None => Conversation::open(self.address, self.settings.timeout, self.turn).await,
            };
            let got = match got {
                Ok(mut conversation) => {
                    let answer = conversation.get().await;
                    open = answer.is_ok().then_some(conversation);
                    answer
                }
                Err(failure) => Err(failure),
            };
            match got {
                Ok(answer) => self.take(&answer).await,
                Err(failure) => self.fail(failure).await,
            }
        }
    }

    /// Observes the resource, beginning anew after each failure, later each time.
    async fn observe(&mut self, stop: &CancellationToken) {
        let mut backoff =
            Backoff::new(limits::COAP_REGISTER_DELAY_MIN, limits::COAP_REGISTER_DELAY_MAX);
        loop {
            let opening = Conversation::open(self.address, self.settings.timeout, self.turn);
            let opened = tokio::select! {
                () = stop.cancelled() => return,
                opened = opening => opened,
            };
            let failure = match opened {
                Ok(mut conversation) => {
                    let failure = tokio::select! {
                        () = stop.cancelled() => None,
                        failure = self.watch(&mut conversation, &mut backoff) => Some(failure),
                    };
                    let Some(failure) = failure else {
                        conversation.farewell().await;
                        return;
                    };
                    failure
                }
                Err(failure) => failure,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = async { self.fail(failure).await; sleep(backoff.pause()).await } => {}
            }
        }
    }

    /// Registers, takes notifications while they come, and registers again when they stay away
    /// longer than the last answer's age allows. Returns only with a failure.
    async fn watch(
        &mut self,
        conversation: &mut Conversation<'_>,
        backoff: &mut Backoff,
    ) -> Failure {
        let mut order = Order::default();
        loop {
            let answer = match conversation.register().await {
                Ok(answer) => answer,
                Err(failure) => return failure,
            };
            backoff.reset();
            self.take(&answer).await;
            let mut patience = silence(answer.max_age(), random());
            let Some(sequence) = answer.sequence() else {
                conversation.forget();
                self.not_observable();
                sleep(patience.max(UNOBSERVED_PAUSE_MIN)).await;
                continue;
            };
            order.restart(sequence, Instant::now());
            self.outlet.events.clear(
                &events::coap::NOT_OBSERVABLE,
                &self.subject,
                "is sent changes",
            );
            // Silence is no failure yet: a value that does not change causes no notification.
            while let Ok(notified) = timeout(patience, conversation.notified()).await {
                match self.notified(conversation, &mut order, notified).await {
                    Ok(Some(seconds)) => patience = silence(seconds, random()),
                    Ok(None) => {
                        sleep(UNOBSERVED_PAUSE_MIN).await;
                        break;
                    }
                    Err(failure) => return failure,
                }
            }
        }
    }

    /// Takes a notification unless a newer one came before it. Returns its Max-Age, or `None` when
    /// the server ended the observation with it.
    async fn notified(
        &mut self,
        conversation: &mut Conversation<'_>,
        order: &mut Order,
        notified: Result<Packet, Failure>,
    ) -> Result<Option<Option<u32>>, Failure> {
        let head = notified?;
        exchange::refuse_errors(&head)?;
        let sequence = wire::number(&head, CoapOption::Observe);
        let max_age = wire::number(&head, CoapOption::MaxAge);
        if sequence.is_some_and(|sequence| !order.is_newer(sequence, Instant::now())) {
            return Ok(Some(max_age));
        }
        let answer = match conversation.complete(head).await {
            Ok(answer) => answer,
            // It changed while its blocks were fetched; what it changed to has come already.
            Err(Failure::Malformed(_)) if conversation.is_overtaken() => {
                return Ok(Some(max_age));
            }
            Err(failure) => return Err(failure),
        };
        self.take(&answer).await;
        Ok(sequence.map(|_| max_age))
    }

    /// Turns an answer into readings.
    async fn take(&mut self, answer: &Answer) {
        let format = wire::content_format(&answer.head);
        let now = self.outlet.clock.now();
        let rows = match self.defaults.answered(format, &answer.body, now) {
            Ok(rows) => rows,
            Err(why) => return self.fail(Failure::Malformed(why)).await,
        };
        let groups = match rows::group(rows, &self.outlet.points, &mut self.lists) {
            Ok(groups) => groups,
            Err(new) => {
                let notice = events::coap::too_many_names(&self.subject, &new.to_string());
                return self.tell(&events::coap::NAMES, notice);
            }
        };
        for group in groups {
            self.learn(&group.points);
            self.outlet.send(group).await;
        }
        if let Some(code) = self.trouble.take() {
            self.outlet.events.clear(code, &self.subject, "has values again");
        }
    }

    /// Tells of a failure and sends readings without data for every point known.
    async fn fail(&mut self, failure: Failure) {
        self.turn += usize::from(matches!(failure, Failure::Silent(_)));
        let url = &self.settings.url;
        let (why, code, notice) = match &failure {
            Failure::Silent(why) => (
                NoData::Timeout,
                &events::coap::SILENT,
                events::coap::silent(&self.subject, url, why),
            ),
            Failure::Refused(code, diagnostic) => (
                NoData::DeviceException,
                &events::coap::REFUSED,
                events::coap::refused(&self.subject, url, code, diagnostic),
            ),
            Failure::Malformed(why) => (
                NoData::Malformed,
                &events::coap::UNREADABLE_ANSWER,
                events::coap::unreadable_answer(&self.subject, url, why),
            ),
        };
        self.tell(code, notice);
        if !self.known.is_empty() {
            let points = Arc::clone(&self.known_list);
            let samples = vec![Sample::none(why); points.len()];
            let at = self.outlet.clock.now();
            self.outlet.send(Group { stream: Stream::Data, at, points, samples }).await;
        }
    }

    /// Raises a notice; one of another kind that stands is over then.
    fn tell(&mut self, code: &'static Code, notice: Notice) {
        if let Some(before) = self.trouble.replace(code).filter(|before| *before != code) {
            self.outlet.events.clear(before, &self.subject, "has another trouble now");
        }
        self.outlet.events.raise(notice);
    }

    fn not_observable(&mut self) {
        let notice = events::coap::not_observable(&self.subject, &self.settings.url);
        self.outlet.events.raise(notice);
    }

    fn learn(&mut self, points: &Arc<[PointId]>) {
        if Arc::ptr_eq(points, &self.learned) {
            return;
        }
        self.learned = Arc::clone(points);
        let before = self.known.len();
        for point in points.iter() {
            if self.known.len() < limits::COAP_CLIENT_POINTS_MAX && !self.known.contains(point) {
                self.known.push(*point);
            }
        }
        if self.known.len() != before {
            self.known_list = self.known.as_slice().into();
        }
    }
}

#[cfg(test)]
mod tests;
