//! Modbus, client side.

pub mod settings;
