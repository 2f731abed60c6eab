//! Batches to the broker.

pub mod settings;
