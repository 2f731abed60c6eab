//! systemd's journal: what is logged goes there with fields (systemd.journal-fields(7)), so that
//! `journalctl FIELDGATE_CODE=FG-M03` and `FIELDGATE_DEVICE=pump-7` find it. Only when standard error
//! is the journal, which `JOURNAL_STREAM` tells; whoever sends it elsewhere gets plain lines there.
//!
//! An entry is one datagram in the native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): lines of
//! `NAME=value`, and for a value of several lines its length before it. The socket never blocks;
//! what the journal does not take goes to standard error, as text, so nothing but its fields is lost.
//! A crate for this sends large entries in sealed files and needs unsafe code; ours are small.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::error::Fatal;
use crate::events::place;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Priorities of syslog(3), which the journal sorts by.
mod priority {
    pub(super) const ERROR: u8 = 3;
    pub(super) const WARNING: u8 = 4;
    pub(super) const INFO: u8 = 6;
    pub(super) const DEBUG: u8 = 7;
}

/// The way to the journal.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// Connects when standard error is the journal.
    pub(super) fn of_stderr() -> Option<Self> {
        let stream = env::var_os("JOURNAL_STREAM")?;
        is_named(&stream, std::io::stderr().as_fd()).then(|| Self::at(Path::new(SOCKET)))?
    }

    fn at(socket: &Path) -> Option<Self> {
        let ours = UnixDatagram::unbound().ok()?;
        ours.connect(socket).ok()?;
        ours.set_nonblocking(true).ok()?;
        Some(Self(ours))
    }

    /// Sends the last word of a process. Returns whether the journal has it.
    pub(super) fn take_last(&self, fatal: &Fatal) -> bool {
        let mut entry = Entry::new(priority::ERROR);
        fatal.message.clone_into(&mut entry.message);
        let first = fatal.message.split_whitespace().next().unwrap_or_default();
        if first.starts_with("FG-") {
            first.clone_into(&mut entry.code);
        }
        self.send(&entry)
    }

    fn send(&self, entry: &Entry) -> bool {
        self.0.send(&entry.encoded()).is_ok()
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    #[expect(clippy::print_stderr, reason = "standard error is the journal too, without fields")]
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::new(match *event.metadata().level() {
            Level::ERROR => priority::ERROR,
            Level::WARN => priority::WARNING,
            Level::INFO => priority::INFO,
            _ => priority::DEBUG,
        });
        event.record(&mut entry);
        if !self.send(&entry) {
            eprintln!("{}{}", entry.message, entry.more);
        }
    }
}

/// Whether `JOURNAL_STREAM`, a device and an inode in decimals, names this file.
fn is_named(stream: &OsStr, file: BorrowedFd<'_>) -> bool {
    let named = stream.to_str().and_then(|stream| stream.split_once(':'));
    let number = |text: &str| text.parse::<u64>().ok();
    let Some((device, inode)) = named.and_then(|(a, b)| Some((number(a)?, number(b)?))) else {
        return false;
    };
    let seen = file.try_clone_to_owned().and_then(|file| File::from(file).metadata());
    seen.is_ok_and(|seen| (seen.dev(), seen.ino()) == (device, inode))
}

/// One entry while it is put together.
#[derive(Debug)]
struct Entry {
    priority: u8,
    message: String,
    /// Fields that are not ours, as text behind the message.
    more: String,
    code: String,
    subject: String,
}

impl Entry {
    fn new(priority: u8) -> Self {
        let empty = String::new;
        Self { priority, message: empty(), more: empty(), code: empty(), subject: empty() }
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.message.len() + 256);
        put(&mut bytes, "MESSAGE", &format!("{}{}", self.message, self.more));
        put(&mut bytes, "PRIORITY", &self.priority.to_string());
        put(&mut bytes, "SYSLOG_IDENTIFIER", "fieldgate");
        if !self.code.is_empty() {
            put(&mut bytes, "FIELDGATE_CODE", &self.code);
        }
        if !self.subject.is_empty() {
            put(&mut bytes, "FIELDGATE_SUBJECT", &self.subject);
        }
        for (kind, name) in place::named(&self.subject) {
            put(&mut bytes, &format!("FIELDGATE_{kind}"), name);
        }
        bytes
    }
}

