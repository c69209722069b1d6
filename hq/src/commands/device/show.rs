//! `hq device show`: from a serial number, a device id, a public key or a certificate to the unit that was spent on it.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure};

use super::tracing::{Traced, Tracing};
use crate::commands::say;
use crate::findings::Finding;
use crate::home::Home;
use crate::keyring::Keyring;

pub(super) fn run(home: Option<&Path>, asked: &str, console: &Console) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let ring = Keyring::new(&home.config, console)?;
    let (traced, by_certificate) = Tracing::new(&home, &registry, &ring)?.asked(asked)?;
    let mut json = traced.last().map(Traced::to_json).unwrap_or_default();
    json["schema"] = "mintmark/device/1".into();
    json["chain"] = by_certificate.then_some("valid").into();
    json["devices"] = traced.iter().map(Traced::to_json).collect();
    let mut lines = Vec::new();
    for traced in &traced {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(traced.lines());
    }
    if by_certificate {
        lines.push("chain        valid".to_owned());
    }
    say(console, &json, lines)?;
    let accused = traced
        .iter()
        .any(|traced| !traced.accounted || traced.findings.iter().any(Finding::counts));
    // A device that was certified again has a good certificate beside the former one.
    let ended = traced
        .last()
        .is_some_and(|newest| newest.revoked || newest.withdrawn.is_some());
    Ok(if accused || ended {
        Exit::Negative
    } else {
        Exit::Done
    })
}
