//! The rules for enrolment grants: the one that lets a vault in, and those that give it its next device CA.

use mintmark_pki::{Certificate, Issuer};
use mintmark_protocol::enrolment::{EnrolmentGrant, Purpose};

use crate::refusal::DispatchRefusal;
use crate::state::{Enrolment, State};

type Certificates<'a> = (&'a [u8], &'a [u8]);

pub(super) fn fits(
    state: &State,
    time: u64,
    epoch: u64,
    grant: &EnrolmentGrant,
    certificates: Certificates<'_>,
) -> Result<(), DispatchRefusal> {
    let mismatch = |what| Err(DispatchRefusal::GrantMismatch { what });
    let Some(genesis) = state.genesis() else {
        return mismatch("vault");
    };
    match (&grant.purpose, state.enrolment()) {
        (Purpose::Rotation { generation }, Some(enrolment)) => {
            if grant.vault != genesis.vault {
                return mismatch("vault");
            }
            rotation_fits(state, enrolment, *generation, grant, certificates)?;
        }
        (Purpose::Rotation { .. }, None) => return mismatch("generation"),
        (Purpose::Enrolment | Purpose::Succession(_), Some(_)) => {
            return Err(DispatchRefusal::GrantRepeated);
        }
        (Purpose::Enrolment | Purpose::Succession(_), None) => {
            if grant.vault != genesis.vault {
                return mismatch("vault");
            }
            if grant.request_fingerprint != genesis.enrolment_fingerprint {
                return mismatch("enrolment request");
            }
            // Under a later epoch it is what was not seen to arrive in its own.
            if grant.dispatch_epoch > epoch {
                return mismatch("dispatch epoch");
            }
        }
    }
    if Some(grant.lineage) != state.lineage() {
        return mismatch("lineage");
    }
    certificates_fit(grant, certificates)?;
    if grant.approve_until <= time {
        return Err(DispatchRefusal::GrantExpired {
            until: grant.approve_until,
        });
    }
    Ok(())
}

/// The officers approved what is to be signed; the root may have signed exactly that and nothing else.
fn certificates_fit(
    grant: &EnrolmentGrant,
    (identity, device_ca): Certificates<'_>,
) -> Result<(), DispatchRefusal> {
    let is = |der: &[u8], tbs: &[u8]| {
        Certificate::from_der(der).is_ok_and(|certificate| certificate.tbs_der() == tbs)
    };
    if !is(identity, &grant.identity_tbs) {
        return Err(DispatchRefusal::GrantMismatch {
            what: "identity certificate",
        });
    }
    if !is(device_ca, &grant.device_ca_tbs) || Issuer::from_certificate_der(device_ca).is_err() {
        return Err(DispatchRefusal::GrantMismatch {
            what: "device CA certificate",
        });
    }
    Ok(())
}

/// What changes is the device CA, and nothing else: who the vault is, and how it counts, stays.
fn rotation_fits(
    state: &State,
    enrolment: &Enrolment,
    generation: u16,
    grant: &EnrolmentGrant,
    (identity, device_ca): Certificates<'_>,
) -> Result<(), DispatchRefusal> {
    let mismatch = |what| Err(DispatchRefusal::GrantMismatch { what });
    if generation != state.next_generation() {
        return mismatch("generation");
    }
    let asked = state.rotation_pending();
    if asked.map(|asked| asked.request_fingerprint) != Some(grant.request_fingerprint) {
        return mismatch("enrolment request");
    }
    // It would undo what officers did after they approved it.
    if let Some(disabled) = state.disabled_at()
        && grant.drafted_at <= disabled.drafted_at
    {
        return Err(DispatchRefusal::GrantBeforeDisable {
            drafted_at: grant.drafted_at,
            disabled_at: disabled.drafted_at,
        });
    }
    if grant.serial_master != enrolment.serial_master {
        return mismatch("serial key");
    }
    let key = |der: &[u8]| {
        let certificate = Certificate::from_der(der).ok();
        certificate.map(|certificate| certificate.spki_sha256())
    };
    if key(identity) != key(&enrolment.identity_certificate) {
        return mismatch("identity key");
    }
    let next = key(device_ca);
    if next.is_some()
        && enrolment
            .device_cas
            .iter()
            .any(|ca| key(&ca.certificate) == next)
    {
        return mismatch("device CA key");
    }
    Ok(())
}
