//! `fieldgate support`: one archive for whoever is asked for help: configuration, status, versions, the
//! buffer's account, the last lines of the journal; with everything that looks like a secret taken out,
//! and everything that is known to be one.

mod redact;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use flate2::{Compression, write::GzEncoder};

use self::redact::Redactor;
use crate::batch::text::rfc3339;
use crate::cli::client::Daemon;
use crate::clock::{Clock as _, System};
use crate::config::{self, outline};
use crate::error::{Exit, Fatal};
use crate::events::{counted, firsthour};
use crate::limits;
use crate::sources::line::ports;
use crate::store;

/// Gathers what helps to help, without secrets
#[derive(Debug, Args)]
pub(super) struct Support {
    /// Where to write; fieldgate-support-NAME-TIME.tar.gz here when absent
    #[arg(value_name = "FILE")]
    to: Option<PathBuf>,
}

/// The parts of an archive, by name.
type Parts = Vec<(String, String)>;

impl Support {
    pub(super) fn run(self, main: &Path) -> Result<Exit, Fatal> {
        let at = rfc3339(System.now()).replace([':', '-'], "");
        let at = at.split('.').next().unwrap_or_default().trim_end_matches('Z').to_owned();
        let name = outline::outline(main).gateway.unwrap_or_else(|| "gateway".to_owned());
        let name: String =
            name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
        let folder = format!("fieldgate-support-{name}-{at}");
        let to = self.to.unwrap_or_else(|| format!("{folder}.tar.gz").into());
        let (parts, redactor) = gather(main);
        let written = pack(&to, &folder, &parts);
        written.map_err(|e| {
            Fatal::new(Exit::Unreachable, firsthour::not_written(&to, e.kind()).to_string())
        })?;
        let mut out = io::stdout().lock();
        for (name, text) in &parts {
            // A closed pipe is the reader's choice.
            let _ = writeln!(out, "  {name}  {}", counted(text.lines().count(), "line"));
        }
        let _ = writeln!(
            out,
            "{}: {} taken out; look through it before you send it",
            to.display(),
            counted(redactor.taken(), "secret")
        );
        Ok(Exit::Done)
    }
}

fn gather(main: &Path) -> (Parts, Redactor) {
    let redactor = Redactor::knowing(main);
    let mut parts = Parts::new();
    let mut add = |name: &str, text: String| parts.push((name.to_owned(), redactor.clean(&text)));
    add("about.txt", about(main));
    for file in outline::files(main) {
        let folder = main.parent().unwrap_or(Path::new(""));
        let name = file.strip_prefix(folder).unwrap_or(&file);
        let name = name.strip_prefix(".").unwrap_or(name).display().to_string();
        let text = std::fs::read(&file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        add(&format!("config/{name}"), text.unwrap_or_else(|e| refused(&file, &e)));
    }
    let loaded = config::load(main, config::Options { keep_settings: true });
    add(
        "check.txt",
        match &loaded {
            Ok(config) => {
                let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
                format!("can be used, config {}\n\n{}", config.hash, warnings.join("\n\n"))
            }
            Err(faults) => faults.to_string(),
        },
    );
    if let Ok(config) = &loaded {
        let lines =
            config.settings.iter().map(|it| format!("{}.{} = {}", it.table, it.key, it.toml));
        add("settings.txt", lines.collect::<Vec<_>>().join("\n"));
        add(
            "buffer.txt",
            match store::inspect(&config.store.path) {
                Ok(status) => format!("{status:#?}\n{:#?}", store::usage(&config.store.path).ok()),
                Err(error) => error.to_string(),
            },
        );
    }
    add(
        "status.json",
        match Daemon::of(main).get::<serde_json::Value>("/v1/status") {
            Ok(status) => format!("{status:#}"),
            Err(fatal) => fatal.to_string(),
        },
    );
    add("ports.txt", ports().iter().map(|port| format!("{port:#?}\n")).collect());
    add(
        "journal.txt",
        program("journalctl", &["-u", "fieldgate", "-n", "1000", "--no-pager", "-o", "short-iso"]),
    );
    add("service.txt", program("systemctl", &["status", "fieldgate", "--no-pager", "-n", "0"]));
    (parts, redactor)
}

/// What machine this is, as far as it matters here.
fn about(main: &Path) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, key: &str| {
        text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned()
    };
    let release = line(&read("/etc/os-release"), "PRETTY_NAME");
    let memory = line(&read("/proc/meminfo"), "MemTotal");
    format!(
        "fieldgate {}\nconfiguration {}\n{release}\n{}{memory}\nmodel {}\nuptime {}\ntime {} (UTC)\n\nmounts\n{}",
        env!("CARGO_PKG_VERSION"),
        main.display(),
        read("/proc/version"),
        read("/proc/device-tree/model").trim_end_matches('\0'),
        read("/proc/uptime").trim_end(),
        rfc3339(System.now()),
        read("/proc/mounts"),
    )
}

fn refused(file: &Path, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => "this user may not read it; try with sudo",
        _ => "it cannot be read",
    };
    format!("{}: {why}", file.display())
}

/// Returns what a program of the system says, or that it is not there.
fn program(name: &str, arguments: &[&str]) -> String {
    match Command::new(name).args(arguments).stdin(std::process::Stdio::null()).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            let whole = text + &errors;
            let from = whole.len().saturating_sub(limits::SUPPORT_PART_BYTES_MAX);
            let from = (from..whole.len()).find(|at| whole.is_char_boundary(*at)).unwrap_or(0);
            whole[from..].to_owned()
        }
        Err(_) => format!("{name} is not there"),
    }
}

/// Writes the archive, for its owner alone.
fn pack(to: &Path, folder: &str, parts: &Parts) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let seconds = u64::try_from(System.now().0 / 1000).unwrap_or(0);
    for (name, text) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        header.set_cksum();
        archive.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.sync_all()
}
