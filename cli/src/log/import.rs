//! `weft log import`: what `weft log export` wrote becomes history of this log.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use uuid::Uuid;
use weft_log_writer::import::{Chunk, Chunker, Import, ImportError, PastEvent};
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::keys::{KeyStore, SUBJECT_KEY};

use super::progress::Progress;
use super::schemas::Schemas;
use super::{Failure, pool};
use crate::database;

/// Exit code where the files and the log do not go together. (1: one of them could not be read, or the log not written.)
const REFUSED: u8 = 3;
/// Chunks that are ready while one is written.
const AHEAD: usize = 2;
/// Longer lines are no events.
const MAX_LINE_BYTES: u64 = 16 << 20;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A place in the files is one number: the file's from this bit on, the line's below.
const FILE_BIT: u32 = 40;

#[derive(Args)]
pub(crate) struct ImportArgs {
    /// What weft log export wrote, compressed or not. All files are one transaction, in this order
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Also what is sealed under keys that the key database does not have: it stays closed
    #[arg(long)]
    without_keys: bool,
}

/// A line of an export. What else it says follows from its metadata.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(rename = "order")]
    _order: IgnoredAny,
    recorded_at: DateTime<Utc>,
    tenant_id: Option<String>,
    aggregate_type: String,
    aggregate_id: String,
    sequence: i64,
    event_type: String,
    event_version: String,
    partition_key: String,
    metadata: Box<RawValue>,
    payload: Box<RawValue>,
}

/// What a line's metadata says about its stream, where it does.
#[derive(Deserialize)]
struct Named<'m> {
    #[serde(borrow)]
    tenant_id: Option<Cow<'m, str>>,
    #[serde(borrow)]
    partition_key: Option<Cow<'m, str>>,
}

/// Events that are ready to be written.
struct Ready {
    chunk: Chunk,
    /// The keys that they are sealed under, each with the first place and event that needs it.
    keys: BTreeMap<String, (u64, String)>,
}

/// What a file held.
struct Held {
    lines: u64,
    /// Of the file as it is stored, that is compressed.
    sha256: String,
}

/// `all` is the configuration of all logs, `config` as the log sees it that is imported into.
pub(crate) async fn run(args: ImportArgs, config: &Config, all: Config) -> Result<(), Failure> {
    let mut bytes = 0;
    for path in &args.files {
        let file = path.metadata().map_err(|error| unreadable(path, &error))?;
        bytes += file.len();
    }
    let log = pool(config).await?;
    database::reach("keys.url", config.keys.url.expose()).await?;
    let keys = KeyStore::new(&config.keys).map_err(Failure::new)?;
    let files = Arc::new(args.files);
    let failed = |error: ImportError| told(&files, error);
    let mut import = Import::begin(&log, Clock::system().now()).await.map_err(failed)?;
    let (ready, mut chunks) = mpsc::channel(AHEAD);
    let read = Arc::new(AtomicU64::new(0));
    let mut reader = Reader {
        schemas: Schemas::load()?,
        chunker: import.chunker(config.log.max_event_bytes),
        keys: BTreeMap::new(),
        names: all.by_log().into_iter().map(|log| log.log.name).collect(),
        share: config.kafka.share.index,
        all,
        files: Arc::clone(&files),
        read: Arc::clone(&read),
        ready,
    };
    let reading = tokio::task::spawn_blocking(move || reader.read_all());
    let mut progress = Progress::new("imported", 0);
    let mut closed = BTreeMap::new();
    while let Some(Ready { chunk, keys: needed }) = chunks.recv().await {
        let missing = keys
            .missing(needed.keys().cloned().collect())
            .await
            .map_err(Failure::new)?;
        for name in missing {
            let (place, event) = &needed[&name];
            if !args.without_keys {
                return Err(refused(
                    &files,
                    *place,
                    &format!(
                        "{event}: is sealed under {name}, which the key database does not have: bring the keys first \
                         (docs/operations/import.md), or say --without-keys to leave closed what is sealed under missing ones"
                    ),
                ));
            }
            closed.entry(name).or_insert_with(|| event.clone());
        }
        import.add(chunk).await.map_err(failed)?;
        let done = import.imported();
        let done = done.events + done.present;
        progress.of((done as f64 * bytes as f64 / read.load(Ordering::Relaxed).max(1) as f64) as i64);
        progress.at(done);
    }
    let held = reading.await.map_err(Failure::new)??;
    let imported = import.commit().await.map_err(failed)?;
    for (path, held) in files.iter().zip(held) {
        eprintln!("{}: {} events, sha256 {}", path.display(), held.lines, held.sha256);
    }
    if let Some((name, event)) = closed.first_key_value() {
        eprintln!(
            "weft: {} keys are missing, such as {name} of {event}: what is sealed under them stays closed until they are \
             brought to the key database",
            closed.len()
        );
    }
    let present = imported.present;
    if imported.events == 0 {
        outln!("nothing was imported: the log has all {present} events already");
    } else {
        outln!(
            "imported {} events, {} new streams; {present} events were there already. What comes next: \
             docs/operations/import.md",
            imported.events,
            imported.streams
        );
    }
    Ok(())
}

