//! What `decode` says about payloads. Codes FG-Dnn.

use std::io;
use std::path::Path;

use super::{Code, Notice};

/// A payload is not a batch.
pub static NOT_A_BATCH: Code = Code {
    id: "FG-D01",
    title: "a payload was not decoded",
    about: "The bytes are not a whole fieldgate batch of version 1: cut short, damaged, joined with \
            something else, or from another program. Payloads before it were decoded; after damage \
            inside a stream of payloads the rest of what was read cannot be told apart any more.",
};

/// The file cannot be read.
pub static UNREADABLE: Code = Code {
    id: "FG-D02",
    title: "the file to decode cannot be read",
    about: "Nothing was decoded, because the file does not exist, is a folder, or may not be read by \
            this user. A dash in place of the file reads standard input.",
};

/// This room's codes.
pub const CODES: &[&Code] = &[&NOT_A_BATCH, &UNREADABLE];

/// The n-th payload, from 1, is refused.
#[must_use]
pub fn not_a_batch(n: u64, why: &str) -> Notice {
    Notice::error(&NOT_A_BATCH, format!("payload {n}"), format!("was not decoded: {why}"))
        .likely("it was cut short, or is no fieldgate payload")
        .likely("something else was written between payloads")
        .try_next("mosquitto_sub -N -t 'fg/1/+/data' | fieldgate decode -")
}

/// The file cannot be opened or read.
#[must_use]
pub fn unreadable(file: &Path, error: &io::Error) -> Notice {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file",
        io::ErrorKind::PermissionDenied => "this user may not read it",
        io::ErrorKind::IsADirectory => "it is a folder",
        _ => "reading it failed",
    };
    let file = file.display();
    Notice::error(&UNREADABLE, file.to_string(), format!("cannot be decoded: {why}"))
        .try_next(format!("ls -l {file}"))
}
