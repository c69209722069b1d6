//! Acknowledgements: made for every vault whose newest bundle has not had one, when the next stick is written.

use mintmark_console::{Console, Failure};
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::encryption::random;
use mintmark_protocol::envelope::Kind;

use crate::clock::now_unix;
use crate::home::Home;
use crate::keyring::{self, DISPATCH, Keyring};
use crate::outbox::{self, Content};
use crate::registry::{self, Registry, bundles, vaults};
use crate::{failure, trust};

/// Opens the newest manifest's epoch for each vault that has not seen what came before it, and seals an acknowledgement
/// for each vault that one is owed to.
pub(crate) fn seal_owed(
    home: &Home,
    registry: &mut Registry,
    console: &Console,
) -> Result<(), Failure> {
    open_epochs(home, registry, console)?;
    let mut owed = Vec::new();
    for vault in vaults::serving(&registry.sql)? {
        if let Some(bundle) = bundles::unacknowledged(&registry.sql, &vault.name)? {
            owed.push((vault, bundle));
        }
    }
    if owed.is_empty() {
        return Ok(());
    }
    let manifest = trust::in_force(home)?;
    let signer = Keyring::new(&home.config, console)?.signer(DISPATCH)?;
    let record = home.record();
    let epoch = manifest.content().dispatch_epoch;
    for (vault, bundle) in owed {
        // The export says that it is left out.
        if outbox::contested(&registry.sql, &vault.name, epoch)?.is_some() {
            continue;
        }
        let acknowledgement = Acknowledgement {
            salt: random().map_err(failure::protocol)?,
            vault: vault.name.clone(),
            hq_time: now_unix(),
            lineage: bundle.lineage,
            bundle_sequence: bundle.sequence,
            bundle_fingerprint: bundle.fingerprint,
            log_size: bundle.log_size,
            log_root: bundle.log_root,
            findings: bundles::finding_count(&registry.sql, &vault.name)?,
        };
        let bytes = acknowledgement
            .seal(
                manifest.content(),
                &vault.agreement_key,
                &keyring::sign(&*signer),
            )
            .map_err(failure::protocol)?;
        let content = Content {
            kind: Kind::Acknowledgement,
            id: acknowledgement.object_id(),
            version: 1,
            bytes,
            certificates: Vec::new(),
        };
        let transaction = registry.transaction()?;
        outbox::seal(
            &transaction,
            &record,
            &manifest,
            &*signer,
            &vault.name,
            content,
        )?;
        bundles::acknowledge(&transaction, &vault.name, &bundle)?;
        registry::commit_kept(transaction, &record)?;
    }
    Ok(())
}

fn open_epochs(home: &Home, registry: &mut Registry, console: &Console) -> Result<(), Failure> {
    let Some(newest) = trust::newest(home)? else {
        return Ok(());
    };
    let mut waiting = Vec::new();
    for vault in vaults::serving(&registry.sql)? {
        if outbox::waits_for_epoch(&registry.sql, &home.record(), newest.content(), &vault.name)? {
            waiting.push(vault.name);
        }
    }
    if waiting.is_empty() {
        return Ok(());
    }
    let manifest = trust::in_force(home)?;
    let signer = Keyring::new(&home.config, console)?.signer(DISPATCH)?;
    let record = home.record();
    for vault in waiting {
        let transaction = registry.transaction()?;
        let count = outbox::open_epoch(&transaction, &record, &manifest, &*signer, &vault)?;
        registry::commit_kept(transaction, &record)?;
        console.note(format!(
            "{vault}: {count} messages that it was not seen to have go out again, in dispatch epoch {}",
            manifest.content().dispatch_epoch
        ));
    }
    Ok(())
}
