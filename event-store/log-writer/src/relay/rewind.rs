//! Publishing again, from an earlier place of the log on.

use sqlx::{PgPool, Row};
use weft_domain::LogOrder;

/// What a rewind began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewound {
    /// The new publication, which every record carries from now on.
    pub publication: i64,
    /// The newest event of the log.
    pub head: LogOrder,
}

/// Sets the checkpoint of the relay that publishes under `topic_prefix` back, or forward, so that `from` is the next event
/// to be published, and forgets what Kafka had. A relay at work is fenced by the owner epoch; it, or another one, takes the
/// lease again and goes on from there.
pub async fn rewind(pool: &PgPool, topic_prefix: &str, from: LogOrder) -> Result<Rewound, sqlx::Error> {
    let row = sqlx::query(
        "with fenced as (
           insert into relay_leases (relay, owner, owner_epoch, expires_at)
           values ($1, gen_random_uuid(), 1, clock_timestamp())
           on conflict (relay) do update
             set owner = excluded.owner, owner_epoch = relay_leases.owner_epoch + 1, expires_at = excluded.expires_at
           returning owner_epoch),
         rewound as (
           insert into relay_checkpoints (relay, owner_epoch, epoch, transaction_id, position)
           select $1, owner_epoch, $2, $3::text::xid8, $4 from fenced
           on conflict (relay) do update
             set owner_epoch = excluded.owner_epoch, epoch = excluded.epoch, transaction_id = excluded.transaction_id,
                 position = excluded.position, advanced_at = clock_timestamp(),
                 publication = relay_checkpoints.publication + 1, cluster_id = null, next_offsets = '{}'
           returning publication)
         select publication, coalesce(epoch, 0::smallint) as epoch,
                coalesce(transaction_id::text::bigint, 0) as transaction_id, coalesce(position, 0) as position
         from rewound
         left join lateral (
           select epoch, transaction_id, position from events
           order by epoch desc, transaction_id desc, position desc limit 1) head on true",
    )
    .bind(topic_prefix)
    .bind(from.epoch)
    .bind(from.transaction_id.to_string())
    // What the checkpoint names has been published.
    .bind((from.position - 1).max(0))
    .fetch_one(pool)
    .await?;
    Ok(Rewound {
        publication: row.try_get("publication")?,
        head: LogOrder {
            epoch: row.try_get("epoch")?,
            transaction_id: row.try_get("transaction_id")?,
            position: row.try_get("position")?,
        },
    })
}
