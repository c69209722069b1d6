//! Distinguished names: the templates that policies write, and names as read from requests and certificates.

use std::fmt;
use std::str::FromStr;

use der::Decode;
use x509_cert::name::Name;

use crate::Error;
use crate::element::{
    Element, Fault, IA5_STRING, OBJECT_IDENTIFIER, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING,
};
use crate::encoding::Encoder;
use crate::oid;

/// Longest subject template that is read, in bytes.
pub const SUBJECT_TEMPLATE_BYTES_MAX: usize = 1024;
/// Most attributes a subject template may have.
pub const SUBJECT_ATTRIBUTES_MAX: usize = 16;

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
    const ALL: [Self; 7] = [
        Self::Organization,
        Self::OrganizationalUnit,
        Self::CommonName,
        Self::Country,
        Self::Locality,
        Self::State,
        Self::SerialNumber,
    ];

    fn name(self) -> &'static str {
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

    fn invalid(self, reason: impl Into<String>) -> Error {
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
    fn check(self, value: &str) -> Result<(), Error> {
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

/// A piece of a value in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    DeviceId,
    Sku,
    Site,
}

/// The subject of device certificates as a policy writes it: `O=Acme, OU=TH-200, serialNumber={device_id}`.
///
/// One attribute per RDN, separated by commas, written in the order in which they stand in the certificate. The
/// attribute types are O, OU, CN, C, L, ST and serialNumber. A backslash escapes as in RFC 4514 section 2.4, and also
/// a brace. `{device_id}`, `{sku}` and `{site}` are replaced after parsing, so that no identifier, whatever it
/// contains, can become more than the value it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectTemplate {
    attributes: Vec<(AttributeType, Vec<Part>)>,
}

impl SubjectTemplate {
    /// Whether `{device_id}` occurs in it. Where it does not, all devices have one name.
    pub fn names_device(&self) -> bool {
        self.attributes
            .iter()
            .any(|(_, parts)| parts.contains(&Part::DeviceId))
    }

    /// The subject of one device.
    ///
    /// # Errors
    /// `SUBJECT-VALUE-INVALID` if a value is empty, too long (RFC 5280 appendix A.1), or has characters that its
    /// attribute cannot hold.
    pub fn render(&self, device_id: &str, sku: &str, site: &str) -> Result<Name, Error> {
        let der = self.render_der(device_id, sku, site)?;
        Name::from_der(&der).map_err(|_| Error::SubjectValue {
            attribute: "name",
            reason: "cannot be written".to_owned(),
        })
    }

    /// The subject of one device, as DER.
    pub(crate) fn render_der(
        &self,
        device_id: &str,
        sku: &str,
        site: &str,
    ) -> Result<Vec<u8>, Error> {
        let values: Vec<(AttributeType, String)> = self
            .attributes
            .iter()
            .map(|(attribute, parts)| {
                let value = parts
                    .iter()
                    .map(|part| match part {
                        Part::Literal(text) => text.as_str(),
                        Part::DeviceId => device_id,
                        Part::Sku => sku,
                        Part::Site => site,
                    })
                    .collect();
                (*attribute, value)
            })
            .collect();
        let attributes: Vec<(AttributeType, &str)> = values
            .iter()
            .map(|(attribute, value)| (*attribute, value.as_str()))
            .collect();
        encode(&attributes)
    }
}

impl FromStr for SubjectTemplate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        TemplateParser { text, at: 0 }.template()
    }
}

/// Walks a template from left to right.
struct TemplateParser<'a> {
    text: &'a str,
    at: usize,
}

