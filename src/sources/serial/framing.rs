//! Cuts the bytes of a serial line into frames. No I/O and no clock of its own: bytes and instants
//! go in, frames come out, and how the bytes were split on their way makes no difference.
//!
//! A cutter that begins to listen in the middle of a frame must not take its tail for a whole one
//! ("12.340" cut to "2.340" still looks like a weight). So it begins *unsynchronised*: what comes
//! before the first mark is passed over, unless the line was silent before it.

use std::time::Duration;

use tokio::time::Instant;

use super::settings::Framing;
use crate::limits::SERIAL_FRAME_BYTES_MAX;
use crate::sources::line::LineSettings;

/// What the cutter found.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut<'a> {
    /// A whole frame, without marks and unstuffed. Never empty.
    Frame(&'a [u8]),
    /// More than [`SERIAL_FRAME_BYTES_MAX`] bytes without an end; dropped whole, up to the next mark.
    Overlong,
    /// A frame whose stuffing is wrong, or that began anew before it had ended; dropped.
    Broken,
}

/// The state between two pushes: at most one frame of bytes.
#[derive(Debug)]
pub struct Cutter {
    framing: Framing,
    /// Silence that begins a frame anew (length), ends it (gap) or proves that a first frame is
    /// whole (all others).
    pause: Duration,
    buffer: Vec<u8>,
    inside: bool,
    /// Whether any byte came since listening began.
    heard: bool,
    /// When the last byte came, or when listening began.
    last: Instant,
}

/// SLIP's special characters: RFC 1055, section "Protocol".
const SLIP_END: u8 = 0xC0;
const SLIP_ESC: u8 = 0xDB;
const SLIP_ESC_END: u8 = 0xDC;
const SLIP_ESC_ESC: u8 = 0xDD;

/// USB adapters hand bytes over in bursts, FTDI's every 16 ms by default: a shorter hole between
/// two reads says nothing about the wire.
const PAUSE_MIN: Duration = Duration::from_millis(50);

impl Cutter {
    /// Begins to listen at `now`, unsynchronised.
    #[must_use]
    pub fn new(framing: Framing, line: LineSettings, now: Instant) -> Self {
        let pause = match framing {
            Framing::Gap(gap) => gap,
            _ => line.characters(50).max(PAUSE_MIN),
        };
        Self { framing, pause, buffer: Vec::new(), inside: false, heard: false, last: now }
    }

    /// Forgets what came so far and listens from `now` on, unsynchronised.
    pub fn restart(&mut self, now: Instant) {
        self.buffer.clear();
        self.inside = false;
        self.heard = false;
        self.last = now;
    }

    /// Takes the bytes that came at `now` and hands every frame that ended to `out`.
    pub fn push(&mut self, bytes: &[u8], now: Instant, out: &mut dyn FnMut(Cut<'_>)) {
        if bytes.is_empty() {
            return;
        }
        self.pause(now, out);
        self.last = now;
        self.heard = true;
        for byte in bytes {
            self.byte(*byte, out);
        }
    }

    /// Returns when [`Cutter::pause`] will end a frame, if silence does that.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let waits = matches!(self.framing, Framing::Gap(_)) && !self.buffer.is_empty();
        waits.then(|| self.last + self.pause)
    }

