//! What a broker's connections take of a metered link: the bytes that pass the socket, TLS and its
//! handshakes among them, and what TCP/IP adds, which a program cannot see and a provider counts.
//!
//! The addition is an estimate that rather says too much: each segment begun costs its own header
//! and that of its acknowledgement, and each dial the packets that begin and end a connection.
//! Segments that are lost and sent again are not seen.

use std::fmt;
use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a segment on mobile links, whose MTU is around 1,430 to 1,500.
const SEGMENT_BYTES: u64 = 1400;
/// IPv4 (20), TCP (20) and its timestamps (12), of a segment and of its acknowledgement.
const SEGMENT_OVERHEAD: u64 = 2 * 52;
/// A question to a name server with its answer, three packets to begin and four to end.
const DIAL_BYTES: u64 = 200 + 7 * 52;

/// Counts bytes in both directions; clones count together.
#[derive(Clone, Default)]
pub struct Meter(Arc<AtomicU64>);

impl fmt::Debug for Meter {
    /// Without its count: a meter that has counted is no other setting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meter")
    }
}

impl Meter {
    /// Returns the bytes since the start.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts a dial, whatever comes of it.
    pub fn dialled(&self) {
        self.0.fetch_add(DIAL_BYTES, Ordering::Relaxed);
    }

    /// Returns a wire whose bytes are counted.
    pub fn on<W>(&self, wire: W) -> Metered<W> {
        Metered { wire, meter: self.clone() }
    }

    /// Counts bytes that never passed.
    #[cfg(test)]
    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn passed(&self, bytes: usize) {
        let bytes = bytes as u64;
        let takes = bytes + bytes.div_ceil(SEGMENT_BYTES) * SEGMENT_OVERHEAD;
        self.0.fetch_add(takes, Ordering::Relaxed);
    }
}

/// See [`Meter::on`].
pub struct Metered<W> {
    wire: W,
    meter: Meter,
}

impl<W: AsyncRead + Unpin> AsyncRead for Metered<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.wire).poll_read(cx, into);
        self.meter.passed(into.filled().len() - before);
        polled
    }
}

impl<W: AsyncWrite + Unpin> Metered<W> {
    fn wrote(&self, polled: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = polled {
            self.meter.passed(bytes);
        }
        polled
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Metered<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.wire).poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.wire).poll_write_vectored(cx, slices);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn both_directions_are_counted_with_what_tcp_adds() {
        let meter = Meter::default();
        meter.dialled();
        assert_eq!(meter.bytes(), DIAL_BYTES);
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let mut near = meter.on(near);
        near.write_all(&[1; 3000]).await.unwrap();
        assert_eq!(meter.bytes(), DIAL_BYTES + 3000 + 3 * SEGMENT_OVERHEAD);
        far.write_all(&[2; 4]).await.unwrap();
        let mut four = [0; 4];
        near.read_exact(&mut four).await.unwrap();
        assert_eq!(meter.bytes(), DIAL_BYTES + 3004 + 4 * SEGMENT_OVERHEAD);
    }
}
