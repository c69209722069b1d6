//! Working hours where clocks go forward and back. The moments were worked out by hand from the zones' rules: Berlin is
//! UTC+1, and UTC+2 from 28 March 2027 01:00Z to 31 October 2027 01:00Z; New York is UTC-5, and UTC-4 from 14 March 2027
//! 07:00Z to 7 November 2027 06:00Z.

use mintmark_protocol::entitlement::INTERVALS_MAX;

use super::*;

const ALL: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Unix seconds of `2027-03-28T01:00:00Z`.
fn utc(text: &str) -> u64 {
    u64::try_from(
        chrono::DateTime::parse_from_rfc3339(text)
            .unwrap()
            .timestamp(),
    )
    .unwrap()
}

/// The intervals of a window, as text.
fn intervals(zone: &str, days: &[&str], from: &str, to: &str, window: [&str; 2]) -> Vec<String> {
    let hours = WorkingHours::new(zone, days, from, to).unwrap();
    let window = Interval {
        from: utc(window[0]),
        until: utc(window[1]),
    };
    let texts = hours.compile(window).unwrap();
    texts
        .iter()
        .map(|i| format!("{} {}", explain::moment(i.from), explain::moment(i.until)))
        .collect()
}

#[test]
fn hours_follow_the_wall_clock_of_berlin_into_summer() {
    // Saturday, the Sunday of the change, Monday.
    let window = ["2027-03-27T00:00:00Z", "2027-03-30T00:00:00Z"];
    assert_eq!(
        intervals(
            "Europe/Berlin",
            &["sat", "sun", "mon"],
            "06:00",
            "22:00",
            window
        ),
        [
            "2027-03-27T05:00:00Z 2027-03-27T21:00:00Z",
            "2027-03-28T04:00:00Z 2027-03-28T20:00:00Z",
            "2027-03-29T04:00:00Z 2027-03-29T20:00:00Z",
        ]
    );
}

#[test]
fn hours_follow_the_wall_clock_of_new_york_into_winter() {
    let window = ["2027-11-06T00:00:00Z", "2027-11-09T00:00:00Z"];
    assert_eq!(
        intervals(
            "America/New_York",
            &["sat", "sun", "mon"],
            "08:00",
            "12:30",
            window
        ),
        [
            "2027-11-06T12:00:00Z 2027-11-06T16:30:00Z",
            "2027-11-07T13:00:00Z 2027-11-07T17:30:00Z",
            "2027-11-08T13:00:00Z 2027-11-08T17:30:00Z",
        ]
    );
}

#[test]
fn a_start_that_does_not_exist_moves_to_the_end_of_the_gap() {
    // 02:30 on 28 March 2027 does not exist in Berlin; the gap ends at 01:00Z.
    let window = ["2027-03-28T00:00:00Z", "2027-03-29T00:00:00Z"];
    let hours = intervals("Europe/Berlin", &["sun"], "02:30", "06:00", window);
    assert_eq!(hours, ["2027-03-28T01:00:00Z 2027-03-28T04:00:00Z"]);
    let window = ["2027-03-14T00:00:00Z", "2027-03-15T00:00:00Z"];
    let hours = intervals("America/New_York", &["sun"], "02:30", "06:00", window);
    assert_eq!(hours, ["2027-03-14T07:00:00Z 2027-03-14T10:00:00Z"]);
}

#[test]
fn an_end_that_does_not_exist_moves_to_the_end_of_the_gap() {
    let window = ["2027-03-27T12:00:00Z", "2027-03-29T00:00:00Z"];
    let hours = intervals("Europe/Berlin", &["sat"], "22:00", "02:30", window);
    assert_eq!(hours, ["2027-03-27T21:00:00Z 2027-03-28T01:00:00Z"]);
}

