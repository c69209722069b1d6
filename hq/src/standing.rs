//! Where a vault stands: what was drafted, sent and followed of disabling it, changing its device CA and revoking that.

use mintmark_console::Failure;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::revocation::Target;
use rusqlite::Connection;

use crate::clock;
use crate::registry::device_cas::{self, DeviceCa};
use crate::registry::drafts::{self, Draft, State as DraftState};
use crate::registry::orders::{self, State as OrderState};
use crate::registry::vaults::Vault;
use crate::registry::{dispatches, replays};

/// A vault's state, as `hq site list` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It asked to be let in.
    Requested,
    /// It serves.
    Granted,
    /// It was ordered to make no new devices, and has not said that it follows.
    Disabling,
    /// It makes no new devices.
    Disabled,
    /// Its next device CA is on its way.
    Rotating,
    /// Its newest device CA is revoked.
    Revoked,
    /// Another vault took its place.
    Succeeded,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Granted => "granted",
            Self::Disabling => "disabling",
            Self::Disabled => "disabled",
            Self::Rotating => "rotating",
            Self::Revoked => "revoked",
            Self::Succeeded => "succeeded",
        }
    }
}

/// What is known of a vault's life.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) state: State,
    /// The open draft that disables it.
    pub(crate) disable_draft: Option<Draft>,
    /// The open draft of the device CA that it asked for.
    pub(crate) rotation_draft: Option<Draft>,
    /// The newest device CA that was granted, from 1; 0: none.
    pub(crate) generation: u16,
    /// Those granted before the newest that are not revoked.
    pub(crate) former: Vec<DeviceCa>,
    /// Open drafts that revoke a device CA.
    pub(crate) revoke_drafts: Vec<Draft>,
}

/// Looks at the registry for it.
pub(crate) fn of(sql: &Connection, vault: &Vault) -> Result<Standing, Failure> {
    let name = &vault.name;
    let now = clock::now_unix();
    let open = |draft: &Fingerprint| -> Result<Option<Draft>, Failure> {
        let draft = drafts::by_fingerprint(sql, draft)?;
        Ok(draft.filter(|draft| draft.state == DraftState::Open && now < draft.approve_until))
    };
    let mut disable_draft = None;
    let mut revoke_drafts = Vec::new();
    let mut disable_id = None;
    for order in orders::of_vault(sql, name)? {
        let Some(revocation) = order.revocation()? else {
            continue;
        };
        match (order.state, &revocation.target) {
            (OrderState::Draft, Target::Vault) => disable_draft = open(&order.draft)?,
            (OrderState::Draft, Target::DeviceCa(_)) => revoke_drafts.extend(open(&order.draft)?),
            (OrderState::Sent, Target::Vault) => {
                disable_id = Some(revocation.object_id());
            }
            _ => {}
        }
    }
    let sent = dispatches::all(sql, name)?;
    let granted_at = sent
        .iter()
        .rposition(|sent| sent.kind == Kind::EnrolmentGrant.as_str());
    // A grant that was sent after it ended it.
    let disabled = disable_id.as_ref().filter(|id| {
        let disabled_at = sent
            .iter()
            .rposition(|sent| sent.kind == Kind::Revocation.as_str() && sent.object == **id);
        disabled_at > granted_at
    });
    let device_cas = device_cas::of_vault(sql, name)?;
    let mut former: Vec<DeviceCa> = Vec::new();
    let mut newest_revoked = false;
    let mut generation = 0;
    let mut rotation_draft = None;
    for device_ca in device_cas {
        let Some(fingerprint) = device_ca.fingerprint() else {
            if device_ca.generation > 1 {
                rotation_draft = open(&device_ca.draft)?;
            }
            continue;
        };
        generation = device_ca.generation;
        newest_revoked = orders::is_revoked(sql, name, &Target::DeviceCa(fingerprint))?;
        if !newest_revoked {
            former.push(device_ca);
        }
    }
    former.retain(|device_ca| device_ca.generation < generation);
    let replay = replays::load(sql, name)?;
    let known = replay.state().device_cas().last();
    let known = known.map_or(0, |device_ca| device_ca.generation);
    let state = if !vault.granted {
        State::Requested
    } else if vault.successor.is_some() {
        State::Succeeded
    } else if disabled.is_some() {
        if replay.state().disabled_at().is_some() {
            State::Disabled
        } else {
            State::Disabling
        }
    } else if newest_revoked {
        State::Revoked
    } else if generation > 1 && known < generation {
        State::Rotating
    } else {
        State::Granted
    };
    Ok(Standing {
        state,
        disable_draft,
        rotation_draft,
        generation,
        former,
        revoke_drafts,
    })
}
