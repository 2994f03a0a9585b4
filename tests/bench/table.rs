//! Numbers into a table.

use std::collections::HashMap;

use crate::rivals::Who;
use crate::rows::{Row, Target};

/// Every number of every round; one that could not be had is not a number.
#[derive(Default)]
pub struct Results(HashMap<(&'static str, usize, Who), Vec<f64>>);

impl Results {
    /// Notes what a sample yielded.
    pub fn note(&mut self, row: &Row, who: Who, numbers: Option<&[f64]>) {
        for measure in 0..row.measures.len() {
            let number = numbers.and_then(|numbers| numbers.get(measure)).copied();
            let all = self.0.entry((row.name, measure, who)).or_default();
            all.push(number.unwrap_or(f64::NAN));
        }
    }

    /// Whether a sample could not be had.
    pub fn has_failed(&self, row: &Row, who: Who) -> bool {
        self.rounds(row.name, 0, who).iter().any(|number| number.is_nan())
    }

    fn rounds(&self, row: &'static str, measure: usize, who: Who) -> &[f64] {
        self.0.get(&(row, measure, who)).map_or(&[], Vec::as_slice)
    }

    /// The rows as a table in Markdown.
    pub fn table(&self, rows: &[&'static Row]) -> String {
        let names = Who::ALL.map(Who::name).join(" | ");
        let mut table = format!("| work | in | {names} | ntlmaps should be |\n|---|---|");
        table += &"---:|".repeat(Who::ALL.len());
        table += "---|\n";
        for row in rows {
            for (at, measure) in row.measures.iter().enumerate() {
                let title = if at == 0 { row.title } else { "" };
                let mut line = format!("| {title} | {} |", measure.unit);
                for who in Who::ALL {
                    let number = median(self.rounds(row.name, at, who));
                    line += &number.map_or(" |".to_owned(), |n| format!(" {} |", figure(n)));
                }
                let told: Vec<_> =
                    measure.targets.iter().map(|t| self.verdict(row, at, t)).collect();
                table += &format!("{line} {} |\n", told.join("; "));
            }
        }
        table
    }

    fn verdict(&self, row: &Row, measure: usize, target: &Target) -> String {
        let own = self.rounds(row.name, measure, Who::Ntlmaps);
        let (least, bound, other, whose) = match *target {
            Target::AtLeast(bound, who) => {
                (true, bound, Some(self.rounds(row.name, measure, who)), who.name())
            }
            Target::AtMost(bound, who) => {
                (false, bound, Some(self.rounds(row.name, measure, who)), who.name())
            }
            Target::AtMostOfRow(bound, row) => {
                (false, bound, Some(self.rounds(row, measure, Who::Ntlmaps)), row)
            }
            Target::Min(bound) => (true, bound, None, ""),
            Target::Max(bound) => (false, bound, None, ""),
        };
        let sign = if least { "≥" } else { "≤" };
        let number = match other {
            // Round by round: what slows a round slows both.
            Some(other) => {
                median(&own.iter().zip(other).map(|(own, other)| own / other).collect::<Vec<_>>())
            }
            None => median(own),
        };
        let Some(number) = number else { return format!("{sign} {bound} {whose}: not measured") };
        let met = if least { number >= bound } else { number <= bound };
        match (other, met) {
            (Some(_), true) => format!("{sign} {bound} of {whose}: {number:.2}"),
            (Some(_), false) => format!("**{sign} {bound} of {whose}: {number:.2}, missed**"),
            (None, true) => format!("{sign} {bound}"),
            (None, false) => format!("**{sign} {bound}: missed**"),
        }
    }
}

/// The middle one of those that could be had.
fn median(numbers: &[f64]) -> Option<f64> {
    let mut numbers: Vec<f64> = numbers.iter().copied().filter(|n| n.is_finite()).collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    let upper = numbers.get(middle)?;
    let even = numbers.len().is_multiple_of(2);
    Some(if even { (upper + numbers.get(middle - 1)?) / 2.0 } else { *upper })
}

/// Three digits that matter.
fn figure(number: f64) -> String {
    match number {
        n if n == 0.0 || n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n if n >= 1.0 => format!("{n:.2}"),
        n => format!("{n:.3}"),
    }
}
