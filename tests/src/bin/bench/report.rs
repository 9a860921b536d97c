//! Renders `docs/PERFORMANCE.md` from the measurements, without I/O.

use std::fmt::Write as _;

use crate::copying::rounds::{Samples, Temperature};
use crate::figures::{Figure, median};

/// All measurements of a run of this program.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub rounds: usize,
    pub machine: Machine,
    pub tree: Option<Tree>,
    pub comparisons: Vec<Comparison>,
    pub scale: Vec<Scale>,
    pub figures: Vec<Figure>,
}

/// The machine that was measured on.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
    pub tools: Vec<String>,
}

/// The tree that was copied.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    pub entries: u64,
    /// Bytes that the file system uses.
    pub bytes: u64,
}

/// The results of several tools on the same task.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub title: String,
    pub description: String,
    /// The name of the tool that all are compared with.
    pub baseline: String,
    pub results: Vec<ToolResult>,
    pub missing: Vec<MissingTool>,
}

/// A tool that could not be measured.
#[derive(Clone, Debug)]
pub struct MissingTool {
    pub name: String,
    pub reason: String,
}

/// The result of one tool.
#[derive(Clone, Debug)]
pub struct ToolResult {
    pub name: String,
    pub command: String,
    pub samples: Samples,
}

/// The result for one size of a tree.
#[derive(Clone, Debug)]
pub struct Scale {
    pub names: u64,
    /// Whether each file has two names.
    pub pairs: bool,
    /// Time of the copy engine.
    pub seconds: Option<f64>,
    /// Memory of the copy engine.
    pub peak_kib: Option<u64>,
    /// Memory of `be create`.
    pub create_peak_kib: Option<u64>,
}

impl Comparison {
    /// The median of a tool's ratios to the baseline.
    pub fn ratio(&self, name: &str, temperature: Temperature) -> Option<f64> {
        median(self.ratios(self.find(name)?, temperature))
    }

    fn find(&self, name: &str) -> Option<&ToolResult> {
        self.results.iter().find(|result| result.name == name)
    }

    fn ratios(&self, result: &ToolResult, temperature: Temperature) -> Vec<f64> {
        let baseline = self.find(&self.baseline);
        baseline
            .map(|baseline| result.samples.ratios(&baseline.samples, temperature))
            .unwrap_or_default()
    }
}

/// Renders the whole document.
pub fn render(report: &Report) -> String {
    let mut text = String::from(
        "# Performance\n\nWritten by `make bench`. A ratio is one tool's time divided by \
        another's in the same round, so that it depends less on the machine than seconds do. The \
        tables show the median over the rounds, with the smallest and largest ratio in \
        parentheses. Seconds are medians.\n\n\
        ## Limits\n\n| figure | measured | limit | |\n| --- | ---: | ---: | --- |\n",
    );
    for figure in &report.figures {
        let (measured, allowed) = (figure.measured(), figure.allowed());
        let mark = if figure.is_missed() { "**missed**" } else { "" };
        put(&mut text, &format!("| {} | {measured} | {allowed} | {mark} |\n", figure.name));
    }
    machine(&mut text, report);
    for comparison in &report.comparisons {
        table(&mut text, comparison);
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
                "The source is a Debian 12 installed from packages: {} entries, {gigabytes:.2} GB \
                used on ext4. ",
                tree.entries
            ),
        );
    }
    text.push_str(
        "Source and target are loop devices with direct I/O. All blocks of their images are \
        allocated, and discard is off. Within a round, the tools run one after the other; each \
        round starts with another tool. Before each run, a new file system is created on the \
        target. This is not timed, except for tools that create it themselves (`be create`, \
        fsarchiver). The source is mounted with `ro,noatime`, the target with default options; \
        for tools that copy devices, both are unmounted. Cold: after a sync, the kernel's caches \
        and the buffers of both devices are dropped. Warm: the source was read once. The time \
        is that of the whole command below, including the final sync. Memory is the resident set \
        of the command's largest process; bash, which starts it, takes about 4 MiB. `be create` \
        runs without update-grub, which does not work on loop devices.\n\n",
    );
    for tool in &machine.tools {
        put(text, &format!("- {tool}\n"));
    }
}

fn table(text: &mut String, comparison: &Comparison) {
    put(text, &format!("\n## {}\n\n{}\n\n", comparison.title, comparison.description));
    put(text, &format!("| | cold | to `{0}` | warm | to `{0}` | memory |\n", comparison.baseline));
    text.push_str("| --- | ---: | ---: | ---: | ---: | ---: |\n");
    let mut ranked: Vec<&ToolResult> = comparison.results.iter().collect();
    let cold_ratio = |result: &ToolResult| {
        comparison.ratio(&result.name, Temperature::Cold).unwrap_or(f64::INFINITY)
    };
    ranked.sort_by(|a, b| cold_ratio(a).total_cmp(&cold_ratio(b)));
    for result in ranked {
        let mut line = format!("| {} |", result.name);
        for temperature in [Temperature::Cold, Temperature::Warm] {
            let seconds = median(result.samples.seconds(temperature));
            let seconds = seconds.map_or_else(String::new, |seconds| format!("{seconds:.2} s"));
            let ratios = spread(comparison.ratios(result, temperature));
            put(&mut line, &format!(" {seconds} | {ratios} |"));
        }
        let memory = Some(result.samples.peak_kib).filter(|kib| *kib > 0);
        put(text, &format!("{line} {} |\n", mebibytes(memory)));
    }
    text.push('\n');
    for MissingTool { name, reason } in &comparison.missing {
        put(text, &format!("Not measured: {name}: {reason}.\n\n"));
    }
    for result in &comparison.results {
        if let Some(reason) = &result.samples.failure {
            put(
                text,
                &format!("{} failed and was left out of later runs: {reason}.\n\n", result.name),
            );
        }
    }
    text.push_str("```\n");
    for result in &comparison.results {
        put(text, &format!("# {}\n{}\n", result.name, result.command));
    }
    text.push_str("```\n");
}

fn scale(text: &mut String, sizes: &[Scale]) {
    text.push_str(
        "\n## Size\n\nCopying ext4 to ext4, cold: directories of a hundred files, one in ten of \
        them with a line of text, or the same number of names in pairs, where each file has a \
        second name in a distant directory.\n\n\
        | names | | copy | per name | its memory | memory of `be create` |\n\
        | ---: | --- | ---: | ---: | ---: | ---: |\n",
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

/// The median, with the smallest and the largest if there are several.
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
