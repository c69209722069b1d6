//! What the rules count and time, on either side of where it ends.

use mintmark_protocol::device_ids::{DeviceIdRange, DeviceIds};
use mintmark_protocol::entitlement::{DeviceIdSource, Entitlement, Interval};
use mintmark_protocol::revocation::Target;

use super::fixture::*;
use crate::decide::RULES_VERSION;
use crate::entry::{Body, KeyOutcome, Start, Verdict};
use crate::replay::Severity;
use crate::state::account::{Account, DAYS_KEPT_MAX};
use crate::state::clock::CLOCK_GAP_DAYS_DEFAULT;
use crate::state::{CreditLeft, Withdrawal};

#[test]
fn an_account_knows_the_units_of_its_newest_days_and_of_no_day_twice() {
    let mut account = Account::new(tag(1), "five".parse().unwrap(), sku("TH-200"), 100);
    let days = DAYS_KEPT_MAX as u64 + 2;
    for day in 0..days {
        account.count_day(day);
        account.count_day(day);
        // Of a day that is over already, by a clock that officers corrected: it counts where the log is.
        account.count_day(0);
    }
    let known: Vec<_> = account
        .days
        .iter()
        .map(|of| (of.window, of.units))
        .collect();
    let expected: Vec<_> = (2..days).map(|day| (day, 3)).collect();
    assert_eq!(known, expected);
}

#[test]
fn credit_is_used_up_with_its_units_or_after_its_last_second() {
    let left = |units, until| CreditLeft { units, until };
    for (left, used_up) in [
        (left(0, None), true),
        (left(1, None), false),
        (left(0, Some(NEW_YEAR + 1)), true),
        (left(1, Some(NEW_YEAR - 1)), true),
        (left(1, Some(NEW_YEAR)), false),
        (left(1, Some(NEW_YEAR + 1)), false),
    ] {
        assert_eq!(left.is_used_up(NEW_YEAR), used_up, "{left:?}");
    }
}

/// One entitlement, in force as long as said.
fn until(id: &str, account: u64, until: u64, change: impl Fn(&mut Entitlement)) -> Entitlement {
    let name = format!("TH-{account}00");
    let mut entitlement = entitlement(id, vec![product(account, &name, 5)]);
    entitlement.window.until = until;
    change(&mut entitlement);
    entitlement
}

#[test]
fn how_far_a_clock_may_be_ahead_is_up_to_the_entitlements_that_are_in_force() {
    let gap = |days| move |e: &mut Entitlement| e.clock_gap_days_max = Some(days);
    let mut vault = Chronicle::entitled(&[
        until("over", 1, NEW_YEAR + 10 * DAY, gap(2)),
        until("ended", 2, NEW_YEAR + 90 * DAY, gap(3)),
        until("open", 3, NEW_YEAR + 90 * DAY, gap(5)),
    ]);
    let days = |vault: &Chronicle| (vault.state.clock_latest() - vault.state.mark()) / DAY;
    assert_eq!(days(&vault), 2);
    let ended = Target::Entitlement("ended".parse().unwrap());
    vault.now = NEW_YEAR + 10 * DAY - 1;
    vault.seal();
    assert_eq!(days(&vault), 2, "its last second");
    vault.now = NEW_YEAR + 10 * DAY;
    vault.seal();
    assert_eq!(days(&vault), 3);
    assert_eq!(vault.revoke(ended), Ok(()));
    assert_eq!(days(&vault), 5);
    let open = Target::Entitlement("open".parse().unwrap());
    assert_eq!(vault.revoke(open), Ok(()));
    assert_eq!(days(&vault), CLOCK_GAP_DAYS_DEFAULT);
}

#[test]
fn a_revocation_list_outlives_the_credit_of_the_entitlements_that_are_in_force() {
    let credit = |days| move |e: &mut Entitlement| e.credit.unreported_days_max = days;
    let mut vault = Chronicle::entitled(&[
        until("over", 1, NEW_YEAR + 10 * DAY, credit(400)),
        until("ended", 2, NEW_YEAR + 90 * DAY, credit(300)),
        until("open", 3, NEW_YEAR + 90 * DAY, credit(100)),
    ]);
    let days = |vault: &Chronicle, at: u64| (vault.state.crl_next_update(at) - at) / DAY;
    assert_eq!(days(&vault, NEW_YEAR + 10 * DAY - 1), 800);
    assert_eq!(days(&vault, NEW_YEAR + 10 * DAY), 600);
    let ended = Target::Entitlement("ended".parse().unwrap());
    assert_eq!(vault.revoke(ended), Ok(()));
    assert_eq!(days(&vault, NEW_YEAR + 10 * DAY), 200);
    assert_eq!(days(&vault, NEW_YEAR + 90 * DAY), 30, "nothing is in force");
}