fn told(files: &[PathBuf], error: ImportError) -> Failure {
    match error {
        ImportError::Database(_) => Failure::new(error),
        ImportError::Refused { line, event, what } => refused(files, line, &format!("{event}: {what}")),
    }
}

fn refused(files: &[PathBuf], place: u64, what: &str) -> Failure {
    let (file, line) = (place >> FILE_BIT, place & ((1 << FILE_BIT) - 1));
    let path = files[file as usize].display();
    Failure::with_code(format!("{path}:{line}: {what}; nothing was imported"), REFUSED)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{}: {error}; nothing was imported", path.display()))
}

/// Reads, checks and packs lines, on a thread of its own.
struct Reader {
    schemas: Schemas,
    chunker: Chunker,
    /// Of the chunk at hand.
    keys: BTreeMap<String, (u64, String)>,
    /// Of the logs, by share, and the share of this one.
    names: Vec<String>,
    share: usize,
    /// Knows which tenant is on which log.
    all: Config,
    files: Arc<Vec<PathBuf>>,
    /// Bytes of the files.
    read: Arc<AtomicU64>,
    ready: mpsc::Sender<Ready>,
}

impl Reader {
    fn read_all(&mut self) -> Result<Vec<Held>, Failure> {
        let files = Arc::clone(&self.files);
        let mut held = Vec::with_capacity(files.len());
        for (path, file) in files.iter().zip(0_u64..) {
            held.push(self.read_file(path, file << FILE_BIT)?);
        }
        if let Some(chunk) = self.chunker.rest() {
            self.send(chunk)?;
        }
        Ok(held)
    }

