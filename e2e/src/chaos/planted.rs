//! Real defects put into a running cluster: every checker has to find its own.

use serde_json::json;
use sqlx::Executor;

use super::Chaos;
use super::verdict::topic_contradictions;
use crate::cluster::Role;
use crate::history::{Outcome, Wish};

impl Chaos {
    /// Plants a double send, an ignored quota, an event that the relay skips, a wrong row and a missing optimistic lock,
    /// one after the other; answers those that no checker found. The cluster is spoilt afterwards.
    pub async fn undetected_defects(&mut self) -> Vec<&'static str> {
        let mut undetected = Vec::new();
        let mut expect = |name: &'static str, found: bool| {
            if !found {
                undetected.push(name);
            }
        };
        expect("double send", self.double_send().await);
        expect("quota ignored", self.quota_ignored().await);
        expect("event skipped by the relay", self.event_skipped().await);
        expect("wrong row in a view", self.wrong_row().await);
        expect("two events of one version", self.guard_off().await);
        undetected
    }

    /// The same text reaches WeCom once more, past Weft.
    async fn double_send(&self) -> bool {
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
        let body = json!({"guid": guid, "conversation_id": "S:11", "content": content});
        assert_eq!(self.cluster.world.simulator_post("/msg/send_text", body).await, 200);
        !self.ledger_differences().await.is_empty()
    }

    /// The tenant's counters are forgotten in the middle of the day.
    async fn quota_ignored(&mut self) -> bool {
        let before = self.log_contradictions().await.len();
        sqlx::query("delete from quota_usage")
            .execute(&self.log)
            .await
            .expect("planted");
        for member in 0..self.cluster.size() {
            if self.cluster.role(member) == Role::CommandApi {
                self.cluster.kill(member);
                self.cluster.restart(member, &[]).await;
            }
        }
        for number in 0..=self.limit.messages_a_day {
            self.limited
                .api
                .send_text(&self.limited.accounts[0], "S:11", &format!("过量 {number}"))
                .await;
        }
        self.log_contradictions().await.len() > before
    }

    /// The relay's checkpoint is moved past an event that it has not published.
    async fn event_skipped(&mut self) -> bool {
        let relays = self.cluster.first(Role::Relay);
        for relay in [relays, relays + 1] {
            self.cluster.kill(relay);
        }
        let account = &self.main.accounts[0];
        self.cluster
            .world
            .api
            .post(
                &format!("/api/v1/accounts/{account}/disable"),
                json!({"reason": "演练"}),
            )
            .await;
        self.cluster
            .world
            .api
            .send_text(&self.main.accounts[1], "S:11", "跳过的一条")
            .await;
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
        let topics = topic_contradictions(&self.log, self.cluster.world.name()).await;
        !topics.is_empty() && !self.view_differences().await.is_empty()
    }

    /// One status in a view is not what the log tells.
    async fn wrong_row(&self) -> bool {
        let views = self.cluster.world.views_pool().await;
        let (before, _) = self.cluster.weft(&["projections", "check"]);
        let generation: String =
            sqlx::query_scalar("select max(nspname::text) from pg_namespace where nspname ~ '^views_g[0-9]+$'")
                .fetch_one(&views)
                .await
                .expect("a generation");
        let row = format!("(select id from {generation}.messages where status = 'delivered' order by id limit 1)");
        sqlx::query(&format!(
            "update {generation}.messages set status = 'pending' where id = {row}"
        ))
        .execute(&views)
        .await
        .expect("planted");
        let (after, output) = self.cluster.weft(&["projections", "check"]);
        before.is_some() && after != Some(0) && output.contains("messages")
    }

    /// The log without its primary key takes a second event of one version.
    async fn guard_off(&self) -> bool {
        let before = self.log_contradictions().await.len();
        self.log
            .execute("alter table events drop constraint events_pkey cascade")
            .await
            .expect("planted");
        self.log
            .execute(
                "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
                 select aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata
                 from events where event_type = 'MessageSent' order by position limit 1",
            )
            .await
            .expect("planted");
        let (verified, _) = self.cluster.weft(&["log", "verify"]);
        self.log_contradictions().await.len() > before && verified != Some(0)
    }
}