impl TemplateParser<'_> {
    fn invalid(&self, position: usize, reason: impl Into<String>) -> Error {
        Error::SubjectTemplate {
            position,
            reason: reason.into(),
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.rest().chars().next()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn skip_spaces(&mut self) {
        while self.rest().starts_with(' ') {
            self.at += 1;
        }
    }

    fn template(mut self) -> Result<SubjectTemplate, Error> {
        if self.text.len() > SUBJECT_TEMPLATE_BYTES_MAX {
            return Err(self.invalid(
                SUBJECT_TEMPLATE_BYTES_MAX,
                format!("it is longer than {SUBJECT_TEMPLATE_BYTES_MAX} bytes"),
            ));
        }
        let mut attributes: Vec<(AttributeType, Vec<Part>)> = Vec::new();
        loop {
            self.skip_spaces();
            let start = self.at;
            let attribute = self.attribute_type()?;
            if attribute != AttributeType::OrganizationalUnit
                && attributes.iter().any(|(other, _)| *other == attribute)
            {
                return Err(self.invalid(start, format!("{} occurs twice", attribute.name())));
            }
            let parts = self.value()?;
            check_parts(attribute, &parts)
                .map_err(|error| self.invalid(start, error.to_string()))?;
            attributes.push((attribute, parts));
            if attributes.len() > SUBJECT_ATTRIBUTES_MAX {
                return Err(self.invalid(
                    start,
                    format!("it has more than {SUBJECT_ATTRIBUTES_MAX} attributes"),
                ));
            }
            // `value` stops at a comma or at the end.
            if self.next().is_none() {
                return Ok(SubjectTemplate { attributes });
            }
        }
    }

    fn attribute_type(&mut self) -> Result<AttributeType, Error> {
        let start = self.at;
        let Some(length) = self.rest().find('=') else {
            return Err(self.invalid(start, "an attribute like `O=` is expected here"));
        };
        let name = self.rest().get(..length).unwrap_or_default().trim_end();
        let attribute = AttributeType::ALL
            .into_iter()
            .find(|attribute| attribute.name().eq_ignore_ascii_case(name));
        let Some(attribute) = attribute else {
            let name: String = name.escape_default().take(32).collect();
            return Err(self.invalid(
                start,
                format!("`{name}` is not one of O, OU, CN, C, L, ST, serialNumber"),
            ));
        };
        self.at += length + 1;
        Ok(attribute)
    }

    fn value(&mut self) -> Result<Vec<Part>, Error> {
        self.skip_spaces();
        let mut parts = Vec::new();
        let mut literal: Vec<u8> = Vec::new();
        // Spaces before the comma are not part of the value, unless escaped.
        let mut spaces_kept = 0;
        let literal_start = self.at;
        loop {
            let position = self.at;
            if self.rest().is_empty() || self.rest().starts_with(',') {
                break;
            }
            match self.next() {
                Some('\\') => {
                    literal.push(self.escaped(position)?);
                    spaces_kept = literal.len();
                }
                Some('{') => {
                    let part = self.placeholder(position)?;
                    self.close(&mut parts, &mut literal, position)?;
                    parts.push(part);
                    spaces_kept = 0;
                }
                Some('#') if position == literal_start => {
                    return Err(self.invalid(position, "a value cannot start with #; write \\#"));
                }
                Some(special @ ('+' | ';' | '<' | '>' | '"' | '}')) => {
                    return Err(self.invalid(
                        position,
                        format!("{special} has a meaning of its own here; write \\{special}"),
                    ));
                }
                Some(character) => {
                    literal.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    if character != ' ' {
                        spaces_kept = literal.len();
                    }
                }
                None => break,
            }
        }
        literal.truncate(spaces_kept);
        self.close(&mut parts, &mut literal, literal_start)?;
        Ok(parts)
    }

    fn close(
        &self,
        parts: &mut Vec<Part>,
        literal: &mut Vec<u8>,
        position: usize,
    ) -> Result<(), Error> {
        if !literal.is_empty() {
            let text = String::from_utf8(std::mem::take(literal))
                .map_err(|_| self.invalid(position, "the escaped bytes are not UTF-8"))?;
            parts.push(Part::Literal(text));
        }
        Ok(())
    }

    /// What follows a backslash: a special character or two hexadecimal digits (RFC 4514 section 3).
    fn escaped(&mut self, position: usize) -> Result<u8, Error> {
        let reason = "a backslash stands before one of \\ \" # + , ; < = > { } space, or two hexadecimal digits";
        let invalid = || Error::SubjectTemplate {
            position,
            reason: reason.to_owned(),
        };
        let character = self.next().ok_or_else(invalid)?;
        if "\\\"#+,;<=>{} ".contains(character) {
            return u8::try_from(character).map_err(|_| invalid());
        }
        let high = character.to_digit(16);
        let low = self.next().and_then(|character| character.to_digit(16));
        match (high, low) {
            (Some(high), Some(low)) => u8::try_from(high * 16 + low).map_err(|_| invalid()),
            _ => Err(invalid()),
        }
    }

    fn placeholder(&mut self, position: usize) -> Result<Part, Error> {
        for (name, part) in [
            ("device_id}", Part::DeviceId),
            ("sku}", Part::Sku),
            ("site}", Part::Site),
        ] {
            if self.rest().starts_with(name) {
                self.at += name.len();
                return Ok(part);
            }
        }
        Err(self.invalid(
            position,
            "a brace opens one of {device_id}, {sku}, {site}; write \\{ for the character",
        ))
    }
}

/// What can be known about a value before its placeholders are filled.
fn check_parts(attribute: AttributeType, parts: &[Part]) -> Result<(), Error> {
    let mut literals = String::new();
    for part in parts {
        match part {
            Part::Literal(text) => literals.push_str(text),
            // Identifiers have at least one character each; the shortest stands for them.
            Part::DeviceId | Part::Sku | Part::Site if attribute == AttributeType::Country => {
                return Err(attribute.invalid("cannot be a placeholder"));
            }
            Part::DeviceId | Part::Sku | Part::Site => literals.push('x'),
        }
    }
    attribute.check(&literals)
}

impl fmt::Display for SubjectTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (attribute, parts)) in self.attributes.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}=", attribute.name())?;
            for (part_index, part) in parts.iter().enumerate() {
                match part {
                    Part::Literal(text) => {
                        let ends = part_index + 1 == parts.len();
                        write_escaped(f, text, part_index == 0, ends, "{}")?;
                    }
                    Part::DeviceId => f.write_str("{device_id}")?,
                    Part::Sku => f.write_str("{sku}")?,
                    Part::Site => f.write_str("{site}")?,
                }
            }
        }
        Ok(())
    }
}

/// Writes a value, or the piece of one that starts or ends it, escaped as RFC 4514 section 2.4 has it.
fn write_escaped(
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

/// A name for people, in the order and with the escapes of [`SubjectTemplate`]. Values that are no text are shown in
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
