//! The other end of the uplink: `fieldgate-receive` takes batches from a broker, puts each into a
//! sink exactly once, and acknowledges it only then.
//!
//! One loop ([`intake`]) holds a session with the broker and gathers what arrives into slices. Every
//! message is checked ([`check`]) before it is believed; what is refused is counted, told once and
//! acknowledged, because the broker would send it for ever. A slice goes to a [`sink`], which answers
//! for each batch, and only then the broker hears PUBACK for the slice. So a receiver may die at any
//! point: what it had not committed comes again, and what it had committed is seen before.
//!
//! Where the sink keeps a ledger ([`postgres`]), it can also tell a gateway what it has. Those
//! acknowledgements are computed from the ledger and never from memory: any number of receivers
//! share a group, and none of them sees all of a gateway.

mod acks;
mod address;
mod arguments;
pub mod check;
mod intake;
mod kafka;
mod line_protocol;
pub mod metrics;
mod ndjson;
mod postgres;
mod progress;
mod rejects;
mod simulate;
pub mod sink;
mod slice;
mod tls;
pub mod totals;

use std::io::IsTerminal as _;
use std::sync::Arc;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use self::arguments::Layout;
use self::arguments::{Arguments, Command, Target};
use self::intake::Receiver;
use self::metrics::Metrics;
use self::ndjson::Ndjson;
use self::postgres::{Postgres, Trouble};
use self::rejects::Rejects;
use self::sink::Sink;
use self::totals::Totals;
use crate::backoff::Backoff;
use crate::error::{Exit, Fatal};
use crate::events::{Code, Events, receive as say};
use crate::limits;

/// Runs the receiver's command line.
#[must_use]
pub fn main() -> Exit {
    let arguments = Arguments::parse();
    log_to_stderr(arguments.quiet);
    run(&arguments).unwrap_or_else(|fatal| {
        complain(&fatal);
        fatal.exit
    })
}

#[expect(clippy::print_stderr, reason = "the last word of a command that failed")]
fn complain(fatal: &Fatal) {
    eprintln!("{fatal}");
}

fn run(arguments: &Arguments) -> Result<Exit, Fatal> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
            Fatal::new(Exit::Broken, say::system("no event queue", e.kind()).to_string())
        })?;
    let ended = runtime.block_on(async {
        match &arguments.command {
            Some(Command::Simulate(simulate)) => simulate.run(stop_on_signals()?).await,
            None => receive(arguments).await,
        }
    });
    // A name that is being looked up cannot be called back.
    runtime.shutdown_background();
    ended
}

/// Opens the sink, then receives until a signal comes.
async fn receive(arguments: &Arguments) -> Result<Exit, Fatal> {
    let target = arguments.target()?;
    let events = Events::default();
    let sink = open(target, arguments, &events).await?;
    let Some(broker) = arguments.broker()? else { return Ok(Exit::Done) };
    let totals = Arc::new(Totals::default());
    let stop = stop_on_signals()?;
    let receiver = Receiver {
        broker,
        filters: arguments.filters(),
        sink,
        events,
        totals: Arc::clone(&totals),
        rejects: arguments.rejects.as_deref().map(Rejects::open).transpose()?,
    };
    let metrics = match arguments.metrics {
        Some(address) => Some(Metrics::listen(address, &totals).await?),
        None => None,
    };
    tracing::info!(
        "receives from {}:{} as {}, into {}",
        receiver.broker.host,
        receiver.broker.port,
        receiver.broker.client_id,
        arguments.place()
    );
    let shown = arguments.progress();
    tokio::select! {
        () = receiver.run(stop) => {}
        () = metrics::serve(metrics) => {}
        () = progress::show(&totals, shown) => {}
    }
    progress::conclude(&totals, shown);
    Ok(Exit::Done)
}

/// Opens the sink. A database that is not there yet is waited for, as it is later.
async fn open(
    target: Target,
    arguments: &Arguments,
    events: &Events,
) -> Result<Box<dyn Sink>, Fatal> {
    let access = match target {
        Target::Ndjson => return Ok(Box::new(Ndjson::Output)),
        Target::File(path) => {
            let refused = |e: std::io::Error| {
                let notice = say::output_refused(&path.display().to_string(), e.kind());
                Fatal::new(Exit::Unreachable, notice.to_string())
            };
            return Ok(Box::new(Ndjson::file(&path, arguments.fsync).map_err(refused)?));
        }
        Target::LineProtocol(sink) => return Ok(sink),
        Target::Kafka(sink) => return Ok(sink),
        Target::Postgres(access) => access,
    };
    let mut pauses = Backoff::new(limits::SINK_RETRY_DELAY_MIN, limits::SINK_RETRY_DELAY_MAX);
    let mut told: Option<(&Code, String)> = None;
    loop {
        match Postgres::open(*access.clone(), arguments.init, arguments.layout).await {
            Ok(sink) => {
                if let Some((code, subject)) = told {
                    events.clear(code, &subject, "is there now");
                }
                return Ok(Box::new(sink));
            }
            Err(Trouble::Person(notice)) => {
                return Err(Fatal::new(Exit::Misconfigured, notice.to_string()));
            }
            Err(Trouble::Weather(notice)) if arguments.from.is_none() => {
                return Err(Fatal::new(Exit::Unreachable, notice.to_string()));
            }
            Err(Trouble::Weather(notice)) => {
                told.get_or_insert((notice.code, notice.subject.clone()));
                events.raise(*notice);
                tokio::time::sleep(pauses.pause()).await;
            }
        }
    }
}

/// Opens PostgreSQL as a sink, making its tables: the door for benchmarks and for programs that have
/// batches from elsewhere.
///
/// # Errors
/// When the URL is none, the server is not reached, or the tables are not ours to write.
pub async fn postgres_sink(url: &str, layout: Layout) -> Result<Box<dyn Sink>, Fatal> {
    let access = postgres::configuration(url, None, None)?;
    match Postgres::open(access, true, Some(layout)).await {
        Ok(sink) => Ok(Box::new(sink)),
        Err(Trouble::Person(notice)) => Err(Fatal::new(Exit::Misconfigured, notice.to_string())),
        Err(Trouble::Weather(notice)) => Err(Fatal::new(Exit::Unreachable, notice.to_string())),
    }
}

/// Returns what SIGTERM and SIGINT cancel. The first finishes the slice under way; there is no
/// second, since what is cut short then would only come again.
fn stop_on_signals() -> Result<CancellationToken, Fatal> {
    let refused = |e: std::io::Error| {
        Fatal::new(Exit::Broken, say::system("no signals", e.kind()).to_string())
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    #[expect(clippy::disallowed_methods, reason = "this is the receiver's wiring board")]
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}

fn log_to_stderr(quiet: bool) {
    let asked = std::env::var("FIELDGATE_LOG").ok().and_then(|asked| asked.parse().ok());
    let usual = if quiet { LevelFilter::WARN } else { LevelFilter::INFO };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .fmt_fields(debug_fn(crate::events::place::write_for_people));
    let registry = tracing_subscriber::registry().with(asked.unwrap_or(usual));
    // Under systemd the journal adds the time itself. A second call, in tests, changes nothing.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        registry.with(lines.without_time()).try_init()
    } else {
        registry.with(lines).try_init()
    };
}
