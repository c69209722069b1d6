//! The forks that headquarters has found, and by which of what it keeps each can be shown to others.

use std::path::PathBuf;

use mintmark_console::Failure;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::fork::Statement;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::restore::RestoreDeclaration;
use rusqlite::Connection;

use crate::failure;
use crate::findings::Finding;
use crate::forks::{self, BUNDLE_CHAIN, Contradiction, FORK};
use crate::import::kept;
use crate::record::Record;
use crate::registry::restores;
use crate::registry::vaults::Vault;
use crate::registry::{bundles, findings};

/// A message as it was received, and what it is.
pub(super) type Received<T> = (Vec<u8>, T);

/// A fork that HQ knows of.
pub(super) struct Known {
    pub(super) finding: Finding,
    pub(super) vault: Vault,
    pub(super) shown: Shown,
}

/// By what it can be shown.
pub(super) enum Shown {
    /// By two statements that contradict each other.
    Both(Box<Pair>),
    /// By none that others could verify.
    OneSided {
        /// Why.
        why: String,
        /// What is kept of it.
        evidence: Vec<PathBuf>,
    },
}

/// Two statements that contradict each other.
pub(super) struct Pair {
    pub(super) contradiction: Contradiction,
    pub(super) statements: [Received<Statement>; 2],
    /// The first bundle of the history in which the log went on, where that makes it a contradiction.
    pub(super) opening: Option<Received<Verified<Bundle>>>,
}

impl Known {
    /// Whether a statement has this fingerprint.
    pub(super) fn is_of(&self, fingerprint: &Fingerprint) -> bool {
        match &self.shown {
            Shown::Both(pair) => {
                let mut statements = pair.statements.iter();
                statements.any(|(_, statement)| statement.fingerprint() == *fingerprint)
            }
            Shown::OneSided { .. } => {
                let named = ["other", "declaration"]
                    .map(|field| forks::named(&self.finding.evidence, field));
                named.contains(&Some(*fingerprint))
            }
        }
    }
}

/// Looks for what shows the forks of one vault.
pub(super) struct Search<'a> {
    pub(super) sql: &'a Connection,
    pub(super) record: &'a Record,
    pub(super) vault: &'a Vault,
}

