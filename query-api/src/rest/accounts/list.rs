//! GET `/api/v1/accounts`. Deleted accounts are left out unless they are asked for.

use axum::extract::RawQuery;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;
use weft_domain::account::AccountStatus;
use weft_platform::http::{Permission, Problem, QueryParams};

use super::account::{self, Account};
use crate::rest::answer::{PageNumbers, page_of, sort_of};
use crate::state::Read;
use crate::views::accounts::{self, AccountFilter, AccountSort};

/// A page of accounts.
#[derive(Serialize, ToSchema)]
pub(crate) struct Accounts {
    accounts: Vec<Account>,
    #[serde(flatten)]
    page: PageNumbers,
}

/// The health levels that a filter may name.
const LEVELS: [&str; 4] = ["excellent", "good", "fair", "poor"];

/// A page of the tenant's accounts, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/accounts",
    tag = "accounts",
    operation_id = "list_accounts",
    params(
        ("tenant_id" = Option<String>, Query, description = "The token's tenant"),
        ("status" = Option<String>, Query, description = "A status, or a short name: waiting_scan, waiting_confirm, need_verify, logging"),
        ("health_level" = Option<String>, Query, description = "excellent, good, fair or poor"),
        ("q" = Option<String>, Query, description = "Part of the name; case does not matter"),
        ("sort" = Option<String>, Query, description = "-created_at, created_at, account_name or -account_name"),
        ("page" = Option<i64>, Query, description = "From 1"),
        ("size" = Option<i64>, Query, description = "1 to 100; 20 by default"),
    ),
    responses((status = 200, body = Accounts), (status = 422, description = "request.invalid")),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "query.account.list", skip_all)]
pub(crate) async fn handler(
    Extension(read): Extension<Read>,
    RawQuery(query): RawQuery,
) -> Result<Json<Accounts>, Problem> {
    read.call.require(Permission::AccountRead)?;
    let mut params = QueryParams::parse(query.as_deref());
    let tenant_id = params.uuid("tenant_id");
    let filter = AccountFilter {
        status: params.parsed("status", "out_of_range", "a status of an account", AccountStatus::parse),
        search: params.text("q").filter(|q| !q.is_empty()),
        health_level: params.parsed(
            "health_level",
            "out_of_range",
            "excellent, good, fair or poor",
            |text| LEVELS.into_iter().find(|level| *level == text),
        ),
    };
    let sort = sort_of(
        &mut params,
        &[
            ("-created_at", AccountSort::NewestFirst),
            ("created_at", AccountSort::OldestFirst),
            ("account_name", AccountSort::ByName),
            ("-account_name", AccountSort::ByNameDescending),
        ],
    );
    let page = page_of(&mut params);
    params.finish()?;
    read.call.require_tenant(tenant_id)?;
    let (rows, total) = accounts::list(&read.session, &filter, sort.unwrap_or_default(), page).await?;
    let accounts = account::show(rows, read.session.vault(), read.session.now()).await?;
    Ok(Json(Accounts {
        accounts,
        page: PageNumbers::new(page, total),
    }))
}
