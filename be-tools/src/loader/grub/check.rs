//! Checks the files of GRUB on the ESP.

use std::path::Path;

use boot::esp::Esp;

use super::stub::{Image, Stub};
use crate::environment::{BootEnvironment, Id};
use crate::loader::problem::{LoaderFile, LoaderProblem};
use crate::loader::trial_record;

/// Why the loader with the image `file` would not start the BE.
pub fn check(esp: &Esp, id: Id, file: &str, target: &BootEnvironment) -> Vec<LoaderProblem> {
    match files(esp, id, file, target) {
        Ok(problems) => problems,
        Err(first) => vec![first],
    }
}

/// As [`check`], and whether the loader is that of an earlier version.
pub fn check_version(
    esp: &Esp,
    id: Id,
    file: &str,
    target: &BootEnvironment,
) -> Vec<LoaderProblem> {
    let mut problems = check(esp, id, file, target);
    let stub = esp.read(&Esp::directory_of(&id.short()).join(stub_of(file))).ok().flatten();
    let is_outdated = |text: Vec<u8>| Stub::is_outdated(&String::from_utf8_lossy(&text));
    if problems.is_empty() && stub.is_some_and(is_outdated) {
        problems.push(LoaderProblem::Outdated);
    }
    problems
}

/// The problems of the files. The error is a problem that prevents all further checks.
fn files(
    esp: &Esp,
    id: Id,
    file: &str,
    target: &BootEnvironment,
) -> Result<Vec<LoaderProblem>, LoaderProblem> {
    let directory = Esp::directory_of(&id.short());
    let read = |file: LoaderFile, name: &str| match esp.read(&directory.join(name)) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(LoaderProblem::Missing(file)),
        Err(e) => Err(LoaderProblem::Unreadable { file, why: e.to_string() }),
    };
    let image = read(LoaderFile::Image(file.to_owned()), file)?;
    let stub_name = stub_of(file);
    let text = read(LoaderFile::Beside(stub_name.clone()), &stub_name)?;
    let stub = Stub::parse(&String::from_utf8_lossy(&text))
        .map_err(|why| LoaderProblem::Malformed { file: LoaderFile::Beside(stub_name), why })?;
    let mut problems = Vec::new();
    if stub.image != Image::of(file, &image) {
        problems.push(LoaderProblem::Damaged(LoaderFile::Image(file.to_owned())));
    }
    let boot = target.file_systems.iter().find(|f| f.mountpoint == Path::new("/boot"));
    if boot.is_none() && !stub.boot.uuid.eq_ignore_ascii_case(&target.root.uuid) {
        problems.push(LoaderProblem::LeadsElsewhere);
    }
    let block_path = esp.root().join(&directory).join(trial_record::FILE);
    if let Err(e) = boot::grubenv::read(&block_path) {
        let file = LoaderFile::Beside(trial_record::FILE.to_owned());
        problems.push(LoaderProblem::Unreadable { file, why: e.to_string() });
    }
    Ok(problems)
}

/// The stub that an image reads: `lifeboat-2.cfg` for `grubx64-2.efi`.
pub fn stub_of(image: &str) -> String {
    let stem = image.strip_suffix(".efi").unwrap_or(image);
    format!("lifeboat{}.cfg", stem.strip_prefix("grubx64").unwrap_or_default())
}
