//! Why a BE would not boot, for people and for programs.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One reason why a BE would not boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable word for programs, such as `no-kernel` (docs/manual/src/scripts.md has them all).
    pub code: Cow<'static, str>,
    /// A sentence for people.
    pub text: String,
}

impl Problem {
    /// The problem with this code, said in this sentence.
    pub fn new(code: &'static str, text: impl Into<String>) -> Self {
        Problem { code: Cow::Borrowed(code), text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The sentences alone.
pub fn sentences(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|problem| problem.text.clone()).collect()
}
