//! `fieldgate setup`: from an unpacked board to the first value and a green uplink, in plain lines that
//! a serial console can carry and a script can answer. Nothing is written before the last question, and
//! then every file whole; run again, it shows what is there and changes only what it is told to.

mod ask;
mod devices;
mod drafts;
mod points;
mod preview;
mod uplink;

use std::path::{Path, PathBuf};

use clap::Args;

use self::ask::{Asker, Stopped};
use self::drafts::Drafts;
use crate::config::{self, legal_name, name_trouble, outline};
use crate::error::{Exit, Fatal};
use crate::events::{counted, firsthour};

/// Sets the gateway up: name, ports, scan, templates, first values, uplink
#[derive(Debug, Args)]
#[command(after_help = "Keys for --answers and --set:
  name, port, port.2, line, scan, scan.again, ids, port-name, device.ID.take,
  device.ID.template, device.ID.point, device.ID.point.2, device.ID.name, preview, more,
  more.2, again, uplink, user, password, ca, uplink.keep, write, start
A value of \"-\" means none. fieldgate setup --yes takes every default that nobody answers.")]
pub(super) struct Setup {
    /// Answers, one `key = value` a line; what it does not name is asked, or takes its default where
    /// there is no terminal
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// One answer, as --set name=gw-7; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Take the default of every question that is not answered
    #[arg(long)]
    yes: bool,
}

/// A walk through the questions.
struct Walk<'a> {
    main: &'a Path,
    ask: Asker,
    drafts: Drafts,
}

impl Setup {
    pub(super) fn run(self, main: &Path) -> Result<Exit, Fatal> {
        super::log_to_stderr(super::LevelFilter::ERROR);
        may_write(main).map_err(|error| {
            let notice = firsthour::not_written(main, error.kind());
            Fatal::new(Exit::Unreachable, notice.to_string())
        })?;
        is_text(main).map_err(|why| {
            let notice = firsthour::not_migrated(main, why);
            Fatal::new(Exit::Problem, notice.to_string())
        })?;
        let ask = Asker::new(self.answers.as_deref(), &self.set, self.yes)
            .map_err(|why| Fatal::new(Exit::Usage, why))?;
        let mut walk = Walk { main, ask, drafts: Drafts::new(main) };
        match walk.all() {
            Ok(exit) => Ok(exit),
            Err(Stopped::Left) => {
                Err(Fatal::new(Exit::Problem, "setup was left; nothing was written"))
            }
            Err(Stopped::Fatal(fatal)) => Err(fatal),
        }
    }
}

