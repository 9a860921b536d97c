//! Reasons why a BE would not boot, for users and for programs.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The code of a BE whose memory is in its swap space.
pub const HIBERNATED: &str = "hibernated";

/// The code of a BE to whose root's name another device answers.
pub const AMBIGUOUS_ROOT: &str = "ambiguous-root";

/// The code of a line of fstab to whose device field several devices answer.
pub const FSTAB_AMBIGUOUS: &str = "fstab-ambiguous";

/// A file system of it could not be read, so that what is missing may be there.
pub const NOT_MOUNTED: &str = "not-mounted";

/// One reason why a BE would not boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable word for programs, such as `no-kernel` (docs/manual/src/scripts.md lists all).
    pub code: Cow<'static, str>,
    /// A sentence for users.
    pub text: String,
}

impl Problem {
    /// The problem with this code and this sentence.
    pub fn new(code: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Problem { code: code.into(), text: text.into() }
    }

    /// Whether the BE has nothing that any loader could start, if all of it could be read.
    pub fn keeps_from_starting(&self) -> bool {
        ["init", "no-kernel"].contains(&&*self.code)
    }

    /// Whether to start the BE all the same could start another one, or destroy its files.
    pub fn is_dangerous(&self) -> bool {
        [HIBERNATED, AMBIGUOUS_ROOT, FSTAB_AMBIGUOUS].contains(&&*self.code)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The sentences of the problems.
pub fn sentences(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|problem| problem.text.clone()).collect()
}
