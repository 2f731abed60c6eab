//! The one small file that says what runs: for each `[rule.NAME]` its live version, the one on trial
//! and the last good one; how high each key has signed; whose desired state was taken last.
//!
//! It is written whole, beside the old one, and renamed into its place, so a power cut leaves one or
//! the other. What it names is on disk before it names it.

use std::collections::BTreeMap;

use semver::Version;
use serde_json::{Map, Value, json};

use crate::limits;

/// A version of a rule, and which bytes it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edition {
    /// The rule's own name, of its manifest.
    pub name: String,
    /// The rule's own version.
    pub version: Version,
    /// Hex SHA-256 of its file.
    pub digest: String,
}

/// What is known of one `[rule.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// What runs, unless it is switched off.
    pub live: Option<Edition>,
    /// What runs beside it, in shadow.
    pub trial: Option<Edition>,
    /// What ran before the live one and did well; where it goes back to.
    pub good: Option<Edition>,
    /// Whether it is to run.
    pub enabled: bool,
    /// Digest of the configured file when that was last looked at: it counts again when it changes.
    pub file: Option<String>,
}

impl Default for Post {
    fn default() -> Self {
        Self { live: None, trial: None, good: None, enabled: true, file: None }
    }
}

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// By name of `[rule.NAME]`.
    pub posts: BTreeMap<String, Post>,
    /// The highest version taken, by key and rule: `KEY/NAME`.
    pub highest: BTreeMap<String, Edition>,
    /// The highest serial number of a desired state taken, by key.
    pub wants: BTreeMap<String, u64>,
}

impl Post {
    /// Returns every edition that it needs.
    pub fn editions(&self) -> impl Iterator<Item = &Edition> {
        [&self.live, &self.trial, &self.good].into_iter().flatten()
    }
}

impl Edition {
    /// Returns the name of its folder below the rule's: `1.2.0-0123456789abcdef`. The digest's first
    /// 64 bits tell builds of one version apart; the whole is compared when it is read.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("{}-{}", self.version, self.digest.get(..16).unwrap_or_default())
    }

    fn to_json(&self) -> Value {
        json!({ "name": self.name, "version": self.version.to_string(), "digest": self.digest })
    }

    fn of_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key)?.as_str();
        let name = text("name").filter(|name| crate::rules::signature::is_rule_name(name))?;
        let version = Version::parse(text("version")?).ok().filter(|v| v.build.is_empty())?;
        let digest = text("digest").filter(|digest| is_digest(digest))?;
        Some(Self { name: name.to_owned(), version, digest: digest.to_owned() })
    }
}

/// Whether a text is a SHA-256 in lower-case hexadecimal digits.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl Ledger {
    /// Writes it as JSON.
    pub(super) fn to_text(&self) -> String {
        let edition = |of: &Option<Edition>| of.as_ref().map(Edition::to_json);
        let posts = self.posts.iter().map(|(name, post)| {
            let value = json!({
                "live": edition(&post.live), "trial": edition(&post.trial),
                "good": edition(&post.good), "enabled": post.enabled, "file": post.file,
            });
            (name.clone(), value)
        });
        let highest: Map<_, _> =
            self.highest.iter().map(|(key, edition)| (key.clone(), edition.to_json())).collect();
        let posts: Map<_, _> = posts.collect();
        let all = json!({ "v": 1, "rules": posts, "highest": highest, "wants": self.wants });
        format!("{all:#}\n")
    }

    /// Reads it; `None` when it is not what [`Ledger::to_text`] writes.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let all: Value = serde_json::from_str(text).ok()?;
        if all.get("v")?.as_u64()? != 1 {
            return None;
        }
        let mut ledger = Self::default();
        for (name, post) in all.get("rules")?.as_object()? {
            // Absent is null; anything else must be an edition.
            let edition = |key: &str| match post.get(key) {
                None | Some(Value::Null) => Some(None),
                Some(value) => Edition::of_json(value).map(Some),
            };
            let file = post.get("file").and_then(Value::as_str).map(str::to_owned);
            let post = Post {
                live: edition("live")?,
                trial: edition("trial")?,
                good: edition("good")?,
                enabled: post.get("enabled")?.as_bool()?,
                file,
            };
            ledger.posts.insert(name.clone(), post);
        }
        for (key, value) in all.get("highest")?.as_object()? {
            ledger.highest.insert(key.clone(), Edition::of_json(value)?);
        }
        for (key, value) in all.get("wants")?.as_object()? {
            ledger.wants.insert(key.clone(), value.as_u64()?);
        }
        (ledger.posts.len() <= limits::RULES_MAX).then_some(ledger)
    }
}
