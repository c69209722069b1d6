//! What a trust manifest changes against the one that it follows: every key by its id, as it was and as it will be.

use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::key::thumbprint;
use mintmark_protocol::trust::{HqEncryptionKey, Officer, Role, TrustManifest};
use p256::PublicKey;

use super::{action, key_ids, roles_of};

/// What a manifest changes against the one that it follows.
pub(crate) fn changes(before: &TrustManifest, next: &TrustManifest) -> Vec<String> {
    let mut found = Vec::new();
    for officer in &next.officers {
        match before.officer(&officer.id) {
            None => {
                found.push(format!(
                    "officer {} is new: {}",
                    officer.id,
                    roles_of(officer)
                ));
                found.extend(keys_of(officer));
            }
            Some(was) => found.extend(of_officer(was, officer)),
        }
    }
    for gone in &before.officers {
        if next.officer(&gone.id).is_none() {
            let roles = roles_of(gone);
            found.push(format!(
                "officer {} is no longer listed: {roles} until now",
                gone.id
            ));
            found.extend(keys_of(gone));
        }
    }
    for role in Role::ALL {
        let (was, is) = (before.threshold(role), next.threshold(role));
        if was != is {
            found.push(format!("to {} takes {is} instead of {was}", action(role)));
        }
    }
    if before.hq_name != next.hq_name {
        found.push(format!(
            "the name of headquarters is {} instead of {}",
            next.hq_name, before.hq_name
        ));
    }
    if before.root_certificate != next.root_certificate {
        found.push("the ROOT CERTIFICATE is another, by its SHA-256:".to_owned());
        let digest = |der: &[u8]| vec![Fingerprint::of(der).to_string()];
        let (was, is) = (&before.root_certificate, &next.root_certificate);
        found.extend(instead(&digest(was), &digest(is)));
    }
    let keys = [
        ("dispatch", &before.dispatch_key, &next.dispatch_key),
        ("report", &before.report_key, &next.report_key),
    ];
    for (name, was, is) in keys {
        if was != is {
            found.extend(of_key(name, Some(was), Some(is)));
        }
    }
    let named = |manifest: &TrustManifest, name: &str| {
        let mut keys = manifest.encryption_keys.iter();
        keys.find(|key| key.name.as_str() == name).cloned()
    };
    let kind = |key: &HqEncryptionKey| if key.escrowed { "in escrow" } else { "in use" };
    for is in &next.encryption_keys {
        let was = named(before, is.name.as_str());
        if was.as_ref().is_none_or(|was| was.key != is.key) {
            found.extend(of_key(
                is.name.as_str(),
                was.map(|was| was.key).as_ref(),
                Some(&is.key),
            ));
        } else if was.as_ref().is_some_and(|was| was.escrowed != is.escrowed) {
            found.push(format!("the {} key is {} from now on", is.name, kind(is)));
        }
    }
    for was in &before.encryption_keys {
        if named(next, was.name.as_str()).is_none() {
            found.extend(of_key(was.name.as_str(), Some(&was.key), None));
        }
    }
    if before.dispatch_epoch != next.dispatch_epoch {
        found.push(format!(
            "the dispatch epoch is {} instead of {}",
            next.dispatch_epoch, before.dispatch_epoch
        ));
    }
    let mut lines = vec![format!("Against trust manifest {}:", before.version)];
    if found.is_empty() {
        lines.push("  nothing changes but the dates".to_owned());
    }
    lines.extend(found.into_iter().map(|change| format!("  {change}")));
    lines
}

fn of_officer(was: &Officer, is: &Officer) -> Vec<String> {
    let mut found = Vec::new();
    if was.signing_keys != is.signing_keys {
        found.push(format!("officer {} signs with other keys:", is.id));
        found.extend(instead(
            &key_ids(&was.signing_keys),
            &key_ids(&is.signing_keys),
        ));
    }
    if was.agreement_key != is.agreement_key {
        found.push(format!("officer {} agrees with another key:", is.id));
        let keys = [&was.agreement_key, &is.agreement_key];
        let [was, is] = keys.map(|key| [thumbprint(key).to_string()]);
        found.extend(instead(&was, &is));
    }
    if was.roles != is.roles {
        found.push(format!(
            "officer {} holds {} instead of {}",
            is.id,
            roles_of(is),
            roles_of(was)
        ));
    }
    found
}

fn keys_of(officer: &Officer) -> Vec<String> {
    let signs = key_ids(&officer.signing_keys);
    let signs = signs.iter().map(|id| format!("  signs     {id}"));
    let agrees = thumbprint(&officer.agreement_key);
    signs.chain([format!("  agrees    {agrees}")]).collect()
}

fn of_key(name: &str, was: Option<&PublicKey>, is: Option<&PublicKey>) -> Vec<String> {
    let what = match (was, is) {
        (None, _) => "new",
        (_, None) => "gone",
        _ => "another",
    };
    let ids = |key: Option<&PublicKey>| -> Vec<String> {
        key.iter().map(|key| thumbprint(key).to_string()).collect()
    };
    let mut lines = vec![format!("the {name} key is {what}:")];
    lines.extend(instead(&ids(was), &ids(is)));
    lines
}

fn instead(was: &[String], is: &[String]) -> Vec<String> {
    let before = was.iter().map(|id| format!("  before    {id}"));
    let now = is.iter().map(|id| format!("  now       {id}"));
    before.chain(now).collect()
}
