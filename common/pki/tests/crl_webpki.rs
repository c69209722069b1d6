//! Revocation lists as rustls's own verifier sees them, and very long ones.

#![allow(clippy::unwrap_used, clippy::panic)]

mod fixture;

use std::time::Duration;

use fixture::{Authorities, NEW_YEAR, SERIAL, authorities, device, sign, th200};
use mintmark_pki::{Crl, CrlReason, RevokedSerial, assemble_crl, crl_tbs};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, Error, ExpirationPolicy,
    KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
    anchor_from_trusted_cert,
};

const DAY: u64 = 86_400;
const THIS_UPDATE: u64 = NEW_YEAR + 2 * DAY;
const NEXT_UPDATE: u64 = NEW_YEAR + 60 * DAY;

fn revoked(serial: &[u8]) -> RevokedSerial {
    RevokedSerial {
        serial: serial.to_vec(),
        revoked_at_unix: NEW_YEAR + DAY,
        reason: Some(CrlReason::CessationOfOperation),
    }
}

/// The CRL of the device CA, and the root's, which names the device CA or nothing.
fn crls(authorities: &Authorities, entries: &[RevokedSerial], ca: bool) -> [Vec<u8>; 2] {
    let Authorities {
        root,
        root_key,
        ca: device_ca,
        ca_key,
    } = authorities;
    let made = |issuer, key, entries: &[RevokedSerial]| {
        let tbs = crl_tbs(issuer, 7, THIS_UPDATE, NEXT_UPDATE, entries).unwrap();
        assemble_crl(&tbs, &sign(key, &tbs)).unwrap()
    };
    let of_root: Vec<_> = ca
        .then(|| revoked(device_ca.certificate().serial()))
        .into_iter()
        .collect();
    [
        made(device_ca, ca_key, entries),
        made(root, root_key, &of_root),
    ]
}

/// What webpki says of a device, by these CRLs, each of which has to be there, at a time.
fn judged(authorities: &Authorities, crls: &[Vec<u8>; 2], at: u64) -> Result<(), Error> {
    let root = CertificateDer::from(authorities.root.certificate_der());
    let anchors = [anchor_from_trusted_cert(&root).unwrap()];
    let between = [CertificateDer::from(authorities.ca.certificate_der())];
    let device = device(authorities, &th200());
    let device = CertificateDer::from(device.as_slice());
    let crls = crls.each_ref().map(|crl| {
        CertRevocationList::Borrowed(BorrowedCertRevocationList::from_der(crl).unwrap())
    });
    let crls: Vec<_> = crls.iter().collect();
    let revocation = RevocationOptionsBuilder::new(&crls)
        .unwrap()
        .with_depth(RevocationCheckDepth::Chain)
        .with_status_policy(UnknownStatusPolicy::Deny)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build();
    EndEntityCert::try_from(&device)
        .unwrap()
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &between,
            UnixTime::since_unix_epoch(Duration::from_secs(at)),
            KeyUsage::client_auth(),
            Some(revocation),
            None,
        )
        .map(|_| ())
}

#[test]
fn webpki_sees_who_is_revoked_who_is_not_and_which_list_is_out_of_date() {
    let authorities = authorities();
    let other = [revoked(&[5])];
    let at = NEW_YEAR + 30 * DAY;
    let good = crls(&authorities, &other, false);
    assert_eq!(judged(&authorities, &good, at), Ok(()));
    let named = crls(&authorities, &[revoked(&[5]), revoked(&SERIAL)], false);
    assert_eq!(judged(&authorities, &named, at), Err(Error::CertRevoked));
    let ca = crls(&authorities, &other, true);
    assert_eq!(judged(&authorities, &ca, at), Err(Error::CertRevoked));
    assert_eq!(judged(&authorities, &good, NEXT_UPDATE - 1), Ok(()));
    let late = judged(&authorities, &good, NEXT_UPDATE + 1);
    assert!(matches!(late, Err(Error::CrlExpired { .. })), "{late:?}");
    // By another key, under the device CA's name.
    let tbs = crl_tbs(&authorities.ca, 7, THIS_UPDATE, NEXT_UPDATE, &other).unwrap();
    let [_, of_root] = good;
    let forged = assemble_crl(&tbs, &sign(&authorities.root_key, &tbs)).unwrap();
    assert_eq!(
        judged(&authorities, &[forged, of_root], at),
        Err(Error::InvalidCrlSignatureForPublicKey)
    );
}

/// The most memory that this process ever had, in MiB.
fn memory_peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kibibytes.parse::<usize>().unwrap() / 1024
}

/// Makes a CRL of so many entries, has it read and judged, and says what that took.
fn long(count: u64) -> usize {
    let authorities = authorities();
    let mut entries = Vec::new();
    for number in 0..count {
        let mut serial = SERIAL;
        // As random as serial numbers are, and each another one.
        let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        serial[9..].copy_from_slice(&scattered.to_be_bytes());
        entries.push(revoked(&serial));
    }
    let before = memory_peak();
    let [of_ca, of_root] = crls(&authorities, &entries, false);
    let last = entries.swap_remove(0).serial;
    drop(entries);
    let made = memory_peak();
    let read = Crl::from_der(&of_ca, &authorities.ca).unwrap();
    assert_eq!((read.revoked().len() as u64, read.number()), (count, 7));
    assert_eq!(read.next_update_unix(), NEXT_UPDATE);
    assert!(read.entry(&last).is_some() && read.entry(&SERIAL).is_none());
    drop(read);
    let peak = memory_peak();
    let at = NEW_YEAR + 30 * DAY;
    let bytes = of_ca.len();
    assert_eq!(judged(&authorities, &[of_ca, of_root], at), Ok(()));
    println!(
        "{count} entries: {bytes} bytes; peak {before} MiB before, {made} MiB when made, {peak} MiB when read"
    );
    peak
}

#[test]
fn a_list_of_two_hundred_thousand_is_made_read_and_judged() {
    let peak = long(200_000);
    assert!(peak < 160, "{peak} MiB");
}

#[test]
#[ignore = "takes a while"]
fn a_list_of_a_million_is_made_and_read_in_bounded_memory() {
    let peak = long(1_000_000);
    assert!(peak < 512, "{peak} MiB");
}
