//! Folded streams in memory. What is here may be behind the log, because other processes append too: it serves as the
//! ground to catch up from, or is decided on at once, where the append's optimistic lock finds out.

use std::any::Any;
use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};
use weft_domain::LogAggregate;
use weft_log_reader::Loaded;
use weft_platform::config::LogSection;

pub(crate) mod metric {
    pub(crate) const HITS: &str = "weft_log_cache_hits_total";
    pub(crate) const MISSES: &str = "weft_log_cache_misses_total";
    pub(crate) const BYTES: &str = "weft_log_cache_bytes";
}

/// What an entry takes beside its state: key, counters and links of the cache itself.
const OVERHEAD: usize = 300;

/// Streams that the cache is prepared for, to begin with.
const EXPECTED_STREAMS: usize = 10_000;

type Key = (&'static str, Box<str>);

/// A key to look for, without an allocation.
#[derive(Hash)]
struct Wanted<'i>(&'static str, &'i str);

impl Equivalent<Key> for Wanted<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.1 == &*key.1 && self.0 == key.0
    }
}

#[derive(Clone)]
struct Entry {
    /// `Arc<Loaded<A>>` of the key's aggregate.
    loaded: Arc<dyn Any + Send + Sync>,
    version: i64,
    bytes: u32,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        entry.bytes.into()
    }
}

#[derive(Clone)]
pub(crate) struct StreamCache {
    entries: Arc<Cache<Key, Entry, Bytes>>,
    log: Arc<str>,
}

impl StreamCache {
    pub(crate) fn new(log: &LogSection) -> Self {
        Self {
            entries: Arc::new(Cache::with_weighter(EXPECTED_STREAMS, log.cache_bytes, Bytes)),
            log: Arc::from(log.name.as_str()),
        }
    }

    pub(crate) fn get<A: LogAggregate>(&self, id: &str) -> Option<Arc<Loaded<A>>> {
        let found = self.entries.get(&Wanted(A::TYPE, id));
        let loaded = found.and_then(|entry| entry.loaded.downcast().ok());
        let name = if loaded.is_some() { metric::HITS } else { metric::MISSES };
        metrics::counter!(name, "aggregate" => A::TYPE).increment(1);
        loaded
    }

    /// Remembers a stream that exists; never an older state over a newer one, but for a race that costs one retry.
    pub(crate) fn put<A: LogAggregate>(&self, id: &str, loaded: Loaded<A>) {
        let known = self.entries.peek(&Wanted(A::TYPE, id)).map_or(0, |entry| entry.version);
        if loaded.version <= known {
            return;
        }
        let bytes = OVERHEAD + 2 * id.len() + size_of::<Loaded<A>>() + heap_bytes(&loaded.state);
        let entry = Entry {
            version: loaded.version,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            loaded: Arc::new(loaded),
        };
        self.entries.insert((A::TYPE, id.into()), entry);
        metrics::gauge!(metric::BYTES, "log" => Arc::clone(&self.log)).set(self.entries.weight() as f64);
    }

    pub(crate) fn clear(&self) {
        self.entries.clear();
    }
}

/// About what a state holds outside of itself: the length of its JSON, whose field names stand for the allocator's share.
fn heap_bytes(state: &impl serde::Serialize) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // A state that cannot be written down is not cached for long, whatever it weighs.
    if serde_json::to_writer(&mut counter, state).is_err() {
        return usize::MAX / 2;
    }
    counter.0
}
