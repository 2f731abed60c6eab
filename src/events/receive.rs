//! What the receiver says about what it is sent and where it puts it. Codes FG-Rnn.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::{Code, Notice};

/// This room's codes.
pub const CODES: &[&Code] =
    &[&REFUSED, &SINK_AWAY, &REJECTS_UNUSABLE, &SYSTEM, &UNKNOWN_FRAMES, &TABLES, &METRICS];

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

/// FG-R06.
pub static TABLES: Code = Code {
    id: "FG-R06",
    title: "the database has no tables to write to",
    about: "The receiver writes to tables that it makes itself, with --init, and refuses to guess: \
            it does not mix the two layouts, and it does not touch tables that a later version \
            made. --init adds what is missing and never removes anything; a change of layout goes \
            into another database or schema.",
};

/// The database does not answer.
#[must_use]
pub fn database_away(place: &str, why: &str) -> Notice {
    Notice::error(&SINK_AWAY, place, format!("takes no batches: {why}"))
        .seen("Nothing is acknowledged meanwhile; broker and gateways keep what they have.")
        .likely("the server is stopped or restarting")
        .likely("the network between is interrupted, or host and port of --to are not the server's")
        .try_next("nothing: it is tried again by itself")
}

/// The database has no room.
#[must_use]
pub fn database_full(place: &str, why: &str) -> Notice {
    Notice::error(&SINK_AWAY, place, format!("has no room: {why}"))
        .seen("Nothing is acknowledged meanwhile; broker and gateways keep what they have.")
        .likely("its disk is full")
        .likely("all its connections are taken")
        .try_next("make room on the server; receiving goes on by itself")
}

/// The database does not let us in or does not let us write; `state` is the SQLSTATE it gives
/// (PostgreSQL documentation, appendix A).
#[must_use]
pub fn database_refuses(place: &str, why: &str, state: &str) -> Notice {
    let notice = Notice::error(&SINK_AWAY, place, format!("refuses us: {why}"));
    match state {
        "3D000" => notice
            .likely("the database was not made yet, or --to misspells it")
            .try_next("createdb -O USER DATABASE, with user and database of --to"),
        "28P01" | "28000" => notice
            .likely("user or password of --to are not what the server knows")
            .likely("pg_hba.conf of the server does not let this user in from here")
            .try_next("psql with the same user and database"),
        "42501" => notice
            .likely("the user does not own the database, and may make no tables in its schema")
            .likely("another user made the tables and granted nothing")
            .try_next("as the database's owner: grant create, usage on schema public to USER")
            .try_next("or: alter database DATABASE owner to USER"),
        _ => notice
            .likely("the tables were changed by hand")
            .likely("user, password or database of --to are not what the server knows")
            .try_next("psql with the same user and database: select * from fieldgate_layout"),
    }
}

/// The database wants a password and was given none.
#[must_use]
pub fn database_wants_password(place: &str) -> Notice {
    Notice::error(&SINK_AWAY, place, "refuses us: it wants a password, and there is none")
        .try_next("--to-password-file FILE, or --to postgres://USER:PASSWORD@..")
}

/// TLS was asked for, and the server cannot be trusted; `why` says what was seen.
#[must_use]
pub fn database_not_trusted(place: &str, why: &str) -> Notice {
    Notice::error(&SINK_AWAY, place, format!("is not to be trusted: {why}"))
        .seen("Nothing was sent to it, not even a password.")
        .likely("its certificate is from a CA of your own: give that CA with --to-ca FILE")
        .likely("--to names the server otherwise than its certificate does")
        .likely(
            "Debian's PostgreSQL began with a certificate that nobody signed (ssl-cert-snakeoil)",
        )
        .try_next("openssl s_client -starttls postgres -connect HOST:5432 -showcerts")
}

/// There are no tables of ours.
#[must_use]
pub fn no_tables(place: &str) -> Notice {
    Notice::error(&TABLES, place, "has no tables of fieldgate")
        .likely("this is the first start with this database")
        .likely("the connection looks into another schema (search_path)")
        .try_next("the same command with --init")
}

/// The tables are of the other layout.
#[must_use]
pub fn other_layout(place: &str, there: &str) -> Notice {
    Notice::error(&TABLES, place, format!("has tables of layout {there}, not of the one asked for"))
        .try_next(format!("--layout {there}, or another database"))
}

