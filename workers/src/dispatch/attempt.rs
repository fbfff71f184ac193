//! One message's attempt: committed, made, and its end recorded.

use std::time::Duration;

use chrono::TimeDelta;
use tracing::{Instrument, field, info_span};
use uuid::Uuid;
use weft_domain::account::{Account, AccountCommand, AccountStatus, SessionLossCause};
use weft_domain::message::{Message, MessageCommand, MessageStatus, Receipt as DomainReceipt};
use weft_domain::{LogAggregate, TenantId};
use weft_log_writer::{CallOptions, Committed};
use weft_wecom::gateway::{CallError, CdnFile, ClientStatus, Receipt, RejectClass, SendOutcome, SendRequest};

use super::active::ActiveLane;
use super::prepare::{Body, Prepared};
use super::request::{content_digest, request, upload_of};
use super::{ACTOR, PART};
use crate::backoff;
use crate::context::{Cause, Context};
use crate::error::{Refusal, WorkerError};
use crate::queue::{KnownMessage, Lane, LaneChange, NOT_READY, QueuedMessage, Receipt as ReceiptRow, RowState, Turn};

/// How long a recording goes on being tried after the shutdown.
const AFTER_SHUTDOWN: Duration = Duration::from_secs(4);

mod metric {
    pub(super) const SENDS: &str = "weft_dispatch_sends_total";
    pub(super) const SEND_SECONDS: &str = "weft_dispatch_send_seconds";
}

/// What is tried for a message once its attempt is committed.
pub(super) enum Plan {
    Send {
        request: Box<SendRequest>,
        digest: [u8; 32],
    },
    /// It is known already how it ends, without a byte written.
    End(SendOutcome),
    /// There is nothing to send.
    Refuse(&'static str),
}

/// What the lane does after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    /// Write the turn down and take another: something holds back now.
    EndTurn,
}

/// The work of one lane in one turn.
pub(super) struct Work<'w> {
    pub(super) ctx: &'w Context,
    pub(super) lane: &'w Lane,
    pub(super) active: &'w ActiveLane,
    pub(super) turn: &'w Turn,
}

/// A message that WeCom took, whose recording is still to be done.
pub(super) struct Taken {
    pub(super) queued: QueuedMessage,
    pub(super) attempt: u32,
    pub(super) receipt: Receipt,
}

