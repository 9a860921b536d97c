//! `image-builder`: see [`image_builder::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    image_builder::cli::run()
}
