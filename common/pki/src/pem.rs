//! The textual encoding of RFC 7468, read leniently in its white space and strictly in everything else.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use base64ct::{Base64, Encoding};

use crate::error::{Error, Object};

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// Labels that are listed in an error before the rest is only counted.
const LABELS_SHOWN_MAX: usize = 4;
const LABEL_BYTES_MAX: usize = 64;
/// RFC 7468 section 2: every line but the last has 64 characters of base64, which stand for 48 octets.
const LINE_CHARACTERS: usize = 64;
const LINE_OCTETS: usize = 48;

/// Writes `der` as one PEM block, 64 characters a line, each line ended by a line feed. `label` is for instance
/// `CERTIFICATE`, `X509 CRL` or `CERTIFICATE REQUEST`. It is for what is public: a table is looked up, and how long that takes may
/// tell what it wrote. A vault writes a dozen lines for each device, and the reader's base64 computes every character, as for secrets.
pub fn to_pem(label: &str, der: &[u8]) -> String {
    let lines = der.len().div_ceil(LINE_OCTETS) * (LINE_CHARACTERS + 1);
    // Beside them stand `-----BEGIN -----`, `-----END -----` and their line feeds.
    let mut pem = String::with_capacity(lines + 2 * label.len() + 32);
    for text in ["-----BEGIN ", label, "-----\n"] {
        pem.push_str(text);
    }
    for line in der.chunks(LINE_OCTETS) {
        BASE64_STANDARD.encode_string(line, &mut pem);
        pem.push('\n');
    }
    for text in ["-----END ", label, "-----\n"] {
        pem.push_str(text);
    }
    pem
}

/// A line and its offset.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    text.split_inclusive(|octet| *octet == b'\n')
        .map(move |line| {
            let position = at;
            at += line.len();
            (position, line.trim_ascii_end())
        })
}

fn label(line: &[u8], prefix: &[u8]) -> Option<String> {
    let label = line.strip_prefix(prefix)?.strip_suffix(DASHES)?;
    let label = label.get(..label.len().min(LABEL_BYTES_MAX))?;
    // Escaped, because it is foreign text that ends up on a terminal.
    Some(label.escape_ascii().to_string())
}

/// The DER of `file`, be it DER already or PEM with one block of one of these `labels`. What it is, its content says,
/// never its name.
pub(crate) fn der(
    file: &[u8],
    object: Object,
    labels: &[&str],
    der_bytes_max: usize,
) -> Result<Vec<u8>, Error> {
    if file.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::Empty { object });
    }
    if is_one_der_sequence(file) {
        return Ok(file.to_vec());
    }
    if file.starts_with(&[0xff, 0xfe]) || file.starts_with(&[0xfe, 0xff]) {
        return Err(Error::Unexpected {
            object,
            found: "it is UTF-16 text; save it as ASCII or UTF-8".to_owned(),
        });
    }
    let (text, skipped) = match file.strip_prefix(b"\xef\xbb\xbf") {
        Some(text) => (text, 3),
        None => (file, 0),
    };
    if text.trim_ascii_start().starts_with(BEGIN) && text.contains(&b'\r') && !text.contains(&b'\n')
    {
        return Err(Error::Unexpected {
            object,
            found: "it is PEM whose lines end in carriage returns alone; save it with LF or CR LF \
                    line ends"
                .to_owned(),
        });
    }
    let mut labels_found = Vec::new();
    let mut count = 0;
    for label in lines(text).filter_map(|(_, line)| label(line, BEGIN)) {
        count += 1;
        if labels_found.len() < LABELS_SHOWN_MAX {
            labels_found.push(label);
        }
    }
    match labels_found.as_slice() {
        [] if text.first() == Some(&0x30) => Ok(file.to_vec()),
        [] => Err(Error::Unexpected {
            object,
            found: "it is neither DER nor PEM".to_owned(),
        }),
        [label] if labels.contains(&label.as_str()) => {
            block(text, skipped, label, object, der_bytes_max)
        }
        [label] => {
            let article = if label.starts_with(['A', 'E', 'I', 'O', 'R', 'X']) {
                "an"
            } else {
                "a"
            };
            Err(Error::Unexpected {
                object,
                found: format!("it is {article} {label}"),
            })
        }
        several => Err(Error::SeveralBlocks {
            object,
            count,
            labels: several.join(", "),
        }),
    }
}

