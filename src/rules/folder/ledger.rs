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
    /// Whether the live version was promoted lately and has not proven itself: `good` comes back when
    /// it fails. A power cut does not end that.
    pub on_probation: bool,
    /// How the last trial, or the last version's first hour, ended.
    pub ended: Option<Ended>,
}

impl Default for Post {
    fn default() -> Self {
        Self {
            live: None,
            trial: None,
            good: None,
            enabled: true,
            file: None,
            on_probation: false,
            ended: None,
        }
    }
}

/// What became of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which one.
    pub edition: Edition,
    /// What.
    pub end: End,
    /// Why, in words; empty when a person wanted it so.
    pub why: String,
}

/// How a version ends its trial, or its time in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It took the place of the one that ran.
    Promoted,
    /// Its trial ended without that.
    SentAway,
    /// It had the place, and the last good one has it again.
    RolledBack,
}

impl End {
    const ALL: [Self; 3] = [Self::Promoted, Self::SentAway, Self::RolledBack];

    /// Returns the word for it in the ledger and in `have`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::SentAway => "sent away",
            Self::RolledBack => "rolled back",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.word() == word)
    }
}

impl Ended {
    /// Notes an end; of the words no more than [`limits::RULE_ENDED_BYTES_MAX`] are kept.
    #[must_use]
    pub fn new(edition: Edition, end: End, why: &str) -> Self {
        let most = why.floor_char_boundary(limits::RULE_ENDED_BYTES_MAX);
        Self { edition, end, why: why[..most].to_owned() }
    }

    /// Returns it as the ledger and `have` show it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Edition { name, version, digest } = &self.edition;
        json!({
            "name": name, "version": version.to_string(), "digest": digest,
            "end": self.end.word(), "why": self.why,
        })
    }

    fn of_json(value: &Value) -> Option<Self> {
        let end = End::of_word(value.get("end")?.as_str()?)?;
        Some(Self::new(Edition::of_json(value)?, end, value.get("why")?.as_str()?))
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
                "probation": post.on_probation, "ended": post.ended.as_ref().map(Ended::to_json),
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
                // Both came later than the rest.
                on_probation: post.get("probation").and_then(Value::as_bool).unwrap_or(false),
                ended: post.get("ended").and_then(Ended::of_json),
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
