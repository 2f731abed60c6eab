//! `fieldgate doctor`: looks at one part after the other, says what was seen of each, and for what is
//! wrong the likely causes and the next command. Works with the daemon and without.

pub(super) mod bus;
pub(super) mod clock;
pub(super) mod disk;
pub(super) mod uplink;

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::client::Daemon;
use super::target::Target;
use crate::api::status::{Standing, Status as Told, Uplink as ToldUplink};
use crate::config::{self, Config, SourceSettings};
use crate::error::{Exit, Fatal};
use crate::events::{Notice, apply, counted, rounded};
use crate::sources::line::ports::holder;
use crate::sources::modbus::settings::{Bus, Link};

/// Where findings go, one by one as they are made.
pub(super) type Tell<'a> = &'a mut (dyn FnMut(Finding) + Send);

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    /// `name`, `tcp`, `room`.
    pub(super) what: String,
    pub(super) verdict: Verdict,
    /// What was seen.
    pub(super) said: String,
    took: Option<Duration>,
    notice: Option<Notice>,
    whole: Option<String>,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    /// Works, and is worth a look.
    Odd,
    Bad,
}

impl Finding {
    fn new(what: impl Into<String>, verdict: Verdict, said: impl Into<String>) -> Self {
        let (what, said) = (what.into(), said.into());
        Self { what, verdict, said, took: None, notice: None, whole: None }
    }

    pub(super) fn good(what: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(what, Verdict::Good, said)
    }

    pub(super) fn odd(what: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(what, Verdict::Odd, said)
    }

    pub(super) fn bad(what: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(what, Verdict::Bad, said)
    }

    /// Says how long it took.
    pub(super) fn took(self, took: Duration) -> Self {
        Self { took: Some(took), ..self }
    }

    /// Adds causes and next commands.
    pub(super) fn told(self, notice: Notice) -> Self {
        Self { notice: Some(notice), ..self }
    }

    /// Adds a message that is one already.
    pub(super) fn said_whole(self, message: String) -> Self {
        Self { whole: Some(message), ..self }
    }

    fn message(&self) -> Option<String> {
        self.notice.as_ref().map(ToString::to_string).or_else(|| self.whole.clone())
    }

    fn json(&self, part: &str) -> Json {
        let verdict = match self.verdict {
            Verdict::Good => "good",
            Verdict::Odd => "odd",
            Verdict::Bad => "bad",
        };
        json!({
            "part": part, "what": self.what, "verdict": verdict, "said": self.said,
            "ms": self.took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            "code": self.notice.as_ref().map(|notice| notice.code.id),
            "message": self.message(),
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Odd => "look",
            Verdict::Bad => "BAD",
        };
        write!(f, "  {sign:<5} {:<9} {}", self.what, self.said)?;
        if let Some(took) = self.took {
            write!(f, " ({} ms)", took.as_millis())?;
        }
        if let Some(message) = self.message() {
            let indented: Vec<_> = message.lines().map(|line| format!("        {line}")).collect();
            write!(f, "\n{}", indented.join("\n"))?;
        }
        Ok(())
    }
}

/// Looks for what is wrong: everything, or one part
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(subcommand)]
    part: Option<Part>,
    /// JSON, one finding a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The way to the broker: files, name, TCP, TLS, login, one publish
    Uplink {
        /// One of several
        name: Option<String>,
    },
    /// A serial line or Modbus host: node, rights, opening, noise, answers
    Bus {
        /// Configured port, device node, HOST or HOST:PORT
        port: String,
    },
    /// Whether this board's clock can be believed
    Clock,
    /// Mount, room, wear and the buffer
    Disk,
}

/// One run of the doctor: prints findings as they come and remembers the worst.
struct Round<'a> {
    json: bool,
    config_path: &'a Path,
    config: Result<Config, config::Faults>,
    /// What the running gateway says, when one runs with this configuration.
    told: Option<Told>,
    odd: usize,
    bad: usize,
}

