//! Loads of concurrent callers, read together: one query for many streams, and a stream that several want once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgRow;
use tokio::sync::{Notify, oneshot};
use weft_log_reader::{Wanted, read_streams};
use weft_platform::config::LogSection;

use crate::error::ReadError;
use crate::pool::{Line, Probe};

/// Streams read at once.
const BATCH_STREAMS: usize = 256;

type Rows = Arc<Vec<PgRow>>;
type Answer = oneshot::Sender<Result<Rows, ReadError>>;

/// The readers of one process. They end when this is dropped.
pub(crate) struct Loader {
    queue: Arc<Queue>,
    deadline: Duration,
}

struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    most: usize,
}

#[derive(Default)]
struct Waiting {
    /// By stream: after which version, and for whom.
    streams: HashMap<(&'static str, String), (i64, Vec<Answer>)>,
    callers: usize,
    closed: bool,
}

impl Loader {
    /// Call it inside a Tokio runtime.
    pub(crate) fn start(log: &LogSection, probe: &Arc<Probe>) -> Self {
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            most: log.queue_commands * log.writers.max(1),
        });
        for _ in 0..log.writers.max(1) {
            tokio::spawn(run(Arc::clone(&queue), Arc::clone(probe)));
        }
        Self {
            queue,
            deadline: Duration::from_millis(u64::from(log.append_deadline_ms)),
        }
    }

    /// Rows of a stream's events, at least those after `after`, in order; no more than a page of them
    /// (`weft_log_reader::PAGE`).
    pub(crate) async fn events(&self, kind: &'static str, id: &str, after: i64) -> Result<Rows, ReadError> {
        let (answer, answered) = oneshot::channel();
        self.queue.push(kind, id, after, answer)?;
        match tokio::time::timeout(self.deadline, answered).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(_)) => Err(ReadError::Unavailable("the reader ended".to_owned())),
            Err(_) => Err(ReadError::Overloaded),
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.queue.change(|waiting| waiting.closed = true);
        self.queue.arrived.notify_one();
    }
}

impl Queue {
    fn change<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        // Nothing panics while it holds the lock.
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, kind: &'static str, id: &str, after: i64, answer: Answer) -> Result<(), ReadError> {
        self.change(|waiting| {
            if waiting.callers >= self.most {
                return Err(ReadError::Overloaded);
            }
            waiting.callers += 1;
            match waiting.streams.entry((kind, id.to_owned())) {
                Entry::Occupied(mut stream) => {
                    let (least, callers) = stream.get_mut();
                    *least = after.min(*least);
                    callers.push(answer);
                }
                Entry::Vacant(stream) => {
                    stream.insert((after, vec![answer]));
                }
            }
            Ok(())
        })?;
        self.arrived.notify_one();
        Ok(())
    }

    /// The next streams to read; `None` when there will be no more.
    async fn take(&self) -> Option<Vec<(Wanted, Vec<Answer>)>> {
        loop {
            let taken = self.change(|waiting| {
                let keys: Vec<_> = waiting.streams.keys().take(BATCH_STREAMS).cloned().collect();
                let mut taken = Vec::with_capacity(keys.len());
                for (kind, id) in keys {
                    if let Some((after, callers)) = waiting.streams.remove(&(kind, id.clone())) {
                        waiting.callers -= callers.len();
                        taken.push((Wanted { kind, id, after }, callers));
                    }
                }
                (!taken.is_empty() || !waiting.closed).then_some(taken)
            });
            let Some(taken) = taken else {
                // The next reader hears it too.
                self.arrived.notify_one();
                return None;
            };
            if !taken.is_empty() {
                return Some(taken);
            }
            self.arrived.notified().await;
        }
    }
}

async fn run(queue: Arc<Queue>, probe: Arc<Probe>) {
    let mut line = Line::new(probe);
    while let Some(mut taken) = queue.take().await {
        // Who gave up meanwhile needs nothing.
        taken.retain(|(_, callers)| callers.iter().any(|caller| !caller.is_closed()));
        let read = match line.connection().await {
            Ok(connection) => {
                let wanted: Vec<&Wanted> = taken.iter().map(|(wanted, _)| wanted).collect();
                read_streams(connection, &wanted).await
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(streams) => {
                line.used();
                for ((_, callers), rows) in taken.into_iter().zip(streams) {
                    let rows = Arc::new(rows);
                    for caller in callers {
                        // Who does not listen any more needs nothing.
                        let _ = caller.send(Ok(Arc::clone(&rows)));
                    }
                }
            }
            Err(error) => {
                line.cut();
                for caller in taken.into_iter().flat_map(|(_, callers)| callers) {
                    let _ = caller.send(Err(ReadError::Unavailable(error.to_string())));
                }
            }
        }
    }
}
