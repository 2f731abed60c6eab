//! The first values: the devices that were just chosen are read once, by the very sources that the
//! daemon would start.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Walk;
use super::ask::Stopped;
use crate::config::{self, SourceSettings};
use crate::gateway;
use crate::reading::{NoData, PointId, Value};

/// Waiting for the first values of a bus.
const PREVIEW_TIME: Duration = Duration::from_secs(8);
/// Values shown of each device.
const SHOWN_MAX: usize = 10;

/// A first value, and whose it is.
struct First {
    device: String,
    point: String,
    value: Result<Value, NoData>,
    unit: String,
}

/// In the order in which the device has its registers.
type Values = BTreeMap<PointId, First>;

impl Walk<'_> {
    /// Shows the first values of these devices; returns whether most of them have one.
    pub(super) fn preview(&mut self, devices: &[String]) -> Result<bool, Stopped> {
        let drafts = self.drafts.list();
        let config = match config::load_drafted(self.main, config::Options::default(), &drafts) {
            Ok(config) => config,
            Err(faults) => {
                self.ask.say(&format!("  no preview: {faults}"));
                return Ok(true);
            }
        };
        let sources = config.sources.into_iter().filter_map(|source| match source {
            SourceSettings::Modbus(mut bus) => {
                bus.devices.retain(|device| devices.iter().any(|name| **name == *device.name));
                (!bus.devices.is_empty()).then_some(SourceSettings::Modbus(bus))
            }
            _ => None,
        });
        let values = crate::cli::block_on(read(sources.collect()))?;
        let good = values.values().filter(|first| first.value.is_ok()).count();
        for device in devices {
            let own: Vec<_> = values.values().filter(|first| first.device == *device).collect();
            for First { point, value, unit, .. } in own.iter().take(SHOWN_MAX) {
                let value = match value {
                    Ok(value) => format!("{value} {unit}"),
                    Err(why) => format!("- ({why})"),
                };
                self.ask.say(&format!("  {device:<14} {point:<24} {}", value.trim_end()));
            }
            if own.len() > SHOWN_MAX {
                self.ask.say(&format!("  {device:<14} and {} more", own.len() - SHOWN_MAX));
            }
        }
        if good == 0 {
            self.ask.say("  no value came; fieldgate doctor bus PORT says more");
        }
        Ok(2 * good > values.len())
    }
}

async fn read(sources: Vec<SourceSettings>) -> Result<Values, crate::error::Fatal> {
    let (outlet, mut inbox) = gateway::open_outlet();
    let mut running = gateway::start_sources(sources, &outlet)?;
    let points = outlet.points;
    let awaited = points.len();
    let mut values = Values::new();
    let end = Instant::now() + PREVIEW_TIME;
    while values.len() < awaited {
        let Ok(Some(group)) = timeout_at(end, inbox.recv()).await else { break };
        for reading in group.readings() {
            let info = points.info(reading.point);
            let [device, point, unit] =
                [&info.device, &info.point, &info.unit].map(ToString::to_string);
            let first = First { device, point, value: reading.sample.value, unit };
            values.insert(reading.point, first);
        }
    }
    drop(inbox);
    running.end().await;
    Ok(values)
}
