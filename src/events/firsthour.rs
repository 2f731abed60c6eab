//! What the commands of the first hour say: scan, read, doctor, setup, support. Codes FG-Hnn. Their
//! subject is the port, host or file at hand, because there may be no configuration yet.

use std::path::Path;

use super::{Code, Notice};

/// This room's codes.
pub const CODES: &[&Code] = &[&NOTHING, &NOISE, &ECHO, &VANISHED, &IN_USE, &NO_VALUE, &NO_TARGET];

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

/// Nobody answered.
#[must_use]
pub fn nothing(subject: &str, tried: &str, serial: bool, ids: &str) -> Notice {
    let notice = Notice::warning(&NOTHING, subject, format!("nobody answers: {tried}"));
    if serial {
        notice
            .seen("Not a single byte came back.")
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

/// Bytes came and no answer; `unasked` when they came before anything was sent.
#[must_use]
pub fn noise(subject: &str, where_: &str, bytes: usize, unasked: bool) -> Notice {
    let what = format!("{bytes} bytes came that are no answer ({where_})");
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
            .try_next("fieldgate scan modbus PORT --all")
    }
}

/// The adapter echoes.
#[must_use]
pub fn echo(subject: &str) -> Notice {
    Notice::warning(&ECHO, subject, "gives back what is sent")
        .seen("Answers were found behind the echo; the gateway would take it for damage.")
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
        notice.likely("a terminal program or modem service runs").try_next(format!("kill {pid}"))
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
