//! What the token knows of the log, and whether this home is the one that goes with it.

use mintmark_console::Check;
use mintmark_keys::KeyStore;

use super::{bad, good};
use crate::failure::Error;
use crate::vault::anchor::{Inspected, inspect, lease_in_words};
use crate::vault::reading::Reading;

const ANCHOR: &str = "anchor";

/// What the next command that writes will find.
pub(super) fn anchor(reading: &Reading, store: &dyn KeyStore) -> Check {
    // Until headquarters has answered, the token is ahead, and that is known.
    if let Err(error) = reading.home().expect_restored() {
        return bad(ANCHOR, &error);
    }
    let records = reading.view().size();
    match inspect(reading.home(), reading.view(), store) {
        Err(error) => bad(ANCHOR, &error),
        Ok(Inspected::NotYet) => good(
            ANCHOR,
            "not there, and the log states none: the next command that writes makes it",
        ),
        Ok(Inspected::VouchedFor) => good(
            ANCHOR,
            "officers vouched for the log: the next command that writes makes a new one",
        ),
        Ok(Inspected::Held { anchor, leased: 0 }) => {
            let (counter, size) = (anchor.counter, anchor.size);
            good(
                ANCHOR,
                match records - size {
                    0 => format!("version {counter} names all {size} records, and leases nothing"),
                    more => format!(
                        "version {counter} names {size} records that the log has, and leases nothing; {more} came since, \
                         which the next command that writes makes it name"
                    ),
                },
            )
        }
        Ok(Inspected::Held { anchor, leased }) => {
            let message = format!("version {}: {}", anchor.counter, lease_in_words(leased));
            let error = Error::environment("LEASE-OPEN", message).hint(
                "if `site issue` is at work, all is well; otherwise run `site recover`, which puts on record that these units \
                 may have been spent, and ask headquarters for them by an amendment",
            );
            Check::warning(bad(ANCHOR, &error))
        }
    }
}
