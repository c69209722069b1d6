//! What was measured of the line, as a table.

use comfy_table::{ContentArrangement, Table, presets};

use super::{Latency, Report, Speed};

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
    let to = |of: fn(&Speed) -> f64, rate: f64| {
        let speed = report.speed.as_ref();
        speed.map_or_else(none, |speed| ratio(rate / of(speed)))
    };
    let half = |of: &Latency| {
        [
            rate(of.rate),
            none(),
            none(),
            milliseconds(of.p50_milliseconds),
            milliseconds(of.p99_milliseconds),
        ]
    };
    if let Some(speed) = &report.speed {
        row(
            format!(
                "cryptography without network, {} processors",
                report.processors
            ),
            [
                rate(speed.ceiling_rate),
                ratio(1.0),
                ratio(speed.ceiling_rate / speed.batch_rate),
                none(),
                none(),
            ],
        );
        row(
            format!("site issue of {} requests, whole command", speed.requests),
            [
                rate(speed.batch_rate),
                ratio(speed.batch_rate / speed.ceiling_rate),
                ratio(1.0),
                none(),
                none(),
            ],
        );
        for level in &speed.levels {
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
        row(
            format!(
                "EST at half load, open loop, {} requests",
                speed.half_load.requests
            ),
            half(&speed.half_load),
        );
    }
    if let Some(memory) = &report.memory {
        let ends = [memory.after.first(), memory.after.last()];
        let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        for sample in ends.into_iter().flatten() {
            for (what, bytes) in [
                ("resident memory", sample.resident),
                ("  of it behind no file", sample.anonymous),
            ] {
                row(
                    format!("{what} after {} certificates", sample.requests),
                    [mebibytes(bytes), none(), none(), none(), none()],
                );
            }
        }
        for (what, of) in [
            ("  the latter to the former, aim at most 1.10", memory.ratio),
            (
                "  the same of what no file is behind",
                memory.ratio_anonymous,
            ),
        ] {
            row(what.to_owned(), [ratio(of), none(), none(), none(), none()]);
        }
    }
    if let Some(peer) = &report.peer {
        for level in &peer.levels {
            row(
                format!("peer {}, clients: {}", peer.url, level.clients),
                [
                    rate(level.rate),
                    to(|speed| speed.ceiling_rate, level.rate),
                    to(|speed| speed.batch_rate, level.rate),
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
