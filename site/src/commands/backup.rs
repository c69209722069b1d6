//! `site backup`: the vault's home in one file, sealed to a recovery key on paper.

use std::sync::Arc;

use mintmark_backup::command::{BackupArguments, Plan};
use mintmark_console::{Console, Exit};
use mintmark_keys::Signer;
use mintmark_protocol::KeyFailure;
use p256::ecdsa::Signature;

use crate::failure::Result;
use crate::home::Home;
use crate::place::Place;
use crate::vault::keyring::{VAULT_SIGN, expect_same, open_store};
use crate::vault::reading::Reading;
use crate::vault::snapshot::Snapshot;

/// Seals the home as it is at one moment. Beside a service that is the moment at which it lends its vault, else one at which
/// nothing else has the home; what is sealed is read after that, so that work goes on meanwhile. A home that nobody serves is only looked at: a backup adds
/// nothing to the log, and can be made of a home that stopped.
pub(crate) fn execute(
    arguments: &BackupArguments,
    place: &Place<'_>,
    console: &Console,
) -> Result<Exit> {
    if let Some(verb) = &arguments.verb {
        return Ok(verb.run(console)?);
    }
    let plan = Plan::of(arguments)?;
    match place {
        Place::Service(service) => {
            let mut vault = place.open(console)?;
            let (snapshot, signer) = vault.with(|vault| {
                let signer = Arc::clone(vault.keyring()?.signer());
                Ok((vault.snapshot()?, signer))
            })?;
            vault.close()?;
            seal(
                &plan,
                arguments.dry_run,
                snapshot,
                &|| Ok(Arc::clone(&signer)),
                Some(&service.is_gone),
                console,
            )
        }
        Place::Home(_) => {
            let home = place.home()?;
            let keys = home.config().keys.clone();
            let snapshot = at_rest(home, console)?;
            let expected = snapshot.subject.signer;
            let signer = || {
                let signer = open_store(&keys, console)?.signer(VAULT_SIGN)?;
                expect_same(VAULT_SIGN, signer.public_key(), &expected)?;
                Ok(signer)
            };
            seal(&plan, arguments.dry_run, snapshot, &signer, None, console)
        }
    }
}

/// The home as it is while nobody else changes it. Its lock is free again then: sealing takes as long as the home is large, and
/// reads what never changes, or is open.
fn at_rest(home: Home, console: &Console) -> Result<Snapshot> {
    let _lock = home.lock()?;
    let reading = Reading::over(home, console)?;
    Snapshot::of_reading(&reading, console)
}

fn seal(
    plan: &Plan,
    dry_run: bool,
    Snapshot { subject, items }: Snapshot,
    signer: &dyn Fn() -> Result<Arc<dyn Signer>>,
    has_gone: Option<&dyn Fn() -> bool>,
    console: &Console,
) -> Result<Exit> {
    if dry_run {
        return Ok(plan.rehearse(&subject.home, &items, console)?);
    }
    let signer = signer()?;
    let sign = |message: &[u8]| -> std::result::Result<Signature, KeyFailure> {
        Ok(signer.sign(message)?)
    };
    Ok(plan.seal(subject, items, &sign, has_gone, console)?)
}
