//! Which plots a report has.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::books::Moves;
use super::chart::{Axis, Plot, Series, grouped, ranked};
use super::period::Day;
use super::{Line, Report};
use crate::registry::postings::Bucket;

/// Accounts that have plots of their own: those with the most units. All are in the table.
const ACCOUNTS_MAX: usize = 24;
/// Rules that have a bar of their own.
const RULES_MAX: usize = 12;

/// The section of a page.
pub(super) fn section(report: &Report) -> Markup {
    let days = || report.days.iter().map(|day| day.day);
    let since = report.query.period.since.or_else(|| days().min());
    let as_of = report.query.period.as_of.or_else(|| days().max());
    let unreported = report.unreported.keys().next_back().copied();
    html! {
        section aria-labelledby="plots" {
            h2 id="plots" { "Plots" }
            @match (since, as_of) {
                (Some(since), Some(as_of)) if !report.days.is_empty() || !report.refusals.is_empty() => {
                    @let axis = Axis::new(since, as_of.max(since));
                    @let longer = Axis::new(since, as_of.max(unreported.unwrap_or(as_of)));
                    div.plots {
                        (yield_and_scrap(report, axis))
                        (unreported_units(report, longer))
                        (refusals(report))
                    }
                    (accounts(report, axis))
                }
                _ => p { "Nothing was made or refused in this period." },
            }
        }
    }
}

/// What came into the buckets that a unit ends in, by day.
fn yield_and_scrap(report: &Report, axis: Axis) -> Markup {
    let into = |bucket| {
        let mut values = vec![0u64; axis.len()];
        for day in &report.days {
            if let Some(value) = values.get_mut(axis.bin(day.day)) {
                *value = value.saturating_add(day.moves.credited_to(bucket));
            }
        }
        values
    };
    let sum = |bucket| -> u64 { into(bucket).into_iter().fold(0, u64::saturating_add) };
    let (good, scrapped, voided) = (
        sum(Bucket::Good),
        sum(Bucket::Scrapped),
        sum(Bucket::Voided),
    );
    let lost = scrapped.saturating_add(voided).min(good);
    let share = match good {
        0 => String::new(),
        // Whatever was scrapped or voided was good before, or would have been.
        _ => format!(
            " (yield {:.2} %)",
            (good - lost) as f64 * 100.0 / good as f64
        ),
    };
    let series = |name, class, bucket| Series {
        name,
        class,
        values: into(bucket),
    };
    let plot = Plot {
        id: "yield".to_owned(),
        title: format!("Yield and scrap: units by day{}{share}", binned(axis)),
        axis,
        bars: vec![
            series("certified", "first", Bucket::Good),
            series("scrapped", "second", Bucket::Scrapped),
            series("voided", "third", Bucket::Voided),
        ],
        lines: Vec::new(),
    };
    plot.draw()
}

/// Units of which headquarters learned later, at the end of each day.
fn unreported_units(report: &Report, axis: Axis) -> Markup {
    let mut values = vec![0u64; axis.len()];
    for (day, units) in &report.unreported {
        if let Some(value) = values.get_mut(axis.bin(*day)) {
            *value = (*value).max(*units);
        }
    }
    let plot = Plot {
        id: "unreported".to_owned(),
        title: format!(
            "Units that were made and not yet reported, at the end of the day{}",
            most(axis)
        ),
        axis,
        bars: Vec::new(),
        lines: vec![Series {
            name: "unreported units",
            class: "first",
            values,
        }],
    };
    plot.draw()
}

fn refusals(report: &Report) -> Markup {
    let mut by_rule: BTreeMap<&str, u64> = BTreeMap::new();
    for (rule, requests) in &report.refusals {
        let sum = by_rule.entry(&rule.code).or_default();
        *sum = sum.saturating_add(*requests);
    }
    let mut ranked_rules: Vec<(String, u64)> = by_rule
        .into_iter()
        .map(|(code, requests)| (code.to_owned(), requests))
        .collect();
    ranked_rules.sort_by_key(|(_, requests)| std::cmp::Reverse(*requests));
    let others = ranked_rules.split_off(ranked_rules.len().min(RULES_MAX));
    if !others.is_empty() {
        let sum = others.iter().map(|(_, requests)| *requests);
        let sum = sum.fold(0, u64::saturating_add);
        ranked_rules.push((format!("{} other rules", others.len()), sum));
    }
    if ranked_rules.is_empty() {
        return html! { figure { figcaption { "Refused requests by rule" } p { "None." } } };
    }
    ranked("refusals", "Refused requests by rule", &ranked_rules)
}

