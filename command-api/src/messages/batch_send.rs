//! POST /api/v1/messages/batch-send

use std::convert::Infallible;

use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;
use weft_domain::message::{Message, MessageCommand};
use weft_domain::{AccountId, BatchId, LogAggregate, MessageId};
use weft_log_writer::seal::ContentToSeal;
use weft_log_writer::{CallOptions, ExecuteError, QuotaExceeded, StoredAnswer};
use weft_platform::http::{FieldError, Fields, Node, Permission, Problem, read_object};

use super::new_message::NewMessage;
use crate::body::{Body, RequestBody};
use crate::call::CommandCall;
use crate::refusal::{problem_of, seal_problem};
use crate::reply::Reply;
use crate::state::CommandState;

const MAX_MESSAGES: usize = 1_000;
/// Times a batch is tried with what a limit has room for, while others take that room or give some back.
const MAX_ATTEMPTS: u32 = 16;

#[derive(Debug, ToSchema)]
#[schema(example = json!({
    "account_id": "0193f1a2-7b3c-7d4e-8f50-6172839405a6",
    "task_name": "春节问候",
    "messages": [
        {"conversation_id": "S:1688850000000001", "message_type": "text", "content": {"text": "新年快乐！"}},
        {"conversation_id": "R:10695000000001", "message_type": "text", "content": {"text": "大家新年快乐！"}},
    ],
}))]
pub(crate) struct BatchSend {
    account_id: Uuid,
    #[schema(value_type = Option<String>, min_length = 1, max_length = 255)]
    #[expect(dead_code, reason = "checked, and not yet shown anywhere")]
    task_name: Option<String>,
    /// Each as in send; `account_id` may be repeated if it is the same.
    #[schema(value_type = Vec<NewMessage>, min_items = 1, max_items = 1_000)]
    messages: Vec<Entry>,
}

/// One message, or what is wrong with it.
type Entry = Result<NewMessage, Vec<FieldError>>;

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchAnswer)]
pub(crate) struct BatchAnswer<'b> {
    batch_id: Uuid,
    total_count: usize,
    /// Accepted messages.
    success_count: usize,
    /// In the order of the request; null where one was refused.
    message_ids: Vec<Option<Uuid>>,
    errors: &'b [EntryError],
}

/// Why one message was refused.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchEntryError)]
struct EntryError {
    /// Place in the request, from 0.
    index: usize,
    code: &'static str,
    detail: String,
}

impl RequestBody for BatchSend {
    const IS_BATCH: bool = true;

    fn read(fields: &mut Fields, now: DateTime<Utc>) -> Option<Self> {
        let account_id = fields.required("account_id", Node::uuid);
        let task_name = fields.optional("task_name", |node| node.line(1..=255));
        let messages = fields.required("messages", |node| {
            node.list(1..=MAX_MESSAGES, |item| Some(item.into_value()))
        });
        let entries = messages.map(|messages| {
            messages
                .into_iter()
                .map(|value| entry(value, account_id, now))
                .collect()
        });
        Some(Self {
            account_id: account_id?,
            task_name,
            messages: entries?,
        })
    }
}

/// A wrong entry must not stop the good ones: its errors stay its own.
fn entry(value: Value, batch_account: Option<Uuid>, now: DateTime<Utc>) -> Entry {
    read_object(value, |fields| {
        let account_id = fields.optional("account_id", Node::uuid);
        if account_id.is_some() && batch_account.is_some() && account_id != batch_account {
            let _: Option<()> = fields.refuse("account_id", "out_of_range", "must be the batch's account_id");
        }
        NewMessage::read(fields, now)
    })
}

/// Accepts up to 1,000 messages of one account, in one transaction: all that are well-formed, as far as the daily limits
/// of tenant and account have room for them, first ones first.
#[utoipa::path(
    post,
    path = "/api/v1/messages/batch-send",
    tag = "messages",
    operation_id = "send_messages",
    request_body = BatchSend,
    responses(
        (status = 202, description = "Accepted, as far as it is well-formed and the daily limits have room", body = BatchAnswer),
        (status = 404, description = "account.not_found"),
        (status = 409, description = "account.wrong_status (disabled), idempotency.in_progress"),
        (status = 429, description = "quota.exceeded: there is no room for any"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(
    name = "command.message.batch_send",
    skip_all,
    fields(account.id = %request.account_id, count = request.messages.len(), batch.id)
)]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    Body { request, bytes }: Body<BatchSend>,
) -> Result<Reply, Problem> {
    call.require(Permission::MessageSend)?;
    let options = call.create_options(&app, &bytes);
    let outcome = accept(&app, &call, request, &options).await;
    app.unless_answered_before(outcome, &options).await
}

