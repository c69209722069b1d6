//! `config.toml` of a home: what `hq init` or `hq trust pin` was told.

use std::path::{Path, PathBuf};

use mintmark_console::{Exit, Failure, files};
use mintmark_keys::KeyUri;
use mintmark_protocol::identifier::Fingerprint;
use p256::PublicKey;
use serde::{Deserialize, Serialize};

use crate::failure;
use crate::record::Record;

const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// Which of HQ's keys stand where.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyUris {
    pub(crate) main: String,
    pub(crate) root: String,
    pub(crate) dispatch: String,
    pub(crate) audit: String,
    /// Audit keys of earlier manifests, and escrow keys that were taken out: what was encrypted to them is read with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) former_audit: Vec<FormerKey>,
    /// Root keys of earlier manifests: what they certified, they revoke.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) former_root: Vec<FormerKey>,
}

impl KeyUris {
    /// Of a home that has none of HQ's keys.
    pub(crate) fn none() -> Self {
        Self {
            main: String::new(),
            root: String::new(),
            dispatch: String::new(),
            audit: String::new(),
            former_audit: Vec::new(),
            former_root: Vec::new(),
        }
    }
}

/// A key that another has taken the place of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FormerKey {
    /// Where it is.
    pub(crate) uri: String,
    /// Its public half: a point as in SEC 1, in hexadecimal.
    pub(crate) public_key: String,
}

impl FormerKey {
    pub(crate) fn new(uri: &str, key: &PublicKey) -> Self {
        Self {
            uri: uri.to_owned(),
            public_key: hex::encode(key.to_sec1_bytes()),
        }
    }

    /// Its public half.
    pub(crate) fn key(&self) -> Result<PublicKey, Failure> {
        hex::decode(&self.public_key)
            .ok()
            .and_then(|bytes| PublicKey::from_sec1_bytes(&bytes).ok())
            .ok_or_else(|| failure::home_corrupt("config.toml: a former key is no P-256 key"))
    }
}

/// Where the keys are that a drafted manifest names. It counts from the day that this manifest is published.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyChange {
    /// Fingerprint of the draft.
    pub(crate) draft: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<Replacement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dispatch: Option<Replacement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audit: Option<Replacement>,
}

/// One key, and the one that it takes the place of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replacement {
    /// Where the new key is.
    pub(crate) uri: String,
    /// The former key's public half, as in [`FormerKey`].
    pub(crate) former: String,
}

impl Replacement {
    pub(crate) fn new(uri: String, former: &PublicKey) -> Self {
        let former = FormerKey::new("", former).public_key;
        Self { uri, former }
    }

    /// Puts the new place where the old one was, which is given back with its key.
    fn apply(&self, uri: &mut String) -> FormerKey {
        FormerKey {
            uri: std::mem::replace(uri, self.uri.clone()),
            public_key: self.former.clone(),
        }
    }
}

impl KeyChange {
    /// Whether it changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none() && self.dispatch.is_none() && self.audit.is_none()
    }

    fn apply(&self, keys: &mut KeyUris) {
        if let Some(root) = &self.root {
            let former = root.apply(&mut keys.root);
            keys.former_root.push(former);
        }
        if let Some(dispatch) = &self.dispatch {
            // What it signed stands; it signs nothing more.
            dispatch.apply(&mut keys.dispatch);
        }
        if let Some(audit) = &self.audit {
            let former = audit.apply(&mut keys.audit);
            keys.former_audit.push(former);
        }
    }
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
    /// What an auditor was granted to see, made by `hq audit verify`.
    Auditor,
}

/// What opens what an auditor was granted to see.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Auditor {
    /// Where the auditor's key is.
    pub(crate) keys: String,
    /// The key that signed the grant: a point as in SEC 1, in hexadecimal.
    pub(crate) report_key: String,
    /// The grant, in this home.
    #[serde(skip)]
    pub(crate) grant: PathBuf,
}

impl Auditor {
    /// The key that signed the grant.
    pub(crate) fn report_key(&self) -> Result<PublicKey, Failure> {
        let bytes = hex::decode(&self.report_key).ok();
        let key = bytes.and_then(|bytes| PublicKey::from_sec1_bytes(&bytes).ok());
        key.ok_or_else(|| failure::home_corrupt("config.toml: the report key is no P-256 key"))
    }
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auditor: Option<Auditor>,
    /// What drafted manifests change of `keys`.
    #[serde(default, rename = "change", skip_serializing_if = "Vec::is_empty")]
    pub(crate) changes: Vec<KeyChange>,
}

