//! `weft migrate` and `weft topics`: idempotent, safe when two run at once, run by `weft all` itself in development.

use weft_platform::config::Config;
use weft_platform::kafka::ensure_topics;

use crate::Failure;

pub(crate) async fn run(config: &Config) -> Result<(), Failure> {
    for log in config.by_log() {
        weft_log_writer::migrate::log(&log)
            .await
            .map_err(|error| Failure::new(format!("database of the log {}: {error}", log.log.name)))?;
    }
    weft_log_writer::migrate::keys(config)
        .await
        .map_err(|error| Failure::new(format!("key database: {error}")))?;
    weft_projectors::migrate::views(config)
        .await
        .map_err(|error| Failure::new(format!("views database: {error}")))?;
    weft_projectors::migrate::clickhouse(config)
        .await
        .map_err(|error| Failure::new(format!("ClickHouse: {error}")))?;
    outln!("log, keys, views and ClickHouse are up to date");
    Ok(())
}

pub(crate) async fn topics(config: &Config) -> Result<(), Failure> {
    let created = ensure_topics(&config.kafka).await.map_err(Failure::new)?;
    if created.is_empty() {
        outln!("topics are as they should be");
    } else {
        outln!("created or grown {}", created.join(", "));
    }
    Ok(())
}
