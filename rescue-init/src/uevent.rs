//! Uevents, the kernel's messages about devices: netlink(7), NETLINK_KOBJECT_UEVENT,
//! lib/kobject_uevent.c.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with, sockopt,
};

/// A change of a device, with the fields that the rescue image uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`, `bind` …
    pub action: String,
    /// Path below `/sys`.
    pub path: String,
    /// `block`, `usb` …
    pub subsystem: String,
    /// The alias by which its driver is found.
    pub modalias: Option<String>,
}

impl Uevent {
    /// Parses a message. Returns `None` if the message is not from the kernel; those of udev begin
    /// with `libudev`.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        let mut fields = text.split_terminator('\0');
        let (action, path) = fields.next()?.split_once('@')?;
        let mut event = Uevent { action: action.into(), path: path.into(), ..Self::default() };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            match key {
                "SUBSYSTEM" => event.subsystem = value.into(),
                "MODALIAS" => event.modalias = Some(value.into()),
                _ => {}
            }
        }
        Some(event)
    }

    /// Whether a disk or partition was added, removed or changed.
    pub fn is_block(&self) -> bool {
        self.subsystem == "block" && matches!(self.action.as_str(), "add" | "remove" | "change")
    }
}

/// A socket that receives uevents.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

/// The result of reading the socket once.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// A uevent.
    Event(Uevent),
    /// A message that is not a uevent of the kernel.
    Ignored,
    /// The buffer overflowed and messages were lost: all devices have to be checked again.
    Overflow,
    /// No message is waiting.
    Empty,
}

impl Listener {
    /// Opens the socket, which receives uevents from now on.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
        // A coldplug sends hundreds of messages of up to 1 KiB. With the default of 208 KiB, some
        // would be lost.
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, 1 << 20);
        bind(&socket, &SocketAddrNetlink::new(0, 1))?;
        Ok(Listener { socket })
    }

    /// Reads the next message without waiting.
    ///
    /// # Errors
    /// When reading the socket failed.
    pub fn read(&self) -> io::Result<ReadResult> {
        let mut buffer = [0; 8192];
        match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => {
                Ok(Uevent::parse(&buffer[..length]).map_or(ReadResult::Ignored, ReadResult::Event))
            }
            Err(rustix::io::Errno::AGAIN) => Ok(ReadResult::Empty),
            Err(rustix::io::Errno::INTR) => Ok(ReadResult::Ignored),
            Err(rustix::io::Errno::NOBUFS) => Ok(ReadResult::Overflow),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captured from a 6.1 kernel.
    const DISK: &[u8] =
        b"add@/devices/pci0000:00/0000:00:03.0/virtio0/block/vda/vda1\0ACTION=add\0\
        DEVPATH=/devices/pci0000:00/0000:00:03.0/virtio0/block/vda/vda1\0SUBSYSTEM=block\0\
        MAJOR=254\0MINOR=1\0DEVNAME=vda1\0DEVTYPE=partition\0DISKSEQ=9\0PARTN=1\0SEQNUM=1302\0";
    const VIRTIO: &[u8] = b"add@/devices/pci0000:00/0000:00:03.0/virtio0\0ACTION=add\0\
        DEVPATH=/devices/pci0000:00/0000:00:03.0/virtio0\0SUBSYSTEM=virtio\0\
        MODALIAS=virtio:d00000002v00001AF4\0SEQNUM=1297\0";

    #[test]
    fn a_new_partition_is_a_change_of_a_block_device() {
        let event = Uevent::parse(DISK).unwrap();
        assert!(event.is_block() && event.modalias.is_none());
        assert!(event.path.ends_with("/vda1"));
    }

    #[test]
    fn the_modalias_of_a_device_is_parsed() {
        let event = Uevent::parse(VIRTIO).unwrap();
        assert!(!event.is_block());
        assert_eq!(event.modalias.as_deref(), Some("virtio:d00000002v00001AF4"));
    }

    #[test]
    fn messages_that_are_not_from_the_kernel_are_refused() {
        for noise in [&b"libudev\0\xfe\xed\xca\xfe\0\0"[..], b"", b"\xff\xff", b"add"] {
            assert_eq!(Uevent::parse(noise), None);
        }
    }
}
