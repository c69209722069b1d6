//! Certificate serial numbers that only HQ and the vault can read.
//!
//! A serial is one AES-256 block behind a fixed positive byte, 17 bytes in all:
//!
//! ```text
//! serial = 0x4d || AES-256(serial key, account tag (6 bytes) || slot (8 bytes) || issue (2 bytes))
//! ```
//!
//! all big-endian. A permutation of distinct blocks gives distinct serials without a counter to keep, and whoever lacks
//! the key learns nothing from two of them, not even which came first. The key is the same at both ends:
//!
//! ```text
//! serial key = HKDF-SHA-256(salt: none, secret: ECDH(serial-master, vault-agree), 32 bytes,
//!                           info: "mintmark serial key v1" || site || 0x00 || vault)
//! ```
//!
//! No message carries it: HQ's token and the vault's derive the ECDH secret, each from its own private key.

use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use hkdf::Hkdf;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::VaultName;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The length of a serial, in bytes.
pub const SERIAL_BYTES: usize = 17;
/// The first byte of every serial: positive, and not zero, so that the length never varies (RFC 5280 section 4.1.2.2).
pub const SERIAL_FIRST_BYTE: u8 = 0x4d;

const INFO: &[u8] = b"mintmark serial key v1";

/// A certificate's serial number.
pub type Serial = [u8; SERIAL_BYTES];

/// Turns account, slot and issue number into a serial and back. It holds a key: it has no `Debug`, and erases itself.
#[derive(Clone)]
pub struct SerialCipher(Aes256);

impl SerialCipher {
    /// With this key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Aes256::new(&(*key).into()))
    }

    /// With the key that the ECDH secret of HQ's `serial-master` and a vault's `vault-agree` gives.
    pub fn derive(shared: &[u8; 32], vault: &VaultName) -> Self {
        Self::new(&Self::derive_key(shared, vault))
    }

    /// Derives a vault's serial key from the ECDH secret that HQ's `serial-master` shares with its `vault-agree`.
    pub fn derive_key(shared: &[u8; 32], vault: &VaultName) -> Zeroizing<[u8; 32]> {
        let mut info = INFO.to_vec();
        info.extend_from_slice(vault.site.as_str().as_bytes());
        info.push(0);
        info.extend_from_slice(vault.vault.as_str().as_bytes());
        let mut key = Zeroizing::new([0; 32]);
        // HKDF-SHA-256 fails only above 255 blocks of 32 bytes (RFC 5869 section 2.3).
        let expanded = Hkdf::<Sha256>::new(None, shared).expand(&info, &mut *key);
        debug_assert!(expanded.is_ok());
        key
    }

    /// The serial of one issue of one slot of one account.
    pub fn serial(&self, account: AccountTag, slot: u64, issue: u16) -> Serial {
        let mut block = [0; 16];
        block[..6].copy_from_slice(&account.number().to_be_bytes()[2..]);
        block[6..14].copy_from_slice(&slot.to_be_bytes());
        block[14..].copy_from_slice(&issue.to_be_bytes());
        let mut block = block.into();
        self.0.encrypt_block(&mut block);
        let mut serial = [SERIAL_FIRST_BYTE; SERIAL_BYTES];
        serial[1..].copy_from_slice(&block);
        serial
    }

    /// What a serial stands for; none if it is no serial of this key's making. A forged serial opens to a random
    /// account tag, slot and issue, which is as good as never inside a quota.
    pub fn open(&self, serial: &[u8]) -> Option<(AccountTag, u64, u16)> {
        let (first, block) = serial.split_first()?;
        if *first != SERIAL_FIRST_BYTE {
            return None;
        }
        let block: [u8; 16] = block.try_into().ok()?;
        let mut block = block.into();
        self.0.decrypt_block(&mut block);
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        let account = AccountTag::new(number(&block[..6]))?;
        let issue = u16::from_be_bytes([block[14], block[15]]);
        Some((account, number(&block[6..14]), issue))
    }
}

/// What is kept of a to-be-signed certificate whose record is pruned: its beginning, from which [`serial_of`] reads the
/// serial.
pub(crate) fn tbs_of(serial: &Serial) -> Vec<u8> {
    // SEQUENCE of [0] EXPLICIT INTEGER 2 and the serial number, an INTEGER of 17 octets.
    let mut tbs = vec![0x30, 24, 0xa0, 0x03, 0x02, 0x01, 0x02, 0x02, 17];
    tbs.extend_from_slice(serial);
    tbs
}

