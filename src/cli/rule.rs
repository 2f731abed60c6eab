//! `fieldgate rule`: an author's way from an empty folder to a file that an operator can push.
//!
//! `new` writes a rule that works, `build` compiles it and makes a component of it in this process,
//! `test` runs its cases on the host that gateways have, `check` tries what every rule must hold, and
//! `bench` says what it costs. Nothing here needs a gateway, a configuration or the network, except
//! that a language's own tools fetch their packages once.
#![expect(clippy::result_large_err, reason = "a command fails once, and ends with it")]

mod bench;
mod build;
mod cases;
mod check;
mod compile;
mod component;
mod describe;
mod machine;
mod new;
mod sdk;
mod test;
mod tools;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::error::{Exit, Fatal};
use crate::events::Notice;

/// What an author does with rules.
#[derive(Debug, Subcommand)]
#[command(after_help = "From nothing to a file that can be pushed:
  fieldgate rule new spike-filter --lang rust
  cd spike-filter
  fieldgate rule build && fieldgate rule test && fieldgate rule check")]
pub(super) enum Rule {
    New(new::New),
    Build(build::Build),
    Test(test::Test),
    Check(check::Check),
    Bench(bench::Bench),
    #[command(flatten)]
    Operator(super::push::Operator),
}

impl Rule {
    /// Runs the command.
    ///
    /// # Errors
    /// When it could not do what it was asked for; a problem that it was made to find is an exit code.
    pub(super) fn run(self, config: &Path) -> Result<Exit, Fatal> {
        match self {
            Self::New(new) => new.run(),
            Self::Build(build) => build.run(),
            Self::Test(test) => test.run(),
            Self::Check(check) => check.run(),
            Self::Bench(bench) => bench.run(),
            Self::Operator(operator) => operator.run(config),
        }
    }
}

/// The languages that `new` writes and `build` knows by their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Language {
    /// The SDK: parameters, state and tests in plain Rust
    Rust,
    /// One header, no C library
    C,
    /// TypeScript's little sister
    #[value(name = "assemblyscript")]
    AssemblyScript,
}

impl Language {
    /// Tells from the files of a folder what its rule is written in.
    fn of(folder: &Path) -> Option<Self> {
        if folder.join("Cargo.toml").is_file() {
            Some(Self::Rust)
        } else if folder.join("assembly").is_dir() {
            Some(Self::AssemblyScript)
        } else if !c_files(folder).is_empty() {
            Some(Self::C)
        } else {
            None
        }
    }
}

/// Source files of a rule in C, in the order of their names.
fn c_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("src")).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    files.sort();
    files
}

/// A command that ends because of `notice`.
fn ends(exit: Exit, notice: &Notice) -> Fatal {
    Fatal::new(exit, notice.to_string())
}

/// Says a line to the person at the terminal; whoever closed it does not want to know more.
fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A level of a rule's log in a word.
fn level(level: crate::rules::wit::Level) -> &'static str {
    use crate::rules::wit::Level;
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warning",
        Level::Error => "error",
    }
}