async fn accept(
    app: &CommandState,
    call: &CommandCall,
    request: BatchSend,
    options: &CallOptions,
) -> Result<Reply, Problem> {
    let account_id = AccountId(request.account_id);
    app.sending_account(call, account_id).await?;
    if request.messages.iter().all(Result::is_err) {
        return Err(all_refused(request.messages));
    }
    let batch_id = BatchId(app.clock.new_id());
    tracing::Span::current().record("batch.id", tracing::field::display(batch_id));
    let (tenant_id, now) = (call.tenant_id(), app.clock.now());
    let to_seal: Vec<ContentToSeal<'_, _>> = request
        .messages
        .iter()
        .flatten()
        .map(|message| message.to_seal(tenant_id, account_id, now))
        .collect();
    let mut sealed = app
        .sealer()
        .seal_contents(&to_seal)
        .await
        .map_err(seal_problem)?
        .into_iter();
    let mut batch = Batch {
        id: batch_id,
        total: request.messages.len(),
        entries: Vec::with_capacity(sealed.len()),
        errors: Vec::new(),
    };
    for (index, entry) in request.messages.into_iter().enumerate() {
        match (entry.map(|message| (message, sealed.next())), u32::try_from(index)) {
            (Ok((message, Some(content))), Ok(place)) => {
                let accept = message.accept(tenant_id, account_id, content, Some((batch_id, place)), now);
                batch.entries.push(Accepting {
                    index,
                    id: MessageId(app.clock.new_id()),
                    command: MessageCommand::Accept(Box::new(accept)),
                });
            }
            (Ok(_), _) => return Err(crate::refusal::defect(&"a message of a batch was not sealed")),
            (Err(errors), _) => batch.errors.push(refused(index, &errors)),
        }
    }
    batch.accept(app, options).await
}

/// What is to be accepted together, and what was refused of the request.
struct Batch {
    id: BatchId,
    total: usize,
    entries: Vec<Accepting>,
    errors: Vec<EntryError>,
}

struct Accepting {
    index: usize,
    id: MessageId,
    command: MessageCommand,
}

impl Batch {
    /// All entries or none; where a limit has room for fewer, the last ones are refused and the others tried again. The
    /// append counts anew each time, so that no limit is passed whoever races for the room.
    async fn accept(mut self, app: &CommandState, options: &CallOptions) -> Result<Reply, Problem> {
        let executor = app.executor(options.metadata.tenant_id);
        for _ in 0..MAX_ATTEMPTS {
            let answer = self.answer();
            let commands = self.entries.iter();
            let commands = commands.map(|entry| (entry.id.to_string(), entry.command.clone()));
            match executor
                .answer::<Message>(commands.collect(), options, |_| answer.clone())
                .await
            {
                Ok(answered) => return Ok(Reply::from(answered)),
                Err(ExecuteError::QuotaExceeded(exceeded)) => {
                    let room = executor.quota_room(&exceeded).await.map_err(problem_of)?;
                    self.shed(&exceeded, room);
                    if self.entries.is_empty() {
                        return Err(problem_of::<Infallible>(ExecuteError::QuotaExceeded(exceeded)));
                    }
                }
                Err(error) => return Err(problem_of(error)),
            }
        }
        Err(problem_of::<Infallible>(ExecuteError::Contended))
    }

    /// Refuses the entries that a limit has no room for: of those that count on it, the ones behind the first `room`.
    fn shed(&mut self, exceeded: &QuotaExceeded, room: i64) {
        let mut left = room;
        let (kept, over): (Vec<_>, Vec<_>) = std::mem::take(&mut self.entries).into_iter().partition(|entry| {
            let counts = counts_on(&entry.command, exceeded);
            left -= i64::from(counts);
            !counts || left >= 0
        });
        self.entries = kept;
        self.errors.extend(over.iter().map(|entry| EntryError {
            index: entry.index,
            code: "quota.exceeded",
            detail: exceeded.to_string(),
        }));
        self.errors.sort_by_key(|error| error.index);
    }

    fn answer(&self) -> StoredAnswer {
        let mut message_ids = vec![None; self.total];
        for entry in &self.entries {
            message_ids[entry.index] = Some(entry.id.0);
        }
        StoredAnswer {
            status: StatusCode::ACCEPTED.as_u16(),
            body: serde_json::json!(BatchAnswer {
                batch_id: self.id.0,
                total_count: self.total,
                success_count: self.entries.len(),
                message_ids,
                errors: &self.errors,
            }),
            etag: None,
        }
    }
}

/// Whether a message uses the limit that was exceeded, on its day.
fn counts_on(command: &MessageCommand, exceeded: &QuotaExceeded) -> bool {
    let message = Message::default();
    let events = message.decide(command.clone()).unwrap_or_default();
    let in_day = |on| exceeded.day.is_none_or(|(start, end)| (start..end).contains(&on));
    let mut changes = message.quotas(&events).into_iter();
    changes.any(|change| change.quota.kind() == exceeded.kind && change.on.is_none_or(in_day))
}

/// All that is wrong with one entry, in one line.
fn refused(index: usize, errors: &[FieldError]) -> EntryError {
    let detail = |error: &FieldError| match error.pointer.as_str() {
        "" => error.detail.clone(),
        pointer => format!("{pointer}: {}", error.detail),
    };
    let details: Vec<String> = errors.iter().map(detail).collect();
    EntryError {
        index,
        code: "request.invalid",
        detail: details.join("; "),
    }
}

fn all_refused(entries: Vec<Entry>) -> Problem {
    let mut all = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        all.extend(entry.err().into_iter().flatten().map(|error| FieldError {
            pointer: format!("/messages/{index}{}", error.pointer),
            ..error
        }));
    }
    Problem::invalid(all)
}
