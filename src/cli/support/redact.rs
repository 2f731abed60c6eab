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

/// A line of a longer secret: `{` or `user` is one, too.
const SECRET_LINE_BYTES_MIN: usize = 12;

/// Names behind which no value stays, but for references: those say where, not what. Typing errors and
/// what others call it are among them, and values of several lines and lists are values.
const NAMED: &str = concat!(
    r#"(?i)([\w.-]*(?:pas{1,2}w\w*|pas{1,2}[ _-]?(?:phrase|code)|pass|pwd|\bpw|kennwort|\bpin"#,
    r#"|secret\w*|token\w*|credentials?|api[_-]?keys?|key|auth(?:orization)?|login|psk\w*"#,
    r#"|community|webhook\w*|sig)"#,
    r#""?'?\s*[=:]\s*)(\[[^\]]*\]|"""(?s:.*?)"""|'''(?s:.*?)'''|"(?:[^"\\]|\\.)*"|'[^']*'"#,
    r#"|(?:Bearer|Basic|SharedAccessSignature)\s+\S+|[^\s,;}&\[{"']+)"#,
);

/// A comment with one word of those that stand beside secrets: people note them in any form.
const COMMENT: &str = concat!(
    r#"(?im)(^|[ \t,}\]"'])#[^\n]*(?:pas|pwd|pw\b|kennwort|\bpin\b|secret|token|key|auth|login"#,
    r"|cred|admin|\buser|sig\b|wlan|wi-?fi|ssid|vpn|psk|://|@|\s-[up]\b)[^\n]*",
);

static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        // PEM of any kind that is private.
        (
            r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
            "[private key taken out]",
        ),
        // User and password in a url, up to the last @: passwords hold / and @ themselves.
        (r#"([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s"'<>]*@"#, "${1}[taken out]@"),
        // What a url asks with.
        (r#"([?&][\w.~-]+=)[^&\s"'#]+"#, "${1}[taken out]"),
        // JSON web tokens.
        (r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", GONE),
        // Shared access signatures.
        (r"(?i)\b(sig|sv|skn|se)=[^&\s]+", "${1}=[taken out]"),
        // minisign's secret keys.
        (r"RWRTY0Iy[A-Za-z0-9+/]{20,}={0,2}", GONE),
        // Tokens that say themselves what they are.
        (r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk_live_|AKI[A])[A-Za-z0-9_-]{8,}", GONE),
        // What is sent to a serial device to log in.
        (
            r#"(?i)(\bask\s*=\s*)"[^"\n]*(?:log[io]n|pas|pin|user|code)[^"\n]*""#,
            "${1}\"[taken out]\"",
        ),
        // Words of a command line: a user with a password, and the password alone.
        (r"(\s-u\s*)[^\s:]+:\S+", "${1}[taken out]"),
        (r"(\s-P\s*)\S+", "${1}[taken out]"),
        (COMMENT, "${1}# [comment taken out]"),
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
        // A log shows those of several lines one by one.
        let lines: Vec<_> = known.iter().flat_map(|secret| secret.lines()).map(str::trim).collect();
        let long = lines.into_iter().filter(|line| line.len() >= SECRET_LINE_BYTES_MIN);
        let lines: Vec<String> = long.map(str::to_owned).collect();
        known.extend(lines);
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
                if is_harmless(value) || is_field(&found[1], value) {
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

/// Whether it is the `key` of a point: the name of a field in what its device sends.
fn is_field(name: &str, value: &str) -> bool {
    let name = name.trim_end_matches([' ', '\t', '=', ':', '"', '\'']);
    let is_key = name == "key" || name.ends_with(".key");
    let is_word = |c: char| c.is_ascii_lowercase() || matches!(c, '_' | '.');
    is_key && value.trim_matches(['"', '\'']).chars().all(is_word)
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
        assert_eq!(PATTERNS.len(), 11);
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
            ("url = \"mqtt://me:s3/cr3t@pw@host\"", "pw@"),
            ("url = \"mqtt://host/?code=s3cr3tpw\"", "s3cr3tpw"),
            ("passwrd = \"s3cr3tpw\"", "s3cr3tpw"),
            ("# Passwort: s3cr3tpw", "s3cr3tpw"),
            ("HostName=h;DeviceId=d;SharedAccessKey=s3cr3tpw=", "s3cr3tpw"),
            ("with.password = \"\"\"\ns3cr3tpw\"\"\"", "s3cr3tpw"),
            ("passwords = [\n  \"s3cr3tpw\",\n]", "s3cr3tpw"),
            ("client_key = \"s3cr3tpw\"", "s3cr3tpw"),
            ("every = \"1s\"  # mosquitto_pub -u gw -P s3cr3tpw", "s3cr3tpw"),
            ("  # the old login was admin / s3cr3tpw", "s3cr3tpw"),
            ("ghp_s3cr3tpws3cr3tpw", "s3cr3tpw"),
            ("with = { pw = \"s3cr3tpw\" }", "s3cr3tpw"),
            ("api_token_prod = \"s3cr3tpw\"", "s3cr3tpw"),
            ("secret_access = \"s3cr3tpw\"", "s3cr3tpw"),
            ("login = { user = \"a\", key = \"S3cr3tpw\" }", "S3cr3tpw"),
            ("pass phrase = \"s3cr3tpw\"", "s3cr3tpw"),
            ("ask = \"LOGIN s3cr3tpw\\r\\n\"", "s3cr3tpw"),
            ("COMMAND=curl -u admin:s3cr3tpw http://x", "s3cr3tpw"),
            ("COMMAND=mosquitto_pub -u gw -P s3cr3tpw -t x", "s3cr3tpw"),
            ("# WLAN s3cr3tpw", "s3cr3tpw"),
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
            "keys = [\"RWSLDllAI/905ekwzNB0cncPCPqo6lnMj8quvMFGZKPctnqUZdK2+OZI\"]",
            "every = \"1s\"   # as fast as it goes",
            "match = '^#(?<level>\\d+)'",
            "points.status = { as = \"text\", key = \"state\" }",
            "  Try:    (?<weight>..) in match, or key = \"..\" in the point",
            "points.token_count = { at = \"holding 108\", as = \"u16\" }",
            "ask = \"P\\r\\n\"",
            "Try: journalctl -u fieldgate -p err",
        ] {
            assert_eq!(redactor.clean(text), text);
        }
    }
}
