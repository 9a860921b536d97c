//! Why a loader would not lead to its BE.

use std::fmt;

use crate::environment;

/// A file beside a BE's boot entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoaderFile {
    /// What the firmware starts, by its name.
    Image(String),
    /// What that reads.
    Beside(String),
}

impl fmt::Display for LoaderFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoaderFile::Image(name) => write!(f, "its loader {name}"),
            LoaderFile::Beside(name) => write!(f, "its loader's {name}"),
        }
    }
}

/// Why a loader would not lead to its BE. Each of them goes when the loader is installed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoaderProblem {
    /// Nothing makes it selectable.
    NoEntry,
    /// The ESP of its boot entry is gone.
    NoEsp,
    /// Its boot entry does not name a file.
    NoFileNamed,
    /// A file is not there.
    Missing(LoaderFile),
    /// A file cannot be read.
    Unreadable {
        /// Which one.
        file: LoaderFile,
        /// What the kernel or the format says.
        why: String,
    },
    /// A file has other bytes than were written.
    Damaged(LoaderFile),
    /// A file that is not as Lifeboat writes it.
    Malformed {
        /// Which one.
        file: LoaderFile,
        /// A phrase that follows it.
        why: &'static str,
    },
    /// What it leads to is not this BE.
    LeadsElsewhere,
}

impl LoaderProblem {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            LoaderProblem::NoEntry => "loader-no-entry",
            LoaderProblem::NoEsp => "loader-no-esp",
            LoaderProblem::NoFileNamed => "loader-no-file-named",
            LoaderProblem::Missing(_) => "loader-missing",
            LoaderProblem::Unreadable { .. } => "loader-unreadable",
            LoaderProblem::Damaged(_) => "loader-damaged",
            LoaderProblem::Malformed { .. } => "loader-malformed",
            LoaderProblem::LeadsElsewhere => "loader-leads-elsewhere",
        }
    }
}

impl fmt::Display for LoaderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoaderProblem::NoEntry => f.write_str("it has no boot entry"),
            LoaderProblem::NoEsp => f.write_str(
                "the EFI system partition (ESP) that its boot entry names is not there or cannot \
                be read",
            ),
            LoaderProblem::NoFileNamed => f.write_str("its boot entry names no loader"),
            LoaderProblem::Missing(file) => write!(f, "{file} is missing on the ESP"),
            LoaderProblem::Unreadable { file, why } => write!(f, "{file} cannot be read: {why}"),
            LoaderProblem::Damaged(file) => write!(f, "{file} is damaged on the ESP"),
            LoaderProblem::Malformed { file, why } => write!(f, "{file} {why}"),
            LoaderProblem::LeadsElsewhere => f.write_str("its loader leads to another file system"),
        }
    }
}

impl From<LoaderProblem> for environment::Problem {
    fn from(problem: LoaderProblem) -> Self {
        environment::Problem::new(problem.code(), problem.to_string())
    }
}
