//! Which generation of the read models is meant: each is a schema (ClickHouse: a database) of its own, made by the same
//! migrations, behind stable names.

/// A generation, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(i32);

impl Generation {
    /// The one that the stable names show.
    pub const LIVE: Self = Self(1);

    pub const fn number(self) -> i32 {
        self.0
    }

    /// Its schema in the views' database.
    pub fn schema(self) -> String {
        format!("views_g{}", self.0)
    }

    /// Its ClickHouse database, where `stable` has the stable names.
    pub fn facts_database(self, stable: &str) -> String {
        format!("{stable}_g{}", self.0)
    }
}
