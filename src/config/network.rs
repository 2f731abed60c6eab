//! `[source.NAME]` and `[uplink.NAME]`: brokers, bridges and CoAP.

use std::time::Duration;

use crate::batch::Coding;
use crate::events::config as codes;
use crate::limits;
use crate::mqtt::preset::{self, MQTT};
use crate::mqtt::{Broker, Layout, Login, Preset, Tls, User, Version};
use crate::sources::coap::settings::{Client, Format, Listener, Mode};
use crate::sources::zigbee2mqtt::settings::Bridge;
use crate::store::settings::Seal;
use crate::uplink::settings::Ack;

use super::fault::Fault;
use super::findings::{Plain, Where, key_as_written};
use super::keys;
use super::layer::Layer;
use super::merge::{Document, Named};
use super::preset::{Check, batch_bytes, preset};
use super::reader::Table;
use super::resolve::Resolver;
use super::text::Place;
use super::value::{self, BrokerUrl};
use super::via::{self, Via};
use super::{Gateway, SourceSettings};

/// A bridge's broker is asked this often whether it lives; it is usually on the same board.
const BRIDGE_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// An uplink before the hash of the whole is known.
#[derive(Debug)]
pub struct Receiver {
    /// Name in the configuration.
    pub name: String,
    /// Its broker.
    pub broker: Broker,
    /// How batches are sealed for it.
    pub seal: Seal,
    /// Who frees a batch.
    pub ack: Ack,
    /// Bytes a second that a backlog may take.
    pub drain: Option<u64>,
    /// Bytes a month that the link may carry.
    pub data_plan: Option<u64>,
}

impl<'a> Resolver<'a> {
    /// Resolves one source.
    pub fn source(&mut self, named: &Named<'a>) {
        let path = Where::table(&format!("source.{}", key_as_written(named.name)));
        let written = named.layer.table.get("via").and_then(|via| via.get_ref().as_str());
        let mut words = written.unwrap_or_default().split_whitespace();
        let keys = match (words.next(), words.next()) {
            (Some("coap"), Some("listen")) => keys::COAP_LISTEN,
            (Some("coap"), _) => keys::COAP_CLIENT,
            _ => keys::ZIGBEE,
        };
        let table = Table::new(self.findings, path, keys, named.layer, None);
        let Some(at) = table.text_needed("via") else { return };
        match via::source(at.value) {
            Ok(Via::Zigbee(url)) => self.bridge(named, &table, url),
            Ok(Via::CoapListen(listen)) => self.listener(named, &table, listen, at.place),
            Ok(Via::CoapClient(url)) => self.client(named, &table, url),
            Ok(_) => {}
            Err(why) => {
                let found = format!("source {} cannot be reached like this", named.name);
                self.findings.fault(Fault::at(&codes::BAD_VALUE, at.place, found, why));
            }
        }
    }

    fn bridge(&mut self, named: &Named<'a>, table: &Table<'a>, url: BrokerUrl) {
        let base = table.text("base").map_or("zigbee2mqtt", |at| at.value).to_owned();
        if base.is_empty() || base.contains(['#', '+']) || base.ends_with('/') {
            let place = table.raw("base").map_or(table.place(), |raw| raw.place);
            table.bad(place, format!("base = \"{base}\" is no topic"), "base = \"zigbee2mqtt\"");
        }
        let mut rename = std::collections::BTreeMap::new();
        for (from, to) in table.words("rename") {
            if self.check_name("device", to) {
                rename.insert(from.value.to_owned(), to.value.to_owned());
            }
        }
        let points = table.texts("points").iter().map(|at| at.value.to_owned()).collect();
        let client_id = format!("{}-{}", self.gateway.name, named.name);
        let about = About { preset: &MQTT, client_id, keep_alive: BRIDGE_KEEP_ALIVE };
        let broker = broker(table, url, about);
        let name = named.name.to_owned();
        self.sources.push(SourceSettings::Zigbee(Bridge { name, broker, base, rename, points }));
    }

