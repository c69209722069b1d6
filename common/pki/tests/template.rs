//! Subject templates: what policies may write, and what identifiers cannot do to it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod fixture;

use fixture::{NEW_YEAR, SERIAL, authorities, certificate, facts, key, profile, spki};
use mintmark_pki::{Certificate, DeviceFacts, SubjectTemplate, device_tbs};

fn rendered(template: &str, device_id: &str) -> Result<Vec<(String, String)>, String> {
    let template: SubjectTemplate = template.parse().unwrap();
    let name = template
        .render(device_id, "TH-200", "shenzhen")
        .map_err(|error| format!("{}: {error}", error.code()))?;
    Ok(name
        .iter_rdn()
        .flat_map(|rdn| {
            assert_eq!(rdn.len(), 1);
            rdn.iter()
        })
        .map(|attribute| {
            let value = String::from_utf8(attribute.value.value().to_vec()).unwrap();
            (attribute.oid.to_string(), value)
        })
        .collect())
}

fn pair(oid: &str, value: &str) -> (String, String) {
    (oid.to_owned(), value.to_owned())
}

const O: &str = "2.5.4.10";
const OU: &str = "2.5.4.11";
const CN: &str = "2.5.4.3";
const SERIAL_NUMBER: &str = "2.5.4.5";

#[test]
fn a_template_names_the_device_in_the_order_it_is_written() {
    assert_eq!(
        rendered(
            "O=Acme, OU=TH-200, serialNumber={device_id}",
            "TH200-00000001"
        )
        .unwrap(),
        [
            pair(O, "Acme"),
            pair(OU, "TH-200"),
            pair(SERIAL_NUMBER, "TH200-00000001")
        ]
    );
    assert_eq!(
        rendered(
            "C=DE,ST=Bayern,L=München,OU={sku},OU=made in {site},CN=dev {device_id} x",
            "7"
        )
        .unwrap(),
        [
            pair("2.5.4.6", "DE"),
            pair("2.5.4.8", "Bayern"),
            pair("2.5.4.7", "München"),
            pair(OU, "TH-200"),
            pair(OU, "made in shenzhen"),
            pair(CN, "dev 7 x"),
        ]
    );
}

