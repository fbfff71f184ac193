//! Between rows and types.

use sqlx::Row;
use sqlx::postgres::PgRow;
use weft_domain::LogOrder;

/// One field of all rows as a list to bind: an array per column of a set-based statement.
macro_rules! column {
    ($rows:expr, $($field:tt)+) => {
        $rows.iter().map(|row| row.$($field)+.clone()).collect::<Vec<_>>()
    };
}
pub(crate) use column;

/// Binds the named fields of all rows to a set-based statement, each as such a list, in their order.
macro_rules! bind_columns {
    ($query:expr, $rows:expr => $($field:ident $(. $part:ident)* $(($($nothing:tt)*))?),+) => {
        $query$(.bind(column!($rows, $field$(.$part)*$(($($nothing)*))?)))+
    };
}
pub(crate) use bind_columns;

/// A column that holds one of an enum's words.
pub(crate) fn word<T>(row: &PgRow, column: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, sqlx::Error> {
    let text: &str = row.try_get(column)?;
    parse(text).ok_or_else(|| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: format!("{text} is no word of this column").into(),
    })
}

/// `epoch`, `transaction_id` and `position`.
pub(crate) fn log_order(row: &PgRow) -> Result<LogOrder, sqlx::Error> {
    Ok(LogOrder {
        epoch: row.try_get("epoch")?,
        transaction_id: row.try_get("transaction_id")?,
        position: row.try_get("position")?,
    })
}
