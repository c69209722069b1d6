//! What headquarters reports, in each of its formats.

use super::support::{Hq, csr};

#[test]
fn csv_on_standard_output_is_what_rfc_4180_has() {
    let hq = Hq::new();
    let run = hq.run_plain(&["reconcile", "--format", "csv"]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let rows: Vec<&str> = run.stdout.split_terminator("\r\n").collect();
    assert_eq!(rows.len(), 6, "{}", run.stdout);
    assert!(rows[0].starts_with("row,site,vault,"));
    assert!(rows[5].starts_with("report,"));
    for row in &rows {
        assert!(!row.contains(['\r', '\n', '\\']), "{row:?}");
    }
    let file = hq.path("report.csv");
    let run_to_file = hq.run_plain(&[
        "reconcile",
        "--format",
        "csv",
        "--output",
        file.to_str().unwrap(),
    ]);
    assert_eq!((run_to_file.exit, run_to_file.stdout.as_str()), (0, ""));
    assert_eq!(std::fs::read_to_string(file).unwrap(), run.stdout);
}

#[test]
fn json_and_another_format_cannot_both_be_had() {
    let hq = Hq::new();
    for format in ["csv", "table"] {
        let run = hq.run(&["reconcile", "--format", format]);
        assert_eq!((run.exit, run.error_code()), (2, "USAGE".to_owned()));
    }
    assert_eq!(hq.run(&["reconcile", "--format", "json"]).exit, 0);
}

#[test]
fn a_report_in_a_file_is_named_on_standard_output() {
    let hq = Hq::new();
    let file = hq.path("report.json");
    let file = file.to_str().unwrap();
    let said = hq.run(&["reconcile", "--output", file]).json();
    assert_eq!(
        said,
        serde_json::json!({
            "schema": "mintmark/reconcile-file/1", "file": file, "balanced": true, "findings": 0,
            "sealed": false,
        })
    );
    let written = std::fs::read_to_string(file).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["accounts"].as_array().unwrap().len(), 4);
}

#[test]
fn what_a_table_can_leave_out_it_leaves_out() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A1", 1));
    let stick = vault.report(&hq.path("one"));
    let imported = hq.run_plain(&["media", "import", stick.to_str().unwrap()]);
    assert_eq!(imported.exit, 0, "{}", imported.stderr);
    let bundle = imported.stdout.lines().find(|line| line.contains("audit"));
    let name = bundle.unwrap().split_whitespace().next().unwrap();
    let (_, id) = name.trim_end_matches(".cose").rsplit_once('_').unwrap();
    assert_eq!(
        imported.stdout.matches(id).count(),
        1,
        "{}",
        imported.stdout
    );
    let listed = hq.run_plain(&["audit", "list"]).stdout;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let authorities = hq.run_plain(&["ca", "list"]).stdout;
    assert!(authorities.lines().count() > 2, "{authorities}");
    for line in listed.lines().chain(authorities.lines()) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}
