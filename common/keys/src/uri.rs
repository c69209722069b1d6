//! The names of stores: `pkcs11:` URIs (RFC 7512) and `file:DIR`.
//!
//! Attributes that this crate does not act on are refused, not ignored: a URI that seems to restrict something and does
//! not would be worse than none. `object` and `id`, which RFC 7512 defines as a key's label and identifier, restrict the
//! store to that key.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{self, Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::error::Error;
use crate::pin_source::PinSource;

/// Longest URI. Two paths of the longest kind, percent-encoded, fit.
const URI_BYTES_MAX: usize = 32 * 1024;

/// The name of a store of keys. `Display` gives a text that parses to the same value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyUri {
    /// A PKCS#11 token.
    Pkcs11(Pkcs11Uri),
    /// A folder of encrypted key files.
    File(FileUri),
}

/// A token: the attributes that choose it, the module that reaches it, and where its PIN is (RFC 7512).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11Uri {
    token: Option<String>,
    manufacturer: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    object: Option<String>,
    id: Option<Vec<u8>>,
    slot_id: Option<u64>,
    module_path: PathBuf,
    pin_source: Option<PinSource>,
}

/// A folder of encrypted key files, and where its PIN is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileUri {
    folder: PathBuf,
    pin_source: Option<PinSource>,
}

/// A key URI as somebody typed it, not looked at yet. It takes any text, so that a command line with a PIN in it is
/// refused by [`UnparsedKeyUri::parse`], whose error does not repeat it, and not by whatever reads command lines.
#[derive(Clone)]
pub struct UnparsedKeyUri(Zeroizing<String>);

impl UnparsedKeyUri {
    /// The URI.
    ///
    /// # Errors
    /// `URI-INVALID`, `PIN-IN-URI`, `MODULE-PATH-MISSING`.
    pub fn parse(&self) -> Result<KeyUri, Error> {
        self.0.parse()
    }
}

impl FromStr for UnparsedKeyUri {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for UnparsedKeyUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("UnparsedKeyUri")
    }
}

impl KeyUri {
    /// Where the PIN is, if the URI says so.
    pub fn pin_source(&self) -> Option<&PinSource> {
        match self {
            Self::Pkcs11(uri) => uri.pin_source(),
            Self::File(uri) => uri.pin_source(),
        }
    }

    /// The label of the one key that the store is restricted to, if the URI names one.
    pub fn object(&self) -> Option<&str> {
        match self {
            Self::Pkcs11(uri) => uri.object(),
            Self::File(_) => None,
        }
    }

    /// The same store with every relative path resolved against the current directory, so that it can be kept and used
    /// from another one.
    ///
    /// # Errors
    /// When the current directory cannot be told.
    pub fn absolute(&self) -> io::Result<Self> {
        let absolute =
            |source: &Option<PinSource>| source.as_ref().map(PinSource::absolute).transpose();
        Ok(match self {
            Self::Pkcs11(uri) => Self::Pkcs11(Pkcs11Uri {
                module_path: path::absolute(&uri.module_path)?,
                pin_source: absolute(&uri.pin_source)?,
                ..uri.clone()
            }),
            Self::File(uri) => Self::File(FileUri {
                folder: path::absolute(&uri.folder)?,
                pin_source: absolute(&uri.pin_source)?,
            }),
        })
    }
}

impl Pkcs11Uri {
    /// The label of the token (CK_TOKEN_INFO).
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The manufacturer of the token (CK_TOKEN_INFO).
    pub fn manufacturer(&self) -> Option<&str> {
        self.manufacturer.as_deref()
    }

