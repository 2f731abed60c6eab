//! What reloading and trying a configuration has to say. Codes FG-A20 and up.

use super::{Code, Notice};

/// A changed configuration is not taken.
pub static NOT_TAKEN: Code = Code {
    id: "FG-A20",
    title: "a changed configuration is not taken",
    about: "The files of the configuration were changed, or a reload was asked for, and what stands \
            there has faults, or cannot be put in force. The gateway goes on with the configuration \
            it had, and nothing was stopped. The notice names the first fault with file, line and \
            column; fieldgate check names all of them. It is over as soon as the files can be used, \
            or are what they were. Do not restart the daemon before that: it would not start.",
};

/// Only a restart can change it.
pub static NEEDS_RESTART: Code = Code {
    id: "FG-A21",
    title: "a change that needs a restart",
    about: "The gateway's name, the trust in its clock, the path of its buffer, trusted keys and the \
            socket are what everything else stands on; they are not exchanged under a running \
            gateway. As long as one of them differs, nothing of the changed configuration is taken, \
            so that what runs is always one configuration and not a mixture. Restart the daemon when \
            it suits: it commits what it has, and polls again after some seconds.",
};

/// A configuration is on trial.
pub static ON_TRIAL: Code = Code {
    id: "FG-A22",
    title: "a configuration is on trial",
    about: "Someone applied a configuration with --confirm. It is in force, and the files under \
            /etc/fieldgate are still those of the one before. Confirm it and it is installed; \
            without that the gateway goes back by itself when the time is up, and at once when the \
            daemon is started again. A configuration that cuts the uplink cannot be confirmed, so \
            that a remote gateway heals itself.",
};

/// A trial has ended without a confirmation.
pub static WENT_BACK: Code = Code {
    id: "FG-A23",
    title: "went back to the configuration before",
    about: "A configuration that was on trial was not confirmed in time, could not be put in force, \
            was taken back by someone, or the daemon was started again meanwhile. The gateway runs \
            with the configuration it had before. The one that was tried is kept in the history \
            under its number, so that it can be looked at and applied again: fieldgate history.",
};

/// An installation was cut short.
pub static UNFINISHED: Code = Code {
    id: "FG-A24",
    title: "an installation of a configuration was cut short",
    about: "The power failed, or the command was ended, while a configuration was being installed. \
            Its texts stand whole in one file beside the main file, and that is what is in force: \
            edits of the other files have no effect until the installation is finished. Any fieldgate \
            apply, confirm or rollback by a user who may write there finishes it first.",
};

/// What was asked cannot be done now.
pub static NOT_NOW: Code = Code {
    id: "FG-A25",
    title: "this cannot be done now",
    about: "The gateway was asked to try, confirm or take back a configuration, and its state does \
            not allow that: nothing is on trial, something is already on trial, the version is not \
            there, or the uplink has not proved yet that it works with what is on trial. Nothing was \
            changed. The notice says which of these it is, and what can be done instead.",
};

/// Versions cannot be kept.
pub static NO_HISTORY: Code = Code {
    id: "FG-A26",
    title: "versions of the configuration cannot be kept",
    about: "Each configuration that was in force is kept in a small file under the state folder, \
            beside the buffer, so that one can go back to it. The disk does not take that file. The \
            gateway works without it; rollback reaches no further than what was kept before.",
};

/// This room's codes.
pub const CODES: &[&Code] =
    &[&NOT_TAKEN, &NEEDS_RESTART, &ON_TRIAL, &WENT_BACK, &UNFINISHED, &NOT_NOW, &NO_HISTORY];

/// What all of them are about.
pub const SUBJECT: &str = "the configuration";

/// The files have faults; `first` names one with its place, and `hint` what would mend it. What the
/// daemon's user may not read is no fault to whoever looks as root, so its own hint comes first.
#[must_use]
pub fn faulty(first: &str, count: usize, hint: &str) -> Notice {
    let rest = if count > 1 { format!(" ({count} faults)") } else { String::new() };
    let what = format!("was changed and is not taken: {first}{rest}");
    let notice = Notice::error(&NOT_TAKEN, SUBJECT, what)
        .seen("The gateway goes on with the one it had; nothing was stopped.");
    let notice = if hint.is_empty() { notice } else { notice.try_next(hint) };
    notice.try_next("fieldgate check")
}