#[test]
fn working_hours_begin_with_their_first_second_and_end_before_their_last() {
    let hours = vec![
        Interval {
            from: NEW_YEAR + 10,
            until: NEW_YEAR + 20,
        },
        Interval {
            from: NEW_YEAR + 30,
            until: NEW_YEAR + 40,
        },
    ];
    let entitled = until("five", 1, NEW_YEAR + 90 * DAY, |e| {
        e.products[0].working_hours = Some(hours.clone());
    });
    let mut vault = Chronicle::entitled(&[entitled]);
    for (second, within) in [
        (9, false),
        (10, true),
        (19, true),
        (20, false),
        (29, false),
        (30, true),
        (39, true),
        (40, false),
    ] {
        vault.now = NEW_YEAR + second;
        let body = vault.decision("TH-100", &csr("A1", 1));
        let expected = if within { None } else { Some("OUT-OF-HOURS") };
        assert_eq!(body.code(), expected, "{second}");
    }
}

#[test]
fn the_next_working_hours_are_told_if_they_begin_before_the_entitlement_ends() {
    for (first, told) in [(89 * DAY, true), (90 * DAY - 1, true), (90 * DAY, false)] {
        let from = NEW_YEAR + first;
        let entitled = until("five", 1, NEW_YEAR + 90 * DAY, |e| {
            let until = from + DAY;
            e.products[0].working_hours = Some(vec![Interval { from, until }]);
        });
        let vault = Chronicle::entitled(&[entitled]);
        let (code, message, _) = vault.why("TH-100", &csr("A1", 1));
        assert_eq!(code, "OUT-OF-HOURS");
        assert_eq!(
            message.contains("; the next begin at 2027-"),
            told,
            "{message}"
        );
    }
}

#[test]
fn a_device_id_is_looked_for_where_the_account_says_that_is_spent_next() {
    let source = |source| move |e: &mut Entitlement| e.products[0].device_id_source = source;
    let window = |id: &str, account, days: (u64, u64), from| {
        let mut entitlement = entitlement(id, vec![product(account, "TH-200", 5)]);
        entitlement.window.from = NEW_YEAR + days.0 * DAY;
        entitlement.window.until = NEW_YEAR + days.1 * DAY;
        source(from)(&mut entitlement);
        entitlement
    };
    let vault = Chronicle::entitled(&[
        window("one", 1, (0, 10), DeviceIdSource::SerialNumber),
        window("two", 2, (20, 30), DeviceIdSource::CommonName),
        window("three", 3, (40, 50), DeviceIdSource::SerialNumber),
    ]);
    let looked_for = |days, seconds| {
        let time = NEW_YEAR + days * DAY - seconds;
        vault.state.device_id_source(&sku("TH-200"), time)
    };
    for (days, seconds, source) in [
        (10, 1, DeviceIdSource::SerialNumber),
        (10, 0, DeviceIdSource::CommonName),
        (20, 0, DeviceIdSource::CommonName),
        (30, 1, DeviceIdSource::CommonName),
        (30, 0, DeviceIdSource::SerialNumber),
        (50, 0, DeviceIdSource::SerialNumber),
    ] {
        assert_eq!(looked_for(days, seconds), Some(source), "{days} {seconds}");
    }
    assert_eq!(vault.state.device_id_source(&sku("TH-300"), NEW_YEAR), None);
}

#[test]
fn a_device_is_certified_only_if_it_is_one_of_those_that_are_listed() {
    let listed = until("five", 1, NEW_YEAR + 90 * DAY, |e| {
        let range = DeviceIdRange::new("A10".parse().unwrap(), "A12".parse().unwrap());
        let ranges = vec![range.unwrap()];
        e.products[0].device_ids = Some(DeviceIds::new(ranges).unwrap());
    });
    let vault = Chronicle::entitled(&[listed]);
    for (device, expected) in [
        ("A09", Some("DEVICE-ID-NOT-LISTED")),
        ("A10", None),
        ("A12", None),
        ("A13", Some("DEVICE-ID-NOT-LISTED")),
    ] {
        let body = vault.decision("TH-100", &csr(device, 1));
        assert_eq!(body.code(), expected, "{device}");
    }
}

