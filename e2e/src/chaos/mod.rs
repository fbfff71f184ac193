//! Weft under load while its processes die: what was promised must hold whatever happens.

mod disturb;
mod planted;
mod verdict;

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use sqlx::PgPool;

use crate::cluster::{Cluster, Role};
use crate::history::{Limit, Operation, Outcome};
use crate::load::{Load, Target};
use crate::wait::until;
use crate::world::Options;

pub use disturb::Server;

/// Small enough to be reached within seconds, so that clients race for the last ones; cancelled messages of tomorrow make
/// room again and again.
const MESSAGES_A_DAY: u32 = 30;

/// How much load.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub accounts: usize,
    pub clients: u64,
    /// Between two commands of a client, at most.
    pub pause: Duration,
}

/// A cluster, its load, all that clients were told, and what was found to be wrong.
pub struct Chaos {
    pub cluster: Cluster,
    size: Size,
    seed: u64,
    random: StdRng,
    main: Target,
    limited: Target,
    limit: Limit,
    /// Account id → instance.
    instances: HashMap<String, String>,
    operations: Vec<Operation>,
    loads: Vec<Load>,
    blocks: u64,
    log: PgPool,
    pub problems: Vec<String>,
}

impl Chaos {
    /// Starts a cluster and logs the accounts in. The same seed makes the same choices.
    pub async fn start(seed: u64, size: Size) -> Self {
        let options = Options {
            auto_scan: Some("100ms"),
            ..Options::default()
        };
        let cluster = Cluster::start(options, MESSAGES_A_DAY).await;
        let mut instances = HashMap::new();
        for number in 0..size.accounts {
            let (account, guid) = cluster.world.online_account(&format!("混沌账号{number}")).await;
            let unlimited = json!({"config": {"daily_limit": 100_000}});
            let answer = cluster
                .world
                .api
                .put(&format!("/api/v1/accounts/{account}"), unlimited)
                .await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            instances.insert(account, guid);
        }
        let body = json!({"account_name": "限量账号", "config": {"daily_limit": 100_000}});
        let answer = cluster.limited[0].post("/api/v1/accounts", body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let limited_account = answer.body["account_id"].as_str().expect("an id").to_owned();
        let mut accounts: Vec<String> = instances.keys().cloned().collect();
        accounts.sort();
        Self {
            main: Target {
                apis: cluster.commands.clone(),
                accounts,
                scheduled_of_five: 1,
            },
            limited: Target {
                apis: cluster.limited.clone(),
                accounts: vec![limited_account],
                scheduled_of_five: 2,
            },
            limit: Limit {
                tenant_id: cluster.limited_tenant.clone(),
                messages_a_day: MESSAGES_A_DAY as usize,
            },
            log: cluster.world.log_pool().await,
            cluster,
            size,
            seed,
            random: StdRng::seed_from_u64(seed),
            instances,
            operations: Vec::new(),
            loads: Vec::new(),
            blocks: 0,
            problems: Vec::new(),
        }
    }

    /// How many commands were asked so far.
    pub const fn asked(&self) -> usize {
        self.operations.len()
    }

    /// How many commands were refused with this code so far.
    pub fn refused(&self, wanted: &str) -> usize {
        let refused = self
            .operations
            .iter()
            .filter(|operation| matches!(&operation.outcome, Outcome::Refused { code, .. } if code == wanted));
        refused.count()
    }

    /// Leaves the processes' logs where they are when this ends; answers their folder.
    pub fn keep_logs(&mut self) -> &Path {
        self.cluster.world.folder.disable_cleanup(true);
        self.cluster.world.folder.path()
    }

    /// Lets clients work until the next check.
    fn begin_load(&mut self) {
        self.blocks += 1;
        let seed = self.seed.wrapping_mul(10_000).wrapping_add(2 * self.blocks);
        let Size { clients, pause, .. } = self.size;
        self.loads = vec![
            Load::start(&self.main, clients, pause, seed),
            Load::start(&self.limited, 3, pause, seed + 1),
        ];
    }

    async fn end_load(&mut self) {
        for load in std::mem::take(&mut self.loads) {
            self.operations.extend(load.finish().await);
        }
    }

    /// `rounds` of some seconds: one process, whichever, is killed at any moment under load and comes back. Tells who, and
    /// how long the round took.
    pub async fn rounds(&mut self, rounds: u32, mut tell: impl FnMut(Role, Duration)) {
        self.begin_load();
        for _ in 0..rounds {
            let began = Instant::now();
            self.pause(200..2_500).await;
            let member = self.random.random_range(0..self.cluster.size());
            self.cluster.kill(member);
            self.pause(0..1_000).await;
            self.cluster.restart(member, &[]).await;
            self.notice_crashes();
            tell(self.cluster.role(member), began.elapsed());
        }
        self.end_load().await;
    }

    fn notice_crashes(&mut self) {
        if let Some(crashed) = self.cluster.crashed() {
            self.problems.push(crashed);
        }
    }

    async fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        let length = self.random.random_range(milliseconds);
        tokio::time::sleep(Duration::from_millis(length)).await;
    }

