//! What was measured, as a table.

use comfy_table::{ContentArrangement, Table, presets};

use crate::issuing::Report;

/// The whole report.
pub(crate) fn table(report: &Report) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["measured", "here", "ratio", "aim"]);
    let rate = |rate: f64| format!("{rate:.0}/s");
    let ratio = |ratio: f64| format!("{ratio:.2}");
    let mut row = |what: String, here: String, ratio: String, aim: &str| {
        table.add_row([what, here, ratio, aim.to_owned()]);
    };
    row(
        format!(
            "ceiling: cryptography alone, {} processors",
            report.processors
        ),
        rate(report.ceiling_rate),
        "1".to_owned(),
        "",
    );
    row(
        format!("site issue, {} requests, whole command", report.csrs),
        rate(report.issuing_rate),
        ratio(report.issuing_to_ceiling),
        "at least 0.8",
    );
    row(
        "  between the first and the last".to_owned(),
        String::new(),
        ratio(report.steady_to_ceiling),
        "",
    );
    row(
        "  in processor time alone".to_owned(),
        String::new(),
        ratio(report.processor_to_ceiling),
        "",
    );
    row(
        "  the same, were its files alone a part of the ceiling".to_owned(),
        format!("files {:.0} us of a processor", report.files_microseconds),
        ratio(report.processor_to_ceiling_with_files),
        "",
    );
    row(
        "log on, to a log in memory (time)".to_owned(),
        format!("processor {:.2}", report.log_to_memory_processor),
        ratio(report.log_to_memory),
        "at most 1.05",
    );
    for size in &report.index {
        row(
            format!("a certificate with {} in the index", size.certificates),
            format!(
                "{:.0} us processor, {:.0} us elapsed",
                size.processor_microseconds, size.elapsed_microseconds
            ),
            String::new(),
            "",
        );
    }
    if let (Some(flat), Some(elapsed)) = (report.flat, report.flat_elapsed) {
        row(
            "largest index to smallest".to_owned(),
            format!("elapsed {elapsed:.2}"),
            ratio(flat),
            "at most 1.2",
        );
    }
    row(
        "one request by itself in an open vault, to two syncs and a signature".to_owned(),
        format!("{:.1} ms", report.request_milliseconds),
        ratio(report.request_to_least),
        "a few ms",
    );
    row(
        "site issue of one request, whole command".to_owned(),
        format!("{:.0} ms", report.command_milliseconds),
        String::new(),
        "",
    );
    row(
        "peak memory of site issue".to_owned(),
        format!("{:.0} MiB", report.memory_bytes as f64 / f64::from(1 << 20)),
        String::new(),
        "",
    );
    row(
        format!(
            "openssl ca, one process, key in a {}",
            report.openssl_ca.key
        ),
        rate(report.openssl_ca.rate),
        ratio(report.openssl_ca.rate / report.ceiling_rate),
        "",
    );
    for library in &report.verification {
        row(
            format!("verification of P-256 by {}", library.library),
            format!("{:.1} us", library.microseconds),
            String::new(),
            "",
        );
    }
    table.to_string()
}
