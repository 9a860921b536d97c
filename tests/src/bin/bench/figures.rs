//! Figures: measured values and their limits.

/// A measured value, and its limit if it has one.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    pub name: String,
    /// `None` if it could not be measured.
    pub value: Option<f64>,
    /// Empty for a ratio.
    pub unit: &'static str,
    /// The largest acceptable value.
    pub limit: Option<f64>,
}

impl Figure {
    /// A ratio with a limit.
    pub fn ratio(name: impl Into<String>, value: Option<f64>, limit: f64) -> Figure {
        Figure { name: name.into(), value, unit: "", limit: Some(limit) }
    }

    /// The value with its unit.
    pub fn measured(&self) -> String {
        self.value.map_or_else(|| "not measured".into(), |value| self.with_unit(value))
    }

    /// The limit with its unit.
    pub fn allowed(&self) -> String {
        self.limit.map_or_else(String::new, |limit| self.with_unit(limit))
    }

    /// Whether it was measured and exceeds its limit.
    pub fn is_missed(&self) -> bool {
        self.value.zip(self.limit).is_some_and(|(value, limit)| value > limit)
    }

    /// A mark for values that exceed their limit.
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

/// The median, which is the mean of the middle two for an even number of values. `None` without
/// values.
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
    fn the_median_is_the_middle_value_or_the_mean_of_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn only_a_measured_value_above_its_limit_is_marked() {
        let figure = |value| Figure::ratio("copying", value, 0.5);
        assert_eq!(figure(Some(0.51)).mark(), "MISSED");
        assert_eq!(figure(Some(0.50)).mark(), "");
        assert_eq!((figure(None).mark(), figure(None).measured()), ("", "not measured".to_owned()));
    }
}
