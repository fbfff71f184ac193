//! What most commands to an account answer, and how they are carried out.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use weft_domain::AccountId;
use weft_domain::account::{Account, AccountCommand};
use weft_log_writer::{CallOptions, Committed, StoredAnswer};
use weft_platform::http::Problem;

use crate::reply::Reply;
use crate::state::CommandState;

/// The account and the status that the command left it in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountAnswer, example = json!({
    "account_id": "0193f1a2-7b3c-7d4e-8f50-6172839405a6",
    "status": "created",
}))]
pub(crate) struct AccountAnswer {
    account_id: Uuid,
    status: &'static str,
}

impl CommandState {
    /// Carries one command to an account out and answers with the status it leaves.
    pub(crate) async fn answer_account(
        &self,
        id: AccountId,
        command: AccountCommand,
        options: &CallOptions,
        status: StatusCode,
    ) -> Result<Reply, Problem> {
        let answer = |committed: &[Committed<Account>]| {
            let account = committed.first();
            let account_status = account.and_then(|account| account.state.status);
            let body = AccountAnswer {
                account_id: id.0,
                status: account_status.map_or("", |status| status.as_str()),
            };
            StoredAnswer {
                status: status.as_u16(),
                body: serde_json::json!(body),
                etag: account.map(|account| account.version),
            }
        };
        self.answer::<Account>(vec![(id.to_string(), command)], options, answer)
            .await
    }

    /// As `answer_account` with 202, for a command that needs nothing but a look at whose account it is.
    pub(crate) async fn answer_own_account(
        &self,
        call: &crate::call::CommandCall,
        id: AccountId,
        command: AccountCommand,
        options: &CallOptions,
    ) -> Result<Reply, Problem> {
        let outcome = match self.own_account(&call.context, id).await {
            Ok(_) => self.answer_account(id, command, options, StatusCode::ACCEPTED).await,
            Err(refusal) => Err(refusal),
        };
        self.unless_answered_before(outcome, options).await
    }
}
