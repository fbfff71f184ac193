//! What has landed for others to rely on, and still has to hold.

mod examples;
mod landed_events;
