//! Words of a line: names, values, flags and times, cut off its front one after the other.

use super::{FLAGS, REASONS, Slip};
use crate::rules::wit::{NoData, Quality, Value};

/// What is left of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    rest: &'a str,
}

/// `VALUE[~TOLERANCE][:FLAGS]@TIME[~TOLERANCE][..TIME/STEP]`, times in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    /// `None` when only a time was written.
    pub value: Option<Value>,
    /// `1..9`: where a ramp ends.
    pub to: Option<f64>,
    /// What the number may be off by.
    pub off: Option<f64>,
    /// Flags that were written.
    pub quality: Quality,
    pub at: i64,
    /// What the time may be off by.
    pub at_off: i64,
    /// Last time and step of a row of readings.
    pub row: Option<(i64, i64)>,
}

type Cut<T> = Result<T, Slip>;

impl<'a> Scan<'a> {
    pub fn new(line: &'a str) -> Self {
        Self { rest: line.trim() }
    }

    pub fn is_done(&mut self) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.is_empty()
    }

    /// Takes a whole word if it comes next.
    pub fn word(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(rest) if rest.is_empty() || rest.starts_with(char::is_whitespace) => {
                self.rest = rest.trim_start();
                true
            }
            _ => false,
        }
    }

    fn sign(&mut self, sign: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(sign) else { return false };
        self.rest = rest;
        true
    }

    fn while_(&mut self, is: impl Fn(char) -> bool) -> &'a str {
        let len = self.rest.find(|c| !is(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(len);
        self.rest = rest;
        word
    }

    /// A name, `device/point` or (with `short`) `point`; an equals sign behind it is passed over.
    pub fn name(&mut self, short: bool) -> Cut<(Option<&'a str>, &'a str)> {
        let name = self.while_(|c| !c.is_whitespace() && c != '=' && c != '@');
        self.rest = self.rest.trim_start();
        self.sign("=");
        self.rest = self.rest.trim_start();
        let (device, point) = match name.split_once('/') {
            Some((device, point)) => (Some(device), point),
            None => (None, name),
        };
        let empty = point.is_empty() || device == Some("");
        if empty || point.contains('/') || (device.is_none() && !short) {
            return Err(Slip::new(
                format!("\"{}\" is no series", name.escape_debug()),
                "a line begins with DEVICE/POINT =",
            ));
        }
        Ok((device, point))
    }

    pub fn token(&mut self) -> Cut<Token> {
        self.rest = self.rest.trim_start();
        let whole = self.rest.split_whitespace().next().unwrap_or_default();
        let slip = |found: String| {
            Slip::new(
                format!("{found} in \"{}\"", whole.escape_debug()),
                "a reading is VALUE@TIME, such as 2.5@10s, true@1m30s, 'text'@0s or none@5s",
            )
        };
        let (value, to) = self.value().map_err(&slip)?;
        let off =
            if self.sign("~") {
                Some(self.number().filter(|off| *off >= 0.0).ok_or_else(|| {
                    slip("~ is followed by how far a number may be off".to_owned())
                })?)
            } else {
                None
            };
        let mut quality = Quality::empty();
        let mut value = value;
        if self.sign(":") {
            self.flags(&mut value, &mut quality).map_err(&slip)?;
        }
        if !self.sign("@") {
            return Err(slip("the time is missing".to_owned()));
        }
        let at = self.time().map_err(&slip)?;
        let at_off = if self.sign("~") { self.time().map_err(&slip)? } else { 0 };
        let mut row = None;
        if self.sign("..") {
            let last = self.time().map_err(&slip)?;
            if !self.sign("/") {
                return Err(slip("a row of readings needs its step, FROM..TO/STEP".to_owned()));
            }
            let step = self.time().map_err(&slip)?;
            if step <= 0 || last < at {
                return Err(slip("the row of readings leads nowhere".to_owned()));
            }
            row = Some((last, step));
        }
        if to.is_some() && row.is_none() {
            return Err(slip("a ramp needs its row of times, @FROM..TO/STEP".to_owned()));
        }
        if !self.rest.is_empty() && !self.rest.starts_with(char::is_whitespace) {
            return Err(slip(format!(
                "\"{}\" stands behind the time",
                self.rest.chars().take(20).collect::<String>().escape_debug()
            )));
        }
        Ok(Token { value, to, off, quality, at, at_off, row })
    }

    fn value(&mut self) -> Result<(Option<Value>, Option<f64>), String> {
        if self.rest.starts_with('@') {
            return Ok((None, None));
        }
        for quote in ['"', '\''] {
            if let Some(rest) = self.rest.strip_prefix(quote) {
                let Some((text, rest)) = rest.split_once(quote) else {
                    return Err("a quote is not closed".to_owned());
                };
                self.rest = rest;
                return Ok((Some(Value::Text(text.to_owned())), None));
            }
        }
        let words = [
            ("true", Value::Boolean(true)),
            ("false", Value::Boolean(false)),
            ("none", Value::None(NoData::Timeout)),
        ];
        for (word, value) in words {
            if self.sign(word) {
                return Ok((Some(value), None));
            }
        }
        let from = self.number().ok_or("there is no value")?;
        let to =
            if self.sign("..") { Some(self.number().ok_or("a ramp has two ends")?) } else { None };
        Ok((Some(Value::Number(from)), to))
    }

    fn number(&mut self) -> Option<f64> {
        let bytes = self.rest.as_bytes();
        let mut len = 0;
        while let Some(byte) = bytes.get(len) {
            let dots = *byte == b'.' && bytes.get(len + 1) == Some(&b'.');
            let after_e = len > 0 && matches!(bytes[len - 1], b'e' | b'E');
            let sign = matches!(byte, b'-' | b'+') && (len == 0 || after_e);
            if dots || !(byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E') || sign) {
                break;
            }
            len += 1;
        }
        let number = self.rest[..len].parse::<f64>().ok().filter(|number| number.is_finite())?;
        self.rest = &self.rest[len..];
        Some(number)
    }

    fn flags(&mut self, value: &mut Option<Value>, quality: &mut Quality) -> Result<(), String> {
        for word in self.while_(|c| c.is_ascii_alphanumeric() || c == '-' || c == '+').split('+') {
            let reason = REASONS.iter().find(|(known, _)| *known == word);
            if let (Some((_, why)), Some(Value::None(at))) = (reason, value.as_mut()) {
                *at = *why;
            } else if let Some((_, flag)) = FLAGS.iter().find(|(known, _)| *known == word) {
                *quality |= *flag;
            } else {
                let known = FLAGS.map(|(word, _)| word).join(", ");
                return Err(format!("\"{}\" is none of {known}", word.escape_debug()));
            }
        }
        Ok(())
    }

    fn time(&mut self) -> Result<i64, String> {
        let word = self.while_(|c| c.is_ascii_alphanumeric());
        let duration = humantime::parse_duration(word).map_err(|_| {
            if word.parse::<u64>().is_ok() {
                format!("the time {word} has no unit (ms, s, m, h, d)")
            } else {
                format!("\"{}\" is no time since the test began", word.escape_debug())
            }
        })?;
        // Half of what a timestamp holds, so that sums of two stay within.
        i64::try_from(duration.as_micros())
            .ok()
            .filter(|us| *us < i64::MAX / 4)
            .ok_or_else(|| "the time is too far away".to_owned())
    }
}
