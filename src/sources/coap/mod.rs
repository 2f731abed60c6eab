//! CoAP, both ways round.

pub mod settings;
