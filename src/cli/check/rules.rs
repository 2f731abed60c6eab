//! What `check` says of rules: what each asks for and is granted, which configured points it takes,
//! and which rules feed one another.

use crate::config::{Config, SourceSettings, rule};
use crate::events::rounded;
use crate::rules::graph::Graph;
use crate::rules::{Definition, Manifest, Mode, OnFailure};
use crate::sources::modbus::settings::Form;

/// Points of a rule that are listed.
const POINTS_SHOWN: usize = 6;

/// Describes the rules, chain by chain.
pub fn lines(config: &Config, lines: &mut Vec<String>) {
    let Ok(graph) = Graph::of(&rule::knots(&config.rules)) else { return };
    let points = points(config);
    for chain in &graph.chains {
        for place in chain {
            let rule = &config.rules[*place];
            let fed = graph.edges.iter().filter(|(_, to)| to == place);
            let fed: Vec<&str> = fed.map(|(from, _)| &**config.rules[*from].name()).collect();
            describe(rule, &points, &fed, lines);
        }
    }
}

fn describe(rule: &Definition, points: &[(String, String)], fed: &[&str], lines: &mut Vec<String>) {
    // It was read when the configuration was.
    let Ok(Some(manifest)) = Manifest::read(&rule.code) else { return };
    let mode = if rule.mode == Mode::Shadow { ", in shadow" } else { "" };
    lines.push(format!(
        "rule {}  {} {} ({}){mode}",
        rule.name(),
        manifest.name,
        rule.version,
        &rule.digest[..8]
    ));
    let taken = points.iter().filter(|(device, point)| rule.takes(device, point));
    let taken: Vec<String> = taken.map(|(device, point)| format!("{device}/{point}")).collect();
    let on: Vec<String> = rule.on.iter().map(ToString::to_string).collect();
    let shown = taken.iter().take(POINTS_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let more = match taken.len() {
        0 => "no configured point; those that come later count too".to_owned(),
        many if many > POINTS_SHOWN => format!("{shown} and {} more", many - POINTS_SHOWN),
        _ => shown,
    };
    let raw = if rule.keep { "which also go on" } else { "which do not go on" };
    lines.push(format!("  takes {}: {more}, {raw}", on.join(", ")));
    if !fed.is_empty() {
        lines.push(format!("  is fed by {}", fed.join(", ")));
    }
    if !rule.makes.is_empty() {
        let makes: Vec<String> = rule.makes.iter().map(ToString::to_string).collect();
        lines.push(format!("  makes {}", makes.join(", ")));
    }
    let asked = manifest.limits;
    let usual = "the usual limits".to_owned();
    let asks = match (asked.fuel, asked.memory) {
        (None, None) => usual,
        (fuel, memory) => {
            let fuel = fuel.map(|fuel| format!("{fuel} fuel a reading"));
            let memory = memory.map(|bytes| format!("{} of memory", bytesize::ByteSize(bytes)));
            fuel.into_iter().chain(memory).collect::<Vec<_>>().join(", ")
        }
    };
    let limits = &rule.settings.limits;
    lines.push(format!(
        "  asks for {} and {asks}; is granted {} fuel a reading, {} of memory, {} a call",
        manifest.capabilities.join(", "),
        limits.fuel_reading,
        bytesize::ByteSize(limits.memory_bytes as u64),
        rounded(limits.deadline_call),
    ));
    let policy = match rule.on_failure {
        OnFailure::Pass => "go on without it",
        OnFailure::Drop => "are dropped",
        OnFailure::Hold => "wait in memory",
    };
    lines.push(format!("  while it cannot run, its readings {policy}"));
}

/// The points that the configuration names, as sources name their readings.
fn points(config: &Config) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for source in &config.sources {
        match source {
            SourceSettings::Modbus(bus) => {
                for device in &bus.devices {
                    for point in &device.points {
                        match &point.form {
                            Form::Bits(bits) => all.extend(bits.iter().map(|(_, bit)| {
                                (device.name.to_string(), format!("{}.{bit}", point.name))
                            })),
                            _ => all.push((device.name.to_string(), point.name.to_string())),
                        }
                    }
                }
            }
            SourceSettings::Serial(device) => {
                let named = device.points.iter();
                all.extend(named.map(|point| (device.name.to_string(), point.name.to_string())));
            }
            // Their devices tell their points themselves.
            SourceSettings::Zigbee(_)
            | SourceSettings::CoapListener(_)
            | SourceSettings::CoapClient(_) => {}
        }
    }
    all
}
