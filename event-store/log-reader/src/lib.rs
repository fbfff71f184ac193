//! Reads the log: load, tail, upcast.
