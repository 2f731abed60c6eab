//! `fieldgate ports`: the serial ports of this machine, and the path to write into a configuration.

use std::io::{self, Write};

use clap::Args;

use crate::error::{Exit, Fatal};
use crate::sources::line::{PortInfo, ports};

/// Arguments of `ports`.
#[derive(Debug, Args)]
pub(super) struct Ports {
    /// JSON, one array
    #[arg(long)]
    json: bool,
}

impl Ports {
    pub(super) fn run(&self) -> Result<Exit, Fatal> {
        let found = ports();
        let text = if self.json {
            serde_json::to_string(&found).map_err(|_| {
                Fatal::new(Exit::Broken, "the list of ports cannot be written as JSON")
            })?
        } else if found.is_empty() {
            "no serial ports here\n  Likely: 1. no adapter is plugged in   2. its driver is missing\n  \
             Try:    lsusb; dmesg | tail"
                .to_owned()
        } else {
            found.iter().map(describe).collect::<Vec<_>>().join("\n")
        };
        // A closed pipe is the reader's choice.
        let _ = writeln!(io::stdout().lock(), "{text}");
        Ok(Exit::Done)
    }
}

fn describe(port: &PortInfo) -> String {
    let mut lines = vec![port.path.display().to_string()];
    if let Some(usb) = &port.usb {
        let words = [usb.vendor.as_deref(), usb.product.as_deref(), usb.serial.as_deref()];
        let words = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
        lines[0] += &format!("  {words} ({}:{})", usb.vendor_id, usb.product_id);
    } else if let Some(driver) = &port.driver {
        lines[0] += &format!("  {driver}");
    }
    if let Some(holder) = &port.holder {
        lines.push(format!("  taken by {} (process {})", holder.command, holder.pid));
    }
    if let Some(stable) = port.by_id.as_ref().or(port.by_path.as_ref()) {
        lines.push(format!("  path = \"{}\"    # survives replugging", stable.display()));
    }
    lines.join("\n")
}
