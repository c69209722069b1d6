//! The device CA in force, those before it, and the next one.

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Style};
use mintmark_ledger::state::{DeviceCa, Revoked, State};
use serde::Serialize;

/// All of them, and whether headquarters lets this vault make new devices.
#[derive(Serialize)]
pub(super) struct DeviceCas {
    /// Headquarters ended the making of new devices here.
    disabled: Option<RevokedRow>,
    /// The device CA in force.
    device_ca: Option<DeviceCaRow>,
    /// The device CAs before it.
    device_cas_before: Vec<DeviceCaRow>,
    /// The next device CA, which was asked for and waits for its grant.
    rotation: Option<RotationRow>,
}

impl DeviceCas {
    pub(super) fn of(state: &State) -> Self {
        let mut rows: Vec<DeviceCaRow> = state.device_cas().iter().map(DeviceCaRow::from).collect();
        Self {
            disabled: state.disabled_at().map(RevokedRow::from),
            device_ca: rows.pop(),
            device_cas_before: rows,
            rotation: state.rotation_pending().map(|rotation| RotationRow {
                generation: rotation.generation,
                enrolment_fingerprint: rotation.request_fingerprint.to_string(),
            }),
        }
    }

    pub(super) fn show(&self, console: &Console) {
        if let Some(disabled) = &self.disabled {
            let word = console.styled(Style::Bad, "disabled");
            let RevokedRow { since, reason, .. } = disabled;
            console.line(format!("{word}    since {since}: {reason}"));
        }
        if let Some(ca) = &self.device_ca {
            let revoked = match &ca.revoked {
                Some(revoked) => format!(
                    ", {} {}: {}",
                    console.styled(Style::Bad, "revoked"),
                    revoked.since,
                    revoked.reason
                ),
                None => String::new(),
            };
            let (generation, fingerprint) = (ca.generation, &ca.fingerprint);
            console.line(format!("device CA   {generation}, {fingerprint}{revoked}"));
        }
        if let Some(rotation) = &self.rotation {
            let (generation, fingerprint) = (rotation.generation, &rotation.enrolment_fingerprint);
            console.line(format!(
                "rotation    device CA {generation} waits for its grant"
            ));
            console.line(format!("enrolment_fingerprint  {fingerprint}"));
        }
    }
}

/// A device CA that this vault has, or had.
#[derive(Serialize)]
struct DeviceCaRow {
    generation: u16,
    /// SHA-256 of its certificate.
    fingerprint: String,
    revoked: Option<RevokedRow>,
}

impl From<&DeviceCa> for DeviceCaRow {
    fn from(ca: &DeviceCa) -> Self {
        Self {
            generation: ca.generation,
            fingerprint: ca.fingerprint().to_string(),
            revoked: ca.revoked.as_ref().map(RevokedRow::from),
        }
    }
}

/// A device CA that was asked for.
#[derive(Serialize)]
struct RotationRow {
    generation: u16,
    /// Of the request that waits: to be read out at headquarters.
    enrolment_fingerprint: String,
}

/// What officers ended, and why.
#[derive(Serialize)]
pub(crate) struct RevokedRow {
    pub(crate) number: u64,
    pub(crate) since: String,
    pub(crate) reason: String,
}

impl From<&Revoked> for RevokedRow {
    fn from(revoked: &Revoked) -> Self {
        Self {
            number: revoked.number,
            since: rfc3339(revoked.time),
            reason: revoked.reason.clone(),
        }
    }
}
