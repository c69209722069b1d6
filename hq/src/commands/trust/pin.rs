//! `hq trust pin`: a home begins with the manifest whose fingerprint a person compared.

use std::path::Path;

use mintmark_console::home::expect_free;
use mintmark_console::{Console, Exit, Failure, files};
use mintmark_protocol::approval::PROPOSAL_BYTES_MAX;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::trust::TRUST_BYTES_MAX;

use super::say;
use crate::config::{Config, Pin, Role as HomeRole};
use crate::home::{self, Home};
use crate::record::Record;
use crate::trust;

/// Makes the home, of the manifest and of the one before it, if that is beside it.
pub(super) fn run(
    home: Option<&Path>,
    file: &Path,
    fingerprint: &Fingerprint,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let path = Home::path(home)?;
    expect_free(&path)?;
    let bytes = files::read_limited(file, TRUST_BYTES_MAX.max(PROPOSAL_BYTES_MAX) as u64)?;
    let (manifest, before) = trust::pinned_beside(file, &bytes, fingerprint)?;
    let content = manifest.content();
    trust::expect_in_force(
        content,
        "pin the newest one that headquarters published, by its own fingerprint",
    )?;
    if dry_run {
        console.note(format!(
            "would pin {} in {} (--dry-run)",
            content.id(),
            path.display()
        ));
        return say(&manifest, None, console);
    }
    let config = Config {
        schema: 1,
        role: HomeRole::Member,
        name: content.hq_name.clone(),
        keys: None,
        pin: Some(Pin {
            version: content.version,
            fingerprint: fingerprint.to_string(),
        }),
        auditor: None,
        changes: Vec::new(),
    };
    Home::create(&path, &config, |part| {
        home::make_folder(&part.join("record"))?;
        let record = Record::unnoted(part);
        record.keep(&record.trust(content.version), &bytes)?;
        if let Some(before) = before {
            record.keep(&record.trust(content.version.saturating_sub(1)), &before)?;
        }
        record.set_newest_trust(content.version)
    })?;
    console.note(format!("{} is pinned in {}", content.id(), path.display()));
    say(&manifest, None, console)
}