#[test]
fn hours_that_lie_in_the_gap_do_not_happen() {
    let window = ["2027-03-20T00:00:00Z", "2027-04-05T00:00:00Z"];
    assert_eq!(
        intervals("Europe/Berlin", &["sun"], "02:00", "03:00", window),
        [
            "2027-03-21T01:00:00Z 2027-03-21T02:00:00Z",
            "2027-04-04T00:00:00Z 2027-04-04T01:00:00Z"
        ]
    );
}

#[test]
fn of_a_time_that_comes_twice_the_start_is_the_first_and_the_end_the_second() {
    // 02:30 on 31 October 2027 is 00:30Z and 01:30Z in Berlin; 01:30 on 7 November 2027 is 05:30Z and 06:30Z in New York.
    let window = ["2027-10-30T00:00:00Z", "2027-11-01T00:00:00Z"];
    let from = intervals("Europe/Berlin", &["sun"], "02:30", "06:00", window);
    assert_eq!(from, ["2027-10-31T00:30:00Z 2027-10-31T05:00:00Z"]);
    let to = intervals("Europe/Berlin", &["sat"], "22:00", "02:30", window);
    assert_eq!(to, ["2027-10-30T20:00:00Z 2027-10-31T01:30:00Z"]);
    let window = ["2027-11-07T00:00:00Z", "2027-11-08T00:00:00Z"];
    let both = intervals("America/New_York", &["sun"], "01:30", "01:45", window);
    assert_eq!(both, ["2027-11-07T05:30:00Z 2027-11-07T06:45:00Z"]);
}

#[test]
fn a_shift_over_midnight_belongs_to_the_day_it_starts_on() {
    // Friday 1 January 2027 at 22:00 in Berlin until Saturday 06:00; Sunday's shift starts on no listed day.
    let window = ["2026-12-31T00:00:00Z", "2027-01-08T00:00:00Z"];
    assert_eq!(
        intervals("Europe/Berlin", &["fri"], "22:00", "06:00", window),
        ["2027-01-01T21:00:00Z 2027-01-02T05:00:00Z"]
    );
}

#[test]
fn equal_times_are_a_day_and_days_that_touch_become_one() {
    let window = ["2027-01-01T00:00:00Z", "2027-01-15T00:00:00Z"];
    assert_eq!(
        intervals("UTC", &["mon", "tue"], "06:00", "06:00", window),
        [
            "2027-01-04T06:00:00Z 2027-01-06T06:00:00Z",
            "2027-01-11T06:00:00Z 2027-01-13T06:00:00Z"
        ]
    );
    assert_eq!(
        intervals("UTC", &["mon", "tue"], "00:00", "24:00", window),
        [
            "2027-01-04T00:00:00Z 2027-01-06T00:00:00Z",
            "2027-01-11T00:00:00Z 2027-01-13T00:00:00Z"
        ]
    );
    // The hour that comes twice makes the days overlap.
    let window = ["2027-10-30T12:00:00Z", "2027-11-01T12:00:00Z"];
    assert_eq!(
        intervals("Europe/Berlin", &ALL, "02:30", "02:30", window),
        ["2027-10-30T12:00:00Z 2027-11-01T12:00:00Z"]
    );
}

#[test]
fn hours_are_cut_at_the_window() {
    let window = ["2027-01-01T23:00:00Z", "2027-01-02T22:00:00Z"];
    assert_eq!(
        intervals("Europe/Berlin", &ALL, "22:00", "06:00", window),
        [
            "2027-01-01T23:00:00Z 2027-01-02T05:00:00Z",
            "2027-01-02T21:00:00Z 2027-01-02T22:00:00Z"
        ]
    );
}

#[test]
fn a_day_that_a_zone_skipped_has_no_hours() {
    // Samoa went from 29 to 31 December 2011 (from UTC-10 to UTC+14, both with summer time).
    let window = ["2011-12-29T00:00:00Z", "2012-01-02T00:00:00Z"];
    assert_eq!(
        intervals("Pacific/Apia", &["fri", "sat"], "08:00", "12:00", window),
        ["2011-12-30T18:00:00Z 2011-12-30T22:00:00Z"]
    );
}

