//! The ledger: every send received, on disk as JSON lines that are the control API's entries as they stand.
//!
//! In memory is only where each entry lies, so millions of them cost little. Written and survived like the journal (see
//! there); the file is locked, so that two simulators never share a folder.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One send. `seq` counts from 1 without gaps.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    pub(super) seq: u64,
    pub(super) guid: &'a str,
    pub(super) path: &'a str,
    pub(super) conversation_id: Value,
    pub(super) content: Value,
    pub(super) body: &'a Value,
    pub(super) received_at: String,
    pub(super) answer: &'a Value,
    pub(super) effective: bool,
}

#[derive(Deserialize)]
struct Known {
    guid: String,
    conversation_id: Value,
    effective: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: u64,
    length: u32,
    client: u32,
}

#[derive(Debug)]
pub(super) struct Ledger {
    file: Arc<File>,
    end: u64,
    slots: Vec<Slot>,
    numbers: HashMap<String, u32>,
    clients: Vec<ClientSends>,
}

/// What the ledger knows of one client.
#[derive(Debug, Default)]
struct ClientSends {
    /// Entries, effective or not.
    sends: u64,
    /// Conversations that took a message, numbered in order of their first one.
    conversations: HashMap<String, usize>,
}

/// Where some entries lie; read outside of any lock.
#[derive(Debug)]
pub(super) struct Page {
    file: Arc<File>,
    slots: Vec<Slot>,
}

impl Ledger {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another simulator uses this folder")
            }
            std::fs::TryLockError::Error(error) => error,
        })?;
        let mut ledger = Self {
            file: Arc::new(file),
            end: 0,
            slots: Vec::new(),
            numbers: HashMap::new(),
            clients: Vec::new(),
        };
        ledger.load()?;
        Ok(ledger)
    }

    fn load(&mut self) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        let mut reader = BufReader::with_capacity(1 << 20, &*file);
        reader.seek(SeekFrom::Start(0))?;
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.by_ref().read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                // Torn by a kill: it was never answered.
                return file.set_len(self.end);
            }
            let known: Known = serde_json::from_slice(&line)?;
            self.note(
                &known.guid,
                line.len(),
                known.effective.then(|| known.conversation_id.as_str()).flatten(),
            );
        }
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.slots.len() as u64 + 1
    }

    /// Entries of this client so far, effective or not.
    pub(super) fn sends_of(&self, guid: &str) -> u64 {
        self.client(guid).map_or(0, |client| client.sends)
    }

    pub(super) fn append(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        if let Err(error) = (&*self.file).write_all(&line) {
            // What was written of it must not stand in front of the next entry.
            self.file.set_len(self.end)?;
            return Err(error);
        }
        self.note(
            entry.guid,
            line.len(),
            entry.effective.then(|| entry.conversation_id.as_str()).flatten(),
        );
        Ok(())
    }

    fn note(&mut self, guid: &str, length: usize, conversation: Option<&str>) {
        let number = self.numbers.get(guid).copied().unwrap_or_else(|| {
            let number = self.clients.len() as u32;
            self.numbers.insert(guid.to_owned(), number);
            self.clients.push(ClientSends::default());
            number
        });
        let client = &mut self.clients[number as usize];
        client.sends += 1;
        if let Some(conversation) = conversation
            && !client.conversations.contains_key(conversation)
        {
            client
                .conversations
                .insert(conversation.to_owned(), client.conversations.len());
        }
        self.slots.push(Slot {
            offset: self.end,
            length: length as u32,
            client: number,
        });
        self.end += length as u64;
    }

    /// Entries after `after`, oldest first.
    pub(super) fn page(&self, guid: Option<&str>, after: u64, limit: usize) -> Page {
        let from = usize::try_from(after).unwrap_or(usize::MAX).min(self.slots.len());
        let rest = self.slots[from..].iter().copied();
        let slots = match guid {
            None => rest.take(limit).collect(),
            Some(guid) => match self.numbers.get(guid) {
                Some(number) => rest.filter(|slot| slot.client == *number).take(limit).collect(),
                None => Vec::new(),
            },
        };
        Page {
            file: Arc::clone(&self.file),
            slots,
        }
    }

    /// Conversations of this client from the `begin`th on, and where the next page begins.
    pub(super) fn conversations(&self, guid: &str, begin: usize, limit: usize) -> (Vec<&str>, usize) {
        let Some(client) = self.client(guid) else {
            return (Vec::new(), begin);
        };
        let end = begin.saturating_add(limit);
        let mut found: Vec<_> = client
            .conversations
            .iter()
            .filter(|(_, number)| (begin..end).contains(number))
            .collect();
        found.sort_unstable_by_key(|(_, number)| **number);
        let next = begin + found.len();
        (
            found
                .into_iter()
                .map(|(conversation, _)| conversation.as_str())
                .collect(),
            next,
        )
    }

    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.end = 0;
        self.slots = Vec::new();
        self.numbers.clear();
        self.clients.clear();
        Ok(())
    }

    fn client(&self, guid: &str) -> Option<&ClientSends> {
        self.clients.get(*self.numbers.get(guid)? as usize)
    }
}

