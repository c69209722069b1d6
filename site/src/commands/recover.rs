//! `site recover`: whatever an interruption left is completed, and what follows from the log is made again if need be.

use std::path::Path;

use mintmark_console::{Align, Console, Exit, Table};
use mintmark_ledger::serial::serial_of;
use mintmark_protocol::restore::RestoreDeclaration;
use serde::Serialize;

use super::json;
use crate::failure::{Error, Result};
use crate::home::Home;
use crate::place::{Place, Session};
use crate::vault::key_set::Telling;
use crate::vault::reading::{Reading, verify};
use crate::vault::{Vault, completable, restore};

/// What `site recover` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Make the index again from the log, even if it seems to be in order
    #[arg(long)]
    rebuild: bool,
    /// Declare that this home was put back from an older copy, and ask headquarters for what is missing of the log
    #[arg(long, conflicts_with = "rebuild")]
    declare_restore: bool,
    /// With --declare-restore: the vault, as SITE/VAULT, or the lineage of its log, typed once more; for where there is no
    /// terminal
    #[arg(long, value_name = "VAULT", requires = "declare_restore")]
    confirm: Option<String>,
    /// Say what is open and whether the index is in order, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    index_rebuilt: Option<String>,
    torn_bytes: u64,
    completed: usize,
    unresolved: usize,
    log_size: u64,
}

/// What recovery would have to do.
#[derive(Serialize)]
struct Plan {
    schema: &'static str,
    dry_run: bool,
    /// Why the index would be made again; null if it would not.
    index_rebuilt: Option<&'static str>,
    torn_bytes: u64,
    completed: usize,
    unresolved: usize,
    log_size: u64,
    open: Vec<Open>,
}

/// A unit that is spent and has no certificate yet.
#[derive(Serialize)]
struct Open {
    sequence: u64,
    device_id: String,
    product: Option<String>,
    entitlement: Option<String>,
    slot: u64,
    serial: Option<String>,
}

/// Says what recovery would do. It takes no lock and needs no PIN.
fn rehearse(rebuild: bool, home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home, console)?;
    let (view, state) = (reading.view(), reading.state());
    verify(view, console)?;
    let asked = rebuild.then_some("it was asked for");
    let open = state.unsettled().map(|(sequence, open)| {
        let account = state.account(open.account);
        Open {
            sequence: sequence.number(),
            device_id: open.device_id.to_string(),
            product: account.map(|account| account.sku.to_string()),
            entitlement: account.map(|account| account.entitlement.to_string()),
            slot: open.slot,
            serial: serial_of(&open.tbs).map(hex::encode),
        }
    });
    let plan = Plan {
        schema: "mintmark/recover/1",
        dry_run: true,
        index_rebuilt: asked.or(view.index_complaint()?),
        torn_bytes: view.torn_bytes(),
        completed: 0,
        unresolved: state.unsettled().count(),
        log_size: state.size(),
        open: open.collect(),
    };
    if console.is_json() {
        return json(console, &plan);
    }
    console.line(match plan.index_rebuilt {
        Some(reason) => format!("the index would be made again from the log: {reason}"),
        None => "the index seems in order".to_owned(),
    });
    if plan.torn_bytes > 0 {
        let bytes = plan.torn_bytes;
        console.line(format!(
            "{bytes} bytes of a write that was interrupted would be cut off the log"
        ));
    }
    let (unresolved, log_size) = (plan.unresolved, plan.log_size);
    console.line(format!(
        "dry run: {unresolved} would be completed, {log_size} records in the log"
    ));
    if !plan.open.is_empty() {
        let texts = ["device", "product", "entitlement", "serial"].map(|name| (name, Align::Left));
        let numbers = ["record", "slot"].map(|name| (name, Align::Right));
        let mut table = Table::new(texts.into_iter().chain(numbers));
        for open in plan.open {
            table.row([
                open.device_id,
                open.product.unwrap_or_default(),
                open.entitlement.unwrap_or_default(),
                open.serial.unwrap_or_default(),
                open.sequence.to_string(),
                open.slot.to_string(),
            ]);
        }
        console.line("");
        console.table(&table);
    }
    console.note("nothing was changed");
    Ok(Exit::Done)
}

