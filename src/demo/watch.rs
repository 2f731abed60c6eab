//! What the demonstration shows: every batch that reaches the broker, decoded; the outage, with the
//! buffer filling and draining; and at the end the count that proves that nothing is missing.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use rumqttc::Publish;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::batch::{Decoded, RowValue, decode, text};
use crate::demo::broker::Broker;
use crate::demo::{OUTAGE_AFTER, Options};
use crate::error::{Exit, Fatal};
use crate::events;
use crate::reading::{Stream, Value};
use crate::store::Store;

/// How often the buffer is shown during the outage.
const OUTAGE_NEWS: std::time::Duration = std::time::Duration::from_secs(1);
/// How long after the outage the demonstration may take to show that everything came.
const DRAIN_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// The far end of the river.
pub(super) struct Watch {
    options: Options,
    /// From the broker: what arrives on `fg/1/+/data`.
    inbox: mpsc::Receiver<Publish>,
    sequences: BTreeSet<u64>,
    /// Lowest sequence number that can still come: a named folder may hold an older buffer.
    first: u64,
    readings: u64,
    repeated: u64,
    bytes: u64,
}

/// Where the demonstration stands with its outage.
#[derive(Clone, Copy, PartialEq)]
enum Outage {
    Ahead(Instant),
    /// Until then the broker is away.
    Now(Instant),
    /// The broker is back; the buffer held so many batches then.
    Draining(Instant, u64),
    Over,
}

impl Watch {
    pub(super) fn new(options: &Options, inbox: mpsc::Receiver<Publish>) -> Self {
        let options = options.clone();
        Self {
            options,
            inbox,
            sequences: BTreeSet::new(),
            first: 1,
            readings: 0,
            repeated: 0,
            bytes: 0,
        }
    }

    /// Says what will be seen.
    pub(super) fn introduce(&self, config: &Path) {
        self.say(&format!(
            "A meter on Modbus RTU, a chiller on Modbus TCP, a scale on a serial line, Zigbee\n\
             sensors and a CoAP tank are simulated; the gateway reads them as it would in the field,\n\
             and this is what arrives at the broker. Ctrl-C ends it.\n\
             configuration: {}\n",
            config.display()
        ));
    }

    /// Shows until `stop`, or until the outage was lived through and the time is up.
    pub(super) async fn run(
        mut self,
        broker: &Broker,
        store: &Store,
        stop: CancellationToken,
    ) -> Result<Exit, Fatal> {
        let start = Instant::now();
        let end = self.options.duration.map(|duration| start + duration);
        let mut outage = match self.options.outage {
            Some(_) => Outage::Ahead(start + OUTAGE_AFTER),
            None => Outage::Over,
        };
        let mut news = interval(OUTAGE_NEWS);
        loop {
            let time_is_up = end.is_some_and(|end| Instant::now() >= end);
            if time_is_up && outage == Outage::Over {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(publish) = self.inbox.recv() => match self.show(&publish) {
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => break,
                    shown => shown.map_err(super::unavailable)?,
                },
                _ = news.tick() => {}
                () = sleep_until(outage.next(end)) => {}
            }
            outage = self.live_through(outage, broker, store)?;
        }
        Ok(self.verdict())
    }

