//! `docs/PERFORMANCE.md` from what was measured. Pure.

use std::fmt::Write as _;

use crate::copying::rounds::{Samples, Temperature};
use crate::figures::{Figure, median};

/// Everything that was measured in a run of this program.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub rounds: usize,
    pub machine: Machine,
    pub tree: Option<Tree>,
    pub contests: Vec<Contest>,
    pub scale: Vec<Scale>,
    pub figures: Vec<Figure>,
}

/// What it was measured on.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
    pub tools: Vec<String>,
}

/// What was copied.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    pub entries: u64,
    /// That the file system uses.
    pub bytes: u64,
}

/// Tools that did the same thing.
#[derive(Clone, Debug)]
pub struct Contest {
    pub title: String,
    pub about: String,
    /// The name of the one that all are compared with.
    pub baseline: String,
    pub contestants: Vec<Contestant>,
    /// Who could not take part, and why.
    pub missing: Vec<(String, String)>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Contestant {
    pub name: String,
    pub command: String,
    pub samples: Samples,
}

/// One size of a tree.
#[derive(Clone, Debug)]
pub struct Scale {
    pub names: u64,
    /// Each file has two names.
    pub pairs: bool,
    /// Of the copy alone.
    pub seconds: Option<f64>,
    /// Of the copy alone.
    pub peak_kib: Option<u64>,
    /// Of `be create`.
    pub create_peak_kib: Option<u64>,
}

impl Contest {
    /// The median of the ratios of a contestant.
    pub fn ratio(&self, name: &str, temperature: Temperature) -> Option<f64> {
        median(self.ratios(self.find(name)?, temperature))
    }

    fn find(&self, name: &str) -> Option<&Contestant> {
        self.contestants.iter().find(|contestant| contestant.name == name)
    }

