//! Where an uplink publishes, in the layout that its broker takes. The envelope of a batch names
//! gateway, epoch and stream itself, so a receiver needs no topic to tell batches apart.

use crate::mqtt::{Broker, Layout};
use crate::reading::Stream;

/// Built once.
pub(super) struct Topics {
    /// In the order of [`Stream::ALL`].
    pub(super) streams: [String; 3],
    pub(super) status: String,
    pub(super) meta: String,
    /// Where a receiver answers; listened to only where that is possible.
    pub(super) ack: String,
}

impl Topics {
    pub(super) fn new(broker: &Broker, gateway: &str) -> Self {
        match broker.preset.topics {
            Layout::Own => Self::by_leaf(|leaf, _| format!("fg/1/{gateway}/{leaf}")),
            // The last level is a list of properties, which the hub can route by; `$.ct` and
            // `$.ce` are its names for content type and encoding.
            Layout::AzureHub => {
                let device = &broker.client_id;
                Self::by_leaf(|leaf, is_batch| {
                    let kind = match is_batch {
                        true => "$.ct=application%2Fmsgpack",
                        false => "$.ct=application%2Fjson&$.ce=utf-8",
                    };
                    format!("devices/{device}/messages/events/{kind}&fg=1&st={leaf}")
                })
            }
            Layout::ThingsBoard => Self::by_leaf(|_, is_batch| {
                let topic =
                    if is_batch { "v1/gateway/telemetry" } else { "v1/devices/me/attributes" };
                topic.to_owned()
            }),
        }
    }

    fn by_leaf(topic: impl Fn(&str, bool) -> String) -> Self {
        Self {
            streams: Stream::ALL.map(|stream| topic(stream.name(), true)),
            status: topic("status", false),
            meta: topic("meta", false),
            ack: topic("ack", false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::preset;

    #[test]
    fn every_layout_is_one_that_its_broker_takes() {
        for preset in preset::ALL {
            let broker = Broker { preset, ..Broker::new("h", 8883, &"g".repeat(64)) };
            let topics = Topics::new(&broker, &broker.client_id);
            for topic in topics.streams.iter().chain([&topics.status, &topics.meta]) {
                assert!(preset.takes_topic(topic), "{} {topic}", preset.name);
                assert!(!topic.contains(['+', '#', ' ']), "{topic}");
            }
        }
        let azure = Broker { preset: &preset::AZURE, ..Broker::new("h", 8883, "gw-1") };
        let expected = "devices/gw-1/messages/events/$.ct=application%2Fmsgpack&fg=1&st=event";
        assert_eq!(Topics::new(&azure, "gw-1").streams[Stream::Event as usize], expected);
    }
}
