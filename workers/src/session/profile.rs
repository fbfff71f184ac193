//! After a login: who is logged in, and which conversations there are.

use futures::StreamExt;
use weft_domain::account::{AccountCommand, UserInfo};
use weft_domain::conversation::{Conversation, ConversationCommand};
use weft_domain::{ConversationId, WecomConversationId};
use weft_log_writer::seal::account_subject;
use weft_wecom::gateway::{CallError, Profile};

use super::{ACTOR, After, Session};
use crate::error::WorkerError;

/// Conversations a page has, and pages that are read: an account with more shows the rest as messages come in.
const PAGE: u32 = 100;
const MAX_PAGES: usize = 20;
/// Conversations opened by one append.
const OPEN_TOGETHER: usize = 50;

/// As the domain has it; WeCom leaves unknown fields empty.
pub(crate) fn user_info(profile: Profile) -> UserInfo {
    let known = |text: String| Some(text).filter(|text| !text.is_empty());
    UserInfo {
        user_id: known(profile.user_id),
        name: known(profile.name),
        real_name: known(profile.real_name),
        corp_id: known(profile.corp_id),
        corp_short_name: known(profile.corp_short_name),
        corp_full_name: known(profile.corp_full_name),
        gender: profile.gender.parse().ok(),
        avatar: known(profile.avatar),
    }
}

impl Session<'_> {
    /// `None`: go on with the next step.
    pub(super) async fn fetch_profile(&mut self, guid: &str) -> Result<Option<After>, WorkerError> {
        let started = tokio::time::Instant::now();
        let profile = match self.ctx.gateway.get_profile(guid).await {
            Ok(profile) => profile,
            Err(error) => {
                self.data.profile_failures += 1;
                return Ok(Some(self.failed(&error)));
            }
        };
        let now = self.ctx.clock.now();
        // A login counts as a heartbeat.
        let took_ms = started.elapsed().as_millis() as u64;
        self.ctx
            .samples
            .add(self.account_id, self.tenant_id, now, true, took_ms);
        self.data.profile_failures = 0;
        let user_info = self
            .ctx
            .executor
            .sealer()
            .seal(&account_subject(self.account_id), &user_info(profile))
            .await?;
        if self
            .execute(AccountCommand::RecordProfile { user_info, now })
            .await?
            .is_some()
        {
            self.data.profile_failures += 1;
        }
        Ok(None)
    }

    /// Makes the account's conversations known, page by page.
    pub(super) async fn open_conversations(&mut self, guid: &str) -> Result<Option<After>, WorkerError> {
        let attempt = self.account.login.as_ref().map(|login| login.attempt);
        let mut begin = "0".to_owned();
        for _ in 0..MAX_PAGES {
            let page = match self.ctx.gateway.get_session_list(guid, &begin, PAGE).await {
                Ok(page) => page,
                Err(
                    error @ (CallError::NotConnected { .. } | CallError::Unknown { .. } | CallError::Throttled { .. }),
                ) if self.job.failures < 5 => {
                    return Ok(Some(self.failed(&error)));
                }
                // Conversations also become known when something comes in.
                Err(error) => {
                    tracing::info!(account.id = %self.account_id, %error, "conversations were not listed");
                    break;
                }
            };
            let known: Vec<WecomConversationId> =
                page.conversation_ids.iter().filter_map(|id| id.parse().ok()).collect();
            self.open(known).await?;
            if page.next_seq == begin || page.next_seq.is_empty() || page.conversation_ids.is_empty() {
                break;
            }
            begin = page.next_seq;
        }
        self.data.listed = attempt;
        self.failed_not();
        Ok(None)
    }

    async fn open(&self, conversations: Vec<WecomConversationId>) -> Result<(), WorkerError> {
        let now = self.ctx.clock.now();
        let options = self.ctx.options(ACTOR, self.tenant_id, &self.cause());
        let commands: Vec<(String, ConversationCommand)> = conversations
            .into_iter()
            .map(|conversation_id| {
                let id = ConversationId::of(self.account_id, &conversation_id).to_string();
                let command = ConversationCommand::Open {
                    account_id: self.account_id,
                    tenant_id: self.tenant_id,
                    conversation_id,
                    now,
                };
                (id, command)
            })
            .collect();
        let chunks: Vec<Vec<_>> = commands.chunks(OPEN_TOGETHER).map(<[_]>::to_vec).collect();
        let opened: Vec<_> = futures::stream::iter(chunks)
            .map(|chunk| self.ctx.executor.execute_all::<Conversation>(chunk, &options))
            .buffer_unordered(2)
            .collect()
            .await;
        for result in opened {
            result.map_err(|error| WorkerError::Log(error.to_string()))?;
        }
        Ok(())
    }
}
