//! Other settings and other uplinks for a store that runs.

use std::sync::Arc;

use super::Writer;
use crate::limits;
use crate::store::disk::Outcome;
use crate::store::settings::{Settings, Write};
use crate::store::trouble::StoreError;

impl Writer {
    /// Takes other settings and other uplinks. Who has what is read anew from the file, as at a start.
    pub(super) fn change(
        &mut self,
        settings: Settings,
        uplinks: Vec<Arc<str>>,
    ) -> Result<(), StoreError> {
        let is_held = settings.write == Write::WhenNeeded && is_alone(&uplinks);
        self.held.on &= is_held;
        let done = self.step(false);
        let before = std::mem::replace(&mut self.uplinks, uplinks);
        let bytes_max = self.settings.bytes_max;
        self.settings = Settings {
            path: std::mem::take(&mut self.settings.path),
            gateway: Arc::clone(&self.settings.gateway),
            commit: settings.commit.max(limits::COMMIT_MIN),
            ..settings
        };
        if before == self.uplinks && bytes_max == self.settings.bytes_max {
            return done;
        }
        let stays = |place: u8| {
            let place = usize::from(place);
            before.get(place).is_some_and(|name| self.uplinks.get(place) == Some(name))
        };
        self.work.acknowledged.retain(|(place, _), _| stays(*place));
        self.work.used.retain(|place, _| stays(*place));
        self.shared.intake.forget(&stays);
        self.disk = None;
        let again = self.step(false);
        self.publish(Outcome::default());
        done.and(again)
    }
}

/// Returns whether at most one uplink takes batches.
pub(super) fn is_alone(uplinks: &[Arc<str>]) -> bool {
    uplinks.iter().filter(|name| !name.is_empty()).count() <= 1
}
