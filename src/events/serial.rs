//! What serial lines say. Codes FG-Snn.

use std::path::Path;
use std::time::Duration;

use super::{Code, Notice, rounded};

/// This room's codes.
pub const CODES: &[&Code] = &[&AWAY, &REFUSED, &SILENT, &DAMAGED, &UNREAD, &ENDLESS];

/// The port does not exist, or stopped existing.
pub static AWAY: Code = Code {
    id: "FG-S01",
    title: "serial port is away",
    about: "The device node of a serial port does not exist, or it vanished while it was open: \
            almost always a USB adapter that was pulled, lost power or was reset. The gateway has \
            closed it, marks the points as timed out once, and opens the same path again every few \
            seconds until it is back; nothing needs to be restarted. When a port comes back under \
            another number, configure its /dev/serial/by-id path, which does not change.",
};

/// The port is there and cannot be opened.
pub static REFUSED: Code = Code {
    id: "FG-S02",
    title: "serial port cannot be opened",
    about: "The serial port exists, but the system does not let the gateway have it: another \
            program holds it, this user may not open it, or the driver does not know the line \
            settings. The gateway tries again every few seconds, so it recovers by itself as soon \
            as the port is free. `fieldgate ports` shows who holds each port.",
};

/// Nothing comes.
pub static SILENT: Code = Code {
    id: "FG-S03",
    title: "serial device is silent",
    about: "The port is open and works, but the device has sent no frame for longer than its \
            `silent_after`, or has not answered when it was asked. Its points are reported as timed \
            out. The gateway keeps listening (and asking), and says so when the device is back.",
};

/// Frames fail their checksum or their framing.
pub static DAMAGED: Code = Code {
    id: "FG-S04",
    title: "serial frames arrive damaged",
    about: "Frames come, but fail their checksum, are stuffed wrongly, or do not end within 64 KiB. \
            Damaged frames are dropped whole and counted; the points are marked as malformed at \
            most once a second, and no value is ever taken from such a frame. It is over when no \
            frame was damaged for a minute.",
};

/// Frames come that say nothing known.
pub static UNREAD: Code = Code {
    id: "FG-S05",
    title: "serial frames do not match",
    about: "Frames come, but `match` does not fit them, they are not the JSON that was expected, or \
            they hold none of the configured points. Without a checksum such a frame may be a \
            damaged one, so the points are marked as malformed at most once a second; with a valid \
            checksum it is another kind of frame, and is passed over. The notice shows one of them \
            as it came, with unprintable bytes written as \\xNN.",
};

/// Bytes come, frames do not.
pub static ENDLESS: Code = Code {
    id: "FG-S06",
    title: "serial bytes never become a frame",
    about: "Bytes arrive on the line, but the framing has not found a single whole frame among them \
            for half a minute. Usually the end mark in the configuration is not the one the device \
            sends, or the line speed is wrong so that every byte is another one. The gateway keeps \
            reading; at most one frame of 64 KiB is held meanwhile.",
};

/// The port vanished while it was open.
#[must_use]
pub fn gone(subject: &str, path: &Path) -> Notice {
    by_id(
        Notice::warning(&AWAY, subject, format!("is gone: {} closed itself", path.display()))
            .likely("the USB adapter was pulled or its hub lost power")
            .likely("the adapter was reset by electrical noise on its line")
            .try_next("fieldgate ports"),
        path,
    )
}

/// There is no such port.
#[must_use]
pub fn missing(subject: &str, path: &Path) -> Notice {
    by_id(
        Notice::warning(
            &AWAY,
            subject,
            format!("cannot be opened: there is no {}", path.display()),
        )
        .likely("the adapter is not plugged in")
        .likely("the path in the configuration names another adapter")
        .try_next("fieldgate ports"),
        path,
    )
}

fn by_id(notice: Notice, path: &Path) -> Notice {
    if path.starts_with("/dev/serial") || !path.starts_with("/dev/ttyUSB") {
        return notice;
    }
    notice.seen("A /dev/ttyUSB number may change on replug; a /dev/serial/by-id path does not.")
}

/// This user may not open it.
#[must_use]
pub fn denied(subject: &str, path: &Path) -> Notice {
    Notice::error(
        &REFUSED,
        subject,
        format!("cannot be opened: this user may not use {}", path.display()),
    )
    .likely("the user that runs fieldgate is not in the group of the device node (dialout)")
    .try_next(format!("ls -lL {}   (shows the group; add the user to it)", path.display()))
}

/// Someone else has it; `holder` is `pid 4711 (minicom)` when known.
#[must_use]
pub fn taken(subject: &str, path: &Path, holder: Option<&str>) -> Notice {
    let by = holder.unwrap_or("another program");
    Notice::error(&REFUSED, subject, format!("cannot be opened: {by} holds {}", path.display()))
        .likely("a terminal program or a second gateway is running")
        .likely("a modem or login service has claimed the port")
        .try_next("fieldgate ports")
}

