//! What is said about rules that come to a gateway: signatures, versions, transfers, the rules
//! folder. Codes from FG-W60 on.

use std::io;
use std::path::Path;

use super::{Code, Notice};
use crate::batch::text::rfc3339;
use crate::reading::UnixMillis;

/// This room's codes.
pub const CODES: &[&Code] = &[
    &UNSIGNED,
    &NO_SIGNATURE,
    &WRONG_SIGNATURE,
    &NOT_FOR_US,
    &NOT_NOW,
    &OLDER,
    &NO_POST,
    &REFUSED,
    &TRANSFER,
    &BAD_WANT,
    &FOLDER,
    &LEDGER,
    &NOTHING_THERE,
    &SIGNING,
];

/// FG-W60.
pub static UNSIGNED: Code = Code {
    id: "FG-W60",
    title: "a rule is not signed",
    about: "This gateway has keys in [trust], so it runs only rules that one of them has signed, \
            whether they come as a file, over the socket or over MQTT. This one came without a \
            signature. What ran before goes on. Sign it with `fieldgate rule sign FILE --key KEY`, \
            or with minisign, and send FILE.minisig along.",
};

/// FG-W61.
pub static NO_SIGNATURE: Code = Code {
    id: "FG-W61",
    title: "a signature is none",
    about: "What came as a rule's signature is not what minisign writes: four lines, two comments \
            and two lines of base64, in the prehashed form that minisign makes since 0.6. It may \
            have been cut off or changed by an editor. Its trusted comment must follow the grammar \
            in docs/rules-push.md to the letter, because a word that is not understood may be a \
            restriction. What ran before goes on.",
};

/// FG-W62.
pub static WRONG_SIGNATURE: Code = Code {
    id: "FG-W62",
    title: "a signature is not a trusted key's for this file",
    about: "The signature was made for other bytes, for another comment, or by a key that is not in \
            [trust] or may not sign this rule. Either something was changed on the way, a file and a \
            signature were mixed up, or somebody tries. Nothing of the file was read beyond its \
            bytes. What ran before goes on.",
};

/// FG-W63.
pub static NOT_FOR_US: Code = Code {
    id: "FG-W63",
    title: "signed for something else",
    about: "The signature is good, and what its signer says does not fit: it is for another rule, \
            another version, other gateways or groups, or allows the rule less than its manifest \
            asks for. A signature for one group of gateways does nothing on the rest, on purpose. \
            What ran before goes on. Sign again for this target.",
};

/// FG-W64.
pub static NOT_NOW: Code = Code {
    id: "FG-W64",
    title: "a signature is not valid now",
    about: "The signer gave a time from which or until which the file may be taken in, and it is \
            another time now, or this board's clock is not set so that nobody can tell. Rules that \
            were taken in before go on running after that time: it bounds the taking in, not the \
            running. With a clock that is not set, push again when it is; a desired state over MQTT \
            is tried again by itself.",
};

/// FG-W65.
pub static OLDER: Code = Code {
    id: "FG-W65",
    title: "a rule's version goes back",
    about: "For every key and rule the gateway remembers the highest version it has taken in. A file \
            that somebody kept, signed in good faith a year ago, is refused, and so are other bytes \
            under a version that was taken before. What ran before goes on. To go back on purpose, \
            sign with --allow-downgrade, or use `fieldgate rule rollback`, which needs no signature \
            because the last good version was taken in once.",
};

/// FG-W66.
pub static NO_POST: Code = Code {
    id: "FG-W66",
    title: "no rule of that name is configured",
    about: "A rule's file says what it computes; the configuration says on which points, with which \
            parameters and limits: a [rule.NAME] table. A file that is pushed replaces the one of \
            such a table, by default the table of the rule's own name, or the only one that runs a \
            rule of that name. --to NAME names the table. Nothing was changed.",
};

/// FG-W67.
pub static REFUSED: Code = Code {
    id: "FG-W67",
    title: "a pushed rule is not taken in",
    about: "The signature is in order where one is asked for, and the file does not pass what every \
            rule must pass before it runs: it is a component of this gateway's contract with a \
            manifest, of the name and version that were signed, its parameters fit the table's \
            `with`, and the configuration's tests of that rule pass. What ran before goes on.",
};

/// FG-W68.
pub static TRANSFER: Code = Code {
    id: "FG-W68",
    title: "a rule's file did not come through",
    about: "Over MQTT a file comes in numbered chunks on topics of their own, or from an HTTPS \
            address. Each chunk is taken once, in any order, and the whole must have the size and the \
            SHA-256 digest that the signed desired state names. Chunks that are missing are asked for \
            again for a while; then the transfer ends and what ran before goes on. Publish the \
            desired state again to begin anew.",
};

