//! The ways to cheat, each with all that is found for it, and nothing else.

mod bundles;
mod devices;
mod records;
mod starts;
mod units;

use super::Expected;
use super::scene::Scene;

/// When something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// On some day; everybody goes on afterwards.
    Midway,
    /// From the first days on.
    Silence,
    /// As the last thing that the vault reports.
    LastReport,
    /// In the end, by what headquarters does not take in.
    Refused,
}

/// A way to cheat.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) when: When,
    /// Does it; nothing if there is not yet what it takes.
    pub(super) act: fn(&mut Scene<'_>) -> Option<Vec<Expected>>,
}

const fn kind(
    name: &'static str,
    when: When,
    act: fn(&mut Scene<'_>) -> Option<Vec<Expected>>,
) -> Kind {
    Kind { name, when, act }
}

use self::When::{LastReport, Midway, Refused, Silence};

/// All of them.
pub(super) const KINDS: &[Kind] = &[
    kind("beyond the quota", Midway, units::beyond_the_quota),
    kind("a slot again", Midway, units::slot_again),
    kind("a slot passed over", Midway, units::slot_passed_over),
    kind(
        "a serial of another slot",
        Midway,
        units::serial_of_another_slot,
    ),
    kind("another name", Midway, units::another_name),
    kind("beyond the rate", Midway, units::beyond_the_rate),
    kind("beyond the credit", Midway, units::beyond_the_credit),
    kind("at night", LastReport, units::at_night),
    kind("by another station", Midway, units::by_another_station),
    kind(
        "an identifier that is not allowed",
        Midway,
        units::identifier_not_allowed,
    ),
    kind("a signature of nobody", Midway, units::signature_of_nobody),
    kind(
        "a signature for nothing",
        Midway,
        units::signature_for_nothing,
    ),
    kind(
        "slots that were not leased",
        Midway,
        units::slots_not_leased,
    ),
    kind("a device twice", Midway, devices::device_twice),
    kind("a scrapped device", Midway, devices::scrapped_device),
    kind("a scrapping undone", Midway, devices::scrapping_undone),
    kind(
        "a key of another site",
        LastReport,
        devices::key_of_another_site,
    ),
    kind(
        "a device of another site",
        LastReport,
        devices::device_of_another_site,
    ),
    kind(
        "a serial of another site",
        LastReport,
        devices::serial_of_another_site,
    ),
    kind("a request of nobody", Midway, devices::request_of_nobody),
    kind(
        "a revocation left out",
        LastReport,
        devices::revocation_left_out,
    ),
    kind("a list that is none", Midway, devices::list_that_is_none),
    kind("no decision", Midway, records::no_decision),
    kind("nobody asked", Midway, records::nobody_asked),
    kind("refused for nothing", Midway, records::refused_for_nothing),
    kind(
        "refused for something else",
        Midway,
        records::refused_for_something_else,
    ),
    kind("answered by another", Midway, records::answered_by_another),
    kind(
        "a record that is none",
        Midway,
        records::record_that_is_none,
    ),
    kind(
        "a key that nobody sent",
        Midway,
        records::key_that_nobody_sent,
    ),
    kind(
        "a station CA that is none",
        Midway,
        records::station_ca_that_is_none,
    ),
    kind(
        "a rotation to nowhere",
        Midway,
        records::rotation_to_nowhere,
    ),
    kind("a prune too early", Midway, records::prune_too_early),
    kind(
        "a content that was not sent",
        Midway,
        records::content_that_was_not_sent,
    ),
    kind(
        "a receipt that is said to be forged",
        Midway,
        records::receipt_said_to_be_forged,
    ),
    kind(
        "a clock that was right",
        LastReport,
        records::clock_that_was_right,
    ),
    kind("an earlier time", Midway, records::earlier_time),
    kind("a time to come", LastReport, records::time_to_come),
    kind("two beginnings", Midway, starts::two_beginnings),
    kind("another history", Midway, starts::another_history),
    kind("starts left out", Midway, starts::starts_left_out),
    kind("other rules", Midway, starts::other_rules),
    kind("an older token", Midway, starts::older_token),
    kind("no token", Midway, starts::no_token),
    kind("a manifest again", Midway, starts::manifest_again),
    kind(
        "a manifest of nobody",
        LastReport,
        starts::manifest_of_nobody,
    ),
    kind("another time of the head", Midway, bundles::another_time),
    kind("another manifest", Midway, bundles::another_manifest),
    kind("no dispatch seen", Midway, bundles::no_dispatch_seen),
    kind("another bundle", Midway, bundles::another_bundle),
    kind("no bundle", LastReport, bundles::no_bundle),
    kind("silence", Silence, bundles::silence),
    kind("a bundle that is lost", LastReport, bundles::lost),
    kind(
        "a record changed afterwards",
        Refused,
        bundles::changed_afterwards,
    ),
    kind("another root", Refused, bundles::another_root),
    kind("after another bundle", Refused, bundles::after_another),
    kind(
        "a dispatch that was not sent",
        Refused,
        bundles::dispatch_not_sent,
    ),
    kind("a part that is rotten", Refused, bundles::rotten_part),
    kind("two histories", Refused, bundles::two_histories),
];
