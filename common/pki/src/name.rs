//! Distinguished names (RFC 5280 section 4.1.2.4), as they are written and as they are read.

use std::fmt;

use crate::Error;
use crate::element::{
    Element, Fault, IA5_STRING, OBJECT_IDENTIFIER, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING,
};
use crate::encoding::Encoder;
use crate::oid;

/// An attribute type that a subject may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttributeType {
    Organization,
    OrganizationalUnit,
    CommonName,
    Country,
    Locality,
    State,
    SerialNumber,
}

impl AttributeType {
    pub(crate) const ALL: [Self; 7] = [
        Self::Organization,
        Self::OrganizationalUnit,
        Self::CommonName,
        Self::Country,
        Self::Locality,
        Self::State,
        Self::SerialNumber,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Organization => "O",
            Self::OrganizationalUnit => "OU",
            Self::CommonName => "CN",
            Self::Country => "C",
            Self::Locality => "L",
            Self::State => "ST",
            Self::SerialNumber => "serialNumber",
        }
    }

    fn id(self) -> &'static [u8] {
        match self {
            Self::Organization => oid::ORGANIZATION,
            Self::OrganizationalUnit => oid::ORGANIZATIONAL_UNIT,
            Self::CommonName => oid::COMMON_NAME,
            Self::Country => oid::COUNTRY,
            Self::Locality => oid::LOCALITY,
            Self::State => oid::STATE,
            Self::SerialNumber => oid::SERIAL_NUMBER,
        }
    }

    /// The upper bounds of RFC 5280 appendix A.1, in characters.
    pub(crate) fn characters_max(self) -> usize {
        match self {
            Self::Organization
            | Self::OrganizationalUnit
            | Self::CommonName
            | Self::SerialNumber => 64,
            Self::Locality | Self::State => 128,
            Self::Country => 2,
        }
    }

    /// RFC 5280 appendix A.1 gives these two no choice of string type.
    fn is_printable(self) -> bool {
        matches!(self, Self::SerialNumber | Self::Country)
    }

    pub(crate) fn invalid(self, reason: impl Into<String>) -> Error {
        Error::SubjectValue {
            attribute: self.name(),
            reason: reason.into(),
        }
    }

    /// Refuses characters that this attribute's string type does not have, and all control characters.
    fn check_characters(self, value: &str) -> Result<(), Error> {
        match value.chars().find(|character| {
            character.is_control() || (self.is_printable() && !is_printable(*character))
        }) {
            None => Ok(()),
            Some(character) => Err(self.invalid(format!(
                "cannot hold the character {}",
                character.escape_default()
            ))),
        }
    }

    /// Everything RFC 5280 demands of a value.
    pub(crate) fn check(self, value: &str) -> Result<(), Error> {
        self.check_characters(value)?;
        let characters = value.chars().count();
        if characters == 0 {
            return Err(self.invalid("is empty"));
        }
        if characters > self.characters_max() {
            return Err(self.invalid(format!(
                "has {characters} characters, and at most {} are allowed",
                self.characters_max()
            )));
        }
        let is_country_code =
            value.len() == 2 && value.chars().all(|letter| letter.is_ascii_uppercase());
        if self == Self::Country && !is_country_code {
            return Err(self.invalid("is not a country code of two capital letters"));
        }
        Ok(())
    }
}

/// The character set of PrintableString (X.680 section 41.4).
fn is_printable(character: char) -> bool {
    character.is_ascii_alphanumeric() || " '()+,-./:=?".contains(character)
}

/// Writes a Name of one attribute per RDN, in this order, after checking every value.
pub(crate) fn encode(attributes: &[(AttributeType, &str)]) -> Result<Vec<u8>, Error> {
    for (attribute, value) in attributes {
        attribute.check(value)?;
    }
    let mut encoder = Encoder::with_capacity(256);
    encoder.nested(SEQUENCE, |name| {
        for (attribute, value) in attributes {
            name.nested(SET, |rdn| {
                rdn.nested(SEQUENCE, |pair| {
                    pair.primitive(OBJECT_IDENTIFIER, attribute.id());
                    let tag = if attribute.is_printable() {
                        PRINTABLE_STRING
                    } else {
                        UTF8_STRING
                    };
                    pair.primitive(tag, value.as_bytes());
                });
            });
        }
    });
    Ok(encoder.finish())
}

