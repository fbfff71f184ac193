//! What commands do to the streams they meet: decided in memory, before the transaction has an id.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cqrs_es::DomainEvent;
use weft_domain::{LogAggregate, LogOrder, Metadata, QuotaChange};
use weft_log_reader::Loaded;

use crate::append::{Command, Guard, NewClaim, NewEvent, QuotaUse};
use crate::idempotency::Record;
use crate::options::{CallOptions, Committed, StoredAnswer};
use crate::{ExecuteError, claims};

/// A decided append and what it will leave behind.
pub(super) struct Plan<A: cqrs_es::Aggregate> {
    pub(super) command: Arc<Command>,
    pub(super) quotas: Vec<QuotaChange>,
    pub(super) committed: Vec<Committed<A>>,
    pub(super) answer: StoredAnswer,
}

/// Decides `commands` in order on `streams`, each seeing what the earlier ones did.
pub(super) fn decide<A>(
    commands: &[(String, A::Command)],
    mut streams: HashMap<String, Loaded<A>>,
    options: &CallOptions,
    max_event_bytes: usize,
    answer: &(dyn Fn(&[Committed<A>]) -> StoredAnswer + Send + Sync),
) -> Result<Plan<A>, ExecuteError<A::Error>>
where
    A: LogAggregate,
    A::Command: Clone,
{
    let loaded_versions: HashMap<String, i64> = streams
        .iter()
        .map(|(id, stream)| (id.clone(), stream.version))
        .collect();
    let mut command = Command::default();
    let mut committed = Vec::with_capacity(commands.len());
    let mut quotas = Vec::new();
    let mut metadata = MetadataTexts::new(&options.metadata);
    let mut changes: HashMap<&str, Vec<weft_domain::ClaimChange>> = HashMap::new();
    for (id, wanted) in commands {
        let loaded_version = loaded_versions.get(id).copied().unwrap_or_default();
        let mismatch = !options.if_match.holds(loaded_version);
        if mismatch && loaded_version > 0 {
            return Err(ExecuteError::VersionMismatch {
                current: loaded_version,
            });
        }
        let stream = streams.entry(id.clone()).or_default();
        // A stream that does not exist says so itself, before any condition on its version.
        let events = stream.state.decide(wanted.clone()).map_err(ExecuteError::Domain)?;
        if mismatch {
            return Err(ExecuteError::VersionMismatch { current: 0 });
        }
        changes.entry(id).or_default().extend(stream.state.claims(&events));
        quotas.extend(stream.state.quotas(&events));
        for event in &events {
            let key = stream.partition_key.get_or_insert_with(|| A::partition_key(id, event));
            let payload = serde_json::to_string(event).map_err(|error| ExecuteError::Corrupt(error.to_string()))?;
            if payload.len() > max_event_bytes {
                return Err(ExecuteError::EventTooLarge);
            }
            stream.version += 1;
            stream.head = None;
            command.events.push(NewEvent {
                aggregate_type: A::TYPE,
                aggregate_id: id.clone(),
                sequence: stream.version,
                event_type: event.event_type(),
                event_version: event.event_version(),
                payload,
                metadata: metadata.with(key)?,
            });
            stream.state.apply(event.clone());
        }
        committed.push(Committed {
            id: id.clone(),
            state: stream.state.clone(),
            version: stream.version,
            events,
            order: stream.head,
            partition_key: stream.partition_key.clone().unwrap_or_else(|| id.clone()),
        });
    }
    for (id, changes) in changes {
        let claim = |change| NewClaim {
            aggregate_type: A::TYPE,
            aggregate_id: id.to_owned(),
            change,
        };
        command.claims.extend(claims::net(changes).into_iter().map(claim));
    }
    let answer = answer(&committed);
    if let Some(key) = options.idempotency {
        let streams = committed
            .iter()
            .filter(|one| one.version > 0)
            .map(|one| (A::TYPE.to_owned(), one.id.clone(), one.version))
            .collect();
        command.key = Some((
            key,
            Record {
                answer: answer.clone(),
                streams,
            },
        ));
    }
    Ok(Plan {
        command: Arc::new(command),
        quotas,
        committed,
        answer,
    })
}

impl<A: LogAggregate> Plan<A> {
    /// Whether something is appended to each of `streams`, so that the optimistic lock finds out what was not known.
    pub(super) fn writes_all(&self, streams: &HashSet<String>) -> bool {
        let written: HashSet<&str> = self
            .command
            .events
            .iter()
            .map(|event| event.aggregate_id.as_str())
            .collect();
        streams.iter().all(|id| written.contains(id.as_str()))
    }

    /// The streams as they are after the commit, to remember.
    pub(super) fn left(&self) -> HashMap<&str, Loaded<A>> {
        let loaded = |one: &Committed<A>| Loaded {
            state: one.state.clone(),
            version: one.version,
            partition_key: Some(one.partition_key.clone()),
            head: one.order,
        };
        // Of several commands on one stream the last counts.
        let existing = self.committed.iter().filter(|one| one.order.is_some());
        existing.map(|one| (one.id.as_str(), loaded(one))).collect()
    }

    /// Adds what the command uses of its quotas, before anybody else has it.
    pub(super) fn count(&mut self, (quotas, guards): (Vec<QuotaUse>, Vec<Guard>)) {
        if let Some(command) = Arc::get_mut(&mut self.command) {
            command.quotas = quotas;
            command.guards = guards;
        }
    }

    /// Tells every result where its stream's last event stands, now that it is known.
    pub(super) fn place(&mut self, orders: &[LogOrder]) {
        let placed: HashMap<(&str, i64), LogOrder> = self
            .command
            .events
            .iter()
            .zip(orders)
            .map(|(event, order)| ((event.aggregate_id.as_str(), event.sequence), *order))
            .collect();
        for one in &mut self.committed {
            if let Some(order) = placed.get(&(one.id.as_str(), one.version)) {
                one.order = Some(*order);
            }
        }
    }
}

/// The envelope as JSON, made once per partition key.
struct MetadataTexts<'m> {
    metadata: &'m Metadata,
    texts: HashMap<String, String>,
}

impl<'m> MetadataTexts<'m> {
    fn new(metadata: &'m Metadata) -> Self {
        Self {
            metadata,
            texts: HashMap::new(),
        }
    }

    fn with<E>(&mut self, partition_key: &str) -> Result<String, ExecuteError<E>> {
        if let Some(text) = self.texts.get(partition_key) {
            return Ok(text.clone());
        }
        let text = serde_json::to_string(&self.metadata.flat(partition_key))
            .map_err(|error| ExecuteError::Corrupt(error.to_string()))?;
        self.texts.insert(partition_key.to_owned(), text.clone());
        Ok(text)
    }
}
