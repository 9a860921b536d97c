//! The files of GRUB in a BE's directory on the ESP. They are written so that one complete set
//! always exists.

use std::path::PathBuf;

use boot::esp::Esp;
use boot::grubenv::EnvironmentBlock;

use super::stub::{BootDirectory, Image, Stub};
use crate::environment::Id;
use crate::error::{Error, Result};
use crate::loader::esp_location::esp_error;
use crate::loader::trial_record;

/// The files of one installation in a BE's directory. The names of the first one have no number.
#[derive(Debug)]
pub struct Generation {
    directory: PathBuf,
    suffix: String,
}

impl Generation {
    /// A new generation, whose file names do not exist yet.
    ///
    /// # Errors
    /// All numbers are used.
    pub fn next(esp: &Esp, id: Id) -> Result<Self> {
        let directory = Esp::directory_of(&id.short());
        for number in 1..1000 {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let generation = Generation { directory: directory.clone(), suffix };
            let is_free =
                |name: &str| esp.root().join(&directory).join(name).symlink_metadata().is_err();
            if is_free(&generation.image_name()) && is_free(&generation.stub_name()) {
                return Ok(generation);
            }
        }
        Err(Error::Failed(format!(
            "{} on the ESP has too many old loaders: remove those that are not used",
            directory.display()
        )))
    }

    fn image_name(&self) -> String {
        format!("grubx64{}.efi", self.suffix)
    }

    /// The name of the configuration that the image reads.
    pub fn stub_name(&self) -> String {
        format!("lifeboat{}.cfg", self.suffix)
    }

    /// The path of the image in the firmware's notation.
    ///
    /// # Errors
    /// The path is not valid on an ESP.
    pub fn efi_path(&self) -> Result<String> {
        Esp::efi_path(&self.directory.join(self.image_name()))
            .map_err(esp_error("naming the loader"))
    }

    /// Writes all files, or none. No boot entry points at them yet.
    ///
    /// # Errors
    /// There is too little space, or writing failed.
    pub fn write(&self, esp: &Esp, image: &[u8], boot: BootDirectory) -> Result<()> {
        let stub = Stub { image: Image::of(&self.image_name(), image), boot }.render();
        let stub_path = self.directory.join(self.stub_name());
        let image_path = self.directory.join(self.image_name());
        let sizes =
            [(stub_path.as_path(), stub.len() as u64), (image_path.as_path(), image.len() as u64)];
        let needed =
            esp.needed_bytes(&sizes).map_err(esp_error("computing the space for the loader"))?;
        let free = esp.free_bytes().map_err(esp_error("asking for free space"))?;
        if needed > free {
            let path = esp.root().join(&image_path);
            return Err(esp_error("writing the loader")(boot::esp::Error::NoSpace {
                path,
                needed,
                free,
            }));
        }
        let write = || {
            self.make_environment_block(esp)?;
            esp.write_new(&stub_path, stub.as_bytes()).map_err(esp_error("writing the stub"))?;
            esp.write_new(&image_path, image).map_err(esp_error("writing the loader"))
        };
        write().inspect_err(|_| {
            for path in [&image_path, &stub_path] {
                let _ = esp.remove_tree(path);
            }
        })
    }

    /// Makes the environment block if there is none. From then on it is written in place.
    fn make_environment_block(&self, esp: &Esp) -> Result<()> {
        let path = self.directory.join(trial_record::FILE);
        if boot::grubenv::read(&esp.root().join(&path)).is_ok() {
            return Ok(());
        }
        // GRUB cannot use a damaged block either.
        esp.remove_tree(&path).map_err(esp_error("removing a damaged environment block"))?;
        let block = EnvironmentBlock::new()
            .to_bytes()
            .map_err(|e| Error::boot("making an environment block", e))?;
        esp.write_new(&path, &block).map_err(esp_error("writing the environment block"))
    }

    /// Removes the files of earlier and of interrupted installations from the directory.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn remove_others(&self, esp: &Esp) -> Result<()> {
        let keep = [self.image_name(), self.stub_name(), trial_record::FILE.to_owned()];
        let directory = esp.root().join(&self.directory);
        let names = std::fs::read_dir(&directory).map_err(|source| Error::Io {
            doing: format!("listing {}", directory.display()),
            source,
        })?;
        for name in names.filter_map(|n| n.ok()?.file_name().into_string().ok()) {
            if !keep.iter().any(|k| k.eq_ignore_ascii_case(&name)) {
                esp.remove_tree(&self.directory.join(&name))
                    .map_err(esp_error("removing an old loader"))?;
            }
        }
        Ok(())
    }
}
