//! Own-send callbacks that fitted no receipt when they came (docs/adr/0005-unknown-outcomes.md).
//!
//! Either their reply has been recorded since, or the reply was lost and they prove that an unknown attempt was sent:
//! the oldest one of the same conversation with equal content that did not begin after the callback's own second. While
//! a message of that conversation is in flight, nothing is decided: the callback may be that one's.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;
use weft_domain::TenantId;
use weft_domain::message::{Message, MessageCommand, Receipt, ResolvedBy, ResolvedOutcome};

use super::ACTOR;
use super::deliver::{Fact, record};
use crate::context::{Cause, Context};
use crate::error::{Refusal, WorkerError, refusal};
use crate::queue::KnownMessage;

/// How long a parked callback is compared with receipts that are recorded late; with unknown attempts it always is.
const COMPARE_FOR: TimeDelta = TimeDelta::minutes(10);

#[derive(Debug)]
struct Parked {
    account_id: Uuid,
    tenant_id: Uuid,
    appinfo: String,
    wework_msg_id: String,
    sent_at: DateTime<Utc>,
    send_failed: bool,
    callback_id: Uuid,
    message: KnownMessage,
    /// The message is unknown; else its receipt is known by now.
    settles: bool,
}

/// Matches what is parked, of some accounts or of all, until nothing fits any more.
pub(super) async fn sweep(ctx: &Context, accounts: Option<&[Uuid]>) -> Result<(), WorkerError> {
    loop {
        let matches = matches(&ctx.pool, accounts, ctx.clock.now()).await?;
        if matches.is_empty() {
            return Ok(());
        }
        let mut used: Vec<Uuid> = Vec::new();
        let mut progress = false;
        for parked in matches {
            if parked.settles && used.contains(&parked.message.message_id) {
                // One attempt, one callback: the next one is matched anew.
                continue;
            }
            let done = if parked.settles {
                used.push(parked.message.message_id);
                settle(ctx, &parked).await
            } else {
                deliver(ctx, &parked).await.map(|()| true)
            };
            progress |= match done {
                Err(error) if error.is_lasting() => {
                    let (message, callback) = (parked.message.message_id, parked.callback_id);
                    tracing::error!(message.id = %message, callback.id = %callback, %error, "a parked callback is dropped");
                    forget(&ctx.pool, &parked).await?;
                    true
                }
                done => done?,
            };
        }
        if !progress {
            return Ok(());
        }
    }
}

/// One statement, so that receipts, messages in flight and unknown attempts are seen at the same moment.
async fn matches(pool: &PgPool, accounts: Option<&[Uuid]>, now: DateTime<Utc>) -> Result<Vec<Parked>, WorkerError> {
    let rows = sqlx::query(
        "select p.account_id, p.tenant_id, p.appinfo, p.wework_msg_id, p.sent_at, p.send_failed, p.callback_id,
           coalesce(known.message_id, attempt.message_id) as message_id,
           coalesce(known.correlation_id, attempt.correlation_id) as correlation_id,
           known.message_id is null as settles
         from workers.parked_syncs p
         left join lateral (
           select r.message_id, r.correlation_id from workers.receipts r
           where r.account_id = p.account_id
             and case when p.appinfo <> '' then r.appinfo = p.appinfo else r.wework_msg_id = p.wework_msg_id end
           limit 1) known on true
         left join lateral (
           select m.message_id, m.correlation_id from workers.messages m
           where known.message_id is null and m.account_id = p.account_id and m.conversation_id = p.conversation_id
             and m.state = 'unknown' and m.content_digest = p.content_digest
             and p.sent_at >= date_trunc('second', m.attempt_started_at)
             and not exists (
               select from workers.account_lanes lane
               join workers.messages flying on flying.message_id = any (lane.in_flight)
               where lane.account_id = p.account_id and flying.conversation_id = p.conversation_id
                 and flying.state <> 'unknown')
             and not exists (
               select from workers.messages sending
               where sending.account_id = p.account_id and sending.conversation_id = p.conversation_id
                 and sending.state = 'sending')
           order by m.attempt_started_at, m.message_id
           limit 1) attempt on true
         where ($1::uuid[] is null or p.account_id = any ($1))
           and (p.parked_at > $2 or exists (
             select from workers.messages u where u.account_id = p.account_id and u.state = 'unknown'))
           and coalesce(known.message_id, attempt.message_id) is not null
         order by p.sent_at, p.parked_at, p.wework_msg_id
         limit 500",
    )
    .bind(accounts)
    .bind(now - COMPARE_FOR)
    .fetch_all(pool)
    .await?;
    Ok(rows.iter().map(read).collect::<Result<Vec<_>, _>>()?)
}

