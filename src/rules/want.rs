//! Desired states: what an operator wants to run here, as it comes over MQTT on `fg/1/GATEWAY/want`,
//! and the files that belong to it.
//!
//! The payload is a minisign signature of four lines and, from the byte after its last line end, the
//! JSON document that was signed: `cat want.json.minisig want.json`. So the bytes that were signed are
//! the bytes that are parsed, and nothing is parsed before the signature is found good.
//! ```json
//! {"rules": {"smooth": {
//!     "name": "aggregate", "version": "1.2.0", "digest": "<SHA-256>", "size": 28123,
//!     "signature": "<the four lines of rule.wasm.minisig>",
//!     "from": {"chunk": 65536}}}}
//! ```
//! Keys of `rules` are the configuration's `[rule.NAME]` tables; tables that are not named are left
//! alone. `from` says where the file is: in chunks of so many bytes on `fg/1/GATEWAY/want/DIGEST/N`,
//! N from 0, the last one shorter, or `{"https": "https://.."}`. `"enabled": false` switches a rule
//! off, alone or with a version. Each file still has a signature of its own, so a desired state cannot
//! bring in what the door would refuse.

#[cfg(test)]
mod tests;

use semver::Version;
use serde_json::{Map, Value};

use super::folder::{Edition, digest, is_digest};
use super::signature::is_rule_name;
use crate::limits;

/// What is wanted at one post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The `[rule.NAME]` table.
    pub post: String,
    /// Which version, when it is about one.
    pub file: Option<Sent>,
    /// Whether it is to run, when it is about that.
    pub enabled: Option<bool>,
}

/// A file that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What it is.
    pub edition: Edition,
    /// Its bytes.
    pub size: usize,
    /// Its signature; looked at when the file has come.
    pub signature: String,
    /// Where it is.
    pub from: From,
}

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// On topics of its own, so many bytes each.
    Chunks(usize),
    /// At an HTTPS address.
    Https(String),
}

/// Splits a payload into the signature and the document that was signed.
///
/// # Errors
/// What is missing, in words that complete "is not understood:".
pub fn split(payload: &[u8]) -> Result<(&str, &[u8]), &'static str> {
    if payload.len() > limits::WANT_BYTES_MAX {
        return Err("it is too large");
    }
    let head = &payload[..payload.len().min(limits::SIGNATURE_BYTES_MAX)];
    let mut ends = head.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let end = ends.nth(3).ok_or("it does not begin with a signature of four lines")?;
    let (signature, document) = payload.split_at(end + 1);
    let signature = std::str::from_utf8(signature).map_err(|_| "its signature is no text")?;
    Ok((signature, document))
}

/// Reads a document. Unknown keys are refused, for they may ask for something.
///
/// # Errors
/// What is wrong with it, in words that complete "is not understood:".
pub fn parse(document: &[u8]) -> Result<Vec<Wish>, String> {
    let all: Value = serde_json::from_slice(document).map_err(|_| "it is no JSON".to_owned())?;
    let all = object(&all, "it", &["rules"])?;
    let rules = all.get("rules").ok_or("it has no rules")?;
    let rules = rules.as_object().ok_or("rules is no object")?;
    if rules.len() > limits::RULES_MAX {
        return Err(format!("it names more than {} rules", limits::RULES_MAX));
    }
    rules.iter().map(|(post, wish)| one(post, wish)).collect()
}

fn one(post: &str, wish: &Value) -> Result<Wish, String> {
    if post.is_empty() || post.len() > limits::NAME_BYTES_MAX {
        return Err("a rule has no name, or an overlong one".to_owned());
    }
    let keys = ["name", "version", "digest", "size", "signature", "from", "enabled"];
    let wish = object(wish, post, &keys)?;
    let enabled = match wish.get("enabled") {
        None => None,
        Some(value) => Some(value.as_bool().ok_or("enabled is neither true nor false")?),
    };
    let is_about_file = wish.keys().any(|key| key != "enabled");
    if !is_about_file && enabled.is_none() {
        return Err(format!("{post} wants nothing"));
    }
    let file = if is_about_file { Some(sent(post, wish)?) } else { None };
    Ok(Wish { post: post.to_owned(), file, enabled })
}

fn sent(post: &str, wish: &Map<String, Value>) -> Result<Sent, String> {
    let text = |key: &str| {
        let value = wish.get(key).and_then(Value::as_str);
        value.ok_or_else(|| format!("{post} has no {key}, or one that is no text"))
    };
    let name = text("name")?;
    if !is_rule_name(name) {
        return Err(format!("{post} names no rule"));
    }
    let version = Version::parse(text("version")?).ok().filter(|v| v.build.is_empty());
    let version = version.ok_or_else(|| format!("{post} gives no version such as 1.2.0"))?;
    let digest = text("digest")?;
    if !is_digest(digest) {
        return Err(format!("{post} gives no SHA-256 of 64 hexadecimal digits"));
    }
    let size = wish.get("size").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let size = size.filter(|size| (1..=limits::RULE_FILE_BYTES_MAX).contains(size));
    let size = size.ok_or_else(|| {
        format!("{post} gives no size from 1 to {} bytes", limits::RULE_FILE_BYTES_MAX)
    })?;
    let signature = text("signature")?;
    if signature.len() > limits::SIGNATURE_BYTES_MAX {
        return Err(format!("{post} has an overlong signature"));
    }
    let from = wish.get("from").ok_or_else(|| format!("{post} does not say from where"))?;
    let edition = Edition { name: name.to_owned(), version, digest: digest.to_owned() };
    Ok(Sent { edition, size, signature: signature.to_owned(), from: place(post, from)? })
}