    fn read_file(&mut self, path: &Path, mut place: u64) -> Result<Held, Failure> {
        let failed = |error: &io::Error| unreadable(path, error);
        let file = File::open(path).map_err(|error| failed(&error))?;
        let mut file = BufReader::with_capacity(1 << 20, Hashed::new(file, Arc::clone(&self.read)));
        let compressed = file
            .fill_buf()
            .map_err(|error| failed(&error))?
            .starts_with(&ZSTD_MAGIC);
        let (mut lines, mut line) = (0, Vec::new());
        // What is left of the file when its lines end is nothing but has to be read for the digest.
        let mut rest = if compressed {
            let mut decoder = zstd::Decoder::with_buffer(file).map_err(|error| failed(&error))?;
            let mut text = BufReader::with_capacity(1 << 20, &mut decoder);
            while next_line(&mut text, &mut line).map_err(|error| failed(&error))? {
                (lines, place) = (lines + 1, place + 1);
                self.take(place, &line)?;
            }
            decoder.finish()
        } else {
            while next_line(&mut file, &mut line).map_err(|error| failed(&error))? {
                (lines, place) = (lines + 1, place + 1);
                self.take(place, &line)?;
            }
            file
        };
        io::copy(&mut rest, &mut io::sink()).map_err(|error| failed(&error))?;
        let sha256 = rest.into_inner().hash.finalize();
        let sha256 = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Held { lines, sha256 })
    }

    fn take(&mut self, place: u64, text: &[u8]) -> Result<(), Failure> {
        let wrong = |what: &str| refused(&self.files, place, what);
        if text.len() as u64 >= MAX_LINE_BYTES {
            return Err(wrong("is too long for an event"));
        }
        let line: Line =
            serde_json::from_slice(text).map_err(|error| wrong(&format!("is no line of weft log export: {error}")))?;
        let event = format!("{}/{}:{}", line.aggregate_type, line.aggregate_id, line.sequence);
        self.check(&line, place, &event)
            .map_err(|what| refused(&self.files, place, &format!("{event}: {what}")))?;
        let event = PastEvent {
            aggregate_type: line.aggregate_type,
            aggregate_id: line.aggregate_id,
            sequence: line.sequence,
            event_type: line.event_type,
            event_version: line.event_version,
            payload: line.payload.get().to_owned(),
            metadata: line.metadata.get().to_owned(),
            recorded_at: line.recorded_at,
        };
        let full = self
            .chunker
            .push(place, event)
            .map_err(|error| told(&self.files, error))?;
        if let Some(chunk) = full {
            self.send(chunk)?;
        }
        Ok(())
    }

    /// What does not need the log to be known; and the keys that the event needs.
    fn check(&mut self, line: &Line, place: u64, event: &str) -> Result<(), String> {
        let named: Named<'_> = serde_json::from_str(line.metadata.get())
            .map_err(|error| format!("its metadata is no map of texts: {error}"))?;
        if named.tenant_id.is_some() && named.tenant_id.as_deref() != line.tenant_id.as_deref() {
            return Err("names one tenant in its metadata and another beside".to_owned());
        }
        if named.partition_key.is_some_and(|key| key != line.partition_key) {
            return Err("names one partition key in its metadata and another beside".to_owned());
        }
        if let Some(tenant) = line.tenant_id.as_deref().and_then(|tenant| tenant.parse::<Uuid>().ok()) {
            let placed = self.all.log_of(tenant);
            if placed != self.share {
                let name = &self.names[placed];
                return Err(format!(
                    "its tenant {tenant} is placed on the log {name}: import it there (--log {name}), or place it by name \
                     (logs.<name>.tenants)"
                ));
            }
        }
        let payload: Value = serde_json::from_str(line.payload.get()).map_err(|error| error.to_string())?;
        self.schemas
            .check_value(&line.aggregate_type, &line.event_type, &line.event_version, &payload)?;
        sealed_under(&payload, &mut |key| {
            if !self.keys.contains_key(key) {
                self.keys.insert(key.to_owned(), (place, event.to_owned()));
            }
        });
        Ok(())
    }

    fn send(&mut self, chunk: Chunk) -> Result<(), Failure> {
        let keys = std::mem::take(&mut self.keys);
        let sent = self.ready.blocking_send(Ready { chunk, keys });
        // Nobody sees this: whoever waits no more has failed, and says why.
        sent.map_err(|_| Failure::new("the import has ended"))
    }
}

/// The next line, without its end; `false` behind the last one. A line that is too long is cut.
fn next_line(text: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = text.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(read > 0)
}

/// The names of the keys that the sealed values in `value` are sealed under.
fn sealed_under(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => match (fields.get("subject"), fields.get("key"), fields.get("ciphertext")) {
            (Some(Value::String(subject)), Some(Value::String(key)), Some(_)) => {
                found(subject);
                if key != SUBJECT_KEY {
                    found(key);
                }
            }
            _ => fields.values().for_each(|field| sealed_under(field, found)),
        },
        Value::Array(values) => values.iter().for_each(|value| sealed_under(value, found)),
        _ => {}
    }
}

/// Takes the digest of what passes.
struct Hashed {
    file: File,
    hash: Sha256,
    read: Arc<AtomicU64>,
}

impl Hashed {
    fn new(file: File, read: Arc<AtomicU64>) -> Self {
        Self {
            file,
            hash: Sha256::new(),
            read,
        }
    }
}

impl Read for Hashed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(bytes)?;
        self.hash.update(&bytes[..count]);
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