    fn listener(
        &mut self,
        named: &Named<'a>,
        table: &Table<'a>,
        listen: std::net::SocketAddr,
        via: Place<'a>,
    ) {
        let taken = self.sources.iter().find_map(|source| match source {
            SourceSettings::CoapListener(other) if other.listen == listen => Some(&other.name),
            _ => None,
        });
        if let Some(other) = taken {
            self.findings.fault(
                Fault::at(
                    &codes::EXCLUSIVE,
                    via,
                    format!("{other} and {} listen on the same port", named.name),
                    "only one of them could",
                )
                .hint("another port, or one source: devices are told apart by their path"),
            );
        }
        let mut allow = Vec::new();
        for at in table.texts("allow") {
            match via::prefix(at.value) {
                Some(prefix) => allow.push(prefix),
                None => table.bad(
                    at.place,
                    format!("{} is no address or network", Plain::Text(at.value)),
                    "allow = [\"192.168.1.0/24\"]",
                ),
            }
        }
        let name = named.name.to_owned();
        self.sources.push(SourceSettings::CoapListener(Listener { name, listen, allow }));
    }

    fn client(&mut self, named: &Named<'a>, table: &Table<'a>, url: String) {
        if let Some(first) = self.device_named(named.name) {
            self.findings.fault(
                Fault::at(
                    &codes::DEFINED_TWICE,
                    named.place,
                    format!("{} is the name of a device and of a CoAP resource", named.name),
                    format!("the device is defined in {}", first.file_and_line()),
                )
                .hint("rename one of them; their points would be mixed"),
            );
        }
        let last = match via::last_part(&url) {
            last if value::name_trouble(last).is_none() => last,
            _ => "value",
        };
        let point = match table.text("point") {
            Some(at) => {
                self.check_name("point", at);
                self.word(at.value)
            }
            None => {
                self.findings.set(&table.path, "point", Plain::Text(last), None);
                self.word(last)
            }
        };
        let client = Client {
            name: self.word(named.name),
            mode: self.mode(table),
            format: match table.choice("format") {
                Some("text") => Format::Text,
                Some("json") => Format::Json,
                Some("senml") => Format::Senml,
                _ => Format::Auto,
            },
            point,
            unit: self.word(table.text("unit").map_or("", |at| at.value)),
            timeout: table.duration("timeout"),
            url,
        };
        self.sources.push(SourceSettings::CoapClient(client));
    }

    fn mode(&self, table: &Table<'a>) -> Mode {
        let every = table.duration_if_any("every");
        let word = table.choice("mode");
        match (word, every, table.raw("every")) {
            (Some("observe"), _, Some(raw)) => {
                self.findings.fault(
                    Fault::at(
                        &codes::EXCLUSIVE,
                        raw.place,
                        format!("{} is observed, so every has no meaning", table.title()),
                        "an observed resource tells its changes by itself",
                    )
                    .hint("remove every, or mode = \"poll\""),
                );
                Mode::Observe
            }
            (Some("poll"), None, None) => {
                let every = Duration::from_secs(10);
                self.findings.set(&table.path, "every", Plain::Duration(every), None);
                Mode::Poll(every)
            }
            (None, None, None) => {
                self.findings.set(&table.path, "mode", Plain::Text("observe"), None);
                Mode::Observe
            }
            (None, Some(every), _) => {
                self.findings.set(&table.path, "mode", Plain::Text("poll"), None);
                Mode::Poll(every)
            }
            (_, Some(every), _) => Mode::Poll(every),
            _ => Mode::Observe,
        }
    }

    /// Resolves the uplinks; all of them get the same batches.
    pub fn uplinks(&self, document: &Document<'a>) -> Vec<Receiver> {
        if document.uplinks.is_empty() {
            self.findings.warning(
                Fault::of_file(
                    &codes::NO_UPLINK,
                    &self.findings.main_file(),
                    "no [uplink.NAME]: readings are kept, and sent nowhere",
                    "they are dropped when they are too old or the buffer is full",
                )
                .hint("[uplink.cloud] with url = \"mqtt://HOST\""),
            );
        }
        for beyond in document.uplinks.iter().skip(limits::UPLINKS_MAX) {
            let found = format!("uplink {} is one too many", beyond.name);
            let why = format!("a gateway has at most {}", limits::UPLINKS_MAX);
            self.findings.fault(Fault::at(&codes::BAD_VALUE, beyond.place, found, why));
        }
        let mut receivers: Vec<Receiver> = Vec::new();
        for named in document.uplinks.iter().take(limits::UPLINKS_MAX) {
            let Some(receiver) = self.uplink(named) else { continue };
            for other in &receivers {
                self.compare(named.place, &receiver, other);
            }
            receivers.push(receiver);
        }
        receivers
    }

