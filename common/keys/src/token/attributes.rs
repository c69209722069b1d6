//! The CKA attributes of our keys: what they are made with, and what is asserted of a key that is found.

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use p256::PublicKey;

use crate::store::Purpose;

/// CKA_EC_PARAMS of P-256: the object identifier 1.2.840.10045.3.1.7 in DER (RFC 5480 section 2.1.1.1).
pub(super) const P256_PARAMS: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// What is read of a private key.
pub(super) const PRIVATE_KEY: &[AttributeType] = &[
    AttributeType::Class,
    AttributeType::KeyType,
    AttributeType::EcParams,
    AttributeType::Id,
    AttributeType::Token,
    AttributeType::Private,
    AttributeType::Sensitive,
    AttributeType::AlwaysSensitive,
    AttributeType::NeverExtractable,
    AttributeType::Extractable,
    AttributeType::Local,
    AttributeType::Sign,
    AttributeType::Derive,
    AttributeType::Decrypt,
    AttributeType::Unwrap,
    AttributeType::SignRecover,
    AttributeType::AlwaysAuthenticate,
];

/// What is read of a public key.
pub(super) const PUBLIC_KEY: &[AttributeType] = &[
    AttributeType::KeyType,
    AttributeType::EcParams,
    AttributeType::EcPoint,
];

/// The private key's template. Every usage is stated, since tokens differ in what they assume.
pub(super) fn private_template(
    label: &str,
    id: &[u8],
    purpose: Purpose,
    token: bool,
) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::EC),
        Attribute::Token(token),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(purpose == Purpose::Sign),
        Attribute::Derive(purpose == Purpose::Agree),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::SignRecover(false),
        Attribute::Label(label.into()),
        Attribute::Id(id.into()),
    ]
}

/// The public key's template.
pub(super) fn public_template(
    label: &str,
    id: &[u8],
    purpose: Purpose,
    token: bool,
) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::EC),
        Attribute::EcParams(P256_PARAMS.into()),
        Attribute::Token(token),
        Attribute::Private(false),
        Attribute::Verify(purpose == Purpose::Sign),
        Attribute::Derive(purpose == Purpose::Agree),
        Attribute::Encrypt(false),
        Attribute::Wrap(false),
        Attribute::VerifyRecover(false),
        Attribute::Label(label.into()),
        Attribute::Id(id.into()),
    ]
}

/// Why a key must not be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) attribute: &'static str,
    pub(super) found: String,
}

impl Problem {
    fn new(attribute: &'static str, found: impl Into<String>) -> Self {
        Self {
            attribute,
            found: found.into(),
        }
    }
}

/// Whether a token may leave an attribute out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Refused,
    Tolerated,
}

/// The purpose that a private key was made for, if it has exactly one.
pub(super) fn purpose_of(attributes: &[Attribute]) -> Option<Purpose> {
    let flag = |wanted| {
        attributes
            .iter()
            .filter_map(flag_of)
            .find(|(kind, _)| *kind == wanted)
            .is_some_and(|(_, is)| is)
    };
    match (flag(AttributeType::Sign), flag(AttributeType::Derive)) {
        (true, false) => Some(Purpose::Sign),
        (false, true) => Some(Purpose::Agree),
        _ => None,
    }
}

/// The first thing that forbids to use a private key for `purpose`. An attribute that the token does not report counts
/// as wrong where secrecy hangs on it.
pub(super) fn problem(attributes: &[Attribute], purpose: Purpose) -> Option<Problem> {
    match attributes.iter().find_map(|attribute| {
        if let Attribute::Class(is) = attribute {
            Some(*is)
        } else {
            None
        }
    }) {
        Some(ObjectClass::PRIVATE_KEY) => {}
        _ => return Some(Problem::new("CKA_CLASS", "not that of a private key")),
    }
    if let Some(problem) = curve_problem(attributes) {
        return Some(problem);
    }
    let (sign, agree) = (purpose == Purpose::Sign, purpose == Purpose::Agree);
    let absent_usage = |wanted: bool| {
        if wanted {
            Absent::Refused
        } else {
            Absent::Tolerated
        }
    };
    for (kind, name, expected, absent) in [
        (AttributeType::Token, "CKA_TOKEN", true, Absent::Refused),
        (AttributeType::Private, "CKA_PRIVATE", true, Absent::Refused),
        (
            AttributeType::Sensitive,
            "CKA_SENSITIVE",
            true,
            Absent::Refused,
        ),
        (
            AttributeType::AlwaysSensitive,
            "CKA_ALWAYS_SENSITIVE",
            true,
            Absent::Refused,
        ),
        (
            AttributeType::Extractable,
            "CKA_EXTRACTABLE",
            false,
            Absent::Refused,
        ),
        (
            AttributeType::NeverExtractable,
            "CKA_NEVER_EXTRACTABLE",
            true,
            Absent::Refused,
        ),
        (AttributeType::Local, "CKA_LOCAL", true, Absent::Tolerated),
        (AttributeType::Sign, "CKA_SIGN", sign, absent_usage(sign)),
        (
            AttributeType::Derive,
            "CKA_DERIVE",
            agree,
            absent_usage(agree),
        ),
        (
            AttributeType::Decrypt,
            "CKA_DECRYPT",
            false,
            Absent::Tolerated,
        ),
        (
            AttributeType::Unwrap,
            "CKA_UNWRAP",
            false,
            Absent::Tolerated,
        ),
        (
            AttributeType::SignRecover,
            "CKA_SIGN_RECOVER",
            false,
            Absent::Tolerated,
        ),
        // Such a key wants the PIN at every use, which no unattended vault can give.
        (
            AttributeType::AlwaysAuthenticate,
            "CKA_ALWAYS_AUTHENTICATE",
            false,
            Absent::Tolerated,
        ),
    ] {
        match attributes
            .iter()
            .filter_map(flag_of)
            .find(|(found, _)| *found == kind)
        {
            Some((_, is)) if is == expected => {}
            Some((_, is)) => {
                return Some(Problem::new(
                    name,
                    format!("{is}, and must be {expected} for a key to {purpose}"),
                ));
            }
            None if absent == Absent::Tolerated => {}
            None => {
                return Some(Problem::new(
                    name,
                    format!("not reported by the token, and must be {expected}"),
                ));
            }
        }
    }
    None
}