#[test]
fn escapes_are_those_of_rfc_4514() {
    for (text, value) in [
        (r"O=Acme\, Inc.", "Acme, Inc."),
        (r"O=\C3\A9tude", "étude"),
        (r#"O=\"A\" \+ \<B\>\;"#, r#""A" + <B>;"#),
        (r"O=\#1", "#1"),
        (r"O=a#1", "a#1"),
        (r"O=a\=b=c", "a=b=c"),
        (r"O=\{device_id\}", "{device_id}"),
        (r"O=  a b  ", "a b"),
        (r"O=\ a\ ", " a "),
        (r"o=a\\", r"a\"),
    ] {
        assert_eq!(rendered(text, "x").unwrap(), [pair(O, value)], "{text}");
    }
}

#[test]
fn what_a_template_displays_parses_to_the_same() {
    for text in [
        "O=Acme, OU=TH-200, serialNumber={device_id}",
        r"O=Acme\, Inc., CN=\ a\ ",
        r"O=\{x\}{sku} {site}\ , CN=\#\\ \+ x",
        "CN={device_id}",
    ] {
        let template: SubjectTemplate = text.parse().unwrap();
        assert_eq!(template.to_string(), text);
        assert_eq!(template.to_string().parse(), Ok(template));
    }
}

#[test]
fn a_template_says_whether_it_names_the_device() {
    for (text, names_device) in [
        ("O=Acme, serialNumber={device_id}", true),
        ("O=Acme, CN=a-{device_id}", true),
        ("O=Acme, CN={sku} {site}", false),
        (r"O=\{device_id\}", false),
    ] {
        let template: SubjectTemplate = text.parse().unwrap();
        assert_eq!(template.names_device(), names_device, "{text}");
    }
}

#[test]
fn templates_that_could_surprise_are_refused_with_their_place() {
    let long = "x".repeat(65);
    let many = vec!["OU=a"; 17].join(",");
    for (text, position, reason) in [
        ("", 0, "expected"),
        ("Acme", 0, "expected"),
        ("O=Acme,", 7, "expected"),
        ("O=", 0, "empty"),
        ("O= , CN=x", 0, "empty"),
        ("O=Acme, X=1", 8, "`X` is not one of"),
        ("O=Acme, DC=example", 8, "`DC` is not one of"),
        ("O=a, O=b", 5, "O occurs twice"),
        (
            "serialNumber=a, serialNumber={device_id}",
            16,
            "occurs twice",
        ),
        ("O=a+CN=b", 3, "+ has a meaning of its own"),
        ("O=a;CN=b", 3, "; has a meaning"),
        ("O=\"a, b\"", 2, "\" has a meaning"),
        ("O=#0401", 2, "cannot start with #"),
        ("O={device}", 2, "a brace opens"),
        ("O={device_id", 2, "a brace opens"),
        ("O=a}", 3, "} has a meaning"),
        (r"O=a\", 3, "backslash"),
        (r"O=a\g0", 3, "backslash"),
        (r"O=\ff", 2, "not UTF-8"),
        (r"O=a\00b", 0, "cannot hold the character"),
        ("O=a\nb", 0, "cannot hold the character"),
        (
            "serialNumber=a_b{device_id}",
            0,
            "cannot hold the character _",
        ),
        ("C=D", 0, "country code"),
        ("C=de", 0, "country code"),
        ("C=DEU", 0, "at most 2"),
        ("C={sku}", 0, "cannot be a placeholder"),
        (many.as_str(), 80, "more than 16"),
        (&format!("O={long}"), 0, "at most 64"),
        (&format!("O={}", "x".repeat(1100)), 1024, "longer than 1024"),
    ] {
        let error = text.parse::<SubjectTemplate>().unwrap_err();
        assert_eq!(error.code(), "SUBJECT-TEMPLATE-INVALID", "{text}");
        let message = error.to_string();
        assert!(
            message.contains(&format!("byte {position}:")),
            "{text}: {message}"
        );
        assert!(message.contains(reason), "{text}: {message}");
    }
}

#[test]
fn an_identifier_stays_inside_of_its_value() {
    for device_id in [
        "x,O=Evil",
        "a+CN=b",
        "{sku}",
        r"a\, CN=b",
        "a, CN=b",
        "\"a\"",
        "#0c0141",
        "x\u{202e}y",
    ] {
        assert_eq!(
            rendered("O=Acme, CN={device_id}", device_id).unwrap(),
            [pair(O, "Acme"), pair(CN, device_id)]
        );
    }
    // A serialNumber is a PrintableString, which has a comma, an equals sign and a plus.
    for device_id in ["x,O=Evil", "a+CN=b"] {
        let authorities = authorities();
        let spki = spki(&key(3));
        let facts = DeviceFacts {
            device_id,
            ..facts(&spki)
        };
        let tbs = device_tbs(
            &profile("O=Acme, serialNumber={device_id}"),
            &authorities.ca,
            &SERIAL,
            NEW_YEAR,
            &facts,
        )
        .unwrap();
        let der = certificate(&authorities.ca_key, &tbs);
        let certificate = Certificate::from_der(&der).unwrap();
        assert_eq!(certificate.subject_serial_number(), Some(device_id));
        let shown = device_id.replace(',', "\\,").replace('+', "\\+");
        assert_eq!(
            certificate.subject(),
            format!("O=Acme, serialNumber={shown}")
        );
    }
}

#[test]
fn identifiers_that_an_attribute_cannot_hold_are_refused() {
    let template = "O=Acme, serialNumber={device_id}";
    for device_id in ["", "a_b", "a@b", "a*", "é", "a\0b", "a\nb", &"x".repeat(65)] {
        let error = rendered(template, device_id).unwrap_err();
        assert!(
            error.starts_with("SUBJECT-VALUE-INVALID: the subject's serialNumber"),
            "{error}"
        );
    }
    assert!(rendered(template, &"x".repeat(64)).is_ok());
    for device_id in ["", "a\u{7f}", "a\u{85}", &"é".repeat(65)] {
        assert!(rendered("CN={device_id}", device_id).is_err());
    }
    // The bound counts characters, not bytes.
    assert!(rendered("CN={device_id}", &"é".repeat(64)).is_ok());
}
