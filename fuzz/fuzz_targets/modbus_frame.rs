//! libFuzzer's door to `targets::modbus_frame`.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code)]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::modbus_frame(data));
