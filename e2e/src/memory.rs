//! Each role under steady load for minutes: what a process holds on to shows in its memory.

use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::api::Api;
use crate::cluster::Cluster;
use crate::load::{Load, Target};
use crate::world::Options;

const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// The first and the last figure are means of these many samples.
const SAMPLES_OF_A_FIGURE: usize = 6;
/// Growth that is none: 10 %, and what an allocator keeps back.
const MOST_SHARE: f64 = 1.1;
const MOST_BEYOND_MIB: f64 = 8.0;

/// How much, for how long.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    pub accounts: usize,
    pub clients: u64,
    /// Between two commands of a client, at most.
    pub pause: Duration,
    pub length: Duration,
    /// After this memory should not grow any more.
    pub warm_up: Duration,
}

/// One process's resident memory, in MiB.
#[derive(Clone, Debug)]
pub struct Memory {
    pub process: String,
    pub after_warm_up: f64,
    pub end: f64,
    pub peak: f64,
    /// Of a straight line through all samples after the warm-up.
    pub slope_per_minute: f64,
}

impl Memory {
    /// `None` with too few samples.
    fn of(process: String, samples: &[f64]) -> Option<Self> {
        let mean = |samples: &[f64]| samples.iter().sum::<f64>() / samples.len() as f64;
        let (first, last) = (
            samples.first_chunk::<SAMPLES_OF_A_FIGURE>()?,
            samples.last_chunk::<SAMPLES_OF_A_FIGURE>()?,
        );
        let minutes = |number: usize| number as f64 * SAMPLE_EVERY.as_secs_f64() / 60.0;
        let (middle, level) = (minutes(samples.len() - 1) / 2.0, mean(samples));
        let numbered = || samples.iter().enumerate();
        let rise: f64 = numbered()
            .map(|(number, mib)| (minutes(number) - middle) * (mib - level))
            .sum();
        let run: f64 = numbered().map(|(number, _)| (minutes(number) - middle).powi(2)).sum();
        Some(Self {
            process,
            after_warm_up: mean(first),
            end: mean(last),
            peak: samples.iter().copied().fold(0.0, f64::max),
            slope_per_minute: rise / run,
        })
    }

    pub fn is_flat(&self) -> bool {
        self.end <= self.after_warm_up * MOST_SHARE + MOST_BEYOND_MIB
    }
}

/// What came of a course.
#[derive(Debug)]
pub struct Outcome {
    pub memory: Vec<Memory>,
    pub commands: usize,
    /// Changes that the subscriptions were told.
    pub told: u64,
}

/// Starts a cluster, its accounts, a subscription for each of them and the load; calls `sampled` after every look.
pub async fn run(course: Course, mut sampled: impl FnMut(Duration, &[(String, f64)])) -> Outcome {
    let options = Options {
        auto_scan: Some("100ms"),
        // Full before the warm-up is over: what fills it later would look like a leak.
        environment: vec![("WEFT__LOG__CACHE_BYTES", "4194304")],
        ..Options::default()
    };
    let mut cluster = Cluster::start(options, 100_000).await;
    let mut accounts = Vec::with_capacity(course.accounts);
    for number in 0..course.accounts {
        let (account, _) = cluster.world.online_account(&format!("内存账号{number}")).await;
        let unlimited = json!({"config": {"daily_limit": 100_000}});
        let answer = cluster
            .world
            .api
            .put(&format!("/api/v1/accounts/{account}"), unlimited)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        accounts.push(account);
    }
    let mut subscriptions = JoinSet::new();
    let (tell, mut changes) = tokio::sync::mpsc::unbounded_channel();
    for account in &accounts {
        subscriptions.spawn(subscribe(cluster.world.views.clone(), account.clone(), tell.clone()));
    }
    let target = Target {
        apis: cluster.commands.clone(),
        accounts,
        scheduled_of_five: 0,
    };
    let load = Load::start(&target, course.clients, course.pause, 1);
    let (started, mut told) = (Instant::now(), 0);
    let mut samples: Vec<(String, Vec<f64>)> = Vec::new();
    let mut timer = tokio::time::interval(SAMPLE_EVERY);
    while started.elapsed() < course.length {
        timer.tick().await;
        if let Some(crash) = cluster.crashed() {
            panic!("{crash}");
        }
        assert!(subscriptions.try_join_next().is_none(), "a subscription ended");
        while changes.try_recv().is_ok() {
            told += 1;
        }
        let now = cluster.resident();
        sampled(started.elapsed(), &now);
        if started.elapsed() >= course.warm_up {
            samples.resize_with(now.len(), Default::default);
            for ((process, mibs), (name, mib)) in samples.iter_mut().zip(now) {
                *process = name;
                mibs.push(mib);
            }
        }
    }
    let commands = load.finish().await.len();
    subscriptions.shutdown().await;
    let memory = samples
        .into_iter()
        .map(|(process, mibs)| Memory::of(process, &mibs).expect("a course has a minute after its warm-up"));
    Outcome {
        memory: memory.collect(),
        commands,
        told,
    }
}

/// Tells of every change of the account's messages; ends only when the server ends it.
async fn subscribe(api: Api, account: String, tell: tokio::sync::mpsc::UnboundedSender<()>) {
    let mut request = api.socket_url().into_client_request().expect("a URL");
    let protocol = "graphql-transport-ws".parse().expect("a header");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    let (mut socket, _) = connect_async(request).await.expect("the query API takes subscriptions");
    let say = |value: Value| Message::text(value.to_string());
    let init = json!({"type": "connection_init", "payload": {"Authorization": api.authorization()}});
    socket.send(say(init)).await.expect("an open socket");
    while let Some(Ok(received)) = socket.next().await {
        let Message::Text(text) = received else { continue };
        let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
        let answer = match frame["type"].as_str() {
            Some("connection_ack") => {
                let query = "subscription($account: ID!) { messageChanged(accountId: $account) { id status } }";
                let payload = json!({"query": query, "variables": {"account": account}});
                json!({"id": "1", "type": "subscribe", "payload": payload})
            }
            Some("ping") => json!({"type": "pong"}),
            Some("next") => {
                // Nobody listens any more: the course is over.
                let _ = tell.send(());
                continue;
            }
            _ => return,
        };
        socket.send(say(answer)).await.expect("an open socket");
    }
}
