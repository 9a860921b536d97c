//! Reasons why a loader would not start its BE.

use std::fmt;

use crate::environment;

/// A file of a BE's loader on the ESP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoaderFile {
    /// The image that the firmware starts, by its file name.
    Image(String),
    /// A file that the image reads.
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

/// A reason why a loader would not start its BE. Installing the loader again solves each of them,
/// unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoaderProblem {
    /// The BE has no boot entry.
    NoEntry,
    /// The ESP that its boot entry names does not exist or cannot be read.
    NoEsp,
    /// These partitions have the PARTUUID by which its boot entry names the ESP. This one is not
    /// solved by installing the loader again.
    AmbiguousEsp(Vec<String>),
    /// Its boot entry does not name a file.
    NoFileNamed,
    /// A file is missing.
    Missing(LoaderFile),
    /// A file cannot be read.
    Unreadable {
        /// Which one.
        file: LoaderFile,
        /// The error of the kernel or of the parser.
        why: String,
    },
    /// A file is not what was written.
    Damaged(LoaderFile),
    /// A file does not have the form in which Lifeboat writes it.
    Malformed {
        /// Which one.
        file: LoaderFile,
        /// A phrase that follows the file's name.
        why: &'static str,
    },
    /// The loader would start another BE.
    LeadsElsewhere,
    /// An earlier version of this program wrote the loader. It starts the BE.
    Outdated,
}

impl LoaderProblem {
    /// Whether the loader starts the BE all the same.
    pub fn is_harmless(&self) -> bool {
        matches!(self, LoaderProblem::Outdated)
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            LoaderProblem::NoEntry => "loader-no-entry",
            LoaderProblem::NoEsp => "loader-no-esp",
            LoaderProblem::AmbiguousEsp(_) => "loader-ambiguous-esp",
            LoaderProblem::NoFileNamed => "loader-no-file-named",
            LoaderProblem::Missing(_) => "loader-missing",
            LoaderProblem::Unreadable { .. } => "loader-unreadable",
            LoaderProblem::Damaged(_) => "loader-damaged",
            LoaderProblem::Malformed { .. } => "loader-malformed",
            LoaderProblem::LeadsElsewhere => "loader-leads-elsewhere",
            LoaderProblem::Outdated => "loader-outdated",
        }
    }
}

impl fmt::Display for LoaderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoaderProblem::NoEntry => f.write_str("it has no boot entry"),
            LoaderProblem::NoEsp => f.write_str(
                "the EFI system partition (ESP) that its boot entry names does not exist or \
                cannot be read",
            ),
            LoaderProblem::AmbiguousEsp(devices) => write!(
                f,
                "{} have the PARTUUID of the EFI system partition (ESP) that its boot entry names: \
                from which one the firmware starts it is chance; disconnect the disk that is not \
                meant, or give its partition another with `sgdisk --partition-guid`",
                devices.join(" and ")
            ),
            LoaderProblem::NoFileNamed => f.write_str("its boot entry does not name a loader"),
            LoaderProblem::Missing(file) => write!(f, "{file} is missing on the ESP"),
            LoaderProblem::Unreadable { file, why } => write!(f, "{file} cannot be read: {why}"),
            LoaderProblem::Damaged(file) => write!(f, "{file} is damaged on the ESP"),
            LoaderProblem::Malformed { file, why } => write!(f, "{file} {why}"),
            LoaderProblem::LeadsElsewhere => f.write_str("its loader leads to another file system"),
            LoaderProblem::Outdated => f.write_str("an older version of be wrote its loader"),
        }
    }
}

impl From<LoaderProblem> for environment::Problem {
    fn from(problem: LoaderProblem) -> Self {
        environment::Problem::new(problem.code(), problem.to_string())
    }
}
