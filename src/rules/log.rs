//! The lines a rule may write: a burst, then a trickle, counted by the readings' own clock, so that a
//! replay writes the same.

use super::wit::Level;
use crate::limits;

/// Microseconds of a minute.
const MINUTE_US: i64 = 60_000_000;

/// The lines of the call under way, and what the rule has left of its allowance.
pub(super) struct Lines {
    written: Vec<(Level, String)>,
    /// Lines it may still write, in thousandths.
    left: i64,
    /// The readings' clock when it was last counted.
    counted: Option<i64>,
    /// Lines that a minute earns.
    per_minute: u32,
    /// Lines that were left out since the last one that was not.
    silenced: u64,
}

impl Lines {
    /// A full burst, and so many lines a minute after it.
    pub fn new(per_minute: u32) -> Self {
        let left = i64::from(limits::RULE_LOG_BURST) * 1000;
        Self { written: Vec::new(), left, counted: None, per_minute, silenced: 0 }
    }

    /// Begins a call at `now`, in microseconds of the readings' clock; one without it earns nothing.
    pub fn begin(&mut self, now: Option<i64>) {
        self.written.clear();
        let Some(now) = now else { return };
        let passed = now.saturating_sub(self.counted.unwrap_or(now)).clamp(0, 60 * MINUTE_US);
        let earned = passed * i64::from(self.per_minute) / (MINUTE_US / 1000);
        // A clock that was set back earns nothing and costs nothing.
        self.counted = Some(now);
        self.left = (self.left + earned).min(i64::from(limits::RULE_LOG_BURST) * 1000);
    }

    /// Writes a line, if the rule has one left.
    pub fn write(&mut self, level: Level, message: &str) {
        if self.left < 1000 {
            self.silenced += 1;
            return;
        }
        self.left -= 1000;
        if self.silenced > 0 {
            let n = std::mem::take(&mut self.silenced);
            let told = format!("{n} lines before this one were left out: it wrote too many");
            self.written.push((Level::Warn, told));
        }
        self.written.push((level, shortened(message)));
    }

    /// Takes the lines of the call.
    pub fn take(&mut self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.written)
    }

    /// The call's last line that was more than chatter.
    pub fn last(&self) -> Option<&str> {
        let serious = |(level, _): &&(Level, String)| matches!(level, Level::Warn | Level::Error);
        self.written.iter().rev().find(serious).map(|(_, line)| line.as_str())
    }
}

/// One line of what may be many, no longer than a line may be.
pub(super) fn shortened(message: &str) -> String {
    let end = message.floor_char_boundary(limits::RULE_LOG_LINE_BYTES_MAX);
    let mut line: String =
        message[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if end < message.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_lines_trickle_and_what_is_left_out_is_counted() {
        let mut lines = Lines::new(20);
        lines.begin(Some(0));
        for n in 0..1000 {
            lines.write(Level::Info, &n.to_string());
        }
        assert_eq!(lines.take().len(), 50);
        // Three seconds earn one line of twenty a minute.
        lines.begin(Some(3_000_000));
        lines.write(Level::Info, "again");
        lines.write(Level::Info, "too soon");
        let told = lines.take();
        assert_eq!(told[0].1, "950 lines before this one were left out: it wrote too many");
        assert_eq!(told[1].1, "again");
        // A clock set back by a year earns nothing; its going on does.
        lines.begin(Some(-1));
        lines.write(Level::Info, "too soon");
        assert!(lines.take().is_empty());
        lines.begin(Some(i64::MAX));
        for _ in 0..1000 {
            lines.write(Level::Info, "much later");
        }
        assert_eq!(lines.take().len(), 51);
    }

    #[test]
    fn a_line_is_one_line_and_ends_between_characters() {
        let long = "ä".repeat(1000);
        let line = shortened(&long);
        assert_eq!(line.chars().count(), 513);
        assert!(line.ends_with("ä…"));
        assert_eq!(shortened("a\nb\0c"), "a b c");
    }
}
