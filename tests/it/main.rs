//! Integration tests in one binary: the river and its rooms against peers that others wrote.
//!
//! Peers are Debian's mosquitto, libcoap's `coap-client`, socat, and Python's pymodbus and aiocoap;
//! `tests/run` installs them. A missing peer fails its test with a sentence that says so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout
)]

mod buffer;
#[cfg(feature = "receive")]
mod campaign;
mod cli;
mod coap;
mod compile;
mod config;
mod disks;
mod faults;
mod firsthour;
mod fuzz;
mod guest;
mod kills;
mod modbus;
mod mqtt5;
mod peers;
mod power;
mod presets;
mod readme;
#[cfg(feature = "receive")]
mod receive;
mod reference;
mod reload;
mod river;
mod rules_author;
mod rules_push;
mod rules_trials;
mod serial;
mod shipped;
mod simulate;
mod sinks;
mod soak;
mod store;
mod strict;
mod unit;
mod uplink;
mod vectors;
mod zigbee2mqtt;