/// FG-W69.
pub static BAD_WANT: Code = Code {
    id: "FG-W69",
    title: "a desired state is not understood",
    about: "What came on fg/1/GATEWAY/want is a minisign signature of four lines and, after it, the \
            JSON document that was signed; docs/rules-push.md shows one. This one has a good \
            signature and a content that does not follow that form, or it is older than one that \
            was taken before. Nothing was changed, and the answer stands on fg/1/GATEWAY/have.",
};

/// FG-W70.
pub static FOLDER: Code = Code {
    id: "FG-W70",
    title: "the rules folder cannot be used",
    about: "Beside the buffer stands the folder `rules`, where every version of a rule that was taken \
            in is kept, so that the last good one can come back. It cannot be written, or has no room \
            left beside the versions that run. Rules that run go on; new ones are refused until there \
            is room.",
};

/// FG-W71.
pub static LEDGER: Code = Code {
    id: "FG-W71",
    title: "the record of what runs was damaged",
    about: "ledger.json in the rules folder says which version of each rule is live, on trial and \
            last good, and how high each key has signed. It could not be read and was moved aside. \
            The files that the configuration names run; versions that were pushed must be pushed \
            again, and until they are, an older signed version would be taken. A card that fails is \
            the usual reason.",
};

/// FG-W72.
pub static NOTHING_THERE: Code = Code {
    id: "FG-W72",
    title: "there is no such version to change to",
    about: "`rule promote` makes the version on trial the live one, `rule rollback` ends a trial or \
            goes back to the last good version, `enable` and `disable` need a rule that is \
            configured. What was asked for does not exist here: no trial runs, no earlier version is \
            kept, or no rule has that name. `fieldgate rule list` shows what there is.",
};

/// FG-W73.
pub static SIGNING: Code = Code {
    id: "FG-W73",
    title: "a rule cannot be signed or sent from here",
    about: "`rule sign` and `rule push` work with a rule's file, a secret key that minisign made (minisign \
            -G, or -G -W for one without a password), its password, and for MQTT the gateway's broker. \
            One of them could not be read, opened or reached. Keep the secret key away from gateways: \
            they need the public one only.",
};

fn refused(code: &'static Code, subject: &str, what: impl Into<String>) -> Notice {
    Notice::error(code, subject, what).seen("It was not taken in; what ran before goes on.")
}

const SIGN: &str = "fieldgate rule sign FILE --key KEY";

/// No signature came along.
#[must_use]
pub fn unsigned(subject: &str) -> Notice {
    refused(&UNSIGNED, subject, "is not signed, and [trust] asks for signatures")
        .likely("FILE.minisig was not sent along, or does not stand beside the file")
        .try_next(SIGN)
}

/// The signature is none; `why` is a sentence without its full stop.
#[must_use]
pub fn no_signature(subject: &str, why: &str) -> Notice {
    refused(&NO_SIGNATURE, subject, format!("has a signature that is none: {why}"))
        .likely("it was cut off, or changed by an editor or a mail program")
        .try_next(SIGN)
}

/// The comment does not follow the grammar; `why` completes "its trusted comment".
#[must_use]
pub fn bad_comment(subject: &str, why: &str) -> Notice {
    let what = format!("has a good signature, but its trusted comment {why}");
    refused(&NO_SIGNATURE, subject, what)
        .likely("it was signed with minisign without -t 'fieldgate rule NAME VERSION'")
        .try_next(SIGN)
}

/// Bytes or comment are not what was signed.
#[must_use]
pub fn wrong_signature(subject: &str, key: &str) -> Notice {
    let what = format!("is not what key {key} signed: the file or the comment was changed");
    refused(&WRONG_SIGNATURE, subject, what)
        .likely("the signature belongs to another file or an earlier build")
        .likely("something was changed on the way")
        .try_next(SIGN)
}

/// Nobody knows the key.
#[must_use]
pub fn unknown_key(subject: &str, key: &str, known: &[&str]) -> Notice {
    let known = known.join(", ");
    refused(&WRONG_SIGNATURE, subject, format!("is signed by key {key}, which is not trusted here"))
        .seen(format!("Trusted here: {known}."))
        .likely("it was signed with another key")
        .likely("the key was renewed, and this gateway's [trust] was not")
        .try_next("add the public key to [trust] keys, or sign with a trusted one")
}

/// The key is trusted for other rules.
#[must_use]
pub fn key_may_not(subject: &str, key: &str, name: &str) -> Notice {
    let what = format!("is signed by key {key}, which may not sign {name}");
    refused(&WRONG_SIGNATURE, subject, what)
        .try_next("sign with a key that may, or widen rules= behind that key in [trust]")
}

