//! SQLite behind one thread.

pub mod settings;
