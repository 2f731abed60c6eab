//! Which readings a rule takes: `device/point` with `*` for any run of characters, `*` alone for all.
//!
//! A bare `*` behind the slash means the points of sources. What rules make is taken by a pattern that
//! says something about the point's name (`meter/*.mean`): else two rules over all points of a device
//! would feed each other whatever they make.

use std::fmt;

/// One pattern of a rule's `on`, or a family of outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    device: Box<str>,
    point: Box<str>,
}

impl Pattern {
    /// Takes a pattern apart.
    ///
    /// # Errors
    /// When it has no `/`, or nothing on one side of it; says what would do.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::of("*", "*"));
        }
        match text.split_once('/') {
            Some((device, point)) if !device.is_empty() && !point.is_empty() => {
                Ok(Self::of(device, point))
            }
            _ => Err("a pattern is DEVICE/POINT, in which * stands for anything".to_owned()),
        }
    }

    /// The pattern of these two parts.
    #[must_use]
    pub fn of(device: &str, point: &str) -> Self {
        Self { device: device.into(), point: point.into() }
    }

    /// Returns the part before the slash.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Returns the part behind it.
    #[must_use]
    pub fn point(&self) -> &str {
        &self.point
    }

    /// Returns whether it takes this point.
    #[must_use]
    pub fn takes(&self, device: &str, point: &str) -> bool {
        fits(self.device.as_bytes(), device.as_bytes())
            && fits(self.point.as_bytes(), point.as_bytes())
    }

    /// Returns whether it takes this point when a rule makes it.
    #[must_use]
    pub fn takes_made(&self, device: &str, point: &str) -> bool {
        &*self.point != "*" && self.takes(device, point)
    }

    /// Returns whether it takes some of what a rule makes under such names.
    #[must_use]
    pub fn may_take(&self, made: &Self) -> bool {
        &*self.point != "*" && self.meets(made)
    }

    /// Returns whether there is a name that both take.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        meet(self.device.as_bytes(), other.device.as_bytes())
            && meet(self.point.as_bytes(), other.point.as_bytes())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.point)
    }
}

/// Matches with one memory of the last star: linear but for the retries behind it.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p) == name.get(n) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, from)) = star {
            (p, n) = (at + 1, from + 1);
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether two patterns have a name in common: a table over their lengths, row by row.
fn meet(a: &[u8], b: &[u8]) -> bool {
    let mut row = vec![false; b.len() + 1];
    for i in 0..=a.len() {
        let above = row.clone();
        for j in 0..=b.len() {
            row[j] = (i == 0 && j == 0)
                || (i > 0 && a[i - 1] == b'*' && (above[j] || (j > 0 && row[j - 1])))
                || (j > 0 && b[j - 1] == b'*' && (row[j - 1] || (i > 0 && above[j])))
                || (i > 0 && j > 0 && a[i - 1] == b[j - 1] && above[j - 1]);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters_within_its_part() {
        for (text, device, point, takes) in [
            ("meter-1/*", "meter-1", "power", true),
            ("meter-1/*", "meter-10", "power", false),
            ("meter-*/power", "meter-10", "power", true),
            ("*/temp*", "x", "temperature", true),
            ("*/*temp", "x", "supply_temp", true),
            ("*/a*b*c", "x", "aXbXbc", true),
            ("*/a*b*c", "x", "acb", false),
            ("*", "x", "y/z", true),
            ("x/y/*", "x", "y/z", true),
            ("x/y", "x", "y/z", false),
        ] {
            assert_eq!(pattern(text).takes(device, point), takes, "{text} {device}/{point}");
        }
        for text in ["", "meter", "/x", "x/"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn two_patterns_meet_when_a_name_fits_both() {
        for (a, b, meets) in [
            ("a/*", "a/x", true),
            ("a*/x", "*b/x", true),
            ("a*/x", "b*/x", false),
            ("*/x_mean", "*/*_max", false),
            ("*/x*y", "*/*z*y", true),
            ("*/*", "q/r", true),
        ] {
            assert_eq!(pattern(a).meets(&pattern(b)), meets, "{a} {b}");
            assert_eq!(pattern(b).meets(&pattern(a)), meets, "{b} {a}");
        }
    }
}
