//! Why a BE would not boot.