#[test]
fn a_window_without_hours_is_refused() {
    let hours = WorkingHours::new("Europe/Berlin", &["sun"], "06:00", "22:00").unwrap();
    let monday = Interval {
        from: utc("2027-01-04T00:00:00Z"),
        until: utc("2027-01-05T00:00:00Z"),
    };
    assert_eq!(
        hours.compile(monday).unwrap_err().to_string(),
        "the window holds none of these hours"
    );
}

#[test]
fn more_intervals_than_an_entitlement_holds_are_refused() {
    let hours = WorkingHours::new("UTC", &ALL, "06:00", "22:00").unwrap();
    let days = |days: usize| Interval {
        from: Q1.from,
        until: Q1.from + 86_400 * u64::try_from(days).unwrap(),
    };
    assert_eq!(
        hours.compile(days(INTERVALS_MAX)).unwrap().len(),
        INTERVALS_MAX
    );
    let error = hours
        .compile(days(INTERVALS_MAX + 1))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the window holds more than 8192 stretches of working hours"
    );
}

#[test]
fn hours_that_are_none_are_refused() {
    let error = |zone: &str, days: &[&str], from: &str, to: &str| {
        WorkingHours::new(zone, days, from, to)
            .unwrap_err()
            .to_string()
    };
    assert!(
        error("Europe/Berlln", &["mon"], "06:00", "22:00")
            .contains("zone `Europe/Berlln` is not in the IANA")
    );
    assert!(error("UTC", &["monday"], "06:00", "22:00").contains("day `monday` is none of mon"));
    assert_eq!(
        error("UTC", &["mon", "mon"], "06:00", "22:00"),
        "day `mon` is named twice"
    );
    assert_eq!(error("UTC", &[], "06:00", "22:00"), "days names no day");
    for bad in [
        "6:00", "0600", "06:60", "24:00", "06:00:00", "+6:00", "-1:00", "",
    ] {
        assert_eq!(
            error("UTC", &["mon"], bad, "22:00"),
            format!("from = \"{bad}\" is not a time like \"06:00\"")
        );
    }
    assert_eq!(
        error("UTC", &["mon"], "06:00", "24:01"),
        "to = \"24:01\" is not a time like \"06:00\""
    );
}

#[test]
fn a_policy_says_where_its_hours_are_wrong() {
    let wrong = without_keys().replace("Europe/Berlin", "Berlin");
    let error = Policy::parse(&wrong).unwrap_err();
    assert_eq!(error.code(), "POLICY-HOURS");
    assert!(
        error
            .to_string()
            .starts_with("policy line 19: working_hours: zone `Berlin` is not in"),
        "{error}"
    );
    // A window that the text fixes is held against the hours at once: 1 and 2 January 2027 are a Friday and a Saturday.
    let none = without_keys().replace("2027-04-01", "2027-01-03");
    let error = Policy::parse(&none).unwrap_err();
    assert_eq!(
        error.to_string(),
        "policy line 19: working_hours: the window holds none of these hours"
    );
}

#[test]
fn hours_are_described_as_they_are_written() {
    let text = |days: &[&str], from, to| {
        WorkingHours::new("Europe/Berlin", days, from, to)
            .unwrap()
            .to_string()
    };
    assert_eq!(
        text(&["mon", "tue"], "06:00", "22:00"),
        "06:00 to 22:00 Europe/Berlin on mon, tue"
    );
    assert_eq!(
        text(&ALL, "22:00", "06:00"),
        "22:00 to 06:00 of the day after Europe/Berlin every day"
    );
    assert_eq!(
        text(&["sun"], "06:00", "06:00"),
        "06:00 to 06:00 of the day after Europe/Berlin on sun"
    );
    assert_eq!(
        text(&["sun"], "00:00", "24:00"),
        "00:00 to 24:00 Europe/Berlin on sun"
    );
}
