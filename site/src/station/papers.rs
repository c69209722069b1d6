//! What a vault gave a station: its certificate, and that of the station CA, by which the station knows the vault again.

use std::path::Path;

use mintmark_console::files;
use mintmark_keys::KeyStore;
use mintmark_pki::{CERTIFICATE_FILE_BYTES_MAX, Certificate, Issuer, to_pem};
use p256::PublicKey;
use p256::pkcs8::EncodePublicKey as _;

use crate::failure::{Error, Result};

/// The name under which the station's token keeps them.
const LABEL: &str = "mintmark-station";

const END: &str = "-----END CERTIFICATE-----\n";

/// A station's certificate and the CA of its vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Papers {
    /// The certificate, DER.
    pub(crate) certificate: Vec<u8>,
    /// That of the station CA, DER.
    pub(crate) station_ca: Vec<u8>,
    /// When the certificate begins and ends, Unix seconds.
    pub(crate) validity: (u64, u64),
}

impl Papers {
    /// Reads what `site station approve` wrote, for the station with this key.
    ///
    /// # Errors
    /// STATION-PAPERS-INVALID if it is something else, or for another key.
    pub(crate) fn read(path: &Path, key: &PublicKey) -> Result<Self> {
        let bytes = files::read_limited(path, 2 * CERTIFICATE_FILE_BYTES_MAX as u64)?;
        Self::parse(&bytes, key).map_err(|why| {
            let message = format!("{} is not what lets this station in: {why}", path.display());
            Error::negative("STATION-PAPERS-INVALID", message)
                .hint("give the file that `site station approve` wrote for this very station")
        })
    }

    /// What the token keeps for this key: the newest of them.
    pub(crate) fn kept(store: &dyn KeyStore, key: &PublicKey) -> Result<Option<Self>> {
        let kept = store.data(LABEL)?;
        let kept = kept.iter().filter_map(|bytes| Self::parse(bytes, key).ok());
        Ok(kept.max_by_key(|papers| papers.validity))
    }

    /// Has the token keep them, in the place of earlier ones for the same key.
    ///
    /// # Errors
    /// What the token fails with; not every one keeps such things.
    pub(crate) fn keep(&self, store: &dyn KeyStore, key: &PublicKey) -> Result<()> {
        let kept = store.data(LABEL)?;
        let new = self.to_pem();
        if !kept.iter().any(|bytes| *bytes == new.as_bytes()) {
            store.add_data(LABEL, new.as_bytes())?;
        }
        for earlier in kept.iter().filter(|bytes| **bytes != new.as_bytes()) {
            if Self::parse(earlier, key).is_ok() {
                store.remove_data(LABEL, earlier)?;
            }
        }
        Ok(())
    }

    fn to_pem(&self) -> String {
        [&self.certificate, &self.station_ca]
            .map(|der| to_pem("CERTIFICATE", der))
            .concat()
    }

    fn parse(bytes: &[u8], key: &PublicKey) -> std::result::Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no PEM".to_owned())?;
        let text = text.replace("\r\n", "\n");
        let mut certificates = text
            .split_inclusive(END)
            .map(|pem| Certificate::from_pem_or_der(pem.as_bytes()));
        let (Some(certificate), Some(station_ca), None) = (
            certificates.next(),
            certificates.next(),
            certificates.next(),
        ) else {
            return Err("two certificates were expected".to_owned());
        };
        let certificate = certificate.map_err(|error| error.to_string())?;
        let station_ca = Issuer::try_from(station_ca.map_err(|error| error.to_string())?);
        let station_ca = station_ca.map_err(|error| error.to_string())?;
        certificate
            .verify_issued_by(&station_ca)
            .map_err(|error| error.to_string())?;
        let spki = key.to_public_key_der().map_err(|error| error.to_string())?;
        if certificate.spki_der() != spki.as_bytes() {
            return Err("the certificate is for another key".to_owned());
        }
        Ok(Self {
            validity: (certificate.not_before_unix(), certificate.not_after_unix()),
            certificate: certificate.der().to_vec(),
            station_ca: station_ca.certificate_der().to_vec(),
        })
    }
}
