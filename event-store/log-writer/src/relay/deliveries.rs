//! What Kafka acknowledged: told by librdkafka's thread, once per record.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::Message;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use tokio::sync::{mpsc, oneshot};

use super::RelayError;

/// Every record of a page holds one of these; the last to go reports the page.
pub(super) struct Page {
    done: Option<oneshot::Sender<()>>,
    failed: AtomicBool,
}

impl Page {
    /// The receiver is told when all records of the page are acknowledged; it fails when one of them never will be.
    pub(super) fn new() -> (Arc<Self>, oneshot::Receiver<()>) {
        let (done, acknowledged) = oneshot::channel();
        let page = Self {
            done: Some(done),
            failed: AtomicBool::new(false),
        };
        (Arc::new(page), acknowledged)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(done) = self.done.take()
            && !*self.failed.get_mut()
        {
            // Nobody waits for it where the tenure is over.
            let _ = done.send(());
        }
    }
}

/// Per topic and partition, up to the last of the log's share, the offset behind the last acknowledged record; 0 where
/// there is none.
#[derive(Clone, Debug)]
pub(super) struct Offsets(Arc<HashMap<String, Vec<AtomicI64>>>);

impl Offsets {
    /// As the checkpoint stores them; `topics` with the partition that follows the log's share.
    pub(super) fn new(topics: &[(String, i32)], stored: &HashMap<String, Vec<i64>>) -> Self {
        let offsets = topics.iter().map(|(topic, partitions)| {
            let known = stored.get(topic);
            let offset = |partition: usize| known.and_then(|known| known.get(partition)).copied().unwrap_or(0);
            let partitions = (0..*partitions as usize).map(|partition| AtomicI64::new(offset(partition)));
            (topic.clone(), partitions.collect())
        });
        Self(Arc::new(offsets.collect()))
    }

    pub(super) fn stored(&self) -> HashMap<&str, Vec<i64>> {
        let read = |offsets: &Vec<AtomicI64>| offsets.iter().map(|offset| offset.load(Ordering::Relaxed)).collect();
        self.0
            .iter()
            .map(|(topic, offsets)| (topic.as_str(), read(offsets)))
            .collect()
    }

    /// Partitions that have something.
    pub(super) fn known(&self) -> Vec<(String, i32, i64)> {
        let partitions = self.0.iter().flat_map(|(topic, offsets)| {
            let offsets = offsets.iter().enumerate();
            offsets.map(move |(partition, next)| (topic.clone(), partition as i32, next.load(Ordering::Relaxed)))
        });
        partitions.filter(|(_, _, next)| *next > 0).collect()
    }

    /// A record was acknowledged at `offset`. An error when that is one that Kafka has acknowledged before: the topic was
    /// made anew, or its end was lost.
    fn reached(&self, topic: &str, partition: i32, offset: i64) -> Result<(), RelayError> {
        let Some(next) = self.0.get(topic).and_then(|offsets| offsets.get(partition as usize)) else {
            return Ok(());
        };
        // A repeated batch may be acknowledged without its offset.
        if offset < 0 {
            return Ok(());
        }
        let known = next.fetch_max(offset + 1, Ordering::Relaxed);
        if offset >= known {
            return Ok(());
        }
        Err(RelayError::KafkaLost {
            topic: topic.to_owned(),
            partition,
            known,
            found: offset,
        })
    }
}

/// The producer's side of a tenure.
pub(super) struct Deliveries {
    pub(super) offsets: Offsets,
    /// The first failure ends the tenure; later ones are its echo.
    pub(super) failed: mpsc::Sender<RelayError>,
    /// What the client last said about the brokers.
    pub(super) trouble: Arc<Mutex<Option<String>>>,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka");
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Page>;

    fn delivery(&self, result: &DeliveryResult<'_>, page: Arc<Page>) {
        let outcome = match result {
            Ok(message) => self
                .offsets
                .reached(message.topic(), message.partition(), message.offset()),
            Err((error, _)) => Err(error.clone().into()),
        };
        if let Err(error) = outcome {
            // Before the page is let go, so that its end is known to be a failure.
            page.failed.store(true, Ordering::Release);
            let _ = self.failed.try_send(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_acknowledged_when_its_last_record_is_and_never_when_one_failed() {
        let (page, mut acknowledged) = Page::new();
        let records = [Arc::clone(&page), Arc::clone(&page), page];
        for record in records {
            assert!(acknowledged.try_recv().is_err());
            drop(record);
        }
        acknowledged.try_recv().unwrap();

        let (page, mut acknowledged) = Page::new();
        page.failed.store(true, Ordering::Release);
        drop(page);
        assert_eq!(acknowledged.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn an_offset_that_was_there_before_is_a_loss() {
        let stored = HashMap::from([("t".to_owned(), vec![0, 7])]);
        let offsets = Offsets::new(&[("t".to_owned(), 3)], &stored);
        assert_eq!(offsets.known(), [("t".to_owned(), 1, 7)]);
        offsets.reached("t", 0, 0).unwrap();
        offsets.reached("t", 1, 7).unwrap();
        offsets.reached("t", 1, -1).unwrap();
        offsets.reached("t", 2, 40).unwrap();
        assert_eq!(offsets.stored()["t"], [1, 8, 41]);
        let lost = offsets.reached("t", 1, 0).unwrap_err();
        assert!(matches!(
            lost,
            RelayError::KafkaLost {
                partition: 1,
                known: 8,
                found: 0,
                ..
            }
        ));
    }
}
