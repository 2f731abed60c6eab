//! A gateway's own `[test.NAME]` tables, held against another version of the rule they name before
//! that is let in. They are read anew for it: its manifest may have other parameters.

use std::time::Instant;

use toml::de::DeTable;

use super::{Case, Cuts, Open, Verdict, compare, play};
use crate::limits;
use crate::rules::definition::Proof;
use crate::rules::wit::{Context, Fired, Reading, Series};
use crate::rules::{Definition, Failure, Loaded, Manifest, Outcome, Rule, Settings};

/// Why a case does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fell {
    /// What was expected and what came, a sentence without full stop.
    pub difference: String,
    /// What came, as lines of an expectation; empty when the rule failed.
    pub came: Vec<String>,
}

/// Runs a case and compares what came.
///
/// # Errors
/// The first difference, or how the rule failed.
pub fn hold(case: &Case, open: Open<'_>) -> Result<(), Fell> {
    let failed = |failure: Failure| Fell {
        difference: format!("the rule failed ({}): {}", failure.code, failure.message),
        came: Vec::new(),
    };
    let played = play(case, open, Cuts::WHOLE).map_err(failed)?;
    match compare(&case.expect, &played.came) {
        Verdict::Passed => Ok(()),
        Verdict::Failed { difference, came } => Err(Fell { difference, came }),
    }
}

/// Runs every case that the gateway has for a rule, within [`limits::CASES_TIME_MAX`] all together.
///
/// # Errors
/// The first case that does not hold: its name, what was expected and what came, a sentence.
pub fn hold_all(rule: &Definition, loaded: &dyn Loaded) -> Result<(), String> {
    if rule.written.tests.is_empty() {
        return Ok(());
    }
    let manifest = Manifest::read(&rule.code).ok().flatten().ok_or("it has no manifest")?;
    let until = Instant::now() + limits::CASES_TIME_MAX;
    for proof in &*rule.written.tests {
        let fails = |why: &str| format!("it fails test.{} of this gateway: {why}", proof.name);
        let case = read(proof, rule, &manifest).map_err(|why| fails(&why))?;
        let settings = Settings { params: case.params.clone(), ..rule.settings.clone() };
        let open = |series: &[Series], kept| {
            let opened = loaded.open(&settings, series, kept)?;
            Ok(Box::new(Timed { rule: opened.rule, until }) as Box<dyn Rule>)
        };
        hold(&case, &open).map_err(|fell| match fell.came.as_slice() {
            [] => fails(&fell.difference),
            came => fails(&format!("{}. What came: {}", fell.difference, came.join("; "))),
        })?;
    }
    Ok(())
}

fn read(proof: &Proof, rule: &Definition, manifest: &Manifest) -> Result<Case, String> {
    let unread = |_| "its table cannot be read again".to_owned();
    let with = match &*rule.written.with {
        "" => "{}",
        with => with,
    };
    let text = format!("base = {with}\ncase = {}", proof.table);
    let tables = DeTable::parse(&text).map_err(unread)?;
    let table = |key: &str| tables.get_ref().get(key).and_then(|table| table.get_ref().as_table());
    let empty = DeTable::new();
    let (base, case) = (table("base").unwrap_or(&empty), table("case").unwrap_or(&empty));
    let case = (case, &*proof.folder);
    Case::read(case, manifest, base, Some(rule.lateness)).map_err(|faults| {
        let told: Vec<_> = faults.into_iter().map(|fault| fault.found).collect();
        format!("it does not fit this version: {}", told.join("; "))
    })
}

/// A rule under test whose calls end when the time for all tests is over. One call is bounded by the
/// rule's own limits.
struct Timed {
    rule: Box<dyn Rule>,
    until: Instant,
}

impl Timed {
    fn look(&self) -> Result<(), Failure> {
        if Instant::now() < self.until {
            return Ok(());
        }
        let seconds = limits::CASES_TIME_MAX.as_secs();
        let message = format!("the tests of this rule take longer than {seconds} s");
        Err(Failure { code: "test.time".to_owned(), message })
    }
}

impl Rule for Timed {
    fn series_added(&mut self, series: &[Series]) -> Result<(), Failure> {
        self.look()?;
        self.rule.series_added(series)
    }

    fn process(&mut self, context: &Context, batch: &[Reading]) -> Result<Outcome, Failure> {
        self.look()?;
        self.rule.process(context, batch)
    }

    fn on_timer(&mut self, context: &Context, fired: &[Fired]) -> Result<Outcome, Failure> {
        self.look()?;
        self.rule.on_timer(context, fired)
    }
}