/// The tables are of a version that this program does not know.
#[must_use]
pub fn other_version(place: &str, there: i32, here: i32) -> Notice {
    let what = format!("has tables of version {there}; this program writes version {here}");
    Notice::error(&TABLES, place, what)
        .likely("a later fieldgate-receive made them")
        .try_next("install the later version here too")
}

/// FG-R07.
pub static METRICS: Code = Code {
    id: "FG-R07",
    title: "metrics cannot be told",
    about: "The receiver was asked to tell metrics at an address where it cannot listen, and does not \
            start without what it was asked for: a fleet that nobody watches is worse than a start \
            that fails at once. A person chooses another address or port.",
};

/// A payload of a gateway is refused; `reason` is one of a few, `why` says what was seen.
#[must_use]
pub fn refused(gw: &str, reason: &str, why: &str, sample: &str) -> Notice {
    let subject = format!("gateway {gw}: a payload ({reason})");
    Notice::warning(&REFUSED, subject, format!("is refused: {why}"))
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
pub fn output_refused(subject: &str, kind: io::ErrorKind) -> Notice {
    let why = match kind {
        io::ErrorKind::BrokenPipe => "whoever read it has gone",
        io::ErrorKind::StorageFull => "the disk is full",
        io::ErrorKind::NotFound => "its folder does not exist",
        io::ErrorKind::PermissionDenied => "this user may not write it",
        io::ErrorKind::IsADirectory => "it is a folder",
        _ => "writing failed",
    };
    Notice::error(&SINK_AWAY, subject, format!("takes no batches: {why}"))
        .seen("Nothing was acknowledged; it comes again.")
}

/// A server of line protocol did not answer; `why` completes "takes no batches".
#[must_use]
pub fn not_posted(subject: &str, why: &str) -> Notice {
    Notice::error(&SINK_AWAY, subject, format!("takes no batches: {why}"))
        .seen("Nothing is acknowledged meanwhile; broker and gateways keep what they have.")
        .likely("the server is stopped or restarting")
        .likely("host or port of --to are not the server's")
        .try_next("nothing: it is tried again by itself")
}

/// A server of line protocol answered with a status that is no batch's fault.
#[must_use]
pub fn post_refused(subject: &str, status: u16, text: &str) -> Notice {
    let notice =
        Notice::error(&SINK_AWAY, subject, format!("takes no batches: it answers {status}"))
            .seen(format!("It says: {text}"));
    match status {
        401 | 403 => notice
            .likely("user, password or token are wrong, or may not write to this database")
            .try_next("put them into --to http://user:password@.. or --to-token-file"),
        404 => notice
            .likely("there is no such database, bucket or path on this server")
            .try_next("make the database, or correct path and query of --to"),
        413 => notice
            .likely("the server or a proxy before it takes smaller bodies than 1 MiB")
            .try_next("raise its limit for bodies"),
        429 | 503 => notice
            .likely("the server is overloaded, or still starting")
            .try_next("nothing: it is tried again by itself"),
        _ => notice.try_next("look into the server's log; it is tried again by itself"),
    }
}

/// A Kafka cluster did not take records; `why` completes "takes no batches".
#[must_use]
pub fn not_produced(subject: &str, why: &str) -> Notice {
    Notice::error(&SINK_AWAY, subject, format!("takes no batches: {why}"))
        .seen("Nothing is acknowledged meanwhile; broker and gateways keep what they have.")
        .likely("the cluster is stopped, or elects a leader")
        .likely("the topic does not exist, or has fewer in-sync replicas than it wants")
        .likely(
            "the brokers tell addresses (advertised.listeners) that do not lead to them from here",
        )
        .try_next("kafka-topics.sh --describe with the same brokers and topic")
}

/// The address for metrics cannot be listened at.
#[must_use]
pub fn metrics_not_listening(address: SocketAddr, kind: io::ErrorKind) -> Notice {
    let why = match kind {
        io::ErrorKind::AddrInUse => "another program listens there",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        io::ErrorKind::PermissionDenied => "this user may not listen there",
        _ => "the system does not allow it",
    };
    Notice::error(&METRICS, format!("--metrics {address}"), format!("cannot be told: {why}"))
        .try_next("choose another address or port; ss -ltnp shows who listens where")
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
