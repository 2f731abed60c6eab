//! libFuzzer's door to `targets::zigbee2mqtt`.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code)]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::zigbee2mqtt(data));
