//! `weft log export`: the events themselves, as they are stored.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use weft_domain::LogOrder;
use weft_log_reader::{Tail, newest};

use super::line::{self, Filter};
use super::place::{Place, shown};
use super::progress::Progress;
use super::{Failure, PAGE};
use crate::output;

/// Level of compression: a third of the size at a few hundred MB/s.
const ZSTD_LEVEL: i32 = 3;
/// Events read between two places that an interrupted export can go on from.
const SETTLE_EVERY: u64 = 20_000;

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// The first event: start, a log order, or the time since when it was recorded
    #[arg(long, default_value = "start")]
    from: Place,
    /// The last event: a log order, or the time before which it was recorded; the newest event by default
    #[arg(long)]
    to: Option<Place>,
    #[command(flatten)]
    filter: Filter,
    /// File to write, compressed where its name ends in .zst; it appears under this name only when it is complete.
    /// Interrupted, the same call goes on with it. Standard output by default
    #[arg(short, long)]
    output: Option<PathBuf>,
}

impl ExportArgs {
    /// Why it could not be written to where it goes.
    fn failed(&self, error: &io::Error) -> Failure {
        match &self.output {
            None => output::failed(error),
            Some(path) => Failure::new(format!("{}: {error}", path.display())),
        }
    }
}

/// What was written.
struct Exported {
    events: u64,
    /// Of the file as it is written, that is compressed.
    sha256: String,
}

pub(crate) async fn run(args: ExportArgs, pool: &PgPool) -> Result<(), Failure> {
    let exported = match &args.output {
        None => {
            let out = Output::new(Hashed::new(io::stdout()), false).map_err(Failure::new)?;
            export(&args, pool, out, None).await?
        }
        // It would be replaced by a file, be it a pipe or /dev/stdout.
        Some(path) if path.exists() && !path.is_file() => {
            return Err(Failure::new(format!(
                "{} is no file: name one that may be written, or redirect standard output",
                path.display()
            )));
        }
        Some(path) => {
            let log_id: uuid::Uuid = sqlx::query_scalar("select log_id from log_identity")
                .fetch_one(pool)
                .await
                .map_err(Failure::new)?;
            let call = format!("{log_id} {:?} {:?} {:?}", args.from, args.to, args.filter);
            let mut part = Part::new(path, call);
            let file = part.open().map_err(|error| part.failure(&error))?;
            let compressed = path.extension().is_some_and(|end| end == "zst");
            let out = Output::new(file, compressed).map_err(Failure::new)?;
            let exported = export(&args, pool, out, Some(&mut part)).await?;
            part.finish().map_err(|error| part.failure(&error))?;
            exported
        }
    };
    eprintln!("{} events, sha256 {}", exported.events, exported.sha256);
    Ok(())
}

/// Writes what `args` name to `out`, which is flushed, but not synced, at the end; from where `part` was left, if it was.
async fn export(
    args: &ExportArgs,
    pool: &PgPool,
    mut out: Output<impl Write>,
    mut part: Option<&mut Part>,
) -> Result<Exported, Failure> {
    let from = args.from.order(pool).await?;
    let to = match args.to {
        Some(to) => to.order(pool).await?,
        None => None,
    };
    let is_behind = match (args.from, args.to) {
        (Place::Time(from), Some(Place::Time(to))) => from >= to,
        _ => from.zip(to).is_some_and(|(from, to)| from > to),
    };
    if is_behind {
        return Err(Failure::new("--from is behind --to: nothing lies between them"));
    }
    let newest = newest(pool).await.map_err(Failure::new)?;
    let begin = from.map_or_else(LogOrder::default, |from| LogOrder {
        position: from.position - 1,
        ..from
    });
    let (mut after, mut until) = (begin, to.map_or(newest, |to| to.min(newest)));
    let (mut read, mut events, mut settled) = (0, 0, 0);
    if let Some(mark) = part.as_ref().and_then(|part| part.mark.as_ref()) {
        (after, until) = (mark.after()?, mark.until()?);
        (read, events, settled) = (mark.read, mark.events, mark.read);
        eprintln!("going on after {} events, at {}, to {}", events, mark.after, mark.until);
    }
    let mut tail = Tail::new(pool.clone(), after).until(until);
    let mut progress = Progress::new("read", until.position - begin.position.max(0));
    loop {
        let page = tail.next_raw_page(PAGE).await.map_err(Failure::new)?;
        let Some(last) = page.last() else { break };
        for event in &page {
            let in_time = !matches!(args.from, Place::Time(from) if event.recorded_at < from)
                && !matches!(args.to, Some(Place::Time(to)) if event.recorded_at >= to);
            if in_time && args.filter.takes(event) {
                writeln!(out, "{}", line::json(event)?).map_err(|error| args.failed(&error))?;
                events += 1;
            }
        }
        read += page.len() as u64;
        progress.at(read);
        if let Some(part) = &mut part
            && read - settled >= SETTLE_EVERY
        {
            settled = read;
            out = out.settle().map_err(Failure::new)?;
            let mark = Mark {
                call: part.call.clone(),
                after: shown(last.order),
                until: shown(until),
                read,
                events,
                bytes: out.bytes(),
            };
            part.settle(mark).map_err(|error| part.failure(&error))?;
        }
    }
    let sha256 = out.finish().map_err(|error| args.failed(&error))?;
    Ok(Exported { events, sha256 })
}

