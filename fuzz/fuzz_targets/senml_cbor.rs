//! libFuzzer's door to `targets::senml_cbor`.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code)]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::senml_cbor(data));
