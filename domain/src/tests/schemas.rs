//! `schemas/events/`: the shape of every event that has landed, and samples of it. A shape never changes: another one
//! is another version, and the old version is upcast on read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::samples::{self, Sample};
use crate::account::{Account, AccountEvent};
use crate::conversation::{Conversation, ConversationEvent};
use crate::message::{Message, MessageEvent};
use crate::tenant::{Tenant, TenantEvent};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/events");

/// One aggregate's events, as this code has them.
struct Contract {
    aggregate: &'static str,
    versions: &'static [(&'static str, &'static str)],
    /// The schema of any event of the aggregate.
    schema: Value,
    samples: Vec<Sample>,
    /// Decodes a payload with today's types and encodes it again.
    recode: fn(Value) -> serde_json::Result<Value>,
}

fn contract<A, E>(versions: &'static [(&'static str, &'static str)], samples: Vec<Sample>) -> Contract
where
    A: cqrs_es::Aggregate,
    E: JsonSchema + Serialize + DeserializeOwned,
{
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    Contract {
        aggregate: A::TYPE,
        versions,
        schema: generator.into_root_schema_for::<E>().to_value(),
        samples,
        recode: |payload| serde_json::to_value(serde_json::from_value::<E>(payload)?),
    }
}

fn contracts() -> [Contract; 4] {
    [
        contract::<Account, AccountEvent>(AccountEvent::VERSIONS, samples::of_account()),
        contract::<Message, MessageEvent>(MessageEvent::VERSIONS, samples::of_message()),
        contract::<Conversation, ConversationEvent>(ConversationEvent::VERSIONS, samples::of_conversation_stream()),
        contract::<Tenant, TenantEvent>(TenantEvent::VERSIONS, samples::of_tenant()),
    ]
}

impl Contract {
    /// `event`'s own schema, with just the definitions that it needs.
    fn schema_of(&self, event: &str, version: &str) -> Value {
        let variants = self.schema["oneOf"].as_array().unwrap();
        let variant = variants
            .iter()
            .find(|variant| variant["properties"]["type"]["const"] == event)
            .unwrap();
        let mut schema = Map::new();
        schema.insert("$schema".to_owned(), self.schema["$schema"].clone());
        schema.insert(
            "$id".to_owned(),
            json!(format!("weft:events:{}:{event}:v{version}", self.aggregate)),
        );
        schema.insert(
            "title".to_owned(),
            json!(format!("weft.{}.{event}.v{version}", self.aggregate)),
        );
        schema.extend(variant.as_object().unwrap().clone());
        let mut defs = Map::new();
        let mut wanted = references(variant);
        while let Some(name) = wanted.pop_first() {
            if !defs.contains_key(&name) {
                let definition = &self.schema["$defs"][&name];
                wanted.extend(references(definition));
                defs.insert(name, definition.clone());
            }
        }
        if !defs.is_empty() {
            schema.insert("$defs".to_owned(), Value::Object(defs));
        }
        Value::Object(schema)
    }

    fn folder(&self) -> PathBuf {
        Path::new(FOLDER).join(self.aggregate)
    }

    fn samples_of(&self, event: &str) -> impl Iterator<Item = &Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.payload["type"] == event)
    }

    /// File name → content: the schemas and samples of today's versions.
    fn files(&self) -> BTreeMap<String, Value> {
        let mut files = BTreeMap::new();
        for (event, version) in self.versions {
            files.insert(format!("{event}.v{version}.json"), self.schema_of(event, version));
            for sample in self.samples_of(event) {
                let dot = if sample.variant.is_empty() { "" } else { "." };
                let name = format!("{event}.v{version}{dot}{}.sample.json", sample.variant);
                let twice = files.insert(name, sample.payload.clone());
                assert_eq!(twice, None, "two samples of {event} have one name");
            }
        }
        files
    }
}

