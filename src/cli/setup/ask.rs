//! Questions and answers: from a terminal, from a pipe, from a file, from flags. Each question has a
//! key and a default, so that all of them can be answered beforehand.

use std::collections::HashMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Command;

use crate::error::{Exit, Fatal};

/// Why a walk through the questions ended early.
pub(super) enum Stopped {
    /// The person left: Ctrl-D at a question, or no to the last one.
    Left,
    /// It cannot go on.
    Fatal(Fatal),
}

impl From<Fatal> for Stopped {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

/// Who asks.
pub(super) struct Asker {
    answers: HashMap<String, String>,
    /// Nobody is asked.
    silent: bool,
    terminal: bool,
    /// The pipe has ended: from here on all is defaults.
    ended: bool,
}

impl Asker {
    /// Takes answers from a file and from flags; the rest is asked, unless `yes`.
    pub(super) fn new(file: Option<&Path>, set: &[String], yes: bool) -> Result<Self, String> {
        let mut answers = HashMap::new();
        if let Some(file) = file {
            let text = std::fs::read_to_string(file)
                .map_err(|_| format!("the answers in {} cannot be read", file.display()))?;
            let text = text.trim_start_matches('\u{FEFF}');
            for (n, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let (key, value) = line.split_once('=').ok_or_else(|| {
                    format!("{}:{}: write \"key = value\"", file.display(), n + 1)
                })?;
                answers.insert(key.trim().to_owned(), value.trim().trim_matches('"').to_owned());
            }
        }
        for one in set {
            let (key, value) =
                one.split_once('=').ok_or_else(|| format!("--set {one}: write KEY=VALUE"))?;
            answers.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        // A key with a typo would leave its question to the default, on every cabinet alike.
        if let Some(key) = answers.keys().find(|key| !is_key(key)) {
            let key = key.escape_debug();
            return Err(format!(
                "no question is called \"{key}\"; fieldgate setup --help has them"
            ));
        }
        let terminal = io::stdin().is_terminal();
        let silent = yes || (file.is_some() && !terminal);
        Ok(Self { answers, silent, terminal, ended: false })
    }

    /// Whether somebody sits there who can be asked once more.
    pub(super) fn is_person(&self) -> bool {
        self.terminal && !self.silent
    }

    /// Begins one of the steps.
    pub(super) fn step(&mut self, n: u8, title: &str, about: &str) {
        self.say(&format!("\n{n}/5 {title}   {about}"));
    }

    /// Says something.
    pub(super) fn say(&mut self, text: &str) {
        // A closed pipe is the reader's choice.
        let _ = writeln!(io::stdout().lock(), "{text}");
    }

    /// Asks for text; `-` is none, and an empty answer is the default.
    ///
    /// # Errors
    /// When the person leaves.
    pub(super) fn ask(
        &mut self,
        key: &str,
        question: &str,
        default: &str,
    ) -> Result<String, Stopped> {
        let shown = if default.is_empty() { "none" } else { default };
        self.prompt(&format!("  {question} [{shown}]: "));
        let answer = self.answer(key)?;
        Ok(match answer.as_deref().map(str::trim) {
            None | Some("") => default.to_owned(),
            Some("-") => String::new(),
            Some(answer) => answer.to_owned(),
        })
    }

    /// Asks yes or no.
    ///
    /// # Errors
    /// When the person leaves.
    pub(super) fn yes(
        &mut self,
        key: &str,
        question: &str,
        default: bool,
    ) -> Result<bool, Stopped> {
        loop {
            let shown = if default { "Y/n" } else { "y/N" };
            self.prompt(&format!("  {question}? [{shown}]: "));
            match self.answer(key)?.as_deref().map(|answer| answer.trim().to_lowercase()).as_deref()
            {
                None | Some("") => return Ok(default),
                Some("y" | "yes" | "true") => return Ok(true),
                Some("n" | "no" | "-" | "false") => return Ok(false),
                Some(_) => {
                    self.say("  y or n, please");
                    self.not_again(key)?;
                }
            }
        }
    }

    /// Asks for a secret; what is typed is not shown.
    ///
    /// # Errors
    /// When the person leaves.
    pub(super) fn secret(&mut self, key: &str, question: &str) -> Result<Option<String>, Stopped> {
        let hidden = self.is_person() && !self.answers.contains_key(key);
        // Before the question stands there: some type faster than a program starts.
        if hidden {
            echo(false);
        }
        self.prompt(&format!("  {question} (not shown) [none]: "));
        let answer = self.answer(key);
        if hidden {
            echo(true);
        }
        let answer = answer?.map(|answer| answer.trim_end_matches(['\r', '\n']).to_owned());
        if answer.as_ref().is_some_and(|answer| answer.contains(CTRL_C)) {
            return Err(Stopped::Left);
        }
        Ok(answer.filter(|answer| !answer.is_empty() && answer != "-"))
    }

    /// Forgets an answer that was given beforehand and did not do, so that it is not given again.
    ///
    /// # Errors
    /// When nobody is there to give another.
    pub(super) fn not_again(&mut self, key: &str) -> Result<(), Stopped> {
        let given = self.answers.remove(key).is_some();
        if given || self.silent || self.ended {
            let message = format!("the answer to \"{key}\" does not do; nothing was written");
            return Err(Stopped::Fatal(Fatal::new(Exit::Usage, message)));
        }
        Ok(())
    }

    /// Asks again for what was typed in another character set than UTF-8.
    fn not_text(&mut self, key: &str) -> Result<Option<String>, Stopped> {
        if !self.terminal {
            let message = format!("the answer to \"{key}\" is not UTF-8; nothing was written");
            return Err(Stopped::Fatal(Fatal::new(Exit::Usage, message)));
        }
        self.say("  this terminal does not type UTF-8; plain letters do");
        self.prompt("  once more: ");
        self.answer(key)
    }

    fn prompt(&mut self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = write!(out, "{text}");
        let _ = out.flush();
    }

    /// Returns the answer; `None` is the default.
    fn answer(&mut self, key: &str) -> Result<Option<String>, Stopped> {
        if let Some(answer) = self.answers.get(key).cloned() {
            let secret = matches!(key, "password");
            self.say(if secret { "***" } else { &answer });
            return Ok(Some(answer));
        }
        if self.silent || self.ended {
            self.say("");
            return Ok(None);
        }
        let mut line = Vec::new();
        let got = io::stdin().lock().read_until(b'\n', &mut line);
        match got {
            // Ctrl-D, or a console that hung up: nothing is taken for granted then. A script whose
            // answers are all given goes on with the defaults.
            Ok(0) | Err(_) if self.terminal => Err(Stopped::Left),
            Ok(0) | Err(_) => {
                self.ended = true;
                self.say("");
                Ok(None)
            }
            Ok(_) => {
                // One byte of another character set is no reason to take a default for the answer.
                let Ok(line) = String::from_utf8(line) else {
                    return self.not_text(key);
                };
                if !self.terminal {
                    let shown = if key == "password" { "***" } else { line.trim_end() };
                    let shown = shown.to_owned();
                    self.say(&shown);
                }
                Ok(Some(line))
            }
        }
    }
}

/// Keys of questions that are asked once.
const KEYS: [&str; 17] = [
    "name",
    "port",
    "line",
    "scan",
    "scan.again",
    "ids",
    "port-name",
    "preview",
    "more",
    "again",
    "uplink",
    "user",
    "password",
    "ca",
    "uplink.keep",
    "write",
    "start",
];

/// Whether there is a question with this key.
fn is_key(key: &str) -> bool {
    let is_number = |text: &str| text.parse::<u8>().is_ok();
    let parts: Vec<_> = key.split('.').collect();
    match parts.as_slice() {
        ["port" | "more", n] => is_number(n),
        ["device", id, "take" | "template" | "point" | "name"] => is_number(id),
        ["device", id, "point", n] => is_number(id) && is_number(n),
        _ => KEYS.contains(&key),
    }
}

/// What Ctrl-C types where it interrupts nothing.
const CTRL_C: char = '\u{3}';

/// Shows what is typed, or does not; where that cannot be switched, a password is seen and no worse.
/// Ctrl-C interrupts nothing meanwhile, since a terminal that was left without echo stays without.
fn echo(on: bool) {
    let modes = if on { ["echo", "isig"] } else { ["-echo", "-isig"] };
    let _ = Command::new("stty").args(modes).status();
    if on {
        let _ = writeln!(io::stdout().lock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_from_a_file_and_flags_go_before_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# mine\nname = \"gw-1\"\nscan=no\nline = 9600 8N1\n").unwrap();
        let set = ["name=gw-2".to_owned(), "user=-".to_owned()];
        let mut ask = Asker::new(Some(file.path()), &set, true).unwrap();
        let mut text = |key: &str| ask.ask(key, "q", "default").unwrap_or_else(|_| panic!("left"));
        assert_eq!(
            [text("name"), text("line"), text("user"), text("none")],
            ["gw-2", "9600 8N1", "", "default"]
        );
        assert!(!ask.yes("scan", "q", true).unwrap_or(true));
        assert!(ask.not_again("name").is_err());
        std::fs::write(file.path(), "name gw").unwrap();
        assert!(Asker::new(Some(file.path()), &[], true).is_err());
        assert!(Asker::new(None, &["name".to_owned()], true).is_err());
        for key in ["port.2", "more.16", "device.7.point.2", "device.1.take", "start", "ca"] {
            assert!(Asker::new(None, &[format!("{key}=x")], true).is_ok(), "{key}");
        }
        for key in ["nmae", "device.x.name", "device.1", "port.two", ""] {
            assert!(Asker::new(None, &[format!("{key}=x")], true).is_err(), "{key}");
        }
    }
}
