//! Reads the log: load, tail, upcast.

mod head;
mod load;
mod stored;
mod tail;
pub mod typed;
mod upcast;
pub mod verify;

pub use head::{StreamHead, heads, newest};
pub use load::{LoadError, Loaded, PAGE, Wanted, load, load_events, load_many, read_streams};
pub use stored::{Envelope, StoredEvent};
pub use tail::{RawEvent, Tail, read_raw_range, read_raw_stream};
