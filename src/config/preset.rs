//! What a cloud would refuse is refused here, before anything connects: each limit of a preset
//! against what the configuration asks for, with the line that asks for it.

use std::net::IpAddr;

use crate::events::config as codes;
use crate::mqtt::preset::MQTT;
use crate::mqtt::{Broker, Layout, Preset, User, Version};

use super::fault::Fault;
use super::findings::Plain;
use super::reader::Table;
use super::text::Place;
use super::value::{show_duration, show_size};

/// Reads which preset is meant.
pub fn preset(table: &Table<'_>) -> &'static Preset {
    table.choice("preset").and_then(Preset::named).unwrap_or(&MQTT)
}

/// Reads `max_bytes` of a batch; when it is not written, the preset says how large one is.
pub fn batch_bytes(batch: &Table<'_>, preset: &Preset) -> usize {
    let Some(raw) = batch.raw("max_bytes") else {
        let bytes = preset.batch_bytes;
        batch.findings.set(
            &batch.path,
            "max_bytes",
            Plain::Size(u64::try_from(bytes).unwrap_or(u64::MAX)),
            None,
        );
        return bytes;
    };
    let bytes = usize::try_from(batch.size("max_bytes")).unwrap_or(usize::MAX);
    if let Some(bytes_max) = preset.payload_bytes_max.filter(|max| bytes > *max) {
        let shown = show_size(u64::try_from(bytes_max).unwrap_or(u64::MAX));
        let usual = show_size(u64::try_from(preset.batch_bytes).unwrap_or(u64::MAX));
        let found = "max_bytes is more than is taken there";
        let why = format!("{} takes payloads up to {shown}", preset.title);
        let hint = format!("max_bytes = \"{usual}\", or leave it out");
        refuse(batch, preset, raw.place, [found, &why, &hint]);
    }
    bytes
}

/// A broker as it was resolved, and what it was resolved from.
pub struct Check<'t, 'a> {
    /// The uplink's table.
    pub table: &'t Table<'a>,
    /// Its url.
    pub url: Place<'a>,
    /// All of it.
    pub broker: &'t Broker,
}

impl<'a> Check<'_, 'a> {
    /// Compares everything with the preset.
    pub fn run(&self) {
        self.check_session();
        self.check_url();
        self.check_auth();
    }

    fn at(&self, key: &str) -> Place<'a> {
        self.table.raw(key).map_or(self.url, |raw| raw.place)
    }

    fn refuse(&self, place: Place<'a>, found: &str, why: &str, hint: &str) {
        refuse(self.table, self.broker.preset, place, [found, why, hint]);
    }

    fn check_session(&self) {
        let Broker { preset, keep_alive, version, client_id, .. } = self.broker;
        let title = preset.title;
        let (shortest, longest) = preset.keep_alive;
        if !(shortest..=longest).contains(keep_alive) {
            let (shortest, longest) = (show_duration(shortest), show_duration(longest));
            let found = format!("keep_alive = \"{}\" does not do", show_duration(*keep_alive));
            let why = format!("{title} takes from {shortest} to {longest}");
            self.refuse(self.at("keep_alive"), &found, &why, "keep_alive = \"60s\"");
        }
        if !preset.versions.contains(version) {
            let spoken: Vec<_> = preset.versions.iter().map(Version::to_string).collect();
            let found = format!("version = \"{version}\" is not spoken there");
            let why = format!("{title} speaks MQTT {}", spoken.join(", "));
            let hint = format!("version = \"{}\"", spoken.first().map_or("", String::as_str));
            self.refuse(self.at("version"), &found, &why, &hint);
        }
        if client_id.len() > preset.client_id_bytes_max {
            let found = format!("gateway.name has {} bytes", client_id.len());
            let bytes_max = preset.client_id_bytes_max;
            let why = format!("it is the client id, and {title} takes up to {bytes_max} bytes");
            self.refuse(self.url, &found, &why, "[gateway] name = \"gw-1\"");
        }
        let acknowledges = self.table.raw("ack").and_then(|raw| raw.value.as_str());
        if preset.topics != Layout::Own && acknowledges == Some("receiver") {
            let why = format!("{title} has no topic on which a receiver could answer");
            let found = "ack = \"receiver\" cannot work there";
            self.refuse(self.at("ack"), found, &why, "ack = \"broker\"");
        }
    }

    fn check_url(&self) {
        let Broker { preset, host, port, tls, .. } = self.broker;
        let title = preset.title;
        if !preset.tls_by_name {
            return;
        }
        let hint = match preset.topics {
            Layout::AzureHub => "url = \"mqtts://HUB.azure-devices.net\"",
            _ => "url = \"mqtts://ID-ats.iot.REGION.amazonaws.com\"",
        };
        let refuse = |found: &str, why: &str| self.refuse(self.url, found, why, hint);
        if tls.is_none() {
            let why = format!("{title} takes connections over TLS only");
            refuse("the url is mqtt://, without TLS", &why);
        } else if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            let why = format!("{title} finds its customer by the name in the TLS handshake");
            refuse("the url names an address, not a host", &why);
        } else if *port == 1883 || *port == 443 && preset.alpn_on(443).is_none() {
            let why = match preset.alpn {
                Some((port, _)) => format!("{title} speaks MQTT on ports 8883 and {port}"),
                None => format!("{title} speaks MQTT on port 8883"),
            };
            refuse(&format!("nothing speaks MQTT on port {port} there"), &why);
        }
    }

    fn check_auth(&self) {
        let Broker { preset, tls, login, .. } = self.broker;
        if preset.topics == Layout::Own && !preset.tls_by_name {
            return;
        }
        let is_certified = tls.as_ref().is_some_and(|tls| tls.client.is_some());
        let has_secret = login
            .as_ref()
            .is_some_and(|it| it.password.is_some() || matches!(it.user, User::Token(_)));
        if is_certified || has_secret {
            return;
        }
        let (what, hint) = match preset.topics {
            Layout::ThingsBoard => ("an access token", "auth = { token = { file = \"..\" } }"),
            Layout::AzureHub => (
                "a client certificate, or user and SAS token",
                "auth = { cert = \"..\", key = { file = \"..\" } }",
            ),
            _ => ("a client certificate", "auth = { cert = \"..\", key = { file = \"..\" } }"),
        };
        let why = format!("{} wants {what}, and refuses all else", preset.title);
        let place = self.table.raw("auth").map_or(self.table.place(), |raw| raw.place);
        self.refuse(place, "nothing says who this gateway is", &why, hint);
    }
}

fn refuse(table: &Table<'_>, preset: &Preset, place: Place<'_>, says: [&str; 3]) {
    let [found, why, hint] = says;
    let found = format!("{found} (preset = \"{}\")", preset.name);
    table.findings.fault(Fault::at(&codes::PRESET, place, found, why.to_owned()).hint(hint));
}
