//! A report under the seal of headquarters.

use mintmark_console::{Console, Failure};
use mintmark_protocol::report::{Report, ReportFormat};

use crate::home::Home;
use crate::keyring::{self, Keyring};
use crate::{clock, failure, trust};

/// Seals a report that is written already, with the key that the manifest in force names.
pub(crate) fn seal(
    home: &Home,
    format: ReportFormat,
    content: Vec<u8>,
    console: &Console,
) -> Result<Vec<u8>, Failure> {
    let manifest = trust::in_force(home)?;
    let ring = Keyring::new(&home.config, console)?;
    let signer = ring.report_signer(manifest.content())?;
    let report = Report {
        made_at: clock::now_unix(),
        format,
        content,
    };
    report
        .seal(signer.public_key(), &keyring::sign(&*signer))
        .map_err(failure::protocol)
}
