//! Names of the metrics, each with the label `projection`.

/// Events applied.
pub(crate) const EVENTS: &str = "weft_projection_events_total";
/// Records that were applied before.
pub(crate) const REPEATED: &str = "weft_projection_repeated_total";
/// Length of the transactions that write rows and checkpoint.
pub(crate) const TRANSACTION_SECONDS: &str = "weft_projection_transaction_seconds";
/// When the newest applied event was recorded, in seconds since 1970: what the lag is measured from.
pub(crate) const NEWEST_EVENT_SECONDS: &str = "weft_projection_newest_event_seconds";
/// Streams parked.
pub(crate) const PARKED: &str = "weft_projection_parked_total";
/// Events that Kafka did not bring and the log did.
pub(crate) const READ_FROM_LOG: &str = "weft_projection_read_from_log_total";
