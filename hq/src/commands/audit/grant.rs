//! `hq audit grant`: what headquarters holds, for an auditor's own eyes.

use std::path::{Path, PathBuf};

use clap::Args;
use mintmark_console::time::rfc3339;
use mintmark_console::{Confirmation, Console, Exit, Failure};
use mintmark_protocol::identifier::SiteId;
use mintmark_protocol::key::thumbprint;
use serde_json::json;

use crate::audit_grant::{self, Scope};
use crate::commands::{expect_absent, init, say};
use crate::home::Home;
use crate::report::period::Day;
use crate::{clock, failure};

/// So much of the auditor's key id is typed at a terminal.
const KEY_ID_CHARACTERS_TYPED: usize = 8;

/// Hand an auditor everything that headquarters holds of some vaults.
#[derive(Debug, Args)]
pub(in crate::commands) struct Grant {
    /// The auditor's public key (PEM, P-256), as `hq audit key` wrote it.
    #[arg(long, value_name = "PEM")]
    pub(in crate::commands) auditor: PathBuf,
    /// A site; more of them if given again, all if none is given.
    #[arg(long, value_name = "S")]
    site: Vec<SiteId>,
    /// The first day that the auditor is asked to look at, as 2027-01-31 (UTC). What was before is in the file all the same,
    /// as a log is replayed from its first record or not at all.
    #[arg(long, value_name = "DAY")]
    from: Option<Day>,
    /// The last day: the bundles of each vault from the first one on that begins after it are left out, and what was sent
    /// after it.
    #[arg(long, value_name = "DAY")]
    to: Option<Day>,
    /// The file to write.
    #[arg(long, value_name = "F")]
    output: PathBuf,
    #[command(flatten)]
    confirm: Confirmation,
    /// Say what would be granted, and write nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl Grant {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            return Err(failure::usage(
                "USAGE",
                format!("--from {from} is after --to {to}"),
                "both days belong to the period: the first must not be after the last",
            ));
        }
        let today = Day::of(clock::now_unix());
        for (option, day) in [("--from", self.from), ("--to", self.to)] {
            if let Some(day) = day.filter(|day| *day > today) {
                return Err(failure::usage(
                    "USAGE",
                    format!("{option} {day} is still to come: today is {today} (UTC)"),
                    "name a day that was, or leave the option out: everything up to now is granted then",
                ));
            }
        }
        let auditor = init::public_key(&self.auditor, "AUDITOR-KEY-INVALID")?;
        expect_absent(&self.output)?;
        // Nothing changes while it is read.
        let home = Home::change_hq(home)?;
        let scope = Scope {
            sites: self.site,
            from: self.from,
            to: self.to,
        };
        let planned = audit_grant::planned(&home, &scope)?;
        let vaults: Vec<_> = planned.iter().map(ToString::to_string).collect();
        let key = thumbprint(&auditor).to_string();
        if self.dry_run {
            let json = json!({
                "schema": "mintmark/audit-grant/1",
                "auditor_key_id": key,
                "vaults": vaults,
                "dry_run": true,
            });
            let line = format!(
                "would let the auditor with the key {key} read everything that {} reported; nothing was written",
                vaults.join(", ")
            );
            return say(console, &json, [line]);
        }
        let what = format!(
            "let the auditor with the key {key} read, for good, everything that {} reported",
            vaults.join(", ")
        );
        let begins: String = key.chars().take(KEY_ID_CHARACTERS_TYPED).collect();
        let given = self.confirm.identifier.as_deref();
        console.confirm_if_attended(&what, &begins, given)?;
        let granted = audit_grant::grant(&home, &scope, &auditor, &self.output, console)?;
        let vaults: Vec<_> = granted.vaults.iter().map(ToString::to_string).collect();
        let json = json!({
            "schema": "mintmark/audit-grant/1",
            "file": self.output.display().to_string(),
            "fingerprint": granted.fingerprint.to_string(),
            "made_at": rfc3339(granted.made_at),
            "auditor_key_id": thumbprint(&auditor).to_string(),
            "vaults": vaults,
            "bundles": granted.bundles,
            "parts": granted.parts,
            "from": scope.from.map(|day| day.to_string()),
            "to": scope.to.map(|day| day.to_string()),
        });
        say(
            console,
            &json,
            [
                format!("file         {}", self.output.display()),
                format!("fingerprint  {}", granted.fingerprint),
                format!("vaults       {}", vaults.join(", ")),
                format!("period       {}", scope.period()),
                format!("holds        {} bundles, in {} parts", granted.bundles, granted.parts),
                format!("auditor key  {}", thumbprint(&auditor)),
                "next: on the auditor's machine, hq audit verify FILE --fingerprint TRUST --keys URI --home DIR; the \
                 fingerprint of a trust manifest (`hq trust show`) is told over another channel"
                    .to_owned(),
            ],
        )
    }
}
