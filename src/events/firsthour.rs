//! What the commands of the first hour say: scan, read, doctor, setup, support. Codes FG-Hnn. Their
//! subject is the port, host or file at hand, because there may be no configuration yet.

use std::io;
use std::path::Path;

use bytesize::ByteSize;

use super::{Code, Notice, counted};

/// This room's codes.
pub const CODES: &[&Code] = &[
    &NOTHING,
    &NOISE,
    &ECHO,
    &VANISHED,
    &IN_USE,
    &NO_VALUE,
    &NO_TARGET,
    &CLOCK_BEHIND,
    &DISK,
    &NO_RIGHTS,
    &SOME_SILENT,
    &NO_ACKNOWLEDGEMENT,
    &NOT_WRITTEN,
    &NOT_MIGRATED,
    &SETUP_FAULTY,
];

/// FG-H01.
pub static NOTHING: Code = Code {
    id: "FG-H01",
    title: "nobody answers a scan",
    about: "A scan asked every id that it was told to, at every speed and character layout, and not \
            one intact answer came. On a serial line that is wiring (A and B swapped, no common \
            ground, the wrong pair), a device without power or with Modbus switched off in its menu, \
            or an id outside of the scanned range; on a network the wrong port or a device that \
            allows other addresses only. A scan changes nothing on any device.",
};

/// FG-H02.
pub static NOISE: Code = Code {
    id: "FG-H02",
    title: "bytes on the line are no answers",
    about: "While a line was scanned bytes came that form no intact Modbus frame. When they come in \
            answer to questions, a device is there and talks at another speed or parity than was \
            tried at that moment, two devices have the same id, or the line is not terminated. When \
            they come without being asked for, another master or another protocol is on the line. \
            Noise is never taken for an answer: a checksum must fit.",
};

/// FG-H03.
pub static ECHO: Code = Code {
    id: "FG-H03",
    title: "the adapter echoes what is sent",
    about: "What was sent came back byte for byte: the RS-485 adapter hears itself, because its \
            receiver stays on while it sends. A scan takes the echo off and goes on, but the gateway \
            counts an echo as a damaged answer. Most adapters have a switch or solder bridge for \
            echo or for automatic direction control; two-wire mode needs receive disabled while \
            sending.",
};

/// FG-H04.
pub static VANISHED: Code = Code {
    id: "FG-H04",
    title: "the port went away in the middle",
    about: "The serial port or connection was there at the beginning and was gone before the end: an \
            adapter was pulled or reset by its hub, or the host closed the connection. What was \
            found until then is shown and can be used; nothing half-done is left behind. Plug it in \
            again, look at the power of the hub, and begin anew.",
};

/// FG-H05.
pub static IN_USE: Code = Code {
    id: "FG-H05",
    title: "another program has the port",
    about: "A serial line carries one conversation at a time, so a port that a program has open \
            cannot be scanned or read beside it. When that program is this gateway's own daemon, \
            stop it for the moment; what it would have read meanwhile is missing, what it has kept \
            stays. Terminal programs and modem services are the other usual holders.",
};

/// FG-H06.
pub static NO_VALUE: Code = Code {
    id: "FG-H06",
    title: "a read brought no value",
    about: "One read was tried by hand, and the device did not answer, answered that it will not \
            give these registers (an exception of Modbus Application Protocol section 7), or gave an \
            answer that was damaged. The sentence says which. An illegal address most often means \
            that the manual counts from 1 where the protocol counts from 0, or that the value stands \
            in the other table (input in place of holding).",
};

/// FG-H07.
pub static NO_TARGET: Code = Code {
    id: "FG-H07",
    title: "no such port, host or point",
    about: "What was named on the command line is neither a device node, nor a port or point of the \
            configuration, nor a host that can be looked up. Ports are named by their path \
            (/dev/serial/by-id/..), by the last part of it, or as [port.NAME] in the configuration; \
            points as DEVICE/POINT; hosts as HOST or HOST:PORT.",
};

