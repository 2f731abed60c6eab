//! The daemon's own socket: HTTP on a Unix socket, for the command line on the same board.
//!
//! Who may open the socket may do what it offers; the file's mode (0660) and the folder it stands in
//! say who that is. There is no login and no TCP port here. Routes know no gateway: each asks the
//! [`Desk`], which the wiring board implements, and turns what it says into JSON. A refusal is a
//! notice in words, the same that the log gets, so the command line only prints it.
//!
//! One request a connection. Connections, bodies and time are bounded; who comes when all places are
//! taken waits in the kernel's queue.

mod order;
mod routes;
pub mod rules;
mod socket;
pub mod status;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use crate::events::Notice;
use rules::{Done, Line, Order, Push, Rule};
use status::Status;

pub use order::ConfigOrder;
pub use socket::Server;

/// Where the package's unit lets the daemon put its socket.
pub const DEFAULT_SOCKET: &str = "/run/fieldgate/api.sock";

/// `[api]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The socket's path.
    pub socket: PathBuf,
    /// Whether a person wrote it; a default that cannot be had is no trouble.
    pub is_asked_for: bool,
}

/// What a question to the gateway ends in.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// The gateway as the socket sees it. Two implementations: the running gateway, and this room's tests.
pub trait Desk: Send + Sync + 'static {
    /// Says how the gateway does. Reads memory only.
    fn status(&self) -> Status;

    /// Lists the rules.
    fn rules(&self) -> Answer<'_, Vec<Rule>>;

    /// Takes a rule's file in; waits for the compiler and the disk.
    fn push(&self, push: Push) -> Answer<'_, Done>;

    /// Does something to a rule that is there.
    fn order(&self, rule: String, order: Order) -> Answer<'_, Done>;

    /// Returns the last lines that a rule wrote to its log.
    fn rule_logs(&self, rule: String) -> Answer<'_, Vec<Line>>;
    /// Changes the configuration in force, or says how it may change and has changed. One order after
    /// the other; each is answered when it is done.
    fn configure(&self, order: ConfigOrder) -> Answer<'_, serde_json::Value>;
}

/// Why the gateway does not do what was asked.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What kind of no it is.
    pub why: Why,
    /// The same in words, for the person who asked.
    pub notice: Box<Notice>,
}

/// Kinds of refusals, each with its status in HTTP (RFC 9110, section 15.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The request itself makes no sense: 400.
    Malformed,
    /// It names what is not there: 404.
    Unknown,
    /// It does not fit what is the case now: 409.
    Conflict,
    /// It is larger than what is taken: 413.
    TooLarge,
    /// It was understood and examined, and is not taken: 422.
    Refused,
    /// The gateway cannot now: 503.
    Unable,
}

impl Refusal {
    /// Refuses with words.
    #[must_use]
    pub fn new(why: Why, notice: Notice) -> Self {
        Self { why, notice: Box::new(notice) }
    }
}
