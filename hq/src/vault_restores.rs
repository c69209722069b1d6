//! Restores of vaults: a vault's home was put back from an older copy, and its token knows that more had been done. The
//! vault declares it; headquarters notes which slots may be spent twice, and sends back what it holds of the log.
//!
//! The log goes on in another lineage, after the last record that headquarters holds. What belonged to the lineage before
//! and turns up later is the history that was lost after all: evidence of a fork.

use std::collections::BTreeMap;

use mintmark_console::{Console, Exit, Failure};
use mintmark_ledger::entry::Restored;
use mintmark_ledger::serial::SerialCipher;
use mintmark_ledger::state::State;
use mintmark_protocol::encryption::random;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{Fingerprint, Lineage, VaultName};
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::restore::RestoreDeclaration;
use rusqlite::Connection;
use serde_json::json;

use crate::findings::{Finding, Severity};
use crate::forks::FORK;
use crate::home::Home;
use crate::import::kept::Leaves;
use crate::import::{let_in, records};
use crate::keyring::{self, DISPATCH, Keyring};
use crate::record::Record;
use crate::registry::accounts::{self, Granted};
use crate::registry::restores::{self, Restore};
use crate::registry::vaults::{self, Vault};
use crate::registry::{self, Registry, findings, replays};
use crate::serials::Serials;
use crate::{clock, failure, outbox, trust};

/// The finding of a restore: which slots and serials may be spent twice.
pub(crate) const RESTORE_DECLARED: &str = "RESTORE-DECLARED";
/// The finding of a log that goes on in another way than its vault declared.
const RESTORE_MISMATCH: &str = "RESTORE-MISMATCH";

/// Serials that one finding names; its ranges of slots are always complete.
const SERIALS_MAX: u64 = 200_000;
/// How much of the records one part of a tail holds, in bytes.
const PART_BYTES_MAX: usize = 4 << 20;
/// How many records one part of a tail holds.
const PART_RECORDS_MAX: usize = 1 << 15;

/// What became of a declaration.
pub(crate) enum Taken {
    /// It is noted; so many findings came of it.
    Imported(u64),
    /// It was noted before.
    Already,
    /// It is not believed, or of no use any more.
    Refused(Failure),
}

/// Whether a lineage is one that a vault's log has had, as far as HQ knows.
pub(crate) fn knows_lineage(
    sql: &Connection,
    name: &VaultName,
    lineage: &Lineage,
) -> Result<bool, Failure> {
    let vault = vaults::find(sql, name)?;
    let known = vault.is_some_and(|vault| [vault.lineage, vault.lineage_first].contains(lineage));
    Ok(known || restores::knows(sql, name, lineage)?)
}

/// Takes in a declaration that came as that of `name`.
pub(crate) fn take(
    home: &Home,
    registry: &mut Registry,
    ring: &Keyring<'_>,
    name: &VaultName,
    bytes: &[u8],
    dry_run: bool,
) -> Result<Taken, Failure> {
    clock::once(|| take_now(home, registry, ring, name, bytes, dry_run))
}

