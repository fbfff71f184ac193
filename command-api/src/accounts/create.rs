//! POST /api/v1/accounts

use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use utoipa::ToSchema;
use uuid::Uuid;
use weft_domain::AccountId;
use weft_domain::account::{AccountCommand, AccountConfigChange, GatewayKind};
use weft_log_writer::seal::account_subject;
use weft_platform::http::{Fields, Node, Permission, Problem};

use super::answer::AccountAnswer;
use super::config::{self, ConfigForm};
use crate::body::{Body, RequestBody};
use crate::call::CommandCall;
use crate::refusal::seal_problem;
use crate::reply::Reply;
use crate::state::CommandState;

#[derive(Debug, ToSchema)]
#[schema(example = json!({"account_name": "华东客服一号", "phone": "+86 138 0013 8000"}))]
pub(crate) struct CreateAccount {
    /// The token's tenant.
    tenant_id: Option<Uuid>,
    /// Unique within the tenant.
    #[schema(min_length = 1, max_length = 100)]
    account_name: String,
    #[schema(pattern = "^\\+?[0-9 -]{5,20}$")]
    phone: Option<String>,
    #[schema(max_length = 254)]
    email: Option<String>,
    /// The user of Weft that the account is bound to.
    #[schema(min_length = 1, max_length = 255)]
    user_id: Option<String>,
    #[schema(value_type = Option<GatewayForm>)]
    gateway: Option<GatewayKind>,
    #[schema(value_type = ConfigForm, required = false)]
    config: Option<AccountConfigChange>,
}

/// How an account reaches WeCom: a logged-in member behind the instance protocol (default), or a corp application
/// behind the official server API.
#[derive(ToSchema)]
#[schema(as = Gateway, rename_all = "snake_case")]
#[expect(dead_code, reason = "the contract's form of the domain's words")]
enum GatewayForm {
    Instance,
    Official,
}

impl RequestBody for CreateAccount {
    fn read(fields: &mut Fields, _: DateTime<Utc>) -> Option<Self> {
        let tenant_id = fields.optional("tenant_id", Node::uuid);
        let account_name = fields.required("account_name", super::account_name);
        let phone = fields.optional("phone", super::phone);
        let email = fields.optional("email", super::email);
        let user_id = fields.optional("user_id", super::user_id);
        let gateway = fields.optional("gateway", gateway);
        let config = fields.replacement("config", config::read);
        Some(Self {
            tenant_id,
            account_name: account_name?,
            phone,
            email,
            user_id,
            gateway,
            config,
        })
    }
}

fn gateway(node: Node) -> Option<GatewayKind> {
    node.word("instance, official", |text| {
        [GatewayKind::Instance, GatewayKind::Official]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    })
}

/// Creates an account; its WeCom instance follows.
#[utoipa::path(
    post,
    path = "/api/v1/accounts",
    tag = "accounts",
    operation_id = "create_account",
    request_body = CreateAccount,
    responses(
        (status = 201, description = "Created", body = AccountAnswer,
         headers(("Location" = String, description = "The account's path"))),
        (status = 403, description = "permission.denied, tenant.mismatch"),
        (status = 409, description = "account.name_taken, idempotency.in_progress"),
        (status = 429, description = "quota.exceeded"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "command.account.create", skip_all, fields(account.id))]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    Body { request, bytes }: Body<CreateAccount>,
) -> Result<Reply, Problem> {
    call.require(Permission::AccountManage)?;
    call.context.require_tenant(request.tenant_id)?;
    let id = AccountId(app.clock.new_id());
    tracing::Span::current().record("account.id", tracing::field::display(id));
    let subject = account_subject(id);
    let phone = match &request.phone {
        Some(phone) => Some(app.sealer().seal(&subject, phone).await.map_err(seal_problem)?),
        None => None,
    };
    let email = match &request.email {
        Some(email) => Some(app.sealer().seal(&subject, email).await.map_err(seal_problem)?),
        None => None,
    };
    let defaults = app.default_account_config();
    let command = AccountCommand::Create {
        tenant_id: call.tenant_id(),
        account_name: request.account_name,
        phone,
        email,
        user_id: request.user_id,
        gateway: request.gateway.unwrap_or_default(),
        config: request.config.unwrap_or_default().merged_into(&defaults, &defaults),
        now: app.clock.now(),
    };
    let options = call.create_options(&app, &bytes);
    let reply = app.answer_account(id, command, &options, StatusCode::CREATED).await?;
    Ok(reply.located("/api/v1/accounts", "account_id"))
}
