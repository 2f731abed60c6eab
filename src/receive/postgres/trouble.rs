//! What PostgreSQL can refuse, sorted by who can mend it, in words for people.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, Error};

use super::tls;
use crate::error::{Exit, Fatal};
use crate::events::{Notice, receive as say};
use crate::mqtt::{Tls, tls_configuration};
use crate::receive::address::decoded;

/// Why there is no database to write to.
#[derive(Debug)]
pub(in crate::receive) enum Trouble {
    /// It passes by itself: the server is down, starting, full or out of reach.
    Weather(Box<Notice>),
    /// A person has to do something first.
    Person(Box<Notice>),
}

/// How to reach a database.
#[derive(Clone)]
pub(in crate::receive) struct Access {
    pub(super) config: Config,
    /// TLS, when it was asked for.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// How long one address is tried.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// After which a peer that takes no bytes is given up, and one that is silent is asked.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What PostgreSQL's library knows of TLS and the driver does not: whether it is wanted, a file of
/// CAs, and the URL without either.
struct Wanted {
    url: String,
    tls: bool,
    ca: Option<PathBuf>,
}

/// Takes `sslmode` and `sslrootcert` out of a URL. `None` when one of them is none.
fn wanted(url: &str) -> Option<Wanted> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut tls, mut ca, mut rest) = (false, None, Vec::new());
    for option in query.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("sslmode", "require" | "verify-ca" | "verify-full")) => tls = true,
            Some(("sslmode", "disable" | "prefer" | "allow")) => {}
            Some(("sslmode", _)) => return None,
            Some(("sslrootcert", "system")) => tls = true,
            Some(("sslrootcert", file)) => {
                (tls, ca) = (true, Some(PathBuf::from(decoded(file)?)));
            }
            _ => rest.push(option),
        }
    }
    let query = rest.join("&");
    let url = if query.is_empty() { base.to_owned() } else { format!("{base}?{query}") };
    Some(Wanted { url, tls, ca })
}

/// Reads `postgres://…`, and sets what every connection of ours has. `ca` has CAs to trust, and asks
/// for TLS.
pub(in crate::receive) fn configuration(
    url: &str,
    password: Option<String>,
    ca: Option<PathBuf>,
) -> Result<Access, Fatal> {
    let usage = |why: &str| Fatal::new(Exit::Usage, format!("fieldgate-receive: --to: {why}"));
    let wanted = wanted(url).ok_or_else(|| {
        usage("sslmode is one of disable, prefer, require, verify-ca, verify-full")
    })?;
    let tls = (wanted.tls || ca.is_some())
        .then(|| tls_configuration(&Tls { ca: ca.or(wanted.ca), client: None }, None))
        .transpose()
        .map_err(|error| usage(&error.to_string()))?;
    let mut config: Config = wanted.url.parse().map_err(|_| {
        // The parser's own words may repeat the password.
        usage("this is no postgres://[user[:password]@]host[:port]/database[?option=value]")
    })?;
    if tls.is_some() && config.get_hosts().iter().any(|host| matches!(host, Host::Unix(_))) {
        return Err(usage("a socket of this machine needs no TLS: leave sslmode and CA out"));
    }
    config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
    if let Some(password) = password {
        config.password(password);
    }
    if config.get_application_name().is_none() {
        config.application_name("fieldgate-receive");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIME_MAX);
    }
    config.tcp_user_timeout(SILENCE_MAX).keepalives_idle(SILENCE_MAX);
    let ours = "-c idle_in_transaction_session_timeout=60000";
    let options = config.get_options().map_or(ours.to_owned(), |theirs| format!("{ours} {theirs}"));
    config.options(options);
    Ok(Access { config, tls })
}

/// Returns where the database is, without secrets.
pub(super) fn place(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let name = config.get_dbname().or(config.get_user()).unwrap_or("");
    format!("PostgreSQL {host}:{port}/{name}")
}

/// Returns whether another transaction was in the way, and the same again may work at once.
pub(super) fn is_conflict(error: &Error) -> bool {
    let codes = [&SqlState::T_R_DEADLOCK_DETECTED, &SqlState::T_R_SERIALIZATION_FAILURE];
    error.code().is_some_and(|code| codes.contains(&code))
}