    /// The model of the token (CK_TOKEN_INFO).
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The serial number of the token (CK_TOKEN_INFO).
    pub fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    /// The label of the one key (CKA_LABEL) that the store is restricted to.
    pub fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }

    /// The identifier of the one key (CKA_ID) that the store is restricted to: any bytes.
    pub fn id(&self) -> Option<&[u8]> {
        self.id.as_deref()
    }

    /// The number of the slot that holds the token (CK_SLOT_ID). Many modules change it at every start.
    pub fn slot_id(&self) -> Option<u64> {
        self.slot_id
    }

    /// The PKCS#11 module: a shared library.
    pub fn module_path(&self) -> &Path {
        &self.module_path
    }

    /// Where the PIN is; none: a person is asked.
    pub fn pin_source(&self) -> Option<&PinSource> {
        self.pin_source.as_ref()
    }
}

impl FileUri {
    /// Names a folder of key files. `pin_source` is a file that holds the PIN; without it the PIN is asked for.
    ///
    /// # Errors
    /// `URI-INVALID` if a path is empty or holds a NUL.
    pub fn new(folder: impl Into<PathBuf>, pin_source: Option<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        for path in std::iter::once(&folder).chain(&pin_source) {
            if path.as_os_str().is_empty() || path.as_os_str().as_bytes().contains(&0) {
                return Err(invalid("a path is empty or holds a NUL"));
            }
        }
        let pin_source = pin_source.map(PinSource::File);
        Ok(Self { folder, pin_source })
    }

    /// The folder, absolute or relative to the current directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the PIN is; none: a person is asked.
    pub fn pin_source(&self) -> Option<&PinSource> {
        self.pin_source.as_ref()
    }
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::UriInvalid {
        reason: reason.into(),
    }
}

impl FromStr for KeyUri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > URI_BYTES_MAX {
            return Err(invalid(format!("it is longer than {URI_BYTES_MAX} bytes")));
        }
        if text.contains(|character: char| character.is_control()) {
            return Err(invalid("it holds a control character"));
        }
        if text.contains('#') {
            return Err(invalid("it has a fragment; write a # in a name as %23"));
        }
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| invalid("it begins with neither pkcs11: nor file:"))?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        // Before anything else, so that no other complaint hides this one.
        let names_pin_value = |attribute: &str| attribute.split('=').next() == Some("pin-value");
        if query.is_some_and(|query| query.split('&').any(names_pin_value))
            || path.split(';').any(names_pin_value)
        {
            return Err(Error::PinInUri);
        }
        if scheme.eq_ignore_ascii_case("pkcs11") {
            Pkcs11Uri::parse(path, query).map(Self::Pkcs11)
        } else if scheme.eq_ignore_ascii_case("file") {
            FileUri::parse(path, query).map(Self::File)
        } else {
            Err(invalid("it begins with neither pkcs11: nor file:"))
        }
    }
}

impl Pkcs11Uri {
    fn parse(path: &str, query: Option<&str>) -> Result<Self, Error> {
        let (mut token, mut manufacturer, mut model, mut serial) = (None, None, None, None);
        let (mut object, mut id, mut slot_id) = (None, None, None);
        for attribute in path.split(';').filter(|_| !path.is_empty()) {
            let (name, value) = name_and_value(attribute)?;
            match name {
                "token" => once(name, &mut token, || field(name, value, 32))?,
                "manufacturer" => once(name, &mut manufacturer, || field(name, value, 32))?,
                "model" => once(name, &mut model, || field(name, value, 16))?,
                "serial" => once(name, &mut serial, || field(name, value, 16))?,
                "object" => once(name, &mut object, || text(name, value))?,
                "id" => once(name, &mut id, || decode(name, value.as_bytes()))?,
                "slot-id" => once(name, &mut slot_id, || number(name, value))?,
                _ => return Err(unknown(name)),
            }
        }
        let (mut module_path, mut pin_source) = (None, None);
        for attribute in query.into_iter().flat_map(|query| query.split('&')) {
            let (name, value) = name_and_value(attribute)?;
            match name {
                "module-path" => once(name, &mut module_path, || {
                    path_of(name, decode(name, value.as_bytes())?)
                })?,
                "pin-source" => once(name, &mut pin_source, || pin_source_of(name, value))?,
                _ => return Err(unknown(name)),
            }
        }
        let module_path = module_path.ok_or(Error::ModulePathMissing)?;
        Ok(Self {
            token,
            manufacturer,
            model,
            serial,
            object,
            id,
            slot_id,
            module_path,
            pin_source,
        })
    }
}

