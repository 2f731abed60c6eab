//! CoAP (RFC 7252), both ways round: a listener that devices post to, and a client that polls or
//! observes a device.
//!
//! `coap-lite` reads and writes packets; everything that keeps state is ours, because it must be
//! bounded. Its `BlockHandler` keeps a state for every request without a count limit, fills gaps of
//! an upload with zeros and reads block numbers only to 4095, so `uploads` stands instead. The
//! `coap` crate was read and left out: its client queues what it receives without bound, takes an
//! answer with the right token from any address, cuts datagrams at 1500 bytes, and lets go of an
//! observation without a word when its socket fails.
//!
//! `server` and `observe` touch no network; their tests are tables of datagrams. [`senml`] and
//! `payload` turn bodies into rows, `rows` turns rows into groups of readings, for both ways.

mod address;
mod answers;
mod client;
#[doc(hidden)]
pub mod door;
mod exchange;
mod limiter;
mod listener;
mod observe;
mod payload;
mod rows;
pub mod senml;
mod server;
pub mod settings;
mod uploads;
mod wire;

pub use address::Address;
pub use client::CoapClient;
pub use listener::CoapListener;
