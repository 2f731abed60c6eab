//! A hidden door for those who throw noise at this room: its decoders without a socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::payload::{self, Place, Refusal};
use super::server::Server;
use super::settings::Listener;
use crate::clock::Manual;
use crate::events::Events;
use crate::reading::{Points, UnixMillis};
use crate::sources::Outlet;

/// Reads a body posted to `/device` or `/device/point`; returns how many values it held.
#[must_use]
pub fn posted(format: Option<u16>, to_a_point: bool, body: &[u8], now: UnixMillis) -> usize {
    let place = Place { device: "device".into(), point: to_a_point.then(|| "point".into()) };
    match payload::posted(&place, format, body, now) {
        Ok(rows) => rows.len(),
        Err(Refusal::Bad(why)) => {
            assert!(!why.is_empty(), "refused without a word");
            0
        }
        Err(Refusal::Unsupported(_)) => 0,
    }
}

/// Gives datagrams to a listener without a socket; returns how many it answered, having made sure
/// that no answer is larger than its question allows.
#[must_use]
pub fn answered(datagrams: &[&[u8]], now: UnixMillis) -> usize {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 5683));
    let settings = Listener { name: "door".into(), listen, allow: Vec::new() };
    let (groups, _received) = mpsc::channel(4);
    let outlet = Outlet {
        groups,
        points: Arc::new(Points::default()),
        clock: Arc::new(Manual::new(now)),
        events: Events::default(),
    };
    let start = Instant::now();
    let mut server = Server::new(&settings, start);
    let answers = datagrams.iter().filter_map(|datagram| {
        let answer = server.on_datagram(&outlet, listen, datagram, start)?;
        let limit = datagram.len() * crate::limits::COAP_AMPLIFICATION_MAX;
        assert!(answer.len() <= limit.max(64), "{} bytes for {}", answer.len(), datagram.len());
        Some(())
    });
    let answers = answers.count();
    server.on_tick(&outlet, start);
    answers
}
