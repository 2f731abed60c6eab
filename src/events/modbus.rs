//! What the Modbus buses say. Codes FG-Mnn. A bus is called `bus rs485-1`, a device on it
//! `bus rs485-1: device 7 (pump-7)`.

use std::io;
use std::time::Duration;

use super::{Code, Notice, rounded};

/// The serial port cannot be opened or has vanished.
pub static PORT_GONE: Code = Code {
    id: "FG-M01",
    title: "serial port of a bus is gone",
    about: "The serial port of a Modbus bus cannot be opened, or it vanished while in use. The \
            gateway tries again by the configured path, every 5 seconds at the latest, and resumes \
            by itself; until then every point of the bus reports that there is no data. Check the \
            adapter's plug and the path; a path under /dev/serial/by-id survives replugging.",
};

/// The TCP connection cannot be made or was lost.
pub static UNREACHABLE: Code = Code {
    id: "FG-M02",
    title: "Modbus connection cannot be made",
    about: "A TCP connection to a Modbus device or converter cannot be made. The gateway tries \
            again, every 5 seconds at the latest, and resumes by itself; until then every point \
            behind the connection reports that there is no data. Check the address, the port (502 \
            unless the device says otherwise) and that the device allows one more connection.",
};

/// A device does not answer.
pub static SILENT: Code = Code {
    id: "FG-M03",
    title: "device does not answer",
    about: "A Modbus device let several polls pass without an answer. Its points report that there \
            is no data, and so that it does not slow its bus, the gateway asks it only now and then, \
            every 30 seconds at the latest, until it answers. Whether others on the bus answer tells \
            a fault of the device from one of the line.",
};

/// A device answers with exceptions.
pub static EXCEPTION: Code = Code {
    id: "FG-M04",
    title: "device answers with an exception",
    about: "A Modbus device received the request and said that it will not answer it (an exception \
            code, Modbus Application Protocol section 7). The points concerned report a device \
            exception instead of a value; the gateway goes on asking at every poll. What helps \
            depends on the code, which the notice gives in words.",
};

/// A device does not have what is configured.
pub static REFUSED: Code = Code {
    id: "FG-M05",
    title: "device does not have these registers",
    about: "A Modbus device says that single registers which the configuration asks for do not exist \
            (illegal address, value or function). Their points report a configuration fault and are \
            asked for again every 10 minutes; all others go on. Addresses off by one and the wrong \
            table (holding for input) are the usual reasons.",
};

/// Damaged frames.
pub static GARBAGE: Code = Code {
    id: "FG-M06",
    title: "damaged answers on a bus",
    about: "Answers on a Modbus bus fail their checksum, are cut short or are noise. No value is \
            taken from them: the points report a malformed answer, the bus is left alone until it is \
            silent, and polling goes on. Usual reasons are line settings, termination, a second \
            master on the line, or two devices with the same id.",
};

/// Intact answers to something else.
pub static WRONG: Code = Code {
    id: "FG-M07",
    title: "device answers something else",
    about: "An intact answer came that does not belong to the question: from another unit, for \
            another function, with another count or another transaction. No value is taken from it: \
            the points report a malformed answer, and the bus is drained or the connection made anew \
            before the next question. A second master or answers later than the timeout cause this.",
};

/// More to read than the bus can carry.
pub static BEHIND: Code = Code {
    id: "FG-M08",
    title: "bus cannot keep up",
    about: "More is to be read from a Modbus bus than fits in the configured periods. Cycles that are \
            due while earlier ones still run are skipped and counted, never made up in a burst, so \
            the readings that come are fresh but fewer. Longer periods, a higher line speed, or \
            points at adjacent addresses help.",
};

/// This room's codes.
pub const CODES: &[&Code] =
    &[&PORT_GONE, &UNREACHABLE, &SILENT, &EXCEPTION, &REFUSED, &GARBAGE, &WRONG, &BEHIND];

