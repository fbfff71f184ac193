//! The cqrs framework's own interface to the log, so that `CqrsFramework` works for commands on a single stream.

use std::collections::HashMap;
use std::sync::Arc;

use cqrs_es::{Aggregate, AggregateContext, AggregateError, DomainEvent, EventEnvelope, EventStore};
use weft_domain::LogAggregate;
use weft_log_reader::{LoadError, Loaded, load_events};

use crate::append::{Command, NewClaim, NewEvent, Outcome};
use crate::executor::Trust;
use crate::{ExecuteError, Executor, claims};

/// A loaded stream that the framework lets an aggregate change.
#[derive(Debug)]
pub struct LogContext<A> {
    id: String,
    /// As the framework changes it while the command is handled.
    state: A,
    loaded: Loaded<A>,
}

impl<A: Aggregate> AggregateContext<A> for LogContext<A> {
    fn aggregate(&mut self) -> &mut A {
        &mut self.state
    }
}

impl<A> EventStore<A> for Executor
where
    A: LogAggregate,
    A::Error: Send + Sync + 'static,
{
    type AC = LogContext<A>;

    async fn load_events(&self, aggregate_id: &str) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        let events = load_events::<A>(self.pool(), aggregate_id, 0).await.map_err(failed)?;
        let envelope = |(sequence, payload)| EventEnvelope {
            aggregate_id: aggregate_id.to_owned(),
            sequence: sequence as usize,
            payload,
            metadata: HashMap::new(),
        };
        Ok(events.into_iter().map(envelope).collect())
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<LogContext<A>, AggregateError<A::Error>> {
        let loaded: Loaded<A> = self.load(aggregate_id).await?;
        Ok(LogContext {
            id: aggregate_id.to_owned(),
            state: loaded.state.clone(),
            loaded,
        })
    }

    async fn commit(
        &self,
        events: Vec<A::Event>,
        context: LogContext<A>,
        mut metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        let Some(first) = events.first() else {
            return Ok(Vec::new());
        };
        let LogContext { id, loaded, .. } = context;
        let partition_key = loaded.partition_key.unwrap_or_else(|| A::partition_key(&id, first));
        metadata.insert("partition_key".to_owned(), partition_key);
        let metadata_text = serde_json::to_string(&metadata).map_err(unexpected)?;
        let mut command = Command::default();
        let claim = |change| NewClaim {
            aggregate_type: A::TYPE,
            aggregate_id: id.clone(),
            change,
        };
        command
            .claims
            .extend(claims::net(loaded.state.claims(&events)).into_iter().map(claim));
        for (event, sequence) in events.iter().zip(loaded.version + 1..) {
            let payload = serde_json::to_string(event).map_err(unexpected)?;
            if payload.len() > self.max_event_bytes() {
                return Err(ExecuteError::EventTooLarge.into());
            }
            command.events.push(NewEvent {
                aggregate_type: A::TYPE,
                aggregate_id: id.clone(),
                sequence,
                event_type: event.event_type(),
                event_version: event.event_version(),
                payload,
                metadata: metadata_text.clone(),
            });
        }
        let quotas = loaded.state.quotas(&events);
        let counted = self.quota_uses(&quotas, Trust::Log).await;
        (command.quotas, command.guards) = counted.map_err(ExecuteError::from)?;
        let tenant = metadata.get("tenant_id").cloned().unwrap_or_default();
        let outcome = self.append(&tenant, Arc::new(command)).await;
        match outcome.map_err(|error| AggregateError::from(ExecuteError::from(error)))? {
            Outcome::Committed(_) => {}
            Outcome::ClaimTaken(claim) => return Err(ExecuteError::ClaimTaken(claim).into()),
            Outcome::QuotaExceeded(exceeded) => {
                let exceeded = self
                    .explain_quota(&exceeded, &quotas)
                    .await
                    .map_err(ExecuteError::from)?;
                return Err(ExecuteError::QuotaExceeded(exceeded).into());
            }
            // Without a key there is neither a replay nor a reuse.
            Outcome::Replay(_) | Outcome::KeyReused => {
                return Err(ExecuteError::Corrupt("an append without a key answered for one".to_owned()).into());
            }
        }
        let envelope = |(payload, sequence): (A::Event, i64)| EventEnvelope {
            aggregate_id: id.clone(),
            sequence: sequence as usize,
            payload,
            metadata: metadata.clone(),
        };
        Ok(events.into_iter().zip(loaded.version + 1..).map(envelope).collect())
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(error: LoadError) -> AggregateError<E> {
    ExecuteError::from(error).into()
}

fn unexpected<E: std::error::Error>(error: serde_json::Error) -> AggregateError<E> {
    AggregateError::UnexpectedError(Box::new(error))
}