    /// Two uplinks must not throw each other out, and a batch is sealed once for both.
    fn compare(&self, place: Place<'a>, receiver: &Receiver, other: &Receiver) {
        let of = |receiver: &Receiver| {
            let Broker { host, port, client_id, .. } = &receiver.broker;
            (host.clone(), *port, client_id.clone())
        };
        if of(receiver) == of(other) {
            let found = format!("uplink {} logs in as uplink {} does", receiver.name, other.name);
            let why = "a broker throws out the older of two clients with one identifier";
            let hint = format!("client_id = \"{}-{}\"", self.gateway.name, receiver.name);
            self.findings.fault(Fault::at(&codes::EXCLUSIVE, place, found, why).hint(hint));
        }
        if receiver.seal.coding != other.seal.coding {
            let found =
                format!("uplinks {} and {} compress differently", other.name, receiver.name);
            let why = "a batch is sealed once, for all uplinks";
            let hint = "the same batch.compress for every uplink";
            self.findings.fault(Fault::at(&codes::EXCLUSIVE, place, found, why).hint(hint));
        }
    }

    fn uplink(&self, named: &Named<'a>) -> Option<Receiver> {
        let path = Where::table(&format!("uplink.{}", key_as_written(named.name)));
        let table = Table::new(self.findings, path, keys::UPLINK, named.layer, None);
        let preset = preset(&table);
        let ack = match table.choice("ack") {
            Some("receiver") => Ack::Receiver,
            _ => Ack::Broker,
        };
        let drain = table.rate_if_any("drain");
        let data_plan = table.rate_if_any("data_plan");
        let keep_alive = table.duration("keep_alive");
        if keep_alive.subsec_nanos() != 0 {
            let place = table.raw("keep_alive").map_or(table.place(), |raw| raw.place);
            table.bad(place, "keep_alive is not whole seconds", "keep_alive = \"60s\"");
        }
        let seal = seal(&table, preset);
        let url = table.text_needed("url")?;
        let broker_url = match value::broker_url(url.value) {
            Ok(broker_url) => broker_url,
            Err(why) => {
                let found = "url is no broker's address";
                self.findings.fault(
                    Fault::at(&codes::BAD_VALUE, url.place, found, why)
                        .hint("url = \"mqtts://mqtt.example.org:8883\""),
                );
                return None;
            }
        };
        let client_id =
            table.text("client_id").map_or(&*self.gateway.name, |at| at.value).to_owned();
        let about = About { preset, client_id, keep_alive };
        let mut broker = broker(&table, broker_url, about);
        broker.expiry = expiry(&table, broker.version, ack);
        Check { table: &table, url: url.place, broker: &broker }.run();
        Some(Receiver { name: named.name.to_owned(), broker, seal, ack, drain, data_plan })
    }
}

impl Gateway {
    /// Returns what `meta` tells: `site` once, `group` once for each.
    #[must_use]
    pub fn labels(&self) -> Vec<(String, String)> {
        let site = self.site.iter().map(|site| ("site".to_owned(), site.clone()));
        site.chain(self.groups.iter().map(|group| ("group".to_owned(), group.clone()))).collect()
    }
}

/// Reads `batch`, or its defaults when it is absent.
fn seal(uplink: &Table<'_>, preset: &Preset) -> Seal {
    let empty = toml::de::DeTable::new();
    let place = uplink.place();
    let nothing = Layer { text: place.text, table: &empty, place };
    let table = match uplink.table("batch") {
        Some(table) => table,
        None => Table::new(uplink.findings, uplink.path_to("batch"), keys::BATCH, nothing, None),
    };
    Seal {
        age_max: table.duration("max_age"),
        readings_max: table.integer("max_readings").unwrap_or(1),
        bytes_max: batch_bytes(&table, preset),
        coding: match table.choice("compress") {
            Some("none") => Coding::Plain,
            Some("zstd") => Coding::Zstd,
            _ => Coding::Zlib,
        },
    }
}

/// What a table of a broker does not say itself.
struct About {
    preset: &'static Preset,
    client_id: String,
    keep_alive: Duration,
}

/// Reads how long a broker may keep a batch. What it discards only comes again where the gateway still
/// holds it, until its receiver has named it.
fn expiry(table: &Table<'_>, version: Version, ack: Ack) -> Option<Duration> {
    let expiry = table.duration_if_any("expire")?;
    let place = table.raw("expire").map_or(table.place(), |raw| raw.place);
    let fault = |found: &str, why: &str, hint: &str| {
        let fault = Fault::at(&codes::EXCLUSIVE, place, found.to_owned(), why.to_owned());
        table.findings.fault(fault.hint(hint.to_owned()));
    };
    if version != Version::V5 {
        let why = "MQTT 3.1.1 has no word for it";
        fault("expire says nothing to this broker", why, "version = \"5\"");
    } else if ack != Ack::Receiver {
        let why = "with ack = \"broker\" the gateway lets go of what the broker has";
        fault("expire would lose batches", why, "ack = \"receiver\"");
    }
    if expiry.subsec_nanos() != 0 {
        table.bad(place, "expire is not whole seconds", "expire = \"1h\"");
    }
    Some(expiry)
}

