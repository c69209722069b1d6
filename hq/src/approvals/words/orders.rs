//! Revocations, clock corrections, re-anchors and successions in words.

use mintmark_console::printable;
use mintmark_console::time::rfc3339;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::{Revocation, Target};
use mintmark_protocol::succession::Succession;

pub(super) fn revocation(revocation: &Revocation) -> Vec<String> {
    let vault = &revocation.vault;
    let mut lines = match &revocation.target {
        Target::Entitlement(id) => vec![
            format!("Revoke entitlement {id} of the vault {vault}, whatever its version, for good."),
            "From its import on the vault makes nothing more of it. What was made stays good.".to_owned(),
        ],
        Target::Vault => vec![
            format!("Disable the vault {vault}: it makes no new devices until its device CA is changed."),
            "What it made stays good.".to_owned(),
        ],
        Target::DeviceCa(fingerprint) => vec![
            format!("REVOKE A DEVICE CA of the vault {vault}, by the SHA-256 of its certificate:"),
            format!("  {fingerprint}"),
            "Every device that it certified is refused from then on; each can be certified again by the vault's next \
             device CA."
                .to_owned(),
        ],
        Target::Devices(devices) => {
            let mut lines = vec![format!(
                "REVOKE {} certificate(s) of devices that the vault {vault} made:",
                devices.len()
            )];
            lines.extend(devices.iter().map(|device| {
                format!(
                    "  {} serial {}",
                    printable(device.device_id.as_str()),
                    hex::encode(device.serial)
                )
            }));
            lines.push("Each is on the vault's next CRL, and refused from then on.".to_owned());
            lines
        }
    };
    lines.extend(rest(
        (revocation.number, "revocation"),
        &revocation.reason,
        (revocation.drafted_at, revocation.approve_until),
    ));
    lines
}

pub(super) fn clock_correction(correction: &ClockCorrection) -> Vec<String> {
    let mut lines = vec![
        format!(
            "Set the newest time of the log of the vault {} to {}, also if that is back.",
            correction.vault,
            rfc3339(correction.time)
        ),
        "The vault follows it only if its own clock is not behind that time.".to_owned(),
    ];
    lines.extend(rest(
        (correction.number, "clock correction"),
        &correction.reason,
        (correction.drafted_at, correction.approve_until),
    ));
    lines
}

pub(super) fn reanchor(reanchor: &Reanchor) -> Vec<String> {
    let mut lines = vec![
        format!(
            "Let the vault {} go on although the anchor in its token is lost or unreadable.",
            reanchor.vault
        ),
        format!(
            "Its log must continue what HQ holds: lineage {}, bundle {}, {} records with the root:",
            reanchor.lineage, reanchor.bundle_sequence, reanchor.log_size
        ),
        format!("  {}", reanchor.log_root),
        "Whoever approves it vouches that no other copy of the vault's home has released certificates that this log does not \
         have: this vault would make those units again."
            .to_owned(),
    ];
    lines.extend(rest(
        (reanchor.number, "re-anchor"),
        &reanchor.reason,
        (reanchor.drafted_at, reanchor.approve_until),
    ));
    lines
}

fn rest((number, what): (u64, &str), reason: &str, (drafted_at, until): (u64, u64)) -> [String; 2] {
    [
        format!("Reason: {reason}."),
        format!(
            "It is {what} {number} of this vault, drafted {}; to be approved before {}.",
            rfc3339(drafted_at),
            rfc3339(until)
        ),
    ]
}

pub(super) fn succession(vault: &VaultName, succession: &Succession) -> Vec<String> {
    let Succession {
        replaces,
        bundle_sequence,
        log_size,
        write_offs,
        ..
    } = succession;
    let mut lines = vec![
        format!(
            "Let the vault {vault} in, IN PLACE OF {}/{replaces}, which gets nothing more from HQ.",
            vault.site
        ),
        match bundle_sequence {
            0 => format!("HQ holds no bundle of {}/{replaces}.", vault.site),
            _ => format!(
                "HQ holds the log of {}/{replaces} up to bundle {bundle_sequence}: {log_size} records.",
                vault.site
            ),
        },
    ];
    if write_offs.is_empty() {
        lines.push("Nothing has to be written off.".to_owned());
    }
    lines.extend(write_offs.iter().map(|off| {
        format!(
            "Written off: {} units of {} in {} (account {}), from slot {} on. Only a new entitlement grants them again.",
            off.units, off.sku, off.entitlement, off.account, off.first_slot
        )
    }));
    lines
}