fn curve_problem(attributes: &[Attribute]) -> Option<Problem> {
    match attributes.iter().find_map(|attribute| {
        if let Attribute::KeyType(is) = attribute {
            Some(*is)
        } else {
            None
        }
    }) {
        Some(KeyType::EC) => {}
        Some(other) => {
            return Some(Problem::new(
                "CKA_KEY_TYPE",
                format!("{other}, and must be CKK_EC"),
            ));
        }
        None => {
            return Some(Problem::new(
                "CKA_KEY_TYPE",
                "not reported by the token, and must be CKK_EC",
            ));
        }
    }
    match attributes.iter().find_map(|attribute| {
        if let Attribute::EcParams(is) = attribute {
            Some(is)
        } else {
            None
        }
    }) {
        Some(params) if params == P256_PARAMS => None,
        Some(params) => {
            let shown: String = hex::encode(params).chars().take(64).collect();
            Some(Problem::new(
                "CKA_EC_PARAMS",
                format!("{shown}, and must be the identifier of P-256"),
            ))
        }
        None => Some(Problem::new(
            "CKA_EC_PARAMS",
            "not reported by the token, and must be the identifier of P-256",
        )),
    }
}

/// CKA_ID, which ties a public key to its private key.
pub(super) fn id_of(attributes: &[Attribute]) -> Option<&[u8]> {
    attributes.iter().find_map(|attribute| {
        if let Attribute::Id(id) = attribute {
            Some(id.as_slice())
        } else {
            None
        }
    })
}

/// The point of a public key object.
pub(super) fn public_key(attributes: &[Attribute]) -> Result<PublicKey, Problem> {
    if let Some(problem) = curve_problem(attributes) {
        return Err(problem);
    }
    let point = attributes
        .iter()
        .find_map(|attribute| {
            if let Attribute::EcPoint(point) = attribute {
                Some(point.as_slice())
            } else {
                None
            }
        })
        .ok_or_else(|| Problem::new("CKA_EC_POINT", "not reported by the token"))?;
    // PKCS #11 asks for the DER OCTET STRING; some tokens give the bare point (RFC 5480 section 2.2). The lengths tell.
    let bare = match point {
        [0x04, length, bare @ ..]
            if usize::from(*length) == bare.len() && matches!(bare.len(), 33 | 65) =>
        {
            bare
        }
        bare => bare,
    };
    PublicKey::from_sec1_bytes(bare).map_err(|_| Problem::new("CKA_EC_POINT", "no point of P-256"))
}

fn flag_of(attribute: &Attribute) -> Option<(AttributeType, bool)> {
    Some(match attribute {
        Attribute::Token(is) => (AttributeType::Token, *is),
        Attribute::Private(is) => (AttributeType::Private, *is),
        Attribute::Sensitive(is) => (AttributeType::Sensitive, *is),
        Attribute::AlwaysSensitive(is) => (AttributeType::AlwaysSensitive, *is),
        Attribute::Extractable(is) => (AttributeType::Extractable, *is),
        Attribute::NeverExtractable(is) => (AttributeType::NeverExtractable, *is),
        Attribute::Local(is) => (AttributeType::Local, *is),
        Attribute::Sign(is) => (AttributeType::Sign, *is),
        Attribute::Derive(is) => (AttributeType::Derive, *is),
        Attribute::Decrypt(is) => (AttributeType::Decrypt, *is),
        Attribute::Unwrap(is) => (AttributeType::Unwrap, *is),
        Attribute::SignRecover(is) => (AttributeType::SignRecover, *is),
        Attribute::AlwaysAuthenticate(is) => (AttributeType::AlwaysAuthenticate, *is),
        _ => return None,
    })
}
