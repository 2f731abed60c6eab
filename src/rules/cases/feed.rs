//! What a rule is fed, from lines such as `meter-1/power = 2.5@10s none@20s 1..9@1m..2m/1s`.

use super::scan::Scan;
use super::{BEGIN_US, Slip};
use crate::limits;
use crate::rules::wit::{Quality, Reading, Value};

/// Everything a rule is fed in one test, in the order of arrival.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Feed {
    /// Series by device and point, in the order of their first line.
    pub series: Vec<(String, String)>,
    /// Readings in the order of arrival.
    pub readings: Vec<Fed>,
}

/// One reading that is fed.
#[derive(Debug, Clone, PartialEq)]
pub struct Fed {
    /// Place of its series in [`Feed::series`].
    pub series: usize,
    /// When it was taken, microseconds since the test began.
    pub at: i64,
    /// When it arrives: later than `at` for one that stands behind a later one on its line.
    pub arrives: i64,
    /// What it shows.
    pub value: Value,
    /// How far it can be trusted.
    pub quality: Quality,
}

impl Feed {
    /// Reads the lines of `texts`; an empty line and one that begins with `#` say nothing.
    ///
    /// # Errors
    /// The first slip.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, Slip> {
        let mut feed = Self::default();
        for line in texts.into_iter().flat_map(str::lines).map(str::trim) {
            if !line.is_empty() && !line.starts_with('#') {
                feed.line(line)?;
            }
        }
        // Stable: readings that arrive together stay in the order of their lines.
        feed.readings.sort_by_key(|reading| reading.arrives);
        Ok(feed)
    }

    fn line(&mut self, line: &str) -> Result<(), Slip> {
        let mut scan = Scan::new(line);
        let (device, point) = scan.name(false)?;
        let series = self.series(device.unwrap_or_default(), point)?;
        let mut clock = i64::MIN;
        while !scan.is_done() {
            let token = scan.token()?;
            let Some(value) = token.value else {
                return Err(Slip::new(
                    format!("the value is missing before @ for {}", self.name(series)),
                    "a reading is VALUE@TIME, such as 2.5@10s",
                ));
            };
            if token.off.is_some() || token.at_off != 0 {
                return Err(Slip::new(
                    "~ stands in a feed, which says exactly what comes",
                    "remove it; tolerances belong to expect",
                ));
            }
            let (last, step) = token.row.unwrap_or((token.at, 1));
            let count = (last - token.at) / step;
            for n in 0..=count {
                let at = token.at + n * step;
                clock = clock.max(at);
                if self.readings.len() >= limits::CASE_READINGS_MAX {
                    return Err(Slip::new(
                        format!("a test has more than {} readings", limits::CASE_READINGS_MAX),
                        "make the steps of its rows longer, or split it",
                    ));
                }
                self.readings.push(Fed {
                    series,
                    at,
                    arrives: clock,
                    value: ramp(&value, token.to, n, count),
                    quality: token.quality,
                });
            }
        }
        Ok(())
    }

    fn series(&mut self, device: &str, point: &str) -> Result<usize, Slip> {
        let place = self.series.iter().position(|(d, p)| d == device && p == point);
        if let Some(place) = place {
            return Ok(place);
        }
        if self.series.len() >= limits::CASE_SERIES_MAX {
            return Err(Slip::new(
                format!("a test feeds more than {} series", limits::CASE_SERIES_MAX),
                "split it",
            ));
        }
        self.series.push((device.to_owned(), point.to_owned()));
        Ok(self.series.len() - 1)
    }

    fn name(&self, series: usize) -> String {
        self.series.get(series).map(|(d, p)| format!("{d}/{p}")).unwrap_or_default()
    }

    /// Returns when the last reading arrives, microseconds since the test began; 0 without any.
    #[must_use]
    pub fn ends(&self) -> i64 {
        self.readings.last().map_or(0, |last| last.arrives)
    }
}

impl Fed {
    /// Returns it as a rule is given it; ids are places in [`Feed::series`].
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading {
            // Bounded by CASE_SERIES_MAX.
            series: u32::try_from(self.series).unwrap_or(u32::MAX),
            at: BEGIN_US + self.at,
            quality: self.quality,
            value: self.value.clone(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most CASE_READINGS_MAX steps")]
fn ramp(value: &Value, to: Option<f64>, n: i64, count: i64) -> Value {
    match (value, to) {
        (Value::Number(from), Some(to)) if count > 0 => {
            Value::Number(from + (to - from) * (n as f64) / (count as f64))
        }
        _ => value.clone(),
    }
}
