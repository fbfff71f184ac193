//! The live feed behind subscriptions.
//!
//! One Kafka consumer per process ([`feed`]) tells which streams have changed. Those that somebody listens to become
//! dirty; when the views' checkpoints tell that they have the events, [`poll`] reads the rows, all of a tenant in one
//! transaction, until each has reached the version of its event, and hands them to the [`hub`], where each subscriber has a [`mailbox`] that merges.
//!
//! Kafka therefore never carries what a subscriber sees: he sees the view, at the moment it shows the change.

mod feed;
mod hub;
mod mailbox;
mod poll;

use std::time::Duration;

/// First time between two looks at one row where no checkpoint tells that the view has its event.
const FIRST_LOOK: Duration = Duration::from_millis(250);

pub(crate) use feed::run as run_feed;
pub(crate) use hub::{Hub, MessageFilter, Subscription};
pub(crate) use mailbox::Delivery;
pub(crate) use poll::run as run_poll;
