//! The serial ciphers of vaults: what turns a certificate's serial number into account and slot.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use mintmark_console::Failure;
use mintmark_keys::Agreement;
use mintmark_ledger::decide::DeviceRecord;
use mintmark_ledger::serial::SerialCipher;
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::revocation::RevokedDevice;
use zeroize::Zeroizing;

use crate::failure;
use crate::keyring::{Keyring, SERIAL_MASTER};
use crate::registry::vaults::Vault;

/// The ciphers, each derived when it is first needed.
pub(crate) struct Serials<'a> {
    ring: &'a Keyring<'a>,
    master: OnceCell<Arc<dyn Agreement>>,
    ciphers: RefCell<BTreeMap<VaultName, SerialCipher>>,
}

impl<'a> Serials<'a> {
    pub(crate) fn new(ring: &'a Keyring<'a>) -> Self {
        Self {
            ring,
            master: OnceCell::new(),
            ciphers: RefCell::default(),
        }
    }

    /// A vault's serial key, to be given to an auditor.
    pub(crate) fn key_of(&self, vault: &Vault) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let master = self.ring.agreement(SERIAL_MASTER)?;
        let shared = master.agree(&vault.agreement_key).map_err(failure::keys)?;
        Ok(SerialCipher::derive_key(&shared, &vault.name))
    }

    /// A vault's cipher.
    pub(crate) fn of(&self, vault: &Vault) -> Result<SerialCipher, Failure> {
        if let Some(cipher) = self.ciphers.borrow().get(&vault.name) {
            return Ok(cipher.clone());
        }
        if let Some(key) = self.ring.serial_key(&vault.name)? {
            return Ok(SerialCipher::new(&key));
        }
        let master = match self.master.get() {
            Some(master) => master,
            None => {
                let master = self.ring.agreement(SERIAL_MASTER)?;
                self.master.get_or_init(|| master)
            }
        };
        let shared = master.agree(&vault.agreement_key).map_err(failure::keys)?;
        let cipher = SerialCipher::derive(&shared, &vault.name);
        let mut ciphers = self.ciphers.borrow_mut();
        ciphers.insert(vault.name.clone(), cipher.clone());
        Ok(cipher)
    }
}

/// The serial of a unit, hexadecimal.
pub(crate) fn of_unit(cipher: &SerialCipher, unit: &DeviceRecord) -> String {
    hex::encode(cipher.serial(unit.account, unit.slot, unit.issue))
}

/// Refuses an order that names a device by another serial number than that of its place: officers read the one, and what
/// ends would be the other.
pub(crate) fn expect_right(
    cipher: &SerialCipher,
    devices: &[RevokedDevice],
) -> Result<(), Failure> {
    let is_wrong = |device: &&RevokedDevice| {
        let (account, slot, issue) = device.place();
        cipher.serial(account, slot, issue) != device.serial
    };
    match devices.iter().find(is_wrong) {
        None => Ok(()),
        Some(wrong) => Err(failure::refused(
            "REVOCATION-SERIAL",
            format!(
                "the order names the device {} by the serial number {}, which is not that of the unit that it would end",
                wrong.device_id,
                hex::encode(wrong.serial)
            ),
            "find out who drafted it; draft it anew with `hq device revoke`",
        )),
    }
}
