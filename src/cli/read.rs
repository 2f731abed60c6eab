//! `fieldgate read`: a configured point, or registers by their address, read once and by hand. With
//! `--explain` it shows everything that the registers could mean.

mod explain;

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use self::explain::Registers;
use super::target::Target;
use crate::batch::text;
use crate::config::address::{as_modicon, parse};
use crate::config::{self, SourceSettings};
use crate::error::{Exit, Fatal};
use crate::events::firsthour;
use crate::limits;
use crate::sources::line::LineSettings;
use crate::sources::modbus::inquiry::{Inquiry, Reply, decode};
use crate::sources::modbus::settings::{Device, Form, Link, Point, Table};

/// Reads a point, or registers of a device, once
#[derive(Debug, Args)]
#[command(after_help = "Examples:  fieldgate read chiller/supply_temp
           fieldgate read rs485-1 id 2 holding 107 --explain
           fieldgate read 192.168.1.40 id 1 40108 --count 4")]
pub(super) struct Read {
    /// DEVICE/POINT, or PORT|HOST id N and an address: holding 107, input 0, coil 3, 40108
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,
    /// Registers or bits to read
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=125))]
    count: Option<u16>,
    /// Show every plausible meaning, the neighbours, and the line for the configuration
    #[arg(long)]
    explain: bool,
    /// JSON, one object
    #[arg(long)]
    json: bool,
    /// Speed and layout of a port that is not configured
    #[arg(long, value_parser = LineSettings::parse)]
    line: Option<LineSettings>,
    /// RTU frames over TCP, for converters in transparent mode
    #[arg(long)]
    rtu: bool,
    /// Longest wait for the answer
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = super::time)]
    timeout: humantime::Duration,
}

/// What is to be read, and where.
struct Aim {
    target: Target,
    link: Link,
    id: u8,
    table: Table,
    address: u16,
    /// A configured point, with its device's name.
    point: Option<(String, Point)>,
    timeout: Duration,
    /// The gateway has a connection there, too.
    polled: bool,
}

impl Read {
    pub(super) fn run(self, config: &Path) -> Result<Exit, Fatal> {
        super::log_to_stderr(super::LevelFilter::WARN);
        let aim = match self.what.as_slice() {
            [point] if point.contains('/') && !point.starts_with(['/', '.']) => {
                self.at_point(point, config)?
            }
            words => self.at_address(words, config)?,
        };
        super::block_on(async {
            let mut inquiry = aim
                .target
                .open(aim.link.clone())
                .await
                .map_err(|notice| Fatal::new(Exit::Unreachable, notice.to_string()))?;
            if self.explain {
                return self.explain(&mut inquiry, &aim).await;
            }
            self.plainly(&mut inquiry, &aim).await
        })
    }

    fn at_point(&self, named: &str, config: &Path) -> Result<Aim, Fatal> {
        let (device_name, point_name) = named.split_once('/').unwrap_or_default();
        let loaded = config::load(config, config::Options::default())
            .map_err(|faults| Fatal::new(Exit::Problem, faults.to_string()))?;
        let mut others = None;
        for source in loaded.sources {
            match source {
                SourceSettings::Modbus(bus) => {
                    let Some(device) = bus.devices.into_iter().find(|it| *it.name == *device_name)
                    else {
                        continue;
                    };
                    return aim_at(device, bus.link, point_name, config);
                }
                SourceSettings::Serial(it) if *it.name == *device_name => {
                    others = Some("sends frames by itself")
                }
                SourceSettings::CoapClient(it) if *it.name == *device_name => {
                    others = Some("speaks CoAP");
                }
                _ => {}
            }
        }
        let (why, next) = match others {
            Some(how) => (format!("cannot be read by address: it {how}"), "fieldgate once"),
            None => ("is no point of the configuration".to_owned(), "fieldgate check --points"),
        };
        let notice = firsthour::no_target(named, &why, next);
        Err(Fatal::new(Exit::Usage, notice.to_string()))
    }