/// The groups are others.
#[must_use]
pub fn other_group(subject: &str, theirs: &[String], ours: &[String]) -> Notice {
    let ours = if ours.is_empty() { "none".to_owned() } else { ours.join(", ") };
    let what = format!("is signed for the groups {}", theirs.join(", "));
    refused(&NOT_FOR_US, subject, what)
        .seen(format!("This gateway's groups: {ours}."))
        .try_next("sign with --groups of this gateway, or change groups under [gateway]")
}

/// The clock cannot tell whether the time has come.
#[must_use]
pub fn clock_cannot_tell(subject: &str) -> Notice {
    let what = "is signed for a time, and this board's clock is not set";
    refused(&NOT_NOW, subject, what)
        .likely("network time has not answered yet")
        .try_next("fieldgate explain FG-K01; push again when the clock is set")
}

/// The time has not come.
#[must_use]
pub fn not_yet(subject: &str, from: UnixMillis, now: UnixMillis) -> Notice {
    refused(&NOT_NOW, subject, format!("is signed for {} and later", rfc3339(from)))
        .seen(format!("It is {} here.", rfc3339(now)))
        .try_next("wait, or sign again with an earlier --not-before")
}

/// The time is over.
#[must_use]
pub fn expired(subject: &str, to: UnixMillis, now: UnixMillis) -> Notice {
    refused(&NOT_NOW, subject, format!("expired at {}", rfc3339(to)))
        .seen(format!("It is {} here.", rfc3339(now)))
        .try_next("sign again with a later --not-after")
}

/// The version goes back; `had` was taken before.
#[must_use]
pub fn older(subject: &str, version: &str, had: &str) -> Notice {
    refused(&OLDER, subject, format!("is version {version}, and {had} was taken in before"))
        .likely("an older file was sent by mistake")
        .likely("somebody sends what was signed long ago")
        .try_next("fieldgate rule rollback NAME, or sign with --allow-downgrade")
}

/// Other bytes under a version that was taken before.
#[must_use]
pub fn same_version(subject: &str, version: &str) -> Notice {
    let what = format!("is another file under version {version}, which was taken in before");
    refused(&OLDER, subject, what)
        .likely("it was built anew without a new version in rule.toml")
        .try_next("give it a higher version, build, sign and push again")
}

/// What was signed is not what the file says of itself.
#[must_use]
pub fn other_rule(subject: &str, signed: &str, found: &str) -> Notice {
    refused(&NOT_FOR_US, subject, format!("is signed as {signed} and is {found}"))
        .try_next("fieldgate rule sign FILE --key KEY takes name and version from the file")
}

/// The manifest asks for more than was signed.
#[must_use]
pub fn asks_for_more(subject: &str, more: &[String]) -> Notice {
    let what = format!("asks for {}, which its signature does not allow", more.join(", "));
    refused(&NOT_FOR_US, subject, what)
        .try_next("sign with these among --capabilities, if it is to have them")
}

/// A desired state for another gateway, or a rule where a state belongs.
#[must_use]
pub fn other_gateway(subject: &str, signed: &str, here: &str) -> Notice {
    refused(&NOT_FOR_US, subject, format!("is signed for {signed}; this is {here}"))
        .try_next("sign for this gateway, or for *")
}

/// No table of that name.
#[must_use]
pub fn no_post(subject: &str, name: &str, known: &[String]) -> Notice {
    let known = match known.len() {
        0 => "No [rule.NAME] is configured.".to_owned(),
        _ => format!("Configured: {}.", known.join(", ")),
    };
    refused(&NO_POST, subject, format!("has no place: there is no [rule.{name}]"))
        .seen(known)
        .try_next("fieldgate rule push FILE --to NAME, or add the table to the configuration")
}

/// It could be meant for several tables.
#[must_use]
pub fn several_posts(subject: &str, name: &str, posts: &[String]) -> Notice {
    let what = format!("could replace several: {} run {name}", posts.join(" and "));
    refused(&NO_POST, subject, what).try_next("fieldgate rule push FILE --to NAME")
}

/// The file does not pass; `why` is a sentence.
#[must_use]
pub fn not_taken(subject: &str, why: &str) -> Notice {
    refused(&REFUSED, subject, format!("is not taken in: {why}"))
        .try_next("fieldgate rule check FILE; fieldgate check --tests")
}

/// The file is too large.
#[must_use]
pub fn too_large(subject: &str, bytes: usize, bytes_max: usize) -> Notice {
    refused(&REFUSED, subject, format!("has {bytes} bytes; a rule has at most {bytes_max}"))
        .try_next("build it for release, with opt-level = \"s\" and without symbols")
}

/// A transfer ended without the file; `why` completes "did not come through:".
#[must_use]
pub fn not_transferred(subject: &str, why: &str) -> Notice {
    refused(&TRANSFER, subject, format!("did not come through: {why}"))
        .try_next("fieldgate rule push FILE --mqtt URL --gateway NAME, once more")
}

