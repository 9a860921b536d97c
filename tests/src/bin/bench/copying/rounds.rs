//! Interleaved rounds: in each, every contestant runs cold, then every one warm, in an order that
//! changes from round to round.

use anyhow::Result;

use crate::signals;
use crate::stopwatch::Run;

/// What is in memory when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temperature {
    /// Nothing of either device.
    Cold,
    /// What the contestant will read.
    Warm,
}

/// What was measured of one contestant; one place a round, so that ratios are within a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Seconds.
    pub cold: Vec<Option<f64>>,
    /// Seconds.
    pub warm: Vec<Option<f64>>,
    /// Of all runs.
    pub peak_kib: u64,
    /// Why it was left out from some run on.
    pub failure: Option<String>,
}

impl Samples {
    pub fn at(&self, temperature: Temperature) -> &[Option<f64>] {
        match temperature {
            Temperature::Cold => &self.cold,
            Temperature::Warm => &self.warm,
        }
    }

    /// The seconds that were measured.
    pub fn seconds(&self, temperature: Temperature) -> Vec<f64> {
        self.at(temperature).iter().copied().flatten().collect()
    }

    /// The ratios to another contestant, each within its round.
    pub fn ratios(&self, baseline: &Samples, temperature: Temperature) -> Vec<f64> {
        let pairs = self.at(temperature).iter().zip(baseline.at(temperature));
        pairs.filter_map(|(ours, theirs)| Some((*ours)? / (*theirs)?)).collect()
    }

    fn note(&mut self, temperature: Temperature, round: usize, run: Run) {
        let seconds = match temperature {
            Temperature::Cold => &mut self.cold,
            Temperature::Warm => &mut self.warm,
        };
        seconds[round] = Some(run.seconds);
        self.peak_kib = self.peak_kib.max(run.peak_kib);
    }
}

/// How many; `$ROUNDS`, or three.
pub fn number() -> usize {
    std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).filter(|n| *n > 0).unwrap_or(3)
}

/// Runs the contestants against each other. `once` prepares and measures one run; `None` where
/// there is nothing to measure at this temperature. Who fails is left out from then on, and says
/// why.
///
/// # Errors
/// A signal has arrived.
pub fn run(
    names: &[&str],
    rounds: usize,
    mut once: impl FnMut(usize, Temperature, usize) -> Result<Option<Run>>,
) -> Result<Vec<Samples>> {
    let empty =
        Samples { cold: vec![None; rounds], warm: vec![None; rounds], ..Samples::default() };
    let mut all = vec![empty; names.len()];
    for round in 0..rounds {
        for temperature in [Temperature::Cold, Temperature::Warm] {
            for who in order(names.len(), round, rounds) {
                if all[who].failure.is_some() {
                    continue;
                }
                match once(who, temperature, round) {
                    Ok(None) => {}
                    Ok(Some(run)) => {
                        let (name, seconds) = (names[who], run.seconds);
                        eprintln!(
                            "  round {} of {rounds}, {temperature:?}: {seconds:>7.2} s  {name}",
                            round + 1
                        );
                        all[who].note(temperature, round, run);
                    }
                    Err(error) => {
                        signals::go_on()?;
                        eprintln!("  {}: {error:#}", names[who]);
                        all[who].failure = Some(format!("{error:#}"));
                    }
                }
            }
        }
    }
    Ok(all)
}

/// Each round begins elsewhere in the list, as far from the other beginnings as can be.
fn order(contestants: usize, round: usize, rounds: usize) -> impl Iterator<Item = usize> {
    let first = contestants * round / rounds;
    (0..contestants).map(move |n| (first + n) % contestants)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn every_round_has_everyone_and_begins_elsewhere() {
        assert_eq!(order(4, 0, 3).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(order(4, 1, 3).collect::<Vec<_>>(), [1, 2, 3, 0]);
        assert_eq!(order(4, 2, 3).collect::<Vec<_>>(), [2, 3, 0, 1]);
    }

    #[test]
    fn a_ratio_is_within_its_round() {
        let ours = Samples { cold: vec![Some(1.0), None, Some(3.0)], ..Samples::default() };
        let theirs = Samples { cold: vec![Some(2.0), Some(9.0), Some(4.0)], ..Samples::default() };
        assert_eq!(ours.ratios(&theirs, Temperature::Cold), [0.5, 0.75]);
        assert_eq!(ours.ratios(&theirs, Temperature::Warm), [] as [f64; 0]);
    }

    #[test]
    fn who_fails_is_left_out_and_says_why() {
        let mut runs = 0;
        let all = run(&["fails", "works"], 2, |who, temperature, _| {
            runs += 1;
            match (who, temperature) {
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
