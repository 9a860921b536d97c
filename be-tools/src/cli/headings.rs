//! The headings of options in `--help`, in the order in which they follow the plain options.

/// Which files are copied.
pub(super) const FILES: &str = "Files";
/// Options that few copies need.
pub(super) const SPECIAL_CASES: &str = "Special cases";
/// What is done with the plan.
pub(super) const PLAN: &str = "Plan";
/// What is printed. `be` itself has options under this heading, which are the last of every verb.
pub(super) const OUTPUT: &str = "Output";
