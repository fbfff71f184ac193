//! Folded streams in memory. What is here may be behind the log, because other processes append too: it serves as the
//! ground to catch up from, or is decided on at once, where the append's optimistic lock finds out.

use std::any::Any;
use std::sync::Arc;

use moka::future::Cache;
use weft_domain::LogAggregate;
use weft_log_reader::Loaded;

pub(crate) mod metric {
    pub(crate) const HITS: &str = "weft_log_cache_hits_total";
    pub(crate) const MISSES: &str = "weft_log_cache_misses_total";
    pub(crate) const BYTES: &str = "weft_log_cache_bytes";
}

/// What an entry takes beside its state: key, counters and links of the cache itself.
const OVERHEAD: usize = 300;

type Key = (&'static str, String);

#[derive(Clone)]
struct Entry {
    /// `Arc<Loaded<A>>` of the key's aggregate.
    loaded: Arc<dyn Any + Send + Sync>,
    version: i64,
    bytes: u32,
}

#[derive(Clone)]
pub(crate) struct StreamCache {
    entries: Cache<Key, Entry>,
}

impl StreamCache {
    pub(crate) fn new(bytes: u64) -> Self {
        let entries = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, entry: &Entry| entry.bytes)
            .build();
        Self { entries }
    }

    pub(crate) async fn get<A: LogAggregate>(&self, id: &str) -> Option<Arc<Loaded<A>>> {
        let found = self.entries.get(&(A::TYPE, id.to_owned())).await;
        let loaded = found.and_then(|entry| entry.loaded.downcast().ok());
        let name = if loaded.is_some() { metric::HITS } else { metric::MISSES };
        metrics::counter!(name, "aggregate" => A::TYPE).increment(1);
        loaded
    }

    /// Remembers a stream that exists; never an older state over a newer one, but for a race that costs one retry.
    pub(crate) async fn put<A: LogAggregate>(&self, id: &str, loaded: Loaded<A>) {
        let key = (A::TYPE, id.to_owned());
        let known = self.entries.get(&key).await.map_or(0, |entry| entry.version);
        if loaded.version <= known {
            return;
        }
        let bytes = OVERHEAD + 2 * id.len() + size_of::<Loaded<A>>() + heap_bytes(&loaded.state);
        let entry = Entry {
            version: loaded.version,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            loaded: Arc::new(loaded),
        };
        self.entries.insert(key, entry).await;
        metrics::gauge!(metric::BYTES).set(self.entries.weighted_size() as f64);
    }

    pub(crate) fn clear(&self) {
        self.entries.invalidate_all();
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