/// FG-H08.
pub static CLOCK_BEHIND: Code = Code {
    id: "FG-H08",
    title: "the clock is behind what was written here",
    about: "A file on this board was written later than the clock shows now, so the clock has gone \
            back: the board has no battery-backed clock and woke up at the time of its last shutdown \
            or earlier, or somebody set it wrong. Readings are kept with the time since boot and get \
            their dates when it is set. TLS finds good certificates not valid yet until then; uplinks \
            dial again every half minute and recover by themselves.",
};

/// FG-H09.
pub static DISK: Code = Code {
    id: "FG-H09",
    title: "the disk under the buffer is in trouble",
    about: "The file system that the buffer lies on is missing, read-only, full, or refuses a write. \
            The gateway keeps what it reads in memory, bounded, and tries again until the disk takes \
            it; when memory is used up the oldest readings are dropped and counted. A file system \
            that turned read-only by itself has met an error: look at the kernel's log, and expect \
            the card to need replacing.",
};

/// FG-H10.
pub static NO_RIGHTS: Code = Code {
    id: "FG-H10",
    title: "the daemon may not use the port",
    about: "You may use this port and the gateway may not: its user is not a member of the group that \
            the device node belongs to. The package puts the user fieldgate into dialout; a port with \
            another group needs that one, or a udev rule that gives the node to dialout. The service \
            has to be restarted to get a new group.",
};

/// FG-H11.
pub static SOME_SILENT: Code = Code {
    id: "FG-H11",
    title: "configured devices do not answer",
    about: "Each configured device of a bus was asked for its first point. When all are silent the \
            fault is on the line or in its settings; when some answer, wiring and speed are right and \
            the fault is with the others: their power, their id, their plug. Bytes that are no answer \
            mean another speed or parity, two devices of one id, or noise.",
};

/// FG-H12.
pub static NO_ACKNOWLEDGEMENT: Code = Code {
    id: "FG-H12",
    title: "the test publish was not acknowledged",
    about: "The login was accepted and a small message to fg/1/GATEWAY/test (which no receiver reads) \
            was not acknowledged. Batches would fare no better: the gateway would keep them and try \
            again. Brokers that forbid a topic close the connection, or stay silent; with MQTT 5 they \
            say so. Allow this user to publish to fg/1/GATEWAY/#.",
};

/// FG-H13.
pub static NOT_WRITTEN: Code = Code {
    id: "FG-H13",
    title: "a file cannot be written",
    about: "setup, config migrate or support could not write a file. Files are written beside their \
            place and moved there whole, so nothing is half-written: each is the old one or the new \
            one. The configuration belongs to root; run the command with sudo.",
};

/// FG-H14.
pub static NOT_MIGRATED: Code = Code {
    id: "FG-H14",
    title: "the configuration is not migrated or edited",
    about: "A file of the configuration is of a newer format than this program knows, is no TOML, or \
            is laid out in a way in which a change by program could hit the wrong place. Nothing was \
            changed. A newer format needs the program it was written for, or the backup that \
            migration left beside it; everything else is a matter of an editor and fieldgate check.",
};

/// FG-H15.
pub static SETUP_FAULTY: Code = Code {
    id: "FG-H15",
    title: "setup would leave a configuration that cannot be used",
    about: "What setup was told, together with what stands in the configuration already, cannot be \
            used; the faults are listed above this message. Nothing was written. Often there is no \
            device yet, since a gateway needs one at least, or an older file of conf.d is broken: one \
            broken file keeps all of them from being used, because what it would have defined is not \
            known.",
};

/// Nobody answered.
#[must_use]
pub fn nothing(subject: &str, tried: &str, (serial, echo): (bool, bool), ids: &str) -> Notice {
    let notice = Notice::warning(&NOTHING, subject, format!("has nobody who answers: {tried}"));
    if serial {
        let came =
            if echo { "Nothing but the echo came back." } else { "Not a single byte came back." };
        notice
            .seen(came)
            .likely("A and B are swapped, or the line is not connected")
            .likely("the device is off, or Modbus is disabled in its menu")
            .likely(format!("its id is not among {ids}"))
            .try_next("swap A and B and scan again; then --ids 1-247")
    } else {
        notice
            .likely(format!("its unit id is not among {ids}"))
            .likely("something else than Modbus listens on that port")
            .likely("the device answers certain addresses only")
            .try_next("scan again with --ids 0-255")
    }
}