/// Names of the definitions that `schema` refers to.
fn references(schema: &Value) -> BTreeSet<String> {
    match schema {
        Value::Object(fields) => fields
            .iter()
            .flat_map(
                |(key, value)| match value.as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
                    Some(name) if key == "$ref" => BTreeSet::from([name.to_owned()]),
                    _ => references(value),
                },
            )
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => BTreeSet::new(),
    }
}

/// `schema` without its prose, which may be reworded, and without what follows from prose: a described value of an enum
/// stands apart from the others.
fn shape(schema: &Value) -> Value {
    fn is_prose(key: &str, value: &Value) -> bool {
        matches!(key, "description" | "title") && value.is_string()
    }
    match schema {
        Value::Object(fields) => {
            if let Some(words) = words(fields) {
                return json!({"type": "string", "enum": words});
            }
            let said = fields.iter().filter(|(key, value)| !is_prose(key, value));
            said.map(|(key, value)| {
                // The order of `required` says nothing.
                let names = value.as_array().filter(|_| key == "required");
                let sorted = names.map(|names| names.iter().filter_map(Value::as_str).collect::<BTreeSet<_>>());
                (key.clone(), sorted.map_or_else(|| shape(value), |names| json!(names)))
            })
            .collect()
        }
        Value::Array(items) => items.iter().map(shape).collect(),
        other => other.clone(),
    }
}

/// The words of an enum of words, however they are grouped; `None` for any other schema.
fn words(schema: &Map<String, Value>) -> Option<BTreeSet<String>> {
    if let Some(groups) = schema.get("oneOf") {
        let groups = groups.as_array()?.iter().map(|group| words(group.as_object()?));
        return groups
            .collect::<Option<Vec<_>>>()
            .map(|groups| groups.into_iter().flatten().collect());
    }
    match (schema.get("enum"), schema.get("const")) {
        (Some(listed), None) => listed
            .as_array()?
            .iter()
            .map(|word| word.as_str().map(str::to_owned))
            .collect(),
        (None, Some(word)) => word.as_str().map(|word| BTreeSet::from([word.to_owned()])),
        _ => None,
    }
}

/// What is wrong with the landed schema of an event; `None`: it is the event's shape.
fn complaint(name: &str, landed: &Value, current: &Value) -> Option<String> {
    (shape(landed) != shape(current)).then(|| {
        format!(
            "{name}: the event no longer has the shape that landed. Events that are stored cannot change: give the event \
             a new version in `domain_event!`, upcast the old one in event-store/log-reader/src/upcast.rs, and land the \
             new schema and samples with WEFT_UPDATE=1"
        )
    })
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; WEFT_UPDATE=1 cargo test -p weft-domain schemas writes what is missing",
            path.display()
        )
    });
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// With `WEFT_UPDATE=1` writes the files that are missing; never one that is there.
fn land(contract: &Contract) {
    if std::env::var_os("WEFT_UPDATE").is_none() {
        return;
    }
    fs::create_dir_all(contract.folder()).unwrap();
    for (name, content) in contract.files() {
        let path = contract.folder().join(name);
        if !path.exists() {
            fs::write(path, serde_json::to_string_pretty(&content).unwrap() + "\n").unwrap();
        }
    }
}

