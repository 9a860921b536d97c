//! The copy's own root and swap on kernel command lines, in the files that hold them. Does no I/O.
//!
//! - `/etc/kernel/cmdline` is for kernel-install(8) and mkinitcpio(8), `/etc/cmdline.d` for the
//!   unified kernel images of mkinitcpio and for dracut(8). A line that begins with `#` is a
//!   comment.
//! - A boot loader entry (UAPI.1) has its command line in its `options`, which may be variables of
//!   GRUB.

use boot::command_line::{CommandLine, Error};

use crate::storage::subvolume::Subvolume;

/// The parameters that name the copy's own root and swap.
#[derive(Clone, Copy, Debug)]
pub struct OwnParameters<'a> {
    /// The UUID of its root.
    pub uuid: &'a str,
    /// The parameter for hibernation: `noresume` or `resume=…`.
    pub resume: &'a str,
    /// Its root has the type of the source's.
    pub keeps_root_type: bool,
}

/// What a command line may say about resuming.
const RESUME: [&str; 3] = ["resume", "resume_offset", "noresume"];

impl OwnParameters<'_> {
    /// The text of a file of command lines. One that `is_whole` gets what it lacks; in any other,
    /// only what names the source is changed.
    ///
    /// # Errors
    /// A parameter cannot be written on a command line.
    pub fn in_file(&self, text: &str, is_whole: bool) -> Result<String, Error> {
        let is_content =
            |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let mut lines = Vec::new();
        for raw in text.split_inclusive('\n') {
            lines.push(match is_content(raw) {
                true => self.renamed(raw)?,
                false => raw.to_owned(),
            });
        }
        if is_whole {
            let content: String = lines.iter().filter(|l| is_content(l)).cloned().collect();
            let missing = self.missing(&CommandLine::parse(&content))?;
            match lines.iter_mut().find(|line| is_content(line)) {
                _ if missing.is_empty() => {}
                Some(first) => *first = appended(first, &missing),
                None => {
                    if let Some(last) = lines.last_mut().filter(|last| !last.ends_with('\n')) {
                        last.push('\n');
                    }
                    lines.push(format!("{}\n", missing.join(" ")));
                }
            }
        }
        Ok(lines.concat())
    }

    /// The text of a boot loader entry.
    ///
    /// # Errors
    /// As [`OwnParameters::in_file`].
    pub fn in_entry(&self, text: &str) -> Result<String, Error> {
        const KEY: &str = "options";
        let is_options = |line: &str| {
            line.trim_start().strip_prefix(KEY).is_some_and(|v| v.starts_with([' ', '\t']))
        };
        let value_at = |line: &str| {
            let key = line.find(KEY).map_or(0, |at| at + KEY.len());
            line[key..].find(|c: char| !c.is_whitespace()).map_or(line.len(), |at| key + at)
        };
        let mut lines = Vec::new();
        let mut all = String::new();
        for raw in text.split_inclusive('\n') {
            if !is_options(raw) {
                lines.push(raw.to_owned());
                continue;
            }
            let (key, value) = raw.split_at(value_at(raw));
            let value = self.renamed(value)?;
            all.push_str(&value);
            lines.push(format!("{key}{value}"));
        }
        // A variable may stand for anything, and GRUB's environment block has what it stands for.
        let missing = match all.contains('$') {
            true => Vec::new(),
            false => self.missing(&CommandLine::parse(&all))?,
        };
        if let (Some(first), false) =
            (lines.iter_mut().find(|line| is_options(line)), missing.is_empty())
        {
            *first = appended(first, &missing);
        }
        Ok(lines.concat())
    }

    /// One command line with the copy's root, and with what it lacks.
    ///
    /// # Errors
    /// As [`OwnParameters::in_file`].
    pub fn in_line(&self, text: &str) -> Result<String, Error> {
        let line = self.renamed(text)?;
        let missing = self.missing(&CommandLine::parse(&line))?;
        Ok(if missing.is_empty() { line } else { appended(&line, &missing) })
    }

    /// The line with its names replaced; byte for byte the same if it names nothing.
    fn renamed(&self, raw: &str) -> Result<String, Error> {
        let mut line = CommandLine::parse(raw);
        let old = line.clone();
        if line.has("root") {
            line.set("root", &format!("UUID={}", self.uuid))?;
        }
        if RESUME.iter().any(|name| line.has(name)) {
            let own = CommandLine::parse(self.resume);
            let resumes_so = own.parameters().all(|(name, value)| {
                line.has(name) && line.get(name) == value && line.values(name).count() < 2
            });
            if !resumes_so || RESUME.iter().any(|name| line.has(name) && !own.has(name)) {
                RESUME.iter().for_each(|name| line.remove(name));
                for (name, value) in own.parameters() {
                    match value {
                        Some(value) => line.set(name, value)?,
                        None => line.set_flag(name)?,
                    }
                }
            }
        }
        if !self.keeps_root_type {
            line.remove("rootfstype");
            line.remove("rootflags");
        }
        if let Some(flags) = line.get("rootflags").map(str::to_owned)
            && Subvolume::is_named_in(&flags)
        {
            // The root of a copy is not a subvolume.
            let kept: Vec<&str> = Subvolume::other_options(&flags).collect();
            match kept.is_empty() {
                true => line.remove("rootflags"),
                false => line.set("rootflags", &kept.join(","))?,
            }
        }
        if line == old {
            return Ok(raw.to_owned());
        }
        let end = &raw[raw.trim_end().len()..];
        Ok(format!("{line}{end}"))
    }

    /// The parameters that a whole command line must have and this one lacks.
    fn missing(&self, line: &CommandLine) -> Result<Vec<String>, Error> {
        let mut more = CommandLine::new();
        if !line.has("root") {
            more.set("root", &format!("UUID={}", self.uuid))?;
        }
        if !line.has("panic") {
            more.set("panic", "30")?;
        }
        let mut missing: Vec<String> = more.to_string().split(' ').map(str::to_owned).collect();
        missing.retain(|word| !word.is_empty());
        if !RESUME.iter().any(|name| line.has(name)) {
            missing.push(self.resume.to_owned());
        }
        Ok(missing)
    }
}

