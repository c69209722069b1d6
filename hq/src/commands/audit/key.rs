//! `hq audit key`: the key that an auditor's grant is encrypted to.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure, files};
use mintmark_keys::{Purpose, UnparsedKeyUri};
use mintmark_protocol::key::thumbprint;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::json;

use crate::audit_grant::AUDITOR;
use crate::commands::{expect_absent, say};
use crate::{failure, keyring};

pub(super) fn run(
    keys: &UnparsedKeyUri,
    output: &Path,
    console: &Console,
) -> Result<Exit, Failure> {
    expect_absent(output)?;
    let uri = keys.parse().map_err(failure::keys)?;
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
