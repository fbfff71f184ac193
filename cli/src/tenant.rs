//! `weft tenant create|list`.

use std::sync::Arc;

use clap::{Args, Subcommand};
use comfy_table::Table;
use uuid::Uuid;
use weft_domain::tenant::{Tenant, TenantCommand, TenantError, TenantLimits};
use weft_domain::{ActorType, Metadata, TenantId};
use weft_log_writer::{CallOptions, ExecuteError, Logs};
use weft_platform::clock::Clock;
use weft_platform::config::{AuthSection, Config};
use weft_platform::telemetry::continue_traceparent;

use crate::{Failure, database};

#[derive(Args)]
pub(crate) struct TenantArgs {
    #[command(subcommand)]
    command: TenantCall,
}

#[derive(Subcommand)]
enum TenantCall {
    /// Creates a tenant and prints its id
    Create {
        /// Unique short code: 1–50 letters, digits, `-`, `_` and `.`
        #[arg(value_parser = code)]
        code: String,
        /// Name, 1–100 characters on one line
        #[arg(value_parser = name)]
        name: String,
        #[arg(long, default_value_t = TenantLimits::default().max_accounts)]
        max_accounts: u32,
        #[arg(long, default_value_t = TenantLimits::default().max_daily_messages)]
        max_daily_messages: u32,
        /// Its id, a UUIDv7 of now, where it was placed on a log by name before (logs.<name>.tenants)
        #[arg(long)]
        id: Option<Uuid>,
        /// The tenant's days are counted in it
        #[arg(long, default_value = "Asia/Shanghai")]
        time_zone: chrono_tz::Tz,
    },
    /// Lists all tenants
    List,
}

pub(crate) async fn run(args: TenantArgs, config: Config) -> Result<(), Failure> {
    let clock = Clock::system();
    for log in config.by_log() {
        database::reach("log.url", log.log.url.expose()).await?;
    }
    let logs = Logs::connect(Arc::new(config), clock.clone()).await;
    let logs = logs.map_err(Failure::new)?;
    match args.command {
        TenantCall::Create {
            code,
            name,
            max_accounts,
            max_daily_messages,
            id,
            time_zone,
        } => {
            let id = TenantId(id.unwrap_or_else(|| clock.new_id()));
            code_is_free(&logs, &code).await?;
            let limits = TenantLimits {
                max_accounts,
                max_daily_messages,
            };
            create(&logs, &clock, id, code, name, limits, time_zone.name()).await?;
            outln!("{id}");
        }
        TenantCall::List => list(&logs).await?,
    }
    Ok(())
}

/// That no tenant of any log has the code. Each log claims it for its own tenants; between logs this look is all there is.
async fn code_is_free(logs: &Logs, code: &str) -> Result<(), Failure> {
    for executor in logs.all() {
        let taken: bool = sqlx::query_scalar(
            "select exists (select from claims where kind = 'tenant_code' and scope = '' and value = $1)",
        )
        .bind(code)
        .fetch_one(executor.pool())
        .await
        .map_err(Failure::new)?;
        if taken {
            return Err(Failure::new(format!(
                "the code {code} is taken on the log {}",
                executor.name()
            )));
        }
    }
    Ok(())
}

fn code(text: &str) -> Result<String, String> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=50).contains(&text.len()) && text.chars().all(is_valid) {
        return Ok(text.to_owned());
    }
    Err("a code is 1 to 50 letters, digits, `-`, `_` and `.`".to_owned())
}

fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.chars().count() > 100 || text.chars().any(char::is_control) {
        return Err("a name has 1 to 100 characters, not only white space, and no control characters".to_owned());
    }
    Ok(text.to_owned())
}

async fn create(
    logs: &Logs,
    clock: &Clock,
    id: TenantId,
    tenant_code: String,
    tenant_name: String,
    limits: TenantLimits,
    time_zone: &str,
) -> Result<(), Failure> {
    let now = clock.now();
    let request_id = clock.new_id().to_string();
    let metadata = Metadata {
        tenant_id: id,
        actor: "cli".to_owned(),
        actor_type: ActorType::System,
        correlation_id: request_id.clone(),
        request_id,
        causation_id: None,
        traceparent: continue_traceparent(None),
        occurred_at: now,
    };
    let command = TenantCommand::Create {
        tenant_code,
        tenant_name,
        limits,
        time_zone: time_zone.to_owned(),
        now,
    };
    match logs
        .of(id)
        .execute::<Tenant>(&id.to_string(), command, &CallOptions::new(metadata))
        .await
    {
        Ok(_) => Ok(()),
        Err(ExecuteError::Domain(TenantError::AlreadyExists)) => Err(Failure::new("the tenant exists already")),
        Err(ExecuteError::ClaimTaken(claim)) => Err(Failure::new(format!("the code {} is taken", claim.value))),
        Err(error) => Err(Failure::new(error)),
    }
}

async fn list(logs: &Logs) -> Result<(), Failure> {
    let mut table = Table::new();
    table.set_header([
        "id",
        "code",
        "name",
        "status",
        "accounts",
        "messages a day",
        "time zone",
        "log",
    ]);
    for executor in logs.all() {
        let ids = executor.tenants().await.map_err(Failure::new)?;
        let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
        let tenants = weft_log_reader::load_many::<Tenant>(executor.pool(), &ids).await;
        for (id, loaded) in ids.iter().zip(tenants.map_err(Failure::new)?) {
            let tenant = loaded.state;
            table.add_row([
                id.as_str(),
                &tenant.tenant_code,
                &tenant.tenant_name,
                tenant.status.map_or("", |status| status.as_str()),
                &tenant.limits.max_accounts.to_string(),
                &tenant.limits.max_daily_messages.to_string(),
                &tenant.time_zone,
                executor.name(),
            ]);
        }
    }
    outln!("{table}");
    Ok(())
}

/// The two tenants of the development tokens; nothing where they exist.
pub(crate) async fn ensure_development_tenants(logs: &Logs, clock: &Clock) -> Result<(), Failure> {
    let limits = TenantLimits {
        max_accounts: 1_000,
        max_daily_messages: 10_000_000,
    };
    let tenants: [(Uuid, &str, &str); 2] = [
        (AuthSection::DEV_TENANT_A, "dev-a", "开发租户甲"),
        (AuthSection::DEV_TENANT_B, "dev-b", "开发租户乙"),
    ];
    for (id, code, name) in tenants {
        let loaded = weft_log_reader::load::<Tenant>(logs.of(TenantId(id)).pool(), &id.to_string())
            .await
            .map_err(Failure::new)?;
        if loaded.state.status.is_none() {
            let (code, name) = (code.to_owned(), name.to_owned());
            // Another process may have been faster, which is as good.
            if let Err(failure) = create(logs, clock, TenantId(id), code, name, limits, "Asia/Shanghai").await {
                tracing::info!(%failure, "development tenant");
            }
        }
    }
    Ok(())
}