impl Config {
    /// Puts into effect what published manifests change, in their order. What is left is of those that are not
    /// published.
    pub(crate) fn settle(&mut self, published: &[Fingerprint]) {
        let Some(keys) = &mut self.keys else { return };
        for fingerprint in published {
            let fingerprint = fingerprint.to_string();
            let taken = self.changes.iter();
            for change in taken.filter(|change| change.draft == fingerprint) {
                change.apply(keys);
            }
            self.changes.retain(|change| change.draft != fingerprint);
        }
    }

    /// Writes it in the place of what is there.
    pub(crate) fn replace(&self, home: &Path) -> Result<(), Failure> {
        Ok(files::write_replace(Self::file(home), &self.to_bytes()?)?)
    }

    pub(crate) fn file(home: &Path) -> PathBuf {
        home.join("config.toml")
    }

    pub(crate) fn read(home: &Path) -> Result<Self, Failure> {
        let bytes = files::read_limited(Self::file(home), CONFIG_BYTES_MAX)?;
        let mut config = Self::parse(&bytes)?;
        if let Some(auditor) = &mut config.auditor {
            auditor.grant = Record::new(home).audit_grant();
        }
        Ok(config)
    }

    /// Reads the text of the file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let text = std::str::from_utf8(bytes).map_err(failure::home_corrupt)?;
        let config: Self = toml::from_str(text).map_err(|error| {
            // What `site init` writes, and this tool never does.
            match toml::from_str::<toml::Table>(text) {
                Ok(table) if table.contains_key("site") && !table.contains_key("role") => {
                    failure::usage(
                        "HOME-OTHER-TOOL",
                        "this is the home of a vault",
                        "use `site` there, or name headquarters' home with --home or HQ_HOME",
                    )
                }
                _ => failure::home_corrupt(format!("config.toml: {error}")),
            }
        })?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use p256::SecretKey;

    use super::*;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_slice(&[seed; 32]).unwrap().public_key()
    }

    fn config(drafts: &[&Fingerprint]) -> Config {
        let uri = |name: &str| format!("file:/{name}");
        let change = |(at, draft): (usize, &&Fingerprint)| KeyChange {
            draft: draft.to_string(),
            root: Some(Replacement::new(uri(&format!("root-{at}")), &key(1))),
            dispatch: Some(Replacement::new(uri(&format!("dispatch-{at}")), &key(2))),
            audit: Some(Replacement::new(uri(&format!("audit-{at}")), &key(3))),
        };
        let text = Config {
            schema: 1,
            role: Role::Hq,
            name: "Acme".to_owned(),
            keys: Some(KeyUris {
                main: uri("main"),
                root: uri("root"),
                dispatch: uri("dispatch"),
                audit: uri("audit"),
                former_audit: Vec::new(),
                former_root: Vec::new(),
            }),
            pin: None,
            auditor: None,
            changes: drafts.iter().enumerate().map(change).collect(),
        };
        // As it is read back from the file.
        toml::from_str(&String::from_utf8(text.to_bytes().unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn the_keys_of_a_draft_count_once_its_manifest_is_published_and_not_before() {
        let [first, second] = ["first", "second"].map(|text| Fingerprint::of(text.as_bytes()));
        let mut settled = config(&[&first, &second]);
        settled.settle(&[]);
        assert_eq!(settled.keys.as_ref().unwrap().dispatch, "file:/dispatch");
        settled.settle(&[Fingerprint::of(b"version 1"), second]);
        let keys = settled.keys.clone().unwrap();
        assert_eq!(keys.dispatch, "file:/dispatch-1");
        assert_eq!(keys.main, "file:/main");
        assert_eq!(keys.former_audit, [FormerKey::new("file:/audit", &key(3))]);
        assert_eq!(keys.former_root, [FormerKey::new("file:/root", &key(1))]);
        assert_eq!(keys.former_root[0].key().unwrap(), key(1));
        // What was given up is left, and settling again changes nothing.
        assert_eq!(settled.changes.len(), 1);
        settled.settle(&[second]);
        assert_eq!(settled.keys.unwrap().former_audit.len(), 1);
    }
}
