//! The clients on disk: an append-only file of JSON lines, the last line of a client holds.
//!
//! Each change is handed to the kernel (`write`) before it is answered, which is what surviving `kill -9` takes; only a
//! loss of power would need `fsync`, and this is a simulator. A last line without its end was never answered and is cut
//! off. On opening, and when the file has grown far beyond its clients, it is written anew beside and moved into place.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::client::Client;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<C> {
    Client(C),
    Removed(String),
}

#[derive(Debug)]
pub(super) struct ClientJournal {
    path: PathBuf,
    file: File,
    lines: usize,
    /// Rewritten when it holds more lines than this.
    rewrite_at: usize,
}

impl ClientJournal {
    /// Opens the journal and reads the clients out of it.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, BTreeMap<String, Client>)> {
        let mut clients = BTreeMap::new();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            match serde_json::from_slice(line)? {
                Line::<Client>::Client(client) => {
                    clients.insert(client.guid.clone(), client);
                }
                Line::Removed(guid) => {
                    clients.remove(&guid);
                }
            }
        }
        let file = rewrite(&path, &clients)?;
        let journal = Self {
            path,
            file,
            lines: clients.len(),
            rewrite_at: rewrite_at(clients.len()),
        };
        Ok((journal, clients))
    }

    pub(super) fn put(&mut self, client: &Client) -> io::Result<()> {
        self.append(&Line::Client(client))
    }

    pub(super) fn remove(&mut self, guid: &str) -> io::Result<()> {
        self.append(&Line::<&Client>::Removed(guid.to_owned()))
    }

    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file = rewrite(&self.path, &BTreeMap::new())?;
        (self.lines, self.rewrite_at) = (0, rewrite_at(0));
        Ok(())
    }

    /// Writes the file anew if it has grown too long; to be called after the change is in `clients`.
    pub(super) fn tidy(&mut self, clients: &BTreeMap<String, Client>) -> io::Result<()> {
        if self.lines > self.rewrite_at {
            self.file = rewrite(&self.path, clients)?;
            (self.lines, self.rewrite_at) = (clients.len(), rewrite_at(clients.len()));
        }
        Ok(())
    }

    fn append<C: Serialize>(&mut self, line: &Line<C>) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let end = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(&bytes) {
            // What was written of it must not stand in front of the next line.
            self.file.set_len(end)?;
            return Err(error);
        }
        self.lines += 1;
        Ok(())
    }
}

const fn rewrite_at(clients: usize) -> usize {
    20_000 + 4 * clients
}

fn rewrite(path: &Path, clients: &BTreeMap<String, Client>) -> io::Result<File> {
    let beside = path.with_extension("new");
    let mut out = BufWriter::new(File::create(&beside)?);
    for client in clients.values() {
        serde_json::to_writer(&mut out, &Line::Client(client))?;
        out.write_all(b"\n")?;
    }
    out.into_inner()?;
    fs::rename(&beside, path)?;
    OpenOptions::new().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(guid: &str, number: u64) -> Client {
        Client::new(guid.to_owned(), number, true)
    }

    #[test]
    fn the_last_line_of_a_client_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients.ndjson");
        let (mut journal, clients) = ClientJournal::open(path.clone()).unwrap();
        assert!(clients.is_empty());
        let mut changed = client("a", 1);
        journal.put(&changed).unwrap();
        journal.put(&client("b", 2)).unwrap();
        changed.restricted = true;
        journal.put(&changed).unwrap();
        journal.remove("b").unwrap();
        drop(journal);
        let (_, clients) = ClientJournal::open(path).unwrap();
        assert_eq!(clients.into_values().collect::<Vec<_>>(), [changed]);
    }

    #[test]
    fn a_torn_last_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients.ndjson");
        let (mut journal, _) = ClientJournal::open(path.clone()).unwrap();
        journal.put(&client("a", 1)).unwrap();
        journal.file.write_all(br#"{"client":{"guid":"b""#).unwrap();
        drop(journal);
        let (_, clients) = ClientJournal::open(path).unwrap();
        assert_eq!(clients.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_grown_journal_is_rewritten_to_one_line_a_client() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients.ndjson");
        let (mut journal, mut clients) = ClientJournal::open(path.clone()).unwrap();
        let only = client("a", 1);
        clients.insert("a".to_owned(), only.clone());
        for _ in 0..=rewrite_at(0) {
            journal.put(&only).unwrap();
            journal.tidy(&clients).unwrap();
        }
        assert_eq!(journal.lines, 1);
        journal.put(&only).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    }
}