    /// Projectors that come and go `times` times, so that partitions change hands under load.
    pub async fn rebalances(&mut self, times: u32) {
        self.begin_load();
        let extra = self.cluster.join(Role::Projectors).await;
        for _ in 0..times {
            self.pause(100..600).await;
            if !self.cluster.stop(extra) {
                self.problems
                    .push("a projector did not stop within 20 s of SIGTERM".to_owned());
            }
            self.cluster.restart(extra, &[]).await;
        }
        self.notice_crashes();
        self.end_load().await;
    }

    /// The clock of one command API after the other goes back an hour between two commands, and forth again.
    pub async fn clock_back(&mut self) {
        self.begin_load();
        let first = self.cluster.first(Role::CommandApi);
        for offset in ["-3600", "0"] {
            for api in [first, first + 1] {
                self.pause(1_000..2_000).await;
                self.cluster.kill(api);
                self.cluster
                    .restart(api, &[("WEFT__CLOCK_OFFSET_SECONDS", offset)])
                    .await;
            }
        }
        self.pause(1_000..2_000).await;
        self.end_load().await;
    }

    /// The relay at work is paused, so that the other takes over, and wakes up later.
    pub async fn paused_relay(&mut self) {
        self.begin_load();
        let first = self.cluster.first(Role::Relay);
        for member in [first, first + 1] {
            self.cluster.pause(member);
            self.pause(6_000..7_000).await;
            self.cluster.wake(member);
            self.pause(1_000..2_000).await;
        }
        self.notice_crashes();
        self.end_load().await;
    }

    /// Waits until nothing is on its way: every message of the main tenant that is due has ended, and what is unknown
    /// had its time to be settled.
    async fn settle(&self) {
        const MOVING: &str = r"
            select count(*) from (
                select distinct on (aggregate_id) event_type, payload, recorded_at from events
                where aggregate_type = 'message' and tenant_id <> $1 and event_type <> 'MessageRead'
                order by aggregate_id, sequence desc
            ) last
            where event_type in ('AttemptStarted', 'RetryScheduled', 'OutcomeResolved', 'MessageSent')
               or event_type = 'OutcomeUnknown' and recorded_at > clock_timestamp() - interval '10 seconds'
               or event_type = 'MessageAccepted'
                  and coalesce((payload->>'scheduled_time')::timestamptz, '-infinity') < clock_timestamp() + interval '1 hour'";
        until("every message has ended", Duration::from_mins(3), async || {
            let moving: i64 = sqlx::query_scalar(MOVING)
                .bind(&self.limit.tenant_id)
                .fetch_one(&self.log)
                .await
                .ok()?;
            (moving == 0).then_some(())
        })
        .await;
    }
}
