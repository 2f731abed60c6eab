//! `rule check`: what a rule asks for, and whether it holds what every rule must hold: the same output
//! for any cut into batches, after a restart between any two of them, and when it is run twice.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::machine::{Machine, Subject, usual};
use super::{cases, ends, say, test};
use crate::error::{Exit, Fatal};
use crate::events::Notice;
use crate::events::author as told;
use crate::rules::cases::{Came, Case, Cuts, Expect, Feed};
use crate::rules::manifest::param_to_json;
use crate::rules::{Manifest, manifest};

/// Shows what a rule asks for, and tries what every rule must hold
#[derive(Debug, Args)]
#[command(
    after_help = "Three things must hold for every rule, or a gateway would give other results
after a restart or under load:
  - the same output however its input is cut into batches
  - the same output when it is started anew between any two batches
  - the same output when it is run twice
They are tried on the feeds of its cases and on readings made up here."
)]
pub(in crate::cli) struct Check {
    /// The rule's folder, which is built first, or a .wasm file
    #[arg(default_value = ".", value_name = "DIR|FILE")]
    rule: PathBuf,
    /// Rounds of made-up readings
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(0..=1000))]
    rounds: u16,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

/// Ways to cut, restart and repeat, and how each is told of.
const WAYS: [(&str, Cuts); 6] = [
    ("when it is run twice", Cuts::WHOLE),
    ("in batches of one", Cuts { batch: 1, seed: None, restarts: false }),
    ("in batches of seven", Cuts { batch: 7, seed: None, restarts: false }),
    ("in batches of many sizes", Cuts { batch: 23, seed: Some(1), restarts: false }),
    ("when it is started anew before each reading", Cuts { batch: 1, seed: None, restarts: true }),
    (
        "when it is started anew between batches of many sizes",
        Cuts { batch: 23, seed: Some(2), restarts: true },
    ),
];

impl Check {
    pub(super) fn run(self) -> Result<Exit, Fatal> {
        let problem = |notice: Notice| ends(Exit::Problem, &notice);
        let subject = Subject::of(&self.rule).map_err(problem)?;
        let machines = subject.machines().map_err(problem)?;
        let (mut inputs, faults) = cases::read_all(&subject.folder, &subject.manifest);
        let params = params(&subject.manifest, &inputs);
        let made_up = inputs.len();
        if let Some(params) = &params {
            for round in 0..u64::from(self.rounds) {
                let case = made_up_case(round, params);
                inputs
                    .push(cases::Named { name: format!("made-up readings, round {round}"), case });
            }
        }
        let mut troubles: Vec<Notice> = faults;
        for input in &inputs {
            // One machine will do: that both agree is for `rule test`.
            let trouble =
                machines.first().and_then(|machine| hold(&subject.manifest, machine, input));
            troubles.extend(trouble);
        }
        let tried = (made_up, inputs.len() - made_up);
        let text = if self.json {
            as_json(&subject, &troubles, tried)
        } else {
            in_words(&subject, &troubles, tried)
        };
        say(&text);
        Ok(if troubles.is_empty() { Exit::Done } else { Exit::Problem })
    }
}

/// Parameters for made-up readings: the defaults, or those of the first case.
fn params(
    manifest: &Manifest,
    cases: &[cases::Named],
) -> Option<Vec<(String, crate::rules::wit::Param)>> {
    let defaults = manifest.params(&toml::de::DeTable::new()).ok();
    defaults.or_else(|| cases.first().map(|named| named.case.params.clone()))
}

/// Tries all ways; returns the first that gives other output.
fn hold(manifest: &Manifest, machine: &Machine, input: &cases::Named) -> Option<Notice> {
    let run = |cuts| test::run(manifest, machine, &input.case, cuts);
    let reference = match run(Cuts::WHOLE) {
        Ok(played) => by_series(&played.came),
        Err(failure) => {
            let why = format!("the rule failed ({}): {}", failure.code, failure.message);
            return Some(told::case_failed(&input.name, &why, &[]));
        }
    };
    for (way, cuts) in WAYS {
        let difference = match run(cuts) {
            Ok(played) => first_difference(&reference, &by_series(&played.came)),
            Err(failure) => Some(format!("it failed ({}): {}", failure.code, failure.message)),
        };
        if let Some(difference) = difference {
            return Some(told::property(&input.name, way, &difference));
        }
    }
    None
}

/// Each series' output in its order; between series the order is free.
fn by_series(came: &[Came]) -> Vec<String> {
    let mut all: Vec<_> = came.iter().collect();
    all.sort_by(|a, b| (a.stream, &a.device, &a.point).cmp(&(b.stream, &b.device, &b.point)));
    all.into_iter().map(Came::to_string).collect()
}

fn first_difference(before: &[String], now: &[String]) -> Option<String> {
    let place = before.iter().zip(now).position(|(before, now)| before != now);
    match place {
        Some(place) => Some(format!("{} instead of {}", now[place], before[place])),
        None if now.len() > before.len() => Some(format!("{} besides", now[before.len()])),
        None => before.get(now.len()).map(|missing| format!("{missing} is missing")),
    }
}

