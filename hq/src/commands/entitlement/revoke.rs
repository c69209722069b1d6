//! `hq entitlement revoke`: the end of an entitlement, for good.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::identifier::EntitlementId;
use mintmark_protocol::revocation::Target;

use super::{GraveDrafting, Place};
use crate::commands::site;
use crate::home::Home;
use crate::{failure, orders};

pub(super) fn run(
    home: Option<&Path>,
    (id, place): (&EntitlementId, &Place),
    reason: &str,
    drafting: &GraveDrafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let registry = home.registry()?;
    let name = place.resolve(&registry.sql, id)?;
    let vault = orders::serving(&registry.sql, &name)?;
    if crate::registry::entitlements::newest_sent(&registry.sql, &name, id)?.is_none() {
        return Err(failure::usage(
            "ENTITLEMENT-REFUSED",
            format!(
                "the vault {name} has refused every version of `{id}`: there is nothing to revoke"
            ),
            "leave it; an open draft of it expires by itself",
        ));
    }
    let target = Target::Entitlement(id.clone());
    drop(registry);
    site::orders::revoke(&home, &vault, target, reason, drafting, console)
}
