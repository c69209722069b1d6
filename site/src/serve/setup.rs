//! `serve.toml` in the home: with which key and under which names the service was started last, so that
//! `site station rotate-tls` need not be told.

use std::path::Path;

use mintmark_console::files;
use mintmark_keys::KeyUri;
use mintmark_pki::ServerName;
use serde::{Deserialize, Serialize};

use crate::failure::{Error, Result};

/// The file.
pub(crate) const SETUP: &str = "serve.toml";

const SCHEMA: u32 = 1;
const SETUP_BYTES_MAX: u64 = 64 * 1024;

/// How the service is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Where its key is; none: in the vault's own key store.
    pub(crate) tls_keys: Option<KeyUri>,
    /// By which names it is reached.
    pub(crate) names: Vec<ServerName>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    schema: u32,
    tls_keys: Option<String>,
    names: Vec<String>,
}

impl Setup {
    /// Puts it into the home.
    ///
    /// # Errors
    /// What the home fails with.
    pub(crate) fn write(&self, home: &Path) -> Result<()> {
        let shape = Shape {
            schema: SCHEMA,
            tls_keys: self.tls_keys.as_ref().map(ToString::to_string),
            names: self.names.iter().map(ToString::to_string).collect(),
        };
        let text = toml::to_string(&shape)
            .map_err(|error| Error::unknown("INTERNAL", "it cannot be written").cause(error))?;
        Ok(files::write_replace(home.join(SETUP), text.as_bytes())?)
    }

    /// What the home says.
    ///
    /// # Errors
    /// SERVE-NEVER-STARTED; CONFIG-INVALID.
    pub(crate) fn read(home: &Path) -> Result<Self> {
        let bytes = match files::read_limited(home.join(SETUP), SETUP_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_missing() => {
                let message = "`site serve` was never started in this home";
                return Err(Error::usage("SERVE-NEVER-STARTED", message)
                    .hint("start it: that makes the service's key and certificate"));
            }
            Err(error) => return Err(error.into()),
        };
        let broken = |why: String| {
            Error::usage(
                "CONFIG-INVALID",
                "serve.toml in the home is not a configuration",
            )
            .cause(why)
            .hint("start `site serve` again with its options, which writes it anew")
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| broken(error.to_string()))?;
        let shape: Shape = toml::from_str(text).map_err(|error| broken(error.to_string()))?;
        if shape.schema != SCHEMA {
            return Err(broken(format!("schema {} is not known here", shape.schema)));
        }
        let keys = shape.tls_keys.map(|keys| keys.parse()).transpose();
        let names: std::result::Result<Vec<ServerName>, _> =
            shape.names.iter().map(|name| name.parse()).collect();
        Ok(Self {
            tls_keys: keys.map_err(|error: mintmark_keys::Error| broken(error.to_string()))?,
            names: names.map_err(|error| broken(error.to_string()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Setup::read(folder.path()).unwrap_err();
        assert_eq!(missing.code(), "SERVE-NEVER-STARTED");
        for keys in [None, Some("file:/keys?pin-source=file:/pin")] {
            let setup = Setup {
                tls_keys: keys.map(|keys| keys.parse().unwrap()),
                names: ["vault.example", "10.0.0.7"]
                    .map(|name| name.parse().unwrap())
                    .to_vec(),
            };
            setup.write(folder.path()).unwrap();
            assert_eq!(Setup::read(folder.path()).unwrap(), setup);
        }
        std::fs::write(folder.path().join(SETUP), "schema = 1\nother = 2\n").unwrap();
        let broken = Setup::read(folder.path()).unwrap_err();
        assert_eq!(broken.code(), "CONFIG-INVALID");
    }
}
