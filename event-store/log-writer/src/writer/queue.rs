//! Commands that wait for their batch.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::append::{Command, Outcome};
use crate::error::AppendError;

/// What one batch holds at most; a larger command goes alone.
const BATCH_COMMANDS: usize = 256;
const BATCH_EVENTS: usize = 2_000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// What waits at most, beside the configured number of commands.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// For how many batches a committed stream is remembered: longer than a command can wait behind others.
const REMEMBERED_BATCHES: u64 = 64;

type Answer = oneshot::Sender<Result<Outcome, AppendError>>;

/// Who disposes of a command that waits: the writer that sends it, or the caller that withdraws it.
#[derive(Clone, Debug, Default)]
pub(super) struct Claimed(Arc<AtomicBool>);

impl Claimed {
    /// Whether the asker is the first.
    pub(super) fn claim(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// One command with its caller.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) command: Arc<Command>,
    pub(super) answer: Answer,
    bytes: usize,
    expires: Instant,
    claimed: Claimed,
}

impl std::borrow::Borrow<Command> for Job {
    fn borrow(&self) -> &Command {
        &self.command
    }
}

impl Job {
    pub(super) fn new(command: Arc<Command>, expires: Instant, answer: Answer) -> (Self, Claimed) {
        let claimed = Claimed::default();
        let job = Self {
            bytes: command.bytes(),
            command,
            answer,
            expires,
            claimed: claimed.clone(),
        };
        (job, claimed)
    }

    pub(super) fn end(self, outcome: Result<Outcome, AppendError>) {
        // Nobody listens any more: its caller was dropped, and settles by its idempotency key.
        let _ = self.answer.send(outcome);
    }

    /// What only one command of a batch may touch: its streams and its idempotency key, as hashes. Two that collide
    /// only wait for each other.
    fn exclusive(&self) -> impl Iterator<Item = u64> {
        let key = self.command.key.iter().map(|(key, _)| hash(&key.digest));
        key.chain(self.streams().map(|(stream, _)| stream))
    }

    /// Its streams with the sequences it writes.
    pub(super) fn streams(&self) -> impl Iterator<Item = (u64, i64)> {
        let events = self.command.events.iter();
        events.map(|event| (hash(&(event.aggregate_type, &event.aggregate_id)), event.sequence))
    }
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Where this writer has just left streams: a command that was decided before need not be sent to be known to fail.
#[derive(Debug, Default)]
pub(super) struct Recent {
    batch: u64,
    streams: HashMap<u64, (i64, u64)>,
}

impl Recent {
    pub(super) fn committed(&mut self, job: &Job) {
        for (stream, sequence) in job.streams() {
            self.streams.insert(stream, (sequence, self.batch));
        }
    }

    fn overtakes(&self, job: &Job) -> bool {
        let taken = |(stream, sequence)| self.streams.get(&stream).is_some_and(|(last, _)| *last >= sequence);
        job.streams().any(taken)
    }

