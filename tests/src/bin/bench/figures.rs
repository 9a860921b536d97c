//! The figures: what was measured, and what it must not exceed.

/// One figure.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    pub what: String,
    /// `None` if it could not be measured.
    pub value: Option<f64>,
    /// Empty for a ratio.
    pub unit: &'static str,
    /// The largest value that is right.
    pub limit: Option<f64>,
}

impl Figure {
    /// A ratio with a limit.
    pub fn ratio(what: impl Into<String>, value: Option<f64>, limit: f64) -> Figure {
        Figure { what: what.into(), value, unit: "", limit: Some(limit) }
    }

    /// The value with its unit.
    pub fn measured(&self) -> String {
        self.value.map_or_else(|| "not measured".into(), |value| self.with_unit(value))
    }

    /// The limit with its unit.
    pub fn allowed(&self) -> String {
        self.limit.map_or_else(String::new, |limit| self.with_unit(limit))
    }

    /// It was measured and is too large.
    pub fn is_missed(&self) -> bool {
        self.value.zip(self.limit).is_some_and(|(value, limit)| value > limit)
    }

    /// What a reader must not overlook.
    pub fn mark(&self) -> &'static str {
        if self.is_missed() { "MISSED" } else { "" }
    }

    fn with_unit(&self, value: f64) -> String {
        match self.unit {
            "" => format!("{value:.2}"),
            "MiB" => format!("{value:.1} MiB"),
            unit => format!("{value:.2} {unit}"),
        }
    }
}

/// The middle one of several; the mean of the two in the middle of an even number. `None` of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn a_missed_limit_is_marked_and_an_unmeasured_one_is_not() {
        let figure = |value| Figure::ratio("copying", value, 0.5);
        assert_eq!(figure(Some(0.51)).mark(), "MISSED");
        assert_eq!(figure(Some(0.50)).mark(), "");
        assert_eq!((figure(None).mark(), figure(None).measured()), ("", "not measured".to_owned()));
    }
}