fn take_now(
    home: &Home,
    registry: &mut Registry,
    ring: &Keyring<'_>,
    name: &VaultName,
    bytes: &[u8],
    dry_run: bool,
) -> Result<Taken, Failure> {
    let record = home.record();
    let vault = match let_in(&registry.sql, name)? {
        Ok(vault) => vault,
        Err(refused) => return Ok(Taken::Refused(refused)),
    };
    let declared = match RestoreDeclaration::open(bytes, name, &vault.signing_key) {
        Ok(declared) => declared,
        Err(error) => return Ok(Taken::Refused(records::untrusted(error))),
    };
    let fingerprint = declared.fingerprint();
    let declaration = declared.content();
    let known = restores::of_vault(&registry.sql, name)?;
    if known.iter().any(|known| known.declaration == fingerprint) {
        return Ok(Taken::Already);
    }
    // It would be answered with what headquarters holds, and that may not be all that the vault gave it.
    if let Some(manifest) = trust::newest(home)?
        && let Some(contested) =
            outbox::contested(&registry.sql, name, manifest.content().dispatch_epoch)?
    {
        return Ok(Taken::Refused(contested));
    }
    if let Some(successor) = &vault.successor {
        return Ok(Taken::Refused(failure::refused(
            "VAULT-REPLACED",
            format!("{name} declares a restore, and {successor} took its place"),
            "let that vault work; this one gets nothing more",
        )));
    }
    if let Some(newest) = known.last()
        && declaration.declared_at < newest.declared_at
    {
        return Ok(Taken::Refused(failure::refused(
            "RESTORE-OVER",
            format!("{name} has declared another restore since"),
            "import the newest stick of that vault; this file can go",
        )));
    }
    let keep_evidence = || match dry_run {
        true => Ok(()),
        false => record.keep_evidence(name, &fingerprint, bytes),
    };
    let taken_lineage = declaration.lineage == vault.lineage
        || declaration.lineage == vault.lineage_first
        || restores::knows(&registry.sql, name, &declaration.lineage)?;
    let known_parent = declaration.parent == vault.lineage
        || declaration.parent == vault.lineage_first
        || restores::knows(&registry.sql, name, &declaration.parent)?;
    if taken_lineage || !known_parent {
        let text = format!(
            "{name} declares a restore of lineage {} into {}, and its log is of lineage {}",
            declaration.parent, declaration.lineage, vault.lineage
        );
        let evidence = json!({
            "declaration": fingerprint.to_string(),
            "expected": vault.lineage.to_string(),
            "found": declaration.parent.to_string(),
            "lineage": declaration.lineage.to_string(),
        });
        let accusation = Accusation {
            finding: "LINEAGE-UNKNOWN",
            code: "LINEAGE-UNKNOWN",
            evidence,
            text,
        };
        keep_evidence()?;
        return accusation.raise(registry, &vault);
    }
    let replay = replays::load(&registry.sql, name)?;
    let state = replay.state();
    let (held, held_root) = (state.size(), state.root());
    // Where the vault has no more than HQ, HQ knows whether it is the same; where it has more, the vault compares what HQ holds
    // with its own. What HQ knows even then is that a log which has come to one lineage was in none before that any more.
    let place = |lineage: Lineage| {
        let opened = known.iter().position(|known| known.lineage == lineage);
        opened.map_or(0, |at| at + 1)
    };
    let root = if declaration.size <= held {
        root_at(&registry.sql, &record, &vault, ring, declaration.size)?
    } else {
        let reached = state.lineage().map_or(0, place);
        (place(declaration.parent) >= reached).then_some(declaration.root)
    };
    if root != Some(declaration.root) {
        let text = format!(
            "{name} declares a restore of {} records with the root {}, and its log as headquarters holds it, {held} records, \
             did not begin so: its log has two histories",
            declaration.size, declaration.root
        );
        let evidence = json!({
            "declaration": fingerprint.to_string(),
            "log_size": declaration.size,
            "expected_root": root.map(|root| root.to_string()),
            "found_root": declaration.root.to_string(),
            "held_log_size": held,
            "held_log_root": held_root.to_string(),
        });
        let accusation = Accusation {
            finding: FORK,
            code: "RESTORE-FORK",
            evidence,
            text,
        };
        keep_evidence()?;
        return accusation.raise(registry, &vault);
    }
    let restore = Restore {
        number: 0,
        vault: name.clone(),
        declaration: fingerprint,
        parent: vault.lineage,
        lineage: declaration.lineage,
        size: declaration.size,
        held,
        held_root,
        leases: declaration.leases.clone(),
        declared_at: declaration.declared_at,
        imported_at: clock::now_unix(),
        tail: None,
    };
    let cipher = Serials::new(ring).of(&vault)?;
    if !dry_run {
        record.keep(&record.restore(name, &fingerprint), bytes)?;
    }
    let sql = registry.savepoint()?;
    restores::add(&sql, &restore)?;
    let granted = accounts::granted(&sql, name)?;
    let finding = in_doubt(&vault, &restore, state, &granted, &cipher);
    let new = findings::add(&sql, &finding, clock::now_unix())?;
    sql.commit().map_err(failure::sql)?;
    Ok(Taken::Imported(u64::from(new)))
}

/// What a declaration proves of its vault.
struct Accusation {
    /// Code of the finding.
    finding: &'static str,
    /// Code of the refusal.
    code: &'static str,
    evidence: serde_json::Value,
    text: String,
}

impl Accusation {
    /// Adds the finding, and refuses the declaration.
    fn raise(self, registry: &mut Registry, vault: &Vault) -> Result<Taken, Failure> {
        let finding = Finding {
            vault: vault.name.clone(),
            lineage: vault.lineage,
            log_sequence: None,
            code: self.finding.to_owned(),
            severity: Severity::Critical,
            serials: Vec::new(),
            evidence: self.evidence,
            text: self.text.clone(),
        };
        let sql = registry.savepoint()?;
        findings::add(&sql, &finding, clock::now_unix())?;
        sql.commit().map_err(failure::sql)?;
        Ok(Taken::Refused(
            Failure::new(Exit::Integrity, self.code, self.text).hint(
                "the declaration is kept as evidence, and nothing is sent back: stop production at this vault, tell your security \
                 officer, and let another vault take its place (`hq site succeed`)",
            ),
        ))
    }
}

