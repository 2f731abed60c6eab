//! `fieldgate ports`: the serial ports of this machine, and the path to write into a configuration.