#[test]
fn every_landed_event_has_the_shape_that_landed() {
    let mut complaints = Vec::new();
    for contract in contracts() {
        land(&contract);
        for (event, version) in contract.versions {
            let name = format!("{event}.v{version}.json");
            let landed = read(&contract.folder().join(&name));
            complaints.extend(complaint(&name, &landed, &contract.schema_of(event, version)));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_golden_sample_is_still_read_and_written_as_it_landed_and_fits_its_schema() {
    for contract in contracts() {
        land(&contract);
        for (event, version) in contract.versions {
            let schema = read(&contract.folder().join(format!("{event}.v{version}.json")));
            let validator = jsonschema::options()
                .should_validate_formats(true)
                .build(&schema)
                .unwrap();
            assert!(
                contract.samples_of(event).any(|sample| sample.variant.is_empty()),
                "{event} has no sample"
            );
            let prefix = format!("{event}.v{version}.");
            for (name, current) in contract.files() {
                if !name.starts_with(&prefix) || !name.ends_with(".sample.json") {
                    continue;
                }
                let landed = read(&contract.folder().join(&name));
                assert_eq!(landed, current, "{name} is not what the code writes");
                assert_eq!((contract.recode)(landed.clone()).unwrap(), landed, "{name}");
                let errors: Vec<_> = validator.iter_errors(&landed).map(|error| error.to_string()).collect();
                assert!(errors.is_empty(), "{name}: {errors:?}");
            }
        }
    }
}

/// What is wrong with a file that landed; `None`: it is one of today's, or of an older version of one of today's events.
fn stranger(contract: &Contract, known: &BTreeSet<String>, name: &str) -> Option<String> {
    let mut parts = name.split('.');
    let event = parts.next().unwrap_or_default();
    let version = parts
        .next()
        .and_then(|part| part.strip_prefix('v')?.parse::<u32>().ok());
    let current = contract.versions.iter().find(|(known, _)| *known == event);
    let current = current.map(|(_, version)| version.parse::<u32>().unwrap());
    match (version, current) {
        (Some(version), Some(current)) if version < current || known.contains(name) => None,
        (Some(version), Some(current)) if version == current => Some(format!("{name} is no sample that the code has")),
        _ => Some(format!(
            "{name} landed, but the code has no such event and version; events are never removed"
        )),
    }
}

#[test]
fn nothing_that_landed_is_unknown_to_the_code() {
    let mut strangers = Vec::new();
    for contract in contracts() {
        land(&contract);
        let known: BTreeSet<String> = contract.files().into_keys().collect();
        for file in fs::read_dir(contract.folder()).unwrap() {
            strangers.extend(stranger(&contract, &known, file.unwrap().file_name().to_str().unwrap()));
        }
    }
    assert!(strangers.is_empty(), "{}", strangers.join("\n"));
}

#[test]
fn a_removed_event_a_newer_version_and_a_removed_sample_are_noticed() {
    let [mut account, ..] = contracts();
    account.versions = &[("LoggedOut", "2")];
    let known = BTreeSet::from(["LoggedOut.v2.json".to_owned()]);
    for fine in ["LoggedOut.v2.json", "LoggedOut.v1.json", "LoggedOut.v1.sample.json"] {
        assert_eq!(stranger(&account, &known, fine), None);
    }
    for wrong in [
        "LoggedOut.v3.json",
        "LoggedOut.v2.sample.json",
        "LoggedIn.v1.json",
        "notes.txt",
    ] {
        assert!(stranger(&account, &known, wrong).is_some(), "{wrong}");
    }
}

#[test]
fn a_sample_with_a_field_missing_or_of_another_type_fits_no_schema() {
    for contract in contracts() {
        for (event, version) in contract.versions {
            let schema = contract.schema_of(event, version);
            let validator = jsonschema::options()
                .should_validate_formats(true)
                .build(&schema)
                .unwrap();
            let required: Vec<_> = schema["required"].as_array().unwrap().iter().collect();
            assert!(
                required.contains(&&json!("type")) && required.contains(&&json!("at")),
                "{event}"
            );
            let sample = &contract.samples_of(event).next().unwrap().payload;
            for field in &required {
                let field = field.as_str().unwrap();
                let mut missing = sample.clone();
                missing.as_object_mut().unwrap().remove(field);
                assert!(!validator.is_valid(&missing), "{event} without {field}");
                let mut wrong = sample.clone();
                wrong[field] = json!([["of no field's type"]]);
                assert!(!validator.is_valid(&wrong), "{event} with another {field}");
            }
        }
    }
}

#[test]
fn a_changed_shape_is_noticed_and_a_reworded_description_is_not() {
    let [account, ..] = contracts();
    let landed = account.schema_of("LoginFailed", "1");
    let mut reworded = landed.clone();
    reworded["description"] = json!("Other words.");
    assert_eq!(complaint("LoginFailed.v1.json", &landed, &reworded), None);
    let apart =
        json!({"oneOf": [{"enum": ["b"], "type": "string"}, {"const": "a", "type": "string", "description": "A."}]});
    assert_eq!(shape(&apart), shape(&json!({"enum": ["a", "b"], "type": "string"})));
    assert_ne!(
        shape(&apart),
        shape(&json!({"enum": ["a", "b", "c"], "type": "string"}))
    );

    let mut renamed = landed.clone();
    let properties = renamed["properties"].as_object_mut().unwrap();
    let reason = properties.remove("reason").unwrap();
    properties.insert("why".to_owned(), reason);
    let mut optional = landed.clone();
    optional["required"]
        .as_array_mut()
        .unwrap()
        .retain(|field| field != "reason");
    let mut retyped = landed.clone();
    retyped["properties"]["reason"]["type"] = json!("integer");
    let mut added = landed.clone();
    added["properties"]["hint"] = json!({"type": "string"});
    for changed in [renamed, optional, retyped, added] {
        let found = complaint("LoginFailed.v1.json", &landed, &changed);
        assert!(found.is_some_and(|text| text.contains("new version")), "{changed}");
    }
}

/// The fields that may hold what belongs to a person.
const SEALED: [(&str, &str); 11] = [
    ("AccountCreated", "email"),
    ("AccountCreated", "phone"),
    ("AccountUpdated", "email"),
    ("AccountUpdated", "phone"),
    ("ConversationRenamed", "name"),
    ("MessageAccepted", "content"),
    ("MessageReceived", "content"),
    ("MessageReceived", "sender"),
    ("ProfileUpdated", "user_info"),
    ("QrCodeIssued", "content"),
    ("VerificationCodeSubmitted", "code"),
];

#[test]
fn what_belongs_to_a_person_is_sealed_in_the_schemas() {
    let mut sealed = BTreeSet::new();
    for contract in contracts() {
        for (event, version) in contract.versions {
            let schema = contract.schema_of(event, version);
            for (field, property) in schema["properties"].as_object().unwrap() {
                let refers = references(property);
                if refers.contains("Sealed") {
                    assert_eq!(refers.len(), 1, "{event}.{field} is sealed or something else");
                    sealed.insert((*event, field.clone()));
                }
            }
            if let Some(definition) = schema["$defs"].get("Sealed") {
                let fields: BTreeSet<_> = definition["properties"]
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(String::as_str)
                    .collect();
                assert_eq!(fields, BTreeSet::from(["ciphertext", "key", "nonce", "subject"]));
                assert_eq!(definition["additionalProperties"], false);
            }
        }
    }
    let expected: BTreeSet<_> = SEALED
        .iter()
        .map(|(event, field)| (*event, (*field).to_owned()))
        .collect();
    assert_eq!(sealed, expected);
}

#[test]
fn every_event_of_a_message_or_a_conversation_names_its_account() {
    let [_, message, conversation, _] = contracts();
    for contract in [message, conversation] {
        for (event, version) in contract.versions {
            let schema = contract.schema_of(event, version);
            assert!(
                schema["required"].as_array().unwrap().contains(&json!("account_id")),
                "{event}"
            );
            assert_eq!(
                references(&schema["properties"]["account_id"]),
                BTreeSet::from(["AccountId".to_owned()])
            );
        }
    }
}

#[test]
fn every_event_has_one_schema_and_every_schema_an_event() {
    for contract in contracts() {
        let described: BTreeSet<_> = contract.schema["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|variant| variant["properties"]["type"]["const"].as_str().unwrap().to_owned())
            .collect();
        let versioned: BTreeSet<_> = contract.versions.iter().map(|(event, _)| (*event).to_owned()).collect();
        assert_eq!(described, versioned);
    }
}
