//! Takes secrets out of text that leaves the board: those that are known, by their value, wherever they
//! stand; and whatever looks like one by its shape or its name. A path to a secret stays: it helps, and
//! opens nothing.

use std::cell::Cell;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use crate::config::{self, SourceSettings, outline};
use crate::mqtt::{Broker, Login};
use crate::secret::Secret;

/// What stands in a secret's place.
pub(super) const GONE: &str = "[taken out]";

/// Shorter ones stand in too many words to be told from them.
const SECRET_BYTES_MIN: usize = 4;

/// Names behind which no value stays, but for references: those say where, not what.
const NAMED: &str = r#"(?i)([\w.-]*(?:pas{1,2}w(?:or)?d|passphrase|pass|secret|token|credential|api[_-]?key|private[_-]?key|\bkey|auth(?:orization)?|login|psk|sig)"?'?\s*[=:]\s*)("(?:[^"\\]|\\.)*"|'[^']*'|(?:Bearer|Basic|SharedAccessSignature)\s+\S+|[^\s,;}&\[{"']+)"#;

static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        // PEM of any kind that is private.
        (
            r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
            "[private key taken out]",
        ),
        // User and password in a url.
        (r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s@]+@", "${1}[taken out]@"),
        // JSON web tokens.
        (r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", GONE),
        // Shared access signatures.
        (r"(?i)\b(sig|sv|skn|se)=[^&\s]+", "${1}=[taken out]"),
        // minisign's secret keys, and lines of base64 as keys have them.
        (r"(?m)^RWR[A-Za-z0-9+/=]{60,}$", GONE),
    ]
    .into_iter()
    // Each is a literal that the test below compiles.
    .filter_map(|(pattern, with)| Some((Regex::new(pattern).ok()?, with)))
    .collect()
});

static NAMED_VALUE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(NAMED).ok());

/// Takes secrets out and counts them.
pub(super) struct Redactor {
    known: Vec<String>,
    taken: Cell<usize>,
}

impl Redactor {
    /// Learns every secret that the configuration at `main` refers to and this user may read.
    pub(super) fn knowing(main: &Path) -> Self {
        let mut known = Vec::new();
        if let Ok(config) = config::load(main, config::Options::default()) {
            let of_sources = config.sources.iter().filter_map(|source| match source {
                SourceSettings::Zigbee(bridge) => Some(&bridge.broker),
                _ => None,
            });
            let brokers = config.uplinks.iter().map(|uplink| &uplink.broker).chain(of_sources);
            known = brokers.flat_map(secrets).filter_map(|secret| secret.read().ok()).collect();
        }
        // A configuration that cannot be loaded refers to secrets all the same.
        for file in outline::files(main) {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            known.extend(referred(&text, &file));
        }
        let folder = main.parent().unwrap_or(Path::new(".")).join("secrets");
        for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            known.extend(Secret::File(file.path()).read().ok());
        }
        known.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
        // The longest first: one may be part of another.
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        known.dedup();
        Self { known, taken: Cell::new(0) }
    }

    /// Returns how many were taken out so far.
    pub(super) fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Returns `text` without secrets.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.known {
            self.count(text.matches(&**secret).count());
            text = text.replace(&**secret, GONE);
            // As it would stand in TOML, JSON or a log.
            let escaped = secret.escape_debug().to_string();
            text = text.replace(&escaped, GONE);
        }
        for (pattern, with) in PATTERNS.iter() {
            self.count(pattern.find_iter(&text).count());
            text = pattern.replace_all(&text, *with).into_owned();
        }
        let Some(named) = NAMED_VALUE.as_ref() else { return text };
        named
            .replace_all(&text, |found: &regex::Captures<'_>| {
                let value = &found[2];
                if is_harmless(value) {
                    return found[0].to_owned();
                }
                self.count(1);
                format!("{}\"{GONE}\"", &found[1])
            })
            .into_owned()
    }

    fn count(&self, more: usize) {
        self.taken.set(self.taken.get() + more);
    }
}

/// What stands behind such a name without being secret: nothing, or what was taken out already.
fn is_harmless(value: &str) -> bool {
    let bare = value.trim_matches(['"', '\'']);
    bare.is_empty()
        || bare.contains(GONE)
        || matches!(bare, "true" | "false" | "none" | "null" | "None")
}

fn secrets(broker: &Broker) -> Vec<Secret> {
    let logins = broker.login.iter().flat_map(Login::secrets).cloned();
    let key = broker.tls.iter().filter_map(|tls| tls.client.as_ref()).map(|(_, key)| key.clone());
    logins.chain(key).collect()
}

/// Reads what `{ file = ".." }` and `{ env = ".." }` in a text lead to.
fn referred(text: &str, file: &Path) -> Vec<String> {
    let Ok(table) = text.parse::<toml::Table>() else { return Vec::new() };
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut found = Vec::new();
    let mut open: Vec<&toml::Table> = vec![&table];
    while let Some(table) = open.pop() {
        for (key, value) in table {
            let secret = match (key.as_str(), value.as_str()) {
                ("file", Some(path)) if table.len() == 1 => Some(Secret::File(folder.join(path))),
                ("env", Some(name)) => Some(Secret::Env(name.to_owned())),
                ("credential", Some(name)) => Some(Secret::Credential(name.to_owned())),
                _ => None,
            };
            found.extend(secret.and_then(|secret| secret.read().ok()));
            open.extend(value.as_table());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing_known() -> Redactor {
        Redactor { known: vec!["hunter22".to_owned()], taken: Cell::new(0) }
    }

    #[test]
    fn every_pattern_compiles_and_takes_what_it_is_for() {
        assert_eq!(PATTERNS.len(), 5);
        let redactor = nothing_known();
        for (text, secret) in [
            ("url = \"mqtt://me:s3cr3tpw@host:1883\"", "s3cr3tpw"),
            ("password = \"in the clear\"", "in the clear"),
            ("auth.pasword: s3cr3tpw", "s3cr3tpw"),
            ("{\"api_key\": \"abc-def\", \"a\": 1}", "abc-def"),
            ("Authorization: Bearer abcdef0123", "abcdef0123"),
            ("log: user hunter22 logged in", "hunter22"),
            ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----", "MHcCAQEE"),
            ("-----BEGIN PRIVATE KEY-----\nMHcCAQEE\ncut off", "MHcCAQEE"),
            ("sr=hub&sig=Zm9vYmFy%3D&se=1", "Zm9vYmFy"),
            ("x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln y", "eyJzdWIiOiIxIn0"),
            ("token = 'abc def'", "abc def"),
        ] {
            let clean = redactor.clean(text);
            assert!(!clean.contains(secret), "{text} -> {clean}");
        }
        assert!(redactor.taken() >= 10);
    }

    #[test]
    fn references_and_ordinary_values_stay() {
        let redactor = nothing_known();
        for text in [
            "auth = { user = \"gw\", password = { file = \"/etc/fieldgate/secrets/p\" } }",
            "password = { env = \"MQTT_PASSWORD\" }",
            "points.power = { at = \"holding 8\", as = \"u16\" }",
            "path = \"/dev/serial/by-id/usb-FTDI\"",
            "url = \"mqtts://mqtt.example.org:8883\"",
        ] {
            assert_eq!(redactor.clean(text), text);
        }
    }
}
