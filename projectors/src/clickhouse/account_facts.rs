//! `account_status_facts` and `account_transitions`: each account's newest status, and each change of it. As with
//! messages, transitions are inserted before the facts that vouch for them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use clickhouse::Row;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;
use uuid::Uuid;
use weft_domain::account::{AccountEvent, AccountStatus};

use super::{Facts, answered};
use crate::engine::{Projection, Tables};
use crate::error::ProjectionError;
use crate::event::Event;
use crate::shape::{Shape, Versioned, fold_rows};

#[derive(Clone, Debug)]
pub struct AccountFacts {
    facts: Facts,
}

impl AccountFacts {
    pub const fn new(facts: Facts) -> Self {
        Self { facts }
    }

    async fn load(&self, events: &[Arc<Event>]) -> Result<HashMap<Uuid, AccountFact>, ProjectionError> {
        if events.is_empty() {
            return Ok(HashMap::new());
        }
        let tenants: BTreeSet<String> = events.iter().map(|event| event.tenant_id.to_string()).collect();
        let accounts: BTreeSet<String> = events.iter().map(|event| event.id.to_string()).collect();
        let query = self
            .facts
            .client
            .query("select ?fields from account_status_facts final where tenant_id in ? and account_id in ?")
            .bind(Vec::from_iter(tenants))
            .bind(Vec::from_iter(accounts));
        let rows: Vec<AccountFact> = answered(query.fetch_all()).await?;
        Ok(rows.into_iter().map(|row| (row.account_id, row)).collect())
    }
}

impl Projection for AccountFacts {
    type Prepared = ();

    const NAME: &'static str = "account_status_facts";
    const HEALTH: &'static str = "projection account_status_facts";
    const AGGREGATES: &'static [&'static str] = &["account"];
    const SHAPE: Shape = Shape::Row;
    const TABLES: Tables = Tables::Facts(&["account_status_facts", "account_transitions"]);
    const MAX_BATCH: usize = 4_000;
    const LINGER: std::time::Duration = std::time::Duration::from_millis(250);

    async fn prepare(&self, events: &[Arc<Event>]) -> Result<(), ProjectionError> {
        let known = self.load(events).await?;
        let (facts, transitions) = fold(known, events)?;
        self.facts.insert("account_transitions", &transitions).await?;
        self.facts.insert("account_status_facts", &facts).await
    }

    async fn write(&self, _: &mut PgConnection, _: &[Arc<Event>], (): ()) -> Result<(), ProjectionError> {
        Ok(())
    }
}

/// A row of `account_status_facts`.
#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
pub struct AccountFact {
    #[serde(with = "clickhouse::serde::uuid")]
    pub tenant_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub account_id: Uuid,
    pub gateway: String,
    pub status: String,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    pub since: DateTime<Utc>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis::option")]
    pub online_since: Option<DateTime<Utc>>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    pub created_at: DateTime<Utc>,
    pub version: u64,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    pub updated_at: DateTime<Utc>,
}

/// A row of `account_transitions`.
#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
pub struct AccountTransition {
    #[serde(with = "clickhouse::serde::uuid")]
    pub tenant_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub account_id: Uuid,
    pub sequence: u64,
    pub event_type: String,
    pub old_status: Option<String>,
    pub new_status: String,
    pub reason: Option<String>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    pub at: DateTime<Utc>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    pub recorded_at: DateTime<Utc>,
}

impl Versioned for AccountFact {
    fn version(&self) -> i64 {
        self.version.cast_signed()
    }
}

/// The facts and transitions that `events` make, from the facts as they are. Pure.
fn fold(
    known: HashMap<Uuid, AccountFact>,
    events: &[Arc<Event>],
) -> Result<(Vec<AccountFact>, Vec<AccountTransition>), ProjectionError> {
    let mut transitions = Vec::new();
    let facts = fold_rows(known, events, |before, event| {
        let unfounded = ProjectionError::Unfounded { stream: event.id };
        let Some(body) = event.account() else {
            return Err(unfounded);
        };
        let old_status = before.as_ref().and_then(|fact| AccountStatus::parse(&fact.status));
        let Some(mut fact) = before.or_else(|| create(event, body)) else {
            return Err(unfounded);
        };
        let at = body.at();
        fact.version = event.sequence.cast_unsigned();
        fact.updated_at = at;
        if let Some(new_status) = body.status_after(old_status) {
            match new_status {
                AccountStatus::Online if old_status == Some(AccountStatus::RateLimited) => {}
                // A restricted session still lives.
                AccountStatus::RateLimited => {}
                AccountStatus::Online => fact.online_since = Some(at),
                _ => fact.online_since = None,
            }
            new_status.as_str().clone_into(&mut fact.status);
            fact.since = at;
            transitions.push(AccountTransition {
                tenant_id: fact.tenant_id,
                account_id: fact.account_id,
                sequence: event.sequence.cast_unsigned(),
                event_type: body.name().to_owned(),
                old_status: old_status.map(|status| status.as_str().to_owned()),
                new_status: fact.status.clone(),
                reason: stable_reason(body).map(str::to_owned),
                at,
                recorded_at: event.recorded_at,
            });
        }
        Ok(fact)
    })?;
    Ok((facts, transitions))
}

/// What a person typed stays out of ClickHouse.
fn stable_reason(event: &AccountEvent) -> Option<&str> {
    event
        .reason()
        .filter(|_| !matches!(event, AccountEvent::AccountDisabled { .. }))
}

fn create(event: &Event, body: &AccountEvent) -> Option<AccountFact> {
    let AccountEvent::AccountCreated {
        tenant_id, gateway, at, ..
    } = body
    else {
        return None;
    };
    Some(AccountFact {
        tenant_id: tenant_id.0,
        account_id: event.id,
        gateway: gateway.as_str().to_owned(),
        status: AccountStatus::Created.as_str().to_owned(),
        since: *at,
        online_since: None,
        created_at: *at,
        version: event.sequence.cast_unsigned(),
        updated_at: *at,
    })
}
