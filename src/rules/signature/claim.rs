//! What a signer says of a file in the trusted comment of its signature.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use semver::Version;

use crate::batch::text::rfc3339;
use crate::limits;
use crate::reading::UnixMillis;

/// What a signature claims. Written, with single spaces and each word at most once:
///
/// ```text
/// fieldgate rule NAME VERSION [groups=A,B] [not-before=TIME] [not-after=TIME]
///                             [capabilities=A,B] [allow-downgrade]
/// fieldgate want GATEWAY SERIAL [groups=A,B] [not-before=TIME] [not-after=TIME] [allow-downgrade]
/// ```
/// NAME is the rule's own name, VERSION a semantic version without build metadata, GATEWAY a
/// gateway's name or `*`, SERIAL a whole number that rises from one desired state to the next. TIME is
/// `2026-11-22T10:00:00Z` or a day, `2026-11-22`, which begins at 00:00 UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What was signed.
    pub kind: Kind,
    /// The rule, or the gateway; `*` for any gateway.
    pub name: String,
    /// The rule's version; a desired state's serial number as major version.
    pub version: Version,
    /// Gateways that are in one of these; all when empty.
    pub groups: Vec<String>,
    /// Not taken in before this.
    pub not_before: Option<UnixMillis>,
    /// Not taken in after this. What runs by then goes on.
    pub not_after: Option<UnixMillis>,
    /// The most that the rule's manifest may ask for; `None` when the manifest's word is enough.
    pub capabilities: Option<Vec<String>>,
    /// May take the place of a higher version.
    pub allow_downgrade: bool,
}

/// What can be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A rule's file.
    Rule,
    /// A desired state.
    Want,
}

impl Claim {
    /// Claims a rule's name and version and nothing else.
    #[must_use]
    pub fn rule(name: &str, version: Version) -> Self {
        Self {
            kind: Kind::Rule,
            name: name.to_owned(),
            version,
            groups: Vec::new(),
            not_before: None,
            not_after: None,
            capabilities: None,
            allow_downgrade: false,
        }
    }

    /// Claims a desired state of a gateway, or of all with `*`.
    #[must_use]
    pub fn want(gateway: &str, serial: u64) -> Self {
        Self { kind: Kind::Want, ..Self::rule(gateway, Version::new(serial, 0, 0)) }
    }

    /// Reads a trusted comment.
    ///
    /// # Errors
    /// What is wrong with it, in words that complete "its trusted comment ..".
    pub fn parse(comment: &str) -> Result<Self, String> {
        if comment.len() > limits::TRUSTED_COMMENT_BYTES_MAX {
            return Err(format!("is over {} bytes", limits::TRUSTED_COMMENT_BYTES_MAX));
        }
        if comment.chars().any(char::is_control) {
            return Err("holds control characters".to_owned());
        }
        let mut words = comment.split(' ');
        if words.next() != Some("fieldgate") {
            return Err("does not begin with fieldgate".to_owned());
        }
        let mut claim = match words.next() {
            Some("rule") => {
                let name = words.next().filter(|name| is_rule_name(name));
                let name = name.ok_or("names no rule")?;
                Self::rule(name, version(words.next().unwrap_or_default())?)
            }
            Some("want") => {
                let name = words.next().filter(|name| is_gateway(name));
                let name = name.ok_or("names no gateway")?;
                Self::want(name, serial(words.next().unwrap_or_default())?)
            }
            _ => return Err("is for neither a rule nor a want".to_owned()),
        };
        let mut seen = Vec::new();
        for word in words {
            let key = word.split('=').next().unwrap_or_default();
            if seen.contains(&key) {
                return Err(format!("says {key} twice"));
            }
            seen.push(key);
            claim.take(word)?;
        }
        match (claim.not_before, claim.not_after) {
            (Some(from), Some(to)) if to < from => Err("ends before it begins".to_owned()),
            _ => Ok(claim),
        }
    }

    fn take(&mut self, word: &str) -> Result<(), String> {
        match word.split_once('=') {
            Some(("groups", list)) => self.groups = names("groups", list)?,
            Some(("not-before", at)) => self.not_before = Some(time(at)?),
            Some(("not-after", at)) => self.not_after = Some(time(at)?),
            Some(("capabilities", list)) if self.kind == Kind::Rule => {
                self.capabilities = Some(names("capabilities", list)?);
            }
            None if word == "allow-downgrade" => self.allow_downgrade = true,
            None if word.is_empty() => {
                return Err("has two spaces in a row, or one at its end".into());
            }
            _ => return Err(format!("says {word:?}, which this version does not know")),
        }
        Ok(())
    }

    /// The serial number of a desired state.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.version.major
    }
}

/// Writes the comment that [`Claim::parse`] reads.
impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Rule => write!(f, "fieldgate rule {} {}", self.name, self.version)?,
            Kind::Want => write!(f, "fieldgate want {} {}", self.name, self.serial())?,
        }
        if !self.groups.is_empty() {
            write!(f, " groups={}", self.groups.join(","))?;
        }
        for (key, at) in [("not-before", self.not_before), ("not-after", self.not_after)] {
            if let Some(at) = at {
                write!(f, " {key}={}", rfc3339(UnixMillis(at.0 - at.0.rem_euclid(1000))))?;
            }
        }
        if let Some(capabilities) = &self.capabilities {
            write!(f, " capabilities={}", capabilities.join(","))?;
        }
        if self.allow_downgrade {
            write!(f, " allow-downgrade")?;
        }
        Ok(())
    }
}

/// `[a-z0-9-]`, begins with a letter: what a manifest takes, and a folder's name without surprises.
pub(in crate::rules) fn is_rule_name(name: &str) -> bool {
    let is_one = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.len() <= limits::RULE_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(is_one)
}

fn is_gateway(name: &str) -> bool {
    let is_level = !name.contains(['/', '+', '#']) && (name == "*" || !name.contains('*'));
    !name.is_empty() && name.len() <= limits::NAME_BYTES_MAX && is_level
}

fn version(text: &str) -> Result<Version, String> {
    let version = Version::parse(text).map_err(|_| "gives no version such as 1.2.0".to_owned())?;
    if version.build.is_empty() {
        return Ok(version);
    }
    Err("gives build metadata, by which versions cannot be told apart".to_owned())
}

fn serial(text: &str) -> Result<u64, String> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    let number = text.parse().ok().filter(|_| is_plain);
    number.ok_or_else(|| "gives no serial number".to_owned())
}

fn names(key: &str, list: &str) -> Result<Vec<String>, String> {
    let names: Vec<_> = list.split(',').map(str::to_owned).collect();
    if names.len() > limits::SIGNED_NAMES_MAX {
        return Err(format!("lists more than {} {key}", limits::SIGNED_NAMES_MAX));
    }
    if names.iter().any(|name| name.is_empty() || name.len() > limits::NAME_BYTES_MAX) {
        return Err(format!("has an empty or overlong name in {key}"));
    }
    Ok(names)
}

fn time(text: &str) -> Result<UnixMillis, String> {
    let day = text.len() == 10;
    let full = if day { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let at = humantime::parse_rfc3339(&full).ok();
    let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let millis =
        since.map(|since: Duration| since.as_millis()).and_then(|ms| i64::try_from(ms).ok());
    millis.map(UnixMillis).ok_or_else(|| {
        format!("says {text:?}, which is no time such as 2026-11-22T10:00:00Z or 2026-11-22")
    })
}
