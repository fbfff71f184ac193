//! Every golden sample under `schemas/events/`, of old versions too, is read as the log is: upcast, then decoded.

use std::fs;

use serde_json::Value;
use weft_log_reader::typed::{DecodeError, decode_account, decode_conversation, decode_message, decode_tenant};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/events");

/// Decodes as `aggregate` and forgets what came out.
fn decode(aggregate: &str, event: &str, version: &str, payload: &[u8]) -> Result<(), DecodeError> {
    match aggregate {
        "account" => decode_account(event, version, payload).map(drop),
        "message" => decode_message(event, version, payload).map(drop),
        "conversation" => decode_conversation(event, version, payload).map(drop),
        "tenant" => decode_tenant(event, version, payload).map(drop),
        other => panic!("{other} is no aggregate"),
    }
}

/// Event and version of a sample's file name: `<Event>.v<n>[.<variant>].sample.json`.
fn parse(name: &str) -> Option<(&str, &str)> {
    let mut parts = name.strip_suffix(".sample.json")?.split('.');
    Some((parts.next()?, parts.next()?.strip_prefix('v')?))
}

#[test]
fn every_sample_that_landed_is_read() {
    let mut read = 0;
    for folder in fs::read_dir(FOLDER).unwrap() {
        let folder = folder.unwrap();
        let aggregate = folder.file_name().into_string().unwrap();
        for file in fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            let Some((event, version)) = parse(&name) else { continue };
            let payload = fs::read(file.path()).unwrap();
            decode(&aggregate, event, version, &payload).unwrap_or_else(|error| panic!("{aggregate}/{name}: {error}"));
            read += 1;
        }
    }
    assert!(read > 60, "only {read} samples");
}

#[test]
fn a_sample_without_a_field_or_of_an_unknown_version_is_not_read() {
    let sample = fs::read(format!("{FOLDER}/account/LoginStarted.v1.sample.json")).unwrap();
    assert!(matches!(
        decode("account", "LoginStarted", "7", &sample),
        Err(DecodeError::UnknownEvent { .. })
    ));
    let mut cut: Value = serde_json::from_slice(&sample).unwrap();
    cut.as_object_mut().unwrap().remove("attempt");
    let cut = cut.to_string();
    assert!(matches!(
        decode("account", "LoginStarted", "1", cut.as_bytes()),
        Err(DecodeError::Undecodable { .. })
    ));
}