/// A source cannot be made from what was asked.
#[must_use]
pub fn not_made(why: &str) -> Notice {
    Notice::error(&NOT_TAKEN, SUBJECT, format!("was changed and is not taken: {why}"))
        .seen("The gateway goes on with the one it had; nothing was stopped.")
        .likely("names were changed many times since the start; a restart forgets the old ones")
        .try_next("systemctl restart fieldgate")
}

/// Loading ended without a result.
#[must_use]
pub fn not_loaded() -> Notice {
    Notice::error(&NOT_TAKEN, SUBJECT, "could not be loaded: the loading ended by itself")
        .seen("The gateway goes on with the one it had; nothing was stopped.")
        .likely("a fault in fieldgate itself")
        .likely("the board has no memory left")
        .try_next("fieldgate check")
}

/// `what` can only change with a restart.
#[must_use]
pub fn needs_restart(what: &str) -> Notice {
    Notice::error(&NEEDS_RESTART, SUBJECT, format!("changes what needs a restart: {what}"))
        .seen("Nothing of it is taken until then; the gateway goes on with the one it had.")
        .try_next("systemctl restart fieldgate")
}

/// The gateway is on its way down.
#[must_use]
pub fn stopping() -> Notice {
    Notice::warning(&NOT_NOW, SUBJECT, "cannot be changed: the gateway is stopping")
        .try_next("systemctl status fieldgate")
}

/// Version `number` is in force until it is confirmed, by the time that `within` says.
#[must_use]
pub fn on_trial(number: u64, by: &str, within: &str) -> Notice {
    let what = format!("is on trial: version {number}, applied by {by}, for {within}");
    Notice::warning(&ON_TRIAL, SUBJECT, what)
        .seen("The files on disk are those of the version before.")
        .try_next("fieldgate confirm")
        .try_next("fieldgate rollback")
}

/// A second trial, or a reload, while one runs.
#[must_use]
pub fn on_trial_already(number: u64) -> Notice {
    Notice::warning(&NOT_NOW, SUBJECT, format!("is on trial already: version {number}"))
        .seen("Files that are changed meanwhile are loaded when the trial is over.")
        .try_next("fieldgate confirm")
        .try_next("fieldgate rollback")
}

/// Nothing can be confirmed or taken back.
#[must_use]
pub fn nothing_on_trial() -> Notice {
    Notice::warning(&NOT_NOW, SUBJECT, "is not on trial: nothing is to be confirmed or taken back")
        .try_next("fieldgate history")
}

/// No batch got through since the change.
#[must_use]
pub fn uplink_unproven(uplink: &str, left: &str) -> Notice {
    let what = format!("cannot be confirmed: no batch of uplink {uplink} was acknowledged since");
    Notice::error(&NOT_NOW, SUBJECT, what)
        .seen(format!("It worked before the change. The gateway goes back by itself in {left}."))
        .likely("the change cut the way to the broker")
        .likely("no batch was due yet: batches are sealed every some seconds")
        .try_next("fieldgate status")
        .try_next("fieldgate confirm --anyway        (keeps it all the same)")
}

/// The files are not those of the trial.
#[must_use]
pub fn not_installed(number: u64) -> Notice {
    let what = format!("is not installed: the files on disk are not those of version {number}");
    Notice::warning(&NOT_NOW, SUBJECT, what)
        .likely("someone has edited the files during the trial")
        .try_next("sudo fieldgate confirm")
}

/// Files were edited since the trial of version `number` began; confirming would overwrite them.
#[must_use]
pub fn edited_meanwhile(number: u64) -> Notice {
    let what = "cannot be confirmed: its files were edited since the trial began";
    Notice::error(&NOT_NOW, SUBJECT, what)
        .seen("Installing what is on trial would take the edits away. Nothing was written.")
        .try_next("fieldgate rollback        (ends the trial and loads the edited files)")
        .try_next(format!("sudo fieldgate rollback {number}        (after that: what was tried)"))
}

/// The trial of version `number` ended while it was being installed.
#[must_use]
pub fn ended_meanwhile(number: u64) -> Notice {
    let what = format!("was not confirmed: the trial of version {number} ended meanwhile");
    Notice::error(&NOT_NOW, SUBJECT, what)
        .seen("The files are those of before.")
        .likely("its time was up, or somebody took it back, while the files were written")
        .try_next(format!("fieldgate rollback {number} --confirm 5m        (tries it again)"))
}

/// There is no such version.
#[must_use]
pub fn no_version(number: u64) -> Notice {
    Notice::warning(&NOT_NOW, SUBJECT, format!("has no version {number}"))
        .try_next("fieldgate history")
}

