//! A secret is a reference that says where it is kept, read at the moment of use. It is never
//! interpolated into text, never logged, and never part of a settings dump.

use std::fmt;
use std::path::PathBuf;

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// The content of a file, without one trailing line break.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential: a file of that name in `$CREDENTIALS_DIRECTORY`
    /// (systemd.exec, section "Credentials").
    Credential(String),
    /// Typed on a command line, for one run. A configuration cannot hold it.
    Typed(Typed),
}

/// A secret in memory that no debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Typed(String);

impl From<String> for Typed {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

/// A secret that could not be read; says where it was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretError {
    /// As in the configuration: `file /etc/fieldgate/password`.
    pub place: String,
    /// What went wrong, as a sentence part.
    pub why: String,
}

impl Secret {
    /// Reads the secret as text.
    ///
    /// # Errors
    /// When its place does not exist, cannot be read, or is not UTF-8.
    pub fn read(&self) -> Result<String, SecretError> {
        let text = String::from_utf8(self.read_bytes()?)
            .map_err(|_| self.error("holds bytes that are not UTF-8 text"))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }

    /// Reads the secret as it is, for keys and certificates.
    ///
    /// # Errors
    /// When its place does not exist or cannot be read.
    pub fn read_bytes(&self) -> Result<Vec<u8>, SecretError> {
        match self {
            Self::File(path) => std::fs::read(path).map_err(|e| self.file_error(&e)),
            Self::Env(name) => std::env::var(name)
                .map(String::into_bytes)
                .map_err(|_| self.error("is not set in this environment")),
            Self::Credential(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    self.error("cannot be read: systemd handed over no credentials here")
                })?;
                let path = PathBuf::from(folder).join(name);
                std::fs::read(path).map_err(|e| self.file_error(&e))
            }
            Self::Typed(Typed(secret)) => Ok(secret.clone().into_bytes()),
        }
    }

    /// Returns the file it is kept in, if it is kept in one.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Credential(name) => {
                Some(PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name))
            }
            _ => None,
        }
    }

    /// Returns whether this process can be expected to reach it: credentials are handed over by
    /// systemd to the service alone, so a person's shell has none.
    #[must_use]
    pub fn is_within_reach(&self) -> bool {
        let handed_over = || std::env::var_os("CREDENTIALS_DIRECTORY").is_some();
        !matches!(self, Self::Credential(_)) || handed_over()
    }

    fn file_error(&self, error: &std::io::Error) -> SecretError {
        self.error(match error.kind() {
            std::io::ErrorKind::NotFound => "does not exist",
            std::io::ErrorKind::PermissionDenied => "may not be read by this user",
            _ => "cannot be read",
        })
    }

    fn error(&self, why: &str) -> SecretError {
        SecretError { place: self.to_string(), why: why.to_owned() }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Credential(name) => write!(f, "credential {name}"),
            Self::Typed(_) => f.write_str("the command line"),
        }
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.why)
    }
}

impl std::error::Error for SecretError {}
