//! `config.toml` in the home: whose home it is and where its keys are.

use mintmark_keys::KeyUri;
use mintmark_protocol::identifier::{SiteId, VaultId, VaultName};
use serde::{Deserialize, Serialize};

use crate::failure::{Error, Result};

/// The largest configuration file, in bytes. A key URI takes 32 KiB at most.
pub(crate) const CONFIG_BYTES_MAX: u64 = 64 * 1024;
const SCHEMA: u32 = 1;

/// What the operator said at `site init`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Whose home this is. The log says it too, and has the last word.
    pub(crate) vault: VaultName,
    /// The key store, its paths absolute.
    pub(crate) keys: KeyUri,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    schema: u32,
    site: String,
    vault: String,
    keys: String,
}

impl Config {
    /// The file.
    pub(crate) fn to_toml(&self) -> Result<String> {
        let shape = Shape {
            schema: SCHEMA,
            site: self.vault.site.to_string(),
            vault: self.vault.vault.to_string(),
            keys: self.keys.to_string(),
        };
        toml::to_string(&shape).map_err(|error| {
            Error::unknown("INTERNAL", "the configuration cannot be written").cause(error)
        })
    }

    /// Reads the file.
    pub(crate) fn from_toml(bytes: &[u8]) -> Result<Self> {
        let broken = |why: String| {
            Error::usage(
                "CONFIG-INVALID",
                "config.toml in the home is not a configuration",
            )
            .cause(why)
            .hint("correct the file, or put back the one that `site init` made")
        };
        let text = std::str::from_utf8(bytes).map_err(|error| broken(error.to_string()))?;
        let shape: Shape = toml::from_str(text).map_err(|error| {
            // What `hq init` and `hq trust pin` write, and this tool never does.
            match toml::from_str::<toml::Table>(text) {
                Ok(table) if table.contains_key("role") => Error::usage(
                    "HOME-OTHER-TOOL",
                    "this is the home of headquarters, of an officer or of an auditor",
                )
                .hint("use `hq` there, or name the vault's home with --home or SITE_HOME"),
                _ => broken(error.to_string()),
            }
        })?;
        if shape.schema != SCHEMA {
            let why = format!("schema {} is not known here", shape.schema);
            return Err(broken(why).hint("update this program, or use the one that made the home"));
        }
        let site: SiteId = shape
            .site
            .parse()
            .map_err(|error| broken(format!("{error}")))?;
        let vault: VaultId = shape
            .vault
            .parse()
            .map_err(|error| broken(format!("{error}")))?;
        let keys: KeyUri = shape
            .keys
            .parse()
            .map_err(|error| broken(format!("{error}")))?;
        Ok(Self {
            vault: VaultName { site, vault },
            keys,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let (site, vault) = ("berlin".parse().unwrap(), "v1".parse().unwrap());
        let keys = "file:/keys?pin-source=file:/pin".parse().unwrap();
        Config {
            vault: VaultName { site, vault },
            keys,
        }
    }

    #[test]
    fn a_configuration_is_read_back_as_it_was_written() {
        let text = config().to_toml().unwrap();
        assert_eq!(Config::from_toml(text.as_bytes()).unwrap(), config());
    }

    #[test]
    fn an_unknown_field_or_another_schema_is_an_error() {
        let text = config().to_toml().unwrap();
        let unknown = format!("{text}extra = 1\n");
        let newer = text.replace("schema = 1", "schema = 2");
        for bad in [unknown, newer] {
            let error = Config::from_toml(bad.as_bytes()).unwrap_err();
            assert_eq!(error.code(), "CONFIG-INVALID");
        }
    }
}
