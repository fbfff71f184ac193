//! `weft log archive`: a closed month leaves the table that is written to, and stands in a file beside.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use weft_log_reader::read_raw_range;
use weft_log_writer::archive::{Archive, Contents, Month, State};
use weft_platform::config::Config;

use super::progress::Progress;
use super::{Failure, PAGE, line, open};

/// A third of the size at a few hundred MB/s.
const ZSTD_LEVEL: i32 = 3;

#[derive(Args)]
pub(crate) struct ArchiveArgs {
    /// The month that the messages were born in, by their ids, in UTC: 2026-03
    #[arg(long)]
    month: String,
    /// The folder of the file messages-<month>-<log id>.ndjson.zst
    #[arg(short, long)]
    output: PathBuf,
}

pub(crate) async fn run(args: ArchiveArgs, config: &Config) -> Result<(), Failure> {
    let month = Month::parse(&args.month).ok_or_else(|| Failure::new("--month takes a month such as 2026-03"))?;
    if !args.output.is_dir() {
        return Err(Failure::new(format!(
            "--output {} is no folder: make it first",
            args.output.display()
        )));
    }
    let pool = open("log.admin_url", config.log.admin_url.expose()).await?;
    let archive = Archive::begin(pool.clone(), month).await.map_err(Failure::new)?;
    if archive.state().await.map_err(Failure::new)? == State::Archived {
        outln!("{} is archived already", archive.month.name);
        return Ok(());
    }
    archive.close().await.map_err(Failure::new)?;
    let log_id: uuid::Uuid = sqlx::query_scalar("select log_id from log_identity")
        .fetch_one(&pool)
        .await
        .map_err(Failure::new)?;
    let path = args
        .output
        .join(format!("messages-{}-{log_id}.ndjson.zst", archive.month.name));
    // Also where a run before has exported: its file may be gone by now.
    let contents = export(&pool, &archive.month, &path).await?;
    let name = path.canonicalize().map_err(Failure::new)?.display().to_string();
    archive.exported(&name, &contents).await.map_err(Failure::new)?;
    let mut progress = Progress::new("moved", contents.events);
    let mut moved = 0;
    loop {
        let some = archive.detach_some().await.map_err(Failure::new)?;
        if some == 0 {
            break;
        }
        moved += some;
        progress.at(moved);
    }
    // Read again where it stands now.
    let stands = read(&pool, &archive.month, |_| Ok(())).await?;
    let known = archive.contents().await.map_err(Failure::new)?;
    if stands != known {
        return Err(Failure::new(format!(
            "{} was exported as {known:?} and is {stands:?} in the log: it stays unarchived; keep {name}",
            archive.month.name
        )));
    }
    archive.finish().await.map_err(Failure::new)?;
    outln!(
        "{} is archived: {} events of {} messages, sha256 of the lines {}, {name}",
        archive.month.name,
        contents.events,
        contents.streams,
        contents.sha256
    );
    Ok(())
}

/// Writes the month to `path`, which has its name when it was read back and is synced; until then `<path>.part`.
async fn export(pool: &PgPool, month: &Month, path: &Path) -> Result<Contents, Failure> {
    let part = path.with_extension("zst.part");
    let failed = |error: io::Error| Failure::new(format!("{}: {error}", part.display()));
    let file = File::create(&part).map_err(failed)?;
    let mut out = zstd::Encoder::new(BufWriter::with_capacity(1 << 20, file), ZSTD_LEVEL).map_err(failed)?;
    out.include_checksum(true).map_err(failed)?;
    let contents = read(pool, month, |line| out.write_all(line).map_err(failed)).await?;
    let file = out.finish().map_err(failed)?.into_inner();
    let file = file.map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    let found = read_back(&part)?;
    if found != contents {
        return Err(Failure::new(format!(
            "{} holds {found:?}, but {contents:?} was written: nothing was moved",
            part.display()
        )));
    }
    fs::rename(&part, path).map_err(failed)?;
    Ok(contents)
}

/// Every event of the month, by stream and sequence, as a line with its end.
async fn read(
    pool: &PgPool,
    month: &Month,
    mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Contents, Failure> {
    let mut counted = Counted::default();
    let mut after = (month.first_id.clone(), -1);
    loop {
        let page = read_raw_range(pool, "message", (&after.0, after.1), &month.end_id, PAGE);
        let page = page.await.map_err(Failure::new)?;
        let Some(last) = page.last() else {
            return Ok(counted.contents());
        };
        after = (last.aggregate_id.clone(), last.sequence);
        for event in &page {
            let line = line::json(event)? + "\n";
            counted.add(&event.aggregate_id, line.as_bytes());
            each(line.as_bytes())?;
        }
    }
}

/// What a file holds, from its bytes alone.
fn read_back(path: &Path) -> Result<Contents, Failure> {
    #[derive(serde::Deserialize)]
    struct Line {
        aggregate_id: String,
    }
    let failed = |error: io::Error| Failure::new(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(failed)?;
    let mut lines = BufReader::new(zstd::Decoder::new(file).map_err(failed)?);
    let mut counted = Counted::default();
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).map_err(failed)? > 0 {
        let read: Line = serde_json::from_slice(&line).map_err(Failure::new)?;
        counted.add(&read.aggregate_id, &line);
        line.clear();
    }
    Ok(counted.contents())
}

/// Lines, stream by stream.
#[derive(Default)]
struct Counted {
    stream: String,
    streams: i64,
    events: i64,
    hash: Sha256,
}

impl Counted {
    fn add(&mut self, stream: &str, line: &[u8]) {
        if self.stream != stream {
            stream.clone_into(&mut self.stream);
            self.streams += 1;
        }
        self.events += 1;
        self.hash.update(line);
    }

    fn contents(self) -> Contents {
        Contents {
            streams: self.streams,
            events: self.events,
            sha256: self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}
