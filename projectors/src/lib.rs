//! Kafka to read models and facts, one projection per file.