/// No version was in force before the present one.
#[must_use]
pub fn nothing_before() -> Notice {
    Notice::warning(&NOT_NOW, SUBJECT, "has no version before the one that is in force")
        .try_next("fieldgate history")
}

/// What came are no texts of a configuration.
#[must_use]
pub fn improper() -> Notice {
    let what = "cannot be made of these files: their names or their size are not those of one";
    Notice::warning(&NOT_NOW, SUBJECT, what)
        .try_next("fieldgate plan FOLDER        (a folder with fieldgate.toml and conf.d)")
}

/// Version `number` is not in force any more; `why` says why it ended.
#[must_use]
pub fn went_back(number: u64, why: &str) -> Notice {
    let what = format!("went back to the one before: version {number} {why}");
    Notice::error(&WENT_BACK, SUBJECT, what)
        .try_next("fieldgate history")
        .try_next(format!("fieldgate rollback {number} --confirm 5m        (tries it again)"))
}

/// An installation was cut short.
#[must_use]
pub fn unfinished() -> Notice {
    Notice::error(&UNFINISHED, SUBJECT, "is in force from the journal of a cut installation")
        .seen("Edits of its files have no effect until the installation is finished.")
        .likely("the power failed while it was installed")
        .try_next("sudo fieldgate apply")
}

/// The disk does not take a version.
#[must_use]
pub fn no_history(kind: std::io::ErrorKind) -> Notice {
    let why = match kind {
        std::io::ErrorKind::PermissionDenied => "this user may not write there",
        std::io::ErrorKind::ReadOnlyFilesystem => "the disk is read-only",
        std::io::ErrorKind::StorageFull => "the disk is full",
        _ => "the disk refuses",
    };
    Notice::warning(&NO_HISTORY, SUBJECT, format!("cannot be kept as a version: {why}"))
        .seen("It is in force all the same.")
        .try_next("fieldgate buffer status")
}

/// A file or folder of a candidate cannot be read.
#[must_use]
pub fn unreadable(named: &str, kind: std::io::ErrorKind) -> Notice {
    use std::io::ErrorKind;
    let why = match kind {
        ErrorKind::NotFound => "is not there, or lacks its fieldgate.toml",
        ErrorKind::PermissionDenied => "may not be read by this user",
        ErrorKind::InvalidInput => "is neither a folder nor a .toml file, and has no place in it",
        ErrorKind::InvalidData => "is no UTF-8 text",
        ErrorKind::FileTooLarge | ErrorKind::QuotaExceeded => "is too large, or too many files",
        _ => "cannot be read",
    };
    Notice::error(&NOT_TAKEN, SUBJECT, format!("cannot be made of this: {named} {why}"))
        .try_next("fieldgate plan FOLDER        (a folder with fieldgate.toml and conf.d)")
}

/// The configuration cannot be written where it stands.
#[must_use]
pub fn not_written(place: &str, kind: std::io::ErrorKind) -> Notice {
    use std::io::ErrorKind;
    let notice = |why: &str| {
        Notice::error(&NOT_TAKEN, SUBJECT, format!("cannot be written at {place}: {why}"))
            .seen("What stands there is the one or the other, whole.")
    };
    match kind {
        ErrorKind::PermissionDenied => notice("this user may not").try_next("the same with sudo"),
        ErrorKind::ReadOnlyFilesystem => notice("the disk is read-only")
            .likely("the disk was damaged and the system mounted it read-only")
            .try_next("mount | grep ' / '"),
        ErrorKind::StorageFull => notice("the disk is full").try_next("df -h"),
        _ => notice("the disk refuses").try_next("dmesg | tail"),
    }
}

/// An order that cannot be understood.
#[must_use]
pub fn malformed(order: &str) -> Notice {
    Notice::warning(
        &NOT_NOW,
        SUBJECT,
        format!("cannot be changed so: the order {order:?} is malformed"),
    )
    .likely("daemon and command line are of different versions")
    .try_next("systemctl restart fieldgate")
}

/// A rule could not be exchanged; it goes on as it was.
#[must_use]
pub fn rule_not_taken(rule: &str, why: &str) -> Notice {
    Notice::error(
        &NOT_TAKEN,
        format!("rule {rule}"),
        format!("was changed and is not taken: {why}"),
    )
    .seen("It goes on as it was; everything else of the configuration is in force.")
    .try_next("fieldgate rule list")
    .try_next("fieldgate apply        (tries it again)")
}