impl FileUri {
    fn parse(path: &str, query: Option<&str>) -> Result<Self, Error> {
        let folder = path_of("file", decode("file", local_path(path.as_bytes())?)?)?;
        let mut pin_source = None;
        for attribute in query.into_iter().flat_map(|query| query.split('&')) {
            let (name, value) = name_and_value(attribute)?;
            match name {
                "pin-source" => once(name, &mut pin_source, || pin_source_of(name, value))?,
                _ => return Err(unknown(name)),
            }
        }
        Ok(Self { folder, pin_source })
    }
}

fn unknown(name: &str) -> Error {
    invalid(format!(
        "the attribute {} is not known here",
        name.escape_debug().take(64).collect::<String>()
    ))
}

fn name_and_value(attribute: &str) -> Result<(&str, &str), Error> {
    match attribute.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name, value)),
        Some((name, _)) if !name.is_empty() => Err(invalid(format!(
            "the attribute {} is empty",
            name.escape_debug()
        ))),
        _ => Err(invalid("an attribute is not written NAME=VALUE")),
    }
}

/// RFC 7512 section 2.3: an attribute stands at most once.
fn once<T>(
    name: &str,
    place: &mut Option<T>,
    value: impl FnOnce() -> Result<T, Error>,
) -> Result<(), Error> {
    if place.is_some() {
        return Err(invalid(format!("the attribute {name} stands twice")));
    }
    *place = Some(value()?);
    Ok(())
}

fn text(name: &str, value: &str) -> Result<String, Error> {
    let text = String::from_utf8(decode(name, value.as_bytes())?)
        .map_err(|_| invalid(format!("{name} is not UTF-8")))?;
    if text.contains('\0') {
        Err(invalid(format!("{name} holds a NUL")))
    } else {
        Ok(text)
    }
}

fn number(name: &str, value: &str) -> Result<u64, Error> {
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().ok()
    } else {
        None
    }
    .ok_or_else(|| invalid(format!("{name} is not a number")))
}

fn path_of(name: &str, bytes: Vec<u8>) -> Result<PathBuf, Error> {
    if bytes.is_empty() {
        return Err(invalid(format!("{name} names no path")));
    }
    if bytes.contains(&0) {
        return Err(invalid(format!("{name} holds a NUL")));
    }
    Ok(OsString::from_vec(bytes).into())
}

/// `pin-source`: `file:PATH`, a plain path, or `credential:NAME`. RFC 7512 section 2.4 also has `|COMMAND`, which is not run
/// here.
fn pin_source_of(name: &str, value: &str) -> Result<PinSource, Error> {
    let bytes = decode(name, value.as_bytes())?;
    if let Some(path) = bytes.strip_prefix(b"file:") {
        return path_of(name, local_path(path)?.to_vec()).map(PinSource::File);
    }
    if let Some(credential) = bytes.strip_prefix(b"credential:") {
        return PinSource::credential(credential).ok_or_else(|| {
            invalid("a credential's name has letters, digits, dots, hyphens and underlines")
        });
    }
    if bytes.first() == Some(&b'|') {
        return Err(invalid(
            "pin-source names a command; only a file can be named",
        ));
    }
    let first_segment = bytes.split(|byte| *byte == b'/').next().unwrap_or_default();
    if first_segment.contains(&b':') {
        return Err(invalid(
            "pin-source names neither a file: nor a path nor a credential:",
        ));
    }
    path_of(name, bytes).map(PinSource::File)
}

