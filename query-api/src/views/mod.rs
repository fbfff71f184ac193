//! What the read models hold, as rows. Every statement runs inside a [`Session`](crate::session::Session), whose
//! transaction row-level security shows one tenant in; where a statement names the tenant, it is for the index.

pub(crate) mod accounts;
mod column;
pub(crate) mod conversations;
pub(crate) mod history;
pub(crate) mod messages;
pub(crate) mod page;

use sqlx::{Postgres, QueryBuilder};

use self::page::{Place, Window};

/// Narrows to a window over `created_at` and `id` of the table that `of` names, orders and limits.
fn push_window(query: &mut QueryBuilder<'_, Postgres>, of: &str, window: &Window<Place>) {
    for (place, comparison) in [(window.after, '<'), (window.before, '>')] {
        if let Some(place) = place {
            query.push(format!(" and ({of}.created_at, {of}.id) {comparison} ("));
            query.push_bind(place.at).push(", ").push_bind(place.id).push(")");
        }
    }
    let order = if window.from_end { "asc" } else { "desc" };
    query.push(format!(" order by {of}.created_at {order}, {of}.id {order} limit "));
    query.push_bind(window.limit());
}

/// The text of a `like` pattern that means `text` and nothing else.
fn like_anywhere(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_has_no_wildcards() {
        assert_eq!(like_anywhere(r"50%_\x"), r"%50\%\_\\x%");
    }
}
