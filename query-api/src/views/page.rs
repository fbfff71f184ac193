//! Two ways through a list: numbered pages (REST) and windows between cursors (GraphQL).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Totals are counted up to here.
pub(crate) const COUNTED: i64 = 10_000;

/// How many rows a list has, as far as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) count: i64,
    pub(crate) is_capped: bool,
}

impl Total {
    /// From a count that stops one after [`COUNTED`].
    pub(crate) fn of(counted: i64) -> Self {
        Self {
            count: counted.min(COUNTED),
            is_capped: counted > COUNTED,
        }
    }
}

/// A page of a list, numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NumberedPage {
    pub(crate) page: i64,
    pub(crate) size: i64,
}

impl NumberedPage {
    /// Rows to pass over; a page too far for any list is just past every end.
    pub(crate) const fn offset(self) -> i64 {
        (self.page - 1).saturating_mul(self.size)
    }
}

/// What orders a list and names a place in it.
pub(crate) trait Key: Copy + Eq + std::hash::Hash + Send + Sync + 'static {
    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

/// Newest first by creation, ties by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) at: DateTime<Utc>,
    pub(crate) id: Uuid,
}

impl Key for Place {
    fn write(&self) -> String {
        format!("{}.{}", self.at.timestamp_micros(), self.id.simple())
    }

    fn read(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('.')?;
        Some(Self {
            at: DateTime::from_timestamp_micros(at.parse().ok()?)?,
            id: Uuid::parse_str(id).ok()?,
        })
    }
}

/// One stream's rows by their sequence.
impl Key for i64 {
    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// What a list is of: its cursors are no other list's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ListOf {
    Accounts,
    Messages,
    Conversations,
    History,
}

impl ListOf {
    const fn mark(self) -> char {
        match self {
            Self::Accounts => 'a',
            Self::Messages => 'm',
            Self::Conversations => 'c',
            Self::History => 'h',
        }
    }
}

/// The opaque text of a place in a list.
pub(crate) fn cursor<K: Key>(list: ListOf, key: &K) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}{}", list.mark(), key.write()))
}

pub(crate) fn read_cursor<K: Key>(list: ListOf, cursor: &str) -> Option<K> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    K::read(std::str::from_utf8(&bytes).ok()?.strip_prefix(list.mark())?)
}

/// A part of a list: `take` rows from its start, or from its end, between two places (both outside).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Window<K> {
    pub(crate) after: Option<K>,
    pub(crate) before: Option<K>,
    pub(crate) take: i64,
    pub(crate) from_end: bool,
}

impl<K: Key> Window<K> {
    /// One row more than asked for tells whether there are more.
    pub(crate) const fn limit(&self) -> i64 {
        self.take + 1
    }

    /// Rows as they were read (nearest to the window's start or end first) as a slice in list order.
    pub(crate) fn slice<T>(&self, mut rows: Vec<T>) -> Slice<T> {
        let more = rows.len() as i64 > self.take;
        rows.truncate(self.take as usize);
        if self.from_end {
            rows.reverse();
        }
        Slice {
            rows,
            has_previous: if self.from_end { more } else { self.after.is_some() },
            has_next: if self.from_end { self.before.is_some() } else { more },
        }
    }
}

/// Rows of a window, in list order.
#[derive(Clone, Debug)]
pub(crate) struct Slice<T> {
    pub(crate) rows: Vec<T>,
    pub(crate) has_previous: bool,
    pub(crate) has_next: bool,
}

impl<T> Default for Slice<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            has_previous: false,
            has_next: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_its_place_exactly() {
        let place = Place {
            at: "2026-01-31T08:00:00.123456Z".parse().unwrap(),
            id: Uuid::from_u128(7),
        };
        let given = cursor(ListOf::Messages, &place);
        assert_eq!(read_cursor(ListOf::Messages, &given), Some(place));
        assert_eq!(read_cursor::<Place>(ListOf::Accounts, &given), None);
        assert_eq!(read_cursor::<Place>(ListOf::Messages, "not a cursor"), None);
        assert_eq!(
            read_cursor::<Place>(ListOf::Messages, &cursor(ListOf::Messages, &5_i64)),
            None
        );
    }

    #[test]
    fn a_window_from_the_end_keeps_list_order() {
        let window = Window {
            after: None,
            before: Some(9_i64),
            take: 2,
            from_end: true,
        };
        let slice = window.slice(vec![8, 7, 6]);
        assert_eq!(slice.rows, [7, 8]);
        assert!(slice.has_previous && slice.has_next);
    }

    #[test]
    fn a_page_too_far_does_not_overflow() {
        let page = NumberedPage {
            page: i64::MAX,
            size: 100,
        };
        assert_eq!(page.offset(), i64::MAX);
    }
}