/// Writes a value, or the piece of one that starts or ends it, escaped as RFC 4514 section 2.4 has it.
pub(crate) fn write_escaped(
    f: &mut impl fmt::Write,
    text: &str,
    starts: bool,
    ends: bool,
    also: &str,
) -> fmt::Result {
    for (offset, character) in text.char_indices() {
        let is_first = starts && offset == 0;
        let is_last = ends && offset + character.len_utf8() == text.len();
        if "\\\"+,;<>".contains(character)
            || also.contains(character)
            || (character == '#' && is_first)
            || (character == ' ' && (is_first || is_last))
        {
            f.write_char('\\')?;
            f.write_char(character)?;
        } else if character.is_control() {
            for octet in character.encode_utf8(&mut [0; 4]).bytes() {
                write!(f, "\\{octet:02X}")?;
            }
        } else {
            f.write_char(character)?;
        }
    }
    Ok(())
}

/// One attribute of a Name that was read.
pub(crate) struct Attribute<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) value: Element<'a>,
    /// Whether it starts an RDN, or adds to the one before.
    starts_rdn: bool,
}

/// A value, if it is of a string type that is ASCII or UTF-8.
pub(crate) fn text<'a>(value: &Element<'a>) -> Option<&'a str> {
    let text = std::str::from_utf8(value.content()).ok()?;
    let sound = match value.tag {
        UTF8_STRING => true,
        PRINTABLE_STRING => text.chars().all(is_printable),
        IA5_STRING => text.is_ascii(),
        _ => false,
    };
    sound.then_some(text)
}

/// The attributes of a Name, in order (RFC 5280 section 4.1.2.4).
pub(crate) fn attributes<'a>(name: &Element<'a>) -> Result<Vec<Attribute<'a>>, Fault> {
    let mut found = Vec::new();
    let mut rdns = name.inside();
    while !rdns.is_empty() {
        let rdn = rdns.take(SET, "a relative distinguished name must be a set")?;
        let mut pairs = rdn.inside();
        let mut starts_rdn = true;
        if pairs.is_empty() {
            return Err(rdn.fault("a relative distinguished name must not be empty"));
        }
        while !pairs.is_empty() {
            let pair = pairs.take(SEQUENCE, "an attribute must be a sequence")?;
            let mut fields = pair.inside();
            let id = fields.take(OBJECT_IDENTIFIER, "the attribute's type is missing")?;
            let value = fields.any("the attribute's value is missing")?;
            fields.end("something follows the attribute's value")?;
            found.push(Attribute {
                id: id.content(),
                value,
                starts_rdn,
            });
            starts_rdn = false;
        }
    }
    Ok(found)
}

/// The only value of this type in a name, or none.
pub(crate) fn single<'a>(
    attributes: &[Attribute<'a>],
    id: &[u8],
    repeated: &'static str,
) -> Result<Option<Element<'a>>, Fault> {
    let mut of_this_type = attributes.iter().filter(|attribute| attribute.id == id);
    let first = of_this_type.next();
    match of_this_type.next() {
        Some(second) => Err(second.value.fault(repeated)),
        None => Ok(first.map(|attribute| attribute.value)),
    }
}

/// A name for people, in the order and with the escapes of [`crate::SubjectTemplate`]. Values that are no text are shown in
/// hexadecimal after a `#`.
pub(crate) fn display(attributes: &[Attribute<'_>]) -> String {
    use fmt::Write;
    let mut shown = String::new();
    for (index, attribute) in attributes.iter().enumerate() {
        if index > 0 {
            shown.push_str(if attribute.starts_rdn { ", " } else { "+" });
        }
        let known = AttributeType::ALL
            .into_iter()
            .find(|known| known.id() == attribute.id);
        match known {
            Some(known) => shown.push_str(known.name()),
            None => shown.push_str(&oid::dotted(attribute.id)),
        }
        shown.push('=');
        // Writing to a String cannot fail.
        let _ = match text(&attribute.value) {
            Some(value) => write_escaped(&mut shown, value, true, true, ""),
            None => write!(shown, "#{}", oid::hexadecimal(attribute.value.bytes)),
        };
    }
    shown
}
