//! Lives of messages, for the benchmarks that read a log.

use cqrs_es::DomainEvent;
use sqlx::PgPool;
use weft_domain::account::{Account, AccountConfig, AccountEvent, GatewayKind};
use weft_domain::message::{Message, MessageContent, MessageEvent, MessageType, Receipt, TextContent};
use weft_domain::tenant::{Tenant, TenantEvent, TenantLimits};
use weft_domain::{AccountId, ActorType, ConversationId, LogAggregate, Metadata, Sealed, TenantId};
use weft_log_writer::Executor;
use weft_platform::clock::Clock;

use crate::Failure;
use crate::copy::{EventRow, copy, encode};

const TENANTS: usize = 8;
const ACCOUNTS: usize = 200;
/// Messages that are on their way together: their events lie mixed in the log.
pub(crate) const TOGETHER: usize = 1_000;
/// Accepted, attempted, sent, delivered.
pub(crate) const EVENTS_PER_MESSAGE: usize = 4;

struct Lane {
    tenant_id: TenantId,
    account_id: AccountId,
    content: Sealed<MessageContent>,
}

pub(crate) struct History {
    clock: Clock,
    lanes: Vec<Lane>,
}

impl History {
    /// With contents that open under the executor's keys.
    pub(crate) async fn prepare(executor: &Executor) -> Result<Self, Failure> {
        let clock = Clock::system();
        let tenants: Vec<TenantId> = (0..TENANTS).map(|_| TenantId(clock.new_id())).collect();
        let content = MessageContent::Text(TextContent {
            text: "您好，您预订的沙发已经到店，明天上午九点到十一点送货，请保持电话畅通。".to_owned(),
        });
        let mut lanes = Vec::with_capacity(ACCOUNTS);
        for number in 0..ACCOUNTS {
            let tenant_id = tenants[number % TENANTS];
            let conversation = ConversationId(clock.new_id());
            let sealer = executor.sealer();
            lanes.push(Lane {
                tenant_id,
                account_id: AccountId(clock.new_id()),
                content: sealer
                    .seal_content(tenant_id, conversation, clock.now(), &content)
                    .await?,
            });
        }
        Ok(Self { clock, lanes })
    }

    /// Whose messages they are.
    pub(crate) fn senders(&self) -> impl Iterator<Item = (TenantId, AccountId)> {
        self.lanes.iter().map(|lane| (lane.tenant_id, lane.account_id))
    }

    /// The events of some messages that live together, in the order in which they happen.
    pub(crate) fn rows(&self, messages: usize) -> Vec<EventRow> {
        let lives: Vec<_> = (0..messages)
            .map(|number| {
                let lane = &self.lanes[number % self.lanes.len()];
                (self.clock.new_id().to_string(), lane, self.life(lane))
            })
            .collect();
        (0..EVENTS_PER_MESSAGE)
            .flat_map(|place| {
                lives.iter().map(move |(id, lane, life)| {
                    self.row::<Message>(id, lane.tenant_id, place as i64 + 1, &life[place])
                })
            })
            .collect()
    }

    fn life(&self, lane: &Lane) -> [MessageEvent; EVENTS_PER_MESSAGE] {
        let (account_id, at) = (lane.account_id, self.clock.now());
        let conversation_id: weft_domain::WecomConversationId = "S:1688850000000001".parse().expect("a constant");
        [
            MessageEvent::MessageAccepted {
                account_id,
                tenant_id: lane.tenant_id,
                conversation_id: conversation_id.clone(),
                message_type: MessageType::Text,
                content: lane.content.clone(),
                priority: 5,
                scheduled_time: None,
                batch_id: None,
                batch_index: None,
                callback_url: None,
                client_reference: None,
                at,
            },
            MessageEvent::AttemptStarted {
                account_id,
                attempt: 1,
                at,
            },
            MessageEvent::MessageSent {
                account_id,
                conversation_id,
                attempt: 1,
                receipt: Receipt {
                    wework_msg_id: self.clock.new_id().simple().to_string(),
                    appinfo: Some(self.clock.new_id().simple().to_string()),
                    wework_send_time: Some(at),
                },
                at,
            },
            MessageEvent::MessageDelivered { account_id, at },
        ]
    }

    fn row<A: LogAggregate>(&self, id: &str, tenant_id: TenantId, sequence: i64, event: &A::Event) -> EventRow {
        let request_id = self.clock.new_id().to_string();
        let metadata = Metadata {
            tenant_id,
            actor: "bench".to_owned(),
            actor_type: ActorType::System,
            correlation_id: request_id.clone(),
            request_id,
            causation_id: None,
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
            occurred_at: self.clock.now(),
        };
        let key = A::partition_key(id, event);
        EventRow {
            aggregate_type: A::TYPE,
            aggregate_id: id.to_owned(),
            sequence,
            event_type: event.event_type(),
            event_version: event.event_version(),
            payload: serde_json::to_string(event).expect("an event is JSON"),
            metadata: serde_json::to_string(&metadata.to_map(&key)).expect("a map of texts is JSON"),
        }
    }

    /// The streams of the tenants.
    pub(crate) fn tenants(&self) -> Vec<EventRow> {
        let tenants = self.lanes.iter().take(TENANTS).map(|lane| lane.tenant_id);
        let created = |tenant_id: TenantId| {
            let event = TenantEvent::TenantCreated {
                tenant_code: tenant_id.to_string(),
                tenant_name: "bench".to_owned(),
                limits: TenantLimits::default(),
                time_zone: "Asia/Shanghai".to_owned(),
                at: self.clock.now(),
            };
            self.row::<Tenant>(&tenant_id.to_string(), tenant_id, 1, &event)
        };
        tenants.map(created).collect()
    }

    /// New accounts, each with its instance: two events, two claims.
    pub(crate) fn accounts(&self, count: usize) -> Vec<EventRow> {
        let account = |number: usize| {
            let tenant_id = self.lanes[number % self.lanes.len()].tenant_id;
            let (id, at) = (self.clock.new_id().to_string(), self.clock.now());
            let events = [
                AccountEvent::AccountCreated {
                    tenant_id,
                    account_name: id.clone(),
                    phone: None,
                    email: None,
                    user_id: None,
                    gateway: GatewayKind::default(),
                    config: AccountConfig::default(),
                    at,
                },
                AccountEvent::InstanceCreated { guid: id.clone(), at },
            ];
            let rows = events.iter().zip(1..);
            let rows = rows.map(|(event, sequence)| self.row::<Account>(&id, tenant_id, sequence, event));
            rows.collect::<Vec<_>>()
        };
        (0..count).flat_map(account).collect()
    }

    /// Appends at least `events` events, a transaction for each block of messages that live together; answers how many.
    pub(crate) async fn fill(&self, pool: &PgPool, events: usize) -> Result<usize, Failure> {
        let mut filled = 0;
        while filled < events {
            let rows = self.rows(TOGETHER);
            filled += rows.len();
            copy(pool, encode(&rows)).await?;
        }
        Ok(filled)
    }
}
