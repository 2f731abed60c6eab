//! `rule test`: the cases beside a rule, on the host that gateways have.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use toml::de::DeTable;

use super::machine::{Machine, Subject, usual};
use super::{cases, ends, say};
use crate::error::{Exit, Fatal};
use crate::events::Notice;
use crate::events::author as told;
use crate::rules::cases::{Case, Cuts, Played, Verdict, compare, play};
use crate::rules::{Failure, Manifest};

/// Runs the cases in tests/*.toml
#[derive(Debug, Args)]
#[command(after_help = "A case says what goes in and what must come out:
  [what_moved_is_sent]
  with   = { band = 0.5 }
  feed   = \"boiler/temp = 20.0@0s 20.3@10s 20.6@20s\"
  expect = \"boiler/temp = 20.0@0s 20.6@20s\"

Each runs as native code and in the interpreter (which gateways use where memory
may not become executable), and both must agree. docs/rules-testing.md has the
whole grammar.

With --recording the rule is only fed, and what it makes of it is counted:
  fieldgate rule test --recording pump.csv --with 'band = 0.5' --show")]
pub(in crate::cli) struct Test {
    /// The rule's folder, which is built first, or a .wasm file
    #[arg(default_value = ".", value_name = "DIR|FILE")]
    rule: PathBuf,
    /// Folder whose tests/*.toml to run; default: the rule's
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Only cases whose name contains this
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Feed it this recording instead: .csv, .ndjson, or batches as exported
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cases", "only"])]
    recording: Option<PathBuf>,
    /// Parameters for the recording, as in with: 'band = 0.5'
    #[arg(long, value_name = "TOML", requires = "recording")]
    with: Option<String>,
    /// Show what came, also where it was expected
    #[arg(long)]
    show: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// How one case went on all machines.
struct Result_ {
    name: String,
    /// What came on the first machine.
    played: Option<Played>,
    trouble: Option<Notice>,
}

impl Test {
    pub(super) fn run(self) -> Result<Exit, Fatal> {
        let problem = |notice: Notice| ends(Exit::Problem, &notice);
        let subject = Subject::of(&self.rule).map_err(problem)?;
        if let Some(path) = &self.recording {
            return self.feed(&subject, path).map_err(problem);
        }
        let folder = self.cases.clone().unwrap_or_else(|| subject.folder.clone());
        let (all, faults) = cases::read_all(&folder, &subject.manifest);
        if all.is_empty() && faults.is_empty() {
            return Err(problem(told::no_cases(&folder)));
        }
        let machines = subject.machines().map_err(problem)?;
        let chosen = |name: &str| self.only.as_ref().is_none_or(|word| name.contains(word));
        let results: Vec<_> = all
            .into_iter()
            .filter(|named| chosen(&named.name))
            .map(|named| one(&subject.manifest, &machines, named))
            .collect();
        let failed = results.iter().filter(|result| result.trouble.is_some()).count();
        if self.json {
            self.tell_json(&results, &faults);
        } else {
            self.tell(&results, &faults, &machines);
        }
        Ok(if failed + faults.len() == 0 { Exit::Done } else { Exit::Problem })
    }

    /// Feeds the rule a recording, and counts what comes.
    fn feed(&self, subject: &Subject, path: &Path) -> Result<Exit, Notice> {
        let name = path.display().to_string();
        let feed = cases::recording(path)?;
        let given = (feed.readings.len(), feed.series.len());
        let bad = |what: &str, hint: &str| told::bad_case(&name, what, hint);
        let with = self.with.as_deref().unwrap_or_default();
        let with = DeTable::parse(with).map_err(|_| bad("--with is no TOML", "'band = 0.5'"))?;
        let params = subject.manifest.params(with.get_ref()).map_err(|faults| {
            let first = faults.into_iter().next();
            first.map_or_else(
                || bad("--with does not do", ""),
                |fault| bad(&fault.found, &fault.hint),
            )
        })?;
        let case = Case::feeding(feed, params);
        let machines = subject.machines()?;
        let fed = one(&subject.manifest, &machines, cases::Named { name, case });
        if let (Some(trouble), None) = (&fed.trouble, &fed.played) {
            return Err(trouble.clone());
        }
        let played = fed.played.unwrap_or_default();
        if self.json {
            let came: Vec<_> = played.came.iter().map(ToString::to_string).collect();
            let came = if self.show { json!(came) } else { json!(null) };
            say(&json!({
                "readings": given.0, "series": given.1, "emitted": played.came.len(),
                "fuel": played.fuel, "ok": fed.trouble.is_none(), "came": came,
            })
            .to_string());
        } else {
            let lines = played.came.iter().filter(|_| self.show);
            lines.for_each(|came| say(&came.to_string()));
            let on: Vec<_> = machines.iter().map(|machine| machine.name).collect();
            let fuel = played.fuel / (given.0 as u64).max(1);
            say(&format!(
                "{}: {} readings of {} series in, {} out, {fuel} fuel a reading  (on {})",
                fed.name,
                given.0,
                given.1,
                played.came.len(),
                on.join(" and ")
            ));
        }
        match fed.trouble {
            Some(trouble) => Err(trouble),
            None => Ok(Exit::Done),
        }
    }