#[test]
fn a_key_is_in_force_until_its_time_or_its_entitlement_is_over() {
    let keyed = until("keyed", 1, NEW_YEAR + 90 * DAY, |e| {
        e.keys = vec![device_key("service", None)];
    });
    let mut vault = Chronicle::entitled(&[keyed]);
    let labels = |vault: &Chronicle| -> Vec<String> {
        let labels = vault.state.key_labels_received();
        labels.map(|label| label.as_str().to_owned()).collect()
    };
    let in_force = |vault: &Chronicle, time| vault.state.keys().next().unwrap().is_in_force(time);
    let end = vault.state.keys().next().unwrap().until;
    assert!(in_force(&vault, end - 1) && !in_force(&vault, end));
    assert_eq!(labels(&vault), [""; 0]);
    let code = "HSM-FULL".to_owned();
    vault.write(key_receipt(
        "keyed",
        "service",
        KeyOutcome::Refused { code },
    ));
    assert_eq!(labels(&vault), [""; 0]);
    vault.write(key_receipt("keyed", "service", KeyOutcome::Unwrapped));
    assert_eq!(labels(&vault), ["service"]);
    let ended = Target::Entitlement("keyed".parse().unwrap());
    assert_eq!(vault.revoke(ended), Ok(()));
    assert!(!in_force(&vault, end - 1));
    assert_eq!(labels(&vault), ["service"], "the token has it still");
}

#[test]
fn a_label_is_free_for_another_key_with_the_second_in_which_its_own_ends() {
    let keyed = |id: &str, account, check_value| {
        until(id, account, NEW_YEAR + 90 * DAY, move |e| {
            let mut key = device_key("service", None);
            (key.until, key.check_value) = (Some(NEW_YEAR + 10 * DAY), check_value);
            e.keys = vec![key];
        })
    };
    let mut vault = Chronicle::entitled(&[keyed("five", 1, [1; 32])]);
    let mut other = keyed("six", 2, [2; 32]);
    other.keys[0].until = None;
    vault.now = NEW_YEAR + 10 * DAY - 1;
    let refused = Err("ENTITLEMENT-KEY-CHANGED".to_owned());
    assert_eq!(vault.entitle(&other), refused);
    vault.now = NEW_YEAR + 10 * DAY;
    assert_eq!(vault.entitle(&other), Ok(()));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_corrected_log_stays_where_officers_set_it_unless_the_clock_is_too_far_ahead() {
    for (ahead, stays) in [
        (CLOCK_GAP_DAYS_DEFAULT * DAY, true),
        (CLOCK_GAP_DAYS_DEFAULT * DAY + 1, false),
    ] {
        let five = until("five", 1, NEW_YEAR + 90 * DAY, |_| {});
        let mut vault = Chronicle::entitled(&[five]);
        vault.now = NEW_YEAR + ahead;
        let mut correction = clock_correction(1, NEW_YEAR);
        correction.approve_until = vault.now + 1;
        let content = Verdict::Authentic(clock_content(&correction));
        assert_eq!(vault.import(content), Ok(()));
        let expected = if stays { NEW_YEAR } else { vault.now };
        assert_eq!(vault.state.mark(), expected, "{ahead}");
        assert_eq!(vault.findings(), []);
    }
}

#[test]
fn what_a_log_says_of_itself_is_what_its_records_said() {
    let mut vault = Chronicle::new();
    assert_eq!(vault.state.rules_version(), RULES_VERSION);
    let later = Start {
        rules_version: RULES_VERSION + 1,
        ..start(2)
    };
    vault.write(Body::Start(later));
    assert_eq!(vault.state.rules_version(), RULES_VERSION + 1);
    assert_eq!(vault.state.reanchors(), 0);
    assert_eq!(vault.state.anchor_stated_at(), None);
    assert_eq!(vault.state.tree().size(), 3);
    assert_eq!(vault.state.tree().root(), *vault.state.root().as_bytes());
    assert!(!vault.state.awaits_decision());
    vault.write(request("TH-200", &csr("A1", 1)));
    assert!(vault.state.awaits_decision());
}

#[test]
fn names_that_reports_use_are_read_as_they_are_written() {
    for name in ["scrapped", "voided", "superseded", "revoked"] {
        assert_eq!(Withdrawal::from_name(name).unwrap().as_str(), name);
    }
    assert_eq!(Withdrawal::from_name("good"), None);
    for (severity, name) in [
        (Severity::Notice, "notice"),
        (Severity::Warning, "warning"),
        (Severity::Critical, "critical"),
    ] {
        assert_eq!(
            (severity.as_str(), severity.to_string().as_str()),
            (name, name)
        );
    }
}
