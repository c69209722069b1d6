//! `config.toml` of a home: what `hq init` or `hq trust pin` was told.

use std::path::{Path, PathBuf};

use mintmark_console::{Exit, Failure, files};
use mintmark_keys::KeyUri;
use serde::{Deserialize, Serialize};

use crate::failure;

const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// Which of HQ's keys stand where.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyUris {
    pub(crate) main: String,
    pub(crate) root: String,
    pub(crate) dispatch: String,
    pub(crate) audit: String,
}

/// The trust manifest that a person compared the fingerprint of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    pub(crate) version: u64,
    pub(crate) fingerprint: String,
}

/// What kind of home this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Headquarters itself, made by `hq init`.
    Hq,
    /// An officer's or auditor's home, made by `hq trust pin`.
    Member,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) schema: u32,
    pub(crate) role: Role,
    /// The name of headquarters.
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keys: Option<KeyUris>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pin: Option<Pin>,
}

impl Config {
    pub(crate) fn file(home: &Path) -> PathBuf {
        home.join("config.toml")
    }

    pub(crate) fn read(home: &Path) -> Result<Self, Failure> {
        let bytes = files::read_limited(Self::file(home), CONFIG_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(failure::home_corrupt)?;
        let config: Self = toml::from_str(&text)
            .map_err(|error| failure::home_corrupt(format!("config.toml: {error}")))?;
        if config.schema != 1 {
            let message = format!(
                "this home has schema {}; this program knows 1",
                config.schema
            );
            return Err(
                Failure::new(Exit::Usage, "HOME-SCHEMA", message).hint("update this program")
            );
        }
        Ok(config)
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Failure> {
        let text = toml::to_string(self).map_err(failure::home_corrupt)?;
        Ok(text.into_bytes())
    }
}

/// A key URI as a command gave it, with paths of files made absolute, since the home will be used from elsewhere.
pub(crate) fn absolute(uri: &KeyUri) -> Result<KeyUri, Failure> {
    uri.absolute().map_err(|error| {
        failure::usage(
            "URI-INVALID",
            format!("`{uri}` names no absolute path"),
            "run this from a folder that exists",
        )
        .cause(error)
    })
}
