//! The landed event schemas, as validators.

use std::collections::HashMap;

use jsonschema::Validator;

use crate::Failure;

/// Aggregate type, event type, version, JSON Schema: all of `schemas/events/`.
const LANDED: &[(&str, &str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/event_schemas.rs"));

/// Checks payloads against the schema that landed for their event and version.
pub(crate) struct Schemas(HashMap<(&'static str, &'static str, &'static str), Validator>);

impl Schemas {
    pub(crate) fn load() -> Result<Self, Failure> {
        let validators = LANDED.iter().map(|(aggregate, event, version, schema)| {
            let schema = serde_json::from_str(schema).map_err(Failure::new)?;
            let options = jsonschema::options().should_validate_formats(true);
            let validator = options.build(&schema).map_err(Failure::new)?;
            Ok(((*aggregate, *event, *version), validator))
        });
        validators.collect::<Result<_, _>>().map(Self)
    }

    /// What does not fit, without the values: they may belong to a person.
    pub(crate) fn check(&self, aggregate: &str, event: &str, version: &str, payload: &str) -> Result<(), String> {
        let payload = serde_json::from_str(payload).map_err(|error| error.to_string())?;
        self.check_value(aggregate, event, version, &payload)
    }

    /// As `check`, of a payload that is read already.
    pub(crate) fn check_value(
        &self,
        aggregate: &str,
        event: &str,
        version: &str,
        payload: &serde_json::Value,
    ) -> Result<(), String> {
        let validator = self
            .0
            .get(&(aggregate, event, version))
            .ok_or_else(|| format!("no schema has landed for {event} v{version}"))?;
        let mut wrong = validator
            .iter_errors(payload)
            .map(|error| format!("{} {}", error.instance_path(), error.kind().keyword()))
            .collect::<Vec<_>>();
        wrong.sort();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "does not fit the schema of {event} v{version}: {}",
                wrong.join(", ")
            ))
        }
    }
}
