//! The serial port that the firmware uses as its console: ACPI's Serial Port Console Redirection
//! Table (Microsoft, SPCR, revisions 1 to 4). A management controller's serial line is often not
//! the first port, and this table is the only one to say which it is.

use std::fs;
use std::path::Path;

/// A serial port of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialPort {
    /// Its name in `/dev`.
    pub name: String,
    /// Bits per second, if the table says it.
    pub speed: Option<u32>,
}

/// What the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Port {
    address: Address,
    /// Bits per second, if the table says it.
    speed: Option<u32>,
}

/// Where its registers are (ACPI specification, "Generic Address Structure").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Address {
    /// In memory.
    Memory(u64),
    /// In the I/O space.
    Io(u64),
}

/// The port that the table names, if this machine has that table and that port.
pub fn find(sys: &Path) -> Option<SerialPort> {
    let table = fs::read(sys.join("firmware/acpi/tables/SPCR")).ok()?;
    let port = parse(&table)?;
    let terminals = sys.join("class/tty");
    let names = fs::read_dir(&terminals).ok()?.flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.starts_with("ttyS") && is_at(&terminals.join(name), port.address))
        .map(|name| SerialPort { name, speed: port.speed })
        .next()
}

fn parse(table: &[u8]) -> Option<Port> {
    let rest = table.strip_prefix(b"SPCR")?;
    // Offsets from the beginning of the table; four bytes of it are cut off.
    let at = |offset: usize| rest.get(offset - 4).copied();
    let mut address = [0; 8];
    address.copy_from_slice(rest.get(44 - 4..52 - 4)?);
    let address = match (at(40)?, u64::from_le_bytes(address)) {
        // The firmware has such a table, and its console is off.
        (_, 0) => return None,
        (0, address) => Address::Memory(address),
        (1, address) => Address::Io(address),
        _ => return None,
    };
    let speed = match at(58)? {
        3 => Some(9600),
        4 => Some(19_200),
        6 => Some(57_600),
        7 => Some(115_200),
        _ => None,
    };
    Some(Port { address, speed })
}

/// Whether a port exists, which `type` says, and has its registers there.
fn is_at(terminal: &Path, address: Address) -> bool {
    let read = |name: &str| fs::read_to_string(terminal.join(name)).unwrap_or_default();
    let number = |name: &str| {
        let text = read(name);
        u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
    };
    let is_there = !matches!(read("type").trim(), "" | "0");
    is_there
        && match address {
            Address::Io(port) => number("port") == Some(port),
            Address::Memory(base) => number("iomem_base") == Some(base),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table as firmware writes it: 80 bytes, revision 2.
    fn table(space: u8, address: u64, speed: u8) -> Vec<u8> {
        let mut table = vec![0; 80];
        table[..4].copy_from_slice(b"SPCR");
        table[40] = space;
        table[44..52].copy_from_slice(&address.to_le_bytes());
        table[58] = speed;
        table
    }

    #[test]
    fn port_and_speed_are_read_and_nothing_else_is_believed() {
        let io = |address, speed| Some(Port { address: Address::Io(address), speed });
        let memory = |address, speed| Some(Port { address: Address::Memory(address), speed });
        for (table, expected) in [
            (table(1, 0x2f8, 7), io(0x2f8, Some(115_200))),
            (table(1, 0x3f8, 0), io(0x3f8, None)),
            (table(0, 0xfedc_0000, 3), memory(0xfedc_0000, Some(9600))),
            (table(1, 0, 7), None),
            (table(10, 0x2f8, 7), None),
            (table(1, 0x2f8, 7)[..50].to_vec(), None),
            (b"DBG2".to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(parse(&table), expected, "{table:?}");
        }
    }

    #[test]
    fn the_port_must_exist() {
        let sys = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &[u8]| {
            let path = sys.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("class/tty/ttyS0/type", b"4\n");
        write("class/tty/ttyS0/port", b"0x3F8\n");
        write("class/tty/ttyS1/type", b"0\n");
        write("class/tty/ttyS1/port", b"0x2F8\n");
        assert_eq!(find(sys.path()), None);
        write("firmware/acpi/tables/SPCR", &table(1, 0x2f8, 6));
        assert_eq!(find(sys.path()), None);
        write("class/tty/ttyS1/type", b"4\n");
        let expected = SerialPort { name: "ttyS1".into(), speed: Some(57_600) };
        assert_eq!(find(sys.path()), Some(expected));
    }
}
