//! A conversation's state and transitions.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::command::ConversationCommand as C;
use super::event::ConversationEvent as E;
use crate::aggregate::cqrs_aggregate;
use crate::{AccountId, ClaimChange, LogAggregate, Sealed, WecomConversationId};

/// How many of the newest received ids are remembered, to recognise a callback told twice.
const REMEMBERED_IDS: usize = 1_000;

/// Folded state of one conversation. `of` is `None` before the first event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    pub of: Option<(AccountId, WecomConversationId)>,
    pub name: Option<Sealed<String>>,
    pub is_pinned: bool,
    pub tags: Vec<String>,
    pub unread_count: u64,
    /// WeCom's ids of the newest received messages, oldest first.
    received: VecDeque<String>,
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConversationError {
    #[error("there is no such conversation")]
    NotFound,
}

impl Conversation {
    pub(crate) fn fold(&mut self, event: E) {
        match event {
            E::ConversationOpened {
                account_id,
                conversation_id,
                ..
            } => self.of = Some((account_id, conversation_id)),
            E::MessageReceived { wework_msg_id, .. } => {
                self.unread_count += 1;
                self.received.push_back(wework_msg_id);
                if self.received.len() > REMEMBERED_IDS {
                    self.received.pop_front();
                }
            }
            E::ConversationRenamed { name, .. } => self.name = Some(name),
            E::ConversationPinned { .. } => self.is_pinned = true,
            E::ConversationUnpinned { .. } => self.is_pinned = false,
            E::ConversationTagged { tags, .. } => self.tags = tags,
            E::ConversationMarkedRead { .. } => self.unread_count = 0,
        }
    }
}

cqrs_aggregate!(Conversation, "conversation", C, E, ConversationError);

impl LogAggregate for Conversation {
    fn decide(&self, command: C) -> Result<Vec<E>, ConversationError> {
        let known = || self.of.clone().ok_or(ConversationError::NotFound);
        Ok(match command {
            C::Open { .. } if self.of.is_some() => vec![],
            C::Open {
                account_id,
                tenant_id,
                conversation_id,
                now: at,
            } => {
                vec![E::ConversationOpened {
                    account_id,
                    tenant_id,
                    conversation_id,
                    at,
                }]
            }
            C::ReceiveMessage { wework_msg_id, .. } if self.received.contains(&wework_msg_id) => vec![],
            C::ReceiveMessage {
                account_id,
                tenant_id,
                conversation_id,
                wework_msg_id,
                sender,
                content,
                sent_at,
                now: at,
            } => {
                let mut events = Vec::with_capacity(2);
                if self.of.is_none() {
                    let conversation_id = conversation_id.clone();
                    events.push(E::ConversationOpened {
                        account_id,
                        tenant_id,
                        conversation_id,
                        at,
                    });
                }
                events.push(E::MessageReceived {
                    account_id,
                    conversation_id,
                    wework_msg_id,
                    sender,
                    content,
                    sent_at,
                    at,
                });
                events
            }
            C::Rename { name, now: at } => {
                let (account_id, conversation_id) = known()?;
                if self.name.as_ref() == Some(&name) {
                    vec![]
                } else {
                    vec![E::ConversationRenamed {
                        account_id,
                        conversation_id,
                        name,
                        at,
                    }]
                }
            }
            C::Pin { now: at } => {
                let (account_id, conversation_id) = known()?;
                if self.is_pinned {
                    vec![]
                } else {
                    vec![E::ConversationPinned {
                        account_id,
                        conversation_id,
                        at,
                    }]
                }
            }
            C::Unpin { now: at } => {
                let (account_id, conversation_id) = known()?;
                if self.is_pinned {
                    vec![E::ConversationUnpinned {
                        account_id,
                        conversation_id,
                        at,
                    }]
                } else {
                    vec![]
                }
            }
            C::Tag { mut tags, now: at } => {
                let (account_id, conversation_id) = known()?;
                tags.sort_unstable();
                tags.dedup();
                if tags == self.tags {
                    vec![]
                } else {
                    vec![E::ConversationTagged {
                        account_id,
                        conversation_id,
                        tags,
                        at,
                    }]
                }
            }
            C::MarkRead { now: at } => {
                let (account_id, conversation_id) = known()?;
                if self.unread_count == 0 {
                    vec![]
                } else {
                    vec![E::ConversationMarkedRead {
                        account_id,
                        conversation_id,
                        at,
                    }]
                }
            }
        })
    }

    fn partition_key(_: &str, first: &E) -> String {
        first.conversation().0.to_string()
    }

    fn claims(&self, _: &[E]) -> Vec<ClaimChange> {
        Vec::new()
    }
}