/// Which slots may be spent twice: those below what the token had leased and not in the log as `state` has it.
fn in_doubt(
    vault: &Vault,
    restore: &Restore,
    state: &State,
    granted: &BTreeMap<AccountTag, Granted>,
    cipher: &SerialCipher,
) -> Finding {
    let mut serials = Vec::new();
    let mut accounts = Vec::new();
    let mut units: u64 = 0;
    for (tag, lease) in &restore.leases {
        let first = state.account(*tag).map_or(0, |account| account.next_slot);
        let account = granted.get(tag);
        // Nobody accepts a unit beyond what was granted.
        let end = account.map_or(0, |account| account.units).min(*lease);
        if first >= end {
            continue;
        }
        units = units.saturating_add(end - first);
        for slot in first..end {
            if serials.len() as u64 >= SERIALS_MAX {
                break;
            }
            serials.push(hex::encode(cipher.serial(*tag, slot, 0)));
        }
        accounts.push(json!({
            "account": tag.number(),
            "entitlement": account.map(|account| account.entitlement.as_str()),
            "product": account.map(|account| account.sku.as_str()),
            "first_slot": first,
            "end_slot": end,
        }));
    }
    let text = match units {
        0 => format!(
            "the home of {} was put back from an older copy; by what its token says, nothing was lost that could be spent \
             twice",
            vault.name
        ),
        units => format!(
            "the home of {} was put back from an older copy; {units} units may have been spent that are not in its log, and \
             are skipped",
            vault.name
        ),
    };
    Finding {
        vault: vault.name.clone(),
        lineage: restore.lineage,
        log_sequence: None,
        code: RESTORE_DECLARED.to_owned(),
        severity: Severity::Major,
        evidence: json!({
            "declaration": restore.declaration.to_string(),
            "parent": restore.parent.to_string(),
            "lineage": restore.lineage.to_string(),
            "log_size": restore.size,
            "held_log_size": restore.held,
            "units": units,
            "serials_left_out": units.saturating_sub(serials.len() as u64),
            "accounts": accounts,
        }),
        serials,
        text,
    }
}

/// A log goes on in another lineage, as its replay has it: `state` is that before the record. What the declaration could not
/// know is known now: where the vault had more than headquarters, those records came with this.
///
/// Gives what is wrong with it. Where headquarters was restored itself and has forgotten that it answered (`forgetful`), the
/// vault says what it held then.
pub(crate) fn settle(
    sql: &Connection,
    vault: &Vault,
    state: &State,
    (sequence, restored): (u64, &Restored),
    (cipher, forgetful): (&SerialCipher, bool),
) -> Result<Option<Finding>, Failure> {
    // That it follows the lineage before, the replay has judged.
    let words = |held, leases: &[(AccountTag, u64)]| {
        let leases: Vec<_> = leases
            .iter()
            .map(|(tag, end)| format!("{tag}: {end}"))
            .collect();
        format!(
            "lineage {}, {held} records held by headquarters, slots leased: {}",
            restored.lineage,
            leases.join(", ")
        )
    };
    let found = words(restored.held, &restored.leases);
    let mut restore = restores::opening(sql, &vault.name, &restored.lineage)?;
    let mut forgotten = false;
    if let Some(restore) = &mut restore
        && forgetful
        && restored.held > restore.held
    {
        restores::set_held(sql, restore, restored.held)?;
        restore.held = restored.held;
        forgotten = true;
    }
    let expected = match &restore {
        Some(restore) => words(restore.held, &restore.leases),
        None => "no restore, since none was declared".to_owned(),
    };
    let Some(restore) = restore.filter(|_| expected == found) else {
        let finding = Finding::of_record(
            &vault.name,
            vault.lineage,
            sequence,
            RESTORE_MISMATCH,
            (expected, found),
        );
        return Ok(Some(finding));
    };
    if forgotten || restore.size > restore.held {
        restores::withdraw_finding(sql, RESTORE_DECLARED, &restore.declaration)?;
        let granted = accounts::granted(sql, &vault.name)?;
        // It is no new one: it takes the place of the one that came with the declaration.
        let narrowed = in_doubt(vault, &restore, state, &granted, cipher);
        findings::add(sql, &narrowed, clock::now_unix())?;
    }
    Ok(None)
}

