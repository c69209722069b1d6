//! The subjects of device certificates as policies write them.

use std::fmt;
use std::str::FromStr;

use der::Decode;
use x509_cert::name::Name;

use crate::Error;
use crate::name::{AttributeType, encode, write_escaped};

/// Longest subject template that is read, in bytes.
pub const SUBJECT_TEMPLATE_BYTES_MAX: usize = 1024;
/// Most attributes a subject template may have.
pub const SUBJECT_ATTRIBUTES_MAX: usize = 16;

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
