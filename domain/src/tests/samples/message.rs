use super::{Sample, of_conversation, samples};
use crate::message::{CancelCause, MessageEvent as M, MessageType, Receipt, ResolvedBy, ResolvedOutcome};
use crate::tests::fixtures::{account, at, batch, conversation, tenant};

fn receipt() -> Receipt {
    Receipt {
        wework_msg_id: "1000321".to_owned(),
        appinfo: Some("CAEQ7t2pzQYY".to_owned()),
        wework_send_time: Some(at(3)),
    }
}

pub(in crate::tests) fn of_message() -> Vec<Sample> {
    let account_id = account(1);
    let conversation_id = || conversation("S:1688850000007");
    let resolved = |outcome, by, receipt| M::OutcomeResolved {
        account_id,
        conversation_id: conversation_id(),
        outcome,
        by,
        reason: (by == ResolvedBy::Operator).then(|| "客户电话确认".to_owned()),
        receipt,
        at: at(30),
    };
    samples(vec![
        (
            "",
            M::MessageAccepted {
                account_id,
                tenant_id: tenant(1),
                conversation_id: conversation_id(),
                message_type: MessageType::Text,
                content: of_conversation("content"),
                priority: 8,
                scheduled_time: Some(at(3_600)),
                batch_id: Some(batch(1)),
                batch_index: Some(41),
                callback_url: Some("https://crm.example/weft".to_owned()),
                client_reference: Some("crm-2026-0042".to_owned()),
                at: at(0),
            },
        ),
        (
            "bare",
            M::MessageAccepted {
                account_id,
                tenant_id: tenant(1),
                conversation_id: conversation("R:10696051000001"),
                message_type: MessageType::At,
                content: of_conversation("content"),
                priority: 5,
                scheduled_time: None,
                batch_id: None,
                batch_index: None,
                callback_url: None,
                client_reference: None,
                at: at(0),
            },
        ),
        (
            "",
            M::AttemptStarted {
                account_id,
                attempt: 1,
                at: at(2),
            },
        ),
        (
            "",
            M::MessageSent {
                account_id,
                conversation_id: conversation_id(),
                attempt: 1,
                receipt: receipt(),
                at: at(3),
            },
        ),
        (
            "bare_receipt",
            M::MessageSent {
                account_id,
                conversation_id: conversation_id(),
                attempt: 1,
                receipt: Receipt {
                    wework_msg_id: "1000321".to_owned(),
                    appinfo: None,
                    wework_send_time: None,
                },
                at: at(3),
            },
        ),
        ("", M::MessageDelivered { account_id, at: at(4) }),
        ("", M::MessageRead { account_id, at: at(64) }),
        (
            "",
            M::MessageFailed {
                account_id,
                error_code: "wecom.-2003".to_owned(),
                error_message: Some("bad conversation_id".to_owned()),
                at: at(3),
            },
        ),
        (
            "without_message",
            M::MessageFailed {
                account_id,
                error_code: "wecom.-4017".to_owned(),
                error_message: None,
                at: at(3),
            },
        ),
        (
            "",
            M::MessageCancelled {
                account_id,
                cause: CancelCause::Requested,
                at: at(1),
            },
        ),
        (
            "account_deleted",
            M::MessageCancelled {
                account_id,
                cause: CancelCause::AccountDeleted,
                at: at(1),
            },
        ),
        (
            "",
            M::RetryScheduled {
                account_id,
                attempt: 1,
                error_code: "wecom.-4048".to_owned(),
                error_message: Some("too frequent".to_owned()),
                retry_at: at(903),
                at: at(3),
            },
        ),
        (
            "without_message",
            M::RetryScheduled {
                account_id,
                attempt: 1,
                error_code: "wecom.1014".to_owned(),
                error_message: None,
                retry_at: at(6),
                at: at(3),
            },
        ),
        (
            "",
            M::OutcomeUnknown {
                account_id,
                attempt: 1,
                error_message: Some("no answer within 10 s".to_owned()),
                at: at(12),
            },
        ),
        (
            "without_message",
            M::OutcomeUnknown {
                account_id,
                attempt: 1,
                error_message: None,
                at: at(12),
            },
        ),
        (
            "",
            resolved(ResolvedOutcome::Sent, ResolvedBy::Callback, Some(receipt())),
        ),
        ("failed", resolved(ResolvedOutcome::Failed, ResolvedBy::Operator, None)),
        ("resend", resolved(ResolvedOutcome::Resend, ResolvedBy::Operator, None)),
    ])
}
