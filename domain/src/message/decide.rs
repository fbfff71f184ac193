//! Every transition of a message.

use MessageStatus as S;

use super::aggregate::Message;
use super::command::MessageCommand as C;
use super::error::MessageError;
use super::event::{MessageEvent as E, ResolvedOutcome};
use super::status::MessageStatus;

pub(super) fn decide(message: &Message, command: C) -> Result<Vec<E>, MessageError> {
    let (Some(status), Some(accepted)) = (message.status, &message.accepted) else {
        return match command {
            C::Accept(accept) => Ok(vec![E::MessageAccepted {
                account_id: accept.account_id,
                tenant_id: accept.tenant_id,
                conversation_id: accept.conversation_id,
                message_type: accept.message_type,
                content: accept.content,
                priority: accept.priority,
                scheduled_time: accept.scheduled_time,
                batch_id: accept.batch_id,
                batch_index: accept.batch_index,
                callback_url: accept.callback_url,
                client_reference: accept.client_reference,
                at: accept.now,
            }]),
            _ => Err(MessageError::NotFound),
        };
    };
    let account_id = accepted.account_id;
    let conversation_id = || accepted.conversation_id.clone();
    let wrong_status = MessageError::WrongStatus {
        status,
        command: command.name(),
    };
    let check_attempt = |given: u32| {
        if given == message.attempt {
            Ok(())
        } else {
            Err(MessageError::AttemptOver {
                given,
                current: message.attempt,
            })
        }
    };
    match command {
        C::Accept(_) => Err(MessageError::AlreadyExists),
        C::StartAttempt { now: at } => match (status, accepted.scheduled_time) {
            (S::Pending, Some(planned)) if at < planned => Err(MessageError::TooEarly(planned)),
            (S::Pending, _) => Ok(vec![E::AttemptStarted {
                account_id,
                attempt: message.attempt + 1,
                at,
            }]),
            _ => Err(wrong_status),
        },
        C::RecordSent {
            attempt,
            receipt,
            now: at,
        } => {
            check_attempt(attempt)?;
            match status {
                S::Sending | S::Unknown => Ok(vec![E::MessageSent {
                    account_id,
                    conversation_id: conversation_id(),
                    attempt,
                    receipt,
                    at,
                }]),
                S::Sent | S::Delivered => Ok(vec![]),
                _ => Err(wrong_status),
            }
        }
        C::RecordRefused {
            attempt,
            error_code,
            error_message,
            now: at,
        } => {
            check_attempt(attempt)?;
            match status {
                S::Sending => Ok(vec![E::MessageFailed {
                    account_id,
                    error_code,
                    error_message,
                    at,
                }]),
                S::Failed => Ok(vec![]),
                _ => Err(wrong_status),
            }
        }
        C::ScheduleRetry {
            attempt,
            error_code,
            error_message,
            retry_at,
            now: at,
        } => {
            check_attempt(attempt)?;
            match status {
                S::Sending => Ok(vec![E::RetryScheduled {
                    account_id,
                    attempt,
                    error_code,
                    error_message,
                    retry_at,
                    at,
                }]),
                S::Pending => Ok(vec![]),
                _ => Err(wrong_status),
            }
        }
        C::MarkUnknown {
            attempt,
            error_message,
            now: at,
        } => {
            check_attempt(attempt)?;
            match status {
                S::Sending => Ok(vec![E::OutcomeUnknown {
                    account_id,
                    attempt,
                    error_message,
                    at,
                }]),
                S::Unknown => Ok(vec![]),
                _ => Err(wrong_status),
            }
        }
        C::Resolve {
            outcome,
            by,
            reason,
            receipt,
            now: at,
        } => match (status, outcome) {
            (S::Unknown, _) => {
                let conversation_id = conversation_id();
                Ok(vec![E::OutcomeResolved {
                    account_id,
                    conversation_id,
                    outcome,
                    by,
                    reason,
                    receipt,
                    at,
                }])
            }
            // Already true only where the first settlement was a resolution too.
            (S::Sent | S::Delivered, ResolvedOutcome::Sent)
            | (S::Failed, ResolvedOutcome::Failed)
            | (S::Pending, ResolvedOutcome::Resend)
                if message.resolved == Some(outcome) =>
            {
                Ok(vec![])
            }
            _ => Err(wrong_status),
        },
        C::RecordDelivered { now: at } => match status {
            S::Sent => Ok(vec![E::MessageDelivered { account_id, at }]),
            S::Delivered => Ok(vec![]),
            _ => Err(wrong_status),
        },
        C::RecordRead { now: at } => match (status, message.read_at) {
            // Who read it has it: the delivery's callback was lost.
            (S::Sent, _) => Ok(vec![
                E::MessageDelivered { account_id, at },
                E::MessageRead { account_id, at },
            ]),
            (S::Delivered, None) => Ok(vec![E::MessageRead { account_id, at }]),
            (S::Delivered, Some(_)) => Ok(vec![]),
            _ => Err(wrong_status),
        },
        C::Cancel { cause, now: at } => match status {
            S::Pending => Ok(vec![E::MessageCancelled { account_id, cause, at }]),
            S::Cancelled => Ok(vec![]),
            _ => Err(wrong_status),
        },
    }
}