    fn at_address(&self, words: &[String], config: &Path) -> Result<Aim, Fatal> {
        let words: Vec<_> = words.iter().flat_map(|word| word.split_whitespace()).collect();
        let words = words.strip_prefix(&["modbus"]).unwrap_or(&words);
        let usage = |what: &str, why: &str| {
            let next = "fieldgate read PORT|HOST id 1 holding 107 --explain";
            let notice = firsthour::no_target(what, why, next);
            Fatal::new(Exit::Usage, notice.to_string())
        };
        let (target, id, address) = match words {
            [target, "id", id, address @ ..] | [target, id, address @ ..]
                if !address.is_empty() =>
            {
                (*target, *id, address.join(" "))
            }
            other => return Err(usage(&other.join(" "), "names no address")),
        };
        let id = id.parse().map_err(|_| usage(id, "is no id from 0 to 255"))?;
        let written = address;
        let (table, address) = parse(&written)
            .map_err(|why| usage(&written, &format!("is no address of a register: {why}")))?;
        let last = u32::from(address) + u32::from(self.count.unwrap_or(1)) - 1;
        if last > u32::from(u16::MAX) {
            return Err(usage(
                &written,
                &format!("leads to {last} with --count; 65535 is the last"),
            ));
        }
        let target = Target::find(target, config)?;
        let known = match &target {
            Target::Serial { known: Some((_, line)), .. } => Some(*line),
            _ => None,
        };
        let line = self.line.or(known).unwrap_or(LineSettings::DEFAULT);
        let link = target.link(line, self.rtu);
        let (timeout, polled) = (self.timeout.into(), target.is_polled(config));
        Ok(Aim { target, link, id, table, address, point: None, timeout, polled })
    }

    /// Reads what was asked for and prints it.
    async fn plainly(&self, inquiry: &mut Inquiry, aim: &Aim) -> Result<Exit, Fatal> {
        let width = aim.point.as_ref().map_or(1, |(_, point)| point.form.width());
        let count = self.count.unwrap_or(width);
        let span = (aim.table, aim.address, count);
        let reply = inquiry.read(aim.id, span, aim.timeout).await;
        let words = match &reply {
            Reply::Words(words) => words.clone(),
            Reply::Bits(bits) => {
                bits.iter().take(count.into()).map(|bit| u16::from(*bit)).collect()
            }
            other => return Err(aim.no_value(count, other)),
        };
        let value =
            aim.point.as_ref().map(|(name, point)| (name, point, point_value(point, &reply)));
        let text = match (&value, self.json) {
            (_, true) => json!({
                "target": aim.target.to_string(), "id": aim.id, "table": aim.table.word(),
                "address": aim.address, "modicon": as_modicon(aim.table, aim.address),
                "registers": words,
                "value": value.as_ref().map(|(.., value)| text::json(value.as_ref().ok().map(Into::into))),
            })
            .to_string(),
            (Some((name, point, value)), false) => {
                let raw = words.iter().map(|word| format!("{word:04X}")).collect::<Vec<_>>().join(" ");
                let value = match value {
                    Ok(value) => format!("{value} {}", point.unit),
                    Err(why) => format!("- ({why})"),
                };
                let (table, address) = (aim.table.word(), aim.address);
                format!("{name}  {}   ({table} {address} = {raw})", value.trim_end())
            }
            (None, false) => explain::listing(aim.table, aim.address, &words),
        };
        // A closed pipe is the reader's choice.
        let _ = writeln!(io::stdout().lock(), "{text}");
        Ok(Exit::Done)
    }

