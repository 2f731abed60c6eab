//! The receiver's door: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    fieldgate::receive::main().into()
}
