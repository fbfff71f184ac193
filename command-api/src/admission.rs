//! Whether another command can be taken. The log's writers refuse what they could not write soon; this refuses where the
//! process itself is behind, before a command costs anything: who is refused hears so at once, and who is taken is not
//! kept waiting by those who will be refused.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Commands at work that are never too many; from there on it is looked whether the process is behind.
const FEW: usize = 16;
/// Commands at work that fill a batch of the log: more only where tasks run in time.
const BATCH: usize = 256;
/// How late a task may be run.
const LATE: Duration = Duration::from_millis(15);
/// How late it may be run while a batch is at work: an answered batch wakes its callers all at once. Beyond this fewer are
/// taken, by as much as it is later, so that refusals get the time they need.
const VERY_LATE: Duration = Duration::from_millis(40);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    at_work: AtomicUsize,
    /// More than `FEW` are at work.
    many: Notify,
    since: Instant,
    /// When the task that looks should run next, in microseconds since `since`; `u64::MAX`: it need not.
    due: AtomicU64,
    /// How late it was the last time, in microseconds.
    late: AtomicU64,
}

/// A command at work, until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted(Arc<Inner>);

impl Admission {
    /// Call it inside a Tokio runtime: it is this runtime's lateness that counts.
    pub(crate) fn start() -> Self {
        let inner = Arc::new(Inner {
            at_work: AtomicUsize::new(0),
            many: Notify::new(),
            since: Instant::now(),
            due: AtomicU64::new(u64::MAX),
            late: AtomicU64::new(0),
        });
        tokio::spawn(look(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// `None`: more is at work than gets done.
    pub(crate) fn enter(&self) -> Option<Admitted> {
        let at_work = self.0.at_work.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(Arc::clone(&self.0));
        if at_work < FEW {
            return Some(admitted);
        }
        if at_work == FEW {
            self.0.many.notify_one();
        }
        (at_work < most(self.0.lateness())).then_some(admitted)
    }
}

/// Commands that may be at work where tasks are run so late.
fn most(lateness: Duration) -> usize {
    if lateness < LATE {
        usize::MAX
    } else if lateness < VERY_LATE {
        BATCH
    } else {
        // A float becomes the nearest number there is.
        ((BATCH as f64 * VERY_LATE.as_secs_f64() / lateness.as_secs_f64()) as usize).max(FEW)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Of the last look, or of the one that should have been by now.
    fn lateness(&self) -> Duration {
        let overdue = self.now().saturating_sub(self.due.load(Ordering::Relaxed));
        Duration::from_micros(overdue.max(self.late.load(Ordering::Relaxed)))
    }
}

/// Finds out how late a task is run that wants to be run now, as long as many commands are at work.
async fn look(inner: Weak<Inner>) {
    while let Some(inner) = inner.upgrade() {
        if inner.at_work.load(Ordering::Relaxed) <= FEW {
            inner.due.store(u64::MAX, Ordering::Relaxed);
            inner.late.store(0, Ordering::Relaxed);
            inner.many.notified().await;
        }
        let due = Instant::now() + LOOK_EVERY;
        let micros = u64::try_from((due - inner.since).as_micros()).unwrap_or(u64::MAX);
        inner.due.store(micros, Ordering::Relaxed);
        sleep_until(due).await;
        inner.late.store(inner.now().saturating_sub(micros), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_tasks_are_run_the_fewer_commands_are_taken() {
        let at = |millis| most(Duration::from_millis(millis));
        assert_eq!([at(0), at(14)], [usize::MAX; 2]);
        assert_eq!([at(15), at(39), at(40), at(80), at(10_000)], [256, 256, 256, 128, 16]);
    }

    #[tokio::test]
    async fn a_process_that_is_behind_takes_few() {
        let admission = Admission::start();
        let mut at_work: Vec<_> = (0..=FEW).map(|_| admission.enter().unwrap()).collect();
        tokio::task::yield_now().await;
        // What keeps the runtime busy.
        std::thread::sleep(LOOK_EVERY + 20 * VERY_LATE);
        assert!(admission.enter().is_none());
        at_work.truncate(FEW - 1);
        assert!(admission.enter().is_some());
    }

    #[tokio::test]
    async fn a_process_that_is_not_behind_takes_what_comes() {
        let admission = Admission::start();
        let at_work: Vec<_> = (0..8 * BATCH).map_while(|_| admission.enter()).collect();
        assert_eq!(at_work.len(), 8 * BATCH);
    }
}
