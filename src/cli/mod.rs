//! The commands: each reads its arguments, calls one room, prints, and ends in an exit code. Only
//! this room speaks on standard output.

mod apply;
mod buffer;
pub mod check;
mod client;
mod compile;
pub mod config;
pub mod decode;
mod demo;
mod doctor;
mod explain;
mod journal;
mod memory;
mod migrate;
mod once;
mod pages;
mod place;
mod ports;
mod push;
mod read;
mod rule;
mod run;
mod scan;
mod setup;
mod status;
mod support;
mod systemd;
mod target;
mod wear;

use std::future::Future;
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::error::{Exit, Fatal};
use crate::events;

use self::journal::Journal;

/// fieldgate: the edge gateway. Reads Modbus, serial, Zigbee and CoAP sensors, keeps the readings
/// safe, and sends them as MessagePack batches over MQTT.
#[derive(Debug, Parser)]
#[command(name = "fieldgate", version, max_term_width = 100)]
#[command(
    after_help = "Start here:  fieldgate setup           from the first port to a green uplink, step by step
             fieldgate demo            no hardware, no other program
             fieldgate check           is the configuration right?
             fieldgate once            read everything once and print it
             fieldgate doctor          what is wrong, and what to do next

Exit codes:  0 done, 1 a problem was found, 2 wrong usage, 3 could not reach;
             the daemon: 78 misconfigured (do not restart), 70 broken (restart)
