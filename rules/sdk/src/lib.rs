//! Write rules for the fieldgate gateway.
//!
//! A rule sees readings and emits readings. It has parameters, state and timers, no files, no
//! network, and no clock but the readings' own; so the same readings give the same output on every
//! machine, and a recording is a test. The smallest useful rule is about this long:
//!
//! ```
//! #![no_std]
//! use fieldgate_rule::prelude::*;
//!
//! /// Sends a reading when it moved by more than `band`, or after `heartbeat`.
//! #[derive(Params)]
//! struct Deadband {
//!     /// Smallest change worth sending, in the point's unit.
//!     #[param(default = 0.1, min = 0.0)]
//!     band: f64,
//!     /// A reading is sent at least this often.
//!     #[param(default = "10m")]
//!     heartbeat: Duration,
//! }
//!
//! #[derive(State, Default)]
//! struct Last(Option<(Timestamp, f64)>);
//!
//! #[rule(state = Last)]
//! impl Rule for Deadband {
//!     fn reading(&self, r: Reading, last: &mut Last, out: &mut Out) {
//!         let Some(now) = r.number() else { return out.emit(r) };
//!         let quiet = last.0.is_some_and(|(at, then)| {
//!             (now - then).abs() <= self.band && r.at - at < self.heartbeat
//!         });
//!         if !quiet {
//!             last.0 = Some((r.at, now));
//!             out.emit(r);
//!         }
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Each series has a state of its own. It is loaded when its first reading comes and written back
//! once per batch, so state costs little; it is committed with the readings that were emitted, so it
//! survives whatever happens to the gateway. The memory of the rule itself is nothing to rely on.
//!
//! Compiled for anything but WebAssembly, the SDK talks to a host in memory (`testing`), so a rule
//! is tested, debugged and measured as plain Rust.
#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "testing", feature = "std", not(target_family = "wasm")))]
extern crate std;

// The macros name this crate by its name, in here too.
extern crate self as fieldgate_rule;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod abi;
pub mod calc;
mod guest;
mod manifest;
mod out;
mod params;
mod reading;
mod rule;
mod state;
mod sys;
#[cfg(all(feature = "testing", not(target_family = "wasm")))]
pub mod testing;
mod whole;

pub use fieldgate_rule_macros::{Choice, Params, State, rule};
pub use out::{Declare, Out, Output};
pub use params::{Param, ParamType, Params};
pub use reading::{NoData, Quality, Reading, Series, Timestamp, Value};
pub use rule::Rule;
pub use state::State;
pub use sys::{Level, Stream};
pub use whole::{BatchRule, Context, Fired, Host};

/// What the macros need of this crate, and nobody else.
#[doc(hidden)]
pub mod private {
    pub use crate::guest::{Exported, Guest, PerSeries};
    pub use crate::manifest::{bytes_of, decimal, length_of, str_of};
    pub use crate::params::{Text, one};
    pub use crate::whole::Whole;
    pub use alloc::string::String;
    pub use alloc::vec;
    pub use alloc::vec::Vec;
}

/// Everything a rule usually names.
pub mod prelude {
    pub use crate::{
        BatchRule, Choice, Context, Declare, Error, Fired, Host, Level, NoData, Out, Output, Param,
        Params, Quality, Reading, Rule, Series, State, Stream, Timestamp, Value, rule,
    };
    pub use alloc::borrow::ToOwned;
    pub use alloc::boxed::Box;
    pub use alloc::collections::{BTreeMap, VecDeque};
    pub use alloc::string::{String, ToString};
    pub use alloc::vec::Vec;
    pub use alloc::{format, vec};
    pub use core::time::Duration;
}

/// Why a rule refuses: `code` is a dotted word for machines, `message` a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Such as `expression.syntax`.
    pub code: alloc::string::String,
    /// Such as "the expression ends after `+`".
    pub message: alloc::string::String,
}

impl Error {
    /// An error of this code and sentence.
    pub fn new(
        code: impl Into<alloc::string::String>,
        message: impl Into<alloc::string::String>,
    ) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}
