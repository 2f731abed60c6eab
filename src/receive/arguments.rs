//! The command line of `fieldgate-receive`, as typed and then resolved.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};
use rustls::ClientConfig;

use super::kafka::Kafka;
use super::line_protocol::LineProtocol;
use super::progress::Shown;
use super::simulate::Simulate;
use super::{address, postgres};
use crate::error::{Exit, Fatal};
use crate::mqtt::{Broker, Login, Tls, tls_configuration};
use crate::secret::Secret;

/// Receives what gateways send and stores every batch once.
#[derive(Debug, Parser)]
#[command(name = "fieldgate-receive", version, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  fieldgate-receive --from mqtt://localhost --to ndjson
  fieldgate-receive --from mqtts://me@mqtt.example.org --password-file pw \
                    --to postgres://me@db/plant --init

Any number of receivers share the work: give them one --group, and each its own --client-id.
Exit codes:  0 done, 2 wrong usage, 3 could not reach, 70 broken, 78 misconfigured")]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// Broker: mqtt[s]://[user[:password]@]host[:port]
    #[arg(long, value_name = "URL")]
    pub(super) from: Option<String>,
    /// Where batches end: postgres://[user[:password]@]host[:port]/database, ndjson [FILE],
    /// line-protocol http[s]://HOST/write?db=.., or kafka [kafkas://]BROKER[,BROKER]/TOPIC
    #[arg(long, value_name = "TARGET", num_args = 1..=2, required = true)]
    pub(super) to: Vec<String>,
    /// Creates the tables; without --from that is all
    #[arg(long)]
    pub(super) init: bool,
    /// How readings lie in PostgreSQL [default: as they do there, narrow when new]
    #[arg(long, value_enum)]
    pub(super) layout: Option<Layout>,
    /// The database's password
    #[arg(long, value_name = "FILE")]
    pub(super) to_password_file: Option<PathBuf>,
    /// Receivers of one group share what arrives, where the broker can; without it each gets all
    #[arg(long, value_name = "NAME")]
    pub(super) group: Option<String>,
    /// CAs to trust an https://, postgres:// or kafkas:// target by, PEM; the system's store when
    /// absent
    #[arg(long, value_name = "FILE")]
    pub(super) to_ca: Option<PathBuf>,
    /// Token for a line-protocol target (InfluxDB 2)
    #[arg(long, value_name = "FILE")]
    pub(super) to_token_file: Option<PathBuf>,
    /// Waits for the disk with every slice, when the target is a file
    #[arg(long)]
    pub(super) fsync: bool,
    /// Tells metrics for Prometheus at this address: 127.0.0.1:9310
    #[arg(long, value_name = "ADDRESS")]
    pub(super) metrics: Option<SocketAddr>,
    /// Has to stay the same over restarts, and be another for each receiver
    /// [default: fieldgate-receive-HOSTNAME]
    #[arg(long, value_name = "ID")]
    pub(super) client_id: Option<String>,
    /// CAs to trust the broker by, PEM; the system's store when absent
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Client certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(super) cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(super) key: Option<PathBuf>,
    /// The broker's password
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// Puts refused payloads aside here, the newest thousand
    #[arg(long, value_name = "DIR")]
    pub(super) rejects: Option<PathBuf>,
    /// No progress, no news: warnings and errors only
    #[arg(long)]
    pub(super) quiet: bool,
    /// Progress and totals as JSON lines on standard error
    #[arg(long)]
    pub(super) json: bool,
}

/// What it does instead of receiving.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Simulate(Simulate),
}

/// How readings lie in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// A row a reading: what every tool understands
    Narrow,
    /// A row a series and batch, readings in arrays: a quarter of the space and of the work
    Array,
}

/// Where batches end.
pub(super) enum Target {
    /// Lines of JSON on standard output.
    Ndjson,
    /// Tables, with a ledger.
    Postgres(Box<postgres::Access>),
    /// Lines of JSON in a file.
    File(PathBuf),
    /// A server that takes line protocol.
    LineProtocol(Box<LineProtocol>),
    /// A topic of a Kafka cluster.
    Kafka(Box<Kafka>),
}

impl Layout {
    /// Returns its name, as typed and as the database remembers it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Narrow => "narrow",
            Self::Array => "array",
        }
    }
}

