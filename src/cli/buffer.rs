//! `fieldgate buffer`: what waits for the uplink, with and without the daemon.