/// Adds a field. A value with a line break in it has its length, 64 bits little-endian, before it.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            place::CODE => value.clone_into(&mut self.code),
            place::SUBJECT => value.clone_into(&mut self.subject),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.more, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::error::Exit;
    use crate::events::{self, Events, modbus};

    /// A socket as journald's, and the way to it.
    fn journal() -> (tempfile::TempDir, UnixDatagram, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("socket")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let journal = Journal::at(&folder.path().join("socket")).unwrap();
        (folder, socket, journal)
    }

    /// The next entry, read as the protocol's text describes it.
    fn heard(socket: &UnixDatagram) -> BTreeMap<String, String> {
        let mut buffer = [0; 8192];
        let length = socket.recv(&mut buffer).unwrap();
        let (mut rest, mut fields) = (&buffer[..length], BTreeMap::new());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        while !rest.is_empty() {
            let end = rest.iter().position(|b| matches!(b, b'=' | b'\n')).unwrap();
            let (name, with_length) = (text(&rest[..end]), rest[end] == b'\n');
            rest = &rest[end + 1..];
            let length = if with_length {
                let (length, value) = rest.split_first_chunk().unwrap();
                rest = value;
                usize::try_from(u64::from_le_bytes(*length)).unwrap()
            } else {
                rest.iter().position(|b| *b == b'\n').unwrap()
            };
            assert!(fields.insert(name, text(&rest[..length])).is_none(), "twice: {fields:?}");
            assert_eq!(rest[length], b'\n');
            rest = &rest[length + 1..];
        }
        fields
    }

    #[test]
    fn what_is_wrong_with_a_device_is_found_by_code_port_and_device() {
        let (_folder, socket, journal) = journal();
        let registry = tracing_subscriber::registry().with(journal);
        tracing::subscriber::with_default(registry, || {
            let events = Events::default();
            let subject = "bus rs485-1: device 7 (pump-7)";
            events.raise(modbus::wrong(subject, "for another unit"));
            let entry = heard(&socket);
            let fields = ["PRIORITY", "FIELDGATE_CODE", "FIELDGATE_PORT", "FIELDGATE_DEVICE"];
            assert_eq!(
                fields.map(|name| entry[name].as_str()),
                ["4", "FG-M07", "rs485-1", "pump-7"]
            );
            assert!(entry["MESSAGE"].starts_with("FG-M07  bus rs485-1: device 7"), "{entry:?}");
            assert!(entry["MESSAGE"].contains("\n  Likely: "), "several lines: {entry:?}");

            events.clear(&modbus::WRONG, subject, "answers again");
            let entry = heard(&socket);
            assert_eq!(
                fields.map(|name| entry[name].as_str()),
                ["6", "FG-M07", "rs485-1", "pump-7"]
            );
            assert!(!entry["MESSAGE"].contains("fg.code"), "{entry:?}");

            tracing::info!(count = 3, "told to stop");
            let entry = heard(&socket);
            assert_eq!(entry["MESSAGE"], "told to stop count=3");
            assert!(!entry.contains_key("FIELDGATE_CODE"), "{entry:?}");
        });
    }

    #[test]
    fn the_last_word_of_a_process_is_an_error_with_its_code() {
        let (_folder, socket, journal) = journal();
        let notice = events::gateway::part_ended("the store").to_string();
        assert!(journal.take_last(&Fatal::new(Exit::Broken, notice.clone())));
        let entry = heard(&socket);
        assert_eq!((entry["PRIORITY"].as_str(), &entry["MESSAGE"]), ("3", &notice));
        assert_eq!(entry["FIELDGATE_CODE"], events::gateway::PART_ENDED.id);
        drop(socket);
        assert!(!journal.take_last(&Fatal::new(Exit::Broken, notice)), "nobody listens");
    }

    #[test]
    fn only_the_file_that_the_journal_gave_is_the_journal() {
        let file = tempfile::tempfile().unwrap();
        let seen = file.metadata().unwrap();
        let (device, inode) = (seen.dev(), seen.ino());
        let named = |text: String| is_named(OsStr::new(&text), file.as_fd());
        assert!(named(format!("{device}:{inode}")));
        for other in [format!("{device}:{}", inode + 1), format!("{}:{inode}", device + 1)] {
            assert!(!named(other));
        }
        for noise in ["", ":", "a:b", "1"] {
            assert!(!named(noise.to_owned()), "{noise}");
        }
    }
}