/// A line with more words before its end.
fn appended(line: &str, words: &[String]) -> String {
    let text = line.trim_end();
    format!("{text} {}{}", words.join(" "), &line[text.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: OwnParameters =
        OwnParameters { uuid: "new", resume: "noresume", keeps_root_type: true };

    #[test]
    fn comments_of_a_command_line_file_stay_comments() {
        let text =
            "# root=UUID=old on the NVMe\nroot=UUID=old rw\n# quiet boot\nquiet loglevel=3\n";
        assert_eq!(
            OWN.in_file(text, true).unwrap(),
            "# root=UUID=old on the NVMe\nroot=UUID=new rw panic=30 noresume\n# quiet boot\nquiet \
            loglevel=3\n"
        );
        for (text, expected) in [
            ("", "root=UUID=new panic=30 noresume\n"),
            ("# none", "# none\nroot=UUID=new panic=30 noresume\n"),
            ("quiet", "quiet root=UUID=new panic=30 noresume"),
            ("quiet panic=5\nroot=LABEL=x\n", "quiet panic=5 noresume\nroot=UUID=new\n"),
            ("root=a ro\nresume=UUID=77 panic=1\n", "root=UUID=new ro\npanic=1 noresume\n"),
        ] {
            let new = OWN.in_file(text, true).unwrap();
            assert_eq!(new, expected, "{text}");
            assert_eq!(OWN.in_file(&new, true).unwrap(), new, "twice");
        }
    }

    #[test]
    fn a_part_of_a_command_line_is_changed_only_where_it_names_the_source() {
        for (text, expected) in [
            ("root=UUID=old rw\n", "root=UUID=new rw\n"),
            ("quiet  splash\n", "quiet  splash\n"),
            ("resume=UUID=77\n", "noresume\n"),
            ("rootflags=subvol=@,noatime x\n", "rootflags=noatime x\n"),
            ("rootflags=subvol=@ x\n", "x\n"),
        ] {
            assert_eq!(OWN.in_file(text, false).unwrap(), expected, "{text}");
        }
        let other = OwnParameters { keeps_root_type: false, resume: "resume=UUID=9", ..OWN };
        let text = "root=a rootfstype=btrfs rootflags=compress=zstd noresume\n";
        assert_eq!(other.in_file(text, false).unwrap(), "root=UUID=new resume=UUID=9\n");
        let own = "root=UUID=new  resume=UUID=9\n";
        assert_eq!(other.in_file(own, false).unwrap(), own);
    }

    #[test]
    fn boot_loader_entries_name_the_copy() {
        let arch = "title Arch\nlinux /vmlinuz-linux\ninitrd /initramfs-linux.img\noptions  \
            root=PARTUUID=14420948 rw quiet\n";
        assert_eq!(
            OWN.in_entry(arch).unwrap(),
            arch.replace(
                "root=PARTUUID=14420948 rw quiet",
                "root=UUID=new rw quiet panic=30 noresume"
            )
        );
        let fedora = "linux /vmlinuz-6\noptions root=UUID=old ro rootflags=subvol=root rhgb\n";
        assert_eq!(
            OWN.in_entry(fedora).unwrap(),
            "linux /vmlinuz-6\noptions root=UUID=new ro rhgb panic=30 noresume\n"
        );
        let rhel = "linux /vmlinuz-4\noptions $kernelopts $tuned_params\n";
        assert_eq!(OWN.in_entry(rhel).unwrap(), rhel);
        let two = "linux /l\noptions root=a\noptions panic=3 noresume\n";
        assert_eq!(
            OWN.in_entry(two).unwrap(),
            "linux /l\noptions root=UUID=new\noptions panic=3 noresume\n"
        );
        let none = "title x\nefi /shell.efi\n";
        assert_eq!(OWN.in_entry(none).unwrap(), none);
    }
}
