//! Whether the uplinks work with what is on trial as they did before it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Gateway;

/// Returns the uplinks whose broker has acknowledged something within the time, with their batches.
pub(super) fn proven(gateway: &Gateway, within: Duration) -> Vec<(Arc<str>, u64)> {
    let lately = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() <= within);
    let links = gateway.links().into_iter();
    links
        .filter(|(_, link)| lately(link.last_acknowledged))
        .map(|(name, link)| (name, link.batches))
        .collect()
}

/// Returns an uplink that worked before and has not got a batch acknowledged since. One that is not
/// there any more needs not; when none of them is, any batch of any uplink will do.
pub(super) fn unproven(gateway: &Gateway, proven: &[(Arc<str>, u64)]) -> Option<Arc<str>> {
    let links = gateway.links();
    let mut are_there = false;
    for (name, before) in proven {
        if let Some((_, link)) = links.iter().find(|(known, _)| known == name) {
            are_there = true;
            if link.batches <= *before {
                return Some(Arc::clone(name));
            }
        }
    }
    let any = links.iter().any(|(_, link)| link.batches > 0);
    let (first, _) = proven.first()?;
    (!are_there && !any).then(|| Arc::clone(first))
}
