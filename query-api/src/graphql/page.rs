//! Relay's `first`, `after`, `last`, `before`.

use super::error::QueryError;
use crate::views::page::{Key, ListOf, Window, read_cursor};

const DEFAULT: i32 = 20;
const LARGEST: i32 = 100;

/// The arguments of a connection. `BAD_PAGE` for a size out of range, both sizes, or a cursor of somebody else's.
pub(crate) fn window<K: Key>(
    list: ListOf,
    first: Option<i32>,
    after: Option<String>,
    last: Option<i32>,
    before: Option<String>,
) -> Result<Window<K>, QueryError> {
    let (take, from_end) = match (first, last) {
        (Some(_), Some(_)) => return Err(QueryError::BadPage("give first or last, not both")),
        (first, None) => (first.unwrap_or(DEFAULT), false),
        (None, Some(last)) => (last, true),
    };
    if !(1..=LARGEST).contains(&take) {
        return Err(QueryError::BadPage("first and last are 1 to 100"));
    }
    let place = |cursor: Option<String>| match cursor {
        None => Ok(None),
        Some(cursor) => read_cursor(list, &cursor)
            .map(Some)
            .ok_or(QueryError::BadPage("a cursor is what this connection gave, unchanged")),
    };
    Ok(Window {
        after: place(after)?,
        before: place(before)?,
        take: i64::from(take),
        from_end,
    })
}

/// What a page costs: its rows times what each row selects.
pub(crate) fn page_cost(first: Option<i32>, last: Option<i32>, child: usize) -> usize {
    let rows = first.or(last).unwrap_or(DEFAULT).clamp(1, LARGEST);
    1 + rows as usize * child
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(first: Option<i32>, last: Option<i32>, after: Option<&str>) -> Result<Window<i64>, QueryError> {
        window(ListOf::History, first, after.map(str::to_owned), last, None)
    }

    #[test]
    fn pages_outside_the_contract_are_bad() {
        for (first, last) in [(Some(0), None), (Some(101), None), (None, Some(-1)), (Some(1), Some(1))] {
            assert!(
                matches!(read(first, last, None), Err(QueryError::BadPage(_))),
                "{first:?} {last:?}"
            );
        }
        assert!(matches!(read(None, None, Some("?")), Err(QueryError::BadPage(_))));
        assert_eq!(read(None, None, None).unwrap().take, 20);
    }
}
