//! A declared restore: the home was put back from an older copy, and the token, or the operator, knows that more had been
//! done. The vault says so to HQ, which sends back the records that it holds; the log goes on after them in a lineage of
//! its own, and what may have been spent in the history that was lost is skipped.
//!
//! While the declaration waits for its answer, nothing is added to the log: it has to stay a beginning of what HQ holds.
//! Every step can be cut and done again: records that are there already are compared, the step into the new lineage is one
//! group of the log, and the declaration is set aside last.

mod tail;

use mintmark_console::Console;
use mintmark_console::files::Folder;
use mintmark_keys::{Alternating, KeyStore};
use mintmark_ledger::entry::{BURNED_MAX, Burned};
use mintmark_ledger::ledger::{Fact, Ledger};
use mintmark_pki::Issuer;
use mintmark_protocol::encryption::random;
use mintmark_protocol::enrolment::FIRST_GENERATION;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::Lineage;
use mintmark_protocol::media::MediaName;
use mintmark_protocol::restore::{LEASES_MAX, RESTORE_BYTES_MAX, RestoreDeclaration};

use super::anchor::{self, Anchor, Found};
use super::bundle::Paper;
use super::import::{Arrival, Effort, Incoming};
use super::keyring::{Keyring, open_store};
use super::{Facts, Vault, reading};
use crate::commands::{SOFTWARE, now};
use crate::failure::{Error, Result};
use crate::home::{Home, LOG, RESTORE, ROLLED_BACK};
use crate::medium::{Medium, MediumFile};
use tail::Gathering;

/// The code of a home whose restore HQ has not answered.
pub(crate) const RESTORE_PENDING: &str = "RESTORE-PENDING";
/// The code of units that may have been spent in a history that was lost.
const RESTORE_BURNED: &str = "RESTORE-BURNED";
/// The most restores of one home that are looked for.
const RESTORES_MAX: u32 = 10_000;

/// The name under which the declaration of a restore is kept that is over.
fn over(number: u32) -> String {
    format!("restored-{number}.cose")
}

impl Home {
    /// The declaration that waits for its answer.
    ///
    /// # Errors
    /// What the disk fails with.
    pub(crate) fn restore_declared(&self) -> Result<Option<Vec<u8>>> {
        let folder = Folder::open(self.path())?;
        match folder.read_limited(RESTORE, RESTORE_BYTES_MAX as u64) {
            Err(error) if error.is_missing() => Ok(None),
            read => Ok(Some(read?)),
        }
    }

    /// Refuses a home whose restore HQ has not answered: nothing may be added to its log.
    ///
    /// # Errors
    /// RESTORE-PENDING.
    pub(crate) fn expect_restored(&self) -> Result<()> {
        match self.restore_declared()? {
            None => Ok(()),
            Some(_) => Err(Error::integrity(
                RESTORE_PENDING,
                "a restore of this home was declared, and headquarters has not sent back what it holds: nothing is issued \
                 until then",
            )
            .hint(
                "run `site media export DIR`, carry it to headquarters, and import what comes back (`site media import DIR`)",
            )),
        }
    }

    /// The declarations whose restores are over, oldest first.
    fn restores_over(&self) -> Result<Vec<Vec<u8>>> {
        let folder = Folder::open(self.path())?;
        let mut declarations = Vec::new();
        for number in 1..RESTORES_MAX {
            match folder.read_limited(over(number), RESTORE_BYTES_MAX as u64) {
                Err(error) if error.is_missing() => break,
                read => declarations.push(read?),
            }
        }
        Ok(declarations)
    }
}

/// What was declared, and whether it was declared before.
pub(crate) struct Declared {
    /// What HQ gets to know.
    pub(crate) declaration: RestoreDeclaration,
    /// It stands in the home already.
    pub(crate) already: bool,
}

