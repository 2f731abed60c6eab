//! Modbus, client side. One worker a bus, one request outstanding, registers merged into few reads.
//!
//! # The guard
//! The promise: a reading never carries another register's value. Modbus TCP numbers its
//! transactions, but a client that goes on after a timeout stays one answer out of step. RTU numbers
//! nothing: unit, function and count are all an answer says of the question, so a late answer to
//! `holding 16` is a perfect answer to `holding 32`. tokio-modbus clears its buffer before a request
//! and checks unit and function, no more; its count check is a debug assertion. So:
//!
//! 1. `speaker.rs`: tokio-modbus writes requests and reads answers through a hatch in memory. It
//!    never sees the wire, and no frame that was not verified.
//! 2. `frame.rs`: an answer is verified as a whole before it is handed over: unit, function, byte
//!    count, checksum or transaction and length. Bytes behind it spoil it.
//! 3. `guard.rs`, before a request: the input is drained and the line must be silent for 3.5
//!    characters, counted from the last byte, so silence that has passed is not waited for.
//! 4. After any timeout, damaged or unfit answer, a network connection is dropped and made anew; a
//!    serial bus is quarantined for the longest answer time seen (50 ms to 2 s), then must be silent.
//! 5. A unit that still owes an answer of the same shape (unit, function, count) is asked for a
//!    register more than needed: the late answer then does not fit. Units may answer in any order
//!    (pymodbus does), so a debt lasts until the late answer was seen or ten seconds have passed.
//!    Asking for fewer registers first, as a proof that nothing older can come, was tried and failed
//!    against pymodbus for that reason.
//!
//! What is left: an answer that is more than ten seconds late, and a unit that refuses to give a
//! register more: it is quarantined and then trusted to answer in order.
//!
//! It costs two bytes an answer for ten seconds after a timeout, and 50 ms of bus time after a
//! damaged answer.
//!
//! # The rest
//! `plan.rs` merges points into requests and cuts refused ones in two; `decode.rs` makes samples;
//! `breaker.rs` spaces the probes of what does not answer; `link.rs` opens ports and connections;
//! `poll.rs` is one poll of one device; `bus.rs` keeps the schedule; `timer.rs` waits to a tenth of
//! a millisecond. `inquiry.rs` is what a person asks instead of a schedule: a scan, one read. Writing
//! to devices is not here.

mod breaker;
mod bus;
mod decode;
#[doc(hidden)]
pub mod door;
mod frame;
mod guard;
pub mod inquiry;
mod link;
mod plan;
mod poll;
pub mod settings;
mod speaker;
mod timer;

#[cfg(test)]
mod tests;

pub use bus::ModbusBus;

/// Returns how many requests read every point of `device` once, as long as it refuses none.
#[must_use]
pub fn requests(device: &settings::Device) -> usize {
    let classes = plan::classes(0, device, &crate::reading::Points::default()).unwrap_or_default();
    classes.iter().map(|class| class.requests.len()).sum()
}