/// Adds to what was not found at a host that the gateway has a connection there, too.
#[must_use]
pub fn polled(notice: Notice) -> Notice {
    notice
        .seen("The gateway polls this host at the moment; many devices take one connection only.")
        .try_next("sudo systemctl stop fieldgate; then again; then sudo systemctl start fieldgate")
}

/// Bytes came and no answer; `unasked` when they came before anything was sent.
#[must_use]
pub fn noise(subject: &str, where_: &str, bytes: usize, unasked: bool) -> Notice {
    let what = format!("carries {} that are no answer ({where_})", counted(bytes, "byte"));
    let notice = Notice::warning(&NOISE, subject, what);
    if unasked {
        notice
            .seen("They came before anything was asked.")
            .likely("another master polls on this line")
            .likely("a device on it talks by itself, in another protocol")
            .try_next("disconnect the other master, then scan again")
    } else {
        notice
            .seen("They came in answer to questions, so somebody is there.")
            .likely("a device talks at another speed or parity than its answer was listened for")
            .likely("two devices have the same id")
            .likely("the line lacks its termination of 120 ohms")
            .try_next(format!(
                "fieldgate scan modbus {} --all",
                subject.strip_prefix("port ").unwrap_or(subject)
            ))
    }
}

/// A host sends bytes that are no Modbus.
#[must_use]
pub fn foreign(subject: &str, bytes: usize) -> Notice {
    let what = format!("sends {} that are no Modbus", counted(bytes, "byte"));
    Notice::warning(&NOISE, subject, what)
        .likely("something else than Modbus listens on that port")
        .likely("behind the converter a device talks at another speed or parity than is set there")
        .try_next("look up the port of Modbus in the device's menu; it is usually 502")
}

/// The adapter echoes; `answered` when somebody was heard besides.
#[must_use]
pub fn echo(subject: &str, answered: bool) -> Notice {
    let seen = match answered {
        true => "Answers were found behind the echo; the gateway would take it for damage.",
        false => "The gateway would take the echo for a damaged answer.",
    };
    Notice::warning(&ECHO, subject, "gives back what is sent")
        .seen(seen)
        .likely("the adapter is in four-wire mode, or its echo switch is on")
        .try_next("switch the adapter's echo off")
}

/// Port or connection went away.
#[must_use]
pub fn vanished(subject: &str, serial: bool) -> Notice {
    let notice = Notice::error(&VANISHED, subject, "went away in the middle");
    if serial {
        notice
            .likely("the adapter was pulled, or its hub lost power")
            .likely("noise on the line has reset it")
            .try_next("fieldgate ports")
    } else {
        notice
            .likely("the device allows one connection, and another program made it")
            .try_next("try again; close the other program's connection")
    }
}

/// Somebody has it; `daemon` when it is fieldgate itself.
#[must_use]
pub fn in_use(subject: &str, path: &Path, command: &str, pid: u32, daemon: bool) -> Notice {
    let what = format!("is in use: {command} (process {pid}) has {} open", path.display());
    let notice = Notice::error(&IN_USE, subject, what);
    if daemon {
        notice.seen("That is the gateway itself, which polls this line.").try_next(
            "sudo systemctl stop fieldgate; then again; then sudo systemctl start fieldgate",
        )
    } else {
        let next = format!("ps -f -p {pid}        (what it is; end it, and do this again)");
        notice.likely("a terminal program or modem service runs").try_next(next)
    }
}

/// A read by hand brought nothing; `why` completes "holding 107 of id 1".
#[must_use]
pub fn no_value(subject: &str, what: &str, why: &str, likely: &[&str], next: &str) -> Notice {
    let mut notice = Notice::warning(&NO_VALUE, subject, format!("gives no {what}: {why}"));
    for cause in likely {
        notice = notice.likely(*cause);
    }
    notice.try_next(next)
}