    fn tell(&self, results: &[Result_], faults: &[Notice], machines: &[Machine]) {
        for result in results {
            match &result.trouble {
                None => say(&format!("ok      {}", result.name)),
                Some(trouble) => say(&format!("FAILED  {}\n{trouble}\n", result.name)),
            }
            if self.show {
                for came in result.played.iter().flat_map(|played| &played.came) {
                    say(&format!("          {came}"));
                }
            }
            for (level, line) in result.played.iter().flat_map(|played| &played.log) {
                say(&format!("        log {}: {line}", super::level(*level)));
            }
        }
        for fault in faults {
            say(&format!("{fault}\n"));
        }
        let failed = results.iter().filter(|result| result.trouble.is_some()).count();
        let on: Vec<_> = machines.iter().map(|machine| machine.name).collect();
        let cases = results.len() + faults.len();
        let many = if cases == 1 { "case" } else { "cases" };
        say(&format!(
            "\n{cases} {many}, {} failed  (on {})",
            failed + faults.len(),
            on.join(" and ")
        ));
    }

    fn tell_json(&self, results: &[Result_], faults: &[Notice]) {
        let ran = results.iter().map(|result| {
            let came: Vec<_> =
                result.played.iter().flat_map(|p| &p.came).map(|c| c.to_string()).collect();
            json!({
                "case": result.name,
                "ok": result.trouble.is_none(),
                "trouble": result.trouble.as_ref().map(Notice::to_string),
                "came": came,
                "fuel": result.played.as_ref().map(|played| played.fuel),
            })
        });
        let broken = faults.iter().map(
            |fault| json!({ "case": fault.subject, "ok": false, "trouble": fault.to_string() }),
        );
        say(&serde_json::Value::Array(ran.chain(broken).collect()).to_string());
    }
}

fn one(manifest: &Manifest, machines: &[Machine], named: cases::Named) -> Result_ {
    let cases::Named { name, case } = named;
    let mut first: Option<Played> = None;
    for machine in machines {
        let trouble = match run(manifest, machine, &case, Cuts::WHOLE) {
            Err(failure) => Some(failed(&name, machine, &failure)),
            Ok(played) => match (compare(&case.expect, &played.came), &first) {
                (Verdict::Failed { difference, came }, None) => {
                    first = Some(played);
                    Some(told::case_failed(&name, &difference, &came))
                }
                (_, Some(before)) if before.came != played.came || before.fuel != played.fuel => {
                    let what = format!(
                        "{} and {} do not agree (fuel {} and {})",
                        machines[0].name, machine.name, before.fuel, played.fuel
                    );
                    Some(told::case_failed(&name, &what, &[]))
                }
                _ => {
                    first.get_or_insert(played);
                    None
                }
            },
        };
        if trouble.is_some() {
            return Result_ { name, played: first, trouble };
        }
    }
    Result_ { name, played: first, trouble: None }
}

fn failed(name: &str, machine: &Machine, failure: &Failure) -> Notice {
    let Failure { code, message } = failure;
    told::case_failed(
        name,
        &format!("on {} the rule failed ({code}): {message}", machine.name),
        &[],
    )
}

/// Runs a case within the limits that a gateway sets by itself.
pub(super) fn run(
    manifest: &Manifest,
    machine: &Machine,
    case: &Case,
    cuts: Cuts,
) -> Result<Played, Failure> {
    let limits = usual(manifest);
    play(case, &|series, kept| machine.open(manifest, &case.params, limits, series, kept), cuts)
}
