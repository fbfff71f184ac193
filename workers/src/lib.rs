//! Process managers: they react to events by doing something outside, and send commands back.
//!
//! One worker per file or folder: `feed` turns Kafka's events into rows of durable queues; `session` makes instances
//! and logs accounts in; `heartbeat` watches sessions; `dispatch` sends; `callbacks` interprets what WeCom tells. Kafka
//! only wakes: the queues can be rebuilt from the log at any time.

mod backoff;
mod callbacks;
mod context;
mod dispatch;
mod error;
mod feed;
mod heartbeat;
mod leader;
mod owner;
mod pool;
mod queue;
mod rebuild;
mod samples;
mod session;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_log_writer::Executor;
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::health::Health;
use weft_wecom::gateway::Gateway;
use weft_wecom::instance::{HostedKeys, InstanceConfig, InstanceGateway, UploadTypes};

use self::context::{Context, Signals};
use self::dispatch::{ActiveLanes, RecentReceipts};
pub use self::error::WorkerError;
use self::owner::Owner;
pub use self::rebuild::{Rebuilt, rebuild};
use self::samples::Samples;

/// Wakes workers of the same process; those of others look by themselves.
#[derive(Clone, Debug, Default)]
pub struct WorkerWake {
    /// Told by the ingress after it has stored a callback.
    pub callbacks: Arc<Notify>,
}

/// The way to WeCom that the configuration names.
pub fn gateway(config: &Config) -> Result<Arc<dyn Gateway>, WorkerError> {
    let wecom = &config.wecom;
    let hosted = match (&wecom.app_key, &wecom.app_secret) {
        (Some(key), Some(secret)) => Some(HostedKeys {
            app_key: key.expose().to_owned(),
            app_secret: secret.expose().to_owned(),
        }),
        _ => None,
    };
    let instance = InstanceConfig {
        hosted,
        connect_timeout: Duration::from_secs(wecom.connect_timeout_seconds),
        answer_timeout: Duration::from_secs(wecom.answer_timeout_seconds),
        upload_types: UploadTypes {
            image: wecom.image_file_type.into(),
            file: wecom.file_file_type.into(),
        },
        ..InstanceConfig::new(wecom.instance_url.clone())
    };
    let gateway = InstanceGateway::new(instance).map_err(|error| WorkerError::Gateway(error.to_string()))?;
    Ok(Arc::new(gateway))
}

/// Runs all workers of the log that `config` is seen from until the shutdown. Outages of Postgres, Kafka and WeCom are waited out and told to `health`.
pub async fn run(
    config: Arc<Config>,
    executor: Executor,
    gateway: Arc<dyn Gateway>,
    clock: Clock,
    health: Health,
    wake: WorkerWake,
    shutdown: CancellationToken,
) -> Result<(), WorkerError> {
    let health = health.of_log(&config.log);
    for part in [
        feed::PART,
        session::PART,
        heartbeat::PART,
        dispatch::PART,
        callbacks::PART,
    ] {
        health.expect(part);
    }
    let ctx = Context {
        pool: pool::queue_pool(&config)?,
        samples: Samples::new(&config.kafka)?,
        owner: Owner::new(clock.new_id()),
        executor,
        gateway,
        clock,
        health,
        stop: shutdown.clone(),
        wake,
        signals: Arc::new(Signals::default()),
        lanes: ActiveLanes::default(),
        receipts: RecentReceipts::default(),
        config,
    };
    let holder = tokio::spawn({
        let ctx = ctx.clone();
        async move { ctx.owner.hold(ctx.config.log.url.expose()).await }
    });
    // Each ends by itself: what is in hand is finished first.
    let tasks = TaskTracker::new();
    let shared = |ctx: &Context| ctx.clone();
    let led: [(&'static str, leader::Body); 3] = [
        (feed::PART, |ctx| Box::pin(async move { feed::run(&ctx).await })),
        (callbacks::PART, |ctx| {
            Box::pin(async move { callbacks::run(&ctx).await })
        }),
        (callbacks::PURGE_PART, |ctx| {
            Box::pin(async move { callbacks::purge(&ctx).await })
        }),
    ];
    for (part, body) in led {
        let c = shared(&ctx);
        tasks.spawn(async move { leader::lead(&c, part, body).await });
    }
    let c = shared(&ctx);
    tasks.spawn(async move { session::run(&c).await });
    let c = shared(&ctx);
    tasks.spawn(async move { heartbeat::run(&c).await });
    let c = shared(&ctx);
    tasks.spawn(async move { dispatch::run(&c).await });
    tasks.close();
    shutdown.cancelled().await;
    tasks.wait().await;
    // Last: the leases of what was still in hand are free from now on.
    holder.abort();
    Ok(())
}

/// For tests: parts of the queues without the workers around them.
#[doc(hidden)]
pub mod testing {
    use chrono::Utc;
    use uuid::Uuid;
    use weft_platform::clock::Clock;
    use weft_platform::config::Config;

    use crate::WorkerError;
    use crate::queue::{LaneChange, TurnOptions};

    /// Claims lanes as the owner `owner` (account and tenant of each).
    pub async fn claim_lanes(config: &Config, owner: i64, limit: i64) -> Result<Vec<(Uuid, Uuid)>, WorkerError> {
        let pool = crate::pool::queue_pool(config)?;
        let now: chrono::DateTime<Utc> = Clock::system().now();
        let lanes = crate::queue::claim_lanes(&pool, owner, &[], now, 60.0, limit).await?;
        Ok(lanes
            .into_iter()
            .map(|lane| (lane.account_id, lane.tenant_id))
            .collect())
    }

    /// Takes ended messages out of the queue as the feed does.
    pub async fn remove_messages(config: Config, ids: Vec<Uuid>) -> Result<(), WorkerError> {
        let pool = crate::pool::queue_pool(&config)?;
        Ok(crate::queue::remove_messages(&mut *pool.acquire().await?, &ids).await?)
    }

    /// Takes ended messages out of the queue as the owner of a lane does; of the lane that is free, as `owner`.
    pub async fn end_messages(config: Config, owner: i64, ids: Vec<Uuid>) -> Result<(), WorkerError> {
        let pool = crate::pool::queue_pool(&config)?;
        let now = Clock::system().now();
        let change = LaneChange {
            remove: ids,
            ..LaneChange::default()
        };
        let options = TurnOptions {
            size: 1,
            unknown_timeout: chrono::TimeDelta::seconds(1),
            lease_seconds: 60.0,
        };
        for lane in crate::queue::claim_lanes(&pool, owner, &[], now, 60.0, 1).await? {
            crate::queue::take_turn(&pool, &lane, &change, now, options).await?;
        }
        Ok(())
    }
}
