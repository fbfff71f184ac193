//! Aggregates: commands, events, errors, decide and apply. No I/O, no clock, no random.
