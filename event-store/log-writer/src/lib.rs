//! Writes the log: append, claims, idempotency, sealing, the Executor, the relay.
