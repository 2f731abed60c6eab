//! A knock: one short request to find out who is there at all. Nothing is ever read out of the
//! answer, so what the guard does to keep values apart is not needed, and a unit that is not there
//! costs its timeout and nothing more.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::super::frame::{Framing, first_frame, sealed};
use super::{BUFFER_BYTES, Guard};
use crate::limits;

/// What came back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Heard {
    /// Whether the unit that was asked answered, and with which exception.
    pub(in super::super) answer: Option<Option<u8>>,
    /// Other units whose intact answers came, each once: late, or nobody asked them.
    pub(in super::super) others: Vec<u8>,
    /// Bytes that are part of no intact answer.
    pub(in super::super) noise: usize,
    /// Whether the request itself came back, as half-duplex adapters do it.
    pub(in super::super) echo: bool,
    /// Whether the port or connection is gone.
    pub(in super::super) gone: bool,
}

impl Heard {
    fn note_other(&mut self, unit: u8) {
        if !self.others.contains(&unit) {
            self.others.push(unit);
        }
    }
}

impl Guard {
    /// Sends `request`, a read of functions 1 to 4, and says what came within `patience`.
    pub(in super::super) async fn knock(&mut self, request: &[u8], patience: Duration) -> Heard {
        self.timer.until(self.last_byte + self.silence).await;
        let end = Instant::now() + self.on_the_wire(request.len()) + patience;
        let Some(wire) = self.wire.as_mut() else {
            return Heard { gone: true, ..Heard::default() };
        };
        if !matches!(timeout_at(end, wire.write_all(request)).await, Ok(Ok(()))) {
            self.wire = None;
            return Heard { gone: true, ..Heard::default() };
        }
        self.hear(request, end).await
    }

    /// Says what comes within `patience` although nothing is sent: `others` are those who answer late.
    pub(in super::super) async fn overhear(&mut self, patience: Duration) -> Heard {
        // The request that nobody answers, so that every intact frame is another unit's.
        let to_all = match self.framing {
            Framing::Rtu => sealed(&[0, 3, 0, 0, 0, 1]),
            Framing::Mbap => vec![0, 0, 0, 0, 0, 6, 0, 3, 0, 0, 0, 1],
        };
        self.hear(&to_all, Instant::now() + patience).await
    }

    fn on_the_wire(&self, bytes: usize) -> Duration {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.character.map_or(Duration::ZERO, |character| character * count)
    }

    /// Takes in what comes until `end`, as what comes after `request`.
    async fn hear(&mut self, request: &[u8], mut end: Instant) -> Heard {
        let mut heard = Heard::default();
        let rest = self.on_the_wire(2 * request.len()) + limits::MODBUS_QUARANTINE_MIN;
        let Some(wire) = self.wire.as_mut() else { return Heard { gone: true, ..heard } };
        let (mut filled, mut begun) = (0, false);
        loop {
            match timeout_at(end, wire.read(&mut self.bytes[filled..])).await {
                Ok(Ok(0) | Err(_)) => {
                    self.wire = None;
                    heard.gone = true;
                    break;
                }
                Ok(Ok(got)) => {
                    // Once: whoever talks without end is not listened to for longer.
                    if !std::mem::replace(&mut begun, true) {
                        end = end.max(Instant::now() + rest);
                    }
                    filled += got;
                }
                Err(_) => break,
            }
            filled = sort(self.framing, request, &mut self.bytes[..filled], &mut heard);
            if heard.answer.is_some() || filled == BUFFER_BYTES {
                break;
            }
        }
        heard.noise = filled;
        self.last_byte = Instant::now();
        heard
    }

    /// Returns how many bytes come within `patience` without being asked for.
    pub(in super::super) async fn listen(&mut self, patience: Duration) -> usize {
        let end = Instant::now() + patience;
        let mut heard = 0;
        while let Some(wire) = self.wire.as_mut() {
            match timeout_at(end, wire.read(&mut self.bytes[..])).await {
                Ok(Ok(0) | Err(_)) => self.wire = None,
                Ok(Ok(got)) => heard += got,
                Err(_) => break,
            }
        }
        self.last_byte = Instant::now();
        heard
    }
}

