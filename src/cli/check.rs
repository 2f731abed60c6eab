//! `fieldgate check`: loads the configuration exactly as the daemon does and says what it found.
//! Opens no port.

mod cases;
mod rules;

use std::io::Write;
use std::path::Path;

use crate::config::address::{as_modicon, form_as_written};
use crate::config::{Config, Fault, Faults, Options, SourceSettings, load};
use crate::error::Exit;
use crate::events::{counted, rounded};
use crate::sources::modbus;
use crate::sources::modbus::settings::{Bus, Device, Form, Link};

/// Points of a device that are listed unless `--points` asks for all.
const POINTS_SHOWN: usize = 8;

/// What `check` is told beside the path.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Print faults and warnings as a JSON array
    #[arg(long)]
    pub json: bool,
    /// List every point of every device
    #[arg(long)]
    pub points: bool,
    /// Run the tests of rules, [test.NAME]
    #[arg(long)]
    pub tests: bool,
}

/// Checks the configuration at `path` and reports to `out`.
///
/// Returns [`Exit::Done`] when it can be used, with or without warnings, else [`Exit::Problem`].
pub fn run(path: &Path, args: &Args, out: &mut dyn Write) -> Exit {
    let result = load(path, Options::default());
    let ran = match &result {
        Ok(config) if args.tests => cases::run(config),
        _ => Vec::new(),
    };
    let passed = ran.iter().all(|test| test.trouble.is_none());
    let exit = if result.is_ok() && passed { Exit::Done } else { Exit::Problem };
    let text = match &result {
        Ok(config) if args.json => as_json(&[], &config.warnings, &ran),
        Err(faults) if args.json => as_json(&faults.faults, &faults.warnings, &ran),
        Ok(config) => results(&ran) + &summary(path, config, args.points),
        Err(faults) => refusal(faults),
    };
    // Whoever closed the pipe does not want to know more.
    let _ = writeln!(out, "{}", text.trim_end());
    exit
}

fn as_json(faults: &[Fault], warnings: &[Fault], ran: &[cases::Ran]) -> String {
    let faults = faults.iter().map(|fault| fault.to_json("fault"));
    let warnings = warnings.iter().map(|warning| warning.to_json("warning"));
    format!(
        "{:#}",
        serde_json::Value::Array(
            faults.chain(warnings).chain(ran.iter().map(cases::Ran::to_json)).collect()
        )
    )
}

fn results(ran: &[cases::Ran]) -> String {
    let line = |test: &cases::Ran| match &test.trouble {
        None => format!("ok      {}\n", test.name),
        Some(trouble) => format!("FAILED  {}\n{trouble}\n\n", test.name),
    };
    ran.iter().map(line).collect()
}

fn refusal(faults: &Faults) -> String {
    let mut text = String::new();
    for warning in &faults.warnings {
        text += &format!("warning {warning}\n\n");
    }
    text + &faults.to_string()
}

fn summary(path: &Path, config: &Config, all_points: bool) -> String {
    let mut text = String::new();
    for warning in &config.warnings {
        text += &format!("warning {warning}\n\n");
    }
    let (mut devices, mut points) = (0, 0);
    let mut lines = Vec::new();
    for source in &config.sources {
        match source {
            SourceSettings::Modbus(bus) => {
                lines.push(format!("bus {}  {}", bus.name, link(bus)));
                for device in &bus.devices {
                    devices += 1;
                    points += device_lines(device, all_points, &mut lines);
                }
            }
            SourceSettings::Serial(device) => {
                devices += 1;
                points += device.points.len();
                let names: Vec<_> = device.points.iter().map(|point| &*point.name).collect();
                lines.push(format!(
                    "line {}  {}  {}",
                    device.line.name,
                    device.line.path.display(),
                    device.line.line
                ));
                lines.push(format!("  {}  frames with {}", device.name, names.join(", ")));
            }
            SourceSettings::Zigbee(bridge) => {
                let broker = &bridge.broker;
                lines.push(format!("zigbee2mqtt {}  {}:{}", bridge.name, broker.host, broker.port));
            }
            SourceSettings::CoapListener(listener) => {
                lines.push(format!("coap {}  listens on {}", listener.name, listener.listen));
            }
            SourceSettings::CoapClient(client) => {
                lines.push(format!("coap {}  {}", client.name, client.url));
            }
        }
    }
    rules::lines(config, &mut lines);
    for uplink in &config.uplinks {
        let broker = &uplink.broker;
        let tls = if broker.tls.is_some() { "TLS" } else { "no TLS" };
        lines.push(format!("uplink {}  {}:{}  {tls}", uplink.name, broker.host, broker.port));
    }
    let warnings = match config.warnings.len() {
        0 => String::new(),
        many => format!(", {}", counted(many, "warning")),
    };
    text += &lines.join("\n");
    text + &format!(
        "\n\n{}: gateway {}, {}, {}, configuration {}{warnings}\nThis configuration can be used.",
        path.display(),
        config.gateway.name,
        counted(devices, "device"),
        counted(points, "configured point"),
        config.hash,
    )
}

fn link(bus: &Bus) -> String {
    match &bus.link {
        Link::Rtu(line) => format!("{}  {}", line.path.display(), line.line),
        Link::Tcp { .. } => "Modbus TCP".to_owned(),
        Link::RtuOverTcp { .. } => "RTU over TCP".to_owned(),
    }
}

/// Describes a device and returns how many readings a cycle has.
fn device_lines(device: &Device, all_points: bool, lines: &mut Vec<String>) -> usize {
    let count = |form: &Form| match form {
        Form::Bits(bits) => bits.len(),
        _ => 1,
    };
    let points = device.points.iter().map(|point| count(&point.form)).sum();
    let requests = counted(modbus::requests(device), "request");
    let of_points = counted(points, "point");
    lines.push(format!("  {}  id {}  {of_points} in {requests}", device.name, device.id));
    let shown = if all_points { device.points.len() } else { POINTS_SHOWN };
    let width = device.points.iter().take(shown).map(|p| p.name.chars().count()).max().unwrap_or(0);
    for point in device.points.iter().take(shown) {
        let line = format!(
            "    {:width$}  {:<8} {:<5} (manuals: {:<6})  {:<8} {:<5} every {}",
            point.name,
            point.table.word(),
            point.address,
            as_modicon(point.table, point.address),
            form_as_written(&point.form),
            point.unit,
            rounded(point.every),
        );
        lines.push(line);
    }
    if device.points.len() > shown {
        lines.push(format!("    and {} more; --points lists them", device.points.len() - shown));
    }
    points
}
