//! `hq approval show`.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure};
use mintmark_keys::UnparsedKeyUri;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::OfficerId;

use super::{changes, expect_drafted, read, read_by_officer};
use crate::approvals::{Content, amendment, device_ca, words};
use crate::commands::say;
use crate::config::Role as HomeRole;
use crate::home::Home;
use crate::keyring::{self, Keyring};
use crate::{failure, trust};

pub(super) fn show(
    home: Option<&Path>,
    file: &Path,
    officer: Option<(OfficerId, UnparsedKeyUri)>,
    console: &Console,
) -> Result<Exit, Failure> {
    let proposal = read(file)?;
    let context = proposal.context();
    let (content, differences) = if let Some((_, keys)) = officer {
        let store = keyring::open(&keys.parse().map_err(failure::keys)?, console)?;
        let (content, differences) = read_by_officer(home, file, &proposal, &*store)?;
        (Some(content), differences)
    } else if !context.kind.is_encrypted() {
        (Some(Content::read(&proposal, None)?), Vec::new())
    } else {
        match Home::read(home) {
            Ok(home) if home.config.role == HomeRole::Hq => {
                let ring = Keyring::new(&home.config, console)?;
                let audit = ring.audit()?;
                let opener = audit.opener();
                let content = Content::read(&proposal, Some(opener))?;
                let mut differences =
                    amendment::differences(Some(home.folder()), file, &content, opener)?;
                differences.extend(device_ca::known_at_hq(&home.registry()?.sql, &content)?);
                (Some(content), differences)
            }
            _ => {
                console.warn("the content is encrypted: give --officer and --keys to read it");
                (None, Vec::new())
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
