//! What came against what must come: series by series, each in the order it came.

use super::{Came, Expect, Wanted, show_time, show_value};
use crate::rules::wit::{Quality, Value};

/// How a test went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything came as expected.
    Passed,
    /// Something else came.
    Failed {
        /// The first difference, a sentence without full stop.
        difference: String,
        /// What came instead, as lines of an expectation.
        came: Vec<String>,
    },
}

/// Lines of what came that a verdict shows.
const LINES_SHOWN: usize = 12;

/// Compares; `came` is in the order in which it was emitted.
#[must_use]
pub fn compare(expect: &Expect, came: &[Came]) -> Verdict {
    match first_difference(expect, came) {
        None => Verdict::Passed,
        Some(difference) => {
            let mut lines: Vec<_> = came.iter().take(LINES_SHOWN).map(Came::to_string).collect();
            if came.len() > LINES_SHOWN {
                lines.push(format!("and {} more", came.len() - LINES_SHOWN));
            }
            Verdict::Failed { difference, came: lines }
        }
    }
}

fn first_difference(expect: &Expect, came: &[Came]) -> Option<String> {
    let mut used = vec![false; came.len()];
    let mut begun: Vec<&Wanted> = Vec::new();
    for first in &expect.wanted {
        if begun.iter().any(|other| other.is_same_series(first)) {
            continue;
        }
        begun.push(first);
        let wanted = expect.wanted.iter().filter(|w| w.is_same_series(first) && w.shows.is_some());
        let mut of_series =
            came.iter().enumerate().filter(|(_, came)| first.is_series_of(came)).map(|(n, _)| n);
        for wanted in wanted {
            let Some(n) = of_series.next() else {
                let name = wanted.name();
                let others: Vec<_> =
                    came.iter().filter(|came| !first.is_series_of(came)).take(1).collect();
                return Some(match others.as_slice() {
                    [] => format!("expected {}, nothing more came", wanted.line()),
                    [other] => {
                        format!(
                            "expected {}, nothing more came of {name}; {other} did",
                            wanted.line()
                        )
                    }
                    _ => return None,
                });
            };
            used[n] = true;
            if let Some(why) = wanted.differs(&came[n]) {
                return Some(format!("expected {}, came {} ({why})", wanted.line(), came[n]));
            }
        }
        if let Some(n) = of_series.next() {
            return Some(format!("{} came, and nothing more was expected of it", came[n]));
        }
    }
    if expect.others {
        return None;
    }
    let besides = used.iter().position(|used| !used)?;
    let nothing = expect.wanted.iter().all(|wanted| wanted.shows.is_none());
    Some(match nothing {
        true => format!("expected nothing, came {}", came[besides]),
        false => format!(
            "{} came besides, which was not expected (a line \"...\" allows other series)",
            came[besides]
        ),
    })
}

impl Wanted {
    fn is_same_series(&self, other: &Self) -> bool {
        (self.stream, &self.device, &self.point) == (other.stream, &other.device, &other.point)
    }

    fn is_series_of(&self, came: &Came) -> bool {
        self.stream == came.stream
            && self.point == came.point
            && self.device.as_ref().is_none_or(|device| *device == came.device)
    }

    /// Says why a reading of the right series is not the one that must come.
    fn differs(&self, came: &Came) -> Option<String> {
        let shows = self.shows.as_ref()?;
        if came.at.abs_diff(shows.at) > shows.at_off.unsigned_abs() {
            let (early, late) = (came.at < shows.at, came.at.abs_diff(shows.at));
            let by = show_time(i64::try_from(late).unwrap_or(i64::MAX));
            return Some(format!("{by} {}", if early { "too early" } else { "too late" }));
        }
        if let Some(value) = &shows.value
            && !same(value, &came.value, shows.off)
        {
            return Some(match (value, number(&came.value)) {
                (Value::Number(n), Some(came)) => format!("off by {}", (came - n).abs()),
                _ => format!("{} is not {}", show_value(&came.value), show_value(value)),
            });
        }
        if shows.value.is_some()
            && (came.quality | Quality::DERIVED) != (shows.quality | Quality::DERIVED)
        {
            return Some("its quality differs".to_owned());
        }
        None
    }
}

fn same(wanted: &Value, came: &Value, off: Option<f64>) -> bool {
    match (number(wanted), number(came)) {
        (Some(wanted), Some(came)) => {
            let off = off.unwrap_or(1e-9 * wanted.abs().max(came.abs()));
            (wanted - came).abs() <= off
        }
        (None, None) => wanted == came,
        _ => false,
    }
}

#[expect(clippy::cast_precision_loss, reason = "nine digits are compared")]
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => Some(*n),
        Value::Integer(n) => Some(*n as f64),
        _ => None,
    }
}