/// A serial port that cannot be opened.
#[must_use]
pub fn port_not_opened(bus: &str, path: &str, error: &io::Error) -> Notice {
    let (what, likely) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("cannot open {path}: there is no such port"),
            ["the adapter is unplugged", "the path in the configuration is not this adapter's"],
        ),
        io::ErrorKind::PermissionDenied => (
            format!("may not open {path}"),
            [
                "the user of the gateway is not in the port's group (dialout)",
                "its driver was loaded after the service had started: sudo systemctl restart fieldgate",
            ],
        ),
        io::ErrorKind::ResourceBusy | io::ErrorKind::WouldBlock => (
            format!("cannot open {path}: another program uses it"),
            ["another program polls the same line", "a terminal program was left open"],
        ),
        _ => (
            format!("cannot open {path}: the port does not work"),
            [
                "the adapter is being plugged in or has failed",
                "it does not support the line settings",
            ],
        ),
    };
    Notice::error(&PORT_GONE, bus, what)
        .likely(likely[0])
        .likely(likely[1])
        .try_next("fieldgate ports")
}

/// A serial port that vanished while it was in use.
#[must_use]
pub fn port_vanished(bus: &str, path: &str) -> Notice {
    Notice::error(&PORT_GONE, bus, format!("lost {path} while it was in use"))
        .likely("the adapter was unplugged")
        .likely("the adapter was reset by a short supply of power")
        .try_next("fieldgate ports")
}

/// A connection that cannot be made.
#[must_use]
pub fn not_connected(bus: &str, address: &str, error: &io::Error) -> Notice {
    let (bracketed, port) = address.rsplit_once(':').unwrap_or((address, "502"));
    let host = bracketed.trim_start_matches('[').trim_end_matches(']');
    let next = match error.kind() {
        // Somebody is there: who answers at the usual port?
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset if port != "502" => {
            format!("fieldgate scan modbus {bracketed}:502")
        }
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
            format!("fieldgate scan modbus {address}        (after a look into its menu)")
        }
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => format!("ping -c 3 {host}"),
        _ => format!("getent hosts {host}        (what the name is here)"),
    };
    let (what, likely) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (
            "refused the connection",
            ["Modbus TCP is disabled in the device's menu", "the port number is another one"],
        ),
        io::ErrorKind::TimedOut => (
            "does not answer at all",
            ["the device is off or has another address", "a firewall is in between"],
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => (
            "cannot be reached from this network",
            ["the network cable is unplugged", "the address belongs to another network"],
        ),
        io::ErrorKind::ConnectionReset => (
            "closes every connection before it answers",
            ["another client holds the only connection it allows", "it speaks another protocol"],
        ),
        _ => (
            "cannot be connected to",
            ["the name cannot be resolved to an address", "the network is not configured"],
        ),
    };
    Notice::error(&UNREACHABLE, bus, format!("is down: {address} {what}"))
        .likely(likely[0])
        .likely(likely[1])
        .try_next(next)
}

/// What was seen of a device that does not answer.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    /// Since its first unanswered request.
    pub lasted: Duration,
    /// Requests in that time.
    pub requests: u32,
    /// Other devices on the bus.
    pub others: usize,
    /// Of those, how many answer.
    pub others_answering: usize,
    /// Whether the bus is a serial line, also behind a converter.
    pub serial: bool,
}

/// A device that does not answer.
#[must_use]
pub fn silent(subject: &str, id: u8, seen: Silence) -> Notice {
    let lasted = rounded(seen.lasted);
    let what = format!("has not answered for {lasted} ({} requests, 0 bytes back)", seen.requests);
    let notice = Notice::warning(&SILENT, subject, what);
    let off = format!("device {id} is off or has another id");
    let notice = match (seen.others, seen.others_answering, seen.serial) {
        (0, _, true) => notice
            .seen("It is the only device on this bus, so the line itself may be at fault.")
            .likely("speed or parity differ from the device's")
            .likely("the A and B wires are swapped")
            .likely(off),
        (0, _, false) => notice
            .seen("The connection itself stands.")
            .likely("the unit id is another one (many devices want 1 or 255)")
            .likely("the device needs longer than its timeout"),
        (_, 0, true) => notice
            .seen("No other device on this bus answers either.")
            .likely("the A and B wires are swapped or a plug is loose")
            .likely("speed or parity differ from the devices'")
            .likely("the devices have no power"),
        (_, 0, false) => notice
            .seen("No other unit behind this connection answers either.")
            .likely("the serial side of the converter is unplugged or set wrongly")
            .likely("the devices have no power"),
        (_, _, true) => notice
            .seen("Other devices on this bus answer normally, so wiring and baud rate are right.")
            .likely(off)
            .likely("its RS-485 plug is loose")
            .likely("Modbus is disabled in its menu"),
        (_, _, false) => notice
            .seen("Other units behind this connection answer normally.")
            .likely(off)
            .likely("it needs longer than its timeout"),
    };
    notice.try_next("fieldgate once")
}

