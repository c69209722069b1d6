//! The clock of a vault beside what its machine counts: what stops it, and every way by which it goes on.

use super::fixture::*;
use crate::decide::{Input, decide};
use crate::entry::{Body, ClockFound, Entry, Start, Steady, Verdict};
use crate::state::Reading;
use crate::state::clock::{CLOCK_GAP_DAYS_DEFAULT, ClockStopped};

/// What the machine counts: which boot, and how many seconds of it.
fn boot(number: u8, seconds: u64) -> Option<Steady> {
    let boot = [number; 16];
    Some(Steady { boot, seconds })
}

fn reading(clock: u64, steady: Option<Steady>) -> Reading {
    Reading { clock, steady }
}

/// Writes what a vault writes at a reading of its clocks: its entry, and before it what it finds of its clock.
fn write_at(vault: &mut Chronicle, now: Reading, body: Body) {
    let entry = |vault: &Chronicle, body| {
        let time = vault.state.time_at(now);
        Entry {
            time,
            clock_behind_seconds: time as i64 - now.clock as i64,
            body,
        }
    };
    if !matches!(body, Body::Start(_)) {
        found(vault, now);
    }
    let written = entry(vault, body);
    vault.write_entry(written);
}

fn found(vault: &mut Chronicle, now: Reading) {
    if let Some((believed, expected)) = vault.state.clock_due(now) {
        let found = ClockFound {
            believed,
            expected,
            steady: now.steady,
        };
        let time = vault.state.mark();
        vault.write_entry(Entry {
            time,
            clock_behind_seconds: time as i64 - now.clock as i64,
            body: Body::Clock(found),
        });
    }
}

/// A process of the vault starts.
fn starts(vault: &mut Chronicle, now: Reading) {
    let start = Start {
        steady: now.steady,
        ..start(vault.state.boot() + 1)
    };
    write_at(vault, now, Body::Start(start));
    found(vault, now);
    vault.now = now.clock;
}

/// A process starts and asks for a certificate; the code of its refusal, or `reserved`.
fn asks(vault: &mut Chronicle, now: Reading, device: u64) -> String {
    starts(vault, now);
    match vault.request("TH-200", &csr(&format!("A{device}"), device)) {
        Body::Reserved(_) => "reserved".to_owned(),
        Body::Refused(refused) => refused.code,
        other => panic!("{other:?}"),
    }
}

/// A person confirms the clock; the code of the refusal, if it is refused.
fn confirms(vault: &mut Chronicle, now: Reading) -> Result<(), String> {
    starts(vault, now);
    let foretold = vault.state.clock_confirmable(now);
    let decision = decide(
        &vault.state,
        &vault.devices,
        None,
        now.clock,
        Input::ClockConfirm,
    );
    let decided = decision.unwrap();
    let code = decided.refusal().map(|refusal| refusal.code().to_owned());
    assert_eq!(foretold.err().map(|why| why.code().to_owned()), code);
    write_at(vault, now, Body::ClockConfirm { steady: now.steady });
    vault.write(decided.to_body());
    code.map_or(Ok(()), Err)
}

/// A vault that issued one device an hour into its first boot, at the new year.
fn issuing() -> Chronicle {
    let mut first = entitlement("first", vec![product(1, "TH-200", 100)]);
    first.credit.unreported_days_max = 3650;
    let mut vault = Chronicle::entitled(&[first]);
    assert_eq!(
        asks(&mut vault, reading(NEW_YEAR, boot(1, HOUR)), 1),
        "reserved"
    );
    vault
}

fn stopped(vault: &Chronicle) -> Option<(u64, u64)> {
    let stopped = vault.state.clock_stopped();
    stopped.map(
        |ClockStopped {
             clock, expected, ..
         }| (*clock, *expected),
    )
}

