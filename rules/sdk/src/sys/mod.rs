//! The calls of the contract: WebAssembly's imports, or a host in memory everywhere else.

#[cfg(not(target_family = "wasm"))]
mod memory;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
pub use memory::*;
#[cfg(target_family = "wasm")]
pub use wasm::*;

/// Where an output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stream {
    /// With the readings.
    Data = 0,
    /// With the events, which are the last to be dropped.
    Event = 1,
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// For the author.
    Debug = 0,
    /// What was asked for happened.
    Info = 1,
    /// Odd, nothing lost.
    Warn = 2,
    /// Somebody should look.
    Error = 3,
}
