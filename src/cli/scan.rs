//! `fieldgate scan`: who answers on a line or behind an address, at which speed and parity, under
//! which id, and which template fits. Nothing is written to any device.

pub(super) mod identify;
mod report;
pub(super) mod search;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use self::identify::{Known, identify};
pub(super) use self::report::{device_table, port_table};
use self::search::{Progress, Search, Sight};
use super::target::Target;
use crate::config::models;
use crate::error::{Exit, Fatal};
use crate::events::rounded;
use crate::limits;
use crate::sources::line::LineSettings;

/// Finds devices that answer; writes nothing to any of them
#[derive(Debug, Subcommand)]
pub(super) enum Scan {
    /// Modbus devices on a serial port or behind an address
    Modbus(Modbus),
}

/// Arguments of `scan modbus`.
#[derive(Debug, Args)]
pub(super) struct Modbus {
    /// Device node, name of a configured port, HOST or HOST:PORT
    #[arg(value_name = "PORT|HOST")]
    target: String,
    /// Ids to ask, as 1-32 or 1,5,40-45
    #[arg(long, value_name = "LIST")]
    ids: Option<Ids>,
    /// Only this speed and layout, as "9600 8N1"; may be given again
    #[arg(long, value_name = "LINE", value_parser = LineSettings::parse)]
    line: Vec<LineSettings>,
    /// Go on at other speeds and layouts when somebody has answered
    #[arg(long)]
    all: bool,
    /// Wait for each answer; 80ms on a line, 600ms on a network when absent
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    timeout: Option<humantime::Duration>,
    /// JSON, one object
    #[arg(long)]
    json: bool,
}

/// A list of ids, each once, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ids(pub(super) Vec<u8>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("\"{text}\" is no list of ids from 0 to 255; write 1-32 or 1,5,40-45");
        let mut ids = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u8 = first.trim().parse().map_err(|_| bad())?;
            let last: u8 = last.trim().parse().map_err(|_| bad())?;
            if first > last {
                return Err(bad());
            }
            ids.extend((first..=last).filter(|id| !ids.contains(id)).collect::<Vec<_>>());
        }
        Ok(Self(ids))
    }
}

impl Ids {
    /// What most installations have; over TCP, 255 is the device itself (MODBUS Messaging on TCP/IP
    /// 1.0b, section 4.4.2.3).
    pub(super) fn usual(serial: bool) -> Self {
        if serial {
            Self((1..=32).collect())
        } else {
            Self([1, 255].into_iter().chain(2..=32).collect())
        }
    }
}

impl Scan {
    pub(super) fn run(self, config: &Path) -> Result<Exit, Fatal> {
        let Self::Modbus(args) = self;
        super::log_to_stderr(super::LevelFilter::WARN);
        let target = Target::find(&args.target, config)?;
        super::block_on(args.run(&target, config))
    }
}

impl Modbus {
    async fn run(&self, target: &Target, config: &Path) -> Result<Exit, Fatal> {
        let serial = target.is_serial();
        let ids = self.ids.clone().unwrap_or_else(|| Ids::usual(serial));
        let search = Search::new(target, ids.0, &self.line)
            .all(self.all)
            .timeout(self.timeout.map(Duration::from));
        if search.ids.is_empty() {
            let message =
                "--ids: 0 is everybody on a line, and nobody answers to it; 1-247 are devices";
            return Err(Fatal::new(Exit::Usage, message));
        }
        let (models, troubles) = models::models(config);
        for trouble in troubles {
            tracing::warn!("{trouble}");
        }
        let mut sight = Sight::default();
        let mut shown = Shown::new(self.json);
        let mut interrupted = signal(SignalKind::interrupt())
            .map_err(|e| super::system_refuses("cannot hear signals", &e))?;
        let mut known = Vec::new();
        let work = async {
            search.run(&mut sight, &mut |progress| shown.progress(&progress)).await?;
            known = name_all(target, &mut sight, &models).await;
            Ok(())
        };
        let ended = tokio::select! {
            ended = work => Some(ended),
            _ = interrupted.recv() => None,
        };
        shown.clear();
        sight.stopped = ended.is_none();
        if let Some(Err(notice)) = ended
            && sight.found.is_empty()
        {
            let notice: Box<crate::events::Notice> = notice;
            return Err(Fatal::new(Exit::Unreachable, notice.to_string()));
        }
        let polled = sight.found.is_empty() && target.is_polled(config);
        let report =
            report::Report { target, search: &search, sight: &sight, known: &known, polled };
        let text = if self.json { report.json().to_string() } else { report.text() };
        // A closed pipe is the reader's choice.
        let _ = writeln!(io::stdout().lock(), "{}", text.trim_end());
        Ok(report.exit())
    }
}