    fn ratios(&self, contestant: &Contestant, temperature: Temperature) -> Vec<f64> {
        let baseline = self.find(&self.baseline);
        baseline
            .map(|baseline| contestant.samples.ratios(&baseline.samples, temperature))
            .unwrap_or_default()
    }
}

/// The whole document.
pub fn render(report: &Report) -> String {
    let mut text = String::from(
        "# Performance\n\nWritten by `make bench`. A ratio is one tool's time by another's in the \
        same round, so that it says \
         more than seconds do; it is the median over the rounds, with the smallest and the \
         largest behind it. Seconds \
         are medians.\n\n## Limits\n\n| figure | measured | limit | |\n| --- | ---: | ---: | --- \
         |\n",
    );
    for figure in &report.figures {
        let (measured, allowed) = (figure.measured(), figure.allowed());
        let mark = if figure.is_missed() { "**missed**" } else { "" };
        put(&mut text, &format!("| {} | {measured} | {allowed} | {mark} |\n", figure.what));
    }
    machine(&mut text, report);
    for contest in &report.contests {
        table(&mut text, contest);
    }
    if !report.scale.is_empty() {
        scale(&mut text, &report.scale);
    }
    text
}

fn machine(text: &mut String, report: &Report) {
    let machine = &report.machine;
    put(
        text,
        &format!(
            "\n## How it was measured\n\n{}, {} cores, {:.0} GiB of memory, Linux {}. {} \
            rounds.\n\n",
            machine.processor, machine.cores, machine.memory_gib, machine.kernel, report.rounds
        ),
    );
    if let Some(tree) = report.tree {
        let gigabytes = tree.bytes as f64 / 1e9;
        put(
            text,
            &format!(
                "The source is a Debian 12 made from packages: {} entries, {gigabytes:.2} GB used \
                on ext4. ",
                tree.entries
            ),
        );
    }
    text.push_str(
        "Source and target are loop devices with direct I/O, every block of their images \
        allocated, discard off. The tools \
         take turns within a round, and each round begins with another. Before each run the \
         target gets a new file \
         system, which is not counted but where the tool makes it itself (`be create`, \
         fsarchiver). The source is \
         mounted with `ro,noatime`, the target with no options; tools that copy devices find both \
         not mounted. Cold: sync, \
         then the kernel's caches and both devices' buffers dropped. Warm: the source was read \
         once. Counted is the \
         whole command below, the last sync with it. Memory is the resident set of the command's \
         largest process; \
         bash, which starts it, has about 4 MiB. `be create` is \
         without update-grub, which does not work on loop devices.\n\n",
    );
    for tool in &machine.tools {
        put(text, &format!("- {tool}\n"));
    }
}

fn table(text: &mut String, contest: &Contest) {
    put(text, &format!("\n## {}\n\n{}\n\n", contest.title, contest.about));
    put(text, &format!("| | cold | to `{0}` | warm | to `{0}` | memory |\n", contest.baseline));
    text.push_str("| --- | ---: | ---: | ---: | ---: | ---: |\n");
    let mut ranked: Vec<&Contestant> = contest.contestants.iter().collect();
    let place = |c: &Contestant| contest.ratio(&c.name, Temperature::Cold).unwrap_or(f64::INFINITY);
    ranked.sort_by(|a, b| place(a).total_cmp(&place(b)));
    for contestant in ranked {
        let mut line = format!("| {} |", contestant.name);
        for temperature in [Temperature::Cold, Temperature::Warm] {
            let seconds = median(contestant.samples.seconds(temperature));
            let seconds = seconds.map_or_else(String::new, |seconds| format!("{seconds:.2} s"));
            put(
                &mut line,
                &format!(" {seconds} | {} |", spread(contest.ratios(contestant, temperature))),
            );
        }
        let memory = Some(contestant.samples.peak_kib).filter(|kib| *kib > 0);
        put(text, &format!("{line} {} |\n", mebibytes(memory)));
    }
    text.push('\n');
    for (name, why) in &contest.missing {
        put(text, &format!("Not measured: {name}: {why}.\n\n"));
    }
    for contestant in &contest.contestants {
        if let Some(why) = &contestant.samples.failure {
            put(
                text,
                &format!("{} failed and was left out from then on: {why}.\n\n", contestant.name),
            );
        }
    }
    text.push_str("```\n");
    for contestant in &contest.contestants {
        put(text, &format!("# {}\n{}\n", contestant.name, contestant.command));
    }
    text.push_str("```\n");
}

fn scale(text: &mut String, sizes: &[Scale]) {
    text.push_str(
        "\n## Size\n\nCopying ext4 to ext4, cold: directories of a hundred files, a line of text \
        in \
        one of ten, or the same number of \
         names as pairs, a file with its second name in a directory far away.\n\n| names | | copy \
         | \
         per name | its memory | memory of \
         `be create` |\n| ---: | --- | ---: | ---: | ---: | ---: |\n",
    );
    for size in sizes {
        let shape = if size.pairs { "hard-linked pairs" } else { "files" };
        let seconds = size.seconds.map_or_else(String::new, |seconds| format!("{seconds:.2} s"));
        let each = size
            .seconds
            .map_or_else(String::new, |s| format!("{:.1} µs", s * 1e6 / size.names as f64));
        let (copy, create) = (mebibytes(size.peak_kib), mebibytes(size.create_peak_kib));
        put(
            text,
            &format!("| {} | {shape} | {seconds} | {each} | {copy} | {create} |\n", size.names),
        );
    }
}

/// The median, and the smallest and the largest where there are several.
fn spread(ratios: Vec<f64>) -> String {
    let Some(middle) = median(ratios.clone()) else { return String::new() };
    let [least, most] =
        [ratios.iter().copied().reduce(f64::min), ratios.iter().copied().reduce(f64::max)];
    match (least, most) {
        (Some(least), Some(most)) if ratios.len() > 1 => {
            format!("**{middle:.2}** ({least:.2}–{most:.2})")
        }
        _ => format!("**{middle:.2}**"),
    }
}

fn mebibytes(kib: Option<u64>) -> String {
    kib.map_or_else(String::new, |kib| format!("{:.0} MiB", kib as f64 / 1024.0))
}

fn put(text: &mut String, more: &str) {
    // Writing to a string does not fail.
    let _ = text.write_str(more);
}

#[cfg(test)]
mod tests;
