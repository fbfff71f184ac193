//! The instance behind an account: made, ended, and its session ended.
//!
//! `/client/create_client` is not idempotent: when Weft dies between its answer and `InstanceCreated`, or the answer is
//! lost, an instance is left that no account knows. It is neither adopted nor removed: a WeCom server may be shared, and
//! nothing proves a guid to be ours. It is idle, nobody can log in at it through Weft, and it is counted and named in
//! the log, for a person to remove.

use std::collections::HashSet;

use weft_domain::account::AccountCommand;
use weft_log_writer::seal::account_subject;
use weft_wecom::gateway::{CallError, CreateClient, RejectClass};

use super::{After, Session};
use crate::context::Context;
use crate::error::{Refusal, WorkerError};

impl Session<'_> {
    /// `None`: go on with the next step.
    pub(super) async fn create_instance(&mut self) -> Result<Option<After>, WorkerError> {
        let request = CreateClient {
            client_type: self.ctx.config.wecom.client_type.into(),
            ..CreateClient::default()
        };
        let now = self.ctx.clock.now();
        match self.ctx.gateway.create_client(&request).await {
            Ok(guid) => {
                let refused = self
                    .execute(AccountCommand::RecordInstance {
                        guid: guid.clone(),
                        now,
                    })
                    .await?;
                if let Some(Refusal::Claim(_)) = &refused {
                    // The server gave a guid out twice; another is asked for.
                    return Ok(Some(self.failed(&CallError::Unknown {
                        detail: format!("instance {guid} is taken"),
                    })));
                }
                if let Some(refusal) = refused {
                    tracing::warn!(account.id = %self.account_id, guid, %refusal, "a new instance is not needed any more");
                    self.discard(&guid).await;
                }
                Ok(None)
            }
            Err(error) => {
                let after = self.failed(&error);
                // `execute` takes success for progress; this one tells of a failure.
                let failures = self.job.failures;
                self.execute(AccountCommand::RecordInstanceFailure {
                    error_message: error.to_string(),
                    now,
                })
                .await?;
                self.job.failures = failures;
                Ok(Some(after))
            }
        }
    }

    /// Nobody will ever use it: ours for certain, its guid came just now.
    async fn discard(&self, guid: &str) {
        for end in [
            self.ctx.gateway.stop_client(guid).await,
            self.ctx.gateway.remove_client(guid).await,
        ] {
            if let Err(error) = end {
                tracing::warn!(guid, %error, "an instance that nobody needs is left");
            }
        }
    }

    /// Destroys the deleted account's personal key, then stops and removes its instance and writes that down. Whatever
    /// breaks off in between is done again: an instance that is not there any more counts as removed.
    pub(super) async fn remove_instance(&mut self, guid: Option<&str>) -> Result<Option<After>, WorkerError> {
        self.ctx
            .executor
            .keys()
            .destroy_subject(&account_subject(self.account_id))
            .await?;
        if let Some(guid) = guid {
            match self.ctx.gateway.stop_client(guid).await {
                // Refused: it is stopped, or gone.
                Ok(()) | Err(CallError::Rejected { .. }) => {}
                Err(error) => return Ok(Some(self.failed(&error))),
            }
            match self.ctx.gateway.remove_client(guid).await {
                Ok(())
                | Err(CallError::Rejected {
                    class: RejectClass::InstanceGone | RejectClass::InstanceExpired,
                    ..
                }) => {}
                Err(error) => {
                    tracing::warn!(account.id = %self.account_id, guid, %error, "a deleted account's instance is left; it is tried again");
                    return Ok(Some(self.failed(&error)));
                }
            }
            self.execute(AccountCommand::RecordInstanceRemoved {
                now: self.ctx.clock.now(),
            })
            .await?;
        }
        self.data.removed = true;
        Ok(None)
    }

    /// Ends the session at WeCom; the account is logged out already.
    pub(super) async fn log_out(&mut self, guid: &str) -> Result<Option<After>, WorkerError> {
        match self.ctx.gateway.logout(guid).await {
            // Refused, or not ready: nobody is logged in there.
            Ok(()) | Err(CallError::Rejected { .. } | CallError::NotReady) => {
                self.data.logged_out = self.account.login.as_ref().map(|login| login.attempt);
                self.failed_not();
                Ok(None)
            }
            Err(error) => Ok(Some(self.failed(&error))),
        }
    }

    /// The gateway says that the instance is no more: the next step makes another.
    pub(super) async fn forget_instance(&mut self, error: &CallError) -> Result<bool, WorkerError> {
        let gone = matches!(
            error,
            CallError::Rejected {
                class: RejectClass::InstanceGone,
                ..
            }
        );
        if gone {
            self.execute(AccountCommand::RecordInstanceRemoved {
                now: self.ctx.clock.now(),
            })
            .await?;
            self.data.guid = None;
        }
        Ok(gone)
    }
}

/// Names instances that no account of this log has. Some may be another log's or system's, so they are only told.
pub(crate) async fn report_unclaimed(ctx: &Context) -> Result<usize, WorkerError> {
    let Ok(guids) = ctx.gateway.all_clients().await else {
        return Ok(0);
    };
    let claimed: HashSet<String> =
        sqlx::query_scalar("select value from claims where kind = 'instance_guid' and value = any($1)")
            .bind(&guids)
            .fetch_all(&ctx.pool)
            .await?
            .into_iter()
            .collect();
    let unclaimed: Vec<&String> = guids.iter().filter(|guid| !claimed.contains(*guid)).collect();
    metrics::gauge!("weft_instances_unclaimed", "log" => ctx.config.log.name.clone()).set(unclaimed.len() as f64);
    if !unclaimed.is_empty() {
        let shown: Vec<_> = unclaimed.iter().take(20).collect();
        tracing::warn!(count = unclaimed.len(), guids = ?shown, log = ctx.config.log.name, "instances at the gateway that no account has");
    }
    Ok(unclaimed.len())
}
