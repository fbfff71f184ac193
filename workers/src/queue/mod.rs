//! The durable queues in the log's database: how events become rows, and how workers take rows and give them back.
//!
//! Rows follow the log. Every row knows the version (sequence) of its stream that it shows, and a change is written only
//! over an older one; so events may come twice, late, or all over again from the first, and workers may write ahead of
//! the feed what they have just committed themselves.
//!
//! Whoever locks rows takes them in one order, so that two never wait for each other: lanes, messages, receipts, jobs,
//! and of each table by its key. A plain `delete` or `update` of many rows locks them in the order of its plan, which
//! differs from one to the next: the rows are locked first, by an ordered `select … for update`.

mod accounts;
mod apply;
mod facts;
mod jobs;
mod lanes;
mod messages;
mod receipts;

pub(crate) use accounts::{AccountRow, load_accounts};
pub(crate) use apply::{Applied, Source, apply, apply_what_fits};
pub(crate) use facts::Fact;
pub(crate) use jobs::{Job, JobKind, JobResult};
pub(crate) use lanes::{
    Lane, LaneChange, Release, Turn, TurnOptions, claim_lanes, release_lane, renew_lanes, take_turn,
};
pub(crate) use messages::{MessageState, NOT_READY, QueuedMessage, RowState, load_messages, remove as remove_messages};
pub(crate) use receipts::{KnownMessage, OwnSend, Receipt, known_messages, park, purge_parked, purge_receipts};

/// Held in shared mode by whoever changes or takes from the queues for the length of one transaction, and exclusively
/// by a rebuild.
pub(crate) const REBUILD_LOCK: i64 = 0x7765_6674_0000_0001;