/// Recovers.
pub(crate) fn execute(arguments: &Arguments, place: &Place<'_>, console: &Console) -> Result<Exit> {
    if arguments.declare_restore {
        if place.is_service() {
            return Err(in_service(
                "a restore cannot be declared while the service is at work",
            ));
        }
        return declare(arguments, place.path(), console);
    }
    if arguments.dry_run {
        return rehearse(arguments.rebuild, place.path(), console);
    }
    let mut vault = if place.is_service() {
        if arguments.rebuild {
            let message = "the index cannot be made again while the service uses it";
            return Err(in_service(message));
        }
        // What it holds open is read again from the disk.
        verify(Reading::open(place.path(), console)?.view(), console)?;
        place.open(console)?
    } else {
        let home = place.home()?;
        Session::over(Vault::open_recovering(home, arguments.rebuild, console)?)
    };
    let (report, failed, open) = vault.with(recover)?;
    vault.close().map_err(|error| error.with_units_open(open))?;
    if console.is_json() {
        json(console, &report)?;
    } else {
        console.line(format!(
            "{} completed, {} unresolved, {} records in the log",
            report.completed, report.unresolved, report.log_size
        ));
    }
    match failed {
        Some(error) => Err(error.with_units_open(open)),
        None => Ok(Exit::Done),
    }
}

/// Completes what is open. Gives what it came to, why it is not everything, and how much is open still.
fn recover(vault: &mut Vault<'_>) -> Result<(Report, Option<Error>, usize)> {
    vault.begin()?;
    let completion = match vault.complete_unfinished() {
        Ok(completion) => completion,
        Err(error) => return Err(error.with_units_open(completable(vault.state()))),
    };
    let open = completable(vault.state());
    if completion.failed.is_none() {
        vault.tend_keys(Telling::Everything)?;
    }
    let report = Report {
        schema: "mintmark/recover/1",
        index_rebuilt: vault.opened().index_rebuilt.clone(),
        torn_bytes: vault.opened().torn_bytes,
        completed: completion.completed,
        unresolved: vault.state().unsettled().count(),
        log_size: vault.state().size(),
    };
    Ok((report, completion.failed, open))
}

fn in_service(message: &str) -> Error {
    Error::environment("SERVICE-RUNNING", message)
        .hint("nothing was changed: stop the service, run it again, and start the service")
}

/// A restore, as it was or would be declared.
#[derive(Serialize)]
struct Declaration {
    schema: &'static str,
    dry_run: bool,
    /// `declared`, or `already`.
    outcome: &'static str,
    site: String,
    vault: String,
    parent: String,
    lineage: String,
    log_size: u64,
    log_root: String,
    anchor: u64,
    anchored_log_size: u64,
    /// Accounts of which the token leased more than the log has spent.
    leases: Vec<LeaseRow>,
}

#[derive(Serialize)]
struct LeaseRow {
    account: u64,
    end_slot: u64,
}

/// Declares that the home was put back from an older copy.
fn declare(arguments: &Arguments, home: Option<&Path>, console: &Console) -> Result<Exit> {
    let home = Home::open(home)?;
    let confirm = |declaration: &RestoreDeclaration| {
        let parent = declaration.parent.to_string();
        let given = arguments.confirm.as_deref();
        if given == Some(parent.as_str()) {
            return Ok(());
        }
        let vault = declaration.vault.to_string();
        let what = format!(
            "end the history of {vault} that is missing here after {} records: nothing is issued before headquarters \
             answers, and what turns up of that history is evidence of a fork",
            declaration.size
        );
        Ok(console.confirm_identifier(&what, &vault, given)?)
    };
    let declared = restore::declare(&home, arguments.dry_run, confirm, console)?;
    let declaration = declared.declaration;
    let leases = declaration.leases.iter().map(|(account, end)| LeaseRow {
        account: account.number(),
        end_slot: *end,
    });
    let report = Declaration {
        schema: "mintmark/restore/1",
        dry_run: arguments.dry_run,
        outcome: if declared.already {
            "already"
        } else {
            "declared"
        },
        site: declaration.vault.site.to_string(),
        vault: declaration.vault.vault.to_string(),
        parent: declaration.parent.to_string(),
        lineage: declaration.lineage.to_string(),
        log_size: declaration.size,
        log_root: declaration.root.to_string(),
        anchor: declaration.anchor,
        anchored_log_size: declaration.anchored_size,
        leases: leases.collect(),
    };
    if console.is_json() {
        json(console, &report)?;
    } else {
        console.line(format!("vault                  {}", declaration.vault));
        console.line(format!("lineage before         {}", report.parent));
        console.line(format!("records there are      {}", report.log_size));
        console.line(format!(
            "records the token saw  {}",
            report.anchored_log_size
        ));
        console.line(format!("accounts in doubt      {}", report.leases.len()));
    }
    if arguments.dry_run {
        console.note("nothing was changed");
    } else {
        console.note(
            "run `site media export DIR`, carry it to headquarters, and import what comes back; nothing is issued until then",
        );
    }
    Ok(Exit::Done)
}
