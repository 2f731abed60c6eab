//! The simplest sink: a line of JSON a reading on standard output, as `fieldgate decode` prints
//! them. It remembers nothing, so a batch that comes twice is printed twice, under the same key.

use std::io::{self, BufWriter, Write as _};

use futures_util::future::BoxFuture;

use super::sink::{Away, Delivery, Sink, Verdict};
use crate::batch::text;
use crate::events::receive as say;

/// Prints to standard output.
#[derive(Debug, Default)]
pub(super) struct Ndjson;

impl Sink for Ndjson {
    fn store<'a>(&'a mut self, slice: &'a [Delivery]) -> BoxFuture<'a, Result<Vec<Verdict>, Away>> {
        Box::pin(async move {
            print(slice).map_err(|e| Away(Box::new(say::output_refused(e.kind()))))?;
            Ok(vec![Verdict::Stored; slice.len()])
        })
    }
}

fn print(slice: &[Delivery]) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for delivery in slice {
        text::write_batch(&delivery.batch, false, &mut out)?;
    }
    out.flush()
}