/// Declares a restore. `confirm` is asked with what will be declared, before anything is written.
///
/// # Errors
/// ANCHOR-MISSING and its like if the token does not say what was leased; what the log, the token and the disk fail with.
pub(crate) fn declare(
    home: &Home,
    dry_run: bool,
    confirm: impl FnOnce(&RestoreDeclaration) -> Result<()>,
    console: &Console,
) -> Result<Declared> {
    let _lock = home.lock()?;
    let view = reading::view(home, console)?;
    reading::verify(&view, console)?;
    let state = view.state();
    let facts = Facts::read(home, state)?;
    if let Some(bytes) = home.restore_declared()? {
        return Ok(Declared {
            declaration: read(home, &facts, &bytes)?.into_content(),
            already: true,
        });
    }
    let store = open_store(&home.config().keys, console)?;
    anchor::expect_own(&*store, &facts.identity)?;
    let anchor = match anchor::find(&*store)? {
        Found::Anchor(anchor) if anchor.vault != facts.name => {
            return Err(anchor::of_another(&anchor));
        }
        Found::Anchor(anchor) if anchor.counter < state.anchor() => {
            return Err(anchor_lost(
                "the token's anchor is older than the one that the log states",
            ));
        }
        Found::Anchor(anchor) => anchor,
        Found::None => return Err(anchor_lost("the token holds no valid anchor of this vault")),
        Found::Contested(_) => {
            return Err(anchor_lost(
                "the token holds two anchors that contradict each other",
            ));
        }
    };
    let parent = state
        .lineage()
        .ok_or_else(|| home.corrupt(LOG, "without a lineage"))?;
    let spent = |tag| state.account(tag).map_or(0, |account| account.next_slot);
    let leases: Vec<_> = anchor
        .bounds
        .iter()
        .map(|(tag, end)| (*tag, *end))
        .filter(|(tag, end)| *end > spent(*tag))
        .collect();
    if leases.len() > LEASES_MAX {
        let message = format!("more than {LEASES_MAX} accounts are in doubt");
        return Err(Error::environment("RESTORE-OVERSIZE", message).hint(
            "set up another vault, and let it take the place of this one (`hq site succeed`)",
        ));
    }
    let declaration = RestoreDeclaration {
        vault: facts.name.clone(),
        parent,
        size: state.size(),
        root: state.root(),
        lineage: Lineage::new(random()?),
        declared_at: now().clock,
        anchor: anchor.counter,
        anchored_size: anchor.size,
        leases,
    };
    if !dry_run {
        confirm(&declaration)?;
        let keyring = keyring(&facts, state, store)?;
        let sign = |message: &[u8]| keyring.sign(message);
        let bytes = declaration.seal(&facts.identity.sign, &sign)?;
        let written = Folder::open(home.path())?.write_new(RESTORE, &bytes);
        written.map_err(|error| unsettled(home, error.into()))?;
    }
    Ok(Declared {
        declaration,
        already: false,
    })
}

/// A declaration that could not be written. Where it stands there all the same, nobody knows whether it will after a power
/// cut.
fn unsettled(home: &Home, error: Error) -> Error {
    match home.restore_declared() {
        Ok(None) => error,
        _ => error.outcome_unknown().hint(
            "put right what is named, then run the same command again: it says what was declared, and declares nothing twice",
        ),
    }
}

fn anchor_lost(message: &str) -> Error {
    Error::integrity("ANCHOR-MISSING", message).hint(
        "nobody knows what this vault has leased: let another vault take its place (`hq site succeed`), or put the token \
         back that belongs to it",
    )
}

/// Reads the declaration of a home.
fn read(home: &Home, facts: &Facts, bytes: &[u8]) -> Result<Verified<RestoreDeclaration>> {
    RestoreDeclaration::open(bytes, &facts.name, &facts.identity.sign)
        .map_err(|error| home.corrupt(RESTORE, "not what was declared").cause(error))
}

fn keyring(
    facts: &Facts,
    state: &mintmark_ledger::state::State,
    store: std::sync::Arc<dyn mintmark_keys::KeyStore>,
) -> Result<Keyring> {
    let device_ca = match state.device_cas().last() {
        Some(ca) => {
            let issuer = Issuer::from_certificate_der(&ca.certificate)?;
            (ca.generation, *issuer.public_key())
        }
        None => (FIRST_GENERATION, facts.identity.device_ca),
    };
    Keyring::of(store, &facts.identity, device_ca)
}

/// The restore that was declared, if HQ has not answered it.
///
/// # Errors
/// What keeps it from being read.
pub(crate) fn declared(home: &Home) -> Result<Option<Paper>> {
    let Some(bytes) = home.restore_declared()? else {
        return Ok(None);
    };
    Ok(Some(declaration(home, bytes, home.restores_over()?)))
}

/// The declaration of the newest restore that is over: HQ may have forgotten it.
///
/// # Errors
/// What keeps it from being read.
pub(super) fn newest_over(home: &Home) -> Result<Option<Paper>> {
    let mut over = home.restores_over()?;
    let newest = over.pop();
    Ok(newest.map(|newest| declaration(home, newest, over)))
}

