//! Concurrent clients that send, rename and cancel, and remember what they were answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::api::{Answer, Api};
use crate::history::{Operation, Outcome, Wish};

/// How long a client asks again before it gives a command up as unanswered.
const PATIENCE: Duration = Duration::from_secs(90);

/// Whose accounts the clients work on.
#[derive(Clone)]
pub(crate) struct Target {
    /// Servers of the same tenant; each try goes to another one.
    pub(crate) apis: Vec<Api>,
    pub(crate) accounts: Vec<String>,
    /// Messages in five are scheduled for tomorrow and mostly cancelled again; with none all are sent at once.
    pub(crate) scheduled_of_five: u32,
}

/// Clients at work until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Vec<Operation>>,
}

impl Load {
    /// `clients` of them, each with a pause of up to `pause` between two commands; `seed` decides who asks what.
    pub(crate) fn start(target: &Target, clients: u64, pause: Duration, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut set = JoinSet::new();
        for number in 0..clients {
            let client = Client {
                target: target.clone(),
                random: StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number)),
                pause,
                name: format!("{seed}-{number}-{}", uuid::Uuid::new_v4().simple()),
                asked: 0,
                done: Vec::new(),
                scheduled: Vec::new(),
            };
            set.spawn(client.work(Arc::clone(&stop)));
        }
        Self { stop, clients: set }
    }

    /// Lets every client finish what it is at; answers all that was asked.
    pub(crate) async fn finish(self) -> Vec<Operation> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

struct Client {
    target: Target,
    random: StdRng,
    pause: Duration,
    name: String,
    asked: usize,
    done: Vec<Operation>,
    /// Messages that wait for tomorrow.
    scheduled: Vec<String>,
}

impl Client {
    async fn work(mut self, stop: Arc<AtomicBool>) -> Vec<Operation> {
        while !stop.load(Ordering::Relaxed) {
            self.asked += 1;
            let cancels = !self.scheduled.is_empty() && self.random.random_ratio(1, 4);
            match self.random.random_range(0..10) {
                0 => self.rename().await,
                _ if cancels => self.cancel().await,
                _ => self.send().await,
            }
            let pause = self.random.random_range(Duration::ZERO..=self.pause);
            tokio::time::sleep(pause).await;
        }
        self.done
    }

    fn account(&mut self) -> String {
        let number = self.random.random_range(0..self.target.accounts.len());
        self.target.accounts[number].clone()
    }

    async fn send(&mut self) {
        let account = self.account();
        let text = format!("第 {} 条，来自 {}", self.asked, self.name);
        let conversation = format!("S:1{}", self.random.random_range(0..9));
        let mut body = json!({
            "account_id": account, "conversation_id": conversation, "message_type": "text", "content": {"text": text},
        });
        let later = self.random.random_ratio(self.target.scheduled_of_five, 5);
        if later {
            body["send_time"] = json!(tomorrow());
        }
        let wish = Wish::Send { account, text };
        let id = self
            .ask(wish, Method::POST, "/api/v1/messages/send", body, None, |body| {
                body["message_id"].as_str().map(str::to_owned)
            })
            .await;
        if later {
            self.scheduled.extend(id);
        }
    }

    async fn cancel(&mut self) {
        let number = self.random.random_range(0..self.scheduled.len());
        let message = self.scheduled.swap_remove(number);
        let path = format!("/api/v1/messages/{message}/cancel");
        let wish = Wish::Cancel { message };
        self.ask(wish, Method::POST, &path, json!({}), None, |body| {
            body["message_id"].as_str().map(str::to_owned)
        })
        .await;
    }

    async fn rename(&mut self) {
        let account = self.account();
        let path = format!("/api/v1/accounts/{account}");
        let body = json!({"account_name": format!("改名 {} {}", self.asked, self.name)});
        // The newest version that this client knows of: somebody else may have written since.
        let known = self.done.iter().rev().find_map(|operation| match &operation.outcome {
            Outcome::Accepted { stream, version } if *stream == account => *version,
            _ => None,
        });
        let expected = known.filter(|_| self.random.random_bool(0.5));
        let wish = Wish::Rename { account, expected };
        self.ask(wish, Method::PUT, &path, body, expected, |body| {
            body["account_id"].as_str().map(str::to_owned)
        })
        .await;
    }

    /// Asks until there is an answer that says yes or no; a PUT, which takes no idempotency key, only once.
    async fn ask(
        &mut self,
        wish: Wish,
        method: Method,
        path: &str,
        body: Value,
        expected: Option<i64>,
        stream: impl Fn(&Value) -> Option<String>,
    ) -> Option<String> {
        let key = format!("{}-{}", self.name, self.asked);
        let invoked = Instant::now();
        let mut requests = Vec::new();
        let outcome = loop {
            let request = format!("{key}-{}", requests.len());
            requests.push(request.clone());
            let etag = expected.map(|version| format!("\"{version}\""));
            let mut headers = vec![("X-Request-Id", request.as_str())];
            if method == Method::POST {
                headers.push(("Idempotency-Key", &key));
            }
            if let Some(etag) = &etag {
                headers.push(("If-Match", etag));
            }
            let api = (self.asked + requests.len()) % self.target.apis.len();
            let answer = self.target.apis[api]
                .try_call(method.clone(), path, Some(&body), &headers)
                .await;
            let outcome = answer.map_or(Outcome::Unknown, |answer| read(&answer, &stream));
            if outcome != Outcome::Unknown || method != Method::POST || invoked.elapsed() > PATIENCE {
                break outcome;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let accepted = match &outcome {
            Outcome::Accepted { stream, .. } => Some(stream.clone()),
            _ => None,
        };
        self.done.push(Operation {
            wish,
            requests,
            invoked,
            returned: Instant::now(),
            outcome,
        });
        accepted
    }
}

/// A 5xx says neither yes nor no: the server may have died after its commit.
fn read(answer: &Answer, stream: impl Fn(&Value) -> Option<String>) -> Outcome {
    if answer.status.is_success() {
        let version = answer.headers.get("etag").and_then(|etag| etag.to_str().ok());
        let version = version.and_then(|etag| etag.trim_matches('"').parse().ok());
        return stream(&answer.body).map_or(Outcome::Unknown, |stream| Outcome::Accepted { stream, version });
    }
    let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
    // The first request with this key is still at work and may yet be done.
    if answer.status.is_client_error() && code != "idempotency.in_progress" {
        return Outcome::Refused {
            status: answer.status.as_u16(),
            code,
        };
    }
    Outcome::Unknown
}

#[allow(clippy::disallowed_methods, reason = "a client has its own clock")]
fn tomorrow() -> DateTime<Utc> {
    Utc::now() + TimeDelta::days(1)
}
