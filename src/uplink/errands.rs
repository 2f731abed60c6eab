//! Errands of other rooms on this connection: they come after whatever the batches need, and never
//! end a connection.

use super::Memory;
use super::outbox::Outbox;
use super::talk::Talk;
use crate::mqtt::{Errand, Message, SessionError};

impl Memory {
    /// Waits for the next errand; for ever when nobody has any.
    pub(super) async fn errand(&mut self) -> Errand {
        match &mut self.carrier {
            Some(carrier) => match carrier.errands.recv().await {
                Some(errand) => errand,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Hands a message to whoever listens for it.
    pub(super) fn deliver(&self, message: Message) {
        if let Some(carrier) = &self.carrier
            && message.topic.starts_with(&carrier.prefix)
        {
            // Whoever asked for it asks again.
            let _ = carrier.letters.try_send(message);
        }
    }
}

impl<O: Outbox> Talk<'_, O> {
    /// Does an errand. What the broker does not take is its sender's to notice.
    pub(super) async fn run_errand(&mut self, errand: Errand) -> Result<(), SessionError> {
        let ended = match errand {
            Errand::Listen(topics) => self.session.subscribe(&topics).await,
            Errand::Publish { topic, payload, retain } => {
                self.session.publish(&topic, payload, retain).await.map(drop)
            }
        };
        match ended {
            Err(
                SessionError::Filter(..) | SessionError::TooLarge { .. } | SessionError::Topic(_),
            ) => {
                tracing::debug!("{}: the broker does not take an errand", self.subject());
                Ok(())
            }
            ended => ended,
        }
    }
}
