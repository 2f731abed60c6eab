//! What is said about the daemon's own socket, on both of its ends. Codes FG-Ann.

use std::io;
use std::path::Path;

use super::{Code, Notice};

/// This room's codes.
pub const CODES: &[&Code] = &[&NO_SOCKET, &NO_DAEMON, &NO_SUCH_ROUTE, &BAD_REQUEST];

/// The daemon has no socket.
pub static NO_SOCKET: Code = Code {
    id: "FG-A01",
    title: "the daemon's socket cannot be had",
    about: "The daemon answers `fieldgate status`, `rule list` and the like on a socket of its own, \
            by default /run/fieldgate/api.sock, which only its user and its group may open. It could \
            not be made, or another daemon answers there. Reading, keeping and sending go on as \
            usual; only these commands do not work. `[api] socket` names another place.",
};

/// A command finds no daemon.
pub static NO_DAEMON: Code = Code {
    id: "FG-A02",
    title: "no daemon answers",
    about: "A command asked the running daemon over its socket and got no answer: no daemon runs, it \
            runs with another configuration that names another socket, or this user may not open the \
            socket. Members of the group `fieldgate` may, and root. Commands that work without the \
            daemon: check, once, config show, buffer status.",
};

/// The daemon does not know what was asked.
pub static NO_SUCH_ROUTE: Code = Code {
    id: "FG-A03",
    title: "the daemon does not know this request",
    about: "A request came over the daemon's socket that this version does not know. Usually the \
            command line is of another version than the daemon that runs: after an upgrade the old \
            one runs until it is restarted (`systemctl restart fieldgate`). docs/api.md lists what \
            can be asked.",
};

/// A request makes no sense.
pub static BAD_REQUEST: Code = Code {
    id: "FG-A04",
    title: "a request over the socket makes no sense",
    about: "A request came over the daemon's socket whose body, header or words do not do: a body \
            that is too large, a header that is missing, a value outside of what is known. Nothing \
            was changed. The message says what was found; docs/api.md says what each request takes.",
};

/// The socket cannot be made.
#[must_use]
pub fn no_socket(path: &Path, error: &io::Error) -> Notice {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "its folder does not exist",
        io::ErrorKind::PermissionDenied => "this user may not write there",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
        io::ErrorKind::StorageFull => "the disk is full",
        // The kernel's sun_path holds 108 bytes with the NUL behind.
        io::ErrorKind::InvalidInput => "its path is longer than the 107 bytes a socket may have",
        _ => "the system refuses",
    };
    Notice::warning(&NO_SOCKET, socket(path), format!("cannot be made: {why}"))
        .seen("Reading, keeping and sending go on; status and rule commands find no daemon.")
        .try_next("[api] socket = \"..\" in a folder that the daemon's user may write")
}

/// Another daemon answers.
#[must_use]
pub fn socket_taken(path: &Path) -> Notice {
    Notice::warning(&NO_SOCKET, socket(path), "is another daemon's, which answers on it")
        .seen("It was left alone; status and rule commands reach the other one.")
        .try_next("[api] socket = \"..\" in the configuration of one of them")
}

/// Something else stands in its place.
#[must_use]
pub fn no_socket_there(path: &Path) -> Notice {
    Notice::warning(&NO_SOCKET, socket(path), "cannot be made: a file that is no socket is there")
        .seen("It was left alone.")
        .try_next("move it away and restart, or name another place in [api] socket")
}

fn socket(path: &Path) -> String {
    format!("socket {}", path.display())
}

/// A command cannot reach the daemon.
#[must_use]
pub fn no_daemon(path: &Path, kind: io::ErrorKind) -> Notice {
    let notice = |what: &str| Notice::error(&NO_DAEMON, socket(path), what);
    match kind {
        io::ErrorKind::PermissionDenied => notice("is not for this user")
            .likely("this user is not a member of the group fieldgate")
            .try_next("sudo, or sudo adduser $USER fieldgate and log in again"),
        io::ErrorKind::NotFound => notice("is not there: no daemon runs with this configuration")
            .likely("the daemon is not running")
            .likely("it runs with another --config, or was started by hand without its folder")
            .try_next("systemctl status fieldgate"),
        io::ErrorKind::ConnectionRefused => notice("was left behind: no daemon answers on it")
            .likely("the daemon was killed")
            .try_next("systemctl status fieldgate"),
        io::ErrorKind::TimedOut => notice("gives no answer in time")
            .likely("the daemon is busy, or hangs")
            .try_next("journalctl -u fieldgate -n 50"),
        _ => notice("broke off before its answer was through")
            .likely("the daemon stopped meanwhile")
            .try_next("systemctl status fieldgate"),
    }
}

/// The daemon's answer is not understood.
#[must_use]
pub fn strange_answer(path: &Path) -> Notice {
    Notice::error(&NO_DAEMON, socket(path), "gave an answer that this version does not understand")
        .likely("the daemon is of another version than this command")
        .try_next("fieldgate --version; systemctl restart fieldgate")
}

/// No such route.
#[must_use]
pub fn no_such_route(method: &str, path: &str) -> Notice {
    let path: String = path.chars().take(80).filter(|c| !c.is_control()).collect();
    Notice::error(&NO_SUCH_ROUTE, "the daemon", format!("does not know {method} {path}"))
        .likely("the command is of another version than the daemon")
        .try_next("systemctl restart fieldgate")
}

/// A request makes no sense; `what` completes "the request".
#[must_use]
pub fn bad_request(what: impl Into<String>) -> Notice {
    Notice::error(&BAD_REQUEST, "the request", what).try_next("docs/api.md says what it takes")
}

/// A body is too large.
#[must_use]
pub fn body_too_large(bytes_max: usize) -> Notice {
    bad_request(format!("has a body of more than {bytes_max} bytes, or broke off"))
}
