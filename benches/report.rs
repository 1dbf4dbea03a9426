//! What the bench prints: one line for each figure and rival, and whether the figure is reached.

use std::fmt::Display;

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Bytes,
    Count,
}

impl Unit {
    fn write(self, value: f64) -> String {
        match self {
            Unit::Seconds => match value.abs() {
                0.0..1e-3 => format!("{:.2} µs", value * 1e6),
                1e-3..1.0 => format!("{:.2} ms", value * 1e3),
                _ => format!("{value:.2} s"),
            },
            Unit::Bytes => format!("{:.2} MiB", value / f64::from(1 << 20)),
            Unit::Count if value.fract() == 0.0 => format!("{value}"),
            Unit::Count => format!("{value:.2}"),
        }
    }
}

/// What a figure is measured against.
pub struct Rival<'a> {
    pub name: &'a str,
    pub value: f64,
}

/// Prints as it goes, and keeps what was not reached for the end.
#[derive(Default)]
pub struct Report {
    part: String,
    reached: usize,
    missed: Vec<String>,
}

impl Report {
    pub fn new() -> Self {
        Self::default()
    }

    /// A line of its own.
    pub fn say(&self, text: impl Display) {
        println!("{text}");
    }

    /// Begins a part.
    pub fn part(&mut self, name: &str, about: &str) {
        name.clone_into(&mut self.part);
        println!("\n{name}: {about}");
        println!("  {:<46} {:>11}   {:<38} {:>8}   to reach", "", "secretfs", "rival", "ratio");
    }

    /// A time beside a rival's, and the ratio that it may have at most.
    pub fn against(&mut self, figure: &str, ours: f64, rival: &Rival<'_>, at_most: Option<f64>) {
        self.against_in(Unit::Seconds, figure, ours, rival, at_most);
    }

    /// The same in another unit.
    pub fn against_in(&mut self, unit: Unit, figure: &str, ours: f64, rival: &Rival<'_>, at_most: Option<f64>) {
        let ratio = ours / rival.value;
        let verdict = at_most.map(|limit| (format!("at most {limit}x"), ratio <= limit));
        let name = format!("{} {}", rival.name, unit.write(rival.value));
        self.row(figure, &unit.write(ours), &name, &format!("{ratio:.2}x"), verdict);
    }

    /// A number with nothing beside it, and what it may be at most.
    pub fn alone(&mut self, unit: Unit, figure: &str, ours: f64, at_most: Option<f64>) {
        let verdict = at_most.map(|limit| (format!("at most {}", unit.write(limit)), ours <= limit));
        self.row(figure, &unit.write(ours), "", "", verdict);
    }

    /// A number that must be this one.
    pub fn exactly(&mut self, figure: &str, ours: u64, wanted: u64) {
        self.row(figure, &ours.to_string(), "", "", Some((format!("exactly {wanted}"), ours == wanted)));
    }

    /// Two numbers side by side that are no ratio.
    pub fn beside(&mut self, figure: &str, ours: &str, rival: &str) {
        self.row(figure, ours, rival, "", None);
    }

    fn row(&mut self, figure: &str, ours: &str, rival: &str, ratio: &str, verdict: Option<(String, bool)>) {
        let verdict = match verdict {
            None => String::new(),
            Some((wanted, true)) => {
                self.reached += 1;
                format!("{wanted}: reached")
            }
            Some((wanted, false)) => {
                self.missed.push(format!("{}: {figure}: {ours} {ratio}, {wanted}", self.part));
                format!("{wanted}: NOT reached")
            }
        };
        println!("{}", format!("  {figure:<46} {ours:>11}   {rival:<38} {ratio:>8}   {verdict}").trim_end());
    }

    /// The sum of it.
    pub fn close(&self) {
        println!("\n{} of {} figures reached", self.reached, self.reached + self.missed.len());
        self.missed.iter().for_each(|missed| println!("  NOT reached: {missed}"));
    }
}
