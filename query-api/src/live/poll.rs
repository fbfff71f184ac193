//! Looks at the rows of dirty streams until they show their events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weft_platform::config::KafkaSection;

use super::FIRST_LOOK;
use super::hub::{Dirty, Hub, Kind, Place, Stream};
use crate::error::ReadError;
use crate::session;
use crate::views::{View, accounts, messages};
use crate::watcher::{Waiting, Watcher, has_reached};

/// A view that is behind for this long is shown as it is, as stale.
const BOUND: Duration = Duration::from_secs(5);
/// Longest time between two looks at one row.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// Rows of one look.
const BATCH: usize = 1_000;

/// Runs until shutdown; survives the views' database being away.
pub(crate) async fn run(
    hub: Arc<Hub>,
    pool: PgPool,
    kafka: KafkaSection,
    watcher: Watcher,
    shutdown: CancellationToken,
) {
    let topics = [kafka.topic("account"), kafka.topic("message")];
    let mut waiting: Option<Waiting> = None;
    loop {
        let positions = waiting.as_mut().map(Waiting::positions).unwrap_or_default();
        let has_reached = |kind, place: Place| {
            let (view, topic) = match kind {
                Kind::Account => (View::Accounts, &topics[0]),
                Kind::Message => (View::Messages, &topics[1]),
            };
            has_reached(&positions, view.projection(), topic, place.partition, place.order)
        };
        let (due, next) = hub.due(Instant::now(), BATCH, has_reached);
        if due.is_empty() {
            match next {
                // Told from now on: looked at again, so that nothing moves unnoticed between.
                Some(_) if waiting.is_none() => {
                    waiting = Some(watcher.wait());
                    continue;
                }
                Some(_) => {}
                None => waiting = None,
            }
            let moved = async {
                match &mut waiting {
                    Some(waiting) => waiting.moved().await,
                    None => std::future::pending().await,
                }
            };
            let later = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = later => {}
                () = moved => {}
                () = hub.dirtied.notified() => {}
                () = shutdown.cancelled() => return,
            }
            continue;
        }
        tokio::select! {
            () = look(&hub, &pool, due) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn look(hub: &Hub, pool: &PgPool, due: Vec<(Stream, Dirty)>) {
    let mut tenants: HashMap<Uuid, Vec<(Stream, Dirty)>> = HashMap::new();
    for (stream, dirty) in due {
        tenants.entry(stream.tenant_id).or_default().push((stream, dirty));
    }
    for (tenant_id, streams) in tenants {
        match look_at_tenant(hub, pool, tenant_id, &streams).await {
            Ok(versions) => {
                for (stream, dirty) in streams {
                    hub.looked(stream, after_look(dirty, versions.get(&stream).copied()));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the live feed cannot read the views");
                for (stream, dirty) in streams {
                    let next_look = Instant::now() + LONGEST_LOOK;
                    hub.looked(stream, Dirty { next_look, ..dirty });
                }
            }
        }
    }
}

/// The state of a stream after a look that handed out a version, if it did, and whether as stale.
fn after_look(dirty: Dirty, handed_out: Option<(i64, bool)>) -> Dirty {
    let now = Instant::now();
    let wait = (FIRST_LOOK * 2_u32.saturating_pow(dirty.looks.min(8))).min(LONGEST_LOOK);
    let looked = Dirty {
        looks: dirty.looks + 1,
        place: None,
        next_look: now + wait,
        ..dirty
    };
    match handed_out {
        None => looked,
        Some((version, true)) => Dirty {
            pushed: version,
            told_stale: true,
            ..looked
        },
        Some((version, false)) => Dirty {
            pushed: version,
            awaited: version + 1,
            since: now,
            told_stale: false,
            ..looked
        },
    }
}

/// Reads the rows and publishes what is new; answers the version handed out per stream, and whether as stale.
async fn look_at_tenant(
    hub: &Hub,
    pool: &PgPool,
    tenant_id: Uuid,
    streams: &[(Stream, Dirty)],
) -> Result<HashMap<Stream, (i64, bool)>, ReadError> {
    let ids = |kind| -> Vec<Uuid> {
        streams
            .iter()
            .filter(|(stream, _)| stream.kind == kind)
            .map(|(stream, _)| stream.id)
            .collect()
    };
    let dirty: HashMap<Stream, Dirty> = streams.iter().copied().collect();
    let mut pushed = HashMap::new();
    let mut transaction = session::begin(pool, tenant_id).await?;
    let account_ids = ids(Kind::Account);
    if !account_ids.is_empty() {
        for row in accounts::by_ids(&mut transaction, tenant_id, &account_ids).await? {
            let stream = Stream {
                kind: Kind::Account,
                tenant_id,
                id: row.id,
            };
            if let Some(stale) = verdict(&dirty[&stream], row.version) {
                pushed.insert(stream, (row.version, stale));
                hub.publish_account(&Arc::new(row), stale);
            }
        }
    }
    let message_ids = ids(Kind::Message);
    if !message_ids.is_empty() {
        for row in messages::by_ids(&mut transaction, tenant_id, &message_ids).await? {
            let stream = Stream {
                kind: Kind::Message,
                tenant_id,
                id: row.id,
            };
            if let Some(stale) = verdict(&dirty[&stream], row.version) {
                pushed.insert(stream, (row.version, stale));
                hub.publish_message(&Arc::new(row), stale);
            }
        }
    }
    Ok(pushed)
}

/// Whether to hand a row out, and whether as stale: a row that shows what is awaited is handed out; one that does not
/// is handed out once when the bound has passed, and again whenever it moves.
fn verdict(dirty: &Dirty, version: i64) -> Option<bool> {
    if version >= dirty.awaited {
        Some(false)
    } else if dirty.told_stale {
        (version > dirty.pushed).then_some(true)
    } else {
        (dirty.since.elapsed() >= BOUND).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(awaited: i64, for_seconds: u64) -> Dirty {
        let now = Instant::now();
        Dirty {
            target: awaited + 1,
            awaited,
            place: None,
            pushed: 0,
            since: now.checked_sub(Duration::from_secs(for_seconds)).unwrap(),
            next_look: now,
            looks: 0,
            told_stale: false,
        }
    }

    #[test]
    fn a_row_is_handed_out_when_it_shows_its_event_and_not_before() {
        assert_eq!(verdict(&waiting(3, 0), 2), None);
        assert_eq!(verdict(&waiting(3, 0), 3), Some(false));
        assert_eq!(verdict(&waiting(3, 0), 5), Some(false));
    }

    #[test]
    fn a_row_that_stays_behind_is_told_once_as_stale_and_again_when_caught_up() {
        assert_eq!(verdict(&waiting(3, 6), 1), Some(true));
        let told = after_look(waiting(3, 6), Some((1, true)));
        assert_eq!(verdict(&told, 1), None);
        assert_eq!(verdict(&told, 2), Some(true));
        assert_eq!(verdict(&told, 3), Some(false));
    }

    #[test]
    fn the_bound_starts_anew_with_every_version_shown() {
        let moved = after_look(waiting(3, 6), Some((3, false)));
        assert_eq!(verdict(&moved, 3), None);
        assert_eq!(verdict(&moved, 4), Some(false));
    }
}
