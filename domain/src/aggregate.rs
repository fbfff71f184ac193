//! What the log needs to know of an aggregate, beside `cqrs_es::Aggregate`.

use crate::{ClaimChange, QuotaChange};

/// An aggregate whose events live in Weft's log. `decide` is pure; `cqrs_es::Aggregate::handle` is thin glue over it.
pub trait LogAggregate: cqrs_es::Aggregate + Clone + 'static {
    /// What happens when `command` meets this state: the events to append, none when the outcome already holds.
    fn decide(&self, command: Self::Command) -> Result<Vec<Self::Event>, Self::Error>;

    /// Kafka partition key of the stream, decided by its first event: the account's id where there is one, else the
    /// aggregate's own.
    fn partition_key(aggregate_id: &str, first: &Self::Event) -> String;

    /// Claims taken and released by `events`, decided against the state before them.
    fn claims(&self, events: &[Self::Event]) -> Vec<ClaimChange>;

    /// Quotas used and given back by `events`, decided against the state before them.
    fn quotas(&self, _: &[Self::Event]) -> Vec<QuotaChange> {
        Vec::new()
    }

    /// Whether `command` is one that begins a stream under a fresh id: then nobody needs to look whether the stream
    /// exists already before the append's optimistic lock does.
    fn begins_stream(_: &Self::Command) -> bool {
        false
    }
}

/// Implements `cqrs_es::Aggregate` for a `LogAggregate` that has an inherent `fold(&mut self, Event)`.
macro_rules! cqrs_aggregate {
    ($aggregate:ty, $name:literal, $command:ty, $event:ty, $error:ty) => {
        impl cqrs_es::Aggregate for $aggregate {
            const TYPE: &'static str = $name;
            type Command = $command;
            type Event = $event;
            type Error = $error;
            type Services = ();

            async fn handle(
                &mut self,
                command: Self::Command,
                (): &Self::Services,
                sink: &cqrs_es::event_sink::EventSink<Self>,
            ) -> Result<(), Self::Error> {
                for event in $crate::LogAggregate::decide(self, command)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }

            fn apply(&mut self, event: Self::Event) {
                self.fold(event);
            }
        }
    };
}
pub(crate) use cqrs_aggregate;

/// Implements `cqrs_es::DomainEvent` for an enum: the event's name and version are listed once, here.
macro_rules! domain_event {
    ($event:ident { $($variant:ident => $version:literal),+ $(,)? }) => {
        impl $event {
            /// Every event of this aggregate with its current version.
            pub const VERSIONS: &'static [(&'static str, &'static str)] = &[$((stringify!($variant), $version)),+];

            /// The event's name, as stored.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => stringify!($variant)),+
                }
            }
        }

        impl cqrs_es::DomainEvent for $event {
            fn event_type(&self) -> String {
                self.name().to_owned()
            }

            fn event_version(&self) -> String {
                match self {
                    $(Self::$variant { .. } => $version),+
                }
                .to_owned()
            }
        }
    };
}
pub(crate) use domain_event;
