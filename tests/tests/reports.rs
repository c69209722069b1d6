//! Reports: their figures against what was made, by period and by product; their forms against judges of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mintmark_tests::world::POLICY;
use mintmark_tests::{Liar, World, judge};
use serde_json::{Value, json};

const DAY: i64 = 86_400;

/// A vault that works on three days and reports at their end: three units on the first, two on the second, of which one is
/// refused as it is beyond the day's limit; on the third one is scrapped and one voided.
fn three_days() -> World {
    let policy = POLICY.replace("units = 1000\n", "units = 40\nunits_per_day = 3\n");
    let world = World::with_policy(&policy);
    world.requests("first", 1..=3);
    world.issue("first").ok();
    world.set_clock(DAY);
    world.requests("second", 4..=7);
    world.issue("second").exits(1);
    world.set_clock(2 * DAY);
    for (verb, device) in [("scrap", "TH200-00000001"), ("void", "TH200-00000002")] {
        world
            .site(&format!("device {verb} {device} --confirm {device}"))
            .arg("--reason")
            .arg("=1+1 <b>cracked</b>")
            .ok();
    }
    world.carry_home("berlin").exits_done();
    world
}

/// The UTC day that is so many after the first on which anything was made.
fn day(report: &Value, after: usize) -> String {
    let mut days: Vec<&str> = report["days"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["day"].as_str().unwrap())
        .collect();
    days.sort_unstable();
    days.dedup();
    days[after].to_owned()
}

fn moves(account: &Value) -> Vec<(String, String, u64)> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = account["moves"].as_array().unwrap().iter();
    rows.map(|row| {
        let units = row["units"].as_u64().unwrap();
        (text(row, "debit"), text(row, "credit"), units)
    })
    .collect()
}

fn python(arguments: &[&str], paths: &[&Path]) -> String {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interop/bin/python");
    let mut command = Command::new(python);
    command.args(arguments).args(paths);
    String::from_utf8(judge::succeed(&mut command).stdout).unwrap()
}

/// The published schema, by another implementation of JSON Schema than any of ours.
fn expect_schema(report: &Path) {
    const CHECK: &str = "import json, sys, jsonschema\n\
        schema, report = (json.load(open(path)) for path in sys.argv[1:])\n\
        jsonschema.Draft202012Validator.check_schema(schema)\n\
        jsonschema.Draft202012Validator(schema).validate(report)\n";
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas/reconcile-1.json");
    python(&["-c", CHECK], &[&schema, report]);
}

#[test]
fn what_moved_in_a_period_carries_its_opening_balance_to_its_closing_one() {
    let world = three_days();
    let whole = world.reconcile();
    let account = &whole["accounts"][0];
    let counts = |balance: &Value| {
        [
            "authorised",
            "good",
            "scrapped",
            "voided",
            "unresolved",
            "unspent",
        ]
        .map(|name| balance[name].as_u64().unwrap())
    };
    assert_eq!(counts(account), [40, 4, 1, 1, 0, 34], "{whole}");
    assert_eq!(counts(&whole["total"]), counts(account));
    assert_eq!(counts(&account["opening"]), [0; 6]);
    assert_eq!(
        moves(account),
        [
            ("unspent", "reserved", 6),
            ("reserved", "good", 6),
            ("good", "scrapped", 1),
            ("good", "voided", 1)
        ]
        .map(|(debit, credit, units)| (debit.to_owned(), credit.to_owned(), units))
    );
    assert_eq!(account["units_per_day_max"], 3);
    assert_eq!(whole["refusals"][0]["rule"], "RATE-DAY");
    assert_eq!(whole["refusals"][0]["requests"], 1);

    let days = [0, 1, 2].map(|after| day(&whole, after));
    let of = |line: &str| world.hq(&format!("reconcile {line}")).ok().json();
    let until = of(&format!("--as-of {}", days[0]));
    assert_eq!(counts(&until["accounts"][0]), [40, 3, 0, 0, 0, 37]);
    assert_eq!(until["balanced"], true);
    assert_eq!(until["refusals"], json!([]));
    let second = of(&format!("--since {0} --as-of {0}", days[1]));
    let account = &second["accounts"][0];
    assert_eq!(counts(&account["opening"]), [40, 3, 0, 0, 0, 37]);
    assert_eq!(counts(account), [40, 6, 0, 0, 0, 34]);
    assert_eq!(moves(account).len(), 2);
    let last = of(&format!("--since {}", days[2]));
    assert_eq!(
        counts(&last["accounts"][0]["opening"]),
        [40, 6, 0, 0, 0, 34]
    );
    assert_eq!(counts(&last["accounts"][0]), [40, 4, 1, 1, 0, 34]);
    // Six units were made on days before the one on which headquarters learned of them.
    let unreported: Vec<u64> = whole["unreported"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["units"].as_u64().unwrap())
        .collect();
    assert_eq!(unreported, [3, 6]);

    for (line, wrong) in [
        (
            format!("--since {} --as-of {}", days[1], days[0]),
            "is after",
        ),
        ("--since yesterday".to_owned(), "is no day"),
    ] {
        let run = world.hq(&format!("reconcile {line}")).text().exits(2);
        assert!(run.stderr.contains(wrong), "{run}");
    }
    for (line, accounts) in [
        ("--product TH-200 --entitlement th200", 1),
        ("--product GW-1", 0),
        ("--entitlement other", 0),
    ] {
        let report = of(line);
        assert_eq!(report["accounts"].as_array().unwrap().len(), accounts);
    }
}

