//! What was measured of importing, as a table.

use comfy_table::{ContentArrangement, Table, presets};

use super::Report;

/// The whole report.
pub(crate) fn table(report: &Report) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["measured", "here", "ratio", "aim"]);
    let rate = |rate: f64| format!("{rate:.0}/s");
    let ratio = |ratio: f64| format!("{ratio:.2}");
    let milliseconds = |milliseconds: f64| format!("{milliseconds:.1} ms");
    let mebibytes = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let mut row = |what: String, here: String, ratio: String, aim: &str| {
        table.add_row([what, here, ratio, aim.to_owned()]);
    };
    row(
        format!(
            "bare verification of {} signatures, {} processors",
            report.signatures, report.processors
        ),
        rate(report.bare_rate),
        "1".to_owned(),
        "",
    );
    row(
        format!(
            "hq media import of {} records: {} certificates, the same signatures",
            report.records, report.certificates
        ),
        rate(report.import_rate),
        ratio(report.import_to_bare),
        "at least 0.8",
    );
    row(
        "  in processor time alone".to_owned(),
        String::new(),
        ratio(report.processor_to_bare),
        "",
    );
    row(
        "  in records".to_owned(),
        rate(report.records_rate),
        String::new(),
        "",
    );
    for stage in report.stages.iter().filter(|stage| stage.window) {
        row(
            format!("a record with {} in the registry", stage.held),
            format!(
                "{:.1} us processor, {:.1} us elapsed",
                stage.microseconds(stage.import_processor_seconds),
                stage.microseconds(stage.import_seconds)
            ),
            ratio(stage.bare_seconds / stage.import_seconds),
            "",
        );
    }
    if let (Some(flat), Some(elapsed)) = (report.flat, report.flat_elapsed) {
        row(
            "most in the registry to least".to_owned(),
            format!("elapsed {elapsed:.2}"),
            ratio(flat),
            "at most 1.2",
        );
    }
    row(
        "peak memory of hq media import".to_owned(),
        mebibytes(report.memory_bytes),
        String::new(),
        "below 512 MiB",
    );
    row(
        "the registry on disk".to_owned(),
        mebibytes(report.registry_bytes),
        String::new(),
        "",
    );
    row(
        "hq reconcile over everything, whole command".to_owned(),
        milliseconds(report.reconcile_milliseconds),
        String::new(),
        "below 1 s",
    );
    for (what, took, aim) in [
        (
            "hq device show by id, whole command",
            report.by_id_milliseconds,
            "below 10 ms",
        ),
        ("  by serial", report.by_serial_milliseconds, "below 10 ms"),
        ("  by public key", report.by_key_milliseconds, "below 10 ms"),
        (
            "  of which a process that does nothing",
            report.nothing_milliseconds,
            "",
        ),
        ("hq device dossier", report.dossier_milliseconds, ""),
    ] {
        row(what.to_owned(), milliseconds(took), String::new(), aim);
    }
    table.to_string()
}
