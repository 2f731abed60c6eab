//! What the receiver says about what it is sent and where it puts it. Codes FG-Rnn.

use std::io;
use std::path::Path;

use super::{Code, Notice};

/// This room's codes.
pub const CODES: &[&Code] = &[&REFUSED, &SINK_AWAY, &REJECTS_UNUSABLE, &SYSTEM, &UNKNOWN_FRAMES];

/// FG-R01.
pub static REFUSED: Code = Code {
    id: "FG-R01",
    title: "a payload is refused",
    about: "Something arrived on a gateway's topic that is no batch of that gateway: damaged on its \
            way, made by another program, or published under a wrong name. It was counted, put aside \
            when --rejects names a folder, and acknowledged to the broker, which would otherwise \
            send it for ever. Nothing of it was stored and it has no row in the ledger, so a sound \
            copy is taken if one comes.",
};

/// FG-R02.
pub static SINK_AWAY: Code = Code {
    id: "FG-R02",
    title: "the sink takes nothing",
    about: "Batches arrive and cannot be stored: the database or the service behind --to is away, \
            full or refuses us. Nothing is acknowledged meanwhile, so the broker keeps what it has \
            and the gateways keep theirs; the receiver tries again every few seconds and goes on by \
            itself. Only a broker with a small queue limit can lose messages in this time.",
};

/// FG-R03.
pub static REJECTS_UNUSABLE: Code = Code {
    id: "FG-R03",
    title: "refused payloads cannot be put aside",
    about: "The folder that --rejects names cannot be written. Receiving goes on without it: refused \
            payloads are counted and told, but their bytes are gone. A person makes the folder \
            writable for the receiver's user, or makes room.",
};

/// FG-R04.
pub static SYSTEM: Code = Code {
    id: "FG-R04",
    title: "the system does not let the receiver work",
    about: "Something every process needs was refused at the start: an event queue, signals. Nearly \
            always a limit of a container or of the user (open files, processes) is too low for \
            what runs beside it.",
};

/// FG-R05.
pub static UNKNOWN_FRAMES: Code = Code {
    id: "FG-R05",
    title: "batches hold frames of a later version",
    about: "A gateway sends frames or series of a kind that this receiver does not know. The batches \
            are stored without them, as the format asks; they are counted in the ledger, column \
            unknown. A receiver of the gateway's version stores them whole.",
};

/// A payload of a gateway is refused; `reason` is one of a few, `why` says what was seen.
#[must_use]
pub fn refused(gw: &str, reason: &str, why: &str, sample: &str) -> Notice {
    Notice::warning(&REFUSED, format!("gateway {gw}: {reason}"), format!("is refused: {why}"))
        .seen(format!("It begins with {sample}."))
        .seen("More of the same kind from this gateway are counted, not told.")
        .likely("another program publishes on this topic")
        .likely("a bridge or broker on the way cuts or changes messages")
        .try_next("look at it with --rejects DIR, then: fieldgate decode FILE")
}

/// The folder for refused payloads does not work.
#[must_use]
pub fn rejects_unusable(folder: &Path, error: &io::Error) -> Notice {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such folder",
        io::ErrorKind::PermissionDenied => "this user may not write there",
        io::ErrorKind::StorageFull => "the disk is full",
        io::ErrorKind::ReadOnlyFilesystem => "the disk is read-only",
        io::ErrorKind::NotADirectory => "it is no folder",
        _ => "writing failed",
    };
    let folder = folder.display();
    Notice::warning(&REJECTS_UNUSABLE, format!("--rejects {folder}"), format!("is no use: {why}"))
        .try_next(format!("ls -ld {folder}; df {folder}"))
}

/// The output of a sink that writes files or standard output refuses.
#[must_use]
pub fn output_refused(kind: io::ErrorKind) -> Notice {
    let why = match kind {
        io::ErrorKind::BrokenPipe => "whoever read it has gone",
        io::ErrorKind::StorageFull => "the disk is full",
        _ => "writing failed",
    };
    Notice::error(&SINK_AWAY, "standard output", format!("takes no batches: {why}"))
        .seen("Nothing was acknowledged; it comes again.")
}

/// The system refuses `what` at the start.
#[must_use]
pub fn system(what: &str, kind: io::ErrorKind) -> Notice {
    let why = match kind {
        io::ErrorKind::PermissionDenied => "it is forbidden to this user",
        io::ErrorKind::OutOfMemory => "there is no memory left",
        _ => "a limit of the system was reached",
    };
    Notice::error(&SYSTEM, "fieldgate-receive", format!("gets {what}: {why}")).try_next("ulimit -a")
}

/// A gateway sends what this version does not know.
#[must_use]
pub fn unknown_frames(gw: &str) -> Notice {
    Notice::warning(
        &UNKNOWN_FRAMES,
        format!("gateway {gw}"),
        "sends frames or series of a kind this receiver does not know; the rest is stored",
    )
    .likely("the gateway runs a later version")
    .try_next("install fieldgate-receive of the gateway's version")
}
