//! Whether a number is good: within limits of its own, and not much worse than
//! before the promotion.

use std::borrow::Cow;

use rota_core::policy::kinds::KindProblem;
use rota_engine::ports::{Reading, Verdict};
use serde::{Deserialize, Serialize};

use super::reading;

/// What a number may be.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Bounds {
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) max_drop: Option<Change>,
    pub(super) max_rise: Option<Change>,
}

/// How far a number may move from its baseline: `0.02` in its own unit, or `"5%"`
/// of the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(super) enum Change {
    By(f64),
    Percent(f64),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

#[derive(Debug, thiserror::Error)]
#[error("a change is a number such as 0.02 or a share such as \"5%\", and not negative")]
struct InvalidChange;

impl TryFrom<Written> for Change {
    type Error = InvalidChange;

    fn try_from(written: Written) -> Result<Self, InvalidChange> {
        let legal = |number: f64| number.is_finite() && number >= 0.0;
        match written {
            Written::Number(number) if legal(number) => Ok(Self::By(number)),
            Written::Number(_) => Err(InvalidChange),
            Written::Text(text) => {
                let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
                number.filter(|number| legal(*number)).map(Self::Percent).ok_or(InvalidChange)
            }
        }
    }
}

impl From<Change> for Written {
    fn from(change: Change) -> Self {
        match change {
            Change::By(number) => Self::Number(number),
            Change::Percent(number) => Self::Text(format!("{number}%")),
        }
    }
}

impl schemars::JsonSchema for Change {
    fn schema_name() -> Cow<'static, str> {
        "Change".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A number in the metric's own unit, or a share of the baseline such as `5%`.",
            "anyOf": [
                { "type": "number", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?%$" },
            ],
        })
    }
}

impl Change {
    fn of(self, baseline: f64) -> f64 {
        match self {
            Self::By(number) => number,
            Self::Percent(share) => baseline.abs() * share / 100.0,
        }
    }
}

impl Bounds {
    /// What is wrong with them as settings.
    pub(super) fn problem(&self) -> Option<KindProblem> {
        if *self == Self::default() {
            return Some(KindProblem::error(
                "no-bound",
                "",
                "nothing is asked of the number, so every number would be healthy",
                "write `min`, `max`, `max_drop` or `max_rise`",
            ));
        }
        let impossible = matches!((self.min, self.max), (Some(min), Some(max)) if min > max);
        impossible.then(|| {
            KindProblem::error(
                "no-number-fits",
                "/max",
                "no number is above `min` and below `max`",
                "write a `max` that is not below `min`",
            )
        })
    }

    /// Judges `value`; without a baseline that is asked for nobody can tell.
    pub(super) fn judge(&self, value: f64, baseline: Option<f64>) -> Reading {
        if !value.is_finite() {
            return reading(Verdict::Unknown, None, "the number is not finite");
        }
        let say = |verdict, detail| reading(verdict, Some(value), detail);
        if let Some(min) = self.min.filter(|min| value < *min) {
            return say(Verdict::Unhealthy, format!("{value} is below the minimum of {min}"));
        }
        if let Some(max) = self.max.filter(|max| value > *max) {
            return say(Verdict::Unhealthy, format!("{value} is above the maximum of {max}"));
        }
        if self.max_drop.is_none() && self.max_rise.is_none() {
            return say(Verdict::Healthy, value.to_string());
        }
        let Some(before) = baseline.filter(|before| before.is_finite()) else {
            let why = "and nothing is known from before the promotion to compare with";
            return say(Verdict::Unknown, format!("{value}, {why}"));
        };
        if self.max_drop.is_some_and(|drop| value < before - drop.of(before)) {
            return say(Verdict::Unhealthy, format!("{value} fell too far from {before}"));
        }
        if self.max_rise.is_some_and(|rise| value > before + rise.of(before)) {
            return say(Verdict::Unhealthy, format!("{value} rose too far from {before}"));
        }
        say(Verdict::Healthy, format!("{value}, {before} before the promotion"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(bounds: Bounds, value: f64, baseline: Option<f64>) -> Verdict {
        bounds.judge(value, baseline).verdict
    }

    #[test]
    fn a_number_at_its_limit_is_healthy_and_one_beyond_is_not() {
        let bounds = Bounds { min: Some(0.99), max: Some(1.0), ..Bounds::default() };
        assert_eq!(verdict(bounds, 0.99, None), Verdict::Healthy);
        assert_eq!(verdict(bounds, 1.0, None), Verdict::Healthy);
        assert_eq!(verdict(bounds, 0.989, None), Verdict::Unhealthy);
        assert_eq!(verdict(bounds, 1.001, None), Verdict::Unhealthy);
    }

    #[test]
    fn a_number_is_compared_with_the_one_from_before() {
        let drop = Bounds { max_drop: Some(Change::By(0.5)), ..Bounds::default() };
        assert_eq!(verdict(drop, 9.5, Some(10.0)), Verdict::Healthy);
        assert_eq!(verdict(drop, 9.4, Some(10.0)), Verdict::Unhealthy);
        assert_eq!(verdict(drop, 99.0, Some(10.0)), Verdict::Healthy);
        let rise = Bounds { max_rise: Some(Change::Percent(50.0)), ..Bounds::default() };
        assert_eq!(verdict(rise, 15.0, Some(10.0)), Verdict::Healthy);
        assert_eq!(verdict(rise, 15.1, Some(10.0)), Verdict::Unhealthy);
        assert_eq!(verdict(rise, -5.0, Some(-10.0)), Verdict::Healthy);
        assert_eq!(verdict(rise, 0.1, Some(0.0)), Verdict::Unhealthy);
    }

    #[test]
    fn without_a_baseline_or_a_number_nobody_can_tell() {
        let drop = Bounds { max_drop: Some(Change::By(1.0)), ..Bounds::default() };
        for baseline in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(verdict(drop, 5.0, baseline), Verdict::Unknown);
        }
        assert_eq!(drop.judge(5.0, None).value, Some(5.0), "it becomes the baseline");
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let reading = Bounds { min: Some(0.0), ..Bounds::default() }.judge(value, None);
            assert_eq!((reading.verdict, reading.value), (Verdict::Unknown, None));
        }
    }

    #[test]
    fn a_breached_minimum_needs_no_baseline() {
        let bounds = Bounds { min: Some(1.0), max_drop: Some(Change::By(1.0)), ..Bounds::default() };
        assert_eq!(verdict(bounds, 0.0, None), Verdict::Unhealthy);
    }

    #[test]
    fn a_change_is_a_number_or_a_share() {
        let read = |text: &str| serde_json::from_str::<Change>(text).ok();
        assert_eq!(read("0.02"), Some(Change::By(0.02)));
        assert_eq!(read("3"), Some(Change::By(3.0)));
        assert_eq!(read("\"5%\""), Some(Change::Percent(5.0)));
        for bad in ["-1", "\"5\"", "\"-5%\"", "\"%\"", "\"x%\"", "\"inf%\"", "true"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn bounds_that_ask_nothing_or_the_impossible_are_refused() {
        assert_eq!(Bounds::default().problem().unwrap().rule, "no-bound");
        let crossed = Bounds { min: Some(2.0), max: Some(1.0), ..Bounds::default() };
        assert_eq!(crossed.problem().unwrap().rule, "no-number-fits");
        assert_eq!(Bounds { min: Some(1.0), max: Some(1.0), ..Bounds::default() }.problem(), None);
    }
}
