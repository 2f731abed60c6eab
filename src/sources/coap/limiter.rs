//! How many requests a second one address may make: a token bucket an address, in a table that
//! forged addresses cannot fill beyond its bound.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{
    COAP_REQUESTS_BURST_MAX as BURST, COAP_REQUESTS_PER_SECOND_MAX as RATE, COAP_SOURCES_MAX,
};

/// The table is searched for idle addresses at most this often; a search looks at all of them.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Allowances by address. While the table is full of busy addresses, all others share one
/// allowance: a flood of forged addresses then slows newcomers, never those already known.
#[derive(Debug)]
pub(super) struct Limiter {
    known: HashMap<IpAddr, Bucket>,
    others: Bucket,
    swept: Instant,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self { left: f64::from(BURST), at: now }
    }

    fn refill(&mut self, now: Instant) {
        let earned = now.duration_since(self.at).as_secs_f64() * f64::from(RATE);
        self.left = (self.left + earned).min(f64::from(BURST));
        self.at = now;
    }

    fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let granted = self.left >= 1.0;
        if granted {
            self.left -= 1.0;
        }
        granted
    }
}

impl Limiter {
    pub(super) fn new(now: Instant) -> Self {
        Self { known: HashMap::new(), others: Bucket::full(now), swept: now }
    }

    /// Returns whether a request from `address` may be looked at now.
    pub(super) fn admit(&mut self, address: IpAddr, now: Instant) -> bool {
        let address = network(address);
        if let Some(bucket) = self.known.get_mut(&address) {
            return bucket.take(now);
        }
        if self.known.len() >= COAP_SOURCES_MAX {
            self.sweep(now);
        }
        if self.known.len() >= COAP_SOURCES_MAX {
            return self.others.take(now);
        }
        self.known.entry(address).or_insert_with(|| Bucket::full(now)).take(now)
    }

    /// Drops addresses that have their whole allowance again: forgetting them changes nothing.
    fn sweep(&mut self, now: Instant) {
        if now.duration_since(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        self.known.retain(|_, bucket| {
            bucket.refill(now);
            bucket.left < f64::from(BURST)
        });
    }
}

/// Returns what counts as one sender: an IPv4 address, or an IPv6 /64, of which every host may
/// choose addresses at will.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_granted_then_the_rate_and_others_are_not_touched() {
        let now = Instant::now();
        let mut limiter = Limiter::new(now);
        let granted = (0..1000).filter(|_| limiter.admit(v4(1), now)).count();
        assert_eq!(granted, BURST as usize);
        assert!(limiter.admit(v4(2), now));
        let later = now + Duration::from_secs(1);
        assert_eq!((0..1000).filter(|_| limiter.admit(v4(1), later)).count(), RATE as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_ipv6_network_share_and_mapped_ipv4_is_ipv4() {
        assert_eq!(
            network("fd00::1:2".parse().unwrap()),
            network("fd00::ffff:ffff".parse().unwrap())
        );
        assert_ne!(
            network("fd00:0:0:1::1".parse().unwrap()),
            network("fd00:0:0:2::1".parse().unwrap())
        );
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), v4(1));
    }

    #[tokio::test(start_paused = true)]
    async fn forged_addresses_fill_the_table_only_to_its_bound_and_share_the_rest() {
        let now = Instant::now();
        let mut limiter = Limiter::new(now);
        let granted = (0..100_000).filter(|n| limiter.admit(v4(*n), now)).count();
        assert_eq!(limiter.known.len(), COAP_SOURCES_MAX);
        assert_eq!(granted, COAP_SOURCES_MAX + BURST as usize);
        let later = now + Duration::from_secs(5);
        assert!(limiter.admit(v4(200_000), later), "idle addresses were not forgotten");
        assert_eq!(limiter.known.len(), 1);
    }
}