#[test]
fn a_journal_that_somebody_touched_does_not_balance_and_says_which_account() {
    let world = three_days();
    const TOUCH: &str = "import sqlite3, sys\n\
        sql = sqlite3.connect(sys.argv[1])\n\
        sql.execute(\"UPDATE postings SET units = units - 1 WHERE credit = 'scrapped'\")\n\
        sql.commit()\n";
    python(&["-c", TOUCH], &[&world.path("hq/registry.sqlite")]);
    let run = world.hq("reconcile").exits(1);
    let account = &run.json()["accounts"][0];
    assert_eq!(
        account["faults"],
        json!([
            "good: the journal comes to 5, and the newest replay to 4",
            "scrapped: the journal comes to 0, and the newest replay to 1"
        ])
    );
    let said = world.hq("reconcile").text().exits(1).stdout;
    assert!(
        said.contains("NOT BALANCED")
            && said.contains("berlin/v1: the account of TH-200 in th200 does not balance: good"),
        "{said}"
    );
}

/// Every form of a report of a vault that over-issued and whose people write what a page or a sheet might run.
#[test]
fn every_form_of_a_report_says_the_same_and_runs_nothing() {
    let world = three_days();
    let liar = Liar::of(&world, "berlin");
    let unit = liar.in_slot(&liar.next_unit("TH-200", "TH200-00000666"), 40);
    liar.spend(&unit);
    world.carry_home("berlin").exits(1).json();
    let write = |format: &str, name: &str| -> PathBuf {
        let line = format!("reconcile --format {format} --output $D/{name}");
        world.hq(&line).exits(1);
        world.path(name)
    };
    let report = write("json", "report.json");
    expect_schema(&report);
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(report["findings"][0]["code"], "OVER-ISSUE");
    assert_eq!(report["balanced"], true, "it has units left: {report}");

    let csv = fs::read_to_string(write("csv", "report.csv")).unwrap();
    let cells = |line: usize| csv.lines().nth(line).unwrap().split(',').count();
    assert_eq!((cells(0), cells(1)), (21, 21), "{csv}");
    assert_eq!(
        csv.lines()
            .filter(|line| line.starts_with("finding,"))
            .count(),
        1
    );

    // The workbook, by a reader that knows nothing but ZIP and XML.
    const READ: &str = "import json, sys, zipfile\n\
        from xml.etree import ElementTree\n\
        book = zipfile.ZipFile(sys.argv[1])\n\
        assert book.testzip() is None\n\
        space = '{http://schemas.openxmlformats.org/spreadsheetml/2006/main}'\n\
        strings = [''.join(text.itertext()) for text in ElementTree.parse(book.open('xl/sharedStrings.xml')).getroot()]\n\
        rows = []\n\
        for row in ElementTree.parse(book.open('xl/worksheets/sheet2.xml')).iter(space + 'row'):\n\
        \x20   value = lambda cell: cell.find(space + 'v').text if cell.find(space + 'v') is not None else ''\n\
        \x20   rows.append([strings[int(value(cell))] if cell.get('t') == 's' else value(cell) for cell in row])\n\
        formulas = [name for name in book.namelist() if name.endswith('.xml') and b'<f>' in book.read(name)]\n\
        print(json.dumps([rows, formulas]))\n";
    let read = python(&["-c", READ], &[&write("xlsx", "report.xlsx")]);
    let read: Value = serde_json::from_str(&read).unwrap();
    let (header, row) = (&read[0][0], &read[0][1]);
    let column = |name: &str| {
        header
            .as_array()
            .unwrap()
            .iter()
            .position(|cell| cell == name)
    };
    for name in ["authorised", "good", "scrapped", "voided", "unspent"] {
        let cell = row[column(name).unwrap()].as_str().unwrap();
        let expected = report["accounts"][0][name].to_string();
        assert_eq!(cell, expected, "{name}");
    }
    assert_eq!(read[1], json!([]), "no formulas");
    // The same books make the same file.
    assert_eq!(
        fs::read(write("xlsx", "again.xlsx")).unwrap(),
        fs::read(world.path("report.xlsx")).unwrap()
    );

    let html = fs::read_to_string(write("html", "report.html")).unwrap();
    for strange in ["<script", "http:", "https:", "src=", "url(", "@import"] {
        assert!(!html.contains(strange), "{strange}");
    }
    let (totals, findings, plots) = (
        html.find("id=\"totals\"").unwrap(),
        html.find("id=\"findings\"").unwrap(),
        html.find("id=\"plots\"").unwrap(),
    );
    assert!(totals < findings && findings < plots);
    assert!(html.contains("OVER-ISSUE") && html.contains("Units per day against the limit of 3"));
}

