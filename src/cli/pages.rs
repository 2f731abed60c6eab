//! `fieldgate completions` and the hidden `fieldgate man`: what a package ships, made from the
//! arguments as they are, so that neither can tell of a command that is not there.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::error::{Exit, Fatal};

/// Prints what makes a shell complete fieldgate's commands and options
///
/// For bash: fieldgate completions bash > ~/.local/share/bash-completion/completions/fieldgate
#[derive(Debug, Args)]
pub(super) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<Exit, Fatal> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut shown(), "fieldgate", &mut text);
        // A closed pipe is the reader's choice.
        let _ = io::stdout().lock().write_all(&text);
        Ok(Exit::Done)
    }
}

/// The commands that a person types. Hidden ones would be offered too, and `rule-compile` keeps `rule`
/// from being completed.
fn shown() -> clap::Command {
    let all = super::Arguments::command();
    let shown: Vec<_> = all.get_subcommands().filter(|it| !it.is_hide_set()).cloned().collect();
    clap::Command::new("fieldgate")
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments().cloned())
        .subcommands(shown)
}

/// Writes the man pages into a folder, for packages
#[derive(Debug, Args)]
pub(super) struct Man {
    folder: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> Result<Exit, Fatal> {
        clap_mangen::generate_to(super::Arguments::command(), &self.folder)
            .map_err(|e| super::system_refuses("cannot write the man pages", &e))?;
        Ok(Exit::Done)
    }
}
