//! `be delete`, in the order of DESIGN.md.
