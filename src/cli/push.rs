//! `fieldgate rule sign|push|list|enable|disable|promote|rollback|logs`: an operator's work with rules.

mod mqtt;
mod remote;
mod sign;

use std::path::Path;

use clap::Subcommand;

use crate::error::{Exit, Fatal};

/// What an operator does with rules.
#[derive(Debug, Subcommand)]
pub(super) enum Operator {
    /// Signs a rule's file with a key that minisign made
    Sign(sign::Sign),
    /// Brings a rule's file to the running gateway, over its socket or over MQTT
    Push(Box<remote::Push>),
    /// Lists the running gateway's rules, their versions and how they do
    List(remote::List),
    /// Lets a rule run that was switched off
    Enable(remote::One),
    /// Switches a rule off; it stays off over restarts
    Disable(remote::One),
    /// Makes the version on trial the live one
    Promote(remote::One),
    /// Ends a trial, or goes back to the last good version
    Rollback(remote::One),
    /// Shows what a rule wrote to its log
    Logs(remote::One),
}

impl Operator {
    /// Runs the command.
    ///
    /// # Errors
    /// 1 when it is refused, 3 when nobody answers.
    pub(super) fn run(self, config: &Path) -> Result<Exit, Fatal> {
        match self {
            Self::Sign(sign) => sign.run(),
            Self::Push(push) => push.run(config),
            Self::List(list) => list.run(config),
            Self::Enable(one) => one.order("enable", config),
            Self::Disable(one) => one.order("disable", config),
            Self::Promote(one) => one.order("promote", config),
            Self::Rollback(one) => one.order("rollback", config),
            Self::Logs(one) => one.logs(config),
        }
    }
}
