//! Histories that the domain itself decides: random commands, of which those that are refused leave no event.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::{Aggregate, DomainEvent};
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use uuid::{NoContext, Timestamp, Uuid};
use weft_domain::account::{
    Account, AccountCommand, AccountConfig, AccountConfigChange, GatewayKind, SessionLossCause,
};
use weft_domain::conversation::{Conversation, ConversationCommand};
use weft_domain::message::{
    AcceptMessage, CancelCause, Message, MessageCommand, MessageType, Receipt, ResolvedBy, ResolvedOutcome,
};
use weft_domain::{
    AccountId, BatchId, ConversationId, FieldChange, LogAggregate, LogOrder, LoginAttemptId, Sealed, TenantId,
    WecomConversationId,
};
use weft_platform::config::KafkaSection;
use weft_platform::kafka::{EventRecord, partition_for};

pub(crate) const LOG_ID: Uuid = Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0099);

/// A log at work: time moves on, and every event gets its place.
pub(crate) struct History {
    pub(crate) kafka: KafkaSection,
    pub(crate) random: StdRng,
    pub(crate) now: DateTime<Utc>,
    pub(crate) records: Vec<EventRecord>,
    pub(crate) accounts: HashMap<Uuid, Account>,
    pub(crate) messages: HashMap<Uuid, Message>,
    pub(crate) conversations: HashMap<Uuid, Conversation>,
    versions: HashMap<(&'static str, Uuid), i64>,
    offsets: HashMap<(String, i32), i64>,
    transaction_id: i64,
    position: i64,
    serial: u64,
}

/// A sealed value that nobody can open.
pub(crate) fn sealed<T>(subject: &str, serial: u64) -> Sealed<T> {
    Sealed::new(
        subject.to_owned(),
        "subject".to_owned(),
        "AAAAAAAAAAAAAAAA".to_owned(),
        format!("c{serial:032}"),
    )
}

impl History {
    pub(crate) fn new(kafka: &KafkaSection, seed: u64) -> Self {
        Self {
            kafka: kafka.clone(),
            random: super::random(seed),
            now: "2026-03-31T22:30:00Z".parse().unwrap(),
            records: Vec::new(),
            accounts: HashMap::new(),
            messages: HashMap::new(),
            conversations: HashMap::new(),
            versions: HashMap::new(),
            offsets: HashMap::new(),
            transaction_id: 1_000,
            position: 0,
            serial: 0,
        }
    }

    /// Accounts that logged in, out and through every trouble; at each, messages and conversations.
    pub(crate) fn of_everything(kafka: &KafkaSection, seed: u64, steps: usize) -> Self {
        let mut history = Self::new(kafka, seed);
        let tenants = [TenantId(Uuid::from_u128(0xa)), TenantId(Uuid::from_u128(0xb))];
        let accounts: Vec<(TenantId, Uuid)> = (0..6)
            .map(|n| (tenants[n % 2], history.new_account(tenants[n % 2])))
            .collect();
        for _ in 0..steps {
            let (tenant, account) = accounts[history.random.random_range(0..accounts.len())];
            match history.random.random_range(0..10) {
                0..3 => history.change_account(account),
                3..5 => drop(history.new_message(tenant, AccountId(account))),
                5..8 => history.change_some_message(),
                _ => history.change_conversation(tenant, AccountId(account)),
            }
        }
        history
    }

    pub(crate) fn of(&self, aggregate: &str) -> Vec<EventRecord> {
        self.records
            .iter()
            .filter(|record| record.aggregate_type == aggregate)
            .cloned()
            .collect()
    }

