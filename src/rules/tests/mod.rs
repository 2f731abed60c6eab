//! The rule host against rules made for it: good ones, and all the bad ones that we could think of.

mod files;
mod hostile;
pub mod kit;
mod running;
pub mod wild;