/// The serial number in a to-be-signed device certificate (RFC 5280 section 4.1: version, serial number, ...); none if it
/// is not of our length.
pub fn serial_of(tbs: &[u8]) -> Option<Serial> {
    // SEQUENCE, its length in 1 to 3 octets; [0] EXPLICIT INTEGER 2, as in every certificate of version 3; INTEGER.
    const VERSION_3: &[u8] = &[0xa0, 0x03, 0x02, 0x01, 0x02];
    let rest = tbs.strip_prefix(&[0x30])?;
    let rest = match rest {
        [0x00..=0x7f, ..] => rest.get(1..)?,
        [0x81, ..] => rest.get(2..)?,
        [0x82, ..] => rest.get(3..)?,
        _ => return None,
    };
    let integer = rest.strip_prefix(VERSION_3)?.strip_prefix(&[0x02])?;
    let (length, content) = integer.split_first()?;
    let serial = content.get(..usize::from(*length))?;
    serial.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(number: u64) -> AccountTag {
        AccountTag::new(number).unwrap()
    }

    fn vault(site: &str, vault: &str) -> VaultName {
        VaultName {
            site: site.parse().unwrap(),
            vault: vault.parse().unwrap(),
        }
    }

    #[test]
    fn a_serial_opens_to_what_it_was_made_of() {
        let cipher = SerialCipher::new(&[7; 32]);
        for (account, slot, issue) in [
            (1, 0, 0),
            ((1 << 48) - 1, u64::MAX, u16::MAX),
            (0x0102_0304_0506, 0x0708_090a_0b0c_0d0e, 0x0f10),
        ] {
            let serial = cipher.serial(tag(account), slot, issue);
            assert_eq!(cipher.open(&serial), Some((tag(account), slot, issue)));
        }
    }

    #[test]
    fn a_serial_is_the_aes_256_block_that_the_specification_says() {
        // FIPS 197, appendix C.3: the block 00112233445566778899aabbccddeeff under the key 000102...1f.
        let key: [u8; 32] = std::array::from_fn(|at| at as u8);
        let serial =
            SerialCipher::new(&key).serial(tag(0x0011_2233_4455), 0x6677_8899_aabb_ccdd, 0xeeff);
        assert_eq!(hex::encode(serial), "4d8ea2b7ca516745bfeafc49904b496089");
    }

    #[test]
    fn another_key_another_first_byte_or_another_length_opens_nothing() {
        let cipher = SerialCipher::new(&[7; 32]);
        let serial = cipher.serial(tag(1), 5, 0);
        assert_ne!(
            SerialCipher::new(&[8; 32]).open(&serial),
            Some((tag(1), 5, 0))
        );
        let mut changed = serial;
        changed[0] = 0x4c;
        assert_eq!(cipher.open(&changed), None);
        assert_eq!(cipher.open(&serial[..16]), None);
        assert_eq!(cipher.open(&[]), None);
    }

    #[test]
    fn a_serial_is_read_behind_a_length_of_one_two_or_three_octets() {
        let serial = SerialCipher::new(&[7; 32]).serial(tag(1), 5, 0);
        let behind = |length: &[u8]| {
            let kept = tbs_of(&serial);
            serial_of(&[&[0x30], length, &kept[2..]].concat())
        };
        for length in [&[0x7f][..], &[0x81, 0x80], &[0x82, 0x01, 0x00]] {
            assert_eq!(behind(length), Some(serial), "{length:?}");
        }
        assert_eq!(behind(&[0x83, 0x01, 0x00, 0x00]), None);
    }

    #[test]
    fn each_vault_has_a_serial_key_of_its_own() {
        let serial =
            |site, name| SerialCipher::derive(&[9; 32], &vault(site, name)).serial(tag(1), 0, 0);
        assert_eq!(serial("berlin", "v1"), serial("berlin", "v1"));
        assert_ne!(serial("berlin", "v1"), serial("berlin", "v2"));
        // The separator keeps names from running into one another.
        assert_ne!(serial("berlin", "1v"), serial("berlin1", "v"));
    }
}