    pub(crate) fn new_id(&mut self) -> Uuid {
        let (seconds, nanos) = (self.now.timestamp().unsigned_abs(), self.now.timestamp_subsec_nanos());
        let mut bytes = *Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanos)).as_bytes();
        self.random.fill_bytes(&mut bytes[8..]);
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid::from_bytes(bytes)
    }

    fn tick(&mut self) -> DateTime<Utc> {
        self.serial += 1;
        let pause = if self.random.random_ratio(1, 50) {
            1_800_000
        } else {
            20_000
        };
        self.now += TimeDelta::milliseconds(self.random.random_range(0..pause));
        self.now
    }

    pub(crate) fn new_account(&mut self, tenant_id: TenantId) -> Uuid {
        let (id, now, serial) = (self.new_id(), self.tick(), self.serial);
        let subject = format!("account:{id}");
        self.account(
            id,
            tenant_id,
            AccountCommand::Create {
                tenant_id,
                account_name: format!("账号 {serial}"),
                phone: Some(sealed(&subject, serial)),
                email: None,
                user_id: Some(format!("user-{serial}")),
                gateway: GatewayKind::Instance,
                config: AccountConfig::default(),
                now,
            },
        );
        id
    }

    pub(crate) fn change_account(&mut self, id: Uuid) {
        let (now, serial) = (self.tick(), self.serial);
        let subject = format!("account:{id}");
        let attempt = self.accounts[&id]
            .login
            .as_ref()
            .map_or(LoginAttemptId(Uuid::nil()), |login| login.attempt);
        let new_attempt = LoginAttemptId(self.new_id());
        let error_message = Some(format!("trouble {serial}"));
        let tenant = self.accounts[&id].tenant_id.unwrap();
        let commands = [
            AccountCommand::StartLogin {
                attempt: new_attempt,
                now,
            },
            AccountCommand::StartLogin {
                attempt: new_attempt,
                now,
            },
            AccountCommand::IssueQrCode {
                attempt,
                content: sealed(&subject, serial),
                expires_at: now + TimeDelta::minutes(2),
                now,
            },
            AccountCommand::IssueQrCode {
                attempt,
                content: sealed(&subject, serial),
                expires_at: now + TimeDelta::minutes(2),
                now,
            },
            AccountCommand::RecordScan { attempt, now },
            AccountCommand::ConfirmLogin { attempt, now },
            AccountCommand::ConfirmLogin { attempt, now },
            AccountCommand::RequireVerification { attempt, now },
            AccountCommand::SubmitVerificationCode {
                attempt,
                code: sealed(&subject, serial),
                now,
            },
            AccountCommand::RecordVerificationFailure { attempt, now },
            AccountCommand::ExpireQrCode { attempt, now },
            AccountCommand::RejectLogin { attempt, now },
            AccountCommand::TimeOutLogin { attempt, now },
            AccountCommand::FailLogin {
                attempt,
                reason: "instance_unavailable".to_owned(),
                error_message: error_message.clone(),
                now,
            },
            AccountCommand::CancelLogin { now },
            AccountCommand::RecordInstance {
                guid: format!("guid-{serial}"),
                now,
            },
            AccountCommand::RecordInstanceFailure {
                error_message: format!("trouble {serial}"),
                now,
            },
            AccountCommand::RecordProfile {
                user_info: sealed(&subject, serial),
                now,
            },
            AccountCommand::LoseSession {
                cause: SessionLossCause::Network,
                error_message: error_message.clone(),
                now,
            },
            AccountCommand::LoseSession {
                cause: SessionLossCause::Auth,
                error_message: None,
                now,
            },
            AccountCommand::RestoreSession { now },
            AccountCommand::Restrict {
                until: now + TimeDelta::seconds(90),
                now,
            },
            AccountCommand::LiftRestriction { now },
            AccountCommand::RecordRemoteSignOut {
                reason: "other_device".to_owned(),
                error_message: error_message.clone(),
                now,
            },
            AccountCommand::LogOut { now },
            AccountCommand::StartRecovery {
                strategy: "restore".to_owned(),
                now,
            },
            AccountCommand::CompleteRecovery { now },
            AccountCommand::FailRecovery {
                attempts_left: (serial % 2) as u32,
                error_message,
                now,
            },
            AccountCommand::Disable {
                reason: format!("张三 said {serial}"),
                now,
            },
            AccountCommand::Enable { now },
            AccountCommand::Update {
                account_name: Some(format!("renamed {serial}")),
                phone: FieldChange::Cleared,
                email: FieldChange::Set(sealed(&subject, serial)),
                user_id: FieldChange::Unchanged,
                config: AccountConfigChange {
                    daily_limit: FieldChange::Set(serial as u32),
                    ..Default::default()
                },
                config_defaults: AccountConfig::default(),
                now,
            },
        ];
        let chosen = self.random.random_range(0..commands.len());
        self.account(id, tenant, commands.into_iter().nth(chosen).unwrap());
    }

    pub(crate) fn account(&mut self, id: Uuid, tenant: TenantId, command: AccountCommand) {
        let mut state = self.accounts.remove(&id).unwrap_or_default();
        self.append(&mut state, id, tenant, command);
        self.accounts.insert(id, state);
    }

    fn some_conversation(&mut self) -> WecomConversationId {
        let n: u32 = self.random.random_range(0..4);
        let text = if n < 2 {
            format!("S:1688850{n}_7881300{n}")
        } else {
            format!("R:10696052{n}")
        };
        text.parse().unwrap()
    }

    pub(crate) fn new_message(&mut self, tenant_id: TenantId, account_id: AccountId) -> Uuid {
        let conversation = self.some_conversation();
        let content = sealed(
            &format!("conversation:{}", ConversationId::of(account_id, &conversation)),
            self.serial,
        );
        self.new_message_with(tenant_id, account_id, conversation, content)
    }

    pub(crate) fn new_message_with(
        &mut self,
        tenant_id: TenantId,
        account_id: AccountId,
        conversation_id: WecomConversationId,
        content: Sealed<weft_domain::message::MessageContent>,
    ) -> Uuid {
        let (now, id, serial) = (self.tick(), self.new_id(), self.serial);
        let planned = self.random.random_ratio(1, 5);
        self.message(
            id,
            tenant_id,
            MessageCommand::Accept(Box::new(AcceptMessage {
                account_id,
                tenant_id,
                conversation_id,
                message_type: MessageType::ALL[serial as usize % 6],
                content,
                priority: (serial % 10 + 1) as u8,
                scheduled_time: planned.then(|| now + TimeDelta::minutes(30)),
                batch_id: (serial % 3 == 0).then_some(BatchId(Uuid::from_u128(u128::from(serial / 10)))),
                batch_index: (serial % 3 == 0).then_some(serial as u32 % 10),
                callback_url: None,
                client_reference: (serial % 4 == 0).then(|| format!("order-{serial}")),
                now,
            })),
        );
        id
    }

    pub(crate) fn change_some_message(&mut self) {
        let mut ids: Vec<Uuid> = self.messages.keys().copied().collect();
        ids.sort_unstable();
        if !ids.is_empty() {
            let id = ids[self.random.random_range(0..ids.len())];
            self.change_message(id);
        }
    }

    pub(crate) fn change_message(&mut self, id: Uuid) {
        let (now, serial) = (self.tick(), self.serial);
        let message = &self.messages[&id];
        let tenant = message.accepted.as_ref().unwrap().tenant_id;
        let attempt = message.attempt;
        let receipt = Receipt {
            wework_msg_id: format!("w{serial}"),
            appinfo: None,
            wework_send_time: None,
        };
        let commands = [
            MessageCommand::StartAttempt { now },
            MessageCommand::StartAttempt { now },
            MessageCommand::StartAttempt { now },
            MessageCommand::RecordSent {
                attempt,
                receipt: receipt.clone(),
                now,
            },
            MessageCommand::RecordSent {
                attempt,
                receipt: receipt.clone(),
                now,
            },
            MessageCommand::RecordSent {
                attempt,
                receipt: receipt.clone(),
                now,
            },
            MessageCommand::RecordDelivered { now },
            MessageCommand::RecordDelivered { now },
            MessageCommand::RecordRead { now },
            MessageCommand::RecordRefused {
                attempt,
                error_code: "wecom.-2003".to_owned(),
                error_message: Some("no".to_owned()),
                now,
            },
            MessageCommand::ScheduleRetry {
                attempt,
                error_code: "wecom.-3001".to_owned(),
                error_message: None,
                retry_at: now + TimeDelta::seconds(1),
                now,
            },
            MessageCommand::MarkUnknown {
                attempt,
                error_message: Some("closed".to_owned()),
                now,
            },
            MessageCommand::Resolve {
                outcome: ResolvedOutcome::Sent,
                by: ResolvedBy::Callback,
                reason: None,
                receipt: Some(receipt),
                now,
            },
            MessageCommand::Resolve {
                outcome: ResolvedOutcome::Failed,
                by: ResolvedBy::Operator,
                reason: Some("gone".to_owned()),
                receipt: None,
                now,
            },
            MessageCommand::Resolve {
                outcome: ResolvedOutcome::Resend,
                by: ResolvedBy::Operator,
                reason: None,
                receipt: None,
                now,
            },
            MessageCommand::Cancel {
                cause: CancelCause::Requested,
                now,
            },
        ];
        let chosen = self.random.random_range(0..commands.len());
        self.message(id, tenant, commands.into_iter().nth(chosen).unwrap());
    }

    pub(crate) fn message(&mut self, id: Uuid, tenant: TenantId, command: MessageCommand) {
        let mut state = self.messages.remove(&id).unwrap_or_default();
        self.append(&mut state, id, tenant, command);
        if state.accepted.is_some() {
            self.messages.insert(id, state);
        }
    }

    pub(crate) fn change_conversation(&mut self, tenant_id: TenantId, account_id: AccountId) {
        let (now, serial, conversation_id) = (self.tick(), self.serial, self.some_conversation());
        let id = ConversationId::of(account_id, &conversation_id).0;
        let subject = format!("conversation:{id}");
        let receive = |n: u64| ConversationCommand::ReceiveMessage {
            account_id,
            tenant_id,
            conversation_id: conversation_id.clone(),
            wework_msg_id: format!("in-{n}"),
            sender: sealed(&subject, n),
            content: sealed(&subject, n),
            sent_at: now - TimeDelta::seconds((n % 90) as i64),
            now,
        };
        let commands = [
            ConversationCommand::Open {
                account_id,
                tenant_id,
                conversation_id: conversation_id.clone(),
                now,
            },
            receive(serial),
            receive(serial),
            receive(serial / 2),
            ConversationCommand::Rename {
                name: sealed(&subject, serial),
                now,
            },
            ConversationCommand::Pin { now },
            ConversationCommand::Unpin { now },
            ConversationCommand::Tag {
                tags: vec![format!("tag {}", serial % 5)],
                now,
            },
            ConversationCommand::MarkRead { now },
        ];
        let chosen = self.random.random_range(0..commands.len());
        let mut state = self.conversations.remove(&id).unwrap_or_default();
        self.append(&mut state, id, tenant_id, commands.into_iter().nth(chosen).unwrap());
        self.conversations.insert(id, state);
    }

    fn append<A: LogAggregate>(&mut self, state: &mut A, id: Uuid, tenant: TenantId, command: A::Command) {
        let Ok(events) = state.decide(command) else { return };
        self.transaction_id += self.random.random_range(1..5);
        for event in events {
            let version = self.versions.entry((A::TYPE, id)).or_default();
            *version += 1;
            let sequence = *version;
            self.position += 1;
            let payload = serde_json::to_value(&event).unwrap();
            // The key is the account's id everywhere; an account's own events do not repeat it.
            let key = payload
                .get("account_id")
                .and_then(|id| id.as_str())
                .map_or_else(|| id.to_string(), str::to_owned);
            let partition = partition_for(&key, self.kafka.partition_count(A::TYPE));
            let topic = self.kafka.topic(A::TYPE);
            let next = self.offsets.entry((topic.clone(), partition)).or_default();
            let offset = *next;
            *next += 1;
            let order = LogOrder {
                epoch: 1,
                transaction_id: self.transaction_id,
                position: self.position,
            };
            self.records.push(EventRecord {
                topic,
                partition,
                offset,
                log_id: LOG_ID,
                aggregate_type: A::TYPE.to_owned(),
                aggregate_id: id.to_string(),
                sequence,
                event_type: event.event_type(),
                event_version: event.event_version(),
                tenant_id: tenant.0,
                epoch: order.epoch,
                transaction_id: order.transaction_id,
                position: order.position,
                publication: 1,
                recorded_at: self.now,
                actor: "tester".to_owned(),
                actor_type: "user".to_owned(),
                correlation_id: String::new(),
                traceparent: String::new(),
                payload: serde_json::to_vec(&payload).unwrap(),
            });
            Aggregate::apply(state, event);
        }
    }
}