impl Work<'_> {
    fn options(&self, queued: &QueuedMessage, causation: String) -> CallOptions {
        let cause = Cause {
            correlation_id: queued.correlation_id.clone(),
            causation_id: Some(causation),
            traceparent: queued.traceparent.clone(),
        };
        self.ctx.options(ACTOR, TenantId(self.lane.tenant_id), &cause)
    }

    /// Uploads what has to be uploaded and builds the request. Nothing is sent here, so every end is safe to repeat.
    pub(super) async fn plan(&self, prepared: &mut Prepared, guid: &str) -> Result<Plan, WorkerError> {
        let content = match std::mem::replace(&mut prepared.body, Body::Unreadable("message.content_invalid")) {
            Body::Open(content) => *content,
            Body::Unreadable(code) => return Ok(Plan::Refuse(code)),
        };
        let mut uploaded: Option<CdnFile> = None;
        if let Some((kind, url)) = upload_of(&content) {
            match self.ctx.gateway.cdn_c2c_upload(guid, kind, url).await {
                Ok(file) => uploaded = Some(file),
                Err(error) => return Ok(Plan::End(upload_end(error))),
            }
        }
        let by_upload = uploaded.is_some();
        let request = request(&prepared.queued.conversation_id, content, uploaded);
        let digest = content_digest(self.ctx.executor.keys(), &request.content_key());
        if by_upload {
            // After a crash nobody could work this one out again.
            sqlx::query("update workers.messages set content_digest = $2 where message_id = $1")
                .bind(prepared.queued.message_id)
                .bind(&digest[..])
                .execute(&self.ctx.pool)
                .await?;
        }
        Ok(Plan::Send {
            request: Box::new(request),
            digest,
        })
    }

    /// Commits the attempt. `None`: it must not be made; `change` says what became of the message.
    pub(super) async fn start(
        &self,
        queued: &QueuedMessage,
        version: i64,
        change: &mut LaneChange,
    ) -> Result<Option<u32>, WorkerError> {
        let id = queued.message_id.to_string();
        let options = self.options(queued, format!("{id}:1"));
        let mut in_doubt = false;
        let mut failures = 0;
        loop {
            let command = MessageCommand::StartAttempt {
                now: self.ctx.clock.now(),
            };
            match self.ctx.execute::<Message>(&id, command, &options).await {
                Ok(Ok(committed)) => return Ok(Some(committed.state.attempt)),
                Ok(Err(_)) => {
                    let loaded = self.load::<Message>(&id).await?;
                    // Our own commit, whose answer was lost: nobody else can have started it while the lane is ours.
                    let ours = in_doubt
                        && loaded.state.status == Some(MessageStatus::Sending)
                        && loaded.version == version + 1
                        && self.active.holds();
                    if ours {
                        return Ok(Some(loaded.state.attempt));
                    }
                    note(change, queued, &loaded.state, loaded.version, None);
                    return Ok(None);
                }
                Err(error) => {
                    in_doubt = true;
                    failures += 1;
                    self.ctx.health.failing(PART, error.to_string());
                    if !self.active.holds() || !self.ctx.pause(retry_wait(failures)).await {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Calls the gateway. The attempt is committed; the deadline is looked at last.
    pub(super) async fn send(&self, guid: &str, request: &SendRequest, queued: &QueuedMessage, attempt: u32) -> Sent {
        if !self.active.holds() {
            // Nothing was written, but whoever has the lane now may have found the attempt and called it unknown.
            return Sent::NotTried;
        }
        let span = info_span!(
            "dispatch.send", message.id = %queued.message_id, account.id = %queued.account_id, attempt,
            outcome = field::Empty
        );
        let started = tokio::time::Instant::now();
        let outcome = self.ctx.gateway.send(guid, request).instrument(span.clone()).await;
        let name = outcome_name(&outcome);
        span.record("outcome", name);
        metrics::counter!(metric::SENDS, "outcome" => name).increment(1);
        metrics::histogram!(metric::SEND_SECONDS).record(started.elapsed().as_secs_f64());
        Sent::Ended(outcome)
    }

    /// Records a message that WeCom took, whatever it takes: forgetting it would leave it unknown.
    pub(super) async fn record_taken(&self, taken: &Taken, change: &mut LaneChange) -> Result<(), WorkerError> {
        let receipt = domain_receipt(&taken.receipt);
        let command = MessageCommand::RecordSent {
            attempt: taken.attempt,
            receipt: receipt.clone(),
            now: self.ctx.clock.now(),
        };
        self.record(&taken.queued, command, None, change).await?;
        if let Some(appinfo) = &receipt.appinfo {
            let known = KnownMessage {
                message_id: taken.queued.message_id,
                correlation_id: taken.queued.correlation_id.clone(),
            };
            self.ctx.receipts.add(self.lane.account_id, appinfo, known);
        }
        if self.turn.status == AccountStatus::RateLimited {
            self.change_account(
                &taken.queued,
                AccountCommand::LiftRestriction {
                    now: self.ctx.clock.now(),
                },
            )
            .await?;
        }
        Ok(())
    }

    /// Records an attempt that ended otherwise.
    pub(super) async fn record_end(
        &self,
        queued: &QueuedMessage,
        attempt: u32,
        outcome: SendOutcome,
        digest: Option<[u8; 32]>,
        change: &mut LaneChange,
    ) -> Result<Next, WorkerError> {
        let now = self.ctx.clock.now();
        let retry = |error_code: &str, error_message: Option<String>, retry_at| MessageCommand::ScheduleRetry {
            attempt,
            error_code: error_code.to_owned(),
            error_message,
            retry_at,
            now,
        };
        let dispatch = &self.ctx.config.dispatch;
        let (min, max) = (
            Duration::from_millis(dispatch.retry_min_ms),
            Duration::from_millis(dispatch.retry_max_ms),
        );
        let next_try = || now + backoff::delta(backoff::exponential(min, max, queued.row.retry_count.unsigned_abs()));
        match outcome {
            SendOutcome::Sent(_) => Ok(Next::Go),
            SendOutcome::Unknown { detail } => {
                let command = MessageCommand::MarkUnknown {
                    attempt,
                    error_message: Some(unknown_because(&detail)),
                    now,
                };
                self.record(queued, command, digest, change).await?;
                Ok(Next::EndTurn)
            }
            SendOutcome::NotConnected { detail } => {
                let command = retry("gateway.not_connected", Some(detail), next_try());
                self.record(queued, command, None, change).await?;
                Ok(Next::EndTurn)
            }
            SendOutcome::NotReady => {
                self.not_ready(queued, attempt, change).await?;
                Ok(Next::EndTurn)
            }
            SendOutcome::Throttled { retry_after } => {
                let until = self.cooldown_end(retry_after).await?;
                self.record(queued, retry("wecom.-4048", None, until), None, change)
                    .await?;
                self.change_account(queued, AccountCommand::Restrict { until, now })
                    .await?;
                Ok(Next::EndTurn)
            }
            SendOutcome::Rejected { class, code, message } => {
                let error_code = format!("wecom.{code}");
                let lost = match class {
                    RejectClass::SessionInvalid => Some(SessionLossCause::Auth),
                    RejectClass::InstanceExpired | RejectClass::InstanceGone => Some(SessionLossCause::Other),
                    RejectClass::Permanent | RejectClass::WrongVerificationCode | RejectClass::QrCodeExpired => None,
                };
                let Some(cause) = lost else {
                    let error_message = Some(message).filter(|text| !text.is_empty());
                    let command = MessageCommand::RecordRefused {
                        attempt,
                        error_code,
                        error_message,
                        now,
                    };
                    self.record(queued, command, None, change).await?;
                    return Ok(Next::Go);
                };
                // The account is at fault, not the message: it waits for the account.
                self.record(queued, retry(&error_code, Some(message.clone()), now), None, change)
                    .await?;
                let command = AccountCommand::LoseSession {
                    cause,
                    error_message: Some(message),
                    now,
                };
                self.change_account(queued, command).await?;
                Ok(Next::EndTurn)
            }
        }
    }

    /// 1014: tried again every few seconds; in the end the instance is asked what is wrong with it.
    async fn not_ready(
        &self,
        queued: &QueuedMessage,
        attempt: u32,
        change: &mut LaneChange,
    ) -> Result<(), WorkerError> {
        let now = self.ctx.clock.now();
        let limits = self.ctx.config.wecom.not_ready_seconds;
        let waited = queued
            .row
            .not_ready_since
            .map_or(TimeDelta::zero(), |since| now - since);
        let mut lost = None;
        if waited >= TimeDelta::seconds(limits.for_seconds as i64) {
            let guid = self.turn.guid.as_deref().unwrap_or_default();
            match self.ctx.gateway.get_client_status(guid).await {
                Ok(ClientStatus::Online | ClientStatus::Other(_)) => {
                    let command = MessageCommand::RecordRefused {
                        attempt,
                        error_code: NOT_READY.to_owned(),
                        error_message: Some("the instance's runtime did not become ready".to_owned()),
                        now,
                    };
                    return self.record(queued, command, None, change).await;
                }
                Ok(ClientStatus::NotLoggedIn) => lost = Some(SessionLossCause::Auth),
                Ok(ClientStatus::Stopped) => lost = Some(SessionLossCause::Network),
                Err(_) => {}
            }
        }
        let command = MessageCommand::ScheduleRetry {
            attempt,
            error_code: NOT_READY.to_owned(),
            error_message: None,
            retry_at: now + TimeDelta::seconds(limits.every as i64),
            now,
        };
        self.record(queued, command, None, change).await?;
        if let Some(cause) = lost {
            let error_message = Some("the instance is not logged in".to_owned());
            self.change_account(
                queued,
                AccountCommand::LoseSession {
                    cause,
                    error_message,
                    now,
                },
            )
            .await?;
        }
        Ok(())
    }

    /// Nothing can be sent, and nothing was: the message ends here.
    pub(super) async fn refuse(
        &self,
        queued: &QueuedMessage,
        attempt: u32,
        code: &str,
        change: &mut LaneChange,
    ) -> Result<(), WorkerError> {
        let command = MessageCommand::RecordRefused {
            attempt,
            error_code: code.to_owned(),
            error_message: None,
            now: self.ctx.clock.now(),
        };
        self.record(queued, command, None, change).await
    }

    /// Executes and notes what the message is then. Tried until it succeeds; given up only some time after a shutdown.
    pub(super) async fn record(
        &self,
        queued: &QueuedMessage,
        command: MessageCommand,
        digest: Option<[u8; 32]>,
        change: &mut LaneChange,
    ) -> Result<(), WorkerError> {
        let id = queued.message_id.to_string();
        let options = self.options(queued, format!("{id}:{}", queued.row.version + 1));
        match self.insist::<Message>(&id, command, &options).await? {
            Ok(committed) => note(change, queued, &committed.state, committed.version, digest),
            Err(refusal) => {
                tracing::warn!(message.id = %id, %refusal, "a send's end does not fit its message");
                let loaded = self.load::<Message>(&id).await?;
                note(change, queued, &loaded.state, loaded.version, digest);
            }
        }
        Ok(())
    }

    /// A change of the account found out by sending: the next turn sees it in the log. A refusal means that the account
    /// has moved on already.
    async fn change_account(&self, queued: &QueuedMessage, command: AccountCommand) -> Result<(), WorkerError> {
        let options = self.options(queued, queued.message_id.to_string());
        let id = self.lane.account_id.to_string();
        if let Err(refusal) = self.insist::<Account>(&id, command, &options).await? {
            tracing::debug!(account.id = %id, %refusal, "the account is past this");
        }
        Ok(())
    }

    async fn insist<A>(
        &self,
        id: &str,
        command: A::Command,
        options: &CallOptions,
    ) -> Result<Result<Committed<A>, Refusal<A::Error>>, WorkerError>
    where
        A: LogAggregate,
        A::Command: Clone + Send + Sync,
        A::Error: Send,
    {
        let mut failures = 0;
        let mut stopped: Option<tokio::time::Instant> = None;
        loop {
            let error = match self.ctx.execute::<A>(id, command.clone(), options).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            self.ctx.health.failing(PART, error.to_string());
            if self.ctx.stop.is_cancelled()
                && stopped.get_or_insert_with(tokio::time::Instant::now).elapsed() > AFTER_SHUTDOWN
            {
                return Err(error);
            }
            tokio::time::sleep(retry_wait(failures)).await;
        }
    }

    async fn load<A>(&self, id: &str) -> Result<weft_log_reader::Loaded<A>, WorkerError>
    where
        A: LogAggregate,
    {
        Ok(weft_log_reader::load(&self.ctx.pool, id).await?)
    }

    /// The end of the cool-down that begins now: the n-th takes the n-th of the configured times, the last repeats.
    async fn cooldown_end(&self, asked: Option<Duration>) -> Result<chrono::DateTime<chrono::Utc>, WorkerError> {
        let account = self.load::<Account>(&self.lane.account_id.to_string()).await?.state;
        let times = &self.ctx.config.wecom.cooldown_seconds;
        let index = (account.cooldown as usize).min(times.len().saturating_sub(1));
        let seconds = times.get(index).copied().unwrap_or(900);
        let wait = backoff::spread(Duration::from_secs(seconds)).max(asked.unwrap_or_default());
        Ok(self.ctx.clock.now() + backoff::delta(wait))
    }
}

/// How a call ended, or that it was not made.
pub(super) enum Sent {
    Ended(SendOutcome),
    NotTried,
}

/// Notes what a message is now: still in the queue, or ended.
pub(super) fn note(
    change: &mut LaneChange,
    queued: &QueuedMessage,
    message: &Message,
    version: i64,
    digest: Option<[u8; 32]>,
) {
    if let Some(mut row) = RowState::of(message, version, &queued.row) {
        if let Some(digest) = digest {
            row.content_digest = Some(digest.to_vec());
        }
        change.keep.push(QueuedMessage { row, ..queued.clone() });
        return;
    }
    change.remove.push(queued.message_id);
    if let Some(receipt) = &message.receipt {
        change.receipts.push(receipt_row(queued, receipt, message));
    }
}

fn receipt_row(queued: &QueuedMessage, receipt: &DomainReceipt, message: &Message) -> ReceiptRow {
    ReceiptRow {
        message_id: queued.message_id,
        tenant_id: queued.tenant_id,
        account_id: queued.account_id,
        wework_msg_id: receipt.wework_msg_id.clone(),
        appinfo: receipt.appinfo.clone(),
        correlation_id: queued.correlation_id.clone(),
        sent_at: message.sent_at.unwrap_or_default(),
    }
}

fn domain_receipt(receipt: &Receipt) -> DomainReceipt {
    let appinfo = Some(receipt.appinfo_decoded.clone()).filter(|text| !text.is_empty());
    DomainReceipt {
        wework_msg_id: receipt.msg_id.clone(),
        appinfo,
        wework_send_time: receipt.sendtime,
    }
}

/// What the operator of an unknown message is told: what is not known, why, and what can be done.
pub(super) fn unknown_because(detail: &str) -> String {
    format!(
        "it is not known whether WeCom took the message: {detail}; its callback may still tell, else look into the \
         conversation and resolve the message as sent, failed or resend"
    )
}

/// Nothing was sent by an upload, so even its unknown end is safe to repeat.
fn upload_end(error: CallError) -> SendOutcome {
    match error {
        CallError::NotConnected { detail } | CallError::Unknown { detail } => SendOutcome::NotConnected {
            detail: format!("upload: {detail}"),
        },
        CallError::Rejected { class, code, message } => SendOutcome::Rejected { class, code, message },
        CallError::Throttled { retry_after } => SendOutcome::Throttled { retry_after },
        CallError::NotReady => SendOutcome::NotReady,
    }
}

const fn outcome_name(outcome: &SendOutcome) -> &'static str {
    match outcome {
        SendOutcome::Sent(_) => "sent",
        SendOutcome::Rejected { .. } => "rejected",
        SendOutcome::Throttled { .. } => "throttled",
        SendOutcome::NotConnected { .. } => "not_connected",
        SendOutcome::NotReady => "not_ready",
        SendOutcome::Unknown { .. } => "unknown",
    }
}

fn retry_wait(failures: u32) -> Duration {
    backoff::exponential(Duration::from_millis(100), Duration::from_secs(2), failures)
}

/// Ids of the account's messages in flight are settled by whoever takes the lane over.
pub(super) fn ids(rows: &[QueuedMessage]) -> Vec<Uuid> {
    rows.iter().map(|row| row.message_id).collect()
}