    fn live_through(
        &self,
        outage: Outage,
        broker: &Broker,
        store: &Store,
    ) -> Result<Outage, Fatal> {
        let held = *store.status().stream(Stream::Data);
        let now = Instant::now();
        Ok(match outage {
            Outage::Ahead(at) if now >= at => {
                broker.take_away();
                self.say("--- the broker is taken away");
                Outage::Now(now + self.options.outage.unwrap_or_default())
            }
            Outage::Now(until) if now >= until => {
                broker.bring_back();
                let waiting = events::counted(held.batches, "batch");
                self.say(&format!("--- the broker is back; {waiting} waiting"));
                Outage::Draining(now, held.batches)
            }
            Outage::Now(_) => {
                self.say(&format!(
                    "--- broker away: the buffer holds {}, {}, {} bytes",
                    events::counted(held.batches, "batch"),
                    events::counted(held.readings + held.readings_open, "reading"),
                    held.bytes
                ));
                outage
            }
            Outage::Draining(since, waited) if held.batches == 0 => {
                let took = events::rounded(since.elapsed());
                let waited = events::counted(waited, "batch");
                self.say(&format!("--- drained: all of {waited} arrived within {took}"));
                Outage::Over
            }
            Outage::Draining(since, _) if since.elapsed() > DRAIN_TIME_MAX => {
                let notice = events::gateway::demo_did_not_drain(DRAIN_TIME_MAX.as_secs());
                return Err(Fatal::new(Exit::Problem, notice.to_string()));
            }
            other => other,
        })
    }

    fn show(&mut self, publish: &Publish) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let batch = match decode(&publish.payload) {
            Ok(batch) => batch,
            Err(e) => return writeln!(out, "a payload that is no batch arrived: {e}"),
        };
        if self.sequences.is_empty() {
            self.first = batch.header.lowest_held;
        }
        if self.sequences.insert(batch.header.sequence) {
            self.readings += batch.readings();
            self.bytes += publish.payload.len() as u64;
        } else {
            self.repeated += 1;
        }
        if self.options.json {
            return text::write_batch(&batch, false, &mut out);
        }
        let bytes = publish.payload.len();
        let readings = events::counted(batch.readings(), "reading");
        writeln!(out, "\n{}: {readings} in {bytes} bytes", text::key(&batch))?;
        write_latest(&batch, &mut out)
    }

    /// Says what the sequence numbers prove.
    fn verdict(&self) -> Exit {
        let last = self.sequences.last().copied().unwrap_or(0);
        if last == 0 {
            self.say("--- it ended before a batch arrived");
            return Exit::Problem;
        }
        let awaited = (last + 1).saturating_sub(self.first);
        let missing = awaited.saturating_sub(self.sequences.len() as u64);
        self.say(&format!(
            "--- {} in {}, {} bytes; sequence {} to {last}: {missing} missing, {} repeated",
            events::counted(self.readings, "reading"),
            events::counted(self.sequences.len(), "batch"),
            self.bytes,
            self.first,
            self.repeated
        ));
        if missing > 0 { Exit::Problem } else { Exit::Done }
    }

    /// Speaks on standard output, or, where that carries JSON, on standard error.
    fn say(&self, sentence: &str) {
        // Nobody listening is no reason to end: the batches still flow.
        let _ = if self.options.json {
            writeln!(io::stderr().lock(), "{sentence}")
        } else {
            writeln!(io::stdout().lock(), "{sentence}")
        };
    }
}

impl Outage {
    /// Returns when something is due.
    fn next(self, end: Option<Instant>) -> Instant {
        match self {
            Self::Ahead(at) | Self::Now(at) => at,
            Self::Draining(..) => Instant::now() + OUTAGE_NEWS,
            Self::Over => end.unwrap_or_else(|| Instant::now() + OUTAGE_NEWS),
        }
    }
}

/// Writes the last reading of every series.
fn write_latest(batch: &Decoded, out: &mut impl Write) -> io::Result<()> {
    let mut latest = std::collections::BTreeMap::new();
    batch.rows(|row| {
        latest.insert(row.series, row);
    });
    for (series, row) in latest {
        let (device, point, unit) = batch.name(series);
        let name = format!("{device}/{point}");
        let at = text::rfc3339(row.at);
        let at = at.get(11..23).unwrap_or(&at);
        let value =
            row.value.map_or("-".to_owned(), |value: RowValue<'_>| Value::from(value).to_string());
        let mark = if row.q == 0 { String::new() } else { format!("  q {}", row.q) };
        writeln!(out, "  {at}  {name:<28} {value:>12} {unit}{mark}")?;
    }
    Ok(())
}
