//! Plots over time and by rule, as SVG: drawn from what the report counts, without a script, and legible without colours.

use maud::{Markup, html};

use super::period::Day;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// More bars than these cannot be told apart.
const BINS_MAX: u64 = 92;

/// The days that a plot shows, in bins of as many days each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    first: u64,
    bins: u64,
    /// Days of one bin.
    pub(super) width: u64,
}

impl Axis {
    /// From one day to another, both included.
    pub(super) fn new(first: Day, last: Day) -> Self {
        let days = last.0.saturating_sub(first.0).saturating_add(1);
        let width = days.div_ceil(BINS_MAX).max(1);
        Self {
            first: first.0,
            bins: days.div_ceil(width),
            width,
        }
    }

    /// The bin of a day, the first for what was before.
    pub(super) fn bin(&self, day: Day) -> usize {
        let bin = day.0.saturating_sub(self.first) / self.width;
        bin.min(self.bins.saturating_sub(1)) as usize
    }

    /// How many bins there are.
    pub(super) fn len(&self) -> usize {
        self.bins as usize
    }

    /// The days of a bin, for people.
    pub(super) fn label(&self, bin: usize) -> String {
        let first = self.first.saturating_add(bin as u64 * self.width);
        match self.width {
            1 => Day(first).to_string(),
            width => format!("{} to {}", Day(first), Day(first + width - 1)),
        }
    }

    /// The last day of a bin.
    pub(super) fn end(&self, bin: usize) -> u64 {
        let bins = (bin as u64).saturating_add(1);
        self.first
            .saturating_add(bins.saturating_mul(self.width))
            .saturating_sub(1)
    }

    fn x(&self, bin: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * bin / self.bins as f64
    }
}

/// How a series looks: a class of the page's style sheet.
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) class: &'static str,
    /// One value for each bin.
    pub(super) values: Vec<u64>,
}

/// What is drawn over the bins.
pub(super) struct Plot {
    /// Unique in the page.
    pub(super) id: String,
    pub(super) title: String,
    pub(super) axis: Axis,
    /// Stacked, the first at the bottom.
    pub(super) bars: Vec<Series>,
    /// As steps.
    pub(super) lines: Vec<Series>,
}

impl Plot {
    /// The figure, its values as a table beneath it.
    pub(super) fn draw(&self) -> Markup {
        let top = self.scale();
        let axis = &self.axis;
        let title = format!("{}-title", self.id);
        html! {
            figure {
                figcaption id=(title) { (self.title) }
                (self.legend())
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-labelledby=(title) {
                    (grid(top))
                    (self.days())
                    @for bin in 0..axis.len() { (self.column(bin, top)) }
                    @for line in &self.lines {
                        path class=(format!("line {}", line.class)) d=(steps(axis, &line.values, top)) {}
                    }
                }
                (self.figures())
            }
        }
    }

    /// The value at the top of the plot.
    fn scale(&self) -> u64 {
        let stacked = |bin: usize| {
            let values = self.bars.iter().filter_map(|series| series.values.get(bin));
            values.fold(0u64, |sum, value| sum.saturating_add(*value))
        };
        let bars = (0..self.axis.len()).map(stacked).max().unwrap_or(0);
        let lines = self
            .lines
            .iter()
            .flat_map(|line| line.values.iter().copied());
        round_up(bars.max(lines.max().unwrap_or(0)))
    }

    fn column(&self, bin: usize, top: u64) -> Markup {
        let (from, to) = (self.axis.x(bin as f64), self.axis.x(bin as f64 + 1.0));
        let gap = ((to - from) * 0.12).min(2.0);
        let mut below = 0u64;
        let mut parts = Vec::new();
        for series in &self.bars {
            let value = series.values.get(bin).copied().unwrap_or(0);
            if value > 0 {
                let above = below.saturating_add(value);
                parts.push((series, value, y(below, top), y(above, top)));
                below = above;
            }
        }
        html! {
            @for (series, value, low, high) in parts {
                rect class=(format!("bar {}", series.class)) x=(at(from + gap)) y=(at(high))
                    width=(at((to - from - 2.0 * gap).max(0.4))) height=(at((low - high).max(0.4))) {
                    title { (self.axis.label(bin)) ": " (grouped(value)) " " (series.name) }
                }
            }
        }
    }

    fn days(&self) -> Markup {
        const LABELS_MAX: usize = 5;
        let bins = self.axis.len();
        let every = bins.div_ceil(LABELS_MAX).max(1);
        html! {
            @for bin in (0..bins).step_by(every) {
                @let x = at(self.axis.x(bin as f64));
                line class="tick" x1=(x) x2=(x) y1=(at(HEIGHT - BOTTOM)) y2=(at(HEIGHT - BOTTOM + 5.0)) {}
                text x=(x) y=(at(HEIGHT - 8.0)) { (Day(self.axis.first.saturating_add(bin as u64 * self.axis.width))) }
            }
        }
    }

