//! `hq approval show`.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure};
use mintmark_keys::UnparsedKeyUri;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::OfficerId;

use super::{changes, expect_drafted, not_for_officer, read};
use crate::approvals::{Content, amendment, device_ca, words};
use crate::commands::say;
use crate::config::Role as HomeRole;
use crate::home::Home;
use crate::keyring::{self, Keyring, OFFICER_AGREE};
use crate::{failure, trust};

pub(super) fn show(
    home: Option<&Path>,
    file: &Path,
    officer: Option<(OfficerId, UnparsedKeyUri)>,
    console: &Console,
) -> Result<Exit, Failure> {
    let proposal = read(file)?;
    let context = proposal.context();
    let mut differences = Vec::new();
    let content = if let Some((_, keys)) = officer {
        let store = keyring::open(&keys.parse().map_err(failure::keys)?, console)?;
        let key = store.agreement(OFFICER_AGREE).map_err(failure::keys)?;
        let agree = keyring::agree(&*key);
        let opener = Opener {
            public_key: key.public_key(),
            agree: &agree,
            former: None,
        };
        let content = Content::read(&proposal, Some(opener)).map_err(not_for_officer)?;
        differences = amendment::differences(home, file, &content, opener)?;
        differences.extend(device_ca::unknown_here(&content));
        Some(content)
    } else if !context.kind.is_encrypted() {
        Some(Content::read(&proposal, None)?)
    } else {
        match Home::read(home) {
            Ok(home) if home.config.role == HomeRole::Hq => {
                let ring = Keyring::new(&home.config, console)?;
                let audit = ring.audit()?;
                let opener = audit.opener();
                let content = Content::read(&proposal, Some(opener))?;
                differences = amendment::differences(Some(home.folder()), file, &content, opener)?;
                differences.extend(device_ca::known_at_hq(&home.registry()?.sql, &content)?);
                Some(content)
            }
            _ => {
                console.warn("the content is encrypted: give --officer and --keys to read it");
                None
            }
        }
    };
    // What bears approvals is judged by them; what bears none is a draft.
    let knows = || Home::read(home).is_ok();
    let is_trust = context.kind == Kind::TrustManifest;
    let mut words = content.as_ref().map(words::describe).unwrap_or_default();
    if proposal.signature_count() == 0 && (is_trust || knows()) {
        expect_drafted(home, &proposal)?;
    } else {
        words.push("WHO WROTE THIS WAS NOT VERIFIED.".to_owned());
    }
    words.extend(differences);
    if let (Some(content), Some(_)) = (&content, home)
        && let Ok(home) = Home::read(home)
    {
        words.extend(changes(content, trust::newest(&home)?.as_ref()));
    }
    let json = serde_json::json!({
        "schema": "mintmark/approval/1",
        "id": context.id,
        "type": context.kind.as_str(),
        "sender": context.sender.to_string(),
        "recipient": context.recipient.to_string(),
        "fingerprint": proposal.fingerprint().to_string(),
        "signatures": proposal.signature_count(),
        "words": words,
    });
    let mut lines = words;
    lines.push(format!("type         {}", context.kind));
    lines.push(format!("id           {}", context.id));
    lines.push(format!(
        "from, for    {}, {}",
        context.sender, context.recipient
    ));
    lines.push(format!("fingerprint  {}", proposal.fingerprint()));
    lines.push(format!(
        "signatures   {} (not verified)",
        proposal.signature_count()
    ));
    say(console, &json, lines)
}
