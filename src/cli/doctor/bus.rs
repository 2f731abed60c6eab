//! `doctor bus`: one serial line or Modbus host, from the device node up: is it there, may we have it,
//! does it open, does anything come unasked, who of the configured devices answers, and what follows.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use super::{Finding, Tell};
use crate::cli::scan::search::NOBODY_THERE;
use crate::cli::target::Target;
use crate::events::{Notice, firsthour, modbus, serial};
use crate::limits;
use crate::sources::line::{LineSettings, ports};
use crate::sources::modbus::inquiry::{Inquiry, Reply};
use crate::sources::modbus::settings::{Bus, Link};

/// A bus to be looked at.
pub(in crate::cli) struct Patient<'a> {
    pub(in crate::cli) target: &'a Target,
    /// What the configuration says of it, when it can be loaded and names it.
    pub(in crate::cli) bus: Option<&'a Bus>,
    /// What the running gateway has to say about it; `None` when none runs, or it was not asked.
    pub(in crate::cli) complaints: Option<Vec<String>>,
}

/// What the devices of a bus said, counted.
#[derive(Default)]
struct Count {
    answered: usize,
    /// A gateway spoke for them.
    absent: usize,
    silent: Vec<u8>,
    noisy: Vec<u8>,
    gone: bool,
}