/// Names every device that answered, way by way. A port that is gone by then is noted as vanished.
pub(super) async fn name_all(
    target: &Target,
    sight: &mut Sight,
    models: &[models::Model],
) -> Vec<Known> {
    let mut known = Vec::new();
    let Sight { found, vanished, slow, .. } = sight;
    let patience = if *slow { limits::SCAN_PATIENCE } else { limits::ASK_TIMEOUT };
    for found in &*found {
        let Ok(mut inquiry) = target.open(found.link.clone()).await else {
            *vanished |= target.is_serial();
            continue;
        };
        for (id, _) in &found.ids {
            known.push(identify(&mut inquiry, found, *id, (models, patience)).await);
        }
    }
    known
}

/// Ids that the line of progress names.
const PROGRESS_IDS_MAX: usize = 4;
/// Columns of a terminal that does not say how many it has.
const CONSOLE_COLUMNS: usize = 80;

/// The line of progress on a terminal; nothing anywhere else.
pub(super) struct Shown {
    on: bool,
    width: usize,
}

impl Shown {
    pub(super) fn new(quiet: bool) -> Self {
        Self { on: !quiet && io::stderr().is_terminal(), width: 0 }
    }

    pub(super) fn progress(&mut self, progress: &Progress<'_>) {
        if !self.on {
            return;
        }
        let Progress { way, id, found, left } = progress;
        let found = match found.as_slice() {
            [] => String::new(),
            ids if ids.len() > PROGRESS_IDS_MAX => format!("   {} ids answer", ids.len()),
            ids => format!("   answers: {}", join(ids)),
        };
        self.put(&format!("{way}   id {id}{found}   at most {} left", rounded(*left)));
    }

    pub(super) fn clear(&mut self) {
        if self.on && self.width > 0 {
            self.put("");
        }
    }

    fn put(&mut self, text: &str) {
        let mut err = io::stderr().lock();
        // A line that wraps cannot be written over. Serial consoles do not know how wide they are.
        let columns = rustix::termios::tcgetwinsize(&err).map_or(0, |size| size.ws_col);
        let columns = if columns == 0 { CONSOLE_COLUMNS } else { columns.into() };
        let text: String = text.chars().take(columns - 1).collect();
        let width = text.chars().count();
        self.width = self.width.min(columns - 1);
        let _ = write!(err, "\r{text:<pad$}\r{text}", pad = self.width.max(width));
        let _ = err.flush();
        self.width = width;
    }
}

/// Lists ids as people write them: `1, 2, 7`.
pub(super) fn join(ids: &[u8]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Lists ids shortly: `1-32, 40`.
pub(super) fn ranges(ids: &[u8]) -> String {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let mut parts: Vec<(u8, u8)> = Vec::new();
    for id in sorted {
        match parts.last_mut() {
            Some((_, last)) if *last == id || last.checked_add(1) == Some(id) => *last = id,
            _ => parts.push((id, id)),
        }
    }
    let one = |(first, last): &(u8, u8)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Completes sentences about how long a scan waits.
pub(super) fn patience(serial: bool) -> Duration {
    if serial { limits::SCAN_TIMEOUT_LINE } else { limits::SCAN_TIMEOUT_NETWORK }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ids_read_and_write() {
        let ids = |text: &str| text.parse::<Ids>().map(|ids| ids.0);
        assert_eq!(ids("3,1-4,9").unwrap(), [3, 1, 2, 4, 9]);
        assert_eq!(ids("0-255").unwrap().len(), 256);
        for bad in ["", "a", "5-2", "1-256", "1,,2", "-3"] {
            assert!(ids(bad).unwrap_err().contains("1-32"), "{bad}");
        }
        assert_eq!(ranges(&[1, 255, 2, 3, 9]), "1-3, 9, 255");
        assert_eq!(Ids::usual(false).0[..3], [1, 255, 2]);
    }
}