#[test]
fn a_browser_shows_the_page_as_it_is_meant_and_finds_nothing_to_complain_of() {
    let Some(chromium) = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())
    else {
        eprintln!("there is no Chromium here");
        return;
    };
    let world = three_days();
    world
        .hq("reconcile --format html --output $D/report.html")
        .ok();
    let page = format!("file://{}", world.path("report.html").display());
    let browse = |arguments: &[&str]| {
        let profile = format!("--user-data-dir={}", world.path("profile").display());
        let mut command = Command::new(chromium);
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--enable-logging=stderr",
            ])
            .arg(profile)
            .args(arguments)
            .arg(&page);
        judge::succeed(&mut command)
    };
    let run = browse(&["--dump-dom"]);
    let complaints = String::from_utf8_lossy(&run.stderr);
    assert!(!complaints.contains(":CONSOLE"), "{complaints}");
    let dom = String::from_utf8(run.stdout).unwrap();
    assert_eq!(
        dom.matches("<figure>").count(),
        5,
        "three plots, and two of the account"
    );
    assert_eq!(dom.matches("role=\"img\"").count(), 5);
    browse(&[&format!(
        "--print-to-pdf={}",
        world.path("report.pdf").display()
    )]);
    assert!(
        fs::read(world.path("report.pdf"))
            .unwrap()
            .starts_with(b"%PDF")
    );
}

/// An auditor's own queries, by Python's SQLite, over the views that docs/registry.md describes.
#[test]
fn the_views_for_auditors_come_to_the_figures_of_the_report() {
    let world = three_days();
    let report = world.write("report.json", world.reconcile().to_string());
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/registry.md");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/audit_views.py");
    python(
        &["-B", script.to_str().unwrap()],
        &[&world.path("hq/registry.sqlite"), &report, &document],
    );
}

fn codes(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| finding["code"].as_str().unwrap())
        .collect()
}

#[test]
fn a_site_that_says_nothing_for_longer_than_it_may_is_silent_and_one_that_reports_is_not() {
    let world = three_days();
    // Its entitlement lets it work unreported for fourteen days.
    world.set_clock(15 * DAY);
    assert_eq!(codes(&world.hq("reconcile").ok().json()), [""; 0]);
    world.set_clock(17 * DAY);
    let run = world.hq("reconcile").exits(1);
    let report = run.json();
    assert_eq!(codes(&report), ["SITE-SILENT"], "{run}");
    let evidence = &report["findings"][0]["evidence"];
    assert_eq!(
        (&evidence["days"], &evidence["days_max"]),
        (&json!(15), &json!(14))
    );
    // Whoever wants to wait longer does; and who looks back sees what was overdue then.
    world.hq("reconcile --silent-days 20").ok();
    let of_then = format!("reconcile --as-of {}", day(&report, 0));
    assert_eq!(codes(&world.hq(&of_then).ok().json()), [""; 0]);
    // By then it has stopped by itself; with what headquarters says to its bundle, it goes on.
    world.requests("third", [8]);
    let run = world.issue("third").exits(1);
    assert_eq!(run.lines()[0]["code"], "CREDIT-DAYS-EXHAUSTED", "{run}");
    world.carry_out("berlin").exits_done();
    world.issue("third").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(codes(&world.hq("reconcile").ok().json()), [""; 0]);
}

