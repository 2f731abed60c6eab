//! The verbs of the command line, one file each. A verb takes its parsed arguments and a place to
//! write to, and returns how the process ends.

pub mod check;
pub mod config;