    /// Reads around the address and prints what it could mean.
    async fn explain(&self, inquiry: &mut Inquiry, aim: &Aim) -> Result<Exit, Fatal> {
        let read = async |inquiry: &mut Inquiry, address: u16, count: u16| {
            inquiry.read(aim.id, (aim.table, address, count), aim.timeout).await
        };
        let wanted = self.count.unwrap_or(4).min((u16::MAX - aim.address).saturating_add(1));
        let mut reply = Reply::Silence;
        // A device may have fewer registers behind this one than a long value would take.
        for count in [wanted, 2, 1] {
            reply = read(inquiry, aim.address, count.min(wanted)).await;
            if !matches!(reply, Reply::Exception(_)) {
                break;
            }
        }
        let words = match reply {
            Reply::Words(words) => words,
            Reply::Bits(bits) => {
                bits.iter().take(wanted.into()).map(|bit| u16::from(*bit)).collect()
            }
            other => return Err(aim.no_value(1, &other)),
        };
        let before = match aim.address.checked_sub(1) {
            Some(address) => match read(inquiry, address, 1).await {
                Reply::Words(words) => words.first().copied(),
                Reply::Bits(bits) => bits.first().map(|bit| u16::from(*bit)),
                _ => None,
            },
            None => None,
        };
        let registers = Registers { table: aim.table, address: aim.address, words, before };
        let text = if self.json { registers.json().to_string() } else { registers.text() };
        // A closed pipe is the reader's choice.
        let _ = writeln!(io::stdout().lock(), "{}", text.trim_end());
        Ok(Exit::Done)
    }
}

fn aim_at(device: Device, link: Link, point: &str, config: &Path) -> Result<Aim, Fatal> {
    let named = format!("{}/{point}", device.name);
    let wanted = |it: &&Point| {
        let is_bit = matches!(it.form, Form::Bits(_))
            && point.strip_prefix(&*it.name).is_some_and(|rest| rest.starts_with('.'));
        *it.name == *point || is_bit
    };
    let Some(point) = device.points.iter().find(wanted).cloned() else {
        let names: Vec<_> = device.points.iter().take(8).map(|point| &*point.name).collect();
        let why = format!("is no point of {}; it has {}", device.name, names.join(", "));
        let notice = firsthour::no_target(&named, &why, "fieldgate check --points");
        return Err(Fatal::new(Exit::Usage, notice.to_string()));
    };
    let target = match &link {
        Link::Rtu(line) => Target::find(&line.path.to_string_lossy(), config)?,
        Link::Tcp { host, port } | Link::RtuOverTcp { host, port } => {
            Target::Network { host: host.clone(), port: *port }
        }
    };
    let (table, address, timeout) = (point.table, point.address, device.timeout);
    let (id, polled, point) = (device.id, target.is_polled(config), Some((named, point)));
    Ok(Aim { target, link, id, table, address, point, timeout, polled })
}

fn point_value(
    point: &Point,
    reply: &Reply,
) -> Result<crate::reading::Value, crate::reading::NoData> {
    match reply {
        Reply::Bits(bits) => {
            Ok(crate::reading::Value::Bool(bits.first().copied().unwrap_or_default()))
        }
        Reply::Words(words) => match &point.form {
            // Each bit is a point of its own; the register as a whole is what a person compares.
            Form::Bits(_) => decode(&Point { form: Form::U16, ..point.clone() }, words).value,
            _ => decode(point, words).value,
        },
        _ => Err(crate::reading::NoData::Timeout),
    }
}

impl Aim {
    /// The options without which the same question would go another way.
    fn how(&self) -> String {
        match (&self.link, &self.target) {
            (Link::RtuOverTcp { .. }, _) => " --rtu".to_owned(),
            (Link::Rtu(line), Target::Serial { known: Some((_, own)), .. })
                if line.line == *own =>
            {
                String::new()
            }
            (Link::Rtu(line), _) => format!(" --line \"{}\"", line.line),
            (Link::Tcp { .. }, _) => String::new(),
        }
    }