#[test]
fn a_revocation_that_no_vault_confirms_is_found_until_one_does() {
    let world = three_days();
    let revoke = "entitlement revoke th200 --reason sold --output $D/officers/revoke.draft";
    let drafted = world.hq(revoke).ok();
    world.approve("$D/officers/revoke.draft");
    world
        .hq(&format!("entitlement export {}", drafted.text("id")))
        .ok();
    world.hq("media export $D/media").ok();
    assert_eq!(codes(&world.hq("reconcile").ok().json()), [""; 0]);
    world.set_clock(17 * DAY);
    // The entitlement is over, so nobody waits for a bundle: but for word of the revocation.
    let run = world.hq("reconcile").exits(1);
    assert_eq!(codes(&run.json()), ["REVOCATION-UNSEEN"], "{run}");
    world.site("media import $D/media").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(codes(&world.hq("reconcile").ok().json()), [""; 0]);
}

#[test]
fn a_sealed_report_is_checked_without_a_home_and_by_openssl() {
    let world = three_days();
    world
        .hq("reconcile --format html --output $D/plain.html")
        .ok();
    let said = world
        .hq("reconcile --format html --sign --output $D/report.cose")
        .ok()
        .json();
    assert_eq!(said["sealed"], true);
    world.hq("reconcile --sign").fails(2, "USAGE");
    let manifest = world.path("hq/record/trust/trust-000001.cose");
    let trusted = format!(
        "--trust {} --fingerprint {}",
        manifest.display(),
        world.trust_fingerprint()
    );
    // No home is there.
    let verify = |file: &str, more: &str| {
        world.hq(&format!(
            "--home $D/nowhere report verify {file} {trusted} {more}"
        ))
    };
    let verdict = verify("$D/report.cose", "--output $D/inside.html")
        .ok()
        .json();
    assert_eq!(
        (
            &verdict["verdict"],
            &verdict["format"],
            &verdict["trust_version"]
        ),
        (&json!("genuine"), &json!("html"), &json!(1))
    );
    assert_eq!(
        fs::read(world.path("inside.html")).unwrap(),
        fs::read(world.path("plain.html")).unwrap()
    );
    verify("$D/report.cose", "--output $D/inside.html").fails(3, "FILE-EXISTS");

    // OpenSSL over the structure that RFC 9052 section 4.4 signs, put together by a reader of CBOR that is not ours.
    const SPLIT: &str = "import cbor2, sys\n\
        tag = cbor2.loads(open(sys.argv[1], 'rb').read())\n\
        assert tag.tag == 18\n\
        protected, unprotected, payload, signature = tag.value\n\
        assert not unprotected\n\
        open(sys.argv[2], 'wb').write(cbor2.dumps(['Signature1', protected, b'', payload]))\n\
        r, s = (int.from_bytes(part, 'big') for part in (signature[:32], signature[32:]))\n\
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature\n\
        open(sys.argv[3], 'wb').write(encode_dss_signature(r, s))\n\
        manifest = cbor2.loads(open(sys.argv[4], 'rb').read()).value[2]\n\
        key = cbor2.loads(manifest)[11]\n\
        from cryptography.hazmat.primitives.asymmetric import ec\n\
        from cryptography.hazmat.primitives import serialization as forms\n\
        x, y = (int.from_bytes(key[at], 'big') for at in (-2, -3))\n\
        public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()\n\
        pem = public.public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)\n\
        open(sys.argv[5], 'wb').write(pem)\n";
    let at = |name: &str| world.path(name);
    python(
        &["-c", SPLIT],
        &[
            &at("report.cose"),
            &at("signed"),
            &at("signature"),
            &manifest,
            &at("key.pem"),
        ],
    );
    let said = judge::openssl(
        world.folder(),
        "dgst -sha256 -verify key.pem -signature signature signed",
    );
    assert_eq!(said.trim(), "Verified OK");

    // One bit, and nobody believes it.
    let size = fs::metadata(at("report.cose")).unwrap().len() as usize;
    for byte in [40, size / 2, size - 10] {
        mintmark_tests::files::flip(&at("report.cose"), 8 * byte);
        verify("$D/report.cose", "").exits(1).errors();
        mintmark_tests::files::flip(&at("report.cose"), 8 * byte);
    }
    verify("$D/report.cose", "").ok();
}
