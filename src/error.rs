//! Exit codes, which are promises to systemd and to scripts, and the fatal error that carries one.
//! This file knows no room: a fatal error is a code and sentences.

use std::fmt;

/// How a command ends. The numbers are fixed; the unit file names 78 and 70.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Did what was asked.
    Done = 0,
    /// Did it, and found a problem (a faulty configuration, a damaged batch).
    Problem = 1,
    /// Was called wrongly; clap's own code too.
    Usage = 2,
    /// Could not reach what was asked for (a device, the broker, the buffer file).
    Unreachable = 3,
    /// The daemon broke and should be started again (`EX_SOFTWARE`, sysexits.h).
    Broken = 70,
    /// The daemon is misconfigured; starting it again would not help (`EX_CONFIG`, sysexits.h).
    Misconfigured = 78,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The end of a command: its exit code and what to tell the person, already in full sentences.
#[derive(Debug)]
pub struct Fatal {
    /// What the process returns.
    pub exit: Exit,
    /// Code, what failed, causes, next command, as `DESIGN` section 6 lays out.
    pub message: String,
}

impl Fatal {
    /// Ends a command with `exit` and `message`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fatal {}
