//! A door for the fuzzers: what a failing medium may have made of the files of a store.

use std::path::Path;

use bytes::Bytes;

use crate::batch;
use crate::limits;
use crate::store::wreck::Wreck;

/// Reads the store at `path` as a salvage does; returns the batches that come back.
///
/// # Panics
/// When a batch comes back under a key that is not its own, or more than fit.
#[must_use]
pub fn salvage(path: &Path) -> Vec<Bytes> {
    let Ok(wreck) = Wreck::open(path) else { return Vec::new() };
    let judged = [wreck.is_a_log_alone(), wreck.is_cut(), wreck.is_torn(), wreck.log_is_foreign()];
    let Some(survey) = wreck.survey(None, 1, || true) else { return Vec::new() };
    assert!(survey.slots.is_empty() || !judged[1], "readings of a log that is cut");
    assert!(survey.found() <= limits::SALVAGE_BATCHES_MAX as u64, "more than fit");
    let keys = survey.keys().into_iter();
    let fetched = keys.filter_map(|key| Some((key, wreck.fetch(&survey, key)?.batch.payload)));
    let fetched = fetched.inspect(|((epoch, stream, seq), payload)| {
        let found = batch::header(payload).map(|it| (it.epoch, it.stream, it.sequence));
        let key = (*epoch, stream.name().to_owned(), *seq);
        assert!(found == Ok(key), "under the key of another");
    });
    fetched.map(|(_, payload)| payload).collect()
}