impl Walk<'_> {
    fn all(&mut self) -> Result<Exit, Stopped> {
        self.greet();
        self.name()?;
        self.buses()?;
        while self.ask.is_person()
            && self.has_nothing_to_read()
            && self.ask.yes(
                "again",
                "no device yet, and a gateway needs one; back to the ports",
                true,
            )?
        {
            self.buses()?;
        }
        let uplink_works = self.uplink()?;
        self.write(uplink_works)
    }

    fn greet(&mut self) {
        let outline = outline::outline(self.main);
        self.ask.say("Enter takes what stands in brackets. Nothing is written before the end.");
        if outline.files.is_empty() {
            return;
        }
        self.ask.say(&format!("\nThere is a configuration at {} already:", self.main.display()));
        for port in &outline.ports {
            self.ask.say(&format!(
                "  port    {}  {}  {}",
                port.name,
                port.path.display(),
                port.line
            ));
        }
        for device in &outline.devices {
            let template = device.template.as_deref().unwrap_or("points of its own");
            self.ask.say(&format!("  device  {}  {}  {template}", device.name, device.via));
        }
        for (name, url) in &outline.uplinks {
            self.ask.say(&format!("  uplink  {name}  {}", without_user(url)));
        }
        for broken in &outline.broken {
            let notice = firsthour::broken_file(broken);
            self.ask.say(&format!("  {notice}"));
        }
        self.ask.say("It stays; what you answer is added, or changes what it names.");
    }

    fn name(&mut self) -> Result<(), Stopped> {
        self.ask.step(
            1,
            "Name",
            "in topics and batches; two gateways of one name throw each other out",
        );
        let there = outline::outline(self.main).gateway;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let default = there.clone().unwrap_or_else(|| legal_name(&host));
        loop {
            let name = self.ask.ask("name", "name of this gateway", &default)?;
            if let Some(trouble) = name_trouble(&name) {
                self.ask.say(&format!("  \"{}\" does not do: {trouble}", name.escape_debug()));
                self.ask.not_again("name")?;
                continue;
            }
            if there.as_deref() != Some(&name) {
                self.drafts.set(&["gateway"], "name", &outline::text(&name))?;
            }
            return Ok(());
        }
    }

    fn has_nothing_to_read(&self) -> bool {
        let outline = outline::outline(self.main);
        outline.devices.is_empty() && outline.sources.is_empty() && !self.drafts.has_device()
    }

    fn write(&mut self, uplink_works: bool) -> Result<Exit, Stopped> {
        self.ask.say("");
        if self.drafts.is_empty() {
            self.ask.say("Nothing has changed; nothing is written.");
            return Ok(Exit::Done);
        }
        if let Err(faults) =
            config::load_drafted(self.main, config::Options::default(), &self.drafts.list())
        {
            self.ask.say(&faults.to_string());
            let notice = firsthour::setup_would_be_faulty(self.main, faults.count());
            return Err(Stopped::Fatal(Fatal::new(Exit::Problem, notice.to_string())));
        }
        for (path, lines) in self.drafts.summary() {
            self.ask.say(&format!("  {} ({})", path.display(), counted(lines, "line")));
        }
        if !self.ask.yes("write", "write these files", true)? {
            return Err(Stopped::Left);
        }
        self.drafts.write().map_err(|(path, error)| {
            let notice = firsthour::not_written(&path, error.kind());
            Stopped::Fatal(Fatal::new(Exit::Unreachable, notice.to_string()))
        })?;
        self.ask.say("Written. fieldgate check agrees with it.");
        self.start()?;
        Ok(if uplink_works { Exit::Done } else { Exit::Problem })
    }

    /// Starts the service, or lets it take the new configuration, where systemd runs and we may.
    fn start(&mut self) -> Result<(), Stopped> {
        let is_default = self.main == Path::new(config::DEFAULT_PATH);
        if !is_default || !Path::new("/run/systemd/system").is_dir() || !super::place::is_root() {
            self.ask.say("Next: sudo systemctl start fieldgate (or reload, when it runs); then fieldgate status");
            return Ok(());
        }
        if !self.ask.yes("start", "start the gateway, or let it take this", true)? {
            return Ok(());
        }
        let told = std::process::Command::new("systemctl")
            .args(["reload-or-restart", "fieldgate"])
            .status();
        self.ask.say(match told {
            Ok(status) if status.success() => "Running. Next: fieldgate status",
            _ => "systemctl would not; look at: journalctl -u fieldgate",
        });
        Ok(())
    }
}

/// Says at once what would otherwise be said after the last question: that this user may not read what
/// is there, or not write beside it. A folder that is not there yet is made.
fn may_write(main: &Path) -> std::io::Result<()> {
    use rustix::fs::{Access, access};
    match std::fs::File::open(main) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(error),
        _ => {}
    }
    let folder = main.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    match folder.ancestors().find(|folder| folder.is_dir()) {
        Some(folder) => Ok(access(folder, Access::WRITE_OK)?),
        None => Ok(()),
    }
}

/// Refuses a main file that is there and cannot be read as text, since every change begins with what it
/// says: it must not be taken for one that is not there, and written over.
fn is_text(main: &Path) -> Result<(), &'static str> {
    use std::io::ErrorKind;
    match std::fs::read_to_string(main) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err("is not UTF-8"),
        Err(error) if error.kind() == ErrorKind::IsADirectory => Err("is a folder"),
        Err(_) => Err("cannot be read"),
    }
}

/// A url without user and password, which do not belong there and might be.
fn without_user(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}