#[test]
fn within_a_boot_the_clock_may_step_five_minutes_and_no_further() {
    for (passed, stepped, outcome) in [
        (DAY, 0, "reserved"),
        (DAY, 300, "reserved"),
        (DAY, -300, "reserved"),
        (DAY, 301, "CLOCK-JUMPED"),
        (DAY, -301, "CLOCK-JUMPED"),
        (DAY, DAY as i64, "CLOCK-JUMPED"),
        // It stood still.
        (HOUR, -(HOUR as i64), "CLOCK-JUMPED"),
        // However long the machine ran idle, the two agree.
        (60 * DAY, 0, "reserved"),
    ] {
        let mut vault = issuing();
        let clock = (NEW_YEAR + passed).saturating_add_signed(stepped);
        let now = reading(clock, boot(1, HOUR + passed));
        let mark = vault.state.mark();
        assert_eq!(asks(&mut vault, now, 2), outcome, "{passed} {stepped}");
        if outcome != "reserved" {
            assert_eq!(stopped(&vault), Some((clock, NEW_YEAR + passed)));
            assert_eq!(vault.state.mark(), mark, "a wrong clock raised the time");
        }
        assert_eq!(vault.findings(), []);
    }
}

#[test]
fn many_small_steps_within_a_boot_are_one_large_one() {
    let mut vault = issuing();
    let step = |number: u64| reading(NEW_YEAR + number * 200, boot(1, HOUR));
    assert_eq!(asks(&mut vault, step(1), 2), "reserved");
    assert_eq!(asks(&mut vault, step(2), 3), "CLOCK-JUMPED");
    // Going back a little and on again does not move what it is measured against either.
    assert_eq!(asks(&mut vault, step(1), 4), "reserved");
    assert_eq!(asks(&mut vault, step(2), 5), "CLOCK-JUMPED");
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_clock_that_jumped_goes_on_by_itself_once_it_is_right() {
    let mut vault = issuing();
    let at = |clock| reading(clock, boot(1, 2 * HOUR));
    assert_eq!(
        asks(&mut vault, at(NEW_YEAR + 9 * 365 * DAY), 2),
        "CLOCK-JUMPED"
    );
    assert_eq!(asks(&mut vault, at(NEW_YEAR + 9 * DAY), 2), "CLOCK-JUMPED");
    assert_eq!(asks(&mut vault, at(NEW_YEAR + HOUR), 2), "reserved");
    assert_eq!(vault.state.mark(), NEW_YEAR + HOUR);
    assert_eq!(
        vault.state.answers_logged, 2,
        "the refusals were not logged within the cap"
    );
    assert_eq!(vault.findings(), []);
}

#[test]
fn across_boots_the_clock_may_be_as_far_ahead_as_the_policy_says() {
    let month = CLOCK_GAP_DAYS_DEFAULT * DAY;
    let mut wide = entitlement("wide", vec![product(2, "TH-300", 1)]);
    wide.clock_gap_days_max = Some(3650);
    let mut narrow = entitlement("narrow", vec![product(3, "TH-400", 1)]);
    narrow.clock_gap_days_max = Some(2);
    for (more, off, outcome) in [
        (None, month, "reserved"),
        (None, month + 1, "CLOCK-JUMPED"),
        // The narrowest of those in force counts.
        (Some(&wide), month + 1, "CLOCK-JUMPED"),
        (Some(&narrow), 2 * DAY, "reserved"),
        (Some(&narrow), 2 * DAY + 1, "CLOCK-JUMPED"),
    ] {
        let mut vault = issuing();
        if let Some(more) = more {
            assert_eq!(vault.entitle(more), Ok(()));
        }
        let now = reading(NEW_YEAR + off, boot(2, 60));
        assert_eq!(asks(&mut vault, now, 2), outcome, "{off}");
        assert_eq!(vault.findings(), []);
    }
}

#[test]
fn a_machine_that_counts_nothing_has_only_the_bound() {
    let mut vault = issuing();
    assert_eq!(
        asks(&mut vault, reading(NEW_YEAR + DAY, None), 2),
        "reserved"
    );
    let far = NEW_YEAR + DAY + 30 * DAY + 1;
    assert_eq!(asks(&mut vault, reading(far, None), 3), "CLOCK-JUMPED");
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_dead_battery_stops_the_line_until_the_clock_is_set_and_not_longer() {
    let mut vault = issuing();
    assert_eq!(
        asks(&mut vault, reading(1000, boot(2, 60)), 2),
        "CLOCK-BACK"
    );
    // Within the same boot: what it said before it was set is held against nobody.
    let right = reading(NEW_YEAR + DAY, boot(2, 600));
    assert_eq!(asks(&mut vault, right, 2), "reserved");
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_stopped_clock_that_was_reset_is_not_right_yet() {
    let mut vault = issuing();
    let jumped = reading(NEW_YEAR + DAY, boot(1, HOUR));
    assert_eq!(asks(&mut vault, jumped, 2), "CLOCK-JUMPED");
    assert_eq!(
        asks(&mut vault, reading(1000, boot(2, 60)), 2),
        "CLOCK-JUMPED"
    );
    let right = reading(NEW_YEAR + HOUR, boot(2, 600));
    assert_eq!(asks(&mut vault, right, 2), "reserved");
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_person_may_confirm_a_clock_within_the_bounds_and_none_beyond() {
    for (clock, outcome) in [
        (NEW_YEAR - DAY, Ok(())),
        (NEW_YEAR - DAY - 1, Err("CLOCK-BEYOND-BOUND")),
        (NEW_YEAR + 30 * DAY, Ok(())),
        (NEW_YEAR + 30 * DAY + 1, Err("CLOCK-BEYOND-BOUND")),
        (NEW_YEAR + 60, Err("CLOCK-BELIEVED")),
    ] {
        let mut vault = issuing();
        let now = reading(clock, boot(1, HOUR));
        let outcome = outcome.map_err(str::to_owned);
        assert_eq!(confirms(&mut vault, now), outcome, "{clock}");
        if outcome.is_ok() {
            assert_eq!(vault.state.mark(), clock.max(NEW_YEAR));
            assert_eq!(asks(&mut vault, now, 2), "reserved");
        }
        assert_eq!(vault.findings(), []);
    }
}

#[test]
fn a_wrong_day_that_was_confirmed_is_confirmed_back_and_time_stands_until_then() {
    let mut vault = issuing();
    let wrong = reading(NEW_YEAR + DAY, boot(1, HOUR));
    assert_eq!(confirms(&mut vault, wrong), Ok(()));
    assert_eq!(asks(&mut vault, wrong, 2), "reserved");
    let right = |passed| reading(NEW_YEAR + passed, boot(1, HOUR + passed));
    assert_eq!(asks(&mut vault, right(60), 3), "CLOCK-JUMPED");
    assert_eq!(confirms(&mut vault, right(120)), Ok(()));
    assert_eq!(asks(&mut vault, right(180), 3), "reserved");
    assert_eq!(vault.state.mark(), NEW_YEAR + DAY);
    assert!(vault.state.clock_behind() > DAY - HOUR);
    // Behind what was confirmed it may not fall.
    let fallen = reading(NEW_YEAR - HOUR, boot(2, 0));
    assert_eq!(asks(&mut vault, fallen, 4), "CLOCK-BACK");
    assert_eq!(asks(&mut vault, right(DAY + 60), 4), "reserved");
    assert_eq!(vault.state.mark(), NEW_YEAR + DAY + 60);
    assert_eq!(vault.state.clock_behind(), 0);
    assert_eq!(vault.findings(), []);
}

#[test]
fn officers_put_any_time_right_and_what_was_known_of_the_clock_is_forgotten() {
    // A confirmed fortnight too far ahead; a machine that was off for longer than the bound; a correction that is carried
    // for longer than the bound.
    let month = reading(NEW_YEAR + 28 * DAY, boot(2, 60));
    for (wrong, right, corrected) in [
        (
            Some(NEW_YEAR + 14 * DAY),
            reading(NEW_YEAR + DAY, boot(1, HOUR + DAY)),
            NEW_YEAR + DAY,
        ),
        (
            None,
            reading(NEW_YEAR + 29 * DAY, boot(2, 60)),
            NEW_YEAR + 29 * DAY,
        ),
        (None, month, NEW_YEAR + DAY),
    ] {
        let mut terms = entitlement("narrow", vec![product(2, "TH-300", 1)]);
        terms.clock_gap_days_max = Some(20);
        let mut vault = issuing();
        assert_eq!(vault.entitle(&terms), Ok(()));
        if let Some(wrong) = wrong {
            assert_eq!(confirms(&mut vault, reading(wrong, boot(1, HOUR))), Ok(()));
        }
        assert_eq!(asks(&mut vault, right, 2), "CLOCK-JUMPED");
        let beyond = Err("CLOCK-BEYOND-BOUND".to_owned());
        assert_eq!(confirms(&mut vault, right), beyond);
        let content = clock_content(&clock_correction(1, corrected));
        assert_eq!(vault.import(Verdict::Authentic(content)), Ok(()));
        assert_eq!(stopped(&vault), None);
        assert_eq!(asks(&mut vault, right, 2), "reserved");
        assert_eq!(vault.findings(), []);
    }
}

#[test]
fn while_the_clock_is_not_believed_dispatches_enter_and_expire_by_the_time_of_the_log() {
    let mut vault = issuing();
    let wrong = reading(NEW_YEAR + 9 * 365 * DAY, boot(1, HOUR));
    starts(&mut vault, wrong);
    let late = entitlement("second", vec![product(2, "TH-300", 1)]);
    assert_eq!(vault.entitle(&late), Ok(()));
    assert_eq!(vault.state.mark(), NEW_YEAR);
    vault.report();
    assert_eq!(vault.findings(), []);
}

#[test]
fn what_the_clock_said_before_the_vault_was_let_in_counts_for_nothing() {
    for (before, at, mark) in [
        // Made in 2036, and set right before the grant comes.
        (NEW_YEAR + 9 * 365 * DAY, NEW_YEAR, NEW_YEAR),
        // Made in 1970; the battery is replaced after the grant, of whose day it is at least.
        (0, 1000, NEW_YEAR - 2 * DAY),
        // It lay in a drawer.
        (NEW_YEAR - 300 * DAY, NEW_YEAR, NEW_YEAR),
    ] {
        let mut vault = Chronicle::new();
        starts(&mut vault, reading(before, boot(1, 60)));
        starts(&mut vault, reading(at, boot(1, 120)));
        let granted = vault.import(Verdict::Authentic(grant_content(&grant())));
        assert_eq!(granted, Ok(()), "{before}");
        assert_eq!(vault.state.mark(), mark, "{before}");
        let first = entitlement("first", vec![product(1, "TH-200", 100)]);
        assert_eq!(vault.entitle(&first), Ok(()));
        let right = reading(NEW_YEAR + HOUR, boot(1, 120 + HOUR));
        assert_eq!(asks(&mut vault, right, 1), "reserved", "{before}");
        assert_eq!(vault.findings(), []);
    }
}

#[test]
fn a_start_whose_clocks_tell_of_a_jump_is_followed_by_the_word_of_it() {
    let mut vault = issuing();
    let now = reading(NEW_YEAR + DAY, boot(1, HOUR));
    let time = vault.state.mark();
    let size = vault.state.size();
    vault.write_entry(Entry {
        time,
        clock_behind_seconds: -(DAY as i64),
        body: Body::Start(Start {
            steady: now.steady,
            ..start(vault.state.boot() + 1)
        }),
    });
    // A patched vault goes on as if nothing were.
    vault.now = now.clock;
    let _ = vault.request("TH-200", &csr("A2", 2));
    assert_eq!(vault.findings(), [(size + 1, "CLOCK-MISMATCH")]);
}

#[test]
fn a_patched_vault_that_lies_of_its_clocks_is_found() {
    let jumped = reading(NEW_YEAR + DAY, boot(1, HOUR));
    let said = |believed, expected| {
        Body::Clock(ClockFound {
            believed,
            expected,
            steady: jumped.steady,
        })
    };
    // Its start raises the time to a clock that cannot be.
    let mut vault = issuing();
    let size = vault.state.size();
    vault.write_entry(Entry {
        time: jumped.clock,
        clock_behind_seconds: 0,
        body: Body::Start(Start {
            steady: jumped.steady,
            ..start(vault.state.boot() + 1)
        }),
    });
    assert_eq!(vault.findings(), [(size, "TIME-BACK")]);
    // It stops where nothing is wrong, or goes on where something is, or says that it expected something else.
    for (at, wrong) in [
        (reading(NEW_YEAR, boot(1, HOUR)), said(false, NEW_YEAR)),
        (jumped, said(true, NEW_YEAR)),
        (jumped, said(false, NEW_YEAR + 1)),
    ] {
        let mut vault = issuing();
        let size = vault.state.size();
        let time = vault.state.mark();
        vault.write_entry(Entry {
            time,
            clock_behind_seconds: time as i64 - at.clock as i64,
            body: wrong,
        });
        let codes: Vec<_> = vault.findings();
        assert_eq!(codes, [(size, "CLOCK-MISMATCH")], "{at:?}");
    }
    // It issues while it is stopped, and while it is stopped it lets time go on.
    let mut vault = issuing();
    starts(&mut vault, jumped);
    let size = vault.state.size();
    let honest = issuing().decision("TH-200", &csr("A2", 2));
    vault.write(request("TH-200", &csr("A2", 2)));
    vault.write(honest);
    let found = vault.findings();
    assert!(
        matches!(found[..], [(at, "POLICY-BREACH" | "SERIAL-MISMATCH")] if at == size + 1),
        "{found:?}"
    );
    let mut vault = issuing();
    starts(&mut vault, jumped);
    let size = vault.state.size();
    vault.write_entry(Entry {
        time: NEW_YEAR + DAY,
        clock_behind_seconds: 0,
        body: request("TH-200", &csr("A2", 2)),
    });
    let found = vault.findings();
    assert_eq!(found[0], (size, "TIME-BACK"), "{found:?}");
}

#[test]
fn whether_a_clock_can_be_confirmed_is_told_before_it_is_on_record_that_it_is_not_believed() {
    let vault = issuing();
    let can = |vault: &Chronicle, now| {
        let told = vault.state.clock_confirmable(now);
        told.map_err(|refusal| refusal.code().to_owned())
    };
    let (right, jumped) = (
        reading(NEW_YEAR + HOUR, boot(1, 2 * HOUR)),
        reading(NEW_YEAR + 2 * DAY, boot(1, 2 * HOUR)),
    );
    let believed = Err("CLOCK-BELIEVED".to_owned());
    assert_eq!(can(&vault, right), believed);
    assert_eq!(can(&vault, jumped), Ok(()));
    let mut vault = vault;
    starts(&mut vault, jumped);
    assert_eq!(can(&vault, jumped), Ok(()));
    assert_eq!(can(&vault, right), believed);
}

#[test]
fn a_clock_that_stops_the_line_is_told_what_it_should_say_or_the_latest_that_it_may() {
    let told = |now: Reading, later: u64| {
        let mut vault = issuing();
        starts(&mut vault, now);
        vault.now = later;
        vault.why("TH-200", &csr("A2", 2)).1
    };
    let latest = NEW_YEAR + CLOCK_GAP_DAYS_DEFAULT * DAY;
    let ahead = reading(latest + 1, boot(2, 5));
    let may = "should say 2027-01-31T00:00:00Z at the latest: it is too far ahead of the log";
    let ought = "should say 2027-01-31T00:00:00Z or so: it was set, or stood still";
    for (clock, words) in [(latest + 1, may), (latest, ought), (latest - 1, ought)] {
        let told = told(ahead, clock);
        assert!(told.ends_with(words), "{clock}: {told}");
    }
    let jumped = reading(NEW_YEAR + DAY, boot(1, 2 * HOUR));
    let told = told(jumped, NEW_YEAR + DAY);
    let words = "should say 2027-01-01T01:00:00Z or so: it was set, or stood still";
    assert!(told.ends_with(words), "{told}");
}
