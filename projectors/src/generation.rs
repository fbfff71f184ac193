//! Which generation of the read models is meant: each is a schema (ClickHouse: a database) of its own, made by the same
//! migrations, behind stable names.

use sqlx::PgPool;

/// A generation, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(i32);

impl Generation {
    /// The one that is there from the start: live, until another takes over.
    pub const FIRST: Self = Self(1);

    pub const fn new(number: i32) -> Self {
        Self(number)
    }

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

    /// The generation of `projection` that the stable names show.
    pub async fn live(pool: &PgPool, projection: &str) -> Result<Self, sqlx::Error> {
        let found: Option<i32> = sqlx::query_scalar("select generation from views.generations where projection = $1")
            .bind(projection)
            .fetch_optional(pool)
            .await?;
        Ok(found.map_or(Self::FIRST, Self))
    }
}
