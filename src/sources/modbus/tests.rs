//! Whole buses against scripted devices.
