//! Interleaved rounds: in each round, every tool runs cold and then every tool runs warm. The order
//! changes from round to round.

use anyhow::Result;

use crate::signals;
use crate::stopwatch::Run;

/// What is in memory when a run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temperature {
    /// Nothing of either device.
    Cold,
    /// The files that the tool will read.
    Warm,
}

/// The measurements of one tool. The index is the round, so that ratios are taken within a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Seconds.
    pub cold: Vec<Option<f64>>,
    /// Seconds.
    pub warm: Vec<Option<f64>>,
    /// The maximum of all runs.
    pub peak_kib: u64,
    /// Why the tool was left out after a run that failed.
    pub failure: Option<String>,
}

impl Samples {
    pub fn at(&self, temperature: Temperature) -> &[Option<f64>] {
        match temperature {
            Temperature::Cold => &self.cold,
            Temperature::Warm => &self.warm,
        }
    }

    /// The measured seconds.
    pub fn seconds(&self, temperature: Temperature) -> Vec<f64> {
        self.at(temperature).iter().copied().flatten().collect()
    }

    /// The ratios to another tool, each within a round.
    pub fn ratios(&self, baseline: &Samples, temperature: Temperature) -> Vec<f64> {
        let pairs = self.at(temperature).iter().zip(baseline.at(temperature));
        pairs.filter_map(|(ours, theirs)| Some((*ours)? / (*theirs)?)).collect()
    }

    fn record(&mut self, temperature: Temperature, round: usize, run: Run) {
        let seconds = match temperature {
            Temperature::Cold => &mut self.cold,
            Temperature::Warm => &mut self.warm,
        };
        seconds[round] = Some(run.seconds);
        self.peak_kib = self.peak_kib.max(run.peak_kib);
    }
}

/// The number of rounds: `$ROUNDS`, or else three.
pub fn number() -> usize {
    std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).filter(|n| *n > 0).unwrap_or(3)
}

/// Runs the tools in rounds. `measure` prepares and measures one run of the tool with this index,
/// and returns `None` if there is nothing to measure at this temperature. A tool that fails is left
/// out of later runs.
///
/// # Errors
/// A signal has arrived.
pub fn run(
    names: &[&str],
    rounds: usize,
    mut measure: impl FnMut(usize, Temperature, usize) -> Result<Option<Run>>,
) -> Result<Vec<Samples>> {
    let empty =
        Samples { cold: vec![None; rounds], warm: vec![None; rounds], ..Samples::default() };
    let mut all = vec![empty; names.len()];
    for round in 0..rounds {
        for temperature in [Temperature::Cold, Temperature::Warm] {
            for tool in order(names.len(), round, rounds) {
                if all[tool].failure.is_some() {
                    continue;
                }
                match measure(tool, temperature, round) {
                    Ok(None) => {}
                    Ok(Some(run)) => {
                        let (name, seconds) = (names[tool], run.seconds);
                        eprintln!(
                            "  round {} of {rounds}, {temperature:?}: {seconds:>7.2} s  {name}",
                            round + 1
                        );
                        all[tool].record(temperature, round, run);
                    }
                    Err(error) => {
                        signals::check()?;
                        eprintln!("  {}: {error:#}", names[tool]);
                        all[tool].failure = Some(format!("{error:#}"));
                    }
                }
            }
        }
    }
    Ok(all)
}

/// The order of the tools in a round. The rounds start at evenly spaced tools.
fn order(tools: usize, round: usize, rounds: usize) -> impl Iterator<Item = usize> {
    let first = tools * round / rounds;
    (0..tools).map(move |n| (first + n) % tools)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn every_round_has_all_tools_and_starts_at_another() {
        assert_eq!(order(4, 0, 3).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(order(4, 1, 3).collect::<Vec<_>>(), [1, 2, 3, 0]);
        assert_eq!(order(4, 2, 3).collect::<Vec<_>>(), [2, 3, 0, 1]);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let ours = Samples { cold: vec![Some(1.0), None, Some(3.0)], ..Samples::default() };
        let theirs = Samples { cold: vec![Some(2.0), Some(9.0), Some(4.0)], ..Samples::default() };
        assert_eq!(ours.ratios(&theirs, Temperature::Cold), [0.5, 0.75]);
        assert_eq!(ours.ratios(&theirs, Temperature::Warm), [] as [f64; 0]);
    }

    #[test]
    fn a_tool_that_fails_is_left_out_with_the_reason() {
        let mut runs = 0;
        let all = run(&["fails", "works"], 2, |tool, temperature, _| {
            runs += 1;
            match (tool, temperature) {
                (0, _) => bail!("broken"),
                (_, Temperature::Warm) => Ok(None),
                _ => Ok(Some(Run { seconds: 1.0, peak_kib: 7 })),
            }
        })
        .unwrap();
        assert_eq!(runs, 5);
        assert_eq!(all[0].failure.as_deref(), Some("broken"));
        assert_eq!((all[1].seconds(Temperature::Cold), all[1].peak_kib), (vec![1.0, 1.0], 7));
    }
}