impl Search<'_> {
    /// Every fork that was found.
    pub(super) fn forks(&self) -> Result<Vec<Known>, Failure> {
        let mut known = Vec::new();
        for finding in findings::all(self.sql, Some(&self.vault.name.site))? {
            if finding.vault != self.vault.name {
                continue;
            }
            let shown = match finding.code.as_str() {
                FORK => self.shown(&finding)?,
                // It is a fork where the bundle before is another one.
                BUNDLE_CHAIN => match self.of_bundles(&finding)? {
                    Some(pair) => Shown::Both(Box::new(pair)),
                    None => continue,
                },
                _ => continue,
            };
            known.push(Known {
                finding,
                vault: self.vault.clone(),
                shown,
            });
        }
        Ok(known)
    }

    fn shown(&self, finding: &Finding) -> Result<Shown, Failure> {
        let evidence = &finding.evidence;
        let found = match (
            forks::named(evidence, "declaration"),
            forks::named(evidence, "other"),
        ) {
            (Some(declaration), Some(other)) => self.of_lost_history(&declaration, &other)?,
            (Some(declaration), None) => self.of_declaration(&declaration)?,
            (None, _) => match self.of_bundles(finding)? {
                Some(pair) => Shown::Both(Box::new(pair)),
                None => Shown::OneSided {
                    why: "what the finding names does not contradict itself".to_owned(),
                    evidence: Vec::new(),
                },
            },
        };
        Ok(found)
    }

    /// Two bundles, one of which may have been refused.
    fn of_bundles(&self, finding: &Finding) -> Result<Option<Pair>, Failure> {
        let evidence = &finding.evidence;
        let first = forks::named(evidence, "held").or_else(|| forks::named(evidence, "refused"));
        let (Some(first), Some(second)) = (first, forks::named(evidence, "other")) else {
            return Ok(None);
        };
        let (one, first) = self.bundle(&first)?;
        let (other, second) = self.bundle(&second)?;
        let statements = [first, second].map(Statement::Bundle);
        let prefix = forks::named(evidence, "expected_log_root").map(|_| Contradiction::Prefix);
        let contradiction = forks::contradiction(&statements, None, &[]).or(prefix);
        let [first, second] = statements;
        Ok(contradiction.map(|contradiction| Pair {
            contradiction,
            statements: [(one, first), (other, second)],
            opening: None,
        }))
    }

    /// A bundle of a history that was declared to have ended before.
    fn of_lost_history(
        &self,
        declaration: &Fingerprint,
        other: &Fingerprint,
    ) -> Result<Shown, Failure> {
        let (other_bytes, bundle) = self.bundle(other)?;
        let (bytes, declared) = self.declaration(declaration)?;
        let evidence = vec![
            self.path_of_declaration(declaration),
            self.path_of_bundle(other)?,
        ];
        if declared.content().parent != bundle.content().lineage {
            let why = format!(
                "the declaration is about lineage {}, and the bundle is of {}, which ended with it",
                declared.content().parent,
                bundle.content().lineage
            );
            return Ok(Shown::OneSided { why, evidence });
        }
        let statements = [
            (bytes, Statement::Declaration(declared)),
            (other_bytes, Statement::Bundle(bundle)),
        ];
        Ok(match self.after_restore(statements)? {
            Ok(pair) => Shown::Both(Box::new(pair)),
            Err(why) => Shown::OneSided { why, evidence },
        })
    }

    /// A declaration that is not about the log as HQ holds it, which was refused.
    fn of_declaration(&self, refused: &Fingerprint) -> Result<Shown, Failure> {
        let path = self.path_of_declaration(refused);
        let (bytes, declared) = self.declaration(refused)?;
        let (parent, size) = (declared.content().parent, declared.content().size);
        let held = bundles::of_vault(self.sql, &self.vault.name)?.into_iter();
        let held = held
            .filter(|held| held.lineage == parent)
            .find(|held| held.log_size >= size);
        let found = (bytes, Statement::Declaration(declared));
        if let Some(held) = held {
            let (other, bundle) = self.bundle(&held.fingerprint)?;
            let contradiction = if held.log_size == size {
                Contradiction::Checkpoint
            } else {
                Contradiction::Prefix
            };
            return Ok(Shown::Both(Box::new(Pair {
                contradiction,
                statements: [(other, Statement::Bundle(bundle)), found],
                opening: None,
            })));
        }
        // No bundle of that history is as large; an earlier declaration may say where it ended.
        let mut why = format!(
            "headquarters holds no bundle of lineage {parent} with {size} records or more, and no declaration of where that \
             ended"
        );
        let mut evidence = vec![path];
        for restore in restores::of_vault(self.sql, &self.vault.name)? {
            let (bytes, declared) = self.declaration(&restore.declaration)?;
            if declared.content().parent != parent {
                continue;
            }
            let same_size = declared.content().size == size;
            let statement = (bytes, Statement::Declaration(declared));
            let other = (found.0.clone(), found.1.clone());
            if same_size && statement.1.root() != other.1.root() {
                return Ok(Shown::Both(Box::new(Pair {
                    contradiction: Contradiction::Checkpoint,
                    statements: [statement, other],
                    opening: None,
                })));
            }
            evidence.push(self.path_of_declaration(&restore.declaration));
            match self.after_restore([statement, other])? {
                Ok(pair) => return Ok(Shown::Both(Box::new(pair))),
                Err(reason) => why = reason,
            }
        }
        Ok(Shown::OneSided { why, evidence })
    }

    /// The first of these declares that a history ended, and the other one is of that history: a contradiction if the vault
    /// has reported since from where the log went on, and the other one is of more than there was.
    fn after_restore(
        &self,
        statements: [Received<Statement>; 2],
    ) -> Result<Result<Pair, String>, Failure> {
        let [(_, first), (_, second)] = &statements;
        let pair = [first.clone(), second.clone()];
        let opened = first.declaration().map(|declared| declared.content());
        let Some(opened) = opened.map(|declared| declared.lineage) else {
            return Ok(Err("nothing was declared".to_owned()));
        };
        let Some(held) = bundles::find(self.sql, &self.vault.name, &opened, 1)? else {
            return Ok(Err(format!(
                "the vault has declared that its log goes on in lineage {opened}, and has signed no report of that yet, so \
                 that only one history is signed; import its next bundle, and export again"
            )));
        };
        let opening = self.bundle(&held.fingerprint)?;
        Ok(match forks::contradiction(&pair, Some(&opening.1), &[]) {
            Some(contradiction) => Ok(Pair {
                contradiction,
                statements,
                opening: (contradiction == Contradiction::Restore).then_some(opening),
            }),
            None => Err(format!(
                "what the vault declared and what it signed besides, of {} and of {} records, is one history",
                first.size(),
                second.size()
            )),
        })
    }

    /// Where a bundle is kept, be it held or refused.
    fn path_of_bundle(&self, fingerprint: &Fingerprint) -> Result<PathBuf, Failure> {
        Ok(match bundles::by_fingerprint(self.sql, fingerprint)? {
            Some(held) => self
                .record
                .bundle(&held.vault, &held.lineage, held.sequence),
            None => self
                .record
                .evidence(&self.vault.name, &format!("{fingerprint}.cose")),
        })
    }

    fn bundle(&self, fingerprint: &Fingerprint) -> Result<Received<Verified<Bundle>>, Failure> {
        let path = match bundles::by_fingerprint(self.sql, fingerprint)? {
            Some(held) => {
                let bundle = kept::bundle(self.record, self.vault, &held)?;
                let path = self.path_of_bundle(fingerprint)?;
                return Ok((self.record.read(&path)?, bundle));
            }
            None => self.path_of_bundle(fingerprint)?,
        };
        let corrupt = || failure::home_corrupt(format!("{} is not what was kept", path.display()));
        let bytes = self.record.read(&path)?;
        let bundle = Bundle::open(&bytes, &self.vault.name, &self.vault.signing_key)
            .map_err(|error| corrupt().cause(error))?;
        if bundle.fingerprint() != *fingerprint {
            return Err(corrupt());
        }
        Ok((bytes, bundle))
    }

    /// Where a declaration is kept: with what was received, or with the evidence if it was refused.
    fn path_of_declaration(&self, fingerprint: &Fingerprint) -> PathBuf {
        let refused = self
            .record
            .evidence(&self.vault.name, &format!("{fingerprint}.cose"));
        if refused.exists() {
            return refused;
        }
        self.record.restore(&self.vault.name, fingerprint)
    }

    fn declaration(
        &self,
        fingerprint: &Fingerprint,
    ) -> Result<Received<Verified<RestoreDeclaration>>, Failure> {
        let path = self.path_of_declaration(fingerprint);
        let corrupt = || failure::home_corrupt(format!("{} is not what was kept", path.display()));
        let bytes = self.record.read(&path)?;
        let opened = RestoreDeclaration::open(&bytes, &self.vault.name, &self.vault.signing_key);
        let declared = opened.map_err(|error| corrupt().cause(error))?;
        if declared.fingerprint() != *fingerprint {
            return Err(corrupt());
        }
        Ok((bytes, declared))
    }
}
