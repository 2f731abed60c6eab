//! Where rules run, as their door sees it, and the door itself over the folder beside the buffer.

use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::events::Events;
use crate::rules::door::{Door, Examined, Running, Settings, Site};
use crate::rules::folder::Folder;

/// Name of the rules folder, beside the buffer.
const FOLDER: &str = "rules";

/// Opens the door; without its folder there is none, and what was wrong is told.
pub(super) fn open_door(
    config: &Config,
    clock: &Arc<dyn Clock>,
    events: &Events,
) -> Option<Arc<Door>> {
    let path = config.store.path.parent().unwrap_or(Path::new(".")).join(FOLDER);
    let folder = match Folder::open(&path) {
        Ok((folder, trouble)) => {
            if let Some(notice) = trouble {
                events.raise(notice);
            }
            folder
        }
        Err(notice) => {
            events.raise(*notice);
            return None;
        }
    };
    let settings = Settings {
        gateway: Arc::clone(&config.gateway.name),
        groups: config.gateway.groups.clone(),
        keys: config.trust.clone(),
    };
    Some(Arc::new(Door::new(settings, Arc::clone(clock), folder)))
}

/// A gateway without a single `[rule.NAME]`.
pub(super) struct Vacant;

impl Site for Vacant {
    fn posts(&self) -> Vec<String> {
        Vec::new()
    }

    fn examine(&self, _: &[u8]) -> Result<Examined, String> {
        Err("no rule is configured here".to_owned())
    }

    fn fits(&self, _: &str, _: &[u8]) -> Result<(), String> {
        Err("no rule is configured here".to_owned())
    }

    fn arrange(&self, _: &str, _: Running<'_>) -> Result<(), String> {
        Err("no rule is configured here".to_owned())
    }

    fn has_trials(&self) -> bool {
        false
    }

    fn report(&self, _: &str) -> Option<serde_json::Value> {
        None
    }

    fn log(&self, _: &str) -> Option<Vec<(i64, &'static str, String)>> {
        None
    }
}