fn declaration(home: &Home, bytes: Vec<u8>, before: Vec<Vec<u8>>) -> Paper {
    Paper {
        name: MediaName::Restore {
            vault: home.config().vault.clone(),
        },
        kind: Kind::RestoreDeclaration,
        id: "restore",
        bytes,
        before,
    }
}

/// What came of the parts of a tail on a medium.
pub(crate) struct Answer {
    /// Each part that stands there, and what came of it.
    pub(crate) items: Vec<Item>,
    /// The home waits for nothing any more.
    pub(crate) done: bool,
}

/// A part of a tail on a medium, and what came of it.
type Item = (MediumFile, Incoming);

fn incoming(file: &MediumFile, arrival: Arrival) -> Item {
    let id = match &file.name {
        MediaName::Tail { part, .. } => format!("tail-{part:06}"),
        _ => String::new(),
    };
    let incoming = Incoming {
        kind: Kind::LogTail.to_string(),
        id,
        arrival,
    };
    (file.clone(), incoming)
}

/// The parts of a tail on a medium, in order.
fn parts_of(files: &[MediumFile]) -> Vec<&MediumFile> {
    let part = |file: &MediumFile| match file.name {
        MediaName::Tail { part, .. } => Some(part),
        _ => None,
    };
    let mut parts: Vec<_> = files.iter().filter(|file| part(file).is_some()).collect();
    parts.sort_by_key(|file| part(file));
    parts
}

/// Takes in what HQ sent back, if this home waits for it.
///
/// # Errors
/// What keeps any of it from being imported: the token, the disk, the log. A verdict on a part is an arrival.
pub(crate) fn resume(
    home: &Home,
    medium: &Medium,
    files: &[MediumFile],
    effort: Effort,
    console: &Console,
) -> Result<Answer> {
    let parts = parts_of(files);
    let Some(bytes) = home.restore_declared()? else {
        // A tail that nobody waits for: that of a restore that is over.
        let over = !home.restores_over()?.is_empty();
        let items = parts.into_iter().map(|file| {
            let arrival = if over {
                Arrival::Already
            } else {
                let message = format!(
                    "{} answers a restore that this vault has not declared",
                    file.path()
                );
                Arrival::Refused(
                    Error::negative("TAIL-UNASKED", message)
                        .hint("this home needs nothing back; the file can go"),
                )
            };
            incoming(file, arrival)
        });
        return Ok(Answer {
            items: items.collect(),
            done: true,
        });
    };
    let _lock = home.lock()?;
    let view = reading::view(home, console)?;
    let facts = Facts::read(home, view.state())?;
    let declared = read(home, &facts, &bytes)?;
    let declaration = declared.content();
    let store = open_store(&home.config().keys, console)?;
    let found = anchor::find(&*store)?;
    let Found::Anchor(held) = found else {
        return Err(anchor_lost(
            "the token holds no valid anchor of this vault any more",
        ));
    };
    anchor::expect_own(&*store, &facts.identity)?;
    let adopted = view.state().lineage() == Some(declaration.lineage);
    let mut items = Vec::new();
    if !adopted {
        let keyring = keyring(&facts, view.state(), std::sync::Arc::clone(&store))?;
        drop(view);
        let (tail, arrivals) = {
            let mut gathering = Gathering {
                home,
                medium,
                files,
                declared: &declared,
                trust: facts.trust,
                keep: effort == Effort::Import,
            };
            gathering.gather(&parts, &keyring)?
        };
        items = arrivals;
        let Some(tail) = tail else {
            if parts.is_empty() {
                console.note("the medium does not hold what headquarters sends back for the restore that was declared");
            }
            return Ok(Answer { items, done: false });
        };
        let (mut ledger, opened) = Ledger::open(home.path(), SOFTWARE)?;
        reading::report_opening(&opened, console);
        if effort == Effort::Rehearse {
            return Ok(Answer { items, done: false });
        }
        if let Err(error) = ledger.adopt_tail(&tail) {
            if error.code() != "TAIL-MISMATCH" {
                return Err(error.into());
            }
            let message = error.to_string();
            let refused = |file: &&MediumFile| {
                let error = Error::integrity("TAIL-MISMATCH", message.clone());
                incoming(file, Arrival::Refused(error.hint(
                    "have headquarters export again; if it stays so, this vault and headquarters hold two histories, and \
                     only another vault that takes its place helps",
                )))
            };
            let items = parts.iter().map(refused).collect();
            return Ok(Answer { items, done: false });
        }
        go_on(&mut ledger, declaration, held.counter, tail.size(), console)?;
        ledger.close()?;
    } else {
        drop(view);
        items.extend(parts.iter().map(|file| incoming(file, Arrival::Already)));
        if effort == Effort::Rehearse {
            return Ok(Answer { items, done: false });
        }
    }
    let size = finish(home, &*store, declaration, &held)?;
    console.note(format!(
        "the log goes on in lineage {} after {size} records",
        declaration.lineage
    ));
    Ok(Answer { items, done: true })
}

