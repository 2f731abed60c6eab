//! Whether the uplinks work with what is on trial as they did before it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Gateway;

/// Returns the uplinks that work now, with their batches: see [`works`].
pub(super) fn proven(gateway: &Gateway, within: Duration) -> Vec<(Arc<str>, u64)> {
    let links = gateway.links().into_iter();
    let working = links.filter(|(_, link)| works(link.connected, link.last_acknowledged, within));
    working.map(|(name, link)| (name, link.batches)).collect()
}

/// Returns whether an uplink has acknowledged something and is connected, or did so within the time.
/// The time alone would not do: batches may be further apart than a short trial lasts.
fn works(connected: bool, last_acknowledged: Option<Instant>, within: Duration) -> bool {
    last_acknowledged.is_some_and(|at| connected || at.elapsed() <= within)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_uplink_works_while_it_is_connected_however_short_the_trial_is() {
        let acknowledged = Some(Instant::now());
        tokio::time::advance(Duration::from_secs(60)).await;
        let short = Duration::from_secs(5);
        assert!(works(true, acknowledged, short), "its batches are a minute apart");
        assert!(works(false, acknowledged, Duration::from_secs(300)), "it was there a minute ago");
        assert!(!works(false, acknowledged, short), "it was away before the change");
        assert!(!works(true, None, short), "it has proved nothing yet");
    }
}