Log level:   FIELDGATE_LOG=debug (error, warn, info, debug, trace)"
)]
struct Arguments {
    /// Main configuration file; conf.d/*.toml beside it is read too
    #[arg(long, global = true, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway until it is told to stop
    Run,
    /// Says how the running gateway does
    Status(status::Status),
    /// Checks the configuration and reports every fault at once; opens no port
    Check(check::Args),
    /// Says what a changed configuration would start, stop and leave alone
    Plan(apply::Plan),
    /// Puts a configuration in force; with --confirm it goes back by itself unless confirmed
    Apply(apply::Apply),
    /// Keeps the configuration that is on trial
    Confirm(apply::Confirm),
    /// Ends what is on trial, or goes back to an earlier version
    Rollback(apply::Rollback),
    /// Lists the versions of the configuration that were in force or tried
    History(apply::History),
    /// Reads everything once and prints it
    Once(once::Once),
    /// Shows the effective configuration, or its schema
    #[command(subcommand)]
    Config(config::Config),
    Decode(decode::Decode),
    /// Looks at the readings that wait for the uplink
    #[command(subcommand)]
    Buffer(buffer::Buffer),
    /// Writes, builds and tries rules; signs them, brings them to the gateway and looks after them
    #[command(subcommand)]
    Rule(rule::Rule),
    /// Lists the serial ports of this machine
    Ports(ports::Ports),
    #[command(subcommand)]
    Scan(scan::Scan),
    Read(read::Read),
    Doctor(doctor::Doctor),
    Setup(setup::Setup),
    Support(support::Support),
    Demo(demo::Demo),
    /// Tells what is behind a code such as FG-M03
    Explain(explain::Explain),
    Completions(pages::Completions),
    #[command(hide = true)]
    Man(pages::Man),
    #[command(hide = true)]
    RuleCompile(compile::RuleCompile),
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> Exit {
    crate::rules::compile::has_command();
    let arguments = Arguments::try_parse().unwrap_or_else(|error| refuse(&error));
    let ended = match arguments.command {
        Command::Run => run::run(&arguments.config),
        Command::Status(status) => status.run(&arguments.config),
        Command::Check(args) => Ok(check::run(&arguments.config, &args, &mut stdout())),
        Command::Plan(plan) => plan.run(&arguments.config),
        Command::Apply(apply) => apply.run(&arguments.config),
        Command::Confirm(confirm) => confirm.run(&arguments.config),
        Command::Rollback(rollback) => rollback.run(&arguments.config),
        Command::History(history) => history.run(&arguments.config),
        Command::Once(once) => once.run(&arguments.config),
        Command::Config(config) => Ok(config.run(&arguments.config, &mut stdout())),
        Command::Decode(decode) => decode.run(),
        Command::Buffer(buffer) => buffer.run(&arguments.config),
        Command::Rule(rule) => rule.run(&arguments.config),
        Command::Ports(ports) => ports.run(),
        Command::Scan(scan) => scan.run(&arguments.config),
        Command::Read(read) => read.run(&arguments.config),
        Command::Doctor(doctor) => doctor.run(&arguments.config),
        Command::Setup(setup) => setup.run(&arguments.config),
        Command::Support(support) => support.run(&arguments.config),
        Command::Demo(demo) => demo.run(),
        Command::Explain(explain) => explain.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
        Command::RuleCompile(compile) => compile.run(),
    };
    ended.unwrap_or_else(|fatal| {
        complain(&fatal);
        fatal.exit
    })
}

/// Ends a command that was called wrongly, or asked for help. What the standard library says of a
/// number that is none reaches no person.
#[expect(clippy::print_stderr, reason = "the last word of a command that was called wrongly")]
fn refuse(error: &clap::Error) -> ! {
    let text = error.to_string();
    let plain = NUMBER_WORDS.iter().find(|(theirs, _)| text.contains(theirs));
    let Some((theirs, ours)) = plain else { error.exit() };
    eprint!("{}", text.replace(theirs, ours));
    std::process::exit(i32::from(Exit::Usage as u8))
}

/// What the standard library says of text that is no number, and what is said here.
const NUMBER_WORDS: [(&str, &str); 3] = [
    ("invalid digit found in string", "this is no whole number"),
    ("invalid float literal", "this is no number"),
    ("cannot parse integer from empty string", "a number is missing"),
];

/// Reads a time, as every option that takes one does.
fn time(text: &str) -> Result<humantime::Duration, String> {
    text.parse().map_err(|_| "a time is a number with its unit: 500ms, 30s, 5m, 2h, 1d".to_owned())
}

#[expect(clippy::print_stderr, reason = "the last word of a command that failed")]
fn complain(fatal: &Fatal) {
    if !Journal::of_stderr().is_some_and(|journal| journal.take_last(fatal)) {
        eprintln!("{fatal}");
    }
}

/// Sends what rooms log to standard error, at `FIELDGATE_LOG` or `usual` and above.
fn log_to_stderr(usual: LevelFilter) {
    let asked = std::env::var("FIELDGATE_LOG").ok().filter(|asked| !asked.is_empty());
    let chosen = asked.as_deref().and_then(levels);
    let levels = chosen.clone().unwrap_or_else(|| Targets::new().with_default(usual));
    let lines = || {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .fmt_fields(debug_fn(events::place::write_for_people))
    };
    let registry = tracing_subscriber::registry().with(levels);
    // A second call, in tests, finds the first one's subscriber and changes nothing.
    let _ = match Journal::of_stderr() {
        Some(journal) => registry.with(journal).try_init(),
        // A journal in another container adds the time itself.
        None if std::env::var_os("JOURNAL_STREAM").is_some() => {
            registry.with(lines().without_time()).try_init()
        }
        None => registry.with(lines()).try_init(),
    };
    if let (Some(asked), None) = (asked, chosen) {
        tracing::warn!("FIELDGATE_LOG={asked} is no level: error, warn, info, debug or trace");
    }
}

/// Reads a level, or a list of `room=level`. Any other word would be taken for the name of a room,
/// and nothing but that room's lines would be shown.
fn levels(asked: &str) -> Option<Targets> {
    let known = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    asked.split(',').all(known).then(|| asked.parse().ok()).flatten()
}

/// Runs a long-running command on one thread, since the work of a gateway is waiting, and a second
/// thread would cost memory and wake-ups to save none of it.
fn block_on<T>(command: impl Future<Output = Result<T, Fatal>>) -> Result<T, Fatal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| system_refuses("has no event queue", &e))?;
    let ended = runtime.block_on(command);
    // A name that is being looked up cannot be called back; a dead name server would hold the end
    // of the process for half a minute.
    runtime.shutdown_background();
    ended
}

/// The end of a command that the system does not let do its work; `what` completes "fieldgate".
fn system_refuses(what: &str, error: &std::io::Error) -> Fatal {
    Fatal::new(Exit::Broken, events::gateway::system(what, error.kind()).to_string())
}
