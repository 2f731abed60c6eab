//! tokio-modbus, which knows how requests and answers are written, kept away from the wire. It
//! speaks into a hatch in memory; the guard takes the request from there, and puts an answer back
//! only when it is the answer. So no wrong count, late answer or noise ever reaches its codec, and a
//! call that failed leaves nothing behind in it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_modbus::client::{self, Client as _};
use tokio_modbus::{ExceptionCode, Request, Response, Slave, slave::SlaveContext as _};

use super::frame::{Fault, Framing};
use super::guard::{Guard, Patience};
use super::plan::Span;
use super::settings::Table;

/// What a device said.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// As many registers as were asked for.
    Words(Vec<u16>),
    /// At least as many bits as were asked for, filled up to whole bytes.
    Bits(Vec<bool>),
    /// It will not tell.
    Exception(ExceptionCode),
}

/// One Modbus client without a wire; lives as long as its bus, over all connections.
pub(super) struct Speaker {
    context: client::Context,
    hatch: Hatch,
}

impl Speaker {
    pub(super) fn new(framing: Framing) -> Self {
        let hatch = Hatch::default();
        let context = match framing {
            Framing::Rtu => client::rtu::attach(hatch.clone()),
            Framing::Mbap => client::tcp::attach(hatch.clone()),
        };
        Self { context, hatch }
    }

    /// Asks `unit` for `span` through `guard`. A unit that owes an answer of the same shape is asked
    /// for a few elements more, so that the late answer does not fit.
    pub(super) async fn read(
        &mut self,
        guard: &mut Guard,
        unit: u8,
        span: Span,
        patience: Patience,
    ) -> Result<Answer, Fault> {
        let count = guard.distinct_count(unit, function(span.table), span.count);
        // No size is safe: as long as that lasts, it is as if the unit gave no answer.
        let count = count.filter(|count| span.address.checked_add(count - 1).is_some());
        let widened = Span { count: count.ok_or(Fault::Timeout)?, ..span };
        let mut answer = self.call(guard, unit, widened, patience).await?;
        match &mut answer {
            // It may be about the wider read or about an earlier question: ask again to be sure.
            Answer::Exception(_) if widened != span || guard.is_owed_by(unit) => {
                guard.forgive(unit);
                return self.call(guard, unit, span, patience).await;
            }
            Answer::Words(words) => words.truncate(span.count.into()),
            Answer::Bits(_) | Answer::Exception(_) => {}
        }
        Ok(answer)
    }

    async fn call(
        &mut self,
        guard: &mut Guard,
        unit: u8,
        span: Span,
        patience: Patience,
    ) -> Result<Answer, Fault> {
        self.hatch.clear();
        self.context.set_slave(Slave(unit));
        let mut call = self.context.call(match span.table {
            Table::Coil => Request::ReadCoils(span.address, span.count),
            Table::Discrete => Request::ReadDiscreteInputs(span.address, span.count),
            Table::Holding => Request::ReadHoldingRegisters(span.address, span.count),
            Table::Input => Request::ReadInputRegisters(span.address, span.count),
        });
        if once(&mut call).await.is_ready() {
            return Err(Fault::Garbage);
        }
        let request = self.hatch.spoken();
        let answer = guard.exchange(&request, patience).await?;
        self.hatch.hear(answer);
        match once(&mut call).await {
            Poll::Ready(Ok(Ok(
                Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words),
            ))) if words.len() == usize::from(span.count) => Ok(Answer::Words(words)),
            Poll::Ready(Ok(Ok(Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits))))
                if bits.len() >= usize::from(span.count) =>
            {
                Ok(Answer::Bits(bits))
            }
            Poll::Ready(Ok(Err(code))) => Ok(Answer::Exception(code)),
            _ => Err(Fault::Garbage),
        }
    }
}

/// Returns the function code that reads `table` (Modbus Application Protocol 1.1b3, section 6).
fn function(table: Table) -> u8 {
    match table {
        Table::Coil => 0x01,
        Table::Discrete => 0x02,
        Table::Holding => 0x03,
        Table::Input => 0x04,
    }
}

/// Polls a future once: the hatch answers at once or not at all, so no waker is needed.
async fn once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

/// What was said on either side. Held by the client's codec and by the speaker.
#[derive(Debug, Clone, Default)]
struct Hatch(Arc<Mutex<Words>>);

#[derive(Debug, Default)]
struct Words {
    spoken: Vec<u8>,
    heard: Vec<u8>,
}

impl Hatch {
    fn lock(&self) -> MutexGuard<'_, Words> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        let mut words = self.lock();
        words.spoken.clear();
        words.heard.clear();
    }

    fn spoken(&self) -> Vec<u8> {
        self.lock().spoken.clone()
    }

    fn hear(&self, answer: &[u8]) {
        self.lock().heard.extend_from_slice(answer);
    }
}

impl AsyncRead for Hatch {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let heard = &mut self.lock().heard;
        if heard.is_empty() {
            return Poll::Pending;
        }
        let taken = heard.len().min(buffer.remaining());
        buffer.put_slice(&heard[..taken]);
        heard.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Hatch {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock().spoken.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
