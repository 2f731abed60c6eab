//! Notices that a certificate, key or password that a session began with is another one now.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::settings::{Broker, Login};
use crate::secret::Secret;

/// The files of a broker's settings as they stood when a connection was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files(Vec<Stamp>);

/// What changes when a file is written or replaced: its inode, its size, its time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    /// `None` when it cannot be looked at.
    seen: Option<(u64, u64, i64, i64)>,
}

impl Files {
    /// Looks at them. It costs one system call a file, and reads none.
    #[must_use]
    pub fn of(broker: &Broker) -> Self {
        let mut paths: Vec<PathBuf> =
            broker.login.iter().flat_map(Login::secrets).filter_map(Secret::path).collect();
        if let Some(tls) = &broker.tls {
            paths.extend(tls.ca.clone());
            if let Some((chain, key)) = &tls.client {
                paths.push(chain.clone());
                paths.extend(key.path());
            }
        }
        Self(paths.into_iter().map(Stamp::of).collect())
    }

    /// Returns whether one of them has changed, and all together would do for a connection: the key
    /// belongs to its certificate, and everything can be read. A half-written pair is waited for.
    #[must_use]
    pub fn are_renewed(&self, broker: &Broker) -> bool {
        *self != Self::of(broker)
            && broker.tls.as_ref().is_none_or(|tls| tls.look_at_files().is_ok())
            && broker.login.iter().flat_map(Login::secrets).all(|secret| secret.read().is_ok())
    }
}

impl Stamp {
    fn of(path: PathBuf) -> Self {
        let seen = Self::look(&path);
        Self { path, seen }
    }

    fn look(path: &Path) -> Option<(u64, u64, i64, i64)> {
        let file = std::fs::metadata(path).ok()?;
        Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::Tls;

    fn pair(name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_new_certificate_counts_when_its_key_is_there_too() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| {
            // As renewals do it: whole, under its name at once.
            std::fs::write(at("new"), text).unwrap();
            std::fs::rename(at("new"), at(name)).unwrap();
        };
        let ((old, old_key), (new, new_key)) = (pair("old"), pair("new"));
        write("chain", &old);
        write("key", &old_key);
        write("password", "one");
        let mut broker = Broker::new("h", 8883, "gw");
        let client = Some((at("chain"), Secret::File(at("key"))));
        broker.tls = Some(Tls { ca: Some(at("chain")), client });
        let password = Some(Secret::File(at("password")));
        broker.login = Some(Login { user: "u".into(), password });
        let files = Files::of(&broker);
        assert!(!files.are_renewed(&broker));
        write("chain", &new);
        assert!(!files.are_renewed(&broker), "the key is the old one still");
        write("key", "-----BEGIN PRIV");
        assert!(!files.are_renewed(&broker), "the key is cut short");
        write("key", &new_key);
        assert!(files.are_renewed(&broker));
        let files = Files::of(&broker);
        assert!(!files.are_renewed(&broker));
        std::fs::remove_file(at("password")).unwrap();
        assert!(!files.are_renewed(&broker), "the password is gone");
        write("password", "two");
        assert!(files.are_renewed(&broker));
    }
}
