//! PostgreSQL as a sink: readings by COPY, and a ledger row a batch in the same transaction.
//!
//! That row is what makes a batch arrive once: its key is unique, and whoever inserts it stores the
//! readings. A receiver that dies before its commit has stored nothing, one that dies between commit
//! and PUBACK is sent the batch again and finds the row. Two layouts hold the readings: *narrow*, a
//! row each, which every tool understands, and *array*, a row a series and batch, which costs a
//! quarter. Views (`latest`, `gaps`, and `readings` over arrays) make them look alike.
//!
//! Nothing is remembered here that the database does not hold, but for the numbers of series. A
//! connection that fails in any way is thrown away, and the slice is offered again on a new one.

mod copy;
mod ledger;
mod link;
mod names;
mod schema;
mod tls;
mod trouble;

use futures_util::future::BoxFuture;

use self::copy::Rows;
use self::link::{Line, Link, drive};
use self::schema::Found;
pub(super) use self::trouble::{Access, Trouble, configuration};
use super::arguments::Layout;
use super::sink::{Ack, Away, Delivery, Sequence, Sink, Status, Verdict};
use crate::events::receive as say;

/// A database that holds our tables.
pub(super) struct Postgres {
    access: Access,
    /// Where it is, for people: without user or password.
    place: String,
    layout: Layout,
    link: Option<Link>,
    rows: Rows,
}

impl Postgres {
    /// Connects, makes the tables when `init`, and sees that they are what this program writes.
    /// `asked` is the layout that was asked for; without it, the one that is there.
    ///
    /// # Errors
    /// [`Trouble::Weather`] passes by itself; the others want a person.
    pub(super) async fn open(
        access: Access,
        init: bool,
        asked: Option<Layout>,
    ) -> Result<Self, Trouble> {
        let place = trouble::place(&access.config);
        let sort = |error| trouble::sort(&place, &error);
        let mut line = Line::open(&access).await.map_err(sort)?;
        let Line { client, driver } = &mut line;
        let mut found = drive(driver, schema::look(client)).await.map_err(sort)?;
        if init && !matches!(found, Found::Version(_)) {
            let layout = match found {
                Found::Ours(layout) => layout,
                _ => asked.unwrap_or(Layout::Narrow),
            };
            drive(driver, schema::init(client, layout)).await.map_err(sort)?;
            found = drive(driver, schema::look(client)).await.map_err(sort)?;
        }
        let layout = match found {
            Found::Ours(layout) if asked.is_none_or(|asked| asked == layout) => layout,
            Found::Ours(layout) => {
                return Err(Trouble::Person(Box::new(say::other_layout(&place, layout.name()))));
            }
            Found::Nothing => return Err(Trouble::Person(Box::new(say::no_tables(&place)))),
            Found::Version(version) => {
                let notice = say::other_version(&place, version, schema::VERSION);
                return Err(Trouble::Person(Box::new(notice)));
            }
        };
        let link = line.prepare(layout).await.map_err(sort)?;
        Ok(Self { access, place, layout, link: Some(link), rows: Rows::new(layout) })
    }

    /// Takes the connection, or makes a new one. Whoever has it puts it back when all went well, so
    /// that one whose work was cut short is never used again.
    async fn link(&mut self) -> Result<Link, tokio_postgres::Error> {
        if let Some(link) = self.link.take().filter(|link| !link.client.is_closed()) {
            return Ok(link);
        }
        Line::open(&self.access).await?.prepare(self.layout).await
    }

    async fn transact(
        &mut self,
        slice: &[Delivery],
    ) -> Result<Vec<Verdict>, tokio_postgres::Error> {
        let mut link = self.link().await?;
        let Link { client, driver, statements, series } = &mut link;
        let work = ledger::store(client, statements, series, &mut self.rows, slice);
        let stored = drive(driver, work).await?;
        self.link = Some(link);
        Ok(stored)
    }

    /// Stores a slice; one that holds what PostgreSQL cannot store is taken apart.
    async fn take(&mut self, slice: &[Delivery]) -> Result<Vec<Verdict>, tokio_postgres::Error> {
        let mut tries = 0;
        loop {
            match self.transact(slice).await {
                Err(error) if trouble::is_conflict(&error) && tries < CONFLICT_TRIES_MAX => {
                    tries += 1;
                }
                Err(error) if trouble::is_of_data(&error) => break,
                other => return other,
            }
        }
        let mut verdicts = Vec::with_capacity(slice.len());
        for delivery in slice {
            match self.transact(std::slice::from_ref(delivery)).await {
                Ok(verdict) => verdicts.extend(verdict),
                Err(error) if trouble::is_of_data(&error) => {
                    verdicts.push(Verdict::Refused(trouble::words(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(verdicts)
    }

    fn away(&self, error: &tokio_postgres::Error) -> Away {
        match trouble::sort(&self.place, error) {
            Trouble::Weather(notice) | Trouble::Person(notice) => Away(notice),
        }
    }
}

/// Tries of a slice that another transaction got in the way of, before it counts as trouble.
const CONFLICT_TRIES_MAX: u32 = 3;

impl Sink for Postgres {
    fn store<'a>(&'a mut self, slice: &'a [Delivery]) -> BoxFuture<'a, Result<Vec<Verdict>, Away>> {
        Box::pin(async move { self.take(slice).await.map_err(|error| self.away(&error)) })
    }

    fn note<'a>(&'a mut self, statuses: &'a [Status]) -> BoxFuture<'a, Result<(), Away>> {
        Box::pin(async move {
            let work = async {
                let mut link = self.link().await?;
                let Link { client, driver, statements, .. } = &mut link;
                drive(driver, ledger::note(client, statements, statuses)).await?;
                self.link = Some(link);
                Ok(())
            };
            let done: Result<_, tokio_postgres::Error> = work.await;
            done.map_err(|error| self.away(&error))
        })
    }

    fn acks<'a>(&'a mut self, sequences: &'a [Sequence]) -> BoxFuture<'a, Result<Vec<Ack>, Away>> {
        Box::pin(async move {
            let work = async {
                let mut link = self.link().await?;
                let Link { client, driver, statements, .. } = &mut link;
                let acks = drive(driver, ledger::acks(client, statements, sequences)).await?;
                self.link = Some(link);
                Ok(acks)
            };
            let done: Result<_, tokio_postgres::Error> = work.await;
            done.map_err(|error| self.away(&error))
        })
    }
}
