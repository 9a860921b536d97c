//! The library behind `be`.
