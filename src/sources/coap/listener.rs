//! The listener as a source: one UDP socket in front of [`Server`], taken again and again while
//! its port is not free.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::server::Server;
use super::settings::Listener;
use crate::events;
use crate::limits;
use crate::sources::{Outlet, Running, Source};

/// How often the server forgets what has run out.
const TICK: Duration = Duration::from_secs(10);
/// What a backlog may take at the end, within the second that a source has to stop.
const FAREWELL: Duration = Duration::from_millis(700);
/// Pause after the socket could not receive, so that a broken network does not spin.
const RECEIVE_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Failures to receive in a row after which the socket is taken anew.
const RECEIVE_FAILURES_MAX: u32 = 50;

/// A CoAP server that devices post readings to.
pub struct CoapListener {
    settings: Listener,
    bound: watch::Sender<Option<SocketAddr>>,
}

impl CoapListener {
    /// Prepares a listener; the port is taken when it runs.
    #[must_use]
    pub fn new(settings: Listener) -> Self {
        Self { settings, bound: watch::Sender::new(None) }
    }

    /// Returns where it listens, once it does; `None` until then. With port 0 in the settings this
    /// is how to learn the port.
    #[must_use]
    pub fn bound(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.bound.subscribe()
    }

    async fn bind(&self, outlet: &Outlet) -> UdpSocket {
        let at = self.settings.listen;
        let subject = self.settings.subject();
        loop {
            match UdpSocket::bind(at).await {
                Ok(socket) => {
                    outlet.events.clear(&events::coap::LISTEN, &subject, "listens");
                    let bound = socket.local_addr().unwrap_or(at);
                    tracing::info!("{subject} takes readings on {bound} (UDP)");
                    self.bound.send_replace(Some(bound));
                    return socket;
                }
                Err(e) => {
                    outlet.events.raise(events::coap::cannot_listen(&subject, at, words(e.kind())));
                    sleep(limits::COAP_BIND_RETRY_DELAY).await;
                }
            }
        }
    }

    async fn serve(&self, outlet: &Outlet, server: &mut Server) {
        let mut buffer = vec![0; limits::COAP_DATAGRAM_BYTES_MAX];
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let socket = self.bind(outlet).await;
            let mut failures = 0;
            while failures < RECEIVE_FAILURES_MAX {
                tokio::select! {
                    permit = outlet.groups.reserve(), if !server.backlog.is_empty() => {
                        let (Ok(permit), Some(group)) = (permit, server.backlog.pop_front()) else {
                            // The gateway is stopping; nobody takes readings any more.
                            return std::future::pending().await;
                        };
                        permit.send(group);
                    }
                    _ = tick.tick() => server.on_tick(outlet, Instant::now()),
                    received = socket.recv_from(&mut buffer) => match received {
                        Ok((length, from)) => {
                            failures = 0;
                            let datagram = &buffer[..length];
                            let reply = server.on_datagram(outlet, from, datagram, Instant::now());
                            if let Some(reply) = reply {
                                // A reply that cannot leave is a lost datagram; its request will
                                // come again and find the answer remembered.
                                let _ = socket.send_to(&reply, from).await;
                            }
                        }
                        Err(_) => {
                            failures += 1;
                            sleep(RECEIVE_RETRY_DELAY).await;
                        }
                    }
                }
            }
        }
    }
}

impl Source for CoapListener {
    fn name(&self) -> String {
        self.settings.subject()
    }

    fn run<'a>(&'a mut self, outlet: Outlet, stop: CancellationToken) -> Running<'a> {
        Box::pin(async move {
            let mut server = Server::new(&self.settings, Instant::now());
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.serve(&outlet, &mut server) => {}
            }
            self.bound.send_replace(None);
            let drained = timeout(FAREWELL, async {
                for group in server.backlog.drain(..) {
                    outlet.send(group).await;
                }
            });
            let in_time = drained.await.is_ok();
            tracing::debug!(in_time, counters = ?server.counters, "{} stopped", self.name());
        })
    }
}

/// Says why a socket could not be opened.
fn words(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::AddrInUse => "another program has it",
        ErrorKind::AddrNotAvailable => "no interface has this address",
        ErrorKind::PermissionDenied => "the gateway may not take it",
        _ => "the system refuses it",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock;
    use crate::events::Events;
    use crate::reading::Points;

    #[tokio::test(start_paused = true)]
    async fn a_taken_port_is_told_once_and_taken_as_soon_as_it_is_free() {
        let blocker = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let listen = blocker.local_addr().unwrap();
        let mut listener =
            CoapListener::new(Listener { name: "push".into(), listen, allow: Vec::new() });
        let mut bound = listener.bound();
        let events = Events::default();
        let (groups, _kept) = tokio::sync::mpsc::channel(8);
        let outlet = Outlet {
            groups,
            points: Arc::new(Points::default()),
            clock: Arc::new(clock::System),
            events: events.clone(),
        };
        let stop = CancellationToken::new();
        let test = async {
            sleep(Duration::from_secs(60)).await;
            let standing = events.standing();
            assert_eq!(standing.len(), 1);
            assert!(standing[0].count > 10, "it is not tried again and again");
            let text = standing[0].notice.to_string();
            assert!(text.contains("another program has it"), "{text}");
            assert!(!text.contains("os error"), "{text}");
            drop(blocker);
            let at = *bound.wait_for(Option::is_some).await.unwrap();
            assert_eq!(at, Some(listen));
            assert!(events.standing().is_empty());
            stop.cancel();
        };
        tokio::join!(listener.run(outlet, stop.clone()), test);
    }
}
