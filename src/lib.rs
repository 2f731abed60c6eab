//! fieldgate reads local sensors, keeps their readings safe and sends them on.
//!
//! One thing flows: a [`reading::Reading`], in groups, downhill from a source through the
//! pipeline into the store. There it becomes part of a [`batch`] by being committed, and only a
//! committed batch can be handed to the uplink. So nothing that is not on disk is ever sent, and
//! the bytes on disk are the bytes sent.
//!
//! The rooms, from the ground up (arrows point down only; `tests/tidy.rs` holds that):
//!
//! - floor 0: [`limits`] every bound with its reason; [`reading`] the thing that flows;
//!   [`batch`] the wire format; [`ranges`] sets of sequence numbers; [`clock`] wall time;
//!   [`backoff`] pauses before another try; [`secret`] where a password is kept; [`error`] exit
//!   codes; [`state`] what rules leave behind; [`events`] everything an operator may be told;
//!   [`mqtt`] the broker session that uplink and zigbee2mqtt share
//! - floor 1: [`sources`] one task a bus; [`rules`] WASM that operators push; [`store`] SQLite behind
//!   one thread; [`uplink`] batches to the broker, acknowledged one by one; [`api`] the daemon's own
//!   socket; `receive` the other end, with feature `receive`
//! - floor 2: [`pipeline`] deadbands on the way to the store; [`config`] the file as typed, then
//!   resolved, all faults at once
//! - floor 3: [`gateway`] the wiring board, the only place that makes channels and spawns tasks;
//!   [`demo`] the same river with simulated devices and a broker of its own
//! - floor 4: [`cli`], and `main.rs`, the door
#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        clippy::too_many_lines
    )
)]

pub mod api;
pub mod backoff;
pub mod batch;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod error;
pub mod events;
pub mod gateway;
pub mod limits;
pub mod mqtt;
pub mod pipeline;
pub mod ranges;
pub mod reading;
#[cfg(feature = "receive")]
pub mod receive;
pub mod rules;
pub mod secret;
pub mod sources;
pub mod state;
pub mod store;
pub mod uplink;
