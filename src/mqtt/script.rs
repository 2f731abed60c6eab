//! The broker's end of a pipe, for tests: it does what the test says, right or wrong.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rumqttc::{Codec, ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio_util::codec::Framed;

use super::{Broker, ConnectError, Session};

/// Bytes that the pipe holds in each direction, as a socket would.
pub const PIPE_BYTES: usize = 64 * 1024;

/// One accepted connection, seen from the broker.
pub struct Peer(Framed<DuplexStream, Codec>);

/// A broker that is never dialled: tests hand over the wire.
pub fn settings() -> Broker {
    Broker { keep_alive: Duration::from_secs(30), ..Broker::new("broker", 1883, "gw-1") }
}

/// Returns both ends of a wire.
pub fn wire() -> (DuplexStream, Peer) {
    let (near, far) = duplex(PIPE_BYTES);
    let codec = Codec { max_incoming_size: 16 << 20, max_outgoing_size: 16 << 20 };
    (near, Peer(Framed::new(far, codec)))
}

/// Returns a session that is logged in, and its broker.
pub async fn connected() -> (Session, Peer) {
    let (near, mut peer) = wire();
    let settings = settings();
    let (session, _) = tokio::join!(Session::open(Box::new(near), &settings, true), async {
        peer.connect().await;
        peer.accept().await;
    });
    (session.unwrap(), peer)
}

/// Logs in to a broker that answers CONNECT with these bytes.
pub async fn answered(bytes: &[u8]) -> Result<Session, ConnectError> {
    let (near, mut peer) = wire();
    let settings = settings();
    let (session, _) = tokio::join!(Session::open(Box::new(near), &settings, true), async {
        peer.connect().await;
        peer.raw(bytes).await;
        peer
    });
    session
}

impl Peer {
    /// Returns the next packet; `None` when the client has closed.
    pub async fn next(&mut self) -> Option<Packet> {
        self.0.next().await?.ok()
    }

    /// Expects CONNECT.
    pub async fn connect(&mut self) -> Connect {
        match self.next().await {
            Some(Packet::Connect(connect)) => connect,
            other => panic!("no CONNECT: {other:?}"),
        }
    }

    /// Expects PUBLISH.
    pub async fn publish(&mut self) -> Publish {
        match self.next().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("no PUBLISH: {other:?}"),
        }
    }

    /// Answers CONNECT with success and no session.
    pub async fn accept(&mut self) {
        self.send(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))).await;
    }

    /// Sends PUBACK.
    pub async fn puback(&mut self, id: u16) {
        self.send(Packet::PubAck(PubAck::new(id))).await;
    }

    /// Sends a packet; a client that is gone does not hear it.
    pub async fn send(&mut self, packet: Packet) {
        let _ = self.0.send(packet).await;
    }

    /// Sends bytes as they are.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.0.get_mut().write_all(bytes).await;
    }
}
