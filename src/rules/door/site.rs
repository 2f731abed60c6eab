//! What comes to the door, and where what it lets in runs.

use semver::Version;

use crate::rules::folder::Edition;

/// Where rules run, as the door sees it. Two implementations: the gateway's board, and the tests.
pub trait Site: Send + Sync {
    /// Returns the names of the `[rule.NAME]` tables.
    fn posts(&self) -> Vec<String>;

    /// Examines a file as the contract asks, without running it on the river.
    ///
    /// # Errors
    /// What is wrong with it, a sentence.
    fn examine(&self, file: &[u8]) -> Result<Examined, String>;

    /// Looks whether a file that was examined fits a table: its parameters, its tests.
    ///
    /// # Errors
    /// What does not fit, a sentence.
    fn fits(&self, post: &str, file: &[u8]) -> Result<(), String>;

    /// Whether a file that ran at a table can still run there: the table may have other parameters.
    fn suits(&self, post: &str, file: &[u8]) -> bool;

    /// Makes exactly this run at a post, between two batches. What runs already goes on untouched.
    ///
    /// # Errors
    /// Why it cannot, a sentence; then what ran before runs.
    fn arrange(&self, post: &str, running: Running<'_>) -> Result<(), String>;

    /// Whether a version can run in shadow beside the live one.
    fn has_trials(&self) -> bool;

    /// Says how a rule does, as JSON with keys that are only ever added; `None` while nothing runs.
    fn report(&self, post: &str) -> Option<serde_json::Value>;

    /// Returns the last lines of a rule's log: milliseconds, level, text. `None` for a post that is
    /// not there.
    fn log(&self, post: &str) -> Option<Vec<(i64, &'static str, String)>>;
}

/// What is to run at a post.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// Its output counts; `None` when the rule is switched off.
    pub live: Option<(&'a Edition, &'a [u8])>,
    /// Its output is only compared.
    pub trial: Option<(&'a Edition, &'a [u8])>,
}

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The rule's own name.
    pub name: String,
    /// Its own version.
    pub version: Version,
    /// What it asks for.
    pub capabilities: Vec<String>,
}

/// A file on its way in.
#[derive(Debug, Clone, Copy)]
pub struct Pushed<'a> {
    /// What it is called, for messages: `rule file smooth.wasm`.
    pub subject: &'a str,
    /// The file.
    pub file: &'a [u8],
    /// The signature that came with it.
    pub signature: Option<&'a str>,
    /// The `[rule.NAME]` table that it is for.
    pub to: Option<&'a str>,
    /// Whether it came as the table's configured file.
    pub is_configured: bool,
}

/// A file that is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The `[rule.NAME]` table.
    pub post: String,
    /// What it is.
    pub edition: Edition,
    /// What it does there.
    pub stands: Stands,
}

/// What a version does at its post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// It runs, and its output counts.
    Live,
    /// It runs in shadow.
    Trial,
    /// It is kept, and its post is switched off.
    Off,
}
