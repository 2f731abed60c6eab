//! `fieldgate-receive simulate`: a fleet of gateways that are not there, for those who want to know
//! what their broker, receiver and database carry, and whether they lose anything.
//!
//! It speaks the uplink: sealed batches with their sequence numbers, `status`, `meta` and the last
//! will, a window of unacknowledged batches a gateway, and after a lost connection whatever is not
//! acknowledged again, byte for byte. What it does not do is keep anything on disk: a killed
//! simulation is a fleet that was scrapped. The bodies of its batches are made once and shared, so
//! that one core makes millions of readings a second; only envelopes are new.
//!
//! Its totals say what a receiver's tables must hold. `--lose`, `--duplicate` and `--reorder` do on
//! purpose what brokers do by accident, and count it.

mod arguments;
mod bodies;
mod connection;
mod fleet;
mod totals;

pub use arguments::Simulate;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::connection::Connection;
use self::totals::Totals;
use crate::error::{Exit, Fatal};
use crate::events::Events;
use crate::limits;

impl Simulate {
    /// Sends until `stop` is cancelled or the time is over, waits for what is in flight, and prints
    /// the totals.
    ///
    /// # Errors
    /// When the arguments do not fit together, or this machine's limits.
    pub(super) async fn run(&self, stop: CancellationToken) -> Result<Exit, Fatal> {
        let broker = self.broker()?;
        let fleet = Arc::new(self.fleet()?);
        let totals = Arc::new(Totals::default());
        let events = Events::default();
        let connections = self.connections()?;
        tracing::info!("{}", self.plan(&fleet, connections));
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for index in 0..connections {
            let gateways = share(self.gateways, connections, index);
            let connection = Connection::new(
                Arc::clone(&fleet),
                Arc::clone(&totals),
                events.clone(),
                gateways,
                broker.clone(),
            );
            tasks.spawn(connection.run(stop.clone()));
        }
        let over = self.duration.map(Duration::from);
        let drained = self.wait(&mut tasks, &totals, (over, &stop)).await;
        self.conclude(&totals, began.elapsed(), drained)
    }

    /// Waits for the time to be over, and then for the connections, at most a while.
    async fn wait(
        &self,
        tasks: &mut JoinSet<()>,
        totals: &Totals,
        (over, stop): (Option<Duration>, &CancellationToken),
    ) -> bool {
        let began = Instant::now();
        let end = async {
            match over {
                Some(time) => sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let progress = async {
            loop {
                sleep(limits::SIMULATE_PROGRESS_EVERY).await;
                tracing::info!("{}", totals.progress(began.elapsed()));
            }
        };
        let all = async { while tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = end => {}
            () = stop.cancelled() => {}
            () = all => return true,
            () = progress => {}
        }
        stop.cancel();
        let all = async { while tasks.join_next().await.is_some() {} };
        timeout(limits::SIMULATE_DRAIN_TIME_MAX, all).await.is_ok()
    }

    #[expect(clippy::print_stdout, reason = "the totals are what this command is for")]
    fn conclude(&self, totals: &Totals, took: Duration, drained: bool) -> Result<Exit, Fatal> {
        if self.json {
            println!("{}", totals.json(took));
        } else {
            print!("{}", totals.text(took));
        }
        if totals.connected() == 0 {
            return Ok(Exit::Unreachable);
        }
        Ok(if drained && totals.is_settled() { Exit::Done } else { Exit::Problem })
    }
}

/// Returns the gateways of one of `connections`: they are dealt out evenly.
fn share(gateways: u32, connections: u32, index: u32) -> std::ops::Range<u32> {
    let place = |index: u32| {
        let place = u64::from(gateways) * u64::from(index) / u64::from(connections.max(1));
        u32::try_from(place).unwrap_or(gateways)
    };
    place(index)..place(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gateway_has_one_connection() {
        for (gateways, connections) in [(10, 3), (10_000, 10_000), (7, 1), (50, 49)] {
            let all: Vec<u32> =
                (0..connections).flat_map(|index| share(gateways, connections, index)).collect();
            assert_eq!(all, (0..gateways).collect::<Vec<_>>());
        }
    }
}
