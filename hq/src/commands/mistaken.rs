//! What somebody may have meant who typed a command of the other tool, or gave a command a file that another one takes.

use std::path::PathBuf;

use mintmark_console::{Failure, Neighbour, files};
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::recognised::{RECOGNISED_BYTES_MAX, Recognised};

use super::{Command, approval, audit, device, entitlement, officer, policy, report, site, trust};

/// The vault's tool, and what it has that this one has not.
pub(super) const NEIGHBOUR: Neighbour = Neighbour {
    tool: "site",
    whose: "a vault, at its site",
    commands: &[
        "issue",
        "request",
        "device scrap",
        "device void",
        "device rework",
        "crl issue",
        "station request",
        "station approve",
        "station list",
        "station revoke",
        "station rotate-tls",
        "serve",
        "log prune",
        "rotate",
        "clock confirm",
    ],
};

/// A file that a command was given, and which files it takes there.
pub(super) type Given = (PathBuf, fn(Recognised) -> bool);

/// The files that a command was given in which one is easily taken for another.
pub(super) fn given(command: &Command) -> Vec<Given> {
    let mut given: Vec<Given> = Vec::new();
    match command {
        Command::Init(init) => given.push((init.escrow_key.clone(), is_public_key)),
        Command::Officer(officer::Officer::Add { request, .. }) => {
            given.push((request.clone(), is_officer_request));
        }
        Command::Trust(trust::Trust::Pin { file, .. }) => given.push((file.clone(), is_trust)),
        Command::Approval(
            approval::Approval::Show { file, .. } | approval::Approval::Sign { file, .. },
        ) => given.push((file.clone(), is_draft)),
        Command::Approval(approval::Approval::Import { path, .. }) => {
            given.push((path.clone(), is_approval));
        }
        Command::Site(
            site::Site::Enrol { asked, .. }
            | site::Site::Rotate { asked, .. }
            | site::Site::Succeed { asked, .. },
        ) => given.push((asked.request.clone(), is_enrolment_request)),
        Command::Policy(policy::Policy::Check { file, .. }) => {
            given.push((file.clone(), is_policy));
        }
        Command::Entitlement(
            entitlement::Entitlement::Draft { policy, .. }
            | entitlement::Entitlement::Amend { policy, .. },
        ) => given.push((policy.clone(), is_policy)),
        Command::Audit(audit::Audit::Grant(grant)) => {
            given.push((grant.auditor.clone(), is_public_key));
        }
        Command::Audit(audit::Audit::Verify { file, .. }) => {
            given.push((file.clone(), is_evidence));
        }
        Command::Report(report::Report::Verify { file, trust, .. }) => {
            given.push((file.clone(), is_report));
            given.push((trust.clone(), is_trust));
        }
        Command::Device(device::Device::Verify {
            file,
            trust,
            status,
            ..
        }) => {
            given.push((file.clone(), is_device));
            given.push((trust.clone(), is_trust));
            given.extend(
                status
                    .clone()
                    .map(|status| (status, is_status as fn(_) -> _)),
            );
        }
        Command::Device(device::Device::Show { device }) => {
            given.push((PathBuf::from(device), is_device));
        }
        _ => {}
    }
    given
}

/// Why it failed, with a word about a file that is none of those that the command takes.
pub(super) fn explain(failure: Failure, given: &[Given]) -> Failure {
    let found = given.iter().find_map(|(path, takes)| {
        let bytes = files::read_limited(path, RECOGNISED_BYTES_MAX as u64).ok()?;
        let correction = Recognised::correction(&bytes, takes)?;
        Some(format!("look at {}: {correction}", path.display()))
    });
    match found {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn is_public_key(found: Recognised) -> bool {
    found == Recognised::PublicKey
}

fn is_officer_request(found: Recognised) -> bool {
    found == Recognised::Message(Kind::OfficerRequest)
}

fn is_enrolment_request(found: Recognised) -> bool {
    found == Recognised::Message(Kind::EnrolmentRequest)
}

/// One that is not approved yet is told by what it lacks.
fn is_trust(found: Recognised) -> bool {
    found == Recognised::Approved(Kind::TrustManifest)
}

fn is_draft(found: Recognised) -> bool {
    matches!(found, Recognised::Draft(_) | Recognised::Approved(_))
}

fn is_approval(found: Recognised) -> bool {
    matches!(found, Recognised::Approved(_))
}

fn is_policy(found: Recognised) -> bool {
    found == Recognised::Policy
}

fn is_evidence(found: Recognised) -> bool {
    matches!(
        found,
        Recognised::Message(Kind::AuditBundle | Kind::AuditGrant)
    )
}

fn is_report(found: Recognised) -> bool {
    found == Recognised::Message(Kind::Report)
}

fn is_status(found: Recognised) -> bool {
    found == Recognised::Message(Kind::Status)
}

fn is_device(found: Recognised) -> bool {
    matches!(
        found,
        Recognised::Message(Kind::Dossier) | Recognised::Certificate
    )
}
