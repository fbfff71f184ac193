//! Real defects put into a running cluster: every checker has to find its own, and nothing of it before.

use std::time::Duration;

use serde_json::json;
use sqlx::Executor;

use super::Chaos;
use crate::cluster::Role;
use crate::history::{Outcome, Wish};

/// How long views may take before a difference counts.
const PATIENCE: Duration = Duration::from_secs(5);

/// Every defect that is planted.
const DEFECTS: [&str; 6] = [
    "wrong row in a view",
    "missing row in the facts",
    "double send",
    "quota ignored",
    "event skipped by the relay",
    "no optimistic lock",
];

/// What a checker found before and after.
type Findings = (Vec<String>, Vec<String>);

/// Every one of these checkers names the defect, and named it not before; else what it said.
fn each_names(name: &str, checkers: &[Findings]) -> Result<(), String> {
    let names = |found: &[String]| found.iter().any(|problem| problem.contains(name));
    let missed = checkers.iter().find(|(before, after)| names(before) || !names(after));
    missed.map_or(Ok(()), |(before, after)| {
        Err(format!("{name}: before {before:?}, after {after:?}"))
    })
}

impl Chaos {
    /// Plants a wrong and a missing row, a double send, a forgotten quota, an event that the relay skips and a log without
    /// its optimistic lock, one after the other; answers those that a checker missed, and what it said instead. The cluster
    /// is spoilt afterwards.
    pub async fn undetected_defects(&mut self) -> Vec<String> {
        let found = [
            self.wrong_row().await,
            self.missing_fact().await,
            self.double_send().await,
            self.quota_ignored().await,
            self.event_skipped().await,
            self.no_lock().await,
        ];
        let missed = DEFECTS.into_iter().zip(found);
        missed
            .filter_map(|(name, found)| Some(format!("{name}: {}", found.err()?)))
            .collect()
    }

    /// What the recount of the log and the rebuild find.
    async fn view_findings(&self) -> [Vec<String>; 2] {
        let recount = self.cluster.world.view_differences(PATIENCE).await;
        [recount, self.tool_finds(&["projections", "check", "--all"])]
    }

    /// One status in a view is not what the log tells; it is mended afterwards.
    async fn wrong_row(&self) -> Result<(), String> {
        let views = self.cluster.world.views_pool().await;
        let before = self.view_findings().await;
        let id: String = sqlx::query_scalar(
            "update views.messages set status = 'pending'
             where id = (select id from views.messages where status = 'delivered' order by id limit 1)
             returning id::text",
        )
        .fetch_one(&views)
        .await
        .expect("planted");
        let after = self.view_findings().await;
        sqlx::query("update views.messages set status = 'delivered' where id = $1::uuid")
            .bind(&id)
            .execute(&views)
            .await
            .expect("mended");
        each_names(&id, &before.into_iter().zip(after).collect::<Vec<_>>())
    }

    /// ClickHouse has lost a message.
    async fn missing_fact(&self) -> Result<(), String> {
        let before = self.view_findings().await;
        let clickhouse = self.cluster.world.clickhouse();
        let id: String = clickhouse
            .query("select toString(min(message_id)) from message_facts")
            .fetch_one()
            .await
            .expect("a fact");
        let delete = format!(
            "delete from {}_g1.message_facts where toString(message_id) = ?",
            self.cluster.world.name()
        );
        clickhouse.query(&delete).bind(&id).execute().await.expect("planted");
        let after = self.view_findings().await;
        each_names(&id, &before.into_iter().zip(after).collect::<Vec<_>>())
    }

