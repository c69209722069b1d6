//! Reading a ledger that is open to write.

use mintmark_pki::assemble;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{DeviceId, EntitlementId, Fingerprint, KeyLabel, Sku};
use p256::ecdsa::Signature;

use super::Ledger;
use super::index::{Places, broken, decode, reserved};
use super::open::position_of;
use crate::entry::{Body, Entry, LogSequence, Reserved};
use crate::error::Error;
use crate::log::Records;
use crate::serial::{Serial, serial_of};

/// One certificate of a device, or the reservation of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceHistory {
    /// The `Reserved` record.
    pub reservation: LogSequence,
    /// When it was reserved, Unix seconds.
    pub reserved_at: u64,
    /// The `Signed` record; none while the reservation is open.
    pub signed: Option<LogSequence>,
    /// The product.
    pub sku: Sku,
    /// The device.
    pub device_id: DeviceId,
    /// SHA-256 of its key's SubjectPublicKeyInfo.
    pub spki_sha256: Fingerprint,
    /// The entitlement that the unit was spent from.
    pub entitlement: EntitlementId,
    /// The account.
    pub account: AccountTag,
    /// The slot.
    pub slot: u64,
    /// The issue number.
    pub issue: u16,
    /// The keys from which the device got a secret each; none of a re-issue that a device CA forced.
    pub keys: Vec<KeyLabel>,
    /// The certificate's serial number.
    pub serial: Option<Serial>,
    /// The certificate, DER; none while the reservation is open, or where it was pruned.
    pub certificate: Option<Vec<u8>>,
    /// Whether its records were pruned: headquarters has the certificate.
    pub pruned: bool,
}

impl Ledger {
    /// The certificate of a reservation, DER; none if it has none, none that is durable, or none any more.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::RecordUnreadable`] and [`Error::Certificate`] if the records cannot be read or are
    /// not what they should be, or if the index could not be brought up to what is durable: the next input tries again.
    pub fn certificate(&self, reservation: LogSequence) -> Result<Option<Vec<u8>>, Error> {
        self.expect_index()?;
        let Some(places) = Places::find(&*self.index, reservation)? else {
            return Ok(None);
        };
        let Some((signed, _)) = places.signed else {
            return Ok(None);
        };
        let record = self.log.read(places.reserved)?;
        let (_, reserved) = reserved(&record)?;
        let answer = self.log.read(signed)?;
        if record.pruned.is_some() || answer.pruned.is_some() {
            return Ok(None);
        }
        let Body::Signed(signed) = decode(&answer)?.body else {
            return Err(
                broken("a position that should be a signature's is another record's").into(),
            );
        };
        if signed.reservation != reservation {
            return Err(broken("a signature's position is that of another reservation's").into());
        }
        certificate(reservation, &reserved.tbs, &signed.signature).map(Some)
    }

    /// Everything that was ever reserved for a device, oldest first within each product; of one product, or of all. Only
    /// what is durable.
    ///
    /// # Errors
    /// As [`Ledger::certificate`].
    pub fn device(
        &self,
        sku: Option<&Sku>,
        device_id: &DeviceId,
    ) -> Result<Vec<DeviceHistory>, Error> {
        self.expect_index()?;
        let mut skus: Vec<&Sku> = match sku {
            Some(sku) => vec![sku],
            None => self.state.accounts().map(|account| &account.sku).collect(),
        };
        skus.sort();
        skus.dedup();
        let mut all = Vec::new();
        for sku in skus {
            for (record, entry) in self.lookup().history(sku, device_id)? {
                let certificate = self.certificate(record.reservation)?;
                // A reservation that is signed has one, unless it was pruned.
                let pruned = record.signed.is_some() && certificate.is_none();
                let found = history(record.reservation, record.signed, sku, &entry, certificate);
                all.extend(found.map(|history| DeviceHistory { pruned, ..history }));
            }
        }
        Ok(all)
    }

    /// Whether the index still answers. Once it does not, only another process gets on.
    ///
    /// # Errors
    /// [`Error::Storage`] with [`StorageError::IndexSilent`](crate::StorageError::IndexSilent).
    pub fn expect_answers(&self) -> Result<(), Error> {
        match self.index.silence() {
            Some(silent) => Err(silent.into()),
            None => Ok(()),
        }
    }

    /// What an index does not know that missed a group cannot be told from what never was.
    fn expect_index(&self) -> Result<(), Error> {
        self.expect_answers()?;
        if self.index_behind {
            return Err(broken(
                "it missed the newest records, and could not be brought up to them",
            )
            .into());
        }
        Ok(())
    }

    /// The newest reservation, as far as it is kept: of one that was pruned, the serial number is.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::RecordUnreadable`] if its record cannot be read or is another.
    pub fn newest_reservation(&self) -> Result<Option<(LogSequence, Reserved)>, Error> {
        let Some(sequence) = self.state.newest_reservation else {
            return Ok(None);
        };
        let record = self.reader(sequence)?.next().transpose()?;
        let record = record.ok_or_else(|| broken("the newest reservation is not in the log"))?;
        Ok(Some((sequence, reserved(&record)?.1)))
    }

    /// The durable records from `from` on, in order, one at a time.
    ///
    /// # Errors
    /// [`Error::Storage`] if the log or the index cannot be read.
    pub fn reader(&self, from: LogSequence) -> Result<Records<'_>, Error> {
        let position = position_of(&*self.index, &*self.log, from)?;
        Ok(self.log.scan(position)?)
    }

    /// The durable entries from `from` on, in order, one at a time.
    ///
    /// # Errors
    /// [`Error::Storage`] if the log or the index cannot be read.
    pub fn entries(&self, from: LogSequence) -> Result<Entries<'_>, Error> {
        Ok(Entries(self.reader(from)?))
    }
}

/// Entries of a log, in order, each with its position.
pub struct Entries<'a>(pub(super) Records<'a>);

impl Iterator for Entries<'_> {
    type Item = Result<(LogSequence, Entry), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.0.next()?;
        Some(
            record
                .map_err(Error::from)
                .and_then(|record| Ok((LogSequence(record.sequence), decode(&record)?))),
        )
    }
}

/// What a `Reserved` entry says about a device.
pub(super) fn history(
    reservation: LogSequence,
    signed: Option<LogSequence>,
    sku: &Sku,
    entry: &Entry,
    certificate: Option<Vec<u8>>,
) -> Option<DeviceHistory> {
    let Body::Reserved(reserved) = &entry.body else {
        return None;
    };
    Some(DeviceHistory {
        reservation,
        reserved_at: entry.time,
        signed,
        sku: sku.clone(),
        device_id: reserved.device_id.clone(),
        spki_sha256: reserved.spki_sha256,
        entitlement: reserved.entitlement.clone(),
        account: reserved.account,
        slot: reserved.slot,
        issue: reserved.issue,
        keys: reserved.keys.clone(),
        serial: serial_of(&reserved.tbs),
        certificate,
        pruned: false,
    })
}

/// Puts a certificate together from what was reserved and what was signed.
pub(super) fn certificate(
    reservation: LogSequence,
    tbs: &[u8],
    signature: &[u8; 64],
) -> Result<Vec<u8>, Error> {
    let wrong = |why: String| Error::Certificate { reservation, why };
    let signature = Signature::from_slice(signature).map_err(|error| wrong(error.to_string()))?;
    assemble(tbs, &signature).map_err(|error| wrong(error.to_string()))
}