impl Doctor {
    pub(super) fn run(self, path: &Path) -> Result<Exit, Fatal> {
        super::log_to_stderr(super::LevelFilter::ERROR);
        let config = config::load(path, config::Options::default());
        // Works without the daemon; what it says is one more witness.
        let told = Daemon::of(path).get("/v1/status").ok();
        let mut round = Round { json: self.json, config_path: path, config, told, odd: 0, bad: 0 };
        super::block_on(async {
            match &self.part {
                Some(Part::Uplink { name }) => round.uplinks(name.as_deref()).await?,
                Some(Part::Bus { port }) => {
                    let target = Target::find(port, path)?;
                    round.bus(&target).await;
                }
                Some(Part::Clock) => round.clock(),
                Some(Part::Disk) => round.disk()?,
                None => round.everything().await?,
            }
            Ok(round.end())
        })
    }
}

impl Round<'_> {
    async fn everything(&mut self) -> Result<(), Fatal> {
        self.configuration();
        self.clock();
        if self.config.is_err() {
            return Ok(());
        }
        self.disk()?;
        let links: Vec<_> = match &self.config {
            Ok(config) => buses(config).map(|bus| bus.link.clone()).collect(),
            Err(_) => Vec::new(),
        };
        for link in links {
            let target = match link {
                Link::Rtu(line) => {
                    Target::find(&line.path.to_string_lossy(), self.config_path).unwrap_or(
                        Target::Serial { path: line.path, known: Some((line.name, line.line)) },
                    )
                }
                Link::Tcp { host, port } | Link::RtuOverTcp { host, port } => {
                    Target::Network { host, port }
                }
            };
            self.bus(&target).await;
        }
        self.uplinks(None).await
    }

    fn configuration(&mut self) {
        let finding = match &self.config {
            Ok(config) => {
                let said = format!("{} can be used", self.config_path.display());
                match config.warnings.len() {
                    0 => Finding::good("check", said),
                    n => {
                        let warnings = counted(n, "warning");
                        Finding::odd("check", format!("{said}, {warnings}: fieldgate check"))
                    }
                }
            }
            Err(faults) => Finding::bad("check", counted(faults.count(), "fault"))
                .said_whole(faults.to_string()),
        };
        let told = self.told_of_configuration();
        let mut print = self.begin("configuration".to_owned());
        print(finding);
        for finding in told {
            print(finding);
        }
    }

    /// What the daemon says of its configuration: it runs as another user, and may not be able to
    /// read what can be used here.
    fn told_of_configuration(&self) -> Vec<Finding> {
        let standing = self.told.iter().flat_map(|told| &told.standing);
        let about = standing.filter(|it| it.subject == apply::SUBJECT);
        let finding = |it: &Standing| {
            let said = format!("{}, as the daemon says", it.code);
            let found = match it.weight.as_str() {
                "error" => Finding::bad("gateway", said),
                _ => Finding::odd("gateway", said),
            };
            found.said_whole(it.text.clone())
        };
        about.map(finding).collect()
    }

    fn clock(&mut self) {
        let buffer = self.config.as_ref().ok().map(|config| config.store.path.clone());
        let trust = self.config.as_ref().map(|config| config.gateway.clock).unwrap_or_default();
        let main = self.config_path.to_owned();
        let own = std::env::current_exe().unwrap_or_default();
        let mut print = self.begin("clock".to_owned());
        let mut files: Vec<&Path> = vec![&main, &own];
        files.extend(buffer.as_deref());
        clock::examine(trust, &files, &mut print);
    }

    fn disk(&mut self) -> Result<(), Fatal> {
        let store = self.usable()?.store.clone();
        let mut print = self.begin(format!("disk of {}", store.path.display()));
        disk::examine(&store, &mut print);
        Ok(())
    }

    async fn bus(&mut self, target: &Target) {
        let subject = target.subject();
        let bus = match &self.config {
            Ok(config) => buses(config).find(|bus| is_at(bus, target)).cloned(),
            Err(_) => None,
        };
        let complaints = self.told.as_ref().zip(bus.as_ref()).map(|(told, bus)| {
            let (own, of_devices) = (format!("bus {}", bus.name), format!("bus {}:", bus.name));
            let about = |it: &str| it == own || it.starts_with(&of_devices);
            let all = told.standing.iter().filter(|it| about(&it.subject));
            all.map(|it| it.text.clone()).collect()
        });
        let mut print = self.begin(subject);
        bus::Patient { target, bus: bus.as_ref(), complaints }.examine(&mut print).await;
    }

    async fn uplinks(&mut self, only: Option<&str>) -> Result<(), Fatal> {
        let config = self.usable()?;
        let (gateway, store) = (config.gateway.name.to_string(), config.store.path.clone());
        let wanted = |name: &str| only.is_none_or(|only| only == name);
        let uplinks: Vec<_> = config
            .uplinks
            .iter()
            .filter(|uplink| wanted(&uplink.name))
            .map(|uplink| (uplink.name.clone(), uplink.broker.clone()))
            .collect();
        if uplinks.is_empty() {
            let said = match only {
                Some(name) => format!("there is no [uplink.{name}]"),
                None => {
                    "no [uplink.NAME] is configured: readings are kept and sent nowhere".to_owned()
                }
            };
            let mut print = self.begin("uplink".to_owned());
            print(Finding::odd("check", said));
            return Ok(());
        }
        let me = std::process::id();
        let told = self.told.as_ref().map(|told| told.uplinks.clone());
        let is_running = told.is_some() || holder(&store).is_some_and(|holder| holder.pid != me);
        for (name, broker) in uplinks {
            let at = format!("{}:{}", broker.host, broker.port);
            let mut print = self.begin(format!("uplink {name}, {at}"));
            if let Some(told) = told.iter().flatten().find(|told| told.name == name) {
                print(as_the_gateway_says(told));
            }
            let patient =
                uplink::Patient { name: &name, gateway: &gateway, broker: &broker, is_running };
            patient.examine(&mut print).await;
        }
        Ok(())
    }

    fn usable(&self) -> Result<&Config, Fatal> {
        self.config.as_ref().map_err(|faults| Fatal::new(Exit::Problem, faults.to_string()))
    }

    /// Heads a part, and returns what prints its findings.
    fn begin(&mut self, part: String) -> impl FnMut(Finding) + Send {
        let json = self.json;
        if !json {
            print(&part);
        }
        let (odd, bad) = (&mut self.odd, &mut self.bad);
        move |finding: Finding| {
            *odd += usize::from(finding.verdict == Verdict::Odd);
            *bad += usize::from(finding.verdict == Verdict::Bad);
            print(&if json { finding.json(&part).to_string() } else { finding.to_string() });
        }
    }

    fn end(&self) -> Exit {
        if !self.json {
            match (self.bad, self.odd) {
                (0, 0) => print("all good"),
                (0, odd) => print(&format!("works; worth a look: {odd}")),
                (bad, _) => print(&format!("wrong: {bad}")),
            }
        }
        if self.bad > 0 { Exit::Problem } else { Exit::Done }
    }
}

