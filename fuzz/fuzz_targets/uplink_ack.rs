//! libFuzzer's door to `targets::uplink_ack`.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code)]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::uplink_ack(data));
