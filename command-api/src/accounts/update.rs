//! PUT /api/v1/accounts/{id}

use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use utoipa::ToSchema;
use weft_domain::account::{AccountCommand, AccountConfigChange};
use weft_domain::{FieldChange, Sealed};
use weft_log_writer::seal::account_subject;
use weft_platform::http::{Fields, Permission, Problem};

use super::answer::AccountAnswer;
use super::config::{self, ConfigForm, change};
use crate::body::{Body, RequestBody};
use crate::call::{AccountPath, CommandCall};
use crate::refusal::seal_problem;
use crate::reply::Reply;
use crate::state::CommandState;

#[derive(Debug, ToSchema)]
#[schema(example = json!({"email": "kefu@example.cn", "phone": null, "config": {"daily_limit": 500}}))]
pub(crate) struct UpdateAccount {
    #[schema(value_type = String, required = false, min_length = 1, max_length = 100)]
    account_name: Option<String>,
    /// Null clears it.
    #[schema(value_type = Option<String>, pattern = "^\\+?[0-9 -]{5,20}$")]
    phone: FieldChange<String>,
    /// Null clears it.
    #[schema(value_type = Option<String>, max_length = 254)]
    email: FieldChange<String>,
    /// Null clears it.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 255)]
    user_id: FieldChange<String>,
    #[schema(value_type = ConfigForm, required = false)]
    config: Option<AccountConfigChange>,
}

impl RequestBody for UpdateAccount {
    fn read(fields: &mut Fields, _: DateTime<Utc>) -> Option<Self> {
        Some(Self {
            account_name: fields.replacement("account_name", super::account_name),
            phone: change(fields.change("phone", super::phone)),
            email: change(fields.change("email", super::email)),
            user_id: change(fields.change("user_id", super::user_id)),
            config: fields.replacement("config", config::read),
        })
    }
}

/// Changes what is given and leaves the rest.
#[utoipa::path(
    put,
    path = "/api/v1/accounts/{id}",
    tag = "accounts",
    operation_id = "update_account",
    params(("id" = Uuid, Path, description = "The account")),
    request_body = UpdateAccount,
    responses(
        (status = 200, description = "Changed", body = AccountAnswer),
        (status = 404, description = "account.not_found"),
        (status = 409, description = "account.name_taken"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "command.account.update", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    AccountPath(id): AccountPath,
    Body { request, .. }: Body<UpdateAccount>,
) -> Result<Reply, Problem> {
    call.require(Permission::AccountManage)?;
    app.own_account(&call.context, id).await?;
    let subject = account_subject(id);
    let command = AccountCommand::Update {
        account_name: request.account_name,
        phone: sealed(&app, &subject, request.phone).await?,
        email: sealed(&app, &subject, request.email).await?,
        user_id: request.user_id,
        config: request.config.unwrap_or_default(),
        config_defaults: app.default_account_config(),
        now: app.clock.now(),
    };
    app.answer_account(id, command, &call.options(&app), StatusCode::OK)
        .await
}

async fn sealed(
    app: &CommandState,
    subject: &str,
    change: FieldChange<String>,
) -> Result<FieldChange<Sealed<String>>, Problem> {
    Ok(match change {
        FieldChange::Unchanged => FieldChange::Unchanged,
        FieldChange::Cleared => FieldChange::Cleared,
        FieldChange::Set(text) => FieldChange::Set(app.sealer().seal(subject, &text).await.map_err(seal_problem)?),
    })
}
