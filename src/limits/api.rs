//! The bounds of the daemon's own socket.

use std::time::Duration;

/// Requests that are answered at once. A person and a script or two; what comes beyond waits in the
/// kernel's queue.
pub const API_VISITORS_MAX: usize = 8;

/// Bytes of one request's body: a rule of the largest size with some room for what goes along.
pub const API_BODY_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Header lines of one request; curl and our own client send five.
pub const API_HEADERS_MAX: usize = 32;

/// Waiting for a request's header: both ends are on one board.
pub const API_HEADER_TIME_MAX: Duration = Duration::from_secs(5);

/// One request from its first byte to the last of its answer. The longest compiles a pushed rule and
/// runs its tests, on a small board.
pub const API_TIME_MAX: Duration = Duration::from_secs(180);

/// Pause after the system had no file for another connection.
pub const API_ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Bytes of an answer that the command line reads: the status of a gateway with thousands of standing
/// conditions.
pub const API_ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Waiting for a daemon to take a connection: it is on the same board.
pub const API_CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
