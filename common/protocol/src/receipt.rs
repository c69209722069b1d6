//! Receipts of inclusion (RFC 9942, COSE Receipts): that a record is in a vault's log, whose Merkle root is signed.
//!
//! Signed by the report key of HQ, which verified that root when it imported the bundle. The root itself is detached: who
//! verifies a receipt computes it from the record and the path.
//!
//! ```cddl
//! receipt = #6.18([
//!   bstr .cbor receipt-header,
//!   { 396: { -1: [bstr .cbor inclusion-proof] } },    ; verifiable data structure proofs: one of inclusion
//!   nil,                               ; the Merkle root, detached
//!   signature,
//! ])
//! receipt-header = {
//!   1: -7,                             ; ES256
//!   4: key-id,                         ; of the report key
//!   15: { 1: "hq", 2: log-name },      ; CWT claims (RFC 9597): issuer, subject
//!   395: 1,                            ; verifiable data structure: RFC9162_SHA256
//! }
//! log-name = tstr .regexp "vault:[a-z0-9-]{1,32}/[a-z0-9-]{1,32}/[0-9a-f]{32}"
//! inclusion-proof = [
//!   uint,                              ; size of the tree, in records
//!   uint,                              ; index of the record
//!   [*64 digest],                      ; the path from the record to the root
//! ]
//! ```

use ciborium::Value;
use p256::PublicKey;

use crate::Error;
use crate::cbor::{self, Fields, Map};
use crate::envelope::{ES256, Sign, expect_tag, verify_es256};
use crate::identifier::{Fingerprint, KeyId, Lineage, VaultName};
use crate::key::thumbprint;

/// The largest receipt, in bytes.
pub const RECEIPT_BYTES_MAX: usize = 4096;
/// The longest path, in hashes.
const PATH_MAX: usize = 64;
const CWT_CLAIMS: i64 = 15;
/// Verifiable data structure (RFC 9942 section 4).
const VDS: i64 = 395;
/// Verifiable data structure proofs (RFC 9942 section 4).
const VDP: i64 = 396;
const INCLUSION: i64 = -1;
const RFC9162_SHA256: u64 = 1;
const TAG: u64 = 18;
const WHAT: &str = "receipt";

/// The name of one log: whose, and which unbroken history.
pub fn log_name(vault: &VaultName, lineage: &Lineage) -> String {
    format!("vault:{vault}/{lineage}")
}

/// Where in a tree a record is, and what leads from there to the root (RFC 9162 section 2.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// How many records the tree has.
    pub size: u64,
    /// Which of them it is, from 0.
    pub index: u64,
    /// The hashes beside the way up, from the record on.
    pub path: Vec<[u8; 32]>,
}

/// A receipt that was read and not verified.
#[derive(Clone, Debug)]
pub struct Receipt {
    log: String,
    proof: InclusionProof,
    key: KeyId,
    protected: Vec<u8>,
    signature: Vec<u8>,
}

impl Receipt {
    /// Signs that the tree of `log` under `root` holds what the proof leads to it from.
    ///
    /// # Errors
    /// [`Error::KeyOperation`].
    pub fn issue(
        log: &str,
        proof: &InclusionProof,
        root: &Fingerprint,
        (key, sign): (&PublicKey, Sign<'_>),
    ) -> Result<Vec<u8>, Error> {
        let protected = Map::new()
            .with(1, ES256)
            .with(4, thumbprint(key).as_bytes().to_vec())
            .with(CWT_CLAIMS, Map::new().with(1, "hq").with(2, log))
            .with(VDS, RFC9162_SHA256)
            .encode();
        let path = proof.path.iter().map(|hash| Value::Bytes(hash.to_vec()));
        let inclusion = Value::Array(vec![
            proof.size.into(),
            proof.index.into(),
            Value::Array(path.collect()),
        ]);
        let inclusion = Value::Bytes(cbor::encode(&inclusion));
        let proofs = Map::new().with_array(INCLUSION, [inclusion]);
        let signature = sign(&signed(&protected, root)).map_err(Error::KeyOperation)?;
        let parts = vec![
            Value::Bytes(protected),
            Map::new().with(VDP, proofs).value(),
            Value::Null,
            Value::Bytes(signature.to_bytes().to_vec()),
        ];
        Ok(cbor::encode(&Value::Tag(
            TAG,
            Box::new(Value::Array(parts)),
        )))
    }

    /// Reads one strictly.
    ///
    /// # Errors
    /// [`Error::Oversize`], [`Error::Encoding`], [`Error::Shape`], [`Error::Algorithm`].
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let value = cbor::decode(WHAT, bytes, RECEIPT_BYTES_MAX)?;
        expect_tag(WHAT, bytes, crate::envelope::TAG_SIGN1)?;
        let wrong = |why: &str| Error::Shape {
            what: WHAT,
            why: why.to_owned(),
        };
        let Value::Tag(_, structure) = value else {
            return Err(wrong("it is not the COSE structure that its type has"));
        };
        let parts = structure.into_array().ok();
        let parts = parts.and_then(|parts| <[Value; 4]>::try_from(parts).ok());
        let Some(
            [
                Value::Bytes(protected),
                unprotected,
                Value::Null,
                Value::Bytes(signature),
            ],
        ) = parts
        else {
            return Err(wrong("headers, no payload, and a signature were expected"));
        };
        let (key, log) = read_header(&protected)?;
        let proof = read_proofs(unprotected)?;
        Ok(Self {
            log,
            proof,
            key,
            protected,
            signature,
        })
    }