/// Whether the first tag and length span the whole file. Such a file is DER even if the text of a PEM header occurs
/// inside it.
pub(crate) fn is_one_der_sequence(file: &[u8]) -> bool {
    let length = match file {
        [0x30, short @ ..=0x7f, ..] => 2 + usize::from(*short),
        [0x30, 0x81, a, ..] => 3 + usize::from(*a),
        [0x30, 0x82, a, b, ..] => 4 + usize::from(u16::from_be_bytes([*a, *b])),
        [0x30, 0x83, a, b, c, ..] => {
            return u32::try_from(file.len() - 5) == Ok(u32::from_be_bytes([0, *a, *b, *c]));
        }
        [0x30, 0x84, a, b, c, d, ..] => {
            return u32::try_from(file.len() - 6) == Ok(u32::from_be_bytes([*a, *b, *c, *d]));
        }
        _ => return false,
    };
    length == file.len()
}

/// Decodes the only block of `text`. Text may stand before it, as `openssl req -text` writes it, and nothing after it.
fn block(
    text: &[u8],
    skipped: usize,
    expected: &str,
    object: Object,
    der_bytes_max: usize,
) -> Result<Vec<u8>, Error> {
    let malformed = |position: usize, reason| Error::Malformed {
        object,
        position: skipped + position,
        reason,
    };
    let mut base64 = Vec::new();
    let mut begun = false;
    let mut ended = false;
    for (position, line) in lines(text) {
        if ended {
            if !line.is_empty() {
                return Err(malformed(position, "text follows the PEM block"));
            }
        } else if !begun {
            begun = line.starts_with(BEGIN);
        } else if line.starts_with(END) {
            if label(line, END).as_deref() != Some(expected) {
                return Err(malformed(
                    position,
                    "the END line has another label than BEGIN",
                ));
            }
            ended = true;
        } else if line.contains(&b':') {
            let reason = "the PEM block has header lines; RFC 7468 knows none";
            return Err(malformed(position, reason));
        } else {
            for (offset, octet) in line.iter().enumerate() {
                match octet {
                    b' ' | b'\t' => {}
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' | b'=' => {
                        base64.push(*octet);
                    }
                    _ => {
                        return Err(malformed(
                            position + offset,
                            "this is not a base64 character",
                        ));
                    }
                }
            }
        }
    }
    if !ended {
        return Err(malformed(text.len(), "the PEM block has no END line"));
    }
    if base64.is_empty() {
        return Err(Error::Empty { object });
    }
    if base64.len() / 4 * 3 > der_bytes_max + 3 {
        return Err(Error::TooLarge {
            object,
            bytes: base64.len() / 4 * 3,
            bytes_max: der_bytes_max,
        });
    }
    let base64 =
        std::str::from_utf8(&base64).map_err(|_| malformed(0, "this is not a base64 character"))?;
    Base64::decode_vec(base64).map_err(|_| malformed(0, "the base64 does not come out even"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_base64_as_the_library_writes_it_in_lines_of_64_characters() {
        let der: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        for length in 0..der.len() {
            let der = &der[der.len() - length..];
            let pem = to_pem("CERTIFICATE", der);
            let mut lines: Vec<&str> = pem.lines().collect();
            assert_eq!(lines.remove(0), "-----BEGIN CERTIFICATE-----");
            assert_eq!(lines.pop(), Some("-----END CERTIFICATE-----"));
            assert_eq!(lines.concat(), Base64::encode_string(der), "{length}");
            let (last, whole) = lines.split_last().unwrap_or((&"", &[]));
            assert!(whole.iter().all(|line| line.len() == 64) && last.len() <= 64);
            assert!(pem.ends_with('\n'), "{length}");
        }
    }
}