/// The root of the first `size` records, as HQ holds them; none if it does not hold as many.
fn root_at(
    sql: &Connection,
    record: &Record,
    vault: &Vault,
    ring: &Keyring<'_>,
    size: u64,
) -> Result<Option<Fingerprint>, Failure> {
    let audit = ring.audit()?;
    let opener = audit.opener();
    let mut tree = mintmark_ledger::merkle::Frontier::new();
    Leaves::new(sql, record, vault, opener).each(size, |leaf| tree.append(leaf))?;
    Ok((tree.size() == size).then(|| Fingerprint::new(tree.root())))
}

/// How much stands in one part of a tail.
#[derive(Default)]
struct Part {
    records: usize,
    bytes: usize,
}

impl Part {
    fn has_room(&self, raw: &[u8]) -> bool {
        self.records == 0
            || (self.records < PART_RECORDS_MAX && self.bytes + raw.len() <= PART_BYTES_MAX)
    }

    fn count(&mut self, raw: &[u8]) {
        self.records += 1;
        self.bytes += raw.len();
    }
}

/// Makes the tails that vaults wait for: with the dispatch key of the newest manifest, so that a vault can verify them.
pub(crate) fn seal_owed(
    home: &Home,
    registry: &mut Registry,
    console: &Console,
) -> Result<(), Failure> {
    let mut owed = Vec::new();
    for vault in vaults::serving(&registry.sql)? {
        if let Some(restore) = restores::pending(&registry.sql, &vault.name)? {
            owed.push((vault, restore));
        }
    }
    if owed.is_empty() {
        return Ok(());
    }
    let manifest = trust::in_force(home)?;
    let key = manifest.content().dispatch_key.to_sec1_bytes();
    owed.retain(|(_, restore)| restore.tail.as_ref().is_none_or(|(_, by)| **by != *key));
    let epoch = manifest.content().dispatch_epoch;
    let mut waiting = Vec::new();
    for (vault, restore) in owed {
        // The export says that it is left out.
        if outbox::contested(&registry.sql, &vault.name, epoch)?.is_none() {
            waiting.push((vault, restore));
        }
    }
    if waiting.is_empty() {
        return Ok(());
    }
    let ring = Keyring::new(&home.config, console)?;
    let signer = ring.signer(DISPATCH)?;
    let audit = ring.audit()?;
    let opener = audit.opener();
    let record = home.record();
    for (vault, restore) in waiting {
        let first = restore.size.min(restore.held);
        let leaves = Leaves::new(&registry.sql, &record, &vault, opener);
        // Each part says how many there are, and no more than one is held at a time: so the records are read twice.
        let (mut total, mut count, mut part) = (0, 0, Part::default());
        leaves.records(first..restore.held, |raw| {
            count += 1;
            if !part.has_room(&raw) {
                part = Part::default();
                total += 1;
            }
            part.count(&raw);
            Ok(())
        })?;
        if count != restore.held - first {
            return Err(failure::home_corrupt(format!(
                "records of {} that headquarters holds are missing",
                vault.name
            )));
        }
        let total = total + 1;
        let mut tail = LogTail {
            salt: [0; 32],
            vault: vault.name.clone(),
            declaration: restore.declaration,
            part: 1,
            parts: total,
            log_size: restore.held,
            log_root: restore.held_root,
            first,
            records: Vec::new(),
        };
        let seal = |tail: &mut LogTail| -> Result<(), Failure> {
            tail.salt = random().map_err(failure::protocol)?;
            let key = &vault.agreement_key;
            let sealed = tail
                .seal(manifest.content(), key, &keyring::sign(&*signer))
                .map_err(failure::protocol)?;
            let path = record.tail(&vault.name, &restore.lineage, tail.part);
            record.replace(&path, &sealed)?;
            tail.first += tail.records.len() as u64;
            tail.part += 1;
            tail.records.clear();
            Ok(())
        };
        let mut part = Part::default();
        leaves.records(first..restore.held, |raw| {
            if !part.has_room(&raw) {
                part = Part::default();
                seal(&mut tail)?;
            }
            part.count(&raw);
            tail.records.push(raw);
            Ok(())
        })?;
        seal(&mut tail)?;
        let transaction = registry.transaction()?;
        restores::set_tail(&transaction, &restore, total, &key)?;
        registry::commit(transaction)?;
    }
    Ok(())
}

/// The lost history turns up after all: a bundle of a lineage that a declaration closed, beyond what the vault had then.
pub(crate) fn is_lost_history(restore: &Restore, log_size: u64) -> bool {
    log_size > restore.size.max(restore.held)
}
