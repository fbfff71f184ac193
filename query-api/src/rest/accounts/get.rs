//! GET `/api/v1/accounts/{id}`. A deleted account shows as `deleted`.

use axum::Extension;
use axum::extract::RawQuery;
use axum::response::Response;
use weft_platform::http::{Permission, Problem, QueryParams};

use super::account::{self, Account};
use crate::rest::answer::one;
use crate::rest::path::{AccountPath, account_not_found};
use crate::state::Read;
use crate::views::accounts;

/// One account.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{id}",
    tag = "accounts",
    operation_id = "get_account",
    params(("id" = String, Path, description = "The account's id")),
    responses((status = 200, body = Account), (status = 404, description = "account.not_found")),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "query.account.get", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    Extension(read): Extension<Read>,
    AccountPath(id): AccountPath,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    read.call.require(Permission::AccountRead)?;
    QueryParams::parse(query.as_deref()).finish()?;
    let row = accounts::find(&read.session, id).await?.ok_or_else(account_not_found)?;
    let version = row.version;
    let shown = account::show(vec![row], read.session.vault(), read.session.now()).await?;
    let account = shown.first().ok_or_else(account_not_found)?;
    Ok(one(version, account))
}
