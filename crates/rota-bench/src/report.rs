//! Figures: what was measured, the median of it, and whether it is within its budget.

use std::fmt;

use serde::Serialize;

use crate::machine::Machine;

/// What a figure should stay within.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Budget {
    AtLeast(f64),
    AtMost(f64),
}

impl Budget {
    fn is_kept_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, ">= {limit}"),
            Self::AtMost(limit) => write!(f, "<= {limit}"),
        }
    }
}

/// One thing that was measured, several times.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    pub(crate) samples: usize,
    pub(crate) budget: Option<Budget>,
    pub(crate) within_budget: Option<bool>,
}

impl Figure {
    /// The median of `samples`; of an even number the lower of the two in the middle.
    pub(crate) fn of(name: impl Into<String>, unit: &'static str, samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        Self {
            name: name.into(),
            unit,
            median: at(sorted.len().saturating_sub(1) / 2),
            lowest: at(0),
            highest: at(sorted.len().saturating_sub(1)),
            samples: sorted.len(),
            budget: None,
            within_budget: None,
        }
    }

    pub(crate) fn within(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self.within_budget = Some(budget.is_kept_by(self.median));
        self
    }
}

/// Everything that one run found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Sizes for correctness only: the numbers say nothing.
    pub(crate) quick: bool,
    pub(crate) figures: Vec<Figure>,
    /// What one rotation asks of the database, from the server's log.
    pub(crate) statements: Option<crate::trace::PerRotation>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        if self.quick {
            writeln!(f, "quick run: the numbers say nothing")?;
        }
        let width = self.figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
        writeln!(
            f,
            "\n{:width$}  {:>12}  {:12} {:>26}  {:>3}  budget",
            "figure", "median", "unit", "lowest .. highest", "n"
        )?;
        for figure in &self.figures {
            let range = format!("{} .. {}", short(figure.lowest), short(figure.highest));
            // A quick run measures nothing that a budget could be held against.
            let budget = figure.budget.filter(|_| !self.quick).map(|budget| {
                let kept = if figure.within_budget == Some(true) { "kept" } else { "MISSED" };
                format!("{budget} {kept}")
            });
            writeln!(
                f,
                "{:width$}  {:>12}  {:12} {range:>26}  {:>3}  {}",
                figure.name,
                short(figure.median),
                figure.unit,
                figure.samples,
                budget.unwrap_or_default()
            )?;
        }
        if let Some(statements) = &self.statements {
            write!(f, "\n{statements}")?;
        }
        Ok(())
    }
}

/// A number with as many digits as it can stand for.
fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_value_that_was_measured() {
        assert_eq!(Figure::of("x", "ms", &[3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(Figure::of("x", "ms", &[4.0, 1.0, 2.0, 3.0]).median, 2.0);
        let one = Figure::of("x", "ms", &[7.0]);
        assert_eq!((one.lowest, one.median, one.highest), (7.0, 7.0, 7.0));
    }

    #[test]
    fn a_budget_is_kept_at_its_limit() {
        let figure = |value: f64| Figure::of("x", "ms", &[value]);
        assert_eq!(figure(0.7).within(Budget::AtLeast(0.7)).within_budget, Some(true));
        assert_eq!(figure(0.69).within(Budget::AtLeast(0.7)).within_budget, Some(false));
        assert_eq!(figure(40.0).within(Budget::AtMost(40.0)).within_budget, Some(true));
        assert_eq!(figure(40.1).within(Budget::AtMost(40.0)).within_budget, Some(false));
    }
}
