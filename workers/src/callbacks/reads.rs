//! Read reports. One that fits no receipt yet is parked: somebody may read faster than the reply is recorded.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;
use uuid::Uuid;
use weft_domain::message::MessageCommand;
use weft_wecom::callbacks::ReadReport;

use super::deliver::{Fact, record, record_each};
use super::{Understood, messages::Counted};
use crate::context::Context;
use crate::error::WorkerError;
use crate::queue::{KnownMessage, known_messages};

/// How long a parked report is compared with receipts that are recorded late.
const COMPARE_FOR: TimeDelta = TimeDelta::minutes(10);

/// One message that somebody read.
struct Read<'u> {
    understood: &'u Understood,
    appinfo: String,
    wework_msg_id: String,
    at: DateTime<Utc>,
}

/// Records what was read of known messages and parks the rest.
pub(super) async fn reported(
    ctx: &Context,
    reports: &[(&Understood, ReadReport)],
    counts: &mut Counted,
) -> Result<(), WorkerError> {
    let reads: Vec<Read<'_>> = reports
        .iter()
        .flat_map(|(understood, report)| read(understood, report))
        .collect();
    let keys: Vec<(Uuid, String, String)> = reads
        .iter()
        .map(|read| {
            (
                read.understood.row.account_id,
                read.appinfo.clone(),
                read.wework_msg_id.clone(),
            )
        })
        .collect();
    let (mut facts, mut unknown) = (Vec::new(), Vec::new());
    for (read, known) in reads.into_iter().zip(known_messages(&ctx.pool, &keys).await?) {
        let count = counts.entry(read.understood.row.id).or_default();
        match known {
            Some(known) => {
                count.read += 1;
                facts.push(Fact::new(
                    &read.understood.row,
                    known,
                    MessageCommand::RecordRead { now: read.at },
                ));
            }
            None => {
                count.parked += 1;
                unknown.push(read);
            }
        }
    }
    record(ctx, facts).await?;
    park(ctx, &unknown).await
}

fn read<'u>(understood: &'u Understood, report: &ReadReport) -> Vec<Read<'u>> {
    let at = report.read_at.unwrap_or(understood.row.received_time);
    let appinfo = |index| report.appinfos.get(index).cloned().unwrap_or_default();
    let ids = report.msg_ids.iter().enumerate();
    ids.map(|(index, id)| Read {
        understood,
        appinfo: appinfo(index),
        wework_msg_id: id.clone(),
        at,
    })
    .collect()
}

async fn park(ctx: &Context, reads: &[Read<'_>]) -> Result<(), WorkerError> {
    if reads.is_empty() {
        return Ok(());
    }
    fn column<T>(reads: &[Read<'_>], value: impl Fn(&Read<'_>) -> T) -> Vec<T> {
        reads.iter().map(value).collect()
    }
    sqlx::query(
        "insert into workers.parked_reads
           (account_id, tenant_id, appinfo, wework_msg_id, read_at, callback_id, parked_at)
         select *, $7 from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::uuid[])
           as v (account_id, tenant_id, appinfo, wework_msg_id)
         order by account_id, appinfo, wework_msg_id
         on conflict (account_id, appinfo, wework_msg_id) do nothing",
    )
    .bind(column(reads, |read| read.understood.row.account_id))
    .bind(column(reads, |read| read.understood.row.tenant_id))
    .bind(column(reads, |read| read.appinfo.clone()))
    .bind(column(reads, |read| read.wework_msg_id.clone()))
    .bind(column(reads, |read| read.at))
    .bind(column(reads, |read| read.understood.row.id))
    .bind(ctx.clock.now())
    .execute(&ctx.pool)
    .await?;
    Ok(())
}

/// Records parked reads whose receipt is known by now. A crash in between records them again, which changes nothing.
pub(super) async fn sweep(ctx: &Context) -> Result<(), WorkerError> {
    let rows = sqlx::query(
        "select p.account_id, p.tenant_id, p.appinfo, p.wework_msg_id, p.read_at, p.callback_id,
           known.message_id, known.correlation_id
         from workers.parked_reads p
         cross join lateral (
           select r.message_id, r.correlation_id from workers.receipts r
           where r.account_id = p.account_id
             and case when p.appinfo <> '' then r.appinfo = p.appinfo else r.wework_msg_id = p.wework_msg_id end
           limit 1) known
         where p.parked_at > $1
         order by p.parked_at
         limit 500",
    )
    .bind(ctx.clock.now() - COMPARE_FOR)
    .fetch_all(&ctx.pool)
    .await?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut facts = Vec::with_capacity(rows.len());
    let (mut accounts, mut appinfos, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let message = KnownMessage {
            message_id: row.try_get("message_id")?,
            correlation_id: row.try_get("correlation_id")?,
        };
        facts.push(Fact {
            message,
            tenant_id: row.try_get("tenant_id")?,
            callback_id: row.try_get("callback_id")?,
            command: MessageCommand::RecordRead {
                now: row.try_get("read_at")?,
            },
        });
        accounts.push(row.try_get::<Uuid, _>("account_id")?);
        appinfos.push(row.try_get::<String, _>("appinfo")?);
        ids.push(row.try_get::<String, _>("wework_msg_id")?);
    }
    record_each(ctx, facts).await?;
    sqlx::query(
        "delete from workers.parked_reads where (account_id, appinfo, wework_msg_id) in (
           select account_id, appinfo, wework_msg_id
           from workers.parked_reads join unnest($1::uuid[], $2::text[], $3::text[])
             as done (account_id, appinfo, wework_msg_id) using (account_id, appinfo, wework_msg_id)
           order by account_id, appinfo, wework_msg_id for update of parked_reads)",
    )
    .bind(accounts)
    .bind(appinfos)
    .bind(ids)
    .execute(&ctx.pool)
    .await?;
    Ok(())
}

/// Forgets reports that fitted nothing: they are of messages that Weft did not send.
pub(super) async fn purge(ctx: &Context, age: TimeDelta) -> Result<(), WorkerError> {
    sqlx::query(
        "delete from workers.parked_reads where (account_id, appinfo, wework_msg_id) in (
           select account_id, appinfo, wework_msg_id from workers.parked_reads where parked_at < $1
           for update skip locked)",
    )
    .bind(ctx.clock.now() - age)
    .execute(&ctx.pool)
    .await?;
    Ok(())
}