/// The path of a `file:` URI (RFC 8089 section 2): `/abs`, `rel`, `///abs` or `//localhost/abs`.
fn local_path(bytes: &[u8]) -> Result<&[u8], Error> {
    let Some(authority_and_path) = bytes.strip_prefix(b"//") else {
        return Ok(bytes);
    };
    let slash = authority_and_path.iter().position(|byte| *byte == b'/');
    let (authority, path) = authority_and_path.split_at(slash.unwrap_or(authority_and_path.len()));
    if authority.is_empty() || authority == b"localhost" {
        Ok(path)
    } else {
        Err(invalid(
            "file:// names another machine; write file:PATH or file:///PATH",
        ))
    }
}

/// Decodes percent-encoding (RFC 3986 section 2.1). `name` is what the error speaks of.
fn decode(name: &str, value: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => {
                return Err(invalid(format!(
                    "{name} has a % that two hexadecimal digits do not follow"
                )));
            }
        }
    }
    Ok(bytes)
}

/// A text that a token keeps in a field of fixed length (CK_TOKEN_INFO). A longer one names no token.
fn field(name: &str, value: &str, bytes_max: usize) -> Result<String, Error> {
    let text = text(name, value)?;
    if text.len() <= bytes_max {
        return Ok(text);
    }
    Err(invalid(format!(
        "{name} has {} bytes, and a token keeps {bytes_max} of it: a longer one was cut when the token was initialised, so give \
         what the token shows (pkcs11-tool --list-token-slots)",
        text.len()
    )))
}

/// Writes `bytes` percent-encoded: all but the unreserved characters of RFC 3986 section 2.3 and those of `also`.
fn encode(formatter: &mut fmt::Formatter<'_>, bytes: &[u8], also: &[u8]) -> fmt::Result {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || also.contains(byte) {
            write!(formatter, "{}", char::from(*byte))?;
        } else {
            write!(formatter, "%{byte:02X}")?;
        }
    }
    Ok(())
}

fn encode_local_path(formatter: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    let bytes = path.as_os_str().as_bytes();
    // A path that begins with two slashes would read as a host name, so an empty one goes before it.
    if bytes.starts_with(b"//") {
        formatter.write_str("//")?;
    }
    encode(formatter, bytes, b"/")
}

fn encode_pin_source(
    formatter: &mut fmt::Formatter<'_>,
    separator: char,
    source: &PinSource,
) -> fmt::Result {
    write!(formatter, "{separator}pin-source=")?;
    match source {
        PinSource::File(path) => {
            formatter.write_str("file:")?;
            encode_local_path(formatter, path)
        }
        PinSource::Credential(name) => write!(formatter, "credential:{name}"),
    }
}

impl fmt::Display for KeyUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pkcs11(uri) => uri.fmt(formatter),
            Self::File(uri) => uri.fmt(formatter),
        }
    }
}

impl fmt::Display for Pkcs11Uri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("pkcs11:")?;
        let mut separator = "";
        for (name, value) in [
            ("token", &self.token),
            ("manufacturer", &self.manufacturer),
            ("model", &self.model),
            ("serial", &self.serial),
            ("object", &self.object),
        ] {
            if let Some(value) = value {
                write!(formatter, "{separator}{name}=")?;
                encode(formatter, value.as_bytes(), b":")?;
                separator = ";";
            }
        }
        if let Some(id) = &self.id {
            // RFC 7512 section 2.3: the whole value should be percent-encoded.
            write!(formatter, "{separator}id=")?;
            for byte in id {
                write!(formatter, "%{byte:02X}")?;
            }
            separator = ";";
        }
        if let Some(slot_id) = self.slot_id {
            write!(formatter, "{separator}slot-id={slot_id}")?;
        }
        formatter.write_str("?module-path=")?;
        encode(formatter, self.module_path.as_os_str().as_bytes(), b"/")?;
        match &self.pin_source {
            Some(source) => encode_pin_source(formatter, '&', source),
            None => Ok(()),
        }
    }
}

impl fmt::Display for FileUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("file:")?;
        encode_local_path(formatter, &self.folder)?;
        match &self.pin_source {
            Some(source) => encode_pin_source(formatter, '?', source),
            None => Ok(()),
        }
    }
}
