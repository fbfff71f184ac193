//! `weft log export`: the events themselves, as they are stored.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use weft_domain::LogOrder;
use weft_log_reader::{Tail, newest};

use super::line::{self, Filter};
use super::place::Place;
use super::progress::Progress;
use super::{Failure, PAGE};

/// Level of compression: a third of the size at a few hundred MB/s.
const ZSTD_LEVEL: i32 = 3;

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
    /// Standard output by default
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// What was written.
struct Exported {
    events: u64,
    /// Of the file as it is written, that is compressed.
    sha256: String,
}

pub(crate) async fn run(args: ExportArgs, pool: &PgPool) -> Result<(), Failure> {
    let exported = match args.output.clone() {
        None => export(&args, pool, io::stdout()).await?,
        Some(path) => {
            let part = Part::create(&path)?;
            let exported = export(&args, pool, &part.file).await?;
            part.finish()?;
            exported
        }
    };
    eprintln!("{} events, sha256 {}", exported.events, exported.sha256);
    Ok(())
}

/// Writes what `args` name to `out`, which is flushed, but not synced, at the end.
async fn export(args: &ExportArgs, pool: &PgPool, out: impl Write) -> Result<Exported, Failure> {
    let from = args.from.order(pool).await?;
    let to = match args.to {
        Some(to) => to.order(pool).await?,
        None => None,
    };
    let newest = newest(pool).await.map_err(Failure::new)?;
    let after = from.map_or_else(LogOrder::default, |from| LogOrder {
        position: from.position - 1,
        ..from
    });
    let until = to.map_or(newest, |to| to.min(newest));
    let mut tail = Tail::new(pool.clone(), after).until(until);
    let mut progress = Progress::new("exported", until.position - after.position.max(0));
    let compressed = args
        .output
        .as_deref()
        .and_then(Path::extension)
        .is_some_and(|end| end == "zst");
    let mut out = Output::new(out, compressed).map_err(Failure::new)?;
    let (mut read, mut events) = (0, 0);
    loop {
        let page = tail.next_raw_page(PAGE).await.map_err(Failure::new)?;
        if page.is_empty() {
            break;
        }
        for event in &page {
            let in_time = !matches!(args.from, Place::Time(from) if event.recorded_at < from)
                && !matches!(args.to, Some(Place::Time(to)) if event.recorded_at >= to);
            if in_time && args.filter.takes(event) {
                writeln!(out, "{}", line::json(event)?).map_err(Failure::new)?;
                events += 1;
            }
        }
        read += page.len() as u64;
        progress.at(read);
    }
    let sha256 = out.finish().map_err(Failure::new)?;
    Ok(Exported { events, sha256 })
}

/// `<file>.part`, which gets its name when it is complete. One that a killed run left is written over.
struct Part {
    path: PathBuf,
    unfinished: PathBuf,
    file: File,
}

impl Part {
    fn create(path: &Path) -> Result<Self, Failure> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|error| Failure::new(format!("{}: {error}", part.display())))?;
        Ok(Self {
            path: path.to_owned(),
            unfinished: part,
            file,
        })
    }

    /// Durable before it has its name.
    fn finish(self) -> Result<(), Failure> {
        let named = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.unfinished, &self.path));
        named.map_err(|error| Failure::new(format!("{}: {error}", self.path.display())))
    }
}

/// What is written, compressed or not.
enum Output<W: Write> {
    Plain(BufWriter<Hashed<W>>),
    Compressed(zstd::Encoder<'static, BufWriter<Hashed<W>>>),
}

impl<W: Write> Output<W> {
    fn new(out: W, compressed: bool) -> io::Result<Self> {
        let out = BufWriter::with_capacity(
            1 << 20,
            Hashed {
                out,
                hash: Sha256::new(),
            },
        );
        if !compressed {
            return Ok(Self::Plain(out));
        }
        let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL)?;
        // So that a file that was cut or changed is found out by whoever decompresses it.
        encoder.include_checksum(true)?;
        Ok(Self::Compressed(encoder))
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
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
