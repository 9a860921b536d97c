//! What the kernel tells about devices: netlink(7), NETLINK_KOBJECT_UEVENT, lib/kobject_uevent.c.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with, sockopt,
};

/// What happened to a device, as far as the rescue image cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`, `bind` …
    pub action: String,
    /// Path below `/sys`.
    pub path: String,
    /// `block`, `usb` …
    pub subsystem: String,
    /// What its driver is found by.
    pub modalias: Option<String>,
}

impl Uevent {
    /// Understands one message. What does not come from the kernel (udev's begin with `libudev`) is
    /// `None`.
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

    /// A disk or partition came, went or changed.
    pub fn is_block(&self) -> bool {
        self.subsystem == "block" && matches!(self.action.as_str(), "add" | "remove" | "change")
    }
}

/// The kernel's side of the conversation.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

/// What waiting brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Event(Uevent),
    /// A message that means nothing to us.
    Noise,
    /// Messages were lost: everything has to be looked at again.
    Lost,
    /// Nothing more for now.
    Silence,
}

impl Listener {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the kernel gives no such socket.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
        // A coldplug is some hundred messages of under 1 KiB; the default of 208 KiB would lose
        // some.
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, 1 << 20);
        bind(&socket, &SocketAddrNetlink::new(0, 1))?;
        Ok(Listener { socket })
    }

    /// The next message, without waiting.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn next(&self) -> io::Result<Heard> {
        let mut buffer = [0; 8192];
        match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => {
                Ok(Uevent::parse(&buffer[..length]).map_or(Heard::Noise, Heard::Event))
            }
            Err(rustix::io::Errno::AGAIN) => Ok(Heard::Silence),
            Err(rustix::io::Errno::INTR) => Ok(Heard::Noise),
            Err(rustix::io::Errno::NOBUFS) => Ok(Heard::Lost),
            Err(why) => Err(why.into()),
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
    const DISK: &[u8] = b"add@/devices/pci0000:00/0000:00:03.0/virtio0/block/vda/vda1\0ACTION=add\0\
        DEVPATH=/devices/pci0000:00/0000:00:03.0/virtio0/block/vda/vda1\0SUBSYSTEM=block\0MAJOR=254\0MINOR=1\0\
        DEVNAME=vda1\0DEVTYPE=partition\0DISKSEQ=9\0PARTN=1\0SEQNUM=1302\0";
    const VIRTIO: &[u8] = b"add@/devices/pci0000:00/0000:00:03.0/virtio0\0ACTION=add\0\
        DEVPATH=/devices/pci0000:00/0000:00:03.0/virtio0\0SUBSYSTEM=virtio\0MODALIAS=virtio:d00000002v00001AF4\0\
        SEQNUM=1297\0";

    #[test]
    fn a_partition_is_news_of_a_block_device() {
        let event = Uevent::parse(DISK).unwrap();
        assert!(event.is_block() && event.modalias.is_none());
        assert!(event.path.ends_with("/vda1"));
    }

    #[test]
    fn a_device_names_its_driver() {
        let event = Uevent::parse(VIRTIO).unwrap();
        assert!(!event.is_block());
        assert_eq!(event.modalias.as_deref(), Some("virtio:d00000002v00001AF4"));
    }

    #[test]
    fn what_is_not_the_kernels_is_nothing() {
        for noise in [&b"libudev\0\xfe\xed\xca\xfe\0\0"[..], b"", b"\xff\xff", b"add"] {
            assert_eq!(Uevent::parse(noise), None);
        }
    }
}
