//! Why a call failed, in words: from wasmtime's errors to a code for machines and a sentence for
//! people, with the function it happened in and the last thing the rule wrote.

use std::any::Any;
use std::fmt;

use wasmtime::{Trap, WasmBacktrace};

use super::Failure;
use super::guest::Guest;
use super::log::shortened;
use super::wit::Error;
use crate::limits;

/// A refusal of the host on its way through wasmtime.
#[derive(Debug)]
pub(super) struct Stopped(pub Failure);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Stopped {}

/// The computing time ran out.
#[derive(Debug)]
pub(super) struct Overdue;

impl fmt::Display for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the computing time ran out")
    }
}

impl std::error::Error for Overdue {}

/// What a call was stopped by.
pub(super) fn of_error(error: &wasmtime::Error, guest: &Guest) -> Failure {
    if let Some(Stopped(failure)) = error.downcast_ref() {
        return told(&failure.code, failure.message.clone(), error, guest);
    }
    let (time, inputs) = guest.time();
    if error.is::<Overdue>() {
        let ms = time.as_millis();
        let what = format!("the rule computed for longer than {ms} ms over {inputs} readings");
        return told("deadline", what, error, guest);
    }
    if guest.memory.refused {
        let kib = guest.limits.memory_bytes / 1024;
        let what = format!("the rule wanted more memory than its {kib} KiB, or too many tables");
        return told("memory", what, error, guest);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => {
            let fuel = guest.limits.fuel(inputs);
            let what = format!("the rule used up its {fuel} units of fuel for {inputs} readings");
            told("fuel", what, error, guest)
        }
        Some(trap) => {
            let (code, what) = of_trap(*trap);
            told(code, format!("the rule {what}"), error, guest)
        }
        None => {
            let cause = shortened(&error.root_cause().to_string());
            let what = format!("the rule broke the contract's calling convention: {cause}");
            told("abi", what, error, guest)
        }
    }
}

fn of_trap(trap: Trap) -> (&'static str, &'static str) {
    match trap {
        Trap::UnreachableCodeReached => ("trap.unreachable", "gave up (a panic, usually)"),
        Trap::StackOverflow => ("trap.stack", "called itself too deeply: its stack is full"),
        Trap::MemoryOutOfBounds => ("trap.memory", "reached beyond its memory"),
        Trap::TableOutOfBounds | Trap::IndirectCallToNull | Trap::BadSignature => {
            ("trap.call", "called a function that is not there")
        }
        Trap::IntegerDivisionByZero => ("trap.division", "divided by zero"),
        Trap::IntegerOverflow | Trap::BadConversionToInteger => {
            ("trap.number", "made a number that does not fit its type")
        }
        Trap::CannotEnterComponent | Trap::CannotLeaveComponent => {
            ("abi", "called the host where the contract does not allow it")
        }
        Trap::StringOutOfBounds | Trap::ListOutOfBounds => {
            ("abi", "passed a text or list that is not in its memory")
        }
        Trap::UnalignedPointer | Trap::InvalidDiscriminant | Trap::InvalidChar => {
            ("abi", "passed something that is no value of the contract's types")
        }
        _ => ("trap.other", "did something that WebAssembly does not allow"),
    }
}

/// Adds where it happened and what the rule said last.
fn told(code: &str, mut message: String, error: &wasmtime::Error, guest: &Guest) -> Failure {
    let frame = error.downcast_ref::<WasmBacktrace>().and_then(|trace| trace.frames().first());
    if let Some(name) = frame.and_then(wasmtime::FrameInfo::func_name) {
        let end = name.floor_char_boundary(limits::NAME_BYTES_MAX);
        message = format!("{message}, in `{}`", shortened(&name[..end]));
    }
    if let Some(line) = guest.last_words() {
        message = format!("{message}; its last line: {line}");
    }
    Failure { code: code.to_owned(), message }
}

/// The error that a rule returned itself.
pub(super) fn of_rule(error: &Error) -> Failure {
    let fit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let code: String = error.code.chars().filter(fit).take(limits::RULE_CODE_CHARS_MAX).collect();
    let code = if code.is_empty() { "error" } else { &code };
    let message = shortened(&error.message);
    Failure { code: format!("rule.{code}"), message: format!("the rule says: {message}") }
}

/// A panic of the host, which a rule must not be able to cause; it costs the rule its instance.
pub(super) fn of_panic(panic: &(dyn Any + Send)) -> Failure {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let said = shortened(said.unwrap_or("no words"));
    let message = format!("the host broke while the rule ran, a fault of fieldgate: {said}");
    Failure { code: "host".to_owned(), message }
}
