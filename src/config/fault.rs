//! What is wrong with a configuration: where, what was found, why that does not do, and what would.
//! Faults are collected, sorted by place and told together.

use std::fmt;
use std::sync::Arc;

use crate::error::{Exit, Fatal};
use crate::events::{Code, config as codes};

use super::text::Place;

/// Characters of a line that an excerpt shows.
const EXCERPT_WIDTH: usize = 96;

/// One thing wrong, or worth a look.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Which kind.
    pub code: &'static Code,
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Line from 1; 0 when the whole file is meant.
    pub line: usize,
    /// Column from 1, in characters; 0 when the whole file is meant.
    pub column: usize,
    /// What was found there.
    pub found: String,
    /// Why it does not do, a sentence; may be empty.
    pub why: String,
    /// What would do, or the next command; may be empty.
    pub hint: String,
    excerpt: Option<Excerpt>,
}

/// A line of the file and where in it to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    line: String,
    lead: usize,
    width: usize,
}

/// All faults of a configuration that cannot be used, with the warnings found beside them.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// What must be mended, sorted by file and line.
    pub faults: Vec<Fault>,
    /// What may stay.
    pub warnings: Vec<Fault>,
    /// Further faults that are not kept: `limits::FAULTS_MAX` bounds the list.
    pub more: usize,
}

impl Fault {
    /// Describes trouble at a place.
    pub fn at(
        code: &'static Code,
        place: Place<'_>,
        found: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        let (line, column) = place.text.position(place.start);
        Self {
            line,
            column,
            excerpt: place.excerpt(),
            ..Self::of_file(code, &place.text.name, found, why)
        }
    }

    /// Describes trouble with a file as a whole.
    pub fn of_file(
        code: &'static Code,
        file: &str,
        found: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            code,
            file: file.into(),
            line: 0,
            column: 0,
            found: found.into(),
            why: why.into(),
            hint: String::new(),
            excerpt: None,
        }
    }

    /// Refuses what a later version will have.
    pub fn later(name: &str, what: &str, place: Place<'_>) -> Self {
        Self::at(
            &codes::LATER,
            place,
            format!("{name} asks for {what}, which this version does not have"),
            "it is refused rather than ignored, so that nobody believes it is in force",
        )
        .hint(format!("remove {name}, or install a later version"))
    }

    /// Adds what would do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Keeps the line out of the report, where it holds a secret.
    pub fn hide_excerpt(&mut self) {
        self.excerpt = None;
    }

    /// Returns it as `check --json` prints it; `weight` is `fault` or `warning`.
    #[must_use]
    pub fn to_json(&self, weight: &str) -> serde_json::Value {
        serde_json::json!({
            "code": self.code.id,
            "weight": weight,
            "file": &*self.file,
            "line": self.line,
            "column": self.column,
            "found": self.found,
            "why": self.why,
            "hint": self.hint,
        })
    }
}

impl Excerpt {
    /// Shows `line` with `width` characters marked from `column` (from 1).
    #[must_use]
    pub fn new(line: &str, column: usize, width: usize) -> Self {
        let start = if column > EXCERPT_WIDTH - 16 { column - EXCERPT_WIDTH / 2 } else { 0 };
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let line: String = line.chars().skip(start).take(EXCERPT_WIDTH).map(clean).collect();
        let lead = (column - 1 - start).min(line.chars().count());
        let width = width.clamp(1, (line.chars().count() - lead).max(1));
        Self { line, lead, width }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.code.id, self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, "  {}", self.found)?;
        if let Some(Excerpt { line, lead, width }) = &self.excerpt {
            let number = self.line;
            write!(f, "\n  {number:>5} | {line}\n        | {:lead$}{:^<width$}", "", "^")?;
        }
        if !self.why.is_empty() {
            write!(f, "\n  {}", self.why)?;
        }
        if !self.hint.is_empty() {
            write!(f, "\n  Try:    {}", self.hint)?;
        }
        Ok(())
    }
}

impl Faults {
    /// Wraps a single fault.
    #[must_use]
    pub fn one(fault: Fault) -> Self {
        Self { faults: vec![fault], ..Self::default() }
    }

    /// Returns how many faults there are, kept or not.
    #[must_use]
    pub fn count(&self) -> usize {
        self.faults.len() + self.more
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            write!(f, "{fault}\n\n")?;
        }
        if self.more > 0 {
            write!(f, "and {} more\n\n", self.more)?;
        }
        let many = if self.count() == 1 { "fault" } else { "faults" };
        write!(f, "{} {many}: this configuration cannot be used", self.count())
    }
}

impl std::error::Error for Faults {}

/// The daemon's end: misconfigured, so that systemd does not start it again.
impl From<Faults> for Fatal {
    fn from(faults: Faults) -> Self {
        Self::new(Exit::Misconfigured, faults.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_around_its_mark() {
        let line = format!("{}here{}", "a".repeat(500), "b".repeat(500));
        let excerpt = Excerpt::new(&line, 501, 4);
        assert!(excerpt.line.chars().count() <= EXCERPT_WIDTH);
        assert_eq!(&excerpt.line[excerpt.lead..excerpt.lead + excerpt.width], "here");
    }

    #[test]
    fn a_mark_never_leaves_its_line() {
        assert_eq!(Excerpt::new("", 1, 0), Excerpt { line: String::new(), lead: 0, width: 1 });
        assert_eq!(Excerpt::new("ab", 2, 99).width, 1);
    }
}
