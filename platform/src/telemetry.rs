//! Logs, and W3C trace context to pass on. No personal data ever goes in here.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Sends logs to standard error: JSON lines in production, plain text in development. `RUST_LOG` overrides `filter`.
pub fn init(filter: &str, json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        // Colours are for people: a file or a pipe gets plain text.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second call (a test's) keeps the first subscriber.
    let _ = if json {
        registry.with(layer.json()).try_init()
    } else {
        registry.with(layer).try_init()
    };
}

/// The `traceparent` to store with a command: the caller's trace continued by a span of ours, or a new trace where
/// none or no valid one came.
pub fn continue_traceparent(incoming: Option<&str>) -> String {
    let span: u64 = rand::random::<u64>() | 1;
    match incoming.and_then(trace_id) {
        Some(trace) => format!("00-{trace}-{span:016x}-01"),
        None => format!("00-{:032x}-{span:016x}-01", rand::random::<u128>() | 1),
    }
}

/// The trace id of a valid version 00 `traceparent`.
fn trace_id(header: &str) -> Option<&str> {
    let hex = |text: &str, length: usize| {
        text.len() == length
            && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && text.bytes().any(|b| b != b'0')
    };
    let mut parts = header.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let valid = version == "00" && hex(trace, 32) && hex(span, 16) && flags.len() == 2 && parts.next().is_none();
    valid.then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_trace_is_continued_by_a_new_span() {
        let incoming = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let continued = continue_traceparent(Some(incoming));
        assert!(continued.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert_ne!(continued, incoming);
    }

    #[test]
    fn rubbish_starts_a_new_trace() {
        for rubbish in [
            None,
            Some(""),
            Some("00-zz-11-01"),
            Some("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        ] {
            let started = continue_traceparent(rubbish);
            assert!(trace_id(&started).is_some(), "{started}");
        }
    }
}