    /// The log that it is of, as [`log_name`] names it.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// The proof: whoever holds the record computes the root from it.
    pub fn proof(&self) -> &InclusionProof {
        &self.proof
    }

    /// Verifies the signature over the root that the proof led to.
    ///
    /// # Errors
    /// [`Error::SignerUnknown`], [`Error::SignatureInvalid`].
    pub fn verify(&self, root: &Fingerprint, key: &PublicKey) -> Result<(), Error> {
        if thumbprint(key) != self.key {
            return Err(Error::SignerUnknown {
                what: WHAT,
                key: self.key.to_string(),
            });
        }
        verify_es256(WHAT, key, &signed(&self.protected, root), &self.signature)
    }
}

/// What is signed (RFC 9052 section 4.4), the root in the place of the payload.
fn signed(protected: &[u8], root: &Fingerprint) -> Vec<u8> {
    cbor::encode(&Value::Array(vec![
        Value::from("Signature1"),
        Value::Bytes(protected.to_vec()),
        Value::Bytes(Vec::new()),
        Value::Bytes(root.as_bytes().to_vec()),
    ]))
}

fn read_header(protected: &[u8]) -> Result<(KeyId, String), Error> {
    let mut header = Fields::decode(WHAT, protected, RECEIPT_BYTES_MAX)?;
    if header.required(1)?.as_integer() != Some(ES256.into()) {
        return Err(Error::Algorithm { what: WHAT });
    }
    let key = header.octets(4)?;
    let mut claims = header.map(CWT_CLAIMS, "claims of a receipt")?;
    if claims.text(1)? != "hq" {
        return Err(claims.wrong(1, "headquarters issues receipts, and nobody else"));
    }
    let log = claims.text(2)?;
    claims.finish()?;
    if header.uint(VDS)? != RFC9162_SHA256 {
        return Err(header.wrong(VDS, "RFC9162_SHA256 was expected"));
    }
    header.finish()?;
    Ok((key, log))
}

fn read_proofs(unprotected: Value) -> Result<InclusionProof, Error> {
    let mut unprotected = Fields::new("unprotected header of a receipt", unprotected)?;
    let mut proofs = unprotected.map(VDP, "proofs of a receipt")?;
    unprotected.finish()?;
    let inclusion = proofs.array(INCLUSION, 1)?.pop();
    let inclusion = inclusion.and_then(|inclusion| inclusion.into_bytes().ok());
    let wrong = proofs.wrong(INCLUSION, "one proof of inclusion was expected");
    proofs.finish()?;
    let Some(inclusion) = inclusion else {
        return Err(wrong);
    };
    let parts = cbor::decode(WHAT, &inclusion, RECEIPT_BYTES_MAX)?;
    let parts = parts.into_array().ok();
    let Some([size, index, path]) = parts.and_then(|parts| <[Value; 3]>::try_from(parts).ok())
    else {
        return Err(wrong);
    };
    let number = |value: &Value| {
        let number = value.as_integer()?;
        u64::try_from(number).ok()
    };
    let hash = |value: Value| <[u8; 32]>::try_from(value.into_bytes().ok()?).ok();
    let path = path.into_array().unwrap_or_default();
    let (steps, path) = (
        path.len(),
        path.into_iter().map(hash).collect::<Option<Vec<_>>>(),
    );
    match (number(&size), number(&index), path) {
        (Some(size), Some(index), Some(path)) if steps <= PATH_MAX && index < size => {
            Ok(InclusionProof { size, index, path })
        }
        _ => Err(wrong),
    }
}