    fn no_value(&self, count: u16, reply: &Reply) -> Fatal {
        let subject = format!("{} id {}", self.target.subject(), self.id);
        let what = match count {
            1 => format!("{} {}", self.table.word(), self.address),
            n => {
                let last = u32::from(self.address) + u32::from(n) - 1;
                format!("{} {}-{last}", self.table.word(), self.address)
            }
        };
        let target = &self.target;
        let scan = format!("fieldgate scan modbus {target} --ids {}", self.id);
        let other = match self.table {
            Table::Holding => "input",
            Table::Input => "holding",
            Table::Coil => "discrete",
            Table::Discrete => "coil",
        };
        let again = |table: &str, address: u16| {
            let how = self.how();
            format!("fieldgate read {target} id {} {table} {address}{how}", self.id)
        };
        let (why, likely, next): (String, Vec<&str>, String) = match reply {
            Reply::Exception(code) => {
                let next = match (code, self.address.checked_sub(1)) {
                    (0x02 | 0x03, Some(before)) => {
                        let before = again(self.table.word(), before);
                        format!("{before} --explain; then the same in {other}")
                    }
                    (0x04..=0x06, _) => again(self.table.word(), self.address),
                    (0x0A | 0x0B, _) => format!("fieldgate scan modbus {target}"),
                    _ => again(other, self.address),
                };
                let why = format!("it answers exception {code} ({})", exception_words(*code));
                (why, causes(*code).to_vec(), next)
            }
            Reply::Silence => (
                format!("no answer within {}", crate::events::rounded(self.timeout)),
                vec!["the id, the speed or the parity is another", "the device is off"],
                scan,
            ),
            Reply::Gone => (
                "the connection was closed".to_owned(),
                vec!["the adapter was pulled", "the device allows no more connections"],
                "fieldgate ports".to_owned(),
            ),
            _ => (
                "the answer is damaged".to_owned(),
                vec!["the speed or the parity is another", "two devices have this id"],
                scan,
            ),
        };
        let exit =
            if matches!(reply, Reply::Exception(_)) { Exit::Problem } else { Exit::Unreachable };
        let mut notice = firsthour::no_value(&subject, &what, &why, &likely, &next);
        if self.polled && exit == Exit::Unreachable {
            notice = firsthour::polled(notice);
        }
        Fatal::new(exit, notice.to_string())
    }
}

/// Why a device answers an exception.
fn causes(code: u8) -> &'static [&'static str] {
    match code {
        0x01 => &[
            "the value stands in another table",
            "the device has no such table: its manual lists the functions it knows",
        ],
        0x04..=0x06 => &[
            "it is starting, or busy with another master: the same again in a while may do",
            "the part behind this register is missing or broken",
        ],
        0x0A | 0x0B => &[
            "nobody has this id on the line behind the gateway",
            "the device behind the gateway is off, or its plug is loose",
            "the gateway's own speed or parity is not the device's",
        ],
        _ => &[
            "the manual counts from 1 where the protocol counts from 0: try the address before",
            "the value stands in the other table",
            "this model or firmware does not have it",
        ],
    }
}

fn exception_words(code: u8) -> &'static str {
    match code {
        0x01 => "it does not know this function",
        0x02 => "it does not have this address",
        0x03 => "it does not accept this count",
        0x04 => "it failed while answering",
        0x05 | 0x06 => "it is busy",
        0x0A => "the gateway before it has no path to it",
        0x0B => "the gateway before it got no answer",
        _ => "a code of its own",
    }
}

const _: () = assert!(limits::MODBUS_REGISTERS_MAX == 125, "the range of --count");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_try_fits_the_exception_and_goes_the_same_way() {
        let target = Target::Network { host: "10.0.0.9".to_owned(), port: 502 };
        let link = target.link(LineSettings::DEFAULT, true);
        let timeout = Duration::from_secs(1);
        let (table, id) = (Table::Holding, 3);
        let aim = |address| Aim {
            target: target.clone(),
            link: link.clone(),
            id,
            table,
            address,
            point: None,
            timeout,
            polled: false,
        };
        let told =
            |address: u16, code: u8| aim(address).no_value(1, &Reply::Exception(code)).message;
        let absent = told(7, 0x0B);
        assert!(
            absent.contains("nobody has this id") && !absent.contains("counts from"),
            "{absent}"
        );
        assert!(absent.contains("fieldgate scan modbus 10.0.0.9:502"), "{absent}");
        assert!(told(7, 2).contains("id 3 holding 6 --rtu --explain"), "{}", told(7, 2));
        assert!(told(0, 2).contains("id 3 input 0 --rtu"), "{}", told(0, 2));
        assert!(told(7, 6).contains("id 3 holding 7 --rtu"), "{}", told(7, 6));
    }
}