    /// Takes note of silence until `now`.
    pub fn pause(&mut self, now: Instant, out: &mut dyn FnMut(Cut<'_>)) {
        if now.saturating_duration_since(self.last) < self.pause {
            return;
        }
        match self.framing {
            Framing::Gap(_) => {
                if self.inside && !self.buffer.is_empty() {
                    out(Cut::Frame(&self.buffer));
                }
                self.buffer.clear();
                self.inside = true;
            }
            Framing::Length(_) => {
                if self.inside && !self.buffer.is_empty() {
                    out(Cut::Broken);
                }
                self.buffer.clear();
                self.inside = true;
            }
            Framing::StartEnd(..) => {}
            // Only the very first byte after a silence is known to begin a frame; later silence may
            // well fall within one that comes slowly.
            Framing::End(_) | Framing::Cobs | Framing::Slip => self.inside |= !self.heard,
        }
    }

    fn byte(&mut self, byte: u8, out: &mut dyn FnMut(Cut<'_>)) {
        match &self.framing {
            Framing::Length(length) => {
                if self.inside {
                    self.buffer.push(byte);
                    if self.buffer.len() >= (*length).clamp(1, SERIAL_FRAME_BYTES_MAX) {
                        out(Cut::Frame(&self.buffer));
                        self.buffer.clear();
                    }
                }
            }
            Framing::Gap(_) => {
                if self.inside && self.buffer.len() >= SERIAL_FRAME_BYTES_MAX {
                    out(Cut::Overlong);
                    self.inside = false;
                    self.buffer.clear();
                }
                if self.inside {
                    self.buffer.push(byte);
                }
            }
            Framing::StartEnd(start, end) => {
                let (start, end) = (start.len(), end.len());
                self.between(byte, start, end, out);
            }
            Framing::End(mark) => {
                let mark = mark.len();
                self.until(byte, mark, out);
            }
            Framing::Cobs | Framing::Slip => self.until(byte, 1, out),
        }
    }

    /// One byte of a framing whose frames end with a mark of `mark` bytes.
    fn until(&mut self, byte: u8, mark: usize, out: &mut dyn FnMut(Cut<'_>)) {
        self.buffer.push(byte);
        let ended = match &self.framing {
            Framing::End(end) => self.buffer.ends_with(end),
            Framing::Slip => byte == SLIP_END,
            _ => byte == 0,
        };
        if ended {
            self.buffer.truncate(self.buffer.len() - mark);
            if self.inside && !self.buffer.is_empty() {
                out(unstuffed(&self.framing, &mut self.buffer));
            }
            self.inside = true;
            self.buffer.clear();
        } else if self.inside && self.buffer.len() >= SERIAL_FRAME_BYTES_MAX + mark {
            out(Cut::Overlong);
            self.inside = false;
        }
        if !self.inside {
            self.keep_tail(mark);
        }
    }

    /// One byte of a framing whose frames stand between marks of these lengths.
    fn between(&mut self, byte: u8, start: usize, end: usize, out: &mut dyn FnMut(Cut<'_>)) {
        let Framing::StartEnd(start_mark, end_mark) = &self.framing else { return };
        self.buffer.push(byte);
        if !self.inside {
            if self.buffer.ends_with(start_mark) {
                self.inside = true;
                self.buffer.clear();
            } else {
                self.keep_tail(start);
            }
        } else if self.buffer.ends_with(end_mark) {
            let frame = &self.buffer[..self.buffer.len() - end];
            if !frame.is_empty() {
                out(Cut::Frame(frame));
            }
            // A mark that both ends and begins (HDLC's flag) may do both at once.
            self.inside = start_mark == end_mark;
            self.buffer.clear();
        } else if self.buffer.ends_with(start_mark) {
            // The end was lost. The piece before is not a frame; a new one begins here.
            if self.buffer.len() > start {
                out(Cut::Broken);
            }
            self.buffer.clear();
        } else if self.buffer.len() >= SERIAL_FRAME_BYTES_MAX + end {
            out(Cut::Overlong);
            self.inside = false;
            self.buffer.clear();
        }
    }

    /// While bytes are passed over, only those that may begin a mark are kept.
    fn keep_tail(&mut self, mark: usize) {
        let surplus = self.buffer.len().saturating_sub(mark.saturating_sub(1));
        self.buffer.drain(..surplus);
    }
}

/// Undoes the stuffing of a frame whose end mark is gone already.
fn unstuffed<'a>(framing: &Framing, raw: &'a mut [u8]) -> Cut<'a> {
    let length = match framing {
        Framing::Cobs => cobs::decode_in_place(raw).ok(),
        Framing::Slip => unslipped(raw),
        _ => Some(raw.len()),
    };
    match length {
        Some(0) | None => Cut::Broken,
        Some(length) => Cut::Frame(&raw[..length]),
    }
}

/// Undoes SLIP in place and returns the length, or `None` when an escape is followed by anything
/// but its two characters. RFC 1055 leaves that open; a byte that was damaged is not worth keeping.
fn unslipped(raw: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0, 0);
    while from < raw.len() {
        raw[to] = match raw[from] {
            SLIP_ESC => {
                from += 1;
                match *raw.get(from)? {
                    SLIP_ESC_END => SLIP_END,
                    SLIP_ESC_ESC => SLIP_ESC,
                    _ => return None,
                }
            }
            plain => plain,
        };
        from += 1;
        to += 1;
    }
    Some(to)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: LineSettings = LineSettings::DEFAULT;

    /// Pushes `pieces` without any time between them, after a silence, and lists what came out.
    fn cut(framing: Framing, pieces: &[&[u8]]) -> Vec<String> {
        let start = Instant::now();
        let mut cutter = Cutter::new(framing, LINE, start);
        let mut all = Vec::new();
        let now = start + Duration::from_secs(1);
        for piece in pieces {
            cutter.push(piece, now, &mut |cut| all.push(shown(&cut)));
            assert!(cutter.buffer.len() <= SERIAL_FRAME_BYTES_MAX + 4, "memory grows");
        }
        cutter.pause(now + Duration::from_secs(1), &mut |cut| all.push(shown(&cut)));
        all
    }

    fn shown(cut: &Cut<'_>) -> String {
        match cut {
            Cut::Frame(frame) => frame.escape_ascii().to_string(),
            Cut::Overlong => "overlong".into(),
            Cut::Broken => "broken".into(),
        }
    }

    fn end(mark: &str) -> Framing {
        Framing::End(mark.into())
    }

    fn between(start: &str, end: &str) -> Framing {
        Framing::StartEnd(start.into(), end.into())
    }

    #[test]
    fn frames_are_cut_as_their_framing_says() {
        type Row<'a> = (Framing, &'a [&'a [u8]], &'a [&'a str]);
        let table: &[Row<'_>] = &[
            (end("\r\n"), &[b"a\r\nb", b"c\r", b"\nd"], &["a", "bc"]),
            (end("\r\n"), &[b"\r\n\r\n"], &[]),
            (end("\r\n"), &[b"a\rb\nc\r\r\n"], &["a\\rb\\nc\\r"]),
            (end("aab"), &[b"xaaab"], &["xa"]),
            (Framing::Length(3), &[b"abcde", b"fg"], &["abc", "def", "broken"]),
            (between("$", "\r\n"), &[b"no$a\r\nise$b\r", b"\n"], &["a", "b"]),
            (between("<", ">"), &[b"<a<b>>c<>"], &["broken", "b"]),
            (between("~", "~"), &[b"~a~~b~c~"], &["a", "b", "c"]),
            (Framing::Gap(Duration::from_millis(5)), &[b"ab", b"c"], &["abc"]),
            (Framing::Cobs, &[&[3, 1, 2, 2, 9, 0]], &["\\x01\\x02\\x00\\t"]),
            (Framing::Cobs, &[&[9, 1, 0, 2, 7, 0]], &["broken", "\\x07"]),
            (Framing::Slip, &[&[0xC0, 1, 0xDB, 0xDC, 0xDB, 0xDD, 0xC0]], &["\\x01\\xc0\\xdb"]),
            (
                Framing::Slip,
                &[&[1, 0xDB, 5, 0xC0, 2, 0xDB, 0xC0, 3, 0xC0]],
                &["broken", "broken", "\\x03"],
            ),
        ];
        for (framing, pieces, expected) in table {
            assert_eq!(cut(framing.clone(), pieces), *expected, "{framing:?}");
        }
    }

    #[test]
    fn the_tail_of_a_frame_that_was_missed_is_never_taken_for_a_frame() {
        let start = Instant::now();
        for framing in [end("\n"), Framing::Cobs, Framing::Slip] {
            let mark = match framing {
                Framing::End(_) => b'\n',
                Framing::Slip => SLIP_END,
                _ => 0,
            };
            let mut cutter = Cutter::new(framing, LINE, start);
            let mut frames = Vec::new();
            let soon = start + Duration::from_millis(1);
            cutter.push(&[2, 5, mark, 2, 6, mark], soon, &mut |cut| frames.push(shown(&cut)));
            assert_eq!(frames.len(), 1, "{frames:?}");
        }
    }

    #[test]
    fn a_frame_after_silence_is_whole_from_its_first_byte() {
        let start = Instant::now();
        let mut cutter = Cutter::new(end("\n"), LINE, start);
        let mut frames = Vec::new();
        let ms = |n| start + Duration::from_millis(n);
        cutter.push(b"a\n", ms(1000), &mut |cut| frames.push(shown(&cut)));
        cutter.restart(ms(1000));
        cutter.push(b"b\nc\n", ms(1001), &mut |cut| frames.push(shown(&cut)));
        cutter.restart(ms(2000));
        cutter.push(b"1", ms(2001), &mut |cut| frames.push(shown(&cut)));
        cutter.push(b"2.3\n4.5\n", ms(3000), &mut |cut| frames.push(shown(&cut)));
        assert_eq!(frames, ["a", "c", "4.5"]);
    }

    #[test]
    fn silence_ends_a_gap_frame_and_begins_a_length_frame_anew() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut frames = Vec::new();
        let mut gap = Cutter::new(Framing::Gap(Duration::from_millis(5)), LINE, start);
        gap.push(b"tail", ms(1), &mut |cut| frames.push(shown(&cut)));
        assert_eq!(gap.deadline(), None, "an unsynchronised piece is not waited for");
        gap.push(b"one", ms(10), &mut |cut| frames.push(shown(&cut)));
        gap.push(b"+", ms(12), &mut |cut| frames.push(shown(&cut)));
        assert_eq!(gap.deadline(), Some(ms(17)));
        gap.pause(ms(16), &mut |cut| frames.push(shown(&cut)));
        assert!(frames.is_empty());
        gap.pause(ms(17), &mut |cut| frames.push(shown(&cut)));
        assert_eq!(frames, ["one+"]);

        frames.clear();
        let mut length = Cutter::new(Framing::Length(4), LINE, start);
        length.push(b"xx", ms(1), &mut |cut| frames.push(shown(&cut)));
        length.push(b"ab", ms(200), &mut |cut| frames.push(shown(&cut)));
        length.push(b"abcd", ms(400), &mut |cut| frames.push(shown(&cut)));
        assert_eq!(frames, ["broken", "abcd"]);
    }

    #[test]
    fn a_frame_of_64_kib_passes_and_one_byte_more_is_dropped_up_to_the_next_mark() {
        let full = vec![b'x'; SERIAL_FRAME_BYTES_MAX];
        for (framing, open, close) in [(end("\r\n"), "", "\r\n"), (between("<<", ">>"), "<<", ">>")]
        {
            let frame = |body: &[u8]| [open.as_bytes(), body, close.as_bytes()].concat();
            let stream = [frame(&full), frame(&[&full[..], b"x"].concat()), frame(b"ok")].concat();
            let frames = cut(framing, &[&stream]);
            assert_eq!(frames[0].len(), SERIAL_FRAME_BYTES_MAX);
            assert_eq!(frames[1..], ["overlong", "ok"]);
        }
        let long = vec![b'x'; 10 * SERIAL_FRAME_BYTES_MAX];
        assert_eq!(cut(Framing::Gap(Duration::from_millis(5)), &[&long]), ["overlong"]);
    }

    fn any_framing() -> impl Strategy<Value = Framing> {
        prop_oneof![
            "[ab]{1,3}".prop_map(|mark| Framing::End(mark.into_bytes())),
            (1_usize..9).prop_map(Framing::Length),
            ("[ab]{1,2}", "[bc]{1,2}").prop_map(|(s, e)| between(&s, &e)),
            Just(Framing::Gap(Duration::from_millis(5))),
            Just(Framing::Cobs),
            Just(Framing::Slip),
        ]
    }

    proptest! {
        #[test]
        fn any_stream_in_any_pieces_gives_the_same_frames(
            framing in any_framing(),
            stream in proptest::collection::vec(
                prop_oneof![Just(b'a'), Just(b'b'), Just(b'c'), Just(0), Just(SLIP_END),
                            Just(SLIP_ESC), Just(SLIP_ESC_END), Just(2), any::<u8>()], 0..400),
            cuts in proptest::collection::vec(0_usize..400, 0..20),
        ) {
            let whole = cut(framing.clone(), &[&stream]);
            let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(stream.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for at in cuts {
                pieces.push(&stream[from..at]);
                from = at;
            }
            pieces.push(&stream[from..]);
            prop_assert_eq!(cut(framing, &pieces), whole);
        }
    }
}