fn read(row: &PgRow) -> Result<Parked, sqlx::Error> {
    Ok(Parked {
        account_id: row.try_get("account_id")?,
        tenant_id: row.try_get("tenant_id")?,
        appinfo: row.try_get("appinfo")?,
        wework_msg_id: row.try_get("wework_msg_id")?,
        sent_at: row.try_get("sent_at")?,
        send_failed: row.try_get("send_failed")?,
        callback_id: row.try_get("callback_id")?,
        message: KnownMessage {
            message_id: row.try_get("message_id")?,
            correlation_id: row.try_get("correlation_id")?,
        },
        settles: row.try_get("settles")?,
    })
}

/// Its reply has been recorded meanwhile.
async fn deliver(ctx: &Context, parked: &Parked) -> Result<(), WorkerError> {
    if !parked.send_failed {
        let fact = Fact {
            message: parked.message.clone(),
            tenant_id: parked.tenant_id,
            callback_id: parked.callback_id,
            command: MessageCommand::RecordDelivered { now: ctx.clock.now() },
        };
        record(ctx, vec![fact]).await?;
    }
    forget(&ctx.pool, parked).await?;
    Ok(())
}

/// The callback proves that the unknown attempt was sent, or that it failed. `false`: somebody else settled it.
async fn settle(ctx: &Context, parked: &Parked) -> Result<bool, WorkerError> {
    let now = ctx.clock.now();
    let receipt = Receipt {
        wework_msg_id: parked.wework_msg_id.clone(),
        appinfo: Some(parked.appinfo.clone()).filter(|text| !text.is_empty()),
        wework_send_time: Some(parked.sent_at),
    };
    let outcome = if parked.send_failed {
        ResolvedOutcome::Failed
    } else {
        ResolvedOutcome::Sent
    };
    let id = parked.message.message_id.to_string();
    let mut commands = vec![(
        id.clone(),
        MessageCommand::Resolve {
            outcome,
            by: ResolvedBy::Callback,
            reason: None,
            receipt: (!parked.send_failed).then_some(receipt.clone()),
            now,
        },
    )];
    if !parked.send_failed {
        commands.push((id.clone(), MessageCommand::RecordDelivered { now }));
    }
    let cause = Cause {
        correlation_id: parked.message.correlation_id.clone(),
        causation_id: Some(parked.callback_id.to_string()),
        traceparent: String::new(),
    };
    let options = ctx.options(ACTOR, TenantId(parked.tenant_id), &cause);
    if let Err(error) = ctx.executor.execute_all::<Message>(commands, &options).await {
        let refusal: Refusal<_> = refusal(error)?;
        tracing::info!(message.id = %id, %refusal, "an unknown outcome was settled otherwise");
        // The feed brings the row up to date.
        return Ok(false);
    }
    tracing::info!(message.id = %id, ?outcome, "a callback settled an unknown outcome");
    // As the feed will do too; here at once, and the lane before the message, as everywhere.
    let mut transaction = ctx.pool.begin().await?;
    sqlx::query(
        "update workers.account_lanes
         set changes = changes + 1, wake_at = case when status = 'online' then least(wake_at, $2) else wake_at end
         where account_id = $1",
    )
    .bind(parked.account_id)
    .bind(now)
    .execute(&mut *transaction)
    .await?;
    sqlx::query("delete from workers.messages where message_id = $1")
        .bind(parked.message.message_id)
        .execute(&mut *transaction)
        .await?;
    if !parked.send_failed {
        sqlx::query(
            "insert into workers.receipts
               (message_id, tenant_id, account_id, wework_msg_id, appinfo, correlation_id, sent_at)
             values ($1, $2, $3, $4, $5, $6, $7) on conflict (message_id) do nothing",
        )
        .bind(parked.message.message_id)
        .bind(parked.tenant_id)
        .bind(parked.account_id)
        .bind(&receipt.wework_msg_id)
        .bind(&receipt.appinfo)
        .bind(&parked.message.correlation_id)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
    }
    delete(&mut transaction, parked).await?;
    transaction.commit().await?;
    ctx.signals.dispatch.notify_one();
    Ok(true)
}

async fn forget(pool: &PgPool, parked: &Parked) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    delete(&mut connection, parked).await
}

async fn delete(connection: &mut sqlx::PgConnection, parked: &Parked) -> Result<(), sqlx::Error> {
    sqlx::query("delete from workers.parked_syncs where account_id = $1 and appinfo = $2 and wework_msg_id = $3")
        .bind(parked.account_id)
        .bind(&parked.appinfo)
        .bind(&parked.wework_msg_id)
        .execute(connection)
        .await?;
    Ok(())
}