impl Patient<'_> {
    /// Examines it, and says whether all is well.
    pub(in crate::cli) async fn examine(&self, tell: Tell<'_>) -> bool {
        if let Target::Serial { path, .. } = self.target
            && !self.node(path, tell)
        {
            return false;
        }
        if let Some(notice) = self.target.taken() {
            let daemon = notice.evidence.iter().any(|it| it.contains("the gateway itself"));
            let said = "another program has it open";
            if daemon {
                return self.as_the_gateway_says(notice, tell);
            }
            tell(Finding::bad("free", said).told(notice));
            return false;
        }
        let link = self.link();
        let mut inquiry = match self.target.open(link).await {
            Ok(inquiry) => inquiry,
            Err(notice) => {
                tell(Finding::bad("open", "no").told(*notice));
                return false;
            }
        };
        tell(Finding::good("open", format!("{} opened", self.target)));
        let quiet = self.listen(&mut inquiry, tell).await;
        quiet & self.devices(&mut inquiry, tell).await
    }

    /// The gateway has the line, so its word is what there is.
    fn as_the_gateway_says(&self, notice: Notice, tell: Tell<'_>) -> bool {
        let Some(complaints) = &self.complaints else {
            let said = "the gateway has it open: see fieldgate status";
            tell(Finding::odd("free", said).told(notice));
            return true;
        };
        if complaints.is_empty() {
            tell(Finding::good("gateway", "it polls this line and has nothing to complain of"));
        }
        for complaint in complaints {
            tell(
                Finding::bad("gateway", "it polls this line, and says")
                    .said_whole(complaint.clone()),
            );
        }
        complaints.is_empty()
    }

    fn link(&self) -> Link {
        let line = match self.target {
            Target::Serial { known: Some((_, line)), .. } => *line,
            _ => LineSettings::DEFAULT,
        };
        self.bus.map_or_else(|| self.target.link(line, false), |bus| bus.link.clone())
    }

    /// Looks at the device node: what it is, whose it is, under which name it stays.
    fn node(&self, path: &Path, tell: Tell<'_>) -> bool {
        let subject = self.target.subject();
        let about = match std::fs::metadata(path) {
            Ok(about) => about,
            Err(error) => {
                let notice = match error.kind() {
                    io::ErrorKind::PermissionDenied => serial::denied(&subject, path),
                    _ => serial::missing(&subject, path),
                };
                let there: Vec<_> =
                    ports().iter().map(|it| it.path.display().to_string()).collect();
                let there = match there.as_slice() {
                    [] => "no serial port is plugged in".to_owned(),
                    there => format!("plugged in: {}", there.join(", ")),
                };
                tell(
                    Finding::bad("node", format!("{} is not there; {there}", path.display()))
                        .told(notice),
                );
                return false;
            }
        };
        if !about.file_type().is_char_device() {
            let notice = serial::unfit(&subject, path, "a line setting");
            tell(Finding::bad("node", format!("{} is no device", path.display())).told(notice));
            return false;
        }
        let leads = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let leads = if leads == path { String::new() } else { format!(" is {}", leads.display()) };
        tell(Finding::good("node", format!("{}{leads}", path.display())));
        let group = group_name(about.gid()).unwrap_or_else(|| about.gid().to_string());
        let said = format!("mode {:o}, group {group}", about.mode() & 0o777);
        match rustix::fs::access(path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK) {
            Ok(()) => {
                tell(
                    self.daemon_may(&about, &group)
                        .unwrap_or_else(|| Finding::good("rights", said)),
                );
                true
            }
            Err(_) => {
                let notice = serial::denied(&subject, path).try_next(format!(
                    "sudo usermod --append --groups {group} $USER; then log in again"
                ));
                tell(Finding::bad("rights", format!("{said}: not for this user")).told(notice));
                false
            }
        }
    }

    /// A person may be root and the daemon is not: its user must be in the node's group.
    fn daemon_may(&self, about: &std::fs::Metadata, group: &str) -> Option<Finding> {
        let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
        let user = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == "fieldgate").then(|| fields.nth(2)?.parse::<u32>().ok()).flatten()
        })?;
        let members = std::fs::read_to_string("/etc/group").ok()?;
        let is_member = members.lines().any(|line| {
            let mut fields = line.split(':');
            let is_group = fields.next() == Some(group);
            is_group
                && fields.nth(2).is_some_and(|list| list.split(',').any(|it| it == "fieldgate"))
        });
        let (others, owner) = (about.mode() & 0o006 == 0o006, about.uid() == user);
        (!is_member && !others && !owner && about.gid() != user).then(|| {
            let notice = firsthour::daemon_may_not(&self.target.subject(), group);
            Finding::odd("rights", format!("the user fieldgate is not in the group {group}"))
                .told(notice)
        })
    }

    async fn listen(&self, inquiry: &mut Inquiry, tell: Tell<'_>) -> bool {
        if !self.target.is_serial() {
            return true;
        }
        match inquiry.listen(limits::LISTEN_TIME).await {
            0 => {
                tell(Finding::good("quiet", "nothing comes unasked, as on a bus with one master"));
                true
            }
            bytes => {
                let notice = firsthour::noise(
                    &self.target.subject(),
                    "before anything was asked",
                    bytes,
                    true,
                );
                tell(Finding::bad("quiet", format!("{bytes} bytes came unasked")).told(notice));
                false
            }
        }
    }

    /// Asks every configured device for one of its points.
    async fn devices(&self, inquiry: &mut Inquiry, tell: Tell<'_>) -> bool {
        let Some(bus) = self.bus.filter(|bus| !bus.devices.is_empty()) else {
            let next = format!("fieldgate scan modbus {}", self.target);
            tell(Finding::odd("devices", format!("none is configured here; {next} finds them")));
            return true;
        };
        let mut count = Count::default();
        for device in &bus.devices {
            let Some(point) = device.points.first() else { continue };
            let named = format!("{} (id {})", device.name, device.id);
            let place = format!("{} {}", point.table.word(), point.address);
            let finding = match inquiry.value(device.id, point, device.timeout).await {
                Ok(sample) => {
                    count.answered += 1;
                    let value = match sample.value {
                        Ok(value) => format!("{value} {}", point.unit),
                        Err(why) => format!("no value ({why})"),
                    };
                    Finding::good(
                        "device",
                        format!("{named}: {} = {}", point.name, value.trim_end()),
                    )
                }
                // The word of a gateway that has nobody there under that id.
                Err(Reply::Exception(code)) if NOBODY_THERE.contains(&code) => {
                    count.absent += 1;
                    let said = format!("{named} does not answer its gateway (exception {code})");
                    Finding::bad("device", said).told(modbus::exception(&named, code, &place))
                }
                Err(Reply::Exception(code)) => {
                    count.answered += 1;
                    Finding::odd("device", format!("{named} answers exception {code} to {place}"))
                }
                Err(Reply::Silence) => {
                    count.silent.push(device.id);
                    Finding::bad("device", format!("{named} does not answer, 0 bytes came"))
                }
                Err(Reply::Gone) => {
                    count.gone = true;
                    Finding::bad("device", format!("{named}: the port or connection went away"))
                }
                Err(_) => {
                    count.noisy.push(device.id);
                    Finding::bad("device", format!("{named}: bytes came that are no answer"))
                }
            };
            tell(finding);
        }
        if let (true, Some(id)) = (self.target.is_serial(), count.noisy.first()) {
            let knock = inquiry.knock(*id, limits::ASK_TIMEOUT).await;
            if knock.echo {
                let notice = firsthour::echo(&self.target.subject(), knock.answer.is_some());
                tell(Finding::bad("verdict", "what is sent comes back").told(notice));
                return false;
            }
        }
        self.conclude(&count, tell)
    }

    fn conclude(&self, count: &Count, tell: Tell<'_>) -> bool {
        let subject = self.target.subject();
        let serial = self.target.is_serial();
        if count.gone {
            tell(
                Finding::bad("verdict", "it went away").told(firsthour::vanished(&subject, serial)),
            );
            return false;
        }
        let is_heard = count.silent.is_empty() && count.noisy.is_empty();
        if is_heard && count.absent > 0 {
            let all = count.answered + count.absent;
            let said = format!("{} of {all} devices do not answer their gateway", count.absent);
            tell(Finding::bad("verdict", said));
            return false;
        }
        if is_heard {
            let said = match count.answered {
                1 => "the one device answers".to_owned(),
                all => format!("{all} of {all} devices answer"),
            };
            tell(Finding::good("verdict", said));
            return true;
        }
        let notice = firsthour::bus_verdict(
            &subject,
            &self.target.to_string(),
            (count.answered, &count.silent, &count.noisy),
            serial,
        );
        tell(Finding::bad("verdict", "see below").told(notice));
        false
    }
}

fn group_name(gid: u32) -> Option<String> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}