/// A desired state does not follow its form; `why` completes "is not understood:".
#[must_use]
pub fn bad_want(subject: &str, why: &str) -> Notice {
    refused(&BAD_WANT, subject, format!("is not understood: {why}"))
        .try_next("docs/rules-push.md shows one")
}

/// A desired state is older than one that was taken.
#[must_use]
pub fn older_want(subject: &str, serial: u64, had: u64) -> Notice {
    refused(&BAD_WANT, subject, format!("has serial number {serial}, and {had} was taken before"))
        .likely("an old one was published again")
        .try_next("publish it with a higher serial number")
}

/// The folder refuses.
#[must_use]
pub fn folder_refuses(path: &Path, kind: io::ErrorKind) -> Notice {
    let why = match kind {
        io::ErrorKind::PermissionDenied => "the daemon may not write there",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file stands where a folder belongs"
        }
        _ => "the disk refuses",
    };
    Notice::error(&FOLDER, folder(path), format!("cannot be used: {why}"))
        .seen("Rules that run go on; new ones are not taken in.")
        .try_next("df; ls -ld of that folder")
}

/// The folder is full of what is needed.
#[must_use]
pub fn folder_full(path: &Path, bytes_max: u64) -> Notice {
    let what = format!("has no room: its {} MiB are what runs", bytes_max >> 20);
    Notice::error(&FOLDER, folder(path), what)
        .seen("Rules that run go on; new ones are not taken in.")
        .try_next("fieldgate rule list; remove rules that are not needed from the configuration")
}

/// The ledger was damaged.
#[must_use]
pub fn ledger_damaged(aside: &Path) -> Notice {
    Notice::error(&LEDGER, "the record of what runs", "was damaged and is begun anew")
        .seen(format!("It was moved to {}.", aside.display()))
        .seen("The configured files run; what was pushed must be pushed again.")
        .likely("the card or disk is failing")
        .try_next("dmesg | tail; push the rules again")
}

/// A kept version is not what it was.
#[must_use]
pub fn version_damaged(subject: &str, version: &str) -> Notice {
    let what = format!("cannot go on: the file of its version {version} is damaged or gone");
    Notice::error(&LEDGER, subject, what)
        .seen("The last good version is taken, or the configured file.")
        .likely("the card or disk is failing")
        .try_next("dmesg | tail; push the rule again")
}

/// What was asked for is not there; `what` completes the subject.
#[must_use]
pub fn nothing_there(subject: &str, what: &str) -> Notice {
    Notice::error(&NOTHING_THERE, subject, what).try_next("fieldgate rule list")
}

fn folder(path: &Path) -> String {
    format!("rules folder {}", path.display())
}

/// A key cannot be used; `what` completes its path.
#[must_use]
pub fn bad_key(path: &Path, what: &str) -> Notice {
    Notice::error(&SIGNING, format!("key {}", path.display()), what)
        .try_next("minisign -G -s KEY -p KEY.pub makes a pair")
}

/// A file that a command was given cannot be used; `what` completes its path.
#[must_use]
pub fn file_refuses(path: &Path, what: &str, kind: io::ErrorKind) -> Notice {
    let why = match kind {
        io::ErrorKind::NotFound => "there is no such file or folder",
        io::ErrorKind::PermissionDenied => "this user may not",
        io::ErrorKind::StorageFull => "the disk is full",
        io::ErrorKind::IsADirectory => "it is a folder",
        _ => "the system refuses",
    };
    Notice::error(&SIGNING, path.display().to_string(), format!("{what}: {why}"))
        .try_next("ls -l of that file")
}

/// The broker cannot be reached; `why` is a sentence.
#[must_use]
pub fn no_broker(url: &str, why: &str) -> Notice {
    Notice::error(&SIGNING, format!("broker {url}"), format!("cannot be reached: {why}"))
        .try_next("mosquitto_sub with the same address and login")
}

/// The gateway did not answer in time.
#[must_use]
pub fn no_have(gateway: &str, seconds: u64, last: &str) -> Notice {
    let what = format!("has not applied it within {seconds} s");
    let notice = Notice::error(&SIGNING, format!("gateway {gateway}"), what);
    let notice = if last.is_empty() {
        notice
            .seen("It said nothing on its have topic.")
            .likely("it is not connected; the desired state waits at the broker and is taken later")
            .likely("it has no keys in [trust], so it takes nothing over MQTT")
    } else {
        notice.seen(format!("It said last: {last}"))
    };
    notice.try_next("fieldgate status on the gateway; then push once more")
}

/// There is no rules folder, so nothing can be taken in.
#[must_use]
pub fn no_door() -> Notice {
    Notice::error(&FOLDER, "rules", "cannot be changed: the rules folder could not be opened")
        .seen("What was wrong with it stands in the log since the start.")
        .try_next("fieldgate status; df; restart when it is mended")
}
