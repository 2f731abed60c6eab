//! What was compiled of rules before, kept on disk, so that a start takes a millisecond a rule instead
//! of a second.
//!
//! Compiled code is trusted code: whoever can make the gateway load a changed file owns it. So each
//! file carries a seal, HMAC-SHA-256 over its name and what is in it, with a key of this installation
//! that only its user may read. A file whose seal is not right, of another rule, another wasmtime or
//! another processor is never handed to wasmtime; it is compiled anew and written over. The folder is
//! nobody else's (0700). A thief of the key has the gateway's user already.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use wasmtime::component::Component;

use super::{Engine, compile};
use crate::limits;

const SEAL_BYTES: usize = 32;
const KEY_BYTES: usize = 32;

/// The folder of compiled code.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    key: hmac::Key,
}

impl Cache {
    /// Opens or makes the folder.
    ///
    /// # Errors
    /// In words, when the folder cannot be made, or is not this user's alone.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let told = |what: &str, error: &io::Error| {
            let why = match error.kind() {
                io::ErrorKind::PermissionDenied => "this user may not",
                io::ErrorKind::StorageFull => "the disk is full",
                io::ErrorKind::ReadOnlyFilesystem => "the disk may only be read",
                _ => "the system refuses",
            };
            format!("{} cannot be {what}: {why}", folder.display())
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|e| told("made", &e))?;
        let about = fs::symlink_metadata(folder).map_err(|e| told("read", &e))?;
        if !about.is_dir() {
            return Err(format!("{} is no folder", folder.display()));
        }
        if about.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
                .map_err(|e| told("closed to others", &e))?;
        }
        let key = key(&folder.join("key")).map_err(|e| told("given a key", &e))?;
        Ok(Self { folder: folder.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, &key) })
    }

    /// Loads what was compiled of a file for this engine, if it is there and its seal is right.
    pub fn get(&self, digest: &str, engine: &Engine) -> Option<Component> {
        let name = name(digest, engine);
        let path = self.folder.join(&name);
        let mut file = private(OpenOptions::new().read(true), &path).ok()?;
        let mut bytes = Vec::new();
        let most = limits::RULE_CODE_BYTES_MAX + SEAL_BYTES;
        (&mut file).take(most as u64 + 1).read_to_end(&mut bytes).ok()?;
        let (seal, code) = bytes.split_at_checked(SEAL_BYTES)?;
        if hmac::verify(&self.key, &sealed(&name, code), seal).is_err() {
            tracing::debug!("{} is not what this gateway compiled; made anew", path.display());
            return None;
        }
        // Used now: the last to go when the folder is full.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
        compile::load(engine, code).ok()
    }

    /// Keeps what was compiled; a disk that does not take it costs the next start some time.
    pub fn put(&self, digest: &str, engine: &Engine, code: &[u8]) {
        let name = name(digest, engine);
        let written = self.write(&name, code);
        if let Err(error) = written {
            tracing::debug!("compiled code is not kept: {:?}", error.kind());
        }
        self.make_room();
    }

    fn write(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let half = self.folder.join(format!("{name}.new"));
        let _ = fs::remove_file(&half);
        let mut file = private(OpenOptions::new().write(true).create_new(true), &half)?;
        let seal = hmac::sign(&self.key, &sealed(name, code));
        file.write_all(seal.as_ref())?;
        file.write_all(code)?;
        fs::rename(&half, self.folder.join(name))
    }

    /// Removes what was not used for longest until the rest fits, and what is left of writes that
    /// did not end.
    fn make_room(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter(|entry| entry.file_name() != "key")
            .filter_map(|entry| {
                let about = entry.metadata().ok()?;
                Some((about.modified().ok()?, about.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if bytes <= limits::RULE_CACHE_BYTES_MAX {
                break;
            }
            if fs::remove_file(path).is_ok() {
                bytes -= len;
            }
        }
    }
}

/// What the files of a rule, for one kind of code and one build of this program, are called.
fn name(digest: &str, engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.machine().precompile_compatibility_hash().hash(&mut hasher);
    format!("{digest}-{:016x}", hasher.finish())
}

/// What a seal is made of: the name, so that one rule's code cannot stand in for another's.
fn sealed(name: &str, code: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(name.len() + 1 + code.len());
    sealed.extend_from_slice(name.as_bytes());
    sealed.push(0);
    sealed.extend_from_slice(code);
    sealed
}

/// The installation's key. One that others may read, or of another length, is no secret any more.
fn key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    if let Ok(mut file) = private(OpenOptions::new().read(true), path) {
        let secret = file.metadata()?.mode() & 0o077 == 0;
        let mut bytes = Vec::new();
        (&mut file).take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        if let (true, Ok(key)) = (secret, <[u8; KEY_BYTES]>::try_from(bytes)) {
            return Ok(key);
        }
    }
    let mut key = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("no random numbers"))?;
    let _ = fs::remove_file(path);
    let mut file = private(OpenOptions::new().write(true).create_new(true), path)?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(key)
}

/// Opens a file that only this user may read, and no link to one.
fn private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)
}
