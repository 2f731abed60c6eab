//! What must come of a test, from lines such as `event freeze @40s` and `meter-1/power.mean = 2.5@10s`.

use super::scan::Scan;
use super::{Slip, show_time, show_value};
use crate::limits;
use crate::reading::Stream;
use crate::rules::wit::{Quality, Value};

/// Everything that must come, and whether more may.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expect {
    /// What must come; in the order of time within each series.
    pub wanted: Vec<Wanted>,
    /// `...`: series that are not named may come too.
    pub others: bool,
}

/// One reading or event that must come.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// [`Stream::Data`] or [`Stream::Event`].
    pub stream: Stream,
    /// Device; any when only a point was written.
    pub device: Option<String>,
    /// Point.
    pub point: String,
    /// What must come; `None` for a series that must stay silent.
    pub shows: Option<Shows>,
}

/// Value, quality and time of what must come.
#[derive(Debug, Clone, PartialEq)]
pub struct Shows {
    /// The value; any when only a time was written.
    pub value: Option<Value>,
    /// What a number may be off by; without it nine digits must agree.
    pub off: Option<f64>,
    /// Flags that must be set, and no others but `derived`.
    pub quality: Quality,
    /// When, microseconds since the test began.
    pub at: i64,
    /// What the time may be off by, microseconds.
    pub at_off: i64,
}

impl Expect {
    /// Reads the lines of `texts`; an empty line and one that begins with `#` say nothing.
    ///
    /// # Errors
    /// The first slip.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, Slip> {
        let (mut expect, mut lines) = (Self::default(), 0_usize);
        for line in texts.into_iter().flat_map(str::lines).map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            lines += 1;
            match line {
                "nothing" => {}
                "..." => expect.others = true,
                line => expect.line(line)?,
            }
        }
        if lines == 0 {
            return Err(Slip::new(
                "nothing is said of what must come",
                "expect = \"nothing\" when the rule must stay silent",
            ));
        }
        Ok(expect)
    }

    /// Expects nothing in particular: whatever comes is right.
    #[must_use]
    pub fn anything() -> Self {
        Self { wanted: Vec::new(), others: true }
    }

    fn line(&mut self, line: &str) -> Result<(), Slip> {
        let mut scan = Scan::new(line);
        let stream = if scan.word("event") { Stream::Event } else { Stream::Data };
        let (device, point) = scan.name(stream == Stream::Event)?;
        let mut wanted = Wanted {
            stream,
            device: device.map(str::to_owned),
            point: point.to_owned(),
            shows: None,
        };
        if scan.word("nothing") {
            self.wanted.push(wanted);
            return Ok(());
        }
        if scan.is_done() {
            return Err(Slip::new(
                format!("what must come of {} is missing", wanted.name()),
                format!("{} = 2.5@10s, or {} = nothing", wanted.name(), wanted.name()),
            ));
        }
        while !scan.is_done() {
            let token = scan.token()?;
            let (last, step) = token.row.unwrap_or((token.at, 1));
            if token.to.is_some() {
                return Err(Slip::new("a ramp stands in an expectation", "write its readings out"));
            }
            for n in 0..=(last - token.at) / step {
                if self.wanted.len() >= limits::CASE_READINGS_MAX {
                    return Err(Slip::new(
                        format!("a test expects more than {}", limits::CASE_READINGS_MAX),
                        "split it",
                    ));
                }
                wanted.shows = Some(Shows {
                    value: token.value.clone(),
                    off: token.off,
                    quality: token.quality,
                    at: token.at + n * step,
                    at_off: token.at_off,
                });
                self.wanted.push(wanted.clone());
            }
        }
        Ok(())
    }
}

impl Wanted {
    /// Returns `event freeze`, `meter-1/power`.
    #[must_use]
    pub fn name(&self) -> String {
        let event = if self.stream == Stream::Event { "event " } else { "" };
        match &self.device {
            Some(device) => format!("{event}{device}/{}", self.point),
            None => format!("{event}{}", self.point),
        }
    }

    /// Returns it as it would be written.
    #[must_use]
    pub fn line(&self) -> String {
        let Some(shows) = &self.shows else { return format!("{} = nothing", self.name()) };
        let value = shows.value.as_ref().map(show_value).unwrap_or_default();
        let flags = shows.value.as_ref().map(|v| super::show_flags(v, shows.quality));
        let equals = if shows.value.is_some() { " = " } else { " " };
        format!(
            "{}{equals}{value}{}@{}",
            self.name(),
            flags.unwrap_or_default(),
            show_time(shows.at)
        )
    }
}
