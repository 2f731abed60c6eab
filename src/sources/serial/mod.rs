//! Framed serial devices.

pub mod settings;