/// There is no such thing.
#[must_use]
pub fn no_target(named: &str, why: &str, next: &str) -> Notice {
    Notice::error(&NO_TARGET, format!("\"{}\"", named.escape_debug()), why).try_next(next)
}

/// The clock shows an earlier time than a file.
#[must_use]
pub fn clock_behind(shown: &str, file: &Path, written: &str) -> Notice {
    Notice::error(&CLOCK_BEHIND, "clock", format!("shows {shown}, which has passed"))
        .seen(format!("{} was written at {written}.", file.display()))
        .seen("TLS finds certificates not valid yet until it is set; uplinks then recover by themselves.")
        .likely("network time has not answered since the start, and there is no battery")
        .likely("somebody set it wrong")
        .try_next("timedatectl; sudo timedatectl set-ntp true")
}

/// The folder of the buffer is not there.
#[must_use]
pub fn no_folder(folder: &Path) -> Notice {
    Notice::error(&DISK, format!("disk of {}", folder.display()), "does not exist")
        .likely("the package is not installed, or path under [buffer] names another place")
        .likely("the disk that belongs there is not mounted")
        .try_next("fieldgate config show --origin; mount")
}

/// The file system is read-only.
#[must_use]
pub fn disk_read_only(place: &Path, source: &str) -> Notice {
    Notice::error(&DISK, format!("disk {source}"), "is mounted read-only")
        .likely("the kernel has met errors on it and turned it read-only")
        .likely(
            "the image of this board is meant to be read-only: the buffer needs a disk of its own",
        )
        .try_next(format!("dmesg | grep -i error; sudo mount -o remount,rw {}", place.display()))
}

/// A write was refused.
#[must_use]
pub fn disk_refuses(folder: &Path, kind: io::ErrorKind) -> Notice {
    let why = match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "it is full",
        io::ErrorKind::ReadOnlyFilesystem => "it is read-only",
        _ => "the card or disk is failing",
    };
    Notice::error(&DISK, format!("disk of {}", folder.display()), format!("takes no write: {why}"))
        .likely(why)
        .try_next("df -h; dmesg | tail")
}

/// There is too little room.
#[must_use]
pub fn disk_full(folder: &Path, seen: &str, free_min: u64) -> Notice {
    let subject = format!("disk of {}", folder.display());
    Notice::error(&DISK, subject, format!("is too full: {seen}"))
        .seen(format!(
            "Below {} free the buffer stops growing and new batches take the place of the oldest.",
            ByteSize(free_min)
        ))
        .likely("logs or other programs fill it")
        .likely("max under [buffer] is more than this disk has")
        .try_next("sudo du -xh --max-depth=2 / | sort -h | tail; sudo journalctl --vacuum-size=50M")
}

/// The daemon's user is not in the port's group.
#[must_use]
pub fn daemon_may_not(subject: &str, group: &str) -> Notice {
    Notice::warning(
        &NO_RIGHTS,
        subject,
        format!("is not for the gateway: its user is not in {group}"),
    )
    .try_next(format!(
        "sudo usermod --append --groups {group} fieldgate; sudo systemctl restart fieldgate"
    ))
}

/// Some devices of a bus do not answer; `counts` are how many do, who is silent, who makes noise.
#[must_use]
pub fn bus_verdict(
    subject: &str,
    target: &str,
    (answered, silent, noisy): (usize, &[u8], &[u8]),
    serial: bool,
) -> Notice {
    let list = |ids: &[u8]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let count = silent.len() + noisy.len();
    let what = format!("{count} of {} devices do not answer", count + answered);
    let mut notice = Notice::warning(&SOME_SILENT, subject, what);
    if answered > 0 {
        notice = notice.seen("Others answer normally, so wiring, speed and parity are right.");
    } else if noisy.is_empty() {
        notice = notice.seen("Not a single byte came back from any of them.");
    }
    let first = silent.first().or(noisy.first()).copied().unwrap_or(1);
    if !noisy.is_empty() {
        notice = notice
            .seen(format!("Bytes that are no answer came from {}.", list(noisy)))
            .likely("speed, parity or stop bits differ")
            .likely("two devices have this id");
    }
    if answered > 0 && !silent.is_empty() {
        notice = notice
            .likely(format!("device {first} is off or has another id"))
            .likely("its plug is loose")
            .likely("Modbus is disabled in its menu");
    } else if !silent.is_empty() && serial {
        notice = notice
            .likely("A and B are swapped, or the line is not connected")
            .likely("the speed or parity is not the devices'")
            .likely("the devices are off");
    } else if !silent.is_empty() {
        notice = notice
            .likely("the unit id is another one")
            .likely("the device behind the converter is off");
    }
    notice.try_next(format!("fieldgate scan modbus {target}"))
}

