//! The making of a home: whole, or not at all.

use mintmark_console::files::Folder;
use mintmark_console::home::Making;

use super::{CONFIG, ENROLMENT, OUTBOX, RECEIVED, TRUST};
use crate::config::Config;
use crate::failure::Result;

/// Writes everything but the log into a home that is being made.
pub(crate) fn fill(
    making: &Making,
    config: &Config,
    trust: &[(String, &[u8])],
    enrolment: &[u8],
) -> Result<()> {
    let home = Folder::open(making.folder())?;
    for name in [RECEIVED, OUTBOX] {
        home.create_subfolder(name)?;
    }
    let manifests = home.create_subfolder(TRUST)?;
    for (name, manifest) in trust {
        manifests.write_new(name, manifest)?;
    }
    home.write_new(ENROLMENT, enrolment)?;
    home.write_new(CONFIG, config.to_toml()?.as_bytes())?;
    Ok(())
}
