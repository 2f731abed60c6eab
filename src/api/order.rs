//! What the socket can be asked about the configuration in force.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One order. Its name is that of its route, its fields are the request's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ConfigOrder {
    /// Says what would change.
    Plan {
        /// A whole configuration by the names of its files; what stands on disk when absent.
        #[serde(default)]
        texts: Option<BTreeMap<String, String>>,
    },
    /// Puts in force what stands on disk.
    Reload {
        /// Who asks.
        #[serde(default)]
        by: String,
    },
    /// Puts a configuration in force until it is confirmed or its time is up.
    Apply {
        /// A whole configuration by the names of its files.
        texts: BTreeMap<String, String>,
        /// Seconds after which the gateway goes back by itself.
        confirm_s: u64,
        /// Who asks.
        #[serde(default)]
        by: String,
    },
    /// Keeps what is on trial. Without `installed` it says whether that can be, and hands out the
    /// texts; with it, they stand on disk.
    Confirm {
        /// Also when no batch was acknowledged since.
        #[serde(default)]
        anyway: bool,
        /// The texts stand on disk.
        #[serde(default)]
        installed: bool,
    },
    /// Ends what is on trial.
    Rollback {},
    /// Lists the versions that are kept.
    History {},
    /// Hands out a version with its texts.
    Version {
        /// Which one.
        number: u64,
    },
}

impl ConfigOrder {
    /// Returns the order of this name with these fields.
    #[must_use]
    pub fn read(name: &str, body: &[u8]) -> Option<Self> {
        let fields: serde_json::Value = match body {
            [] => serde_json::json!({}),
            body => serde_json::from_slice(body).ok()?,
        };
        serde_json::from_value(serde_json::json!({ name: fields })).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_its_route_and_its_body() {
        assert_eq!(ConfigOrder::read("rollback", b""), Some(ConfigOrder::Rollback {}));
        assert_eq!(ConfigOrder::read("plan", b""), Some(ConfigOrder::Plan { texts: None }));
        let confirm = ConfigOrder::Confirm { anyway: true, installed: false };
        assert_eq!(ConfigOrder::read("confirm", br#"{"anyway":true}"#), Some(confirm));
        for (name, body) in [("confirm", "{"), ("apply", "{}"), ("plan", "[]"), ("format", "")] {
            assert_eq!(ConfigOrder::read(name, body.as_bytes()), None, "{name} {body}");
        }
        assert_eq!(ConfigOrder::read("confirm", br#"{"anywhy":true}"#), None);
    }
}
