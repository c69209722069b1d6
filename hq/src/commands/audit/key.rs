//! `hq audit key`: the key that an auditor's grant is encrypted to.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure, files};
use mintmark_keys::{KeyUri, Purpose, UnparsedKeyUri};
use mintmark_protocol::key::thumbprint;
use p256::PublicKey;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::json;

use crate::audit_grant::AUDITOR;
use crate::commands::{expect_absent, say};
use crate::{failure, keyring};

pub(super) fn run(
    keys: &UnparsedKeyUri,
    output: &Path,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    expect_absent(output)?;
    files::expect_folder(output)?;
    let uri = keys.parse().map_err(failure::keys)?;
    if dry_run {
        let present = present(&uri, console)?;
        return say_what_would_be(present.as_ref(), output, console);
    }
    let store = keyring::create(&uri, console)?;
    let key = keyring::find_or_generate(&*store, AUDITOR, Purpose::Agree, console)?;
    let pem = key.to_public_key_pem(LineEnding::LF);
    let pem = pem.map_err(failure::home_corrupt)?;
    files::write_public_new(output, pem.as_bytes())?;
    let id = thumbprint(&key);
    let json = json!({
        "schema": "mintmark/audit-key/1",
        "file": output.display().to_string(),
        "key_id": id.to_string(),
        "dry_run": false,
    });
    say(
        console,
        &json,
        [
            format!("file         {}", output.display()),
            format!("key id       {id}"),
            "next: bring the file to headquarters and read out the key id; there: hq audit grant --auditor FILE".to_owned(),
        ],
    )
}

/// The key that is there already. A folder for keys is made with the first one.
fn present(uri: &KeyUri, console: &Console) -> Result<Option<PublicKey>, Failure> {
    match keyring::open(uri, console) {
        Ok(store) => store.find(AUDITOR, Purpose::Agree).map_err(failure::keys),
        Err(failure) if failure.code.as_ref() == "KEY-FOLDER-MISSING" => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn say_what_would_be(
    present: Option<&PublicKey>,
    output: &Path,
    console: &Console,
) -> Result<Exit, Failure> {
    let id = present.map(|key| thumbprint(key).to_string());
    let file = output.display();
    let line = match &id {
        Some(id) => format!("would write the key {id}, which is there already, to {file}"),
        None => format!("would make a key, and write its public half to {file}"),
    };
    let json = json!({
        "schema": "mintmark/audit-key/1",
        "file": file.to_string(),
        "key_id": id,
        "dry_run": true,
    });
    console.note("nothing was changed");
    say(console, &json, [line])
}
