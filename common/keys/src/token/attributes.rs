//! The CKA attributes of our keys: what they are made with, and what is asserted of a key that is found.

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use p256::PublicKey;

use crate::error::Error;
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
        Attribute::Sign(purpose.signs()),
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
        Attribute::Verify(purpose.signs()),
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
    pub(super) fn new(attribute: &'static str, found: impl Into<String>) -> Self {
        Self {
            attribute,
            found: found.into(),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} is {}", self.attribute, self.found)
    }
}

impl Problem {
    /// The error that refuses the key `label`.
    pub(super) fn refusal(self, store: &str, label: &str) -> Error {
        Error::KeyAttributes {
            store: store.into(),
            label: label.into(),
            attribute: self.attribute,
            found: self.found,
        }
    }
}

/// Whether a token may leave an attribute out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    Refused,
    Tolerated,
}

/// An attribute, its name, what it must be, and whether it may be left out.
pub(super) type Demand = (AttributeType, &'static str, bool, Absent);

/// What keeps a private key where it was made.
pub(super) const SECRECY: [Demand; 7] = [
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
];

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
    if class_of(attributes) != Some(ObjectClass::PRIVATE_KEY) {
        return Some(Problem::new("CKA_CLASS", "not that of a private key"));
    }
    if let Some(problem) = curve_problem(attributes) {
        return Some(problem);
    }
    if attributes.contains(&Attribute::AlwaysAuthenticate(true)) {
        return Some(Problem::new(
            "CKA_ALWAYS_AUTHENTICATE",
            "true: the token wants the PIN at every signature, and nobody is there to type it; make a key that wants it \
             once (PIV: --pin-policy once)",
        ));
    }
    flag_problem(attributes, &SECRECY, purpose.as_str())
        .or_else(|| flag_problem(attributes, &usage(purpose), purpose.as_str()))
}

/// What a key for `purpose` does, and what it must not do beside it.
fn usage(purpose: Purpose) -> Vec<Demand> {
    let (sign, agree) = (purpose.signs(), purpose == Purpose::Agree);
    let absent = |wanted: bool| match wanted {
        true => Absent::Refused,
        false => Absent::Tolerated,
    };
    let signs = (AttributeType::Sign, "CKA_SIGN", sign, absent(sign));
    if purpose == Purpose::Authenticate {
        // Other tools allow every use that the token knows, unless they are told not to.
        return vec![signs];
    }
    vec![
        signs,
        (AttributeType::Derive, "CKA_DERIVE", agree, absent(agree)),
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
    ]
}