    fn next_batch(&mut self) {
        self.batch += 1;
        if self.batch.is_multiple_of(REMEMBERED_BATCHES) {
            let oldest = self.batch - REMEMBERED_BATCHES;
            self.streams.retain(|_, (_, batch)| *batch >= oldest);
        }
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    most: usize,
    /// What waits should be written within this.
    wait: Duration,
}

#[derive(Debug)]
struct Waiting {
    jobs: VecDeque<Job>,
    bytes: usize,
    closed: bool,
    /// Commands that the next batch has room for, as far as is known.
    batch: usize,
    /// How long the last batches took, the newest counting most.
    seconds: Option<f64>,
}

impl Queue {
    pub(super) fn new(most: usize, wait: Duration) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                jobs: VecDeque::new(),
                bytes: 0,
                closed: false,
                batch: BATCH_COMMANDS,
                seconds: None,
            }),
            arrived: Notify::new(),
            most,
            wait,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `Overloaded` where too much waits already.
    pub(super) fn push(&self, job: Job) -> Result<(), AppendError> {
        let mut waiting = self.lock();
        if self.is_full(&waiting) {
            // Those that were withdrawn hold no places.
            waiting.jobs.retain(|job| !job.answer.is_closed());
            waiting.bytes = waiting.jobs.iter().map(|job| job.bytes).sum();
            if self.is_full(&waiting) {
                return Err(AppendError::Overloaded);
            }
        }
        waiting.bytes += job.bytes;
        waiting.jobs.push_back(job);
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    fn is_full(&self, waiting: &Waiting) -> bool {
        waiting.jobs.len() >= self.bound(waiting) || waiting.bytes > QUEUE_BYTES
    }

    /// Commands that can be written within `wait` at the pace of the last batches, and one batch at least: a batch that
    /// was not full says little of how long a full one takes, so the bound is high until there is load, and falls with it.
    fn bound(&self, waiting: &Waiting) -> usize {
        let batches = waiting
            .seconds
            .map_or(f64::INFINITY, |one| self.wait.as_secs_f64() / one);
        // A float becomes the nearest number there is.
        ((batches.max(1.0) * waiting.batch as f64) as usize).min(self.most)
    }

    /// Whether a command would be refused now.
    pub(super) fn refuses(&self) -> bool {
        self.is_full(&self.lock())
    }

    /// Tells how long a batch took.
    pub(super) fn wrote(&self, took: Duration) {
        const NEWEST: f64 = 0.2;
        let (mut waiting, took) = (self.lock(), took.as_secs_f64());
        waiting.seconds = Some(waiting.seconds.map_or(took, |before| before + NEWEST * (took - before)));
    }

    /// Waits for commands; `false` when there will be no more.
    pub(super) async fn arrived(&self) -> bool {
        loop {
            {
                let waiting = self.lock();
                if !waiting.jobs.is_empty() {
                    return true;
                }
                if waiting.closed {
                    return false;
                }
            }
            self.arrived.notified().await;
        }
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// The next batch, in the order of arrival. What shares a stream or a key with an earlier one stays, and so do all
    /// behind it on that stream; who was overtaken by an earlier batch, or waited too long, is told so.
    pub(super) fn take(&self, recent: &mut Recent) -> Vec<Job> {
        recent.next_batch();
        let now = Instant::now();
        let mut waiting = self.lock();
        let mut batch = Vec::with_capacity(waiting.jobs.len().min(BATCH_COMMANDS));
        let mut kept = VecDeque::new();
        let mut busy = HashSet::new();
        let (mut events, mut bytes) = (0, 0);
        waiting.batch = BATCH_COMMANDS;
        while let Some(job) = waiting.jobs.pop_front() {
            let (its_events, its_bytes) = (job.command.events.len(), job.bytes);
            let full =
                batch.len() == BATCH_COMMANDS || events + its_events > BATCH_EVENTS || bytes + its_bytes > BATCH_BYTES;
            if full && !batch.is_empty() {
                waiting.jobs.push_front(job);
                // Large ones: it is fewer than usual.
                waiting.batch = batch.len();
                break;
            }
            if job.answer.is_closed() {
                waiting.bytes -= its_bytes;
            } else if recent.overtakes(&job) || job.expires <= now {
                waiting.bytes -= its_bytes;
                // A caller that withdraws at this moment hears that it did.
                if job.claimed.claim() {
                    let overtaken = recent.overtakes(&job);
                    job.end(Err(if overtaken {
                        AppendError::Conflict
                    } else {
                        AppendError::Overloaded
                    }));
                }
            } else if !insert_all(&mut busy, job.exclusive()) {
                kept.push_back(job);
            } else if job.claimed.claim() {
                waiting.bytes -= its_bytes;
                events += its_events;
                bytes += its_bytes;
                batch.push(job);
            } else {
                waiting.bytes -= its_bytes;
            }
        }
        while let Some(job) = kept.pop_back() {
            waiting.jobs.push_front(job);
        }
        batch
    }

    /// Answers everybody who waits.
    pub(super) fn refuse_all(&self, error: &AppendError) {
        let jobs = {
            let mut waiting = self.lock();
            waiting.bytes = 0;
            std::mem::take(&mut waiting.jobs)
        };
        for job in jobs {
            if job.claimed.claim() {
                job.end(Err(error.clone()));
            }
        }
    }
}

/// Whether all were new; those that were are in `set` in either case.
fn insert_all(set: &mut HashSet<u64>, mut items: impl Iterator<Item = u64>) -> bool {
    let mut seen_here = Vec::new();
    let mut all_new = true;
    for item in items.by_ref() {
        // A command's several events on one stream are its own.
        if !seen_here.contains(&item) {
            seen_here.push(item);
            all_new &= set.insert(item);
        }
    }
    all_new
}