/// What the gateway itself says of an uplink, before it is tried beside it.
fn as_the_gateway_says(told: &ToldUplink) -> Finding {
    let waits = format!("{} waiting", counted(told.batches_waiting, "batch"));
    let ago = told.acknowledged_s.map_or("nothing was acknowledged yet".to_owned(), |seconds| {
        format!("last acknowledgement {} ago", rounded(Duration::from_secs(seconds)))
    });
    match told.connected {
        true => Finding::good("gateway", format!("connected, {ago}, {waits}")),
        false => Finding::odd("gateway", format!("not connected, {ago}, {waits}")),
    }
}

fn buses(config: &Config) -> impl Iterator<Item = &Bus> {
    config.sources.iter().filter_map(|source| match source {
        SourceSettings::Modbus(bus) => Some(bus),
        _ => None,
    })
}

fn is_at(bus: &Bus, target: &Target) -> bool {
    match (&bus.link, target) {
        (Link::Rtu(line), Target::Serial { path, .. }) => {
            line.path == *path
                || matches!((line.path.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b)
        }
        (
            Link::Tcp { host, port } | Link::RtuOverTcp { host, port },
            Target::Network { host: named, port: at },
        ) => host == named && port == at,
        _ => false,
    }
}

pub(super) fn print(line: &str) {
    // A closed pipe is the reader's choice.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::firsthour;

    #[test]
    fn a_finding_reads_as_one_line_with_its_causes_below() {
        let good = Finding::good("tcp", "192.0.2.1:1883 answers").took(Duration::from_millis(12));
        assert_eq!(good.to_string(), "  ok    tcp       192.0.2.1:1883 answers (12 ms)");
        let bad = Finding::bad("quiet", "7 bytes").told(firsthour::noise("port a", "x", 7, true));
        let text = bad.to_string();
        assert!(text.starts_with("  BAD   quiet     7 bytes\n        FG-H02  port a"), "{text}");
        assert_eq!(bad.json("port a")["code"], "FG-H02");
    }
}
