//! `hq media import`: what vaults and officers sent.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::approval::PROPOSAL_BYTES_MAX;
use mintmark_protocol::enrolment::REQUEST_BYTES_MAX;
use mintmark_protocol::envelope::{Kind, claim};
use mintmark_protocol::media::MediaName;

use super::stick::{Found, Stick};
use super::{Item, say_items};
use crate::approvals::collect;
use crate::home::Home;
use crate::{failure, trust};

pub(super) fn run(
    home: Option<&Path>,
    dir: &Path,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change(home)?;
    let stick = Stick::open(dir)?;
    let mut items = Vec::new();
    for found in stick.files(console)? {
        let Found { name, path } = found;
        match name {
            MediaName::Approval { id, .. } => {
                let mut registry = home.registry()?;
                let manifest = trust::newest(&home)?;
                let taken = stick.read(&path, PROPOSAL_BYTES_MAX).and_then(|bytes| {
                    collect::take(&mut registry, &home.record(), manifest.as_ref(), &bytes)
                });
                let (outcome, failure) = match taken {
                    Ok(collected) if collected.new => ("imported", None),
                    Ok(_) => ("already", None),
                    Err(failure) => ("refused", Some(failure)),
                };
                items.push(Item {
                    file: path,
                    kind: "approval".to_owned(),
                    id: id.to_string(),
                    outcome,
                    failure,
                });
            }
            MediaName::Enrolment { vault } => {
                let claimed = stick
                    .read(&path, REQUEST_BYTES_MAX)
                    .and_then(|bytes| claim(&bytes, REQUEST_BYTES_MAX).map_err(failure::protocol));
                let kind = Kind::EnrolmentRequest.to_string();
                match claimed {
                    Ok(claim) => {
                        console.note(format!(
                            "{path}: to let {vault} in, compare its fingerprint with the operator and run \
                             `hq site enrol --request {} --fingerprint ...`",
                            dir.join("mintmark").join(&path).display()
                        ));
                        let _ = claim;
                    }
                    Err(failure) => items.push(Item {
                        file: path,
                        kind,
                        id: vault.to_string(),
                        outcome: "refused",
                        failure: Some(failure),
                    }),
                }
            }
            _ => {}
        }
    }
    let _ = dry_run;
    say_items(&items, console)
}
