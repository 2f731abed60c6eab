//! `fieldgate rule sign`: a signature beside a rule's file, with a key that minisign made.

use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use clap::Args;
use ct_codecs::{Base64, Decoder as _};
use minisign::{PublicKey, SecretKey, SecretKeyBox};

use crate::error::{Exit, Fatal};
use crate::events::push as say;
use crate::limits;
use crate::rules::manifest::Manifest;
use crate::rules::signature::{Claim, Key, Keys};

/// Arguments of `rule sign`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Sign {
    /// The rule's file, as `rule build` wrote it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    key: KeyArgs,
    /// Gateways that are in one of these groups, and no others
    #[arg(long, value_name = "GROUP,..", value_delimiter = ',')]
    groups: Vec<String>,
    /// Not taken in before this: 2026-11-22 or 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
    /// Not taken in after this; what runs by then goes on
    #[arg(long, value_name = "TIME")]
    not_after: Option<String>,
    /// The most that the rule may ask for; what its manifest asks for when absent
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    capabilities: Vec<String>,
    /// May take the place of a higher version
    #[arg(long)]
    allow_downgrade: bool,
}

/// Where the key is.
#[derive(Debug, Args)]
pub(in crate::cli) struct KeyArgs {
    /// Secret key, as minisign -G writes it
    #[arg(long, value_name = "FILE")]
    pub(super) key: PathBuf,
    /// File whose first line is the key's password; asked for at the terminal when absent
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
}

impl Sign {
    pub(super) fn run(self) -> Result<Exit, Fatal> {
        let file = read(&self.file, limits::RULE_FILE_BYTES_MAX)?;
        let manifest = manifest(&self.file, &file)?;
        let mut comment = Claim::rule(&manifest.name, manifest.version.clone());
        comment.groups.clone_from(&self.groups);
        comment.allow_downgrade = self.allow_downgrade;
        comment.capabilities = match self.capabilities.is_empty() {
            false => Some(self.capabilities.clone()),
            true if manifest.capabilities.is_empty() => None,
            true => Some(manifest.capabilities.clone()),
        };
        let mut text = comment.to_string();
        for (word, at) in [("not-before", &self.not_before), ("not-after", &self.not_after)] {
            if let Some(at) = at {
                text += &format!(" {word}={at}");
            }
        }
        let bad = |why: String| Fatal::new(Exit::Usage, format!("what is to be signed {why}"));
        let comment = Claim::parse(&text).map_err(bad)?;
        let signer = self.key.open()?;
        let signature = signer.sign(&file, &comment)?;
        let to = beside(&self.file);
        std::fs::write(&to, signature).map_err(|e| unusable(&to, "cannot be written", e.kind()))?;
        // A closed pipe is the reader's choice.
        let _ = writeln!(stdout().lock(), "{}\n  {comment}\n  key {}", to.display(), signer.id());
        Ok(Exit::Done)
    }
}

/// A secret key, ready to sign.
pub(super) struct Signer {
    secret: SecretKey,
    public: PublicKey,
}

impl KeyArgs {
    /// Reads the key, and its password where it has one.
    pub(super) fn open(&self) -> Result<Signer, Fatal> {
        let path = &self.key;
        let bad = |what: &str| Fatal::new(Exit::Problem, say::bad_key(path, what).to_string());
        let text = String::from_utf8(read(path, limits::SIGNATURE_BYTES_MAX)?)
            .map_err(|_| bad("is no key of minisign's"))?;
        let secret = match without_password(&text) {
            Some(secret) => secret,
            None => SecretKeyBox::from(text)
                .into_secret_key(self.password()?)
                .map_err(|_| bad("is not opened by this password, or is no key of minisign's"))?,
        };
        let public = PublicKey::from_secret_key(&secret).map_err(|_| bad("is damaged"))?;
        Ok(Signer { secret, public })
    }

    fn password(&self) -> Result<Option<String>, Fatal> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let text = String::from_utf8_lossy(&read(path, limits::SIGNATURE_BYTES_MAX)?).into_owned();
        Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
    }
}

/// Reads a key that has no password (`minisign -G -W`). Its checksum is not looked at: minisign leaves
/// it empty. A damaged key makes no signature that its public half would accept.
fn without_password(text: &str) -> Option<SecretKey> {
    let line = text.lines().nth(1)?;
    let mut bytes = [0; 158];
    let bytes = Base64::decode(&mut bytes, line, None).ok().filter(|bytes| bytes.len() == 158)?;
    // Algorithm of the key, then of its encryption: none.
    (bytes[2..4] == [0, 0]).then(|| SecretKey::from_bytes(bytes).ok())?
}

impl Signer {
    /// Signs bytes, and looks whether a gateway would believe it.
    pub(super) fn sign(&self, bytes: &[u8], comment: &Claim) -> Result<String, Fatal> {
        let broken = || Fatal::new(Exit::Broken, "the signature could not be made with this key");
        let text = comment.to_string();
        let signature = minisign::sign(Some(&self.public), &self.secret, bytes, Some(&text), None);
        let signature = signature.map_err(|_| broken())?.into_string();
        let key = Key::parse(&self.public.to_base64()).map_err(|_| broken())?;
        let checked = Keys::new(vec![key]).verify("it", bytes, Some(&signature));
        checked.map(|_| signature).map_err(|notice| Fatal::new(Exit::Broken, notice.to_string()))
    }

    /// The key's identity, as minisign shows it.
    pub(super) fn id(&self) -> String {
        Key::parse(&self.public.to_base64()).map_or_else(|_| "?".to_owned(), |key| key.id)
    }
}

/// Where the signature of a file stands.
pub(super) fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// Reads a file that is given to a command.
pub(super) fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Fatal> {
    let bytes = std::fs::read(path).map_err(|e| unusable(path, "cannot be read", e.kind()))?;
    if bytes.len() > bytes_max {
        let text = say::too_large(&path.display().to_string(), bytes.len(), bytes_max).to_string();
        return Err(Fatal::new(Exit::Problem, text));
    }
    Ok(bytes)
}

fn unusable(path: &Path, what: &str, kind: std::io::ErrorKind) -> Fatal {
    Fatal::new(Exit::Problem, say::file_refuses(path, what, kind).to_string())
}

/// What a rule's file says of itself.
pub(super) fn manifest(path: &Path, file: &[u8]) -> Result<Manifest, Fatal> {
    let subject = path.display().to_string();
    let refused = |why: &str| Fatal::new(Exit::Problem, say::not_taken(&subject, why).to_string());
    match Manifest::read(file) {
        Ok(Some(manifest)) => Ok(manifest),
        Ok(None) => Err(refused("it has no manifest; fieldgate rule build writes one")),
        Err(error) => Err(refused(&error.to_string())),
    }
}