/// Readings nobody would write: bursts and silence, absences, marks, late ones, text among numbers.
fn made_up_case(round: u64, params: &[(String, crate::rules::wit::Param)]) -> Case {
    let mut dice = Dice(round.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut lines = vec![String::new(); 3];
    for (n, line) in lines.iter_mut().enumerate() {
        *line = format!("device-{n}/point =");
    }
    let (mut at_ms, mut level) = (0_u64, [20.0_f64, 0.0, -5.0]);
    for _ in 0..400 {
        at_ms += match dice.below(20) {
            0 => 30_000 + dice.below(60_000),
            1..=3 => 1000 + dice.below(10_000),
            _ => dice.below(40),
        };
        let series = usize::try_from(dice.below(3)).unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let step = dice.below(400) as f64 / 100.0 - 2.0;
        level[series] += step;
        let value = match dice.below(24) {
            0 => "none".to_owned(),
            1 => "none:offline".to_owned(),
            2 => "'text'".to_owned(),
            3 => "true".to_owned(),
            4 => format!("{:.2}:bad", level[series]),
            5 => format!("{:.2}:uncertain+substituted", level[series]),
            _ => format!("{:.2}", level[series]),
        };
        let late = if dice.below(30) == 0 { dice.below(12_000).min(at_ms) } else { 0 };
        lines[series] += &format!(" {value}@{}ms", at_ms - late);
    }
    // Written by this function alone, in the grammar that its tests hold.
    let feed = Feed::parse(lines.iter().map(String::as_str)).unwrap_or_default();
    Case {
        params: params.to_vec(),
        until: feed.ends() + 3_600_000_000,
        feed,
        expect: Expect::default(),
        lateness: Duration::from_secs(5),
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64, Marsaglia 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn in_words(subject: &Subject, troubles: &[Notice], (cases, made_up): (usize, usize)) -> String {
    let Manifest { name, version, licence, author, contract, parameters, .. } = &subject.manifest;
    let mut lines = vec![
        format!("{name} {version}  {licence}  {author}"),
        format!("  file        {}, {} bytes", subject.path.display(), subject.file.len()),
        format!("  contract    {contract}, state version {}", subject.manifest.state_version),
        format!("  uses        {}", subject.manifest.capabilities.join(", ")),
    ];
    let limits = usual(&subject.manifest);
    lines.push(format!(
        "  limits      {} fuel a reading, {} KiB memory, {} ms a call",
        limits.fuel_reading,
        limits.memory_bytes / 1024,
        limits.deadline_call.as_millis()
    ));
    for (n, parameter) in parameters.iter().enumerate() {
        let manifest::Parameter { name, kind, default, unit, help, .. } = parameter;
        let lead = if n == 0 { "  parameters" } else { "            " };
        let default = match default {
            Some(default) => format!("default {}", param_to_json(default)),
            None if parameter.optional => "optional".to_owned(),
            None => "must be given".to_owned(),
        };
        let unit = unit.as_ref().map(|unit| format!(" in {unit}")).unwrap_or_default();
        lines.push(format!("{lead}  {name}  {}{unit}, {default}  {help}", kind.word()));
    }
    for (n, output) in subject.manifest.outputs.iter().enumerate() {
        let lead = if n == 0 { "  outputs   " } else { "            " };
        let event = if output.stream == crate::reading::Stream::Event { "event " } else { "" };
        lines.push(format!("{lead}  {event}{}/{}", output.device, output.point));
    }
    lines.push(String::new());
    for trouble in troubles {
        lines.push(format!("{trouble}\n"));
    }
    lines.push(format!(
        "any batches, any restart, twice: tried on {cases} cases and {made_up} rounds of made-up \
         readings, {}",
        if troubles.is_empty() {
            "the same output each time".to_owned()
        } else {
            format!("{} troubles", troubles.len())
        }
    ));
    lines.join("\n")
}

fn as_json(subject: &Subject, troubles: &[Notice], (cases, made_up): (usize, usize)) -> String {
    let limits = usual(&subject.manifest);
    let troubles: Vec<Value> = troubles
        .iter()
        .map(|trouble| json!({ "code": trouble.code.id, "text": trouble.to_string() }))
        .collect();
    json!({
        "file": subject.path,
        "bytes": subject.file.len(),
        "manifest": subject.manifest.to_json(),
        "limits": {
            "fuel_reading": limits.fuel_reading,
            "fuel_call": limits.fuel_call,
            "memory_bytes": limits.memory_bytes,
        },
        "cases": cases,
        "rounds": made_up,
        "troubles": troubles,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_readings_are_understood_and_differ_by_round() {
        let (one, other) = (made_up_case(1, &[]), made_up_case(2, &[]));
        assert_eq!((one.feed.readings.len(), one.feed.series.len()), (400, 3));
        assert_eq!(one, made_up_case(1, &[]));
        assert_ne!(one.feed, other.feed);
        assert!(
            one.feed.readings.iter().any(|reading| reading.at < reading.arrives),
            "none is late"
        );
    }

    #[test]
    fn the_first_difference_is_found_wherever_it_is() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let tell = |before: &str, now: &str| first_difference(&lines(before), &lines(now));
        assert_eq!(tell("a b", "a b"), None);
        assert_eq!(tell("a b", "a c"), Some("c instead of b".to_owned()));
        assert_eq!(tell("a b", "a"), Some("b is missing".to_owned()));
        assert_eq!(tell("a", "a b"), Some("b besides".to_owned()));
    }
}
