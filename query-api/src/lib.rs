//! GraphQL, subscriptions and REST views over the read models.