/// Takes what is understood off the front of `bytes`, and returns how many remain, moved there.
fn sort(framing: Framing, request: &[u8], bytes: &mut [u8], heard: &mut Heard) -> usize {
    let mut start = 0;
    loop {
        let rest = &bytes[start..];
        if framing == Framing::Rtu && rest.starts_with(request) {
            heard.echo = true;
            start += request.len();
            continue;
        }
        let taken = match framing {
            Framing::Rtu => over_a_line(request, rest, heard),
            Framing::Mbap => over_tcp(request, rest, heard),
        };
        let Some(taken) = taken else { break };
        start += taken;
    }
    bytes.copy_within(start.., 0);
    bytes.len() - start
}

/// Notes the RTU frame that `bytes` begin with and returns where it ends.
fn over_a_line(request: &[u8], bytes: &[u8], heard: &mut Heard) -> Option<usize> {
    let place = first_frame(bytes)?;
    let frame = &bytes[place.clone()];
    if frame[0] == request[0] {
        heard.answer = Some(exception(frame[1], frame[2]));
    } else {
        heard.note_other(frame[0]);
    }
    Some(place.end)
}

/// Notes the MBAP frame that `bytes` begin with and returns where it ends (MODBUS Messaging on
/// TCP/IP 1.0b, section 3.1.3).
fn over_tcp(request: &[u8], bytes: &[u8], heard: &mut Heard) -> Option<usize> {
    let &[t0, t1, 0, 0, l0, l1, unit, function, code, ..] = bytes else { return None };
    let length = 6 + usize::from(u16::from_be_bytes([l0, l1]));
    if length > bytes.len() || length < 9 {
        return None;
    }
    if request.starts_with(&[t0, t1]) && request.get(6) == Some(&unit) {
        heard.answer = Some(exception(function, code));
    } else {
        heard.note_other(unit);
    }
    Some(length)
}

fn exception(function: u8, code: u8) -> Option<u8> {
    (function & 0x80 != 0).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(framing: Framing, request: &[u8], bytes: &[u8]) -> Heard {
        let (mut bytes, mut heard) = (bytes.to_vec(), Heard::default());
        heard.noise = sort(framing, request, &mut bytes, &mut heard);
        heard
    }

    #[test]
    fn answers_exceptions_echoes_and_noise_are_told_apart() {
        let request = sealed(&[7, 3, 0, 0, 0, 1]);
        let rtu = |bytes: &[u8]| heard(Framing::Rtu, &request, bytes);
        let none = Heard::default;
        let (answer, refusal) = (sealed(&[7, 3, 2, 0, 5]), sealed(&[7, 0x83, 2]));
        assert_eq!(rtu(&answer), Heard { answer: Some(None), ..none() });
        assert_eq!(rtu(&refusal), Heard { answer: Some(Some(2)), ..none() });
        assert_eq!(rtu(&request), Heard { echo: true, ..none() });
        let echoed = [&request[..], &answer[..]].concat();
        assert_eq!(rtu(&echoed), Heard { echo: true, answer: Some(None), ..none() });
        let late = [&sealed(&[6, 0x83, 2])[..], &answer[..]].concat();
        assert_eq!(rtu(&late), Heard { others: vec![6], answer: Some(None), ..none() });
        let mut damaged = answer.clone();
        damaged[3] ^= 4;
        assert_eq!(rtu(&damaged), Heard { noise: 7, ..none() });
        assert_eq!(rtu(&[0xF8, 0x80, 0x1C]), Heard { noise: 3, ..none() });
    }

    #[test]
    fn over_tcp_the_transaction_tells_whose_answer_it_is() {
        let request = [0, 9, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1];
        let tcp = |bytes: &[u8]| heard(Framing::Mbap, &request, bytes);
        let none = Heard::default;
        let refusal = [0, 9, 0, 0, 0, 3, 1, 0x83, 0x0B];
        assert_eq!(tcp(&refusal), Heard { answer: Some(Some(0x0B)), ..none() });
        let late = [&[0, 8, 0, 0, 0, 3, 4, 0x83, 2][..], &refusal[..]].concat();
        assert_eq!(tcp(&late), Heard { others: vec![4], answer: Some(Some(0x0B)), ..none() });
        assert_eq!(tcp(b"HTTP/1.1 400"), Heard { noise: 12, ..none() });
    }
}
