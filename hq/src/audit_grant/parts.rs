//! The parts of a grant while it is made. What an auditor would not read is not written either.

use std::path::PathBuf;

use mintmark_console::Failure;
use mintmark_protocol::audit_grant::{
    AUDIT_GRANT_TRUST_BYTES_MAX, LISTED_MAX, PARTS_MAX, Part, PartKind,
};
use mintmark_protocol::identifier::Fingerprint;

use super::container::PART_BYTES_MAX;
use crate::failure;

/// Where the bytes of a part are.
pub(super) enum Source {
    /// In the record.
    File(PathBuf),
    /// Here.
    Memory(Vec<u8>),
    /// With the trust manifests.
    Trust,
}

/// The parts so far, each with where it is.
#[derive(Default)]
pub(super) struct Parts(Vec<(Part, Source)>);

impl Parts {
    /// Lists a part.
    pub(super) fn push(
        &mut self,
        kind: PartKind,
        time: u64,
        number: u64,
        (bytes, source): (&[u8], Source),
    ) -> Result<(), Failure> {
        expect_room("parts", self.0.len().saturating_add(1), PARTS_MAX)?;
        let bytes_max = usize::try_from(PART_BYTES_MAX).unwrap_or(usize::MAX);
        expect_room(&format!("bytes in a part ({kind})"), bytes.len(), bytes_max)?;
        let part = Part {
            kind,
            time,
            bytes: bytes.len() as u64,
            digest: Fingerprint::of(bytes),
            number,
        };
        self.0.push((part, source));
        Ok(())
    }

    /// Lists a part that is in no file.
    pub(super) fn memory(
        &mut self,
        kind: PartKind,
        time: u64,
        bytes: Vec<u8>,
    ) -> Result<(), Failure> {
        self.push(kind, time, 0, (&bytes, Source::Memory(Vec::new())))?;
        if let Some((_, source)) = self.0.last_mut() {
            *source = Source::Memory(bytes);
        }
        Ok(())
    }

    /// What a grant lists.
    pub(super) fn listed(&self) -> Vec<Part> {
        self.0.iter().map(|(part, _)| *part).collect()
    }

    pub(super) fn into_iter(self) -> impl ExactSizeIterator<Item = (Part, Source)> {
        self.0.into_iter()
    }
}

/// Refuses vaults and keys that are more than a grant can list.
pub(super) fn expect_listed(vaults: usize, hq_keys: usize) -> Result<(), Failure> {
    expect_room("vaults", vaults, LISTED_MAX)?;
    expect_room("keys of headquarters", hq_keys, LISTED_MAX)
}

/// Refuses trust manifests that are more than a grant can have.
pub(super) fn expect_trust(count: usize, bytes: usize) -> Result<(), Failure> {
    expect_room("trust manifests", count, LISTED_MAX)?;
    expect_room(
        "bytes of trust manifests",
        bytes,
        AUDIT_GRANT_TRUST_BYTES_MAX,
    )
}

fn expect_room(of: &str, found: usize, max: usize) -> Result<(), Failure> {
    if found <= max {
        return Ok(());
    }
    Err(oversize(format!(
        "the grant would have {found} {of}, and {max} is the most"
    )))
}

/// An auditor would not take it.
pub(super) fn oversize(message: String) -> Failure {
    failure::refused(
        "GRANT-OVERSIZE",
        message,
        "nothing was written: grant one site at a time (`--site`), or a period (`--from`, `--to`)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_auditor_would_not_read_is_refused_when_it_is_granted() {
        let code = |result: Result<(), Failure>| result.map_err(|failure| failure.code).err();
        let over = Some("GRANT-OVERSIZE".into());
        let largest = usize::try_from(PART_BYTES_MAX).unwrap();
        let mut parts = Parts::default();
        let report =
            |parts: &mut Parts, bytes| parts.memory(PartKind::Report, 1, vec![b' '; bytes]);
        assert_eq!(code(report(&mut parts, largest)), None);
        assert_eq!(code(report(&mut parts, largest + 1)), over);
        assert_eq!(parts.listed().len(), 1);
        for number in 1..PARTS_MAX {
            let segment = (&b""[..], Source::Trust);
            let pushed = parts.push(PartKind::Segment, 1, number as u64, segment);
            assert_eq!(code(pushed), None);
        }
        assert_eq!(code(report(&mut parts, 1)), over);
        assert_eq!(parts.listed().len(), PARTS_MAX);
        assert_eq!(code(expect_listed(LISTED_MAX, LISTED_MAX)), None);
        assert_eq!(code(expect_listed(LISTED_MAX + 1, 1)), over);
        assert_eq!(code(expect_listed(1, LISTED_MAX + 1)), over);
        let bytes_max = AUDIT_GRANT_TRUST_BYTES_MAX;
        assert_eq!(code(expect_trust(LISTED_MAX, bytes_max)), None);
        assert_eq!(code(expect_trust(LISTED_MAX + 1, 1)), over);
        assert_eq!(code(expect_trust(1, bytes_max + 1)), over);
    }
}