fn accounts(report: &Report, axis: Axis) -> Markup {
    let mut by_line: BTreeMap<usize, Vec<(Day, &Moves)>> = BTreeMap::new();
    for day in &report.days {
        by_line
            .entry(day.line)
            .or_default()
            .push((day.day, &day.moves));
    }
    let mut chosen: Vec<(usize, &Line)> = report
        .lines
        .iter()
        .enumerate()
        .filter(|(at, _)| by_line.contains_key(at))
        .collect();
    let left_out = chosen.len().saturating_sub(ACCOUNTS_MAX);
    chosen.sort_by_key(|(_, line)| std::cmp::Reverse(line.books.closing.spent()));
    chosen.truncate(ACCOUNTS_MAX);
    html! {
        @if left_out > 0 {
            p.soft {
                "The " (ACCOUNTS_MAX) " accounts with the most units have plots; " (grouped(left_out as u64))
                " others are in the table below. A report of one site or product has the plots of its own."
            }
        }
        @for (at, line) in chosen {
            @let days = by_line.get(&at).map(Vec::as_slice).unwrap_or_default();
            h3 { (line.account.vault) ", " (line.account.sku) ", " (line.account.entitlement) }
            div.plots {
                (against_quota(at, line, days, axis))
                (against_limit(at, line, days, axis))
            }
        }
    }
}

/// Units that were spent by the end of each day, and how many there were to spend.
fn against_quota(at: usize, line: &Line, days: &[(Day, &Moves)], axis: Axis) -> Markup {
    let mut spent = vec![0u64; axis.len()];
    for (day, moves) in days {
        if let Some(value) = spent.get_mut(axis.bin(*day)) {
            *value = value.saturating_add(newly_spent(moves));
        }
    }
    let mut sum = line.books.opening.spent();
    for value in &mut spent {
        sum = sum.saturating_add(*value);
        *value = sum;
    }
    let authorised = |bin: usize| {
        let mut granted = line.granted.iter();
        let newest = granted.rfind(|(day, _)| day.0 <= axis.end(bin));
        newest.map_or(0, |(_, units)| *units)
    };
    let plot = Plot {
        id: format!("quota-{at}"),
        title: "Units spent, all together, against the quota".to_owned(),
        axis,
        bars: Vec::new(),
        lines: vec![
            Series {
                name: "spent",
                class: "first",
                values: spent,
            },
            Series {
                name: "quota",
                class: "limit",
                values: (0..axis.len()).map(authorised).collect(),
            },
        ],
    };
    plot.draw()
}

/// Units of each day, and the most that there may be.
fn against_limit(at: usize, line: &Line, days: &[(Day, &Moves)], axis: Axis) -> Markup {
    let mut spent = vec![0u64; axis.len()];
    for (day, moves) in days {
        if let Some(value) = spent.get_mut(axis.bin(*day)) {
            *value = (*value).max(moves.credited_to(Bucket::Reserved));
        }
    }
    let limit = line.per_day.map(|units| Series {
        name: "limit of a day",
        class: "limit",
        values: vec![units; axis.len()],
    });
    let title = match line.per_day {
        Some(units) => format!(
            "Units per day against the limit of {}{}",
            grouped(units),
            most(axis)
        ),
        None => format!("Units per day; there is no limit of a day{}", most(axis)),
    };
    let plot = Plot {
        id: format!("days-{at}"),
        title,
        axis,
        bars: vec![Series {
            name: "units of a day",
            class: "first",
            values: spent,
        }],
        lines: limit.into_iter().collect(),
    };
    plot.draw()
}

fn newly_spent(moves: &Moves) -> u64 {
    let into = [Bucket::Reserved, Bucket::Burned].map(|bucket| moves.credited_to(bucket));
    into.into_iter().fold(0, u64::saturating_add)
}

fn binned(axis: Axis) -> String {
    match axis.width {
        1 => String::new(),
        days => format!(", {days} days to a bar"),
    }
}

fn most(axis: Axis) -> String {
    match axis.width {
        1 => String::new(),
        days => format!(", the most of {days} days each"),
    }
}