/// The first flag that is not as demanded of a key to do `what`.
pub(super) fn flag_problem(
    attributes: &[Attribute],
    demands: &[Demand],
    what: &str,
) -> Option<Problem> {
    for &(kind, name, expected, absent) in demands {
        match attributes
            .iter()
            .filter_map(flag_of)
            .find(|(found, _)| *found == kind)
        {
            Some((_, is)) if is == expected => {}
            Some((_, is)) => {
                return Some(Problem::new(
                    name,
                    format!("{is}, and must be {expected} for a key to {what}"),
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
    match key_type_of(attributes) {
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

/// CKA_CLASS.
pub(super) fn class_of(attributes: &[Attribute]) -> Option<ObjectClass> {
    attributes.iter().find_map(|attribute| match attribute {
        Attribute::Class(is) => Some(*is),
        _ => None,
    })
}

/// CKA_KEY_TYPE.
pub(super) fn key_type_of(attributes: &[Attribute]) -> Option<KeyType> {
    attributes.iter().find_map(|attribute| match attribute {
        Attribute::KeyType(is) => Some(*is),
        _ => None,
    })
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
        Attribute::Verify(is) => (AttributeType::Verify, *is),
        Attribute::Encrypt(is) => (AttributeType::Encrypt, *is),
        Attribute::Wrap(is) => (AttributeType::Wrap, *is),
        Attribute::AlwaysAuthenticate(is) => (AttributeType::AlwaysAuthenticate, *is),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use p256::SecretKey;
    use p256::elliptic_curve::sec1::ToSec1Point;

    use super::*;

    /// What a token reports of a proper key.
    fn proper(purpose: Purpose) -> Vec<Attribute> {
        let mut attributes = private_template("label", b"id", purpose, true);
        attributes.extend([
            Attribute::EcParams(P256_PARAMS.into()),
            Attribute::AlwaysSensitive(true),
            Attribute::NeverExtractable(true),
            Attribute::Local(true),
            Attribute::AlwaysAuthenticate(false),
        ]);
        attributes
    }

    /// The key without one attribute, and perhaps with another one in its place.
    fn without(kind: AttributeType, instead: Option<Attribute>) -> Vec<Attribute> {
        let mut attributes = proper(Purpose::Sign);
        attributes.retain(|attribute| attribute.attribute_type() != kind);
        attributes.extend(instead);
        attributes
    }

    #[test]
    fn a_proper_key_has_no_problem_and_its_own_purpose() {
        for purpose in [Purpose::Sign, Purpose::Agree] {
            assert_eq!(problem(&proper(purpose), purpose), None);
            assert_eq!(purpose_of(&proper(purpose)), Some(purpose));
        }
        assert_eq!(
            problem(&proper(Purpose::Sign), Purpose::Agree)
                .unwrap()
                .attribute,
            "CKA_SIGN"
        );
        assert_eq!(
            problem(&proper(Purpose::Agree), Purpose::Sign)
                .unwrap()
                .attribute,
            "CKA_SIGN"
        );
    }

    #[test]
    fn a_key_to_authenticate_with_may_do_more_and_is_as_secret() {
        let strict = private_template("label", b"id", Purpose::Sign, true);
        assert_eq!(
            private_template("label", b"id", Purpose::Authenticate, true),
            strict
        );
        let problem = |attribute: Attribute| {
            let found = problem(
                &without(attribute.attribute_type(), Some(attribute)),
                Purpose::Authenticate,
            );
            found.map(|problem| problem.attribute)
        };
        for tolerated in [
            Attribute::Derive(true),
            Attribute::Decrypt(true),
            Attribute::Unwrap(true),
            Attribute::SignRecover(true),
        ] {
            assert_eq!(problem(tolerated), None);
        }
        for (name, wrong) in [
            ("CKA_TOKEN", Attribute::Token(false)),
            ("CKA_PRIVATE", Attribute::Private(false)),
            ("CKA_SENSITIVE", Attribute::Sensitive(false)),
            ("CKA_ALWAYS_SENSITIVE", Attribute::AlwaysSensitive(false)),
            ("CKA_EXTRACTABLE", Attribute::Extractable(true)),
            ("CKA_NEVER_EXTRACTABLE", Attribute::NeverExtractable(false)),
            ("CKA_LOCAL", Attribute::Local(false)),
            ("CKA_SIGN", Attribute::Sign(false)),
            (
                "CKA_ALWAYS_AUTHENTICATE",
                Attribute::AlwaysAuthenticate(true),
            ),
        ] {
            assert_eq!(problem(wrong), Some(name));
        }
    }

    #[test]
    fn every_wrong_attribute_is_a_problem_of_its_own() {
        for (name, wrong) in [
            ("CKA_CLASS", Attribute::Class(ObjectClass::SECRET_KEY)),
            ("CKA_KEY_TYPE", Attribute::KeyType(KeyType::RSA)),
            (
                "CKA_EC_PARAMS",
                Attribute::EcParams(vec![6, 5, 0x2b, 0x81, 4, 0, 0x22]),
            ),
            ("CKA_TOKEN", Attribute::Token(false)),
            ("CKA_PRIVATE", Attribute::Private(false)),
            ("CKA_SENSITIVE", Attribute::Sensitive(false)),
            ("CKA_ALWAYS_SENSITIVE", Attribute::AlwaysSensitive(false)),
            ("CKA_EXTRACTABLE", Attribute::Extractable(true)),
            ("CKA_NEVER_EXTRACTABLE", Attribute::NeverExtractable(false)),
            ("CKA_LOCAL", Attribute::Local(false)),
            ("CKA_SIGN", Attribute::Sign(false)),
            ("CKA_DERIVE", Attribute::Derive(true)),
            ("CKA_DECRYPT", Attribute::Decrypt(true)),
            ("CKA_UNWRAP", Attribute::Unwrap(true)),
            ("CKA_SIGN_RECOVER", Attribute::SignRecover(true)),
            (
                "CKA_ALWAYS_AUTHENTICATE",
                Attribute::AlwaysAuthenticate(true),
            ),
        ] {
            let attributes = without(wrong.attribute_type(), Some(wrong));
            assert_eq!(problem(&attributes, Purpose::Sign).unwrap().attribute, name);
        }
    }

    #[test]
    fn what_a_token_does_not_report_is_refused_where_secrecy_hangs_on_it() {
        for (kind, tolerated) in [
            (AttributeType::Class, false),
            (AttributeType::KeyType, false),
            (AttributeType::EcParams, false),
            (AttributeType::Token, false),
            (AttributeType::Private, false),
            (AttributeType::Sensitive, false),
            (AttributeType::AlwaysSensitive, false),
            (AttributeType::Extractable, false),
            (AttributeType::NeverExtractable, false),
            (AttributeType::Sign, false),
            (AttributeType::Local, true),
            (AttributeType::Derive, true),
            (AttributeType::Decrypt, true),
            (AttributeType::Unwrap, true),
            (AttributeType::SignRecover, true),
            (AttributeType::AlwaysAuthenticate, true),
        ] {
            let found = problem(&without(kind, None), Purpose::Sign);
            assert_eq!(found.is_none(), tolerated, "{kind:?}: {found:?}");
        }
    }

    #[test]
    fn a_point_is_read_bare_and_wrapped_and_nothing_else_is() {
        let public = SecretKey::from_slice(&[7; 32]).unwrap().public_key();
        let read = |point: &[u8]| {
            public_key(&[
                Attribute::KeyType(KeyType::EC),
                Attribute::EcParams(P256_PARAMS.into()),
                Attribute::EcPoint(point.into()),
            ])
        };
        for compress in [false, true] {
            let point = public.to_sec1_point(compress);
            let bare = point.as_bytes();
            let wrapped = [&[0x04, bare.len() as u8], bare].concat();
            assert_eq!(read(bare).unwrap(), public);
            assert_eq!(read(&wrapped).unwrap(), public);
            assert!(read(&[&wrapped[..], &[0]].concat()).is_err());
            assert!(read(&wrapped[..wrapped.len() - 1]).is_err());
            assert!(read(&bare[1..]).is_err());
        }
        let mut beside = public.to_sec1_point(false).as_bytes().to_vec();
        beside[64] ^= 1;
        for point in [&[][..], &[0], &[4, 0], &beside] {
            assert_eq!(read(point).unwrap_err().attribute, "CKA_EC_POINT");
        }
    }
}