/// The driver does not want it.
#[must_use]
pub fn unfit(subject: &str, path: &Path, line: &str) -> Notice {
    Notice::error(
        &REFUSED,
        subject,
        format!("cannot be opened: {} refuses \"{line}\"", path.display()),
    )
    .likely("the path is not a serial port")
    .likely("its driver does not know this speed or character layout")
    .try_next("fieldgate ports")
}

/// What was heard while no frame came.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    /// How long no frame came.
    pub lasted: Duration,
    /// Questions without an answer; 0 for a device that talks by itself.
    pub asked: u64,
    /// Bytes that came in that time and were no frame.
    pub bytes: u64,
}

/// No frame came for longer than agreed.
#[must_use]
pub fn silent(subject: &str, silence: Silence, line: &str) -> Notice {
    let lasted = rounded(silence.lasted);
    let what = match silence.asked {
        0 => format!("has sent no frame for {lasted}"),
        1 => format!("has not answered for {lasted} (asked once)"),
        n => format!("has not answered for {lasted} (asked {n} times)"),
    };
    let notice = Notice::warning(&SILENT, subject, what);
    let notice = if silence.bytes == 0 {
        notice
            .seen("The port is open and not a single byte came.")
            .likely("the device is off or its cable is loose")
            .likely("receive and transmit are swapped")
    } else {
        notice
            .seen(format!("{} bytes came, but no frame that can be read.", silence.bytes))
            .likely(format!("the line is not \"{line}\""))
            .likely("the frame in the configuration is not the device's")
    };
    notice.try_next("check the cable, then `line` against the device's manual")
}

/// A frame was damaged; `why` completes "the last one": `failed its checksum`.
#[must_use]
pub fn damaged(subject: &str, why: &str, frame: &[u8], line: &str) -> Notice {
    let notice = Notice::warning(&DAMAGED, subject, format!("sends damaged frames: one {why}"));
    let notice = match frame {
        [] => notice,
        _ => notice.seen(format!("It was: {}", excerpt(frame))),
    };
    notice
        .likely("electrical noise, a bad shield or a loose plug")
        .likely(format!("the device's line is not \"{line}\""))
        .likely("the checksum in the configuration is not the device's")
        .try_next("check the cable, then `checksum` and `line` against the device's manual")
}

/// A frame was not understood; `why` completes "one": `does not match`.
#[must_use]
pub fn unread(subject: &str, why: &str, frame: &[u8]) -> Notice {
    Notice::warning(&UNREAD, subject, format!("sends frames that are not understood: one {why}"))
        .seen(format!("It was: {}", excerpt(frame)))
        .likely(
            "`match` does not fit what the device sends (mind blanks, signs and a trailing \\r)",
        )
        .likely("the device is set to another output format")
        .likely("noise on the line")
        .try_next("compare the frame above with `match` in the configuration")
}

/// Bytes come and no frame among them.
#[must_use]
pub fn endless(subject: &str, bytes: u64, lasted: Duration, line: &str) -> Notice {
    Notice::warning(
        &ENDLESS,
        subject,
        format!("has sent {bytes} bytes in {} without one whole frame", rounded(lasted)),
    )
    .likely("the end mark in `frame` is not the one the device sends")
    .likely(format!("the device's line is not \"{line}\""))
    .try_next("compare `frame` and `line` with the device's manual")
}

/// The beginning of a frame, fit for a terminal whatever it holds.
fn excerpt(frame: &[u8]) -> String {
    const BYTES_SHOWN_MAX: usize = 60;
    let shown = &frame[..frame.len().min(BYTES_SHOWN_MAX)];
    if shown.len() < frame.len() {
        format!("\"{}\"... ({} bytes)", shown.escape_ascii(), frame.len())
    } else {
        format!("\"{}\" ({} bytes)", shown.escape_ascii(), frame.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_in_a_notice_can_do_no_harm_to_a_terminal() {
        let notice = unread("port a: scale", "does not match", &[0x1b; 500]).to_string();
        assert!(notice.chars().all(|c| c == '\n' || !c.is_control()), "{notice}");
        assert!(notice.contains("(500 bytes)") && notice.len() < 900, "{notice}");
    }

    #[test]
    fn silence_names_what_was_heard() {
        let silence = |bytes| Silence { lasted: Duration::from_secs(240), asked: 120, bytes };
        let quiet = silent("port a: scale", silence(0), "9600 8N1").to_string();
        assert!(quiet.contains("has not answered for 4 min (asked 120 times)"), "{quiet}");
        assert!(quiet.contains("not a single byte"), "{quiet}");
        let noise = silent("port a: scale", silence(77), "9600 8N1").to_string();
        assert!(noise.contains("77 bytes came") && noise.contains("9600 8N1"), "{noise}");
    }
}
