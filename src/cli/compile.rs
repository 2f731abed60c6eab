//! `fieldgate rule-compile KIND`: the process in which the gateway lets a rule be compiled. Nobody
//! else calls it.

use std::io::{stdin, stdout};

use clap::Args;

use crate::error::{Exit, Fatal};
use crate::rules::compile::{self, Fault};

/// Compiles a rule from standard input to standard output, for the gateway
#[derive(Debug, Args)]
pub(super) struct RuleCompile {
    /// What it is compiled to
    kind: String,
}

impl RuleCompile {
    pub(super) fn run(&self) -> Result<Exit, Fatal> {
        compile::child(&self.kind, stdin().lock(), stdout().lock()).map(|()| Exit::Done).map_err(
            |fault| match fault {
                Fault::File(said) => Fatal::new(Exit::Problem, said),
                Fault::Process(said) => Fatal::new(Exit::Broken, said),
            },
        )
    }
}
