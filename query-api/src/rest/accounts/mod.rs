//! `/api/v1/accounts`.

pub(super) mod conversations;
pub(super) mod get;
pub(super) mod list;
pub(super) mod status;
pub(super) mod status_history;

mod account;

use uuid::Uuid;
use weft_platform::http::{Permission, Problem, QueryParams};

use super::answer::{page_of, sort_of};
use super::path::account_not_found;
use crate::state::Read;
use crate::views::accounts;
use crate::views::page::NumberedPage;

/// The order (whether oldest first) and the page of a list that belongs to an account, which there must be.
async fn list_of_account(read: &Read, id: Uuid, query: Option<&str>) -> Result<(bool, NumberedPage), Problem> {
    read.call.require(Permission::AccountRead)?;
    let mut params = QueryParams::parse(query);
    let oldest_first = sort_of(&mut params, &[("-created_at", false), ("created_at", true)]).unwrap_or(false);
    let page = page_of(&mut params);
    params.finish()?;
    if !accounts::exists(&read.session, id).await? {
        return Err(account_not_found());
    }
    Ok((oldest_first, page))
}