fn broker(table: &Table<'_>, url: BrokerUrl, about: About) -> Broker {
    let About { preset, client_id, keep_alive } = about;
    let ca = table.file("ca");
    let auth = table.table("auth");
    let (mut login, mut client) = (None, None);
    if let Some(auth) = &auth {
        login = login_of(auth, preset, &url.host, &client_id);
        client = needs(auth, "cert", "key", |auth| {
            Some((auth.file("cert")?.value, auth.secret("key")?))
        });
    }
    if !url.tls {
        refuse_without_tls(table, "ca");
        if let Some(auth) = &auth {
            refuse_without_tls(auth, "cert");
        }
    }
    let ca_place = ca.as_ref().map(|at| at.place);
    let auth_place = table.raw("auth").map(|raw| raw.place);
    let tls = url.tls.then(|| Tls { ca: ca.map(|at| at.value), client });
    if let Some(Err(why)) = tls.as_ref().map(Tls::look_at_files) {
        let place = ca_place.filter(|_| auth_place.is_none()).or(auth_place);
        warn_of_file(table, place, why.to_string());
    }
    for secret in login.iter().flat_map(Login::secrets).filter(|it| it.is_within_reach()) {
        if let Err(why) = secret.read() {
            warn_of_file(table, auth_place, why.to_string());
        }
    }
    let version = match table.choice("version") {
        Some("5") => Version::V5,
        _ => Version::V311,
    };
    if preset.topics == Layout::AzureHub && login.is_none() {
        let user = User::Name(preset::azure_user(&url.host, &client_id));
        login = Some(Login { user, password: None });
    }
    let broker = Broker::new(&url.host, url.port, &client_id);
    Broker { preset, version, tls, login, keep_alive, ..broker }
}

/// Reads who we are: an access token, a user and its password, or at Azure a password alone.
fn login_of(auth: &Table<'_>, preset: &Preset, host: &str, client_id: &str) -> Option<Login> {
    if let Some(token) = auth.raw("token") {
        if auth.raw("user").or(auth.raw("password")).is_some() {
            auth.findings.fault(
                Fault::at(
                    &codes::EXCLUSIVE,
                    token.place,
                    "token and user are given both",
                    "the token is sent in the place of the user name, without a password",
                )
                .hint("remove one of them"),
            );
        }
        return Some(Login { user: User::Token(auth.secret("token")?), password: None });
    }
    if preset.topics == Layout::AzureHub && auth.raw("user").is_none() {
        auth.raw("password")?;
        let user = User::Name(preset::azure_user(host, client_id));
        return Some(Login { user, password: auth.secret("password") });
    }
    needs(auth, "user", "password", |auth| {
        let user = User::Name(auth.text("user")?.value.to_owned());
        Some(Login { user, password: Some(auth.secret("password")?) })
    })
}

/// Warns of a secret or certificate that a connection would not find. It may come later, and the
/// daemon reads it at every connect, so it is no fault.
fn warn_of_file(table: &Table<'_>, place: Option<Place<'_>>, found: String) {
    table.findings.warning(
        Fault::at(
            &codes::NOT_THERE_YET,
            place.unwrap_or(table.place()),
            found,
            format!("without it {} gets no connection; it is read at every connect", table.title()),
        )
        .hint("put it where the daemon can read it, as its own user and in its own environment"),
    );
}

/// Reads two keys that need each other.
fn needs<T>(
    table: &Table<'_>,
    one: &str,
    other: &str,
    read: impl Fn(&Table<'_>) -> Option<T>,
) -> Option<T> {
    match (table.raw(one).is_some(), table.raw(other).is_some()) {
        (true, true) => read(table),
        (true, false) => {
            table.missing(other);
            None
        }
        (false, true) => {
            table.missing(one);
            None
        }
        (false, false) => None,
    }
}

fn refuse_without_tls(table: &Table<'_>, key: &str) {
    if let Some(raw) = table.raw(key) {
        table.findings.fault(
            Fault::at(
                &codes::EXCLUSIVE,
                raw.place,
                format!("{key} needs TLS, but the url is mqtt://"),
                "certificates are exchanged on an encrypted connection only",
            )
            .hint("mqtts:// in the url, or remove the key"),
        );
    }
}
