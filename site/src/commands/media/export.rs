//! `site media export DIR`.

use std::path::PathBuf;

use mintmark_console::{Console, Exit};

use super::{Item, show};
use crate::failure::Result;
use crate::medium::{Medium, require};
use crate::place::Place;
use crate::vault::{Carried, Carrier, Placed, restore};

/// What `site media export` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder at which the medium is mounted
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Say what would be written, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Writes the enrolment request, or everything that headquarters has not acknowledged. The vault says what that is; it is
/// written without it, so that stations do not wait for the medium.
pub(crate) fn execute(arguments: &Arguments, place: &Place<'_>, console: &Console) -> Result<Exit> {
    let home = place.home()?;
    require(&arguments.dir)?;
    if let Some(declaration) = restore::declared(&home)? {
        let carried = match arguments.dry_run {
            true => declaration.carry(Carrier::Nowhere)?,
            false => declaration.carry(Carrier::Medium(&Medium::create(&arguments.dir)?))?,
        };
        console.note("a restore was declared: nothing else goes out before headquarters answers");
        return show(&[item(carried)], console);
    }
    let mut vault = place.open_to_carry(console)?;
    let carried = if arguments.dry_run {
        let planned = vault.rehearse(|vault| {
            let mut planned = vault.cargo()?.carry(Carrier::Nowhere, console)?;
            planned.extend(vault.next_bundle()?);
            Ok(planned)
        })?;
        console.note("nothing was written");
        planned
    } else {
        let medium = Medium::create(&arguments.dir)?;
        let cargo = vault.with(|vault| {
            vault.settle()?;
            if vault.state().is_enrolled() {
                vault.seal_if_needed()?;
            }
            vault.cargo()
        })?;
        let carried = {
            let _alone = place.alone_at_media();
            cargo.carry(Carrier::Medium(&medium), console)?
        };
        vault.close()?;
        carried
    };
    if carried.is_empty() {
        console.note("headquarters has acknowledged everything; there is nothing to carry");
    }
    let items: Vec<Item> = carried.into_iter().map(item).collect();
    show(&items, console)
}

fn item(carried: Carried) -> Item {
    let (outcome, error) = match carried.placed {
        Placed::Exported => ("exported", None),
        Placed::Already => ("already", None),
        Placed::Planned => ("planned", None),
        Placed::Conflict(error) => ("refused", Some(error)),
    };
    let (file, kind) = (carried.name.to_string(), carried.kind.to_string());
    Item::new(file, kind, carried.id, outcome, error)
}
