//! What another room has to do at the broker of an uplink, over the uplink's own session: topics it
//! listens to and what it publishes. A second session would cost a metered link its keep-alive and
//! many brokers a second account.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Message;
use crate::limits;

/// One thing to do at the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// Listen to these topics, on this connection.
    Listen(Vec<String>),
    /// Publish with QoS 1.
    Publish {
        /// Where.
        topic: String,
        /// What.
        payload: Bytes,
        /// Whether the broker keeps it for later subscribers.
        retain: bool,
    },
}

/// The uplink's end.
#[derive(Debug)]
pub struct Carrier {
    /// Topics that begin like this are the other end's.
    pub prefix: String,
    /// To whom what arrives there is given. When its queue is full, a message is dropped: whoever
    /// asked for it asks again.
    pub letters: mpsc::Sender<Message>,
    /// What is to be done; waits while there is no connection.
    pub errands: mpsc::Receiver<Errand>,
}

/// The other end.
#[derive(Debug)]
pub struct Sender {
    /// What arrived on [`Carrier::prefix`].
    pub letters: mpsc::Receiver<Message>,
    /// Takes errands.
    pub errands: mpsc::Sender<Errand>,
}

/// Makes both ends for the topics that begin with `prefix`.
#[must_use]
pub fn errands(prefix: String) -> (Carrier, Sender) {
    let (letters, arrived) = mpsc::channel(limits::LETTERS_QUEUED_MAX);
    let (told, errands) = mpsc::channel(limits::ERRANDS_QUEUED_MAX);
    (Carrier { prefix, letters, errands }, Sender { letters: arrived, errands: told })
}
