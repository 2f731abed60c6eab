//! A connection to PostgreSQL with its statements. The driver's connection is a future of its own; it
//! is driven here beside the work that waits for it, so there is no task to look after.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};

use tokio_postgres::{Client, Error, NoTls, Statement};

use super::tls::Rustls;
use super::{Access, ledger};
use crate::receive::arguments::Layout;

/// The driver's half of a connection.
pub(super) type Driver = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// A connection without our tables.
pub(super) struct Line {
    pub(super) client: Client,
    pub(super) driver: Driver,
}

/// A connection that works, as far as one knows.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) driver: Driver,
    pub(super) statements: Statements,
    /// Numbers of the series this connection has seen, by their names joined.
    pub(super) series: HashMap<Box<str>, i32>,
}

/// Prepared once a connection.
pub(super) struct Statements {
    pub(super) insert_batches: Statement,
    pub(super) insert_series: Statement,
    pub(super) find_series: Statement,
    pub(super) last: Option<Statement>,
    pub(super) copy: Statement,
    pub(super) acks: Statement,
    pub(super) note: Statement,
}

impl Line {
    /// Connects and logs in.
    pub(super) async fn open(access: &Access) -> Result<Self, Error> {
        let Access { config, tls } = access;
        Ok(match tls {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                Self { client, driver: Box::pin(connection) }
            }
            Some(tls) => {
                let (client, connection) = config.connect(Rustls(tls.clone())).await?;
                Self { client, driver: Box::pin(connection) }
            }
        })
    }

    /// Prepares the statements for a layout.
    pub(super) async fn prepare(self, layout: Layout) -> Result<Link, Error> {
        let Self { client, mut driver } = self;
        let copy = match layout {
            Layout::Narrow => ledger::COPY_NARROW,
            Layout::Array => ledger::COPY_ARRAY,
        };
        let work = async {
            Ok(Statements {
                insert_batches: client.prepare(ledger::INSERT_BATCHES).await?,
                insert_series: client.prepare(ledger::INSERT_SERIES).await?,
                find_series: client.prepare(ledger::FIND_SERIES).await?,
                last: match layout {
                    Layout::Narrow => Some(client.prepare(ledger::UPSERT_LAST).await?),
                    Layout::Array => None,
                },
                copy: client.prepare(copy).await?,
                acks: client.prepare(ledger::ACKS).await?,
                note: client.prepare(ledger::NOTE).await?,
            })
        };
        let statements = drive(&mut driver, work).await?;
        Ok(Link { client, driver, statements, series: HashMap::new() })
    }
}

/// Does `work` with the connection driven.
pub(super) async fn drive<T>(
    driver: &mut Driver,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        ended = driver => match ended {
            // The connection knows why; the work only that it is closed.
            Err(error) => Err(error),
            Ok(()) => work.await,
        },
    }
}