/// Returns whether the values themselves are refused: data exceptions, violated constraints, limits
/// of the program (SQLSTATE classes 22, 23 and 54; PostgreSQL documentation, appendix A).
pub(super) fn is_of_data(error: &Error) -> bool {
    let class = error.code().map_or("", |code| code.code().get(..2).unwrap_or(""));
    matches!(class, "22" | "23" | "54")
}

/// Says what the server said.
pub(super) fn words(error: &Error) -> String {
    match error.as_db_error() {
        Some(refusal) => {
            format!("PostgreSQL says: {} ({})", refusal.message(), refusal.code().code())
        }
        None => match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
            Some(of_system) => match of_system.kind() {
                io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
                io::ErrorKind::NotFound => "there is no such socket or host".to_owned(),
                io::ErrorKind::PermissionDenied => "its socket is not for this user".to_owned(),
                io::ErrorKind::TimedOut => "nothing comes back".to_owned(),
                // The resolver's errors have no kind of their own.
                _ if of_system.to_string().starts_with("failed to lookup address") => {
                    "its name cannot be resolved".to_owned()
                }
                _ => "the network failed".to_owned(),
            },
            None if error.is_closed() => "the connection was closed".to_owned(),
            None => "the conversation broke off".to_owned(),
        },
    }
}

/// Returns whether the server asked for a password and there is none. The driver says so in words
/// only, as the cause of an error of configuration.
fn lacks_password(error: &Error) -> bool {
    error.source().is_some_and(|source| source.to_string() == "password missing")
}

/// Sorts an error by who can mend it.
pub(super) fn sort(place: &str, error: &Error) -> Trouble {
    if let Some(fault) = tls::fault(error) {
        return Trouble::Person(Box::new(say::database_not_trusted(place, &fault)));
    }
    let words = words(error);
    if lacks_password(error) {
        return Trouble::Person(Box::new(say::database_wants_password(place)));
    }
    let Some(code) = error.code() else {
        return Trouble::Weather(Box::new(say::database_away(place, &words)));
    };
    let class = code.code().get(..2).unwrap_or("");
    match class {
        // Invalid authorisation, no such database, wrong object, no privilege.
        "28" | "3D" | "42" => {
            Trouble::Person(Box::new(say::database_refuses(place, &words, code.code())))
        }
        "53" => Trouble::Weather(Box::new(say::database_full(place, &words))),
        _ => Trouble::Weather(Box::new(say::database_away(place, &words))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_a_configuration_and_its_password_stays_hidden() {
        let read = |url| configuration(url, None, None);
        let access = read("postgres://me:secret@db:99/plant?sslmode=prefer").ok().unwrap();
        assert_eq!(place(&access.config), "PostgreSQL db:99/plant");
        assert!(access.tls.is_none() && access.config.get_ssl_mode() == SslMode::Disable);
        let socket = read("postgres:///plant?host=/run/postgresql&user=me").ok().unwrap();
        assert_eq!(place(&socket.config), "PostgreSQL /run/postgresql:5432/plant");
        for bad in [
            "postgres://me:secret@db/plant?nonsense=1",
            "postgres://me:secret@db/p?sslmode=perhaps",
            "postgres://me:secret@db/p?sslmode=verify-full&sslrootcert=/no/such/file",
            "postgres:///plant?host=/run/postgresql&user=secret&sslmode=require",
        ] {
            let refused = read(bad).err().unwrap();
            assert!(refused.exit == Exit::Usage && !refused.message.contains("secret"));
        }
    }

    #[test]
    fn what_asks_for_tls_is_taken_out_of_the_url() {
        let both = wanted("postgres://h/d?a=b&sslmode=verify-full&sslrootcert=%2Fx%20y&c=d");
        let Some(Wanted { url, tls: true, ca: Some(ca) }) = both else { panic!("no TLS") };
        assert_eq!((url.as_str(), ca.to_str()), ("postgres://h/d?a=b&c=d", Some("/x y")));
        let plain = wanted("postgres://h/d?sslmode=disable").unwrap();
        assert_eq!((plain.url.as_str(), plain.tls), ("postgres://h/d", false));
        assert!(wanted("postgres://h/d?sslmode=require").is_some_and(|wanted| wanted.tls));
    }
}
