//! crypttab(5): the encrypted volumes that a system opens, and those that it formats, when it
//! boots.

/// A line of crypttab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedVolume {
    /// The name of the opened volume, below /dev/mapper.
    pub name: String,
    /// The device that holds it: a path, `UUID=` and so on.
    pub device: String,
    /// The options.
    pub options: Vec<String>,
}

impl EncryptedVolume {
    /// Whether the device is formatted at every boot, as swap space or for /tmp.
    pub fn is_formatted(&self) -> bool {
        let is =
            |option: &String| option == "swap" || option == "tmp" || option.starts_with("tmp=");
        self.options.iter().any(is)
    }

    /// Whether it is opened at boot.
    pub fn is_opened_at_boot(&self) -> bool {
        !self.options.iter().any(|option| option == "noauto")
    }
}

/// Parses a crypttab. Lines that name no device are ignored.
pub fn parse(text: &str) -> Vec<EncryptedVolume> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next().filter(|name| !name.starts_with('#'))?;
        let device = fields.next()?;
        let options = fields.nth(1).unwrap_or_default();
        let options = options.split(',').filter(|option| !option.is_empty());
        Some(EncryptedVolume {
            name: name.to_owned(),
            device: device.to_owned(),
            options: options.map(str::to_owned).collect(),
        })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volumes_of_a_crypttab_are_read() {
        let text = "# <target name> <source device> <key file> <options>\n\
            sda3_crypt UUID=5d7a1ad5-8a3c-4a52-9a7e-0c6f6e1f3b55 none luks,discard\n\
            \n  cryptswap1 /dev/sda2 /dev/urandom swap,cipher=aes-xts-plain64,size=256\n\
            tmp /dev/sda5 /dev/urandom tmp=ext4\nlater LABEL=later none noauto\nbare /dev/sda6\nx\n";
        let volumes = parse(text);
        let names: Vec<_> = volumes.iter().map(|v| (v.name.as_str(), v.device.as_str())).collect();
        assert_eq!(
            names,
            [
                ("sda3_crypt", "UUID=5d7a1ad5-8a3c-4a52-9a7e-0c6f6e1f3b55"),
                ("cryptswap1", "/dev/sda2"),
                ("tmp", "/dev/sda5"),
                ("later", "LABEL=later"),
                ("bare", "/dev/sda6"),
            ]
        );
        let formatted: Vec<bool> = volumes.iter().map(EncryptedVolume::is_formatted).collect();
        assert_eq!(formatted, [false, true, true, false, false]);
        let opened: Vec<bool> = volumes.iter().map(EncryptedVolume::is_opened_at_boot).collect();
        assert_eq!(opened, [true, true, true, false, true]);
    }
}
