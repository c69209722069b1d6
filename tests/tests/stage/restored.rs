//! The restore of the story: the vault's home is put back from the copy that was made with its first report, and
//! headquarters sends back what it holds beyond that.

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{Fingerprint, Lineage};
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::restore::RestoreDeclaration;

use super::keys::key;
use super::story::{END, HOUR, Log, Told, lineage, manifest_second, salt, vault};

/// What the log goes on in.
pub fn lineage_second() -> Lineage {
    Lineage::new(*b"mintmark-restore")
}

/// What the vault declares: it has as many records as its first report covers, of those that it wrote.
pub fn declaration(records: &[Vec<u8>], size: u64) -> RestoreDeclaration {
    let held = Log::of(&records[..size as usize]).state;
    let whole = Log::of(records).state;
    let leases = (1..=2).filter_map(|number| {
        let account = whole.account(AccountTag::new(number)?)?;
        Some((account.tag, account.next_slot + 2))
    });
    RestoreDeclaration {
        vault: vault(),
        parent: lineage(),
        size,
        root: held.root(),
        lineage: lineage_second(),
        declared_at: END - 2 * HOUR,
        anchor: 7,
        anchored_size: whole.size() + 3,
        leases: leases.collect(),
    }
}

/// Signs it.
pub fn declared(declaration: &RestoreDeclaration) -> Vec<u8> {
    let sign = key("vault-sign");
    declaration.seal(&sign.public, &|m| sign.sign(m)).unwrap()
}

/// What headquarters answers.
pub fn tail(records: &[Vec<u8>], size: u64) -> LogTail {
    let whole = Log::of(records).state;
    let declaration = declaration(records, size);
    LogTail {
        salt: salt("log-tail"),
        vault: vault(),
        declaration: Fingerprint::of(&declaration.to_cbor()),
        part: 1,
        parts: 1,
        log_size: whole.size(),
        log_root: whole.root(),
        first: size,
        records: records[size as usize..].to_vec(),
    }
}

/// Seals it with the dispatch key.
pub fn answered(tail: &LogTail) -> Vec<u8> {
    tail.seal(&manifest_second(), &key("vault-agree").public, &|m| {
        key("dispatch").sign(m)
    })
    .unwrap()
}

/// Both messages, over the log of the story: `size` records are in its first report.
pub fn told(records: &[Vec<u8>], size: u64) -> [Told; 2] {
    let told = |name: &str, about, bytes| Told {
        name: name.to_owned(),
        about,
        bytes,
    };
    [
        told(
            "restore-declaration",
            "the vault's home was put back from the copy that was made with its first report",
            declared(&declaration(records, size)),
        ),
        told(
            "log-tail",
            "answers it with the records of the second report",
            answered(&tail(records, size)),
        ),
    ]
}
