//! The imports, as the canonical ABI of the component model lowers them to core WebAssembly.
//!
//! Written by hand rather than generated: readings are read and written where they lie, and nothing is
//! copied a reading. The layouts are those of `rule.wit` by the
//! component model's `CanonicalABI.md` (alignment and size of records, variants and lists); the
//! daemon's conformance tests run these very guests.
#![expect(unsafe_code, reason = "the border to the host")]

use alloc::string::String;
use alloc::vec::Vec;

use super::{Level, Stream};
use crate::abi::{self, List};
use crate::{Param, Reading, Timestamp, Value};

mod import {
    #[link(wasm_import_module = "fieldgate:rule/params@1.0.0")]
    unsafe extern "C" {
        #[link_name = "get"]
        pub fn param_get(name: *const u8, length: usize, to: *mut u8);
    }
    #[link(wasm_import_module = "fieldgate:rule/output@1.0.0")]
    unsafe extern "C" {
        pub fn declare(
            to: i32,
            device: *const u8,
            device_length: usize,
            point: *const u8,
            point_length: usize,
            has_unit: i32,
            unit: *const u8,
            unit_length: usize,
            result: *mut u8,
        );
        pub fn emit(readings: *const u8, length: usize);
    }
    #[link(wasm_import_module = "fieldgate:rule/state@1.0.0")]
    unsafe extern "C" {
        #[link_name = "get"]
        pub fn state_get(key: *const u8, length: usize, to: *mut u8);
        #[link_name = "set"]
        pub fn state_set(key: *const u8, length: usize, value: *const u8, value_length: usize);
        #[link_name = "delete"]
        pub fn state_delete(key: *const u8, length: usize);
        pub fn scan(
            prefix: *const u8,
            length: usize,
            has_after: i32,
            after: *const u8,
            after_length: usize,
            limit: u32,
            to: *mut u8,
        );
    }
    #[link(wasm_import_module = "fieldgate:rule/timers@1.0.0")]
    unsafe extern "C" {
        #[link_name = "set"]
        pub fn timer_set(name: *const u8, length: usize, at: i64);
        #[link_name = "cancel"]
        pub fn timer_cancel(name: *const u8, length: usize);
    }
    #[link(wasm_import_module = "fieldgate:rule/log@1.0.0")]
    unsafe extern "C" {
        pub fn write(level: i32, message: *const u8, length: usize);
    }
}

/// Readings on their way to the host, as they lie in its list.
#[derive(Debug, Default)]
pub struct Outbox(Vec<Reading<'static>>);

/// Readings handed over at once: 20 KiB, so a flood does not fill the rule's memory first.
const OUTBOX_MAX: usize = 512;

impl Outbox {
    #[inline]
    pub fn push(&mut self, r: Reading<'_>) {
        let value = match r.value {
            Value::Text(text) => Value::Text(abi::keep(text)),
            Value::Number(number) => Value::Number(number),
            Value::Integer(number) => Value::Integer(number),
            Value::Boolean(flag) => Value::Boolean(flag),
            Value::None(why) => Value::None(why),
        };
        if self.0.len() == self.0.capacity() {
            self.make_room();
        }
        self.0.push(Reading { value, ..r });
    }

    #[cold]
    fn make_room(&mut self) {
        let length = self.0.len();
        if length >= OUTBOX_MAX {
            self.flush();
        } else {
            self.0.reserve_exact((length * 2).clamp(16, OUTBOX_MAX) - length);
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn flush(&mut self) {
        if !self.0.is_empty() {
            // SAFETY: a list of readings by the canonical ABI; texts in it live until the call ends.
            unsafe { import::emit(self.0.as_ptr().cast(), self.0.len()) };
            self.0.clear();
        }
    }
}

/// `option<param>`: a byte, then at 8 the variant: a byte, then at 8 its content.
#[repr(C, align(8))]
struct RawParam([u8; 24]);

pub fn param(name: &str) -> Option<Param> {
    let mut raw = RawParam([0; 24]);
    // SAFETY: the host writes 24 bytes.
    unsafe { import::param_get(name.as_ptr(), name.len(), raw.0.as_mut_ptr()) };
    if raw.0[0] == 0 {
        return None;
    }
    let mut content = [0; 8];
    content.copy_from_slice(&raw.0[16..]);
    let number = u64::from_le_bytes(content);
    let list = List::of(number);
    Some(match raw.0[8] {
        0 => Param::Text(list.text()),
        1 => Param::Number(f64::from_bits(number)),
        2 => Param::Integer(number.cast_signed()),
        3 => Param::Boolean(content[0] != 0),
        4 => Param::DurationUs(number),
        5 => Param::Texts(list.items::<List>().iter().map(|text| text.text()).collect()),
        _ => Param::Numbers(list.items::<f64>().to_vec()),
    })
}

pub fn declare(to: Stream, device: &str, point: &str, unit: Option<&str>) -> Result<u32, String> {
    let mut raw = [0_u32; 3];
    let text = unit.unwrap_or("");
    // SAFETY: `result<u32, string>` is 12 bytes.
    unsafe {
        import::declare(
            to as i32,
            device.as_ptr(),
            device.len(),
            point.as_ptr(),
            point.len(),
            i32::from(unit.is_some()),
            text.as_ptr(),
            text.len(),
            raw.as_mut_ptr().cast(),
        );
    }
    let [tag, id, length] = raw;
    if tag & 0xff == 0 { Ok(id) } else { Err(List { at: id, length }.text()) }
}

pub fn state_get(key: &str) -> Option<Vec<u8>> {
    let mut raw = [0_u32; 3];
    // SAFETY: `option<list<u8>>` is 12 bytes.
    unsafe { import::state_get(key.as_ptr(), key.len(), raw.as_mut_ptr().cast()) };
    let [tag, at, length] = raw;
    (tag & 0xff != 0).then(|| List { at, length }.items::<u8>().to_vec())
}

pub fn state_set(key: &str, value: &[u8]) {
    // SAFETY: both are read before the call returns.
    unsafe { import::state_set(key.as_ptr(), key.len(), value.as_ptr(), value.len()) };
}

pub fn state_delete(key: &str) {
    // SAFETY: read before the call returns.
    unsafe { import::state_delete(key.as_ptr(), key.len()) };
}

pub fn state_scan(prefix: &str, after: Option<&str>, limit: u32) -> Vec<(String, Vec<u8>)> {
    let mut raw = List { at: 0, length: 0 };
    let text = after.unwrap_or("");
    // SAFETY: a list is 8 bytes.
    unsafe {
        import::scan(
            prefix.as_ptr(),
            prefix.len(),
            i32::from(after.is_some()),
            text.as_ptr(),
            text.len(),
            limit,
            (&raw mut raw).cast(),
        );
    }
    let pairs = raw.items::<[List; 2]>();
    pairs.iter().map(|[key, value]| (key.text(), value.items::<u8>().to_vec())).collect()
}

pub fn timer_set(name: &str, at: Timestamp) {
    // SAFETY: read before the call returns.
    unsafe { import::timer_set(name.as_ptr(), name.len(), at.0) };
}

pub fn timer_cancel(name: &str) {
    // SAFETY: read before the call returns.
    unsafe { import::timer_cancel(name.as_ptr(), name.len()) };
}

pub fn log(level: Level, message: &str) {
    // SAFETY: read before the call returns.
    unsafe { import::write(level as i32, message.as_ptr(), message.len()) };
}
