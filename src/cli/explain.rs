//! `fieldgate explain`: the paragraph behind a code, for whoever met it in a log.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::Args;
use serde_json::json;

use crate::error::{Exit, Fatal};
use crate::events::{Code, catalogue};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The code, as in FG-M03; all codes are listed when it is absent
    code: Option<String>,
    /// JSON, one array
    #[arg(long)]
    json: bool,
}

/// Columns of a paragraph, so that it reads well on the narrowest terminal.
const COLUMNS: usize = 78;

impl Explain {
    pub(super) fn run(&self) -> Result<Exit, Fatal> {
        let asked = self.code.as_deref().map(|code| {
            let code = code.trim().to_ascii_uppercase();
            let code = if code.starts_with("FG-") { code } else { format!("FG-{code}") };
            // FG-M3 is how people say FG-M03.
            match code.as_bytes() {
                [.., family, digit] if family.is_ascii_alphabetic() && digit.is_ascii_digit() => {
                    format!("{}0{}", &code[..code.len() - 1], char::from(*digit))
                }
                _ => code,
            }
        });
        let found: Vec<&Code> =
            catalogue().filter(|c| asked.as_ref().is_none_or(|asked| c.id == asked)).collect();
        if let (Some(asked), true) = (&asked, found.is_empty()) {
            return Err(Fatal::new(
                Exit::Problem,
                format!("{asked} is no code of this version\n  Try:    fieldgate explain"),
            ));
        }
        let mut text = String::new();
        if self.json {
            let all =
                found.iter().map(|c| json!({"code": c.id, "title": c.title, "about": c.about}));
            text = serde_json::Value::Array(all.collect()).to_string();
        } else if asked.is_some() {
            for code in &found {
                let _ = write!(text, "{}  {}\n{}", code.id, code.title, wrapped(code.about));
            }
        } else {
            let lines = found.iter().map(|code| format!("{}  {}", code.id, code.title));
            text = lines.collect::<Vec<_>>().join("\n");
        }
        // A closed pipe is the reader's choice.
        let _ = writeln!(io::stdout().lock(), "{text}");
        Ok(Exit::Done)
    }
}

/// Breaks a paragraph into indented lines.
fn wrapped(paragraph: &str) -> String {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        let line = lines.last().map_or(0, String::len);
        match lines.last_mut() {
            Some(last) if line == 0 || line + 1 + word.len() <= COLUMNS => {
                if line > 0 {
                    last.push(' ');
                }
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_fits_its_columns_and_keeps_its_words() {
        for code in catalogue() {
            let text = wrapped(code.about);
            assert!(text.lines().all(|line| line.len() <= COLUMNS + 2), "{text}");
            assert!(text.split_whitespace().eq(code.about.split_whitespace()));
        }
    }
}
