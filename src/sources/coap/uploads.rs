//! Bodies that arrive in blocks (RFC 7959, Block1): assembled in order, bounded in bytes, number
//! and time. No gap is ever filled and no block is taken twice.

use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::time::Instant;

use super::wire::Block;
use crate::limits;

/// Which upload a block belongs to: its sender and the resource it goes to.
pub(super) type Key = (SocketAddr, Vec<Vec<u8>>);

/// Uploads in progress.
#[derive(Debug, Default)]
pub(super) struct Uploads(HashMap<Key, Upload>);

#[derive(Debug)]
struct Upload {
    body: Vec<u8>,
    format: Option<u16>,
    last: Instant,
}

/// What became of a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// More must come: 2.31.
    Continue,
    /// The body is whole.
    Whole(Vec<u8>),
    /// A block is missing, came twice, or belongs to no upload: 4.08.
    Incomplete,
    /// The body is longer than [`limits::COAP_BODY_BYTES_MAX`]: 4.13.
    TooLarge,
    /// A block that is not the last is not full: 4.00.
    Uneven,
    /// Too many uploads are in progress: 5.03.
    Busy,
}

impl Uploads {
    /// Takes a block. Block 0 begins anew, whatever came before; `announced` is its Size1.
    pub(super) fn take(
        &mut self,
        key: Key,
        block: Block,
        (payload, format): (&[u8], Option<u16>),
        announced: Option<u32>,
        now: Instant,
    ) -> Taken {
        if block.more && payload.len() != block.size() || payload.len() > block.size() {
            self.0.remove(&key);
            return Taken::Uneven;
        }
        if block.num == 0 {
            if announced.is_some_and(|size| size as usize > limits::COAP_BODY_BYTES_MAX) {
                self.0.remove(&key);
                return Taken::TooLarge;
            }
            if !block.more {
                self.0.remove(&key);
                return Taken::Whole(payload.to_vec());
            }
            if !self.0.contains_key(&key) && !self.room(key.0, now) {
                return Taken::Busy;
            }
            self.0.insert(key, Upload { body: payload.to_vec(), format, last: now });
            return Taken::Continue;
        }
        let Some(upload) = self.0.get_mut(&key) else { return Taken::Incomplete };
        let idle = now.duration_since(upload.last) >= limits::COAP_UPLOAD_IDLE_MAX;
        if idle || block.offset() != upload.body.len() || upload.format != format {
            self.0.remove(&key);
            return Taken::Incomplete;
        }
        if upload.body.len() + payload.len() > limits::COAP_BODY_BYTES_MAX {
            self.0.remove(&key);
            return Taken::TooLarge;
        }
        upload.body.extend_from_slice(payload);
        upload.last = now;
        if block.more {
            return Taken::Continue;
        }
        self.0.remove(&key).map_or(Taken::Incomplete, |upload| Taken::Whole(upload.body))
    }

    /// Forgets uploads whose senders have given up.
    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|_, upload| now.duration_since(upload.last) < limits::COAP_UPLOAD_IDLE_MAX);
    }

    fn room(&mut self, from: SocketAddr, now: Instant) -> bool {
        self.forget(now);
        let same = self.0.keys().filter(|(other, _)| other.ip() == from.ip()).count();
        self.0.len() < limits::COAP_UPLOADS_MAX && same < limits::COAP_UPLOADS_PER_SOURCE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(host: u8, path: &str) -> Key {
        (SocketAddr::from(([10, 0, 0, host], 1000)), vec![path.as_bytes().to_vec()])
    }

    fn block(num: u32, more: bool) -> Block {
        Block { num, more, exponent: 0 }
    }

    const FULL: (&[u8], Option<u16>) = (&[b'x'; 16], None);

    #[tokio::test]
    async fn blocks_in_order_make_the_body() {
        let mut uploads = Uploads::default();
        let now = Instant::now();
        assert_eq!(uploads.take(key(1, "a"), block(0, true), FULL, None, now), Taken::Continue);
        assert_eq!(uploads.take(key(1, "a"), block(1, true), FULL, None, now), Taken::Continue);
        let whole = uploads.take(key(1, "a"), block(2, false), (b"end", None), None, now);
        assert_eq!(whole, Taken::Whole([&[b'x'; 32][..], b"end"].concat()));
        assert!(uploads.0.is_empty());
    }

    #[tokio::test]
    async fn a_block_out_of_order_ends_the_upload() {
        let now = Instant::now();
        for (num, format) in [(2, None), (0x000f_ffff, None), (1, Some(50))] {
            let mut uploads = Uploads::default();
            uploads.take(key(1, "a"), block(0, true), FULL, None, now);
            let taken = uploads.take(key(1, "a"), block(num, true), (FULL.0, format), None, now);
            assert_eq!(taken, Taken::Incomplete);
            assert!(uploads.0.is_empty());
        }
        let mut uploads = Uploads::default();
        assert_eq!(uploads.take(key(1, "a"), block(1, true), FULL, None, now), Taken::Incomplete);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_at_the_block_that_exceeds_it() {
        let mut uploads = Uploads::default();
        let now = Instant::now();
        let blocks = limits::COAP_BODY_BYTES_MAX as u32 / 16;
        for num in 0..blocks {
            let taken = uploads.take(key(1, "a"), block(num, true), FULL, None, now);
            assert_eq!(taken, Taken::Continue);
        }
        let taken = uploads.take(key(1, "a"), block(blocks, false), (b"x", None), None, now);
        assert_eq!(taken, Taken::TooLarge);
        assert!(uploads.0.is_empty());
        let announced = Some(limits::COAP_BODY_BYTES_MAX as u32 + 1);
        let taken = uploads.take(key(1, "a"), block(0, true), FULL, announced, now);
        assert_eq!(taken, Taken::TooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn half_open_uploads_are_bounded_by_sender_and_in_all_and_end_by_themselves() {
        let mut uploads = Uploads::default();
        let now = Instant::now();
        for n in 0..10_000 {
            uploads.take(key(1, &n.to_string()), block(0, true), FULL, None, now);
        }
        assert_eq!(uploads.0.len(), limits::COAP_UPLOADS_PER_SOURCE_MAX);
        for n in 0..10_000_u32 {
            uploads.take(key((n % 200) as u8, &n.to_string()), block(0, true), FULL, None, now);
        }
        assert_eq!(uploads.0.len(), limits::COAP_UPLOADS_MAX);
        assert_eq!(uploads.take(key(250, "a"), block(0, true), FULL, None, now), Taken::Busy);
        let later = now + limits::COAP_UPLOAD_IDLE_MAX;
        assert_eq!(uploads.take(key(250, "a"), block(0, true), FULL, None, later), Taken::Continue);
        assert_eq!(uploads.0.len(), 1);
    }

    #[tokio::test]
    async fn a_block_that_is_not_full_may_only_be_the_last() {
        let mut uploads = Uploads::default();
        let now = Instant::now();
        let taken = uploads.take(key(1, "a"), block(0, true), (b"short", None), None, now);
        assert_eq!(taken, Taken::Uneven);
        let taken = uploads.take(key(1, "a"), block(0, false), (&[0; 17], None), None, now);
        assert_eq!(taken, Taken::Uneven);
    }
}