/// A publish was not acknowledged.
#[must_use]
pub fn not_acknowledged(subject: &str, topic: &str, why: &str) -> Notice {
    Notice::error(&NO_ACKNOWLEDGEMENT, subject, format!("gets no acknowledgement: {why}"))
        .seen(format!("Published to {topic} with QoS 1."))
        .likely("this user may not publish to that topic")
        .likely("the broker is overloaded, or its disk is full")
        .try_next("allow this user to publish to fg/1/GATEWAY/#, then fieldgate doctor uplink")
}

/// A file cannot be written.
#[must_use]
pub fn not_written(path: &Path, kind: io::ErrorKind) -> Notice {
    let (why, next) = match kind {
        io::ErrorKind::PermissionDenied => ("this user may not", "the same with sudo"),
        io::ErrorKind::NotFound => ("its folder does not exist", "mkdir -p the folder, then again"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ("the disk is full", "df -h"),
        io::ErrorKind::ReadOnlyFilesystem => ("the file system is read-only", "mount"),
        _ => ("the system refuses", "dmesg | tail"),
    };
    let subject = path.display().to_string();
    Notice::error(&NOT_WRITTEN, subject, format!("cannot be written: {why}"))
        .seen("What stood there before is untouched.")
        .try_next(next)
}

/// A file cannot be brought to this version; `why` completes "the file".
#[must_use]
pub fn not_migrated(file: &Path, why: &str) -> Notice {
    Notice::error(&NOT_MIGRATED, file.display().to_string(), why)
        .seen("No file was changed.")
        .try_next("fieldgate check, and mend what it names first")
}

/// A file is of a later version.
#[must_use]
pub fn newer_format(file: &Path, version: &str, known: u32) -> Notice {
    let subject = file.display().to_string();
    Notice::error(&NOT_MIGRATED, subject, format!("has version {version} of the format"))
        .seen(format!("This fieldgate reads version {known}; no file was changed."))
        .likely("a later fieldgate was installed here before and has migrated it")
        .try_next("install the later version again, or put back FILE.bak beside it")
}

/// A file cannot be edited by program; `why` completes "the file".
#[must_use]
pub fn not_edited(file: &Path, table: &str, key: &str, value: &str, why: &str) -> Notice {
    Notice::error(&NOT_MIGRATED, file.display().to_string(), format!("is not changed: it {why}"))
        .try_next(format!("write {key} = {value} into [{table}] by hand, then fieldgate setup"))
}

/// A file of the configuration is broken.
#[must_use]
pub fn broken_file(file: &Path) -> Notice {
    Notice::error(
        &SETUP_FAULTY,
        file.display().to_string(),
        "is no TOML and keeps all others from being used",
    )
    .try_next("fieldgate check; mend it, or move it out of conf.d")
}

/// What setup would write cannot be used.
#[must_use]
pub fn setup_would_be_faulty(main: &Path, faults: usize) -> Notice {
    let many = counted(faults, "fault");
    Notice::error(
        &SETUP_FAULTY,
        main.display().to_string(),
        format!("would have {many}; nothing was written"),
    )
    .likely("no device was found or taken yet: a gateway needs one")
    .likely("a file that stood there before is broken")
    .try_next("mend what is named above, then fieldgate setup again")
}
