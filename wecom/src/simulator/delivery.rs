//! Posts callbacks to notify urls: per client in order and one at a time, repeated each second until answered.
//!
//! A callback is done when it is answered 2xx, or 404 (nobody lives at that url any more). It is given up after 10
//! minutes. A client whose url does not answer holds back only its own. The queues are in memory: a killed simulator
//! forgets what it had not told yet, as a killed instance does.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client as Http, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::callbacks::notify;

const REPEAT_EVERY: Duration = Duration::from_secs(1);
const GIVE_UP_AFTER: Duration = Duration::from_mins(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that wait behind one another are told in one callback, at most so many.
const MAX_MERGED: usize = 100;
/// Callbacks under way at once, over all clients.
const MAX_IN_FLIGHT: usize = 1_024;

/// One callback to be made.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    url: Arc<str>,
    notify_type: i64,
    data: Value,
    queued_at: Instant,
    /// Never merged with its neighbours: a duplicate is to arrive as a callback of its own.
    pub(super) alone: bool,
}

impl Pending {
    pub(super) fn new(url: &str, notify_type: i64, data: Value) -> Self {
        Self {
            url: Arc::from(url),
            notify_type,
            data,
            queued_at: Instant::now(),
            alone: false,
        }
    }

    fn merges_with(&self, next: &Self) -> bool {
        let syncs = self.notify_type == notify::MESSAGE_SYNC && next.notify_type == notify::MESSAGE_SYNC;
        syncs && !self.alone && !next.alone && self.url == next.url && self.data.is_array() && next.data.is_array()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Deliveries {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// A client's queue is there exactly while a task works it off.
    queues: Mutex<HashMap<String, VecDeque<Pending>>>,
    http: Http,
    permits: Semaphore,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Deliveries {
    pub(super) fn new(tasks: TaskTracker, shutdown: CancellationToken) -> Result<Self, reqwest::Error> {
        let http = Http::builder()
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(2))
            .timeout(ANSWER_TIMEOUT)
            .pool_max_idle_per_host(256)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let permits = Semaphore::new(MAX_IN_FLIGHT);
        let queues = Mutex::new(HashMap::new());
        Ok(Self {
            shared: Arc::new(Shared {
                queues,
                http,
                permits,
                tasks,
                shutdown,
            }),
        })
    }

    /// Puts a callback at the end of the client's queue.
    pub(super) fn push(&self, guid: &str, pending: Pending) {
        let mut queues = self.shared.queues();
        if let Some(queue) = queues.get_mut(guid) {
            queue.push_back(pending);
            return;
        }
        queues.insert(guid.to_owned(), VecDeque::from([pending]));
        drop(queues);
        let (shared, guid) = (Arc::clone(&self.shared), guid.to_owned());
        self.shared.tasks.spawn(async move {
            tokio::select! {
                () = shared.drain(&guid) => {}
                () = shared.shutdown.cancelled() => {}
            }
        });
    }

    /// Forgets what a client has not told yet.
    pub(super) fn forget(&self, guid: &str) {
        if let Some(queue) = self.shared.queues().get_mut(guid) {
            queue.clear();
        }
    }

    pub(super) fn forget_all(&self) {
        self.shared.queues().values_mut().for_each(VecDeque::clear);
    }
}

/// What one attempt posts.
struct Attempt {
    url: Arc<str>,
    body: String,
    /// How many callbacks of the queue's head it tells.
    merged: usize,
    queued_at: Instant,
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Pending>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works a client's queue off; ends when it is empty.
    async fn drain(&self, guid: &str) {
        while let Some(attempt) = self.head(guid) {
            loop {
                let started = Instant::now();
                if self.post(&attempt).await {
                    break;
                }
                if attempt.queued_at.elapsed() >= GIVE_UP_AFTER {
                    tracing::warn!(%guid, url = %attempt.url, "a callback was never taken and is given up");
                    break;
                }
                sleep_until(started + REPEAT_EVERY).await;
                if self.is_empty(guid) {
                    // Forgotten meanwhile.
                    break;
                }
            }
            self.done(guid, attempt.merged);
        }
    }

    /// The next callback, with the messages that follow it; removes the queue when there is none.
    fn head(&self, guid: &str) -> Option<Attempt> {
        let mut queues = self.queues();
        let queue = queues.get(guid)?;
        let Some(first) = queue.front() else {
            queues.remove(guid);
            return None;
        };
        let followers = queue
            .iter()
            .skip(1)
            .take(MAX_MERGED - 1)
            .take_while(|next| first.merges_with(next))
            .count();
        let merged = 1 + followers;
        let mut body = String::with_capacity(512 * merged);
        // Written by hand so that the messages need not be copied into a new value first.
        let _ = write!(
            body,
            r#"{{"guid":{},"notify_type":{},"data":"#,
            Value::from(guid),
            first.notify_type
        );
        if followers == 0 {
            let _ = write!(body, "{}", first.data);
        } else {
            body.push('[');
            let messages = queue
                .iter()
                .take(merged)
                .filter_map(|pending| pending.data.as_array())
                .flatten();
            for (index, message) in messages.enumerate() {
                let _ = write!(body, "{}{message}", if index > 0 { "," } else { "" });
            }
            body.push(']');
        }
        body.push('}');
        Some(Attempt {
            url: Arc::clone(&first.url),
            body,
            merged,
            queued_at: first.queued_at,
        })
    }

    fn done(&self, guid: &str, merged: usize) {
        if let Some(queue) = self.queues().get_mut(guid) {
            queue.drain(..merged.min(queue.len()));
        }
    }

    fn is_empty(&self, guid: &str) -> bool {
        self.queues().get(guid).is_none_or(VecDeque::is_empty)
    }

    /// Whether the callback needs no repetition.
    async fn post(&self, attempt: &Attempt) -> bool {
        let Ok(_permit) = self.permits.acquire().await else {
            return true;
        };
        let request = self.http.post(&*attempt.url).header(CONTENT_TYPE, "application/json");
        match request.body(attempt.body.clone()).send().await {
            Ok(response) => {
                let status = response.status();
                // Read to its end so that the connection can be used again.
                let _ = response.bytes().await;
                status.is_success() || status == StatusCode::NOT_FOUND
            }
            // An address that is none will never answer.
            Err(error) => error.is_builder(),
        }
    }
}
