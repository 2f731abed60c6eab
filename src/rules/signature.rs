//! Whose rules this gateway runs: detached minisign signatures, looked at before anything of the file
//! they stand for is parsed.
//!
//! A signature covers the file's bytes (BLAKE2b, Ed25519; the prehashed form, which minisign makes
//! since 0.6) and, with a second signature, its trusted comment. The comment says what the signer
//! means by it: which rule, which version, which gateways, from when to when; its grammar stands in
//! [`Claim`]. So a file cannot be changed, a comment cannot be moved to another file, and a signature
//! for one group of gateways does nothing on another. What the comment says is taken strictly: a word
//! that this version does not know refuses the file, for it may be a restriction.
//!
//! The secret key never comes near a gateway. `fieldgate rule sign` and Debian's `minisign -S -t`
//! write the same signatures.

mod claim;
#[cfg(test)]
mod tests;

use ct_codecs::{Base64, Decoder as _};
use minisign_verify::{Error, PublicKey, Signature};

use crate::events::{Notice, push as say};
use crate::limits;
use crate::reading::UnixMillis;

pub(in crate::rules) use claim::is_rule_name;
pub use claim::{Claim, Kind};

/// `[trust] keys`. Without keys everything runs, signed or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

/// One key, with what it may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// As minisign shows it: sixteen hexadecimal digits.
    pub id: String,
    key: PublicKey,
    /// Names of rules, `*` at the end for any ending; empty when it may sign all.
    rules: Vec<String>,
}

/// Bytes that were signed by a trusted key, and what the signer says of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// [`Key::id`].
    pub key: String,
    /// The trusted comment.
    pub claim: Claim,
}

/// Whom a signature has to be for.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    /// The gateway's name.
    pub gateway: &'a str,
    /// Its groups.
    pub groups: &'a [String],
    /// What time it is; `None` while the clock is not set.
    pub now: Option<UnixMillis>,
}

impl Key {
    /// Reads a key as minisign prints it, with words behind it that narrow what it may sign:
    /// `RWQ.. rules=deadband,dew-*`.
    ///
    /// # Errors
    /// What is wrong, in words that complete "a key ..".
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let spelled = words.next().unwrap_or_default();
        let key = PublicKey::from_base64(spelled).map_err(|_| {
            "is the line of 56 characters that minisign -G prints, as in RWQ..".to_owned()
        })?;
        // Two bytes of algorithm, eight of identity, 32 of key.
        let mut bytes = [0; 42];
        let id = Base64::decode(&mut bytes, spelled, None).ok().and_then(|bytes| bytes.get(2..10));
        let id = id_of(id.ok_or("is no base64")?);
        let mut rules = Vec::new();
        for word in words {
            let list = word.strip_prefix("rules=").filter(|list| !list.is_empty());
            let list = list.ok_or_else(|| format!("may sign rules=A,B; {word:?} is not known"))?;
            rules.extend(list.split(',').map(str::to_owned));
        }
        Ok(Self { id, key, rules })
    }

    fn may_sign(&self, claim: &Claim) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => claim.name.starts_with(start),
            None => claim.name == *pattern,
        };
        // A key for some rules says nothing about a whole gateway.
        self.rules.is_empty() || (claim.kind == Kind::Rule && self.rules.iter().any(fits))
    }
}

impl Keys {
    /// Collects keys.
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    /// Whether signatures are asked for at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks whether `signature` is a trusted key's for `bytes`. Parses the signature's four lines and
    /// nothing of the bytes. `subject` is what the bytes are called.
    ///
    /// # Errors
    /// Why they are not to be trusted, as a notice.
    pub fn verify(
        &self,
        subject: &str,
        bytes: &[u8],
        signature: Option<&str>,
    ) -> Result<Signed, Box<Notice>> {
        let text = signature.ok_or_else(|| Box::new(say::unsigned(subject)))?;
        let garbage = |why: &str| Box::new(say::no_signature(subject, why));
        check_form(text).map_err(garbage)?;
        let parsed = Signature::decode(text).map_err(|error| {
            garbage(match error {
                Error::UnsupportedAlgorithm => "its algorithm is none of minisign's",
                _ => "its lines are not minisign's",
            })
        })?;
        for key in &self.0 {
            match key.key.verify(bytes, &parsed, false) {
                Ok(()) => {
                    let claim = Claim::parse(parsed.trusted_comment())
                        .map_err(|why| Box::new(say::bad_comment(subject, &why)))?;
                    if !key.may_sign(&claim) {
                        return Err(Box::new(say::key_may_not(subject, &key.id, &claim.name)));
                    }
                    return Ok(Signed { key: key.id.clone(), claim });
                }
                Err(Error::UnexpectedKeyId) => {}
                Err(Error::UnexpectedAlgorithm) => {
                    return Err(garbage("it is of minisign's old form, which is not prehashed"));
                }
                Err(_) => return Err(Box::new(say::wrong_signature(subject, &key.id))),
            }
        }
        let ids: Vec<_> = self.0.iter().map(|key| key.id.as_str()).collect();
        Err(Box::new(say::unknown_key(subject, &key_id(text), &ids)))
    }
}

impl Signed {
    /// Looks whether the signer meant this gateway and this moment.
    ///
    /// # Errors
    /// Why not, as a notice; also when a clock that is not set cannot tell.
    pub fn is_for(&self, subject: &str, here: &Here<'_>) -> Result<(), Box<Notice>> {
        let claim = &self.claim;
        let is_meant = claim.groups.is_empty()
            || claim.groups.iter().any(|group| here.groups.iter().any(|mine| mine == group));
        if !is_meant {
            return Err(Box::new(say::other_group(subject, &claim.groups, here.groups)));
        }
        let window = (claim.not_before, claim.not_after);
        let Some(now) = here.now else {
            return match window {
                (None, None) => Ok(()),
                _ => Err(Box::new(say::clock_cannot_tell(subject))),
            };
        };
        match window {
            (Some(from), _) if now < from => Err(Box::new(say::not_yet(subject, from, now))),
            (_, Some(to)) if now > to => Err(Box::new(say::expired(subject, to, now))),
            _ => Ok(()),
        }
    }
}

/// Looks at the outer form, which the parser of the signature is easier about.
fn check_form(text: &str) -> Result<(), &'static str> {
    if text.len() > limits::SIGNATURE_BYTES_MAX {
        return Err("it is longer than any signature");
    }
    if text.trim().is_empty() {
        return Err("it is empty");
    }
    let lines: Vec<_> = text.lines().collect();
    match lines[..] {
        [untrusted, _, trusted, _] => {
            let comments = untrusted.starts_with("untrusted comment: ")
                && trusted.starts_with("trusted comment: ");
            if comments { Ok(()) } else { Err("its comments are missing") }
        }
        _ if lines.len() < 4 => Err("it breaks off; a signature has four lines"),
        _ => Err("it goes on after its four lines"),
    }
}

/// Which key a signature names; sixteen question marks when it names none.
fn key_id(text: &str) -> String {
    let mut bytes = [0; 74];
    let line = text.lines().nth(1).unwrap_or_default();
    match Base64::decode(&mut bytes, line, None) {
        Ok(decoded) if decoded.len() == 74 => id_of(&decoded[2..10]),
        _ => "?".repeat(16),
    }
}

/// A key's identity as minisign shows it: the eight bytes as one little-endian number.
fn id_of(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}