impl Page {
    /// The entries as a JSON object: `{"entries": […]}`.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut out = b"{\"entries\":[".to_vec();
        for (index, slot) in self.slots.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let start = out.len();
            // Without the line's end.
            out.resize(start + slot.length as usize - 1, 0);
            self.file.read_exact_at(&mut out[start..], slot.offset)?;
        }
        out.extend_from_slice(b"]}");
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn append(ledger: &mut Ledger, guid: &str, conversation: &str, effective: bool) {
        let (body, answer) = (json!({ "guid": guid }), json!({ "error_code": 0 }));
        let entry = Entry {
            seq: ledger.next_seq(),
            guid,
            path: "/msg/send_text",
            conversation_id: json!(conversation),
            content: json!("你好"),
            body: &body,
            received_at: "2026-01-01T00:00:00.000Z".to_owned(),
            answer: &answer,
            effective,
        };
        ledger.append(&entry).unwrap();
    }

    fn seqs(page: &Page) -> Vec<u64> {
        let page: Value = serde_json::from_slice(&page.read().unwrap()).unwrap();
        page["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["seq"].as_u64().unwrap())
            .collect()
    }

    #[test]
    fn pages_go_on_after_a_sequence_and_may_name_a_client() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&folder.path().join("ledger.ndjson")).unwrap();
        for index in 0..10 {
            append(&mut ledger, if index % 2 == 0 { "a" } else { "b" }, "S:1", true);
        }
        assert_eq!(seqs(&ledger.page(None, 0, 4)), [1, 2, 3, 4]);
        assert_eq!(seqs(&ledger.page(None, 4, 100)), [5, 6, 7, 8, 9, 10]);
        assert_eq!(seqs(&ledger.page(Some("b"), 2, 2)), [4, 6]);
        assert_eq!(seqs(&ledger.page(Some("c"), 0, 10)), Vec::<u64>::new());
        assert_eq!(seqs(&ledger.page(None, u64::MAX, 10)), Vec::<u64>::new());
    }

    #[test]
    fn a_reopened_ledger_goes_on_where_it_ended_and_cuts_a_torn_line_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.ndjson");
        let mut ledger = Ledger::open(&path).unwrap();
        append(&mut ledger, "a", "S:1", true);
        append(&mut ledger, "a", "S:2", false);
        (&*ledger.file).write_all(br#"{"seq":3,"guid":"#).unwrap();
        drop(ledger);
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!((ledger.next_seq(), ledger.sends_of("a")), (3, 2));
        append(&mut ledger, "a", "R:3", true);
        assert_eq!(seqs(&ledger.page(None, 0, 10)), [1, 2, 3]);
        assert_eq!(ledger.conversations("a", 0, 10), (vec!["S:1", "R:3"], 2));
        assert_eq!(ledger.conversations("a", 1, 1), (vec!["R:3"], 2));
    }

    #[test]
    fn two_simulators_cannot_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.ndjson");
        let _first = Ledger::open(&path).unwrap();
        assert_eq!(Ledger::open(&path).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    }
}