fn place(post: &str, from: &Value) -> Result<From, String> {
    let from = object(from, "from", &["chunk", "https"])?;
    match (from.get("chunk"), from.get("https")) {
        (Some(bytes), None) => {
            let bytes = bytes.as_u64().and_then(|n| usize::try_from(n).ok());
            let bytes =
                bytes.filter(|n| (limits::CHUNK_BYTES_MIN..=limits::CHUNK_BYTES_MAX).contains(n));
            bytes.map(From::Chunks).ok_or_else(|| {
                let (min, max) = (limits::CHUNK_BYTES_MIN, limits::CHUNK_BYTES_MAX);
                format!("{post} has chunks of other than {min} to {max} bytes")
            })
        }
        (None, Some(url)) => {
            let url = url.as_str().filter(|url| url.len() <= limits::FETCH_URL_BYTES_MAX);
            let url = url.filter(|url| url.starts_with("https://") && url.is_ascii());
            let url =
                url.filter(|url| !url.contains(|c: char| c.is_whitespace() || c.is_control()));
            let why = || format!("{post} gives no address such as https://host/path");
            url.map(|url| From::Https(url.to_owned())).ok_or_else(why)
        }
        _ => Err(format!("{post} is to come from one place")),
    }
}

fn object<'a>(
    value: &'a Value,
    what: &str,
    keys: &[&str],
) -> Result<&'a Map<String, Value>, String> {
    let object = value.as_object().ok_or_else(|| format!("{what} is no object"))?;
    match object.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(format!("{what} has an unknown key {:?}", key.escape_debug().to_string())),
        None => Ok(object),
    }
}

/// A file that comes in chunks, in any order.
#[derive(Debug)]
pub struct Assembly {
    digest: String,
    chunk: usize,
    bytes: Vec<u8>,
    got: Vec<bool>,
    left: usize,
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// It was missing.
    New,
    /// It had come before; the first one stays.
    Again,
    /// Its number is beyond the last.
    Beyond,
    /// It has not the length that it must have.
    WrongLength,
}

impl Assembly {
    /// Begins with nothing.
    #[must_use]
    pub fn new(sent: &Sent, chunk: usize) -> Self {
        let chunks = sent.size.div_ceil(chunk.max(1));
        Self {
            digest: sent.edition.digest.clone(),
            chunk: chunk.max(1),
            bytes: vec![0; sent.size],
            got: vec![false; chunks],
            left: chunks,
        }
    }

    /// Takes a chunk.
    pub fn take(&mut self, number: usize, payload: &[u8]) -> Chunk {
        let Some(got) = self.got.get_mut(number) else { return Chunk::Beyond };
        let start = number * self.chunk;
        let end = (start + self.chunk).min(self.bytes.len());
        if payload.len() != end - start {
            return Chunk::WrongLength;
        }
        if *got {
            return Chunk::Again;
        }
        *got = true;
        self.left -= 1;
        self.bytes[start..end].copy_from_slice(payload);
        Chunk::New
    }

    /// Returns how many chunks there are.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.got.len()
    }

    /// Returns the numbers that are missing, lowest first, at most `count`.
    #[must_use]
    pub fn missing(&self, count: usize) -> Vec<usize> {
        let missing = self.got.iter().enumerate().filter(|(_, got)| !**got);
        missing.map(|(number, _)| number).take(count).collect()
    }

    /// Whether a chunk has come.
    #[must_use]
    pub fn has(&self, number: usize) -> bool {
        self.got.get(number).is_some_and(|got| *got)
    }

    /// Whether all have come.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.left == 0
    }

    /// Returns the file.
    ///
    /// # Errors
    /// When chunks are missing, or it is not the file that was meant; in words that complete "did not
    /// come through:".
    pub fn finish(self) -> Result<Vec<u8>, String> {
        if !self.is_whole() {
            let missing = self.missing(1).first().copied().unwrap_or_default();
            let (left, all) = (self.left, self.got.len());
            return Err(format!("{left} of {all} chunks are missing, the first is {missing}"));
        }
        let found = digest(&self.bytes);
        if found == self.digest {
            return Ok(self.bytes);
        }
        Err(format!("its SHA-256 is {found} and should be {}", self.digest))
    }
}

/// Returns the desired state that asks for one file at one post, as it is to be signed.
#[must_use]
pub fn write(post: &str, sent: &Sent) -> String {
    let from = match &sent.from {
        From::Chunks(bytes) => serde_json::json!({ "chunk": bytes }),
        From::Https(url) => serde_json::json!({ "https": url }),
    };
    let Edition { name, version, digest } = &sent.edition;
    let wish = serde_json::json!({
        "name": name, "version": version.to_string(), "digest": digest,
        "size": sent.size, "signature": sent.signature, "from": from,
    });
    let rules = Map::from_iter([(post.to_owned(), wish)]);
    serde_json::json!({ "rules": rules }).to_string()
}
