//! Changes of links, addresses and routes (rtnetlink(7)).

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;
use tokio::io::unix::AsyncFd;

/// Multicast groups (linux/rtnetlink.h): link, IPv4 and IPv6 addresses and routes. The kernel numbers them from 1;
/// a subscription is a bit mask.
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];

/// A subscription to changes of the network of this host.
pub struct NetworkChanges {
    socket: AsyncFd<Socket>,
}

impl NetworkChanges {
    /// Subscribes; must be called within a tokio runtime. No privilege is needed.
    pub fn subscribe() -> io::Result<Self> {
        Self::of(&GROUPS)
    }

    /// The same for links only.
    pub fn of_links() -> io::Result<Self> {
        Self::of(&GROUPS[..1])
    }

    // Deprecated as in `files`: a `Socket` owns one descriptor and gives that.
    #[allow(deprecated)]
    fn of(groups: &[u32]) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let mask = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        socket.bind(&SocketAddr::new(0, mask))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket: AsyncFd::new(socket)? })
    }

    /// Waits for the next change and takes all that are there. Which they are does not matter: the discovery looks
    /// at everything anyway. Lost messages (ENOBUFS) are changes too.
    pub async fn next(&mut self) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(32 * 1024);
        loop {
            let mut ready = self.socket.readable().await?;
            let mut any = false;
            loop {
                buffer.clear();
                match ready.get_inner().recv(&mut buffer, 0) {
                    Ok(_) => any = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                        any = true
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            ready.clear_ready();
            if any {
                return Ok(());
            }
        }
    }
}