/// A place that an interrupted export goes on from: what comes before it is in the file, and synced.
#[derive(Serialize, Deserialize)]
struct Mark {
    /// The log and the arguments: another call begins anew.
    call: String,
    after: String,
    until: String,
    /// Of the log, and written.
    read: u64,
    events: u64,
    /// Of the file.
    bytes: u64,
}

impl Mark {
    fn after(&self) -> Result<LogOrder, Failure> {
        order(&self.after)
    }

    fn until(&self) -> Result<LogOrder, Failure> {
        order(&self.until)
    }
}

/// Reads what `shown` wrote.
fn order(text: &str) -> Result<LogOrder, Failure> {
    let read = || {
        let (epoch, order) = text.split_once('/')?;
        LogOrder::parse(epoch.parse().ok()?, order).ok()
    };
    read().ok_or_else(|| {
        Failure::new(format!(
            "{text} in the .part.at file is no place in the log: delete that file"
        ))
    })
}

/// `<file>.part`, which gets its name when it is complete, and beside it `<file>.part.at`, from where it is gone on with.
struct Part {
    path: PathBuf,
    unfinished: PathBuf,
    marked: PathBuf,
    call: String,
    mark: Option<Mark>,
    /// Another handle of the file that is written.
    file: Option<File>,
}

impl Part {
    fn new(path: &Path, call: String) -> Self {
        let named = |end: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        Self {
            path: path.to_owned(),
            unfinished: named(".part"),
            marked: named(".part.at"),
            call,
            mark: None,
            file: None,
        }
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::new(format!("{}: {error}", self.path.display()))
    }

    /// The file behind what an interrupted call of the same kind had settled, or an empty one.
    fn open(&mut self) -> io::Result<Hashed<File>> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.unfinished)?;
        // Until the process ends: two that wrote it at once would mix their lines.
        let inode = file.metadata()?.ino();
        let locked = match file.try_lock() {
            // Else it has just got its name from the other one.
            Ok(()) => fs::metadata(&self.unfinished).is_ok_and(|named| named.ino() == inode),
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        if !locked {
            return Err(io::Error::other("another export writes it: wait until that has ended"));
        }
        let mark = fs::read(&self.marked).ok();
        let mark = mark.and_then(|mark| serde_json::from_slice::<Mark>(&mark).ok());
        let length = file.metadata()?.len();
        self.mark = mark.filter(|mark| mark.call == self.call && mark.bytes <= length);
        let begun = self.mark.as_ref().map_or(0, |mark| mark.bytes);
        file.set_len(begun)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 1 << 16];
        loop {
            let count = file.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            hash.update(&chunk[..count]);
        }
        file.seek(io::SeekFrom::End(0))?;
        self.file = Some(file.try_clone()?);
        Ok(Hashed {
            out: file,
            hash,
            bytes: begun,
        })
    }

    /// What was written so far is gone on with after a crash, also of the machine.
    fn settle(&mut self, mark: Mark) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.sync_data()?;
        }
        let mut new = self.marked.clone().into_os_string();
        new.push(".new");
        fs::write(&new, serde_json::to_vec(&mark)?)?;
        File::open(&new)?.sync_data()?;
        fs::rename(&new, &self.marked)
    }

    /// Durable before it has its name.
    fn finish(&self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.sync_all()?;
        }
        fs::rename(&self.unfinished, &self.path)?;
        match fs::remove_file(&self.marked) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// What is written, compressed or not.
enum Output<W: Write> {
    Plain(BufWriter<Hashed<W>>),
    Compressed(zstd::Encoder<'static, BufWriter<Hashed<W>>>),
}

impl<W: Write> Output<W> {
    fn new(out: Hashed<W>, compressed: bool) -> io::Result<Self> {
        let out = BufWriter::with_capacity(1 << 20, out);
        if compressed {
            Self::compressed(out)
        } else {
            Ok(Self::Plain(out))
        }
    }

    fn compressed(out: BufWriter<Hashed<W>>) -> io::Result<Self> {
        let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL)?;
        // So that a file that was cut or changed is found out by whoever decompresses it.
        encoder.include_checksum(true)?;
        Ok(Self::Compressed(encoder))
    }

    /// Flushes what was written, as a whole frame where it is compressed: a file may have several.
    fn settle(self) -> io::Result<Self> {
        match self {
            Self::Plain(mut out) => {
                out.flush()?;
                Ok(Self::Plain(out))
            }
            Self::Compressed(encoder) => {
                let mut out = encoder.finish()?;
                out.flush()?;
                Self::compressed(out)
            }
        }
    }

    /// Bytes that were written, without what is not flushed.
    fn bytes(&self) -> u64 {
        match self {
            Self::Plain(out) => out.get_ref().bytes,
            Self::Compressed(encoder) => encoder.get_ref().get_ref().bytes,
        }
    }

    /// Flushes, and answers the digest of all that was written.
    fn finish(self) -> io::Result<String> {
        let buffered = match self {
            Self::Plain(out) => out,
            Self::Compressed(encoder) => encoder.finish()?,
        };
        let mut hashed = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        hashed.out.flush()?;
        Ok(hashed
            .hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Compressed(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Compressed(out) => out.flush(),
        }
    }
}

/// Takes the digest of what passes.
struct Hashed<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashed<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            hash: Sha256::new(),
            bytes: 0,
        }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
