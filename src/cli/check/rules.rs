//! What `check` says of rules: what each asks for and is granted, which configured points it takes,
//! and which rules feed one another.

use bytesize::ByteSize;

use crate::config::{Config, SourceSettings, rule};
use crate::events::rounded;
use crate::rules::graph::Graph;
use crate::rules::{Asked, Definition, Manifest, Mode, OnFailure};
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
    let list = |of: &[String]| if of.is_empty() { "nothing".into() } else { of.join(", ") };
    let granted: Vec<String> = rule.written.granted().iter().map(|&it| it.to_owned()).collect();
    let asked: Vec<String> = asked(&manifest.limits);
    let limits = if asked.is_empty() { "the usual limits".to_owned() } else { asked.join(", ") };
    lines.push(format!(
        "  asks for {} (granted: {}) and {limits}",
        list(&manifest.capabilities),
        list(&granted)
    ));
    lines.push(format!("  may use {}", rule.settings.limits));
    let policy = match rule.on_failure {
        OnFailure::Pass => "go on without it",
        OnFailure::Drop => "are dropped",
        OnFailure::Hold => "wait in memory",
    };
    lines.push(format!("  while it cannot run, its readings {policy}"));
}

/// Limits that an author asks for, by their names.
fn asked(asked: &Asked) -> Vec<String> {
    let one = |(name, limit): (&str, Option<u64>)| match (name, limit?) {
        ("memory" | "output" | "state", bytes) => Some(format!("{} of {name}", ByteSize(bytes))),
        ("fuel", n) => Some(format!("{n} fuel a reading")),
        ("emitted", n) => Some(format!("{n} readings for one")),
        ("log", n) => Some(format!("{n} lines a minute")),
        (name, n) => Some(format!("{n} {name}")),
    };
    let deadline = asked.deadline.map(|deadline| format!("{} a call", rounded(deadline)));
    asked.numbers().into_iter().filter_map(one).chain(deadline).collect()
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