    /// The same text reaches WeCom once more, past Weft.
    async fn double_send(&self) -> Result<(), String> {
        let sent = self
            .operations
            .iter()
            .find_map(|operation| match (&operation.wish, &operation.outcome) {
                (Wish::Send { account, text }, Outcome::Accepted { .. }) => {
                    Some((self.instances.get(account)?.clone(), text.clone()))
                }
                _ => None,
            });
        let (guid, content) = sent.expect("something was sent");
        let before = self.ledger_differences().await;
        let body = json!({"guid": guid, "conversation_id": "S:11", "content": &content});
        assert_eq!(self.cluster.world.simulator_post("/msg/send_text", body).await, 200);
        let after = self.ledger_differences().await;
        each_names(&format!("{content} was sent 2 times"), &[(before, after)])
    }

    /// The tenant's counters are forgotten in the middle of the day.
    async fn quota_ignored(&self) -> Result<(), String> {
        let before = self.log_contradictions().await;
        self.log.execute("delete from quota_usage").await.expect("planted");
        for number in 0..=self.limit.messages_a_day {
            let body = json!({
                "account_id": self.limited.accounts[0], "conversation_id": "S:11",
                "message_type": "text", "content": {"text": format!("过量 {number}")},
            });
            self.limited.apis[0].post("/api/v1/messages/send", body).await;
        }
        each_names("passed its limit", &[(before, self.log_contradictions().await)])
    }

    /// The relay's checkpoint is moved past an event that it has not published.
    async fn event_skipped(&mut self) -> Result<(), String> {
        let [account, other] = [self.main.accounts[0].clone(), self.main.accounts[1].clone()];
        let (topics, views) = (
            self.topic_contradictions().await,
            self.cluster.world.view_differences(Duration::ZERO).await,
        );
        let relays = self.cluster.first(Role::Relay);
        for relay in [relays, relays + 1] {
            self.cluster.kill(relay);
        }
        let disabled = self
            .cluster
            .world
            .api
            .post(
                &format!("/api/v1/accounts/{account}/disable"),
                json!({"reason": "演练"}),
            )
            .await;
        assert!(disabled.status.is_success(), "{}", disabled.body);
        sqlx::query(
            "update relay_checkpoints set (epoch, transaction_id, position) =
                (select epoch, transaction_id, position from events order by epoch desc, transaction_id desc, position desc limit 1)",
        )
        .execute(&self.log)
        .await
        .expect("planted");
        for relay in [relays, relays + 1] {
            self.cluster.restart(relay, &[]).await;
        }
        // Once a later event is everywhere, the skipped one is not on its way.
        let later = self.cluster.world.api.send_text(&other, "S:11", "跳过之后").await;
        self.cluster.world.message_in(&later, &["delivered"]).await;
        let topics = (topics, self.topic_contradictions().await);
        each_names(&format!("Kafka lacks {account}"), &[topics])?;
        let views = (views, self.cluster.world.view_differences(PATIENCE).await);
        each_names("views.accounts", &[views])
    }

    /// The log without its primary key: two command APIs that change one account at the same time give two events one
    /// version.
    async fn no_lock(&self) -> Result<(), String> {
        const TRIES: usize = 100;
        let account = &self.main.accounts[1];
        let path = format!("/api/v1/accounts/{account}");
        let [first, second, ..] = self.main.apis.as_slice() else {
            return Err("there are no two command APIs".to_owned());
        };
        let before = [self.log_contradictions().await, self.tool_finds(&["log", "verify"])];
        self.log
            .execute("alter table events drop constraint events_pkey")
            .await
            .expect("planted");
        for number in 0..TRIES {
            tokio::join!(
                first.put(&path, json!({"account_name": format!("甲 {number}")})),
                second.put(&path, json!({"account_name": format!("乙 {number}")})),
            );
            let doubled: bool = sqlx::query_scalar(
                "select exists (select from events where aggregate_id = $1 group by sequence having count(*) > 1)",
            )
            .bind(account)
            .fetch_one(&self.log)
            .await
            .expect("the log answers");
            if doubled {
                break;
            }
        }
        let after = [self.log_contradictions().await, self.tool_finds(&["log", "verify"])];
        each_names(account, &before.into_iter().zip(after).collect::<Vec<_>>())
    }
}