impl Arguments {
    /// Resolves `--to`.
    pub(super) fn target(&self) -> Result<Target, Fatal> {
        let words: Vec<&str> = self.to.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["ndjson"] => Ok(Target::Ndjson),
            [url] if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                let password = self.to_password_file.clone().map(|file| Secret::File(file).read());
                let password = password.transpose().map_err(|error| usage(&error.to_string()))?;
                let ca = self.to_ca.clone();
                Ok(Target::Postgres(Box::new(postgres::configuration(url, password, ca)?)))
            }
            // Without the word itself: a password may stand in it.
            ["ndjson", second] if second.contains("://") => {
                Err(usage("--to names two targets; a receiver has one, so start another beside it"))
            }
            ["ndjson", path] => Ok(Target::File(path.into())),
            ["line-protocol", url] => self.line_protocol(url),
            ["kafka", target] => {
                let kafka = Kafka::new(target, || self.tls_to_target());
                let kafka = kafka.map_err(|why| usage(&format!("--to: {why}")))?;
                Ok(Target::Kafka(Box::new(kafka)))
            }
            _ => Err(usage(
                "--to is none of: postgres://.., ndjson [FILE], line-protocol URL, kafka ..",
            )),
        }
    }

    fn line_protocol(&self, url: &str) -> Result<Target, Fatal> {
        let token = self.to_token_file.clone().map(|file| Secret::File(file).read()).transpose();
        let token = token.map_err(|error| usage(&error.to_string()))?;
        let sink = LineProtocol::new(url, token, || self.tls_to_target());
        Ok(Target::LineProtocol(Box::new(sink.map_err(|why| usage(&format!("--to: {why}")))?)))
    }

    fn tls_to_target(&self) -> Result<Arc<ClientConfig>, String> {
        let tls = Tls { ca: self.to_ca.clone(), client: None };
        tls_configuration(&tls, None).map_err(|error| error.to_string())
    }

    /// Returns what `--to` names, without secrets.
    pub(super) fn place(&self) -> String {
        match self.to.as_slice() {
            [word, what] if !what.contains('@') => format!("{word} {what}"),
            [url] if url.contains("://") => "PostgreSQL".to_owned(),
            [word, ..] => word.clone(),
            [] => String::new(),
        }
    }

    /// Resolves `--from` and what belongs to it.
    pub(super) fn broker(&self) -> Result<Option<Broker>, Fatal> {
        let Some(from) = &self.from else {
            return if self.init { Ok(None) } else { Err(usage("--from URL is missing")) };
        };
        let url = address::broker(from).map_err(|why| usage(&format!("--from: {why}")))?;
        let password = match (&self.password_file, url.password) {
            (Some(file), None) => Some(Secret::File(file.clone())),
            (None, Some(password)) => Some(Secret::Typed(password.into())),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(usage("the password is given twice")),
        };
        let login = match (url.user, password) {
            (Some(user), Some(password)) => {
                Some(Login { user: user.as_str().into(), password: Some(password) })
            }
            (Some(user), None) => Some(Login { user: user.as_str().into(), password: None }),
            (None, Some(_)) => return Err(usage("a password needs its user, in --from")),
            (None, None) => None,
        };
        let client = self.cert.clone().zip(self.key.clone().map(Secret::File));
        if !url.tls && (self.ca.is_some() || client.is_some()) {
            return Err(usage("certificates need TLS: --from mqtts://"));
        }
        let client_id = self.client_id.clone().unwrap_or_else(default_client_id);
        let tls = url.tls.then(|| Tls { ca: self.ca.clone(), client });
        Ok(Some(Broker { tls, login, ..Broker::new(&url.host, url.port, &client_id) }))
    }

    /// Returns what to subscribe to: plainly unless a group is named. Brokers know a plain
    /// subscription again after a restart, and not all a shared one (mosquitto before 2.0.12 forgets
    /// it and drops what comes until the receiver is back); and what a dead member was given waits
    /// for it alone. `status` is shared too: each is one row of the ledger, which one receiver of the
    /// group writes as well as all.
    pub(super) fn filters(&self) -> Vec<String> {
        let prefix =
            self.group.as_ref().map_or_else(String::new, |group| format!("$share/{group}/"));
        let leaves = ["data", "event", "self", "status"];
        leaves.iter().map(|leaf| format!("{prefix}fg/1/+/{leaf}")).collect()
    }

    pub(super) fn progress(&self) -> Shown {
        if self.json {
            Shown::Json
        } else if self.quiet {
            Shown::Nothing
        } else {
            Shown::Text
        }
    }
}

fn default_client_id() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("fieldgate-receive-{}", host.trim())
}

fn usage(why: &str) -> Fatal {
    Fatal::new(Exit::Usage, format!("fieldgate-receive: {why}\n  Try:    fieldgate-receive --help"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::parse_from(line.split(' '))
    }

    #[test]
    fn a_command_line_becomes_a_broker() {
        let line = "r --from mqtts://me:pass@h:1 --to ndjson --group g --client-id me-1";
        let arguments = arguments(line);
        let broker = arguments.broker().unwrap().unwrap();
        assert_eq!((broker.host.as_str(), broker.port), ("h", 1));
        assert_eq!(broker.client_id, "me-1");
        assert_eq!(broker.login.unwrap().password.unwrap().read().unwrap(), "pass");
        assert_eq!(arguments.filters()[0], "$share/g/fg/1/+/data");
    }

    #[test]
    fn a_receiver_that_names_no_group_shares_with_nobody() {
        let alone = arguments("r --from mqtt://h --to ndjson");
        assert_eq!(
            alone.filters(),
            ["fg/1/+/data", "fg/1/+/event", "fg/1/+/self", "fg/1/+/status"]
        );
    }

    #[test]
    fn what_does_not_fit_together_is_refused_and_secrets_are_not_repeated() {
        for line in [
            "r --to ndjson",
            "r --to nonsense --from mqtt://h",
            "r --to ndjson --from mqtt://h --password-file f",
            "r --to ndjson --from mqtt://u:secret@h --password-file f",
            "r --to ndjson --from mqtt://h --ca f",
            "r --from mqtt://h --to ndjson --to postgres://u:secret@h/db",
        ] {
            let arguments = arguments(line);
            let refused = arguments.target().err().or_else(|| arguments.broker().err());
            let refused = refused.unwrap_or_else(|| panic!("{line}"));
            assert_eq!(refused.exit, Exit::Usage);
            assert!(!refused.message.contains("secret"));
        }
        assert!(arguments("r --to ndjson --init").broker().unwrap().is_none());
        assert!(!format!("{:?}", Secret::Typed("secret".to_owned().into())).contains("secret"));
    }
}
