//! What was measured of the line, as a table.

use comfy_table::{ContentArrangement, Table, presets};

use super::{Latency, Report};

/// The whole report.
pub(crate) fn table(report: &Report) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            "measured",
            "here",
            "to cryptography",
            "to batch",
            "p50",
            "p99",
        ]);
    let rate = |rate: f64| format!("{rate:.0}/s");
    let ratio = |ratio: f64| format!("{ratio:.2}");
    let milliseconds = |time: f64| format!("{time:.2} ms");
    let mut row = |what: String, cells: [String; 5]| {
        table.add_row([vec![what], cells.to_vec()].concat());
    };
    let none = String::new;
    row(
        format!(
            "cryptography without network, {} processors",
            report.processors
        ),
        [
            rate(report.ceiling_rate),
            ratio(1.0),
            ratio(report.ceiling_rate / report.batch_rate),
            none(),
            none(),
        ],
    );
    row(
        format!("site issue of {} requests, whole command", report.requests),
        [
            rate(report.batch_rate),
            ratio(report.batch_rate / report.ceiling_rate),
            ratio(1.0),
            none(),
            none(),
        ],
    );
    for level in &report.levels {
        let clients = level.clients;
        row(
            format!("EST, keep-alive mTLS clients: {clients}"),
            [
                rate(level.rate),
                ratio(level.to_ceiling),
                ratio(level.to_batch),
                milliseconds(level.p50_milliseconds),
                milliseconds(level.p99_milliseconds),
            ],
        );
        row(
            format!(
                "  processor: service {:.0} us, clients {:.0} us",
                level.service_microseconds, level.clients_microseconds
            ),
            [
                none(),
                ratio(level.processor_to_ceiling),
                none(),
                none(),
                none(),
            ],
        );
    }
    let half = |of: &Latency| {
        [
            rate(of.rate),
            none(),
            none(),
            milliseconds(of.p50_milliseconds),
            milliseconds(of.p99_milliseconds),
        ]
    };
    row(
        format!(
            "EST at half load, open loop, {} requests",
            report.half_load.requests
        ),
        half(&report.half_load),
    );
    if let Some(memory) = &report.memory {
        for (requests, bytes) in [memory.after.first(), memory.after.last()]
            .into_iter()
            .flatten()
        {
            let mebibytes = *bytes as f64 / f64::from(1 << 20);
            row(
                format!("resident memory after {requests} certificates"),
                [
                    format!("{mebibytes:.1} MiB"),
                    none(),
                    none(),
                    none(),
                    none(),
                ],
            );
        }
        row(
            "  the latter to the former, aim at most 1.10".to_owned(),
            [ratio(memory.ratio), none(), none(), none(), none()],
        );
    }
    if let Some(peer) = &report.peer {
        for level in &peer.levels {
            row(
                format!("peer {}, clients: {}", peer.url, level.clients),
                [
                    rate(level.rate),
                    ratio(level.rate / report.ceiling_rate),
                    ratio(level.rate / report.batch_rate),
                    milliseconds(level.p50_milliseconds),
                    milliseconds(level.p99_milliseconds),
                ],
            );
            row(
                format!("  processor: service {:.0} us", level.service_microseconds),
                [none(), none(), none(), none(), none()],
            );
        }
        row(
            format!(
                "peer at half load, open loop, {} requests",
                peer.half_load.requests
            ),
            half(&peer.half_load),
        );
    }
    format!(
        "{table}\nThe service and its clients share {} processors; the clients are one process of one thread, and {} stations.",
        report.processors, report.stations
    )
}
