//! Steps 2 to 4 of setup: ports and hosts, who answers there, which template fits, and the first
//! values.

use super::Walk;
use super::ask::Stopped;
use super::drafts::Drafts;
use super::points;
use crate::cli::scan::identify::Known;
use crate::cli::scan::search::{Search, Sight};
use crate::cli::scan::{Ids, Shown, device_table, join, name_all, port_table};
use crate::cli::target::{MODBUS_PORT, Target};
use crate::config::{host_and_port, models, name_trouble, outline};
use crate::error::Fatal;
use crate::events::firsthour;
use crate::sources::line::{LineSettings, PortInfo, ports};

/// Ports and hosts that one run asks for: nobody sets up more in a row, and a script that answers
/// \"more\" with yes for ever must end.
const TARGETS_MAX: usize = 16;

/// Scans of one port or host: a script that answers "try again" with yes for ever must end, too.
const SCANS_MAX: usize = 20;

impl Walk<'_> {
    /// Asks for ports and hosts until there are no more.
    pub(super) fn buses(&mut self) -> Result<(), Stopped> {
        for n in 1..=TARGETS_MAX {
            self.ask.step(2, "Port", "a serial port, or HOST[:PORT] of a Modbus TCP device");
            let listed = ports();
            for (n, port) in listed.iter().enumerate() {
                self.ask.say(&format!("  {}  {}", n + 1, describe(port)));
            }
            if listed.is_empty() {
                self.ask.say("  no serial port is plugged in");
            }
            let outline = outline::outline(self.main);
            let has_devices = !outline.devices.is_empty() || n > 1;
            let default = match (has_devices, listed.first()) {
                (true, _) | (_, None) => "",
                (false, Some(_)) => "1",
            };
            let key = if n == 1 { "port".to_owned() } else { format!("port.{n}") };
            let named = self.ask.ask(&key, "number, path, host, or - for none", default)?;
            if named.is_empty() {
                return Ok(());
            }
            let named =
                match named.parse::<usize>().ok().and_then(|n| listed.get(n.wrapping_sub(1))) {
                    Some(port) => best_path(port),
                    None => named,
                };
            match Target::find(&named, self.main) {
                Ok(target) => self.one(&target)?,
                Err(fatal) => {
                    self.ask.say(&format!("  {fatal}"));
                    self.ask.not_again(&key)?;
                    continue;
                }
            }
            let key = if n == 1 { "more".to_owned() } else { format!("more.{n}") };
            if !self.ask.yes(&key, "another port or host", false)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn one(&mut self, target: &Target) -> Result<(), Stopped> {
        self.ask.step(3, "Scan", "who answers there; writes nothing to any device");
        if !self.ask.yes("scan", "scan it now", true)? {
            return Ok(());
        }
        let ids = self.ids(target.is_serial())?;
        // A network has no speed to ask for.
        let lines = if target.is_serial() { self.lines()? } else { Vec::new() };
        let mut scans = 0;
        let known = loop {
            scans += 1;
            if scans > SCANS_MAX {
                break Vec::new();
            }
            match self.scan(target, &ids, &lines) {
                Ok((sight, known)) => {
                    self.tell(target, &sight, &ids);
                    let again = sight.vanished
                        && self.ask.yes("scan.again", "plug it in again; scan once more", false)?;
                    if !again {
                        break known;
                    }
                }
                Err(fatal) => {
                    self.ask.say(&format!("  {}", indented(&fatal.to_string())));
                    if !self.ask.yes("scan.again", "try again", false)? {
                        break Vec::new();
                    }
                }
            }
        };
        self.devices(target, &known)
    }

    fn ids(&mut self, serial: bool) -> Result<Ids, Stopped> {
        let usual = if serial { "1-32" } else { "1,255,2-32" };
        loop {
            let typed = self.ask.ask("ids", "ids to ask", usual)?;
            match typed.parse::<Ids>() {
                Ok(ids) => return Ok(ids),
                Err(why) => self.ask.say(&format!("  {why}")),
            }
            self.ask.not_again("ids")?;
        }
    }

    /// Asks for the speed and layout of a line; none are all the usual ones.
    fn lines(&mut self) -> Result<Vec<LineSettings>, Stopped> {
        loop {
            let typed = self.ask.ask("line", "speed and layout, or all of them", "all")?;
            if matches!(&*typed, "" | "all") {
                return Ok(Vec::new());
            }
            match LineSettings::parse(&typed) {
                Ok(line) => return Ok(vec![line]),
                Err(why) => self.ask.say(&format!("  {why}")),
            }
            self.ask.not_again("line")?;
        }
    }

    fn scan(
        &mut self,
        target: &Target,
        ids: &Ids,
        lines: &[LineSettings],
    ) -> Result<(Sight, Vec<Known>), Fatal> {
        let search = Search::new(target, ids.0.clone(), lines);
        let (models, _) = models::models(self.main);
        crate::cli::block_on(async {
            let (mut sight, mut shown) = (Sight::default(), Shown::new(false));
            let ended = search.run(&mut sight, &mut |progress| shown.progress(&progress)).await;
            shown.clear();
            ended.map_err(|notice| {
                Fatal::new(crate::error::Exit::Unreachable, notice.to_string())
            })?;
            let known = name_all(target, &mut sight, &models).await;
            Ok((sight, known))
        })
    }

    fn tell(&mut self, target: &Target, sight: &Sight, ids: &Ids) {
        for found in &sight.found {
            let list: Vec<_> = found.ids.iter().map(|(id, _)| *id).collect();
            self.ask.say(&format!("  {}: answers from id {}", found.way, join(&list)));
        }
        if sight.slow {
            self.ask
                .say("  somebody takes longer than 1 s to answer: it needs timeout = \"4s\" later");
        }
        let (subject, serial) = (target.subject(), target.is_serial());
        let mut notices = Vec::new();
        if sight.echo {
            notices.push(firsthour::echo(&subject, !sight.found.is_empty()));
        }
        if sight.unasked > 0 {
            notices.push(firsthour::noise(&subject, "before the scan", sight.unasked, true));
        }
        if sight.vanished {
            notices.push(firsthour::vanished(&subject, serial));
        } else if let (true, Some((way, bytes))) = (sight.found.is_empty(), sight.noise.first()) {
            notices.push(match serial {
                true => firsthour::noise(&subject, way, *bytes, false),
                false => firsthour::foreign(&subject, *bytes),
            });
        } else if sight.found.is_empty() {
            let tried = format!("{} ways were tried", sight.tried.len());
            let ids = crate::cli::scan::ranges(&ids.0);
            notices.push(firsthour::nothing(&subject, &tried, (serial, sight.echo), &ids));
        }
        for notice in notices {
            self.ask.say(&format!("  {}", indented(&notice.to_string())));
        }
    }

    /// Step 4: what to make of those who answered.
    fn devices(&mut self, target: &Target, known: &[Known]) -> Result<(), Stopped> {
        if known.is_empty() {
            return Ok(());
        }
        self.ask.step(4, "Devices", "a template brings points, scaling and units");
        let outline = outline::outline(self.main);
        let mut name = target.to_string();
        let (before, mut taken) = (self.drafts.clone(), Vec::new());
        for one in known {
            let via = one.via(&name);
            if let Some(there) = outline.devices.iter().find(|it| way(&it.via) == way(&via)) {
                self.ask.say(&format!("  id {}  is device {} already", one.id, there.name));
                continue;
            }
            let template = self.template(one)?;
            let points = match &template {
                Some(_) => Vec::new(),
                None => self.points(one)?,
            };
            if template.is_none() && points.is_empty() {
                continue;
            }
            if let (Target::Serial { .. }, Some(line)) = (target, one.line) {
                name = self.port(target, line)?;
            }
            let via = one.via(&name);
            let device = self.device_name(one)?;
            let table = match template {
                Some(template) => device_table(&device, &template, &via),
                None => points::device_table(&device, &via, &points),
            };
            let head = "# Written by fieldgate setup; yours to edit.";
            self.drafts.add(&device, format!("{head}\n{table}"));
            taken.push(device);
        }
        if taken.is_empty() {
            return Ok(());
        }
        let shown = self.preview(&taken)?;
        if !self.ask.yes("preview", "does this look right", shown)? {
            // The port that was added for them, or its line, goes with them.
            self.drafts = before;
            self.ask.say("  left out; try fieldgate read .. --explain for what the registers mean");
        }
        Ok(())
    }

    /// Asks which template a device gets; none for now is a good answer.
    fn template(&mut self, one: &Known) -> Result<Option<String>, Stopped> {
        let id = one.id;
        if let Some((template, about, probes)) = &one.model {
            self.ask.say(&format!(
                "  id {id}  {template}: {about} ({probes} of {probes} probe registers fit)"
            ));
            let take = self.ask.yes(&format!("device.{id}.take"), "take it", true)?;
            return Ok(take.then(|| template.clone()));
        }
        // Those without a probe, too: they cannot be recognised, but chosen.
        let names = models::names(self.main);
        self.ask.say(&format!("  id {id}  no template fits; there are {}", names.join(", ")));
        let key = format!("device.{id}.template");
        loop {
            let template = self.ask.ask(&key, "template, or - for none", "")?;
            if template.is_empty() || names.contains(&template) {
                return Ok(Some(template).filter(|it| !it.is_empty()));
            }
            self.ask.say(&format!("  there is no template \"{}\"", template.escape_debug()));
            self.ask.not_again(&key)?;
        }
    }

    fn device_name(&mut self, one: &Known) -> Result<String, Stopped> {
        let outline = outline::outline(self.main);
        let key = format!("device.{}.name", one.id);
        // Two lines may well have the same meter with the same id.
        let is_taken = |drafts: &Drafts, name: &str| {
            outline.devices.iter().any(|it| it.name == name) || drafts.has_device_named(name)
        };
        let usual = one.proposed_name();
        let numbered = (2..=TARGETS_MAX).map(|n| format!("{usual}-{n}"));
        let proposed = std::iter::once(usual.clone())
            .chain(numbered)
            .find(|name| !is_taken(&self.drafts, name))
            .unwrap_or_default();
        loop {
            let name = self.ask.ask(&key, "its name", &proposed)?;
            let trouble = match name_trouble(&name) {
                Some(trouble) => trouble,
                None if is_taken(&self.drafts, &name) => "another device has that name".to_owned(),
                None => return Ok(name),
            };
            self.ask.say(&format!("  \"{}\" does not do: {trouble}", name.escape_debug()));
            self.ask.not_again(&key)?;
        }
    }

    /// Makes the port known to the main file, once, and returns its name there.
    fn port(&mut self, target: &Target, line: LineSettings) -> Result<String, Stopped> {
        if let Target::Serial { known: Some((name, own)), .. } = target {
            if *own != line {
                let line = outline::text(&line.to_string());
                self.drafts.set(&["port", name], "line", &line)?;
            }
            return Ok(name.clone());
        }
        let path = target.stable_path().unwrap_or_default().to_string_lossy().into_owned();
        let outline = outline::outline(self.main);
        let drafted = self.drafts.port_of(&path);
        if let Some(name) = drafted {
            return Ok(name);
        }
        let free = |name: &String| outline.port(name).is_none() && !self.drafts.has_port(name);
        let default = (1..100).map(|n| format!("rs485-{n}")).find(free).unwrap_or_default();
        loop {
            let name = self.ask.ask("port-name", "name of this port", &default)?;
            let is_taken = outline.port(&name).is_some() || self.drafts.has_port(&name);
            let trouble = match name_trouble(&name) {
                Some(trouble) => trouble,
                None if is_taken => "another port has that name".to_owned(),
                None => {
                    self.drafts.append(&port_table(&name, &path, &line.to_string()));
                    return Ok(name);
                }
            };
            self.ask.say(&format!("  \"{}\" does not do: {trouble}", name.escape_debug()));
            self.ask.not_again("port-name")?;
        }
    }
}

/// What a person needs to tell one adapter from another.
fn describe(port: &PortInfo) -> String {
    let held = match &port.holder {
        Some(holder) => format!("taken by {} (process {})", holder.command, holder.pid),
        None => "free".to_owned(),
    };
    let words = port.usb.as_ref().map(|usb| {
        let words = [usb.vendor.as_deref(), usb.product.as_deref(), usb.serial.as_deref()];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    });
    let words = words.or_else(|| port.driver.clone()).unwrap_or_default();
    format!("{}  {words}  {held}", best_path(port))
}

/// Where a `via` leads, however it is written: the usual port of Modbus TCP may be left out.
fn way(via: &str) -> Vec<String> {
    let mut words: Vec<_> = via.split_whitespace().map(str::to_owned).collect();
    if let [_, kind, host, ..] = words.as_mut_slice()
        && matches!(kind.as_str(), "tcp" | "rtu-over-tcp")
        && let Ok((name, port)) = host_and_port(host.as_str(), Some(MODBUS_PORT))
    {
        *host = format!("[{}]:{port}", name.to_lowercase());
    }
    words
}

fn best_path(port: &PortInfo) -> String {
    let path = port.by_id.as_ref().or(port.by_path.as_ref()).unwrap_or(&port.path);
    path.display().to_string()
}

fn indented(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_the_same_with_its_usual_port_and_without() {
        assert_eq!(way("modbus tcp PLC id 1"), way("modbus  tcp plc:502 id 1"));
        assert_eq!(way("modbus tcp [::1] id 1"), way("modbus tcp [::1]:502 id 1"));
        assert_ne!(way("modbus tcp plc:503 id 1"), way("modbus tcp plc id 1"));
        assert_ne!(way("modbus bus id 1"), way("modbus bus id 2"));
    }
}