    fn legend(&self) -> Markup {
        html! {
            ul.legend {
                @for series in self.bars.iter().chain(&self.lines) {
                    li {
                        svg viewBox="0 0 18 10" aria-hidden="true" {
                            @if self.bars.iter().any(|bar| bar.name == series.name) {
                                rect class=(format!("bar {}", series.class)) x="0" y="0" width="18" height="10" {}
                            } @else {
                                path class=(format!("line {}", series.class)) d="M0 5H18" {}
                            }
                        }
                        (series.name)
                    }
                }
            }
        }
    }

    fn figures(&self) -> Markup {
        let series: Vec<_> = self.bars.iter().chain(&self.lines).collect();
        html! {
            details {
                summary { "Figures of this plot" }
                div.scroll tabindex="0" role="region" aria-label=(format!("Figures: {}", self.title)) {
                    table {
                        thead { tr {
                            th scope="col" { "Day" }
                            @for series in &series { th scope="col" .number { (series.name) } }
                        } }
                        tbody { @for bin in 0..self.axis.len() { tr {
                            th scope="row" { (self.axis.label(bin)) }
                            @for series in &series {
                                td.number { (grouped(series.values.get(bin).copied().unwrap_or(0))) }
                            }
                        } } }
                    }
                }
            }
        }
    }
}

/// Bars that lie, one for each name, the longest first.
pub(super) fn ranked(id: &str, title: &str, values: &[(String, u64)]) -> Markup {
    const ROW: f64 = 24.0;
    const NAMES: f64 = 220.0;
    const NUMBERS: f64 = 70.0;
    let top = values
        .iter()
        .map(|(_, value)| *value)
        .max()
        .unwrap_or(0)
        .max(1);
    let height = ROW * values.len() as f64 + 4.0;
    let heading = format!("{id}-title");
    html! {
        figure {
            figcaption id=(heading) { (title) }
            svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-labelledby=(heading) {
                @for (row, (name, value)) in values.iter().enumerate() {
                    @let y = ROW * row as f64;
                    @let width = (WIDTH - NAMES - NUMBERS) * (*value as f64 / top as f64);
                    text.name x=(at(NAMES - 8.0)) y=(at(y + 16.0)) { (name) }
                    rect.bar.first x=(at(NAMES)) y=(at(y + 4.0)) width=(at(width.max(1.0))) height=(at(ROW - 8.0)) {}
                    text.count x=(at(NAMES + width.max(1.0) + 6.0)) y=(at(y + 16.0)) { (grouped(*value)) }
                }
            }
        }
    }
}

fn grid(top: u64) -> Markup {
    const LINES: u64 = 4;
    html! {
        @for line in 0..=LINES {
            @let value = top / LINES * line;
            @let y = y(value, top);
            line class=(if line == 0 { "axis" } else { "grid" }) x1=(at(LEFT)) x2=(at(WIDTH - RIGHT)) y1=(at(y)) y2=(at(y)) {}
            text.value x=(at(LEFT - 6.0)) y=(at(y + 4.0)) { (grouped(value)) }
        }
    }
}

fn steps(axis: &Axis, values: &[u64], top: u64) -> String {
    let mut path = String::new();
    for (bin, value) in values.iter().enumerate() {
        let (from, to, y) = (
            at(axis.x(bin as f64)),
            at(axis.x(bin as f64 + 1.0)),
            at(y(*value, top)),
        );
        let go = if bin == 0 { 'M' } else { 'L' };
        path += &format!("{go}{from} {y}L{to} {y}");
    }
    path
}

fn y(value: u64, top: u64) -> f64 {
    let part = value.min(top) as f64 / top.max(1) as f64;
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part
}

/// A coordinate: a tenth of a pixel is enough.
fn at(coordinate: f64) -> String {
    format!("{:.1}", coordinate)
}

/// The next number above that divides into four parts which are easy to read.
fn round_up(value: u64) -> u64 {
    let mut unit: u64 = 1;
    loop {
        for parts in [4, 8, 20] {
            let top = unit.saturating_mul(parts);
            if top >= value || top == u64::MAX {
                return top;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

/// A number with its thousands apart, by a blank that does not break.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_holds_its_values_and_divides_into_four() {
        for (value, top) in [
            (0, 4),
            (4, 4),
            (5, 8),
            (9, 20),
            (21, 40),
            (990, 2000),
            (8001, 20_000),
        ] {
            assert_eq!(round_up(value), top, "{value}");
        }
        assert_eq!(round_up(u64::MAX), u64::MAX);
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
    }

    #[test]
    fn every_day_of_an_axis_has_its_bin_however_long_it_is() {
        for (first, last) in [(5, 5), (0, 91), (0, 92), (20_000, 20_365), (0, 2_932_896)] {
            let axis = Axis::new(Day(first), Day(last));
            assert!(axis.len() <= BINS_MAX as usize);
            assert_eq!(axis.bin(Day(first)), 0);
            assert_eq!(axis.bin(Day(last)), axis.len() - 1);
            assert!(axis.end(axis.len() - 1) >= last);
        }
        assert_eq!(Axis::new(Day(0), Day(u64::MAX)).bin(Day(u64::MAX)), 91);
    }
}