/// An exception, with what was asked: `holding 107-110`.
#[must_use]
pub fn exception(subject: &str, code: u8, asked: &str) -> Notice {
    let (words, likely) = match code {
        0x01 => ("it does not know this function", "the points stand in another table"),
        0x02 => ("it does not have this address", "the address is off by one"),
        0x03 => ("it does not accept this count", "registers_max is too large for it"),
        0x04 => ("it failed while answering", "the device has a fault; look at its display"),
        0x05 | 0x06 => ("it is busy", "it is asked too often, or it is starting"),
        0x08 => ("its memory has a parity error", "the device has a fault"),
        0x0A => ("the gateway before it has no path to it", "the unit id is not configured there"),
        0x0B => ("the gateway before it got no answer", "the device behind the gateway is off"),
        _ => ("a code of its own", "its manual explains the code"),
    };
    let what = format!("answers exception {code} to {asked}: {words}");
    Notice::warning(&EXCEPTION, subject, what).likely(likely).try_next("fieldgate once")
}

/// Registers that the device says it does not have, as `holding 107-110`, the first of `total`;
/// `others` when there are such that it has.
#[must_use]
pub fn refused(subject: &str, registers: &[String], total: usize, others: bool) -> Notice {
    let mut list = registers.join(", ");
    if total > registers.len() {
        list = format!("{list} and {} more", total - registers.len());
    }
    let seen = if others {
        "It answers that these addresses are illegal; its other points are read normally."
    } else {
        "It answers that these addresses are illegal; there is no other point that could be read."
    };
    Notice::warning(&REFUSED, subject, format!("does not have {list}"))
        .seen(seen)
        .likely("the address is off by one (holding 107 is number 40108)")
        .likely("they stand in the other table (input instead of holding)")
        .likely("this model or firmware does not have them")
        .try_next("fieldgate check")
}

/// Damaged answers from a device.
#[must_use]
pub fn garbage(subject: &str, never_silent: bool, serial: bool) -> Notice {
    let what = if never_silent {
        "cannot be asked: the line never falls silent"
    } else {
        "gives damaged answers (wrong checksum, cut short or noise)"
    };
    let notice = Notice::warning(&GARBAGE, subject, what);
    let notice = if serial {
        notice
            .likely("two devices on the line have the same id, or there is a second master")
            .likely("speed, parity or stop bits differ from the device's")
            .likely("termination or shielding of the line is missing")
    } else {
        notice
            .likely("the port belongs to another protocol")
            .likely("the converter sends RTU frames where TCP frames are expected, or the reverse")
    };
    notice.try_next("fieldgate check")
}

/// Intact answers that do not fit; `how` completes `answered`.
#[must_use]
pub fn wrong(subject: &str, how: &str) -> Notice {
    Notice::warning(&WRONG, subject, format!("answered {how}"))
        .seen("The answer was thrown away; no value was taken from it.")
        .likely("it answers later than its timeout allows")
        .likely("a second master asks on the same line")
        .try_next("give the device a longer timeout")
}

/// A bus that cannot carry what it is asked.
#[must_use]
pub fn behind(bus: &str, skipped: u64) -> Notice {
    Notice::warning(&BEHIND, bus, format!("cannot keep up: {skipped} polls were skipped"))
        .seen("The readings that come are fresh; there are fewer of them than configured.")
        .likely("the periods are too short for the speed of the line")
        .likely("a device needs long to answer")
        .try_next("give points that change slowly a longer \"every\"")
}
