//! Columns that hold a word of the domain.

use sqlx::Row;
use sqlx::postgres::PgRow;

/// A column whose text `parse` knows.
pub(super) fn word<T>(row: &PgRow, column: &str, parse: impl Fn(&str) -> Option<T>) -> sqlx::Result<T> {
    let text: &str = row.try_get(column)?;
    parse(text).ok_or_else(|| unknown(column, text))
}

/// The same where the column may be null.
pub(super) fn optional_word<T>(
    row: &PgRow,
    column: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> sqlx::Result<Option<T>> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| parse(text).ok_or_else(|| unknown(column, text)))
        .transpose()
}

fn unknown(column: &str, text: &str) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: format!("{text:?} is not a word of this column").into(),
    }
}
