//! Group commit: what concurrent callers append is written in batches, one statement and one transaction each.
//!
//! A tenant's commands go to one writer. A writer takes what has arrived, without waiting for more, and writes it; what
//! arrives meanwhile is its next batch.

mod batch;
mod queue;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use tokio::sync::oneshot;
use tokio::time::Instant;
use weft_platform::clock::Clock;
use weft_platform::config::LogSection;

use crate::append::{Command, Outcome};
use crate::error::AppendError;
use crate::pool::{Line, Probe};
use queue::{Job, Queue};

/// The log's epoch, as far as this process has seen it; 0: not yet.
#[derive(Debug, Default)]
pub(crate) struct Epoch(AtomicI32);

impl Epoch {
    pub(crate) fn get(&self) -> Option<i16> {
        i16::try_from(self.0.load(Ordering::Relaxed))
            .ok()
            .filter(|epoch| *epoch > 0)
    }

    fn set(&self, epoch: i16) {
        self.0.store(i32::from(epoch), Ordering::Relaxed);
    }
}

/// The writers of one process. They end when this is dropped, after what they have in hand.
pub(crate) struct Writers {
    queues: Vec<Arc<Queue>>,
    deadline: Duration,
}

/// What a writer works with.
pub(crate) struct Tools {
    pub(crate) probe: Arc<Probe>,
    pub(crate) clock: Clock,
    pub(crate) epoch: Arc<Epoch>,
    /// Told after each batch that wrote events.
    pub(crate) appended: Arc<tokio::sync::Notify>,
    /// Called when the log turns out to be of another epoch than what was decided on.
    pub(crate) forget: Box<dyn Fn() + Send + Sync>,
}

impl Writers {
    /// Call it inside a Tokio runtime.
    pub(crate) fn start(log: &LogSection, tools: Tools) -> Self {
        let tools = Arc::new(tools);
        let queues = (0..log.writers.max(1))
            .map(|_| {
                let wait = Duration::from_millis(u64::from(log.queue_wait_ms));
                let queue = Arc::new(Queue::new(log.queue_commands, wait));
                tokio::spawn(run(Arc::clone(&queue), Arc::clone(&tools)));
                queue
            })
            .collect();
        Self {
            queues,
            deadline: Duration::from_millis(u64::from(log.append_deadline_ms)),
        }
    }

    fn queue(&self, tenant: &str) -> &Queue {
        let mut hasher = DefaultHasher::new();
        tenant.hash(&mut hasher);
        &self.queues[(hasher.finish() % self.queues.len() as u64) as usize]
    }

    /// Whether a command of this tenant would be refused now.
    pub(crate) fn refuses(&self, tenant: &str) -> bool {
        self.queue(tenant).refuses()
    }

    /// Appends `command` with others of its time. `Overloaded`, at once or at the deadline: it was not sent to Postgres.
    ///
    /// Dropping the future withdraws a command that was not sent yet; one that was sent runs to its end.
    pub(crate) async fn append(&self, tenant: &str, command: Arc<Command>) -> Result<Outcome, AppendError> {
        let (answer, mut answered) = oneshot::channel();
        let expires = Instant::now() + self.deadline;
        let (job, claimed) = Job::new(command, expires, answer);
        self.queue(tenant).push(job)?;
        let lost = |_| AppendError::InDoubt("the writer ended".to_owned());
        tokio::select! {
            biased;
            outcome = &mut answered => return outcome.unwrap_or_else(|error| Err(lost(error))),
            () = tokio::time::sleep_until(expires) => {}
        }
        if claimed.claim() {
            return Err(AppendError::Overloaded);
        }
        // It is on its way: the answer comes with the statement's own time-out.
        answered.await.unwrap_or_else(|error| Err(lost(error)))
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        for queue in &self.queues {
            queue.close();
        }
    }
}

async fn run(queue: Arc<Queue>, tools: Arc<Tools>) {
    let mut line = Line::new(Arc::clone(&tools.probe));
    let mut committed = queue::Recent::default();
    while queue.arrived().await {
        // First the connection, then the batch: who withdraws while it is waited for has sent nothing.
        let connection: &mut PoolConnection<Postgres> = match line.connection().await {
            Ok(connection) => connection,
            Err(error) => {
                queue.refuse_all(&AppendError::Unavailable(error.to_string()));
                continue;
            }
        };
        let jobs = queue.take(&mut committed);
        if jobs.is_empty() {
            continue;
        }
        let began = Instant::now();
        let whole = batch::write(connection, &tools, jobs, &mut committed).await;
        queue.wrote(began.elapsed());
        if whole {
            line.used();
        } else {
            line.cut();
        }
    }
}