/// What is left to be done once the log goes on: its anchor, and that nothing is waited for any more. Gives its size.
fn finish(
    home: &Home,
    store: &dyn KeyStore,
    declaration: &RestoreDeclaration,
    held: &Anchor,
) -> Result<u64> {
    let (ledger, _) = Ledger::open(home.path(), SOFTWARE)?;
    if held.lineage != declaration.lineage {
        let counter = held.counter.max(ledger.state().anchor()).saturating_add(1);
        let next = Anchor::of(&ledger, counter, |_| 0)?;
        let (old, new) = (held.to_cbor(), next.to_cbor());
        Alternating::new(store, anchor::LABEL)
            .write(Some(&old), &new, anchor::counter_of)
            .map_err(|error| anchor::of_writing(error, counter))?;
    }
    let size = ledger.size();
    ledger.close()?;
    set_aside(home).map_err(|error| {
        error.outcome_unknown().hint(
            "what headquarters sent back is kept: put right what is named, then import the same medium again",
        )
    })?;
    Ok(size)
}

/// Puts on record that the log goes on in another lineage, and what is skipped there: one group.
fn go_on(
    ledger: &mut Ledger,
    declaration: &RestoreDeclaration,
    counter: u64,
    held: u64,
    console: &Console,
) -> Result<()> {
    ledger.set_anchor(counter);
    let leases = declaration.leases.clone();
    let lineage = declaration.lineage;
    let restored = Fact::Restored {
        lineage,
        held,
        leases,
    };
    ledger.record(now(), restored)?;
    burn(ledger, counter, console)?;
    Ok(ledger.commit()?)
}

/// Skips what is in doubt; it is durable with the next group.
fn burn(ledger: &mut Ledger, anchor: u64, console: &Console) -> Result<()> {
    let slots = ledger.state().in_doubt();
    let units = slots
        .iter()
        .map(|slots| slots.end.saturating_sub(slots.first));
    let units = units.fold(0, u64::saturating_add);
    for slots in slots.chunks(BURNED_MAX) {
        let slots = slots.to_vec();
        ledger.record(now(), Fact::Burned(Burned { anchor, slots }))?;
    }
    if units > 0 {
        console.warn_coded(
            RESTORE_BURNED,
            format!(
                "{units} units may have been spent in the history that was lost; they count as unresolved, and only \
                 headquarters grants them again"
            ),
        );
    }
    Ok(())
}

/// Sets the declaration aside, and the evidence that the home was not the newest copy, if there is any. The declaration is
/// last, since it is what says that there is something left to be done.
fn set_aside(home: &Home) -> Result<()> {
    let folder = Folder::open(home.path())?;
    let number = home.restores_over()?.len() as u32 + 1;
    for (from, to) in [
        (ROLLED_BACK, format!("rolled-back-{number}.cose")),
        (RESTORE, over(number)),
    ] {
        let (old, new) = (home.path().join(from), home.path().join(&to));
        match std::fs::rename(&old, &new) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                let message = format!("{} cannot be renamed", old.display());
                return Err(Error::environment("HOME-UNWRITABLE", message).cause(error));
            }
        }
    }
    let path = folder.path();
    std::fs::File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| {
            let message = format!("{} cannot be brought to the disk", path.display());
            Error::environment("HOME-UNWRITABLE", message).cause(error)
        })
}

impl Vault<'_> {
    /// Skips what is in doubt since a restore, of accounts that came back since.
    ///
    /// # Errors
    /// What the log fails with.
    pub(crate) fn burn_doubt(&mut self) -> Result<()> {
        if self.state().in_doubt().is_empty() {
            return Ok(());
        }
        let anchor = self.state().anchor().max(self.anchor.counter());
        burn(&mut self.ledger, anchor, &self.console)?;
        Ok(self.ledger.commit()?)
    }
}
