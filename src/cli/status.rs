//! `fieldgate status`: how the running gateway does.

use std::io::{Write as _, stdout};
use std::path::Path;

use clap::Args;

use super::client::Daemon;
use crate::error::{Exit, Fatal};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// JSON, one object
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(&self, config: &Path) -> Result<Exit, Fatal> {
        let status: serde_json::Value = Daemon::of(config).get("/v1/status")?;
        // A closed pipe is the reader's choice.
        let _ = if self.json {
            writeln!(stdout().lock(), "{status}")
        } else {
            writeln!(stdout().lock(), "{status:#}")
        };
        Ok(Exit::Done)
    }
}
