//! Sockets, epoll, event descriptors and what the kernel knows of a connection: what std has no calls for.
use super::last_error;
use std::ffi::CStr;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(last_error())
    } else {
        Ok(result)
    }
}

/// Owns a descriptor that a call has just made.
fn own(result: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the call has made it, and nobody else owns it.
    check(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Begins to connect to `to`, without waiting: the socket is writable when it stands or has failed (connect(2)). `unpaced`: see [`unpace`].
pub(crate) fn connect(to: SocketAddr, unpaced: bool) -> io::Result<OwnedFd> {
    let (family, len) = match to {
        SocketAddr::V4(_) => (libc::AF_INET, size_of::<libc::sockaddr_in>()),
        SocketAddr::V6(_) => (libc::AF_INET6, size_of::<libc::sockaddr_in6>()),
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes no memory.
    let socket = own(unsafe { libc::socket(family, kind, 0) })?;
    if unpaced {
        unpace(socket.as_fd());
    }
    // SAFETY: all zeros is a sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { core::mem::zeroed() };
    match to {
        SocketAddr::V4(v4) => {
            // SAFETY: a sockaddr_storage has room and alignment for every kind of address.
            let out = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            out.sin_family = libc::AF_INET as libc::sa_family_t;
            out.sin_port = v4.port().to_be();
            out.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let out = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            out.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            out.sin6_port = v6.port().to_be();
            out.sin6_addr.s6_addr = v6.ip().octets();
            out.sin6_scope_id = v6.scope_id();
        }
    }
    // SAFETY: `len` bytes of the storage are the address.
    let result = unsafe {
        libc::connect(
            socket.as_raw_fd(),
            (&raw const storage).cast(),
            len as libc::socklen_t,
        )
    };
    match check(result) {
        Ok(_) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

fn set_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value is an int, as these options want it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    check(result).map(drop)
}

/// Sends what is written at once, and finds out within `idle` + 3 * `interval` seconds that the other host is silent (tcp(7)).
pub(crate) fn prepare(fd: BorrowedFd<'_>, idle: u32, interval: u32) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, idle as i32)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, interval as i32)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3)
}

/// Sends as much of the slices as the socket takes now. `None`: nothing. Never a SIGPIPE.
pub(crate) fn send(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // A message's description costs the kernel 0.13 us, which one slice can do without.
    if let [only] = slices {
        // SAFETY: the slice is readable for its length.
        let sent = unsafe { libc::send(fd.as_raw_fd(), only.as_ptr().cast(), only.len(), flags) };
        return transferred(sent);
    }
    // SAFETY: all zeros is a message without anything.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    // An IoSlice is an iovec, says std; sendmsg does not write through it.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len() as _;
    // SAFETY: the message's slices are readable for the length of the call.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) };
    transferred(sent)
}

/// Receives what is there, first to the `first.1` bytes at `first.0`, then to `rest`. `None`: nothing is there now; 0: the end of the stream.
///
/// # Safety
/// `first.0` is valid for writing `first.1` bytes, and nobody else uses them meanwhile.
pub(crate) unsafe fn receive(
    fd: BorrowedFd<'_>,
    first: (*mut u8, usize),
    rest: &mut [u8],
) -> io::Result<Option<usize>> {
    let received = if first.1 == 0 {
        // SAFETY: the slice is writable for its length.
        unsafe {
            libc::recv(
                fd.as_raw_fd(),
                rest.as_mut_ptr().cast(),
                rest.len(),
                libc::MSG_DONTWAIT,
            )
        }
    } else {
        let mut slices = [
            libc::iovec {
                iov_base: first.0.cast(),
                iov_len: first.1,
            },
            libc::iovec {
                iov_base: rest.as_mut_ptr().cast(),
                iov_len: rest.len(),
            },
        ];
        // SAFETY: all zeros is a message without anything.
        let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
        message.msg_iov = slices.as_mut_ptr();
        message.msg_iovlen = 2;
        // SAFETY: the first slice is the caller's promise, the second one a slice.
        unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) }
    };
    transferred(received)
}

fn transferred(result: isize) -> io::Result<Option<usize>> {
    if result >= 0 {
        return Ok(Some(result as usize));
    }
    let error = last_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(error),
    }
}

/// Bytes that were sent and that the other host's kernel has not acknowledged (SIOCOUTQ, tcp(7)).
pub(crate) fn unacknowledged(fd: BorrowedFd<'_>) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which is TIOCOUTQ, writes one int.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 { 0 } else { bytes.max(0) as usize }
}

/// Microseconds of the shortest round trip that the kernel has lately measured on a connection (TCP_INFO, tcp(7)); `None` where it does not tell.
pub(crate) fn round_trip(fd: BorrowedFd<'_>) -> Option<u32> {
    // The offset of tcpi_min_rtt in struct tcp_info of linux/tcp.h, which only ever grows.
    const MIN_RTT: usize = 148;
    let mut info = [0_u8; 256];
    let mut len = info.len() as libc::socklen_t;
    // SAFETY: at most `len` bytes are written.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result < 0 || (len as usize) < MIN_RTT + 4 {
        return None;
    }
    let bytes = [MIN_RTT, MIN_RTT + 1, MIN_RTT + 2, MIN_RTT + 3].map(|at| info[at]);
    // The kernel's word for "never".
    Some(u32::from_ne_bytes(bytes)).filter(|&time| time < u32::MAX)
}

/// Bytes that the kernel would now keep of what comes on a connection (SO_RCVBUF, socket(7)): it lets them become more where a path holds more.
pub(crate) fn kept(fd: BorrowedFd<'_>) -> usize {
    let mut bytes: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: SO_RCVBUF is an int.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw mut bytes).cast(),
            &raw mut len,
        )
    };
    if result < 0 { 0 } else { bytes.max(0) as usize }
}

/// Gives a connection room for so many bytes that were sent and not acknowledged (SO_SNDBUF, socket(7)); `None`: as many as the kernel finds right.
/// Nothing changes where there is no way back to that: Linux before 5.15.
pub(crate) fn set_room(fd: BorrowedFd<'_>, bytes: Option<usize>) {
    // Which of both buffers have a size that a program chose: linux/socket.h and asm-generic/socket.h, which libc does not have everywhere.
    const SO_BUF_LOCK: libc::c_int = 72;
    const NONE: libc::c_int = 0;
    let free = set_option(fd, libc::SOL_SOCKET, SO_BUF_LOCK, NONE).is_ok();
    if let (true, Some(bytes)) = (free, bytes) {
        // What is refused leaves things as they were.
        let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes as libc::c_int);
    }
}

/// The name of a connection's congestion control (TCP_CONGESTION, tcp(7)), filled up with zeroes.
pub(crate) type Congestion = [u8; 16];

/// The congestion control of a socket, if it is one that spreads packets over time (BBR).
pub(crate) fn pacing(fd: BorrowedFd<'_>) -> Option<Congestion> {
    let mut name = Congestion::default();
    let mut len = name.len() as libc::socklen_t;
    // SAFETY: at most `len` bytes are written.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (result == 0 && name.starts_with(b"bbr")).then_some(name)
}

/// Gives a socket another congestion control. What is refused leaves things as they were.
pub(crate) fn set_congestion(fd: BorrowedFd<'_>, name: &Congestion) {
    let len = name.iter().position(|byte| *byte == 0);
    // SAFETY: as many bytes are readable.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            len.unwrap_or(name.len()) as libc::socklen_t,
        );
    }
}

/// Has what is sent on a socket, and on those that are accepted from it, leave at once. Only before it is connected: a connection that was paced once has
/// the kernel's timer for good.
pub(crate) fn unpace(fd: BorrowedFd<'_>) {
    // Every kernel has it, for everybody.
    set_congestion(fd, b"reno\0\0\0\0\0\0\0\0\0\0\0\0");
}

/// Up to so many bytes that have come are no news for an epoll set, and are acknowledged when they come and not when they are read (SO_RCVLOWAT, socket(7)).
pub(crate) fn set_unheard(fd: BorrowedFd<'_>, bytes: usize) {
    // What is refused leaves things as they were.
    let _ = set_option(
        fd,
        libc::SOL_SOCKET,
        libc::SO_RCVLOWAT,
        bytes as libc::c_int,
    );
}

/// A descriptor that others ring, and that is readable then (eventfd(2)).
pub(crate) fn event() -> io::Result<OwnedFd> {
    // SAFETY: takes no memory.
    own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Rings it. It cannot fail in a way that matters: a full counter is readable.
pub(crate) fn ring(event: BorrowedFd<'_>) {
    let one = 1_u64;
    // SAFETY: eight bytes are read.
    unsafe { libc::write(event.as_raw_fd(), (&raw const one).cast(), 8) };
}

/// Makes it silent again.
pub(crate) fn hush(event: BorrowedFd<'_>) {
    let mut count = 0_u64;
    // SAFETY: eight bytes are written at most.
    unsafe { libc::read(event.as_raw_fd(), (&raw mut count).cast(), 8) };
}

/// An alarm clock, readable when its time has come (timerfd_create(2)).
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    pub(crate) fn new() -> io::Result<Alarm> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: takes no memory.
        own(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) }).map(Alarm)
    }

    /// Sets it to go off after `after`, or not at all; what it was set to before is forgotten.
    pub(crate) fn set(&self, after: Option<Duration>) {
        // Zero would mean never.
        let after = after.map(|after| after.max(Duration::from_nanos(1)));
        let it_value = libc::timespec {
            tv_sec: after.map_or(0, |after| after.as_secs() as libc::time_t),
            tv_nsec: after.map_or(0, |after| libc::c_long::from(after.subsec_nanos() as i32)),
        };
        // SAFETY: all zeroes are a valid `itimerspec`.
        let mut spec: libc::itimerspec = unsafe { core::mem::zeroed() };
        spec.it_value = it_value;
        let fd = self.0.as_raw_fd();
        // SAFETY: the new value is read, and no old one is asked for.
        unsafe { libc::timerfd_settime(fd, 0, &raw const spec, core::ptr::null_mut()) };
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A set of descriptors to wait for (epoll(7)), level-triggered.
pub(crate) struct Epoll(OwnedFd);

/// One that is ready: the number under which it was added. Failures count as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) number: u64,
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: takes no memory.
        own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Epoll)
    }

    fn control(
        &self,
        what: libc::c_int,
        fd: BorrowedFd<'_>,
        number: u64,
        write: bool,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | if write { libc::EPOLLOUT } else { 0 }) as u32,
            u64: number,
        };
        // SAFETY: the event is read only.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd.as_raw_fd(), &raw mut event) })
            .map(drop)
    }

    /// Adds a descriptor, to read and perhaps to write. It leaves when it is closed.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, number: u64, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, number, write)
    }

    /// Changes whether it is to be written.
    pub(crate) fn change(&self, fd: BorrowedFd<'_>, number: u64, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, number, write)
    }

    /// Takes a descriptor out that stays open.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, false)
    }

    /// Waits until one is ready, at most `limit`; `None` for ever. Gives those that are, up to 64.
    pub(crate) fn wait(&self, limit: Option<Duration>, ready: &mut Vec<Ready>) {
        const ROOM: usize = 64;
        ready.clear();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; ROOM];
        let limit = limit.map_or(-1, |d| {
            d.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32
        });
        // SAFETY: at most ROOM events are written.
        let n = unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), ROOM as i32, limit)
        };
        for event in events.iter().take(n.max(0) as usize) {
            let has = |bits: libc::c_int| event.events & bits as u32 != 0;
            let failed = has(libc::EPOLLERR | libc::EPOLLHUP);
            ready.push(Ready {
                number: event.u64,
                read: failed || has(libc::EPOLLIN),
                write: failed || has(libc::EPOLLOUT),
            });
        }
    }
}

/// An address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    /// Bits of the network's part.
    pub(crate) prefix: u32,
}

/// The addresses of this host's interfaces that are up (getifaddrs(3)).
pub(crate) fn interfaces() -> io::Result<Vec<Interface>> {
    let mut first: *mut libc::ifaddrs = core::ptr::null_mut();
    // SAFETY: writes one pointer.
    check(unsafe { libc::getifaddrs(&raw mut first) })?;
    let mut found = Vec::new();
    let mut at = first;
    while !at.is_null() {
        // SAFETY: the list's entries live until freeifaddrs.
        let entry = unsafe { &*at };
        at = entry.ifa_next;
        if entry.ifa_flags & libc::IFF_UP as u32 == 0 {
            continue;
        }
        // SAFETY: the pointers are null or lead to addresses of the list.
        let (address, mask) = unsafe { (ip(entry.ifa_addr), ip(entry.ifa_netmask)) };
        let Some(address) = address else { continue };
        let prefix = match mask {
            Some(IpAddr::V4(mask)) => u32::from(mask).count_ones(),
            Some(IpAddr::V6(mask)) => u128::from(mask).count_ones(),
            None => 0,
        };
        // SAFETY: a name is a C string of the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        found.push(Interface {
            name: name.to_string_lossy().into_owned(),
            address,
            prefix,
        });
    }
    // SAFETY: the list is freed once, and nothing of it was kept.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// The IP address in a sockaddr.
///
/// # Safety
/// Null, or a valid sockaddr as long as its family says.
unsafe fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: by the contract; the family says which kind it is.
    unsafe {
        match i32::from((*address).sa_family) {
            libc::AF_INET => {
                let v4 = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(IpAddr::V4(Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes())))
            }
            libc::AF_INET6 => {
                let v6 = address.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)))
            }
            _ => None,
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn bytes_go_to_two_places_and_the_kernel_tells_of_the_connection() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                continue;
            };
            let a = TcpStream::from(connect(listener.local_addr().unwrap(), false).unwrap());
            let (b, _) = listener.accept().unwrap();
            prepare(a.as_fd(), 10, 5).unwrap();
            let epoll = Epoll::new().unwrap();
            epoll.add(b.as_fd(), 7, false).unwrap();
            let parts = [IoSlice::new(b"hello "), IoSlice::new(b"world")];
            assert_eq!(send(a.as_fd(), &parts).unwrap(), Some(11));
            let mut ready = Vec::new();
            epoll.wait(None, &mut ready);
            assert_eq!(
                ready,
                [Ready {
                    number: 7,
                    read: true,
                    write: false
                }]
            );
            let (mut first, mut rest) = ([0_u8; 4], [0_u8; 20]);
            // SAFETY: four bytes are there.
            let n = unsafe { receive(b.as_fd(), (first.as_mut_ptr(), 4), &mut rest) }.unwrap();
            assert_eq!(
                (n, &first, &rest[..7]),
                (Some(11), b"hell", &b"o world"[..])
            );
            // SAFETY: no first place.
            let n = unsafe { receive(b.as_fd(), (core::ptr::null_mut(), 0), &mut rest) }.unwrap();
            assert_eq!(n, None);
            assert!(unacknowledged(a.as_fd()) <= 11);
            assert!(round_trip(a.as_fd()).is_some_and(|time| time > 0));
        }
    }

    #[test]
    fn what_is_unheard_is_read_and_told_of_once_it_is_heard() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let a = TcpStream::from(connect(listener.local_addr().unwrap(), false).unwrap());
        let (b, _) = listener.accept().unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(b.as_fd(), 7, false).unwrap();
        let (mut ready, mut room) = (Vec::new(), [0_u8; 20]);
        for _ in 0..2 {
            set_unheard(b.as_fd(), 64 * 1024);
            send(a.as_fd(), &[IoSlice::new(b"hello")]).unwrap();
            epoll.wait(Some(Duration::from_millis(20)), &mut ready);
            assert_eq!(ready, []);
            // It came before, as it does: so this is no news of its own.
            set_unheard(b.as_fd(), 1);
            epoll.wait(None, &mut ready);
            assert_eq!(ready.len(), 1);
            set_unheard(b.as_fd(), 64 * 1024);
            // SAFETY: no first place.
            let n = unsafe { receive(b.as_fd(), (core::ptr::null_mut(), 0), &mut room) }.unwrap();
            assert_eq!((n, &room[..5]), (Some(5), &b"hello"[..]));
            set_unheard(b.as_fd(), 1);
        }
    }

    #[test]
    fn a_connection_that_is_not_paced_is_given_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = pacing(listener.as_fd());
        unpace(listener.as_fd());
        let a = connect(listener.local_addr().unwrap(), true).unwrap();
        let (b, _) = listener.accept().unwrap();
        for socket in [a.as_fd(), b.as_fd()] {
            assert_eq!(pacing(socket), None);
            if let Some(name) = before {
                set_congestion(socket, &name);
                assert_eq!(pacing(socket), Some(name));
            }
        }
    }

    #[test]
    fn the_room_of_a_connection_is_set_and_given_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = connect(listener.local_addr().unwrap(), false).unwrap();
        let (_other, _) = listener.accept().unwrap();
        // Nobody reads.
        let fill = || {
            while send(socket.as_fd(), &[IoSlice::new(&[7; 1 << 16])]).unwrap() > Some(0) {}
            unacknowledged(socket.as_fd())
        };
        set_room(socket.as_fd(), Some(64 * 1024));
        // The kernel counts what it needs for them too, doubles the number for that, and ends with a whole piece.
        let little = fill();
        assert!(little <= 3 * 64 * 1024, "{little}");
        set_room(socket.as_fd(), Some(512 * 1024));
        assert!(fill() > little);
        set_room(socket.as_fd(), None);
    }

    #[test]
    fn a_bell_is_heard_until_it_is_hushed() {
        let (bell, epoll) = (event().unwrap(), Epoll::new().unwrap());
        epoll.add(bell.as_fd(), 1, false).unwrap();
        let mut ready = Vec::new();
        let mut rings = || {
            epoll.wait(Some(Duration::ZERO), &mut ready);
            ready.len()
        };
        assert_eq!(rings(), 0);
        ring(bell.as_fd());
        assert_eq!(rings(), 1);
        hush(bell.as_fd());
        assert_eq!(rings(), 0);
    }

    #[test]
    fn an_alarm_goes_off_when_it_is_set_and_not_before() {
        let (alarm, epoll) = (Alarm::new().unwrap(), Epoll::new().unwrap());
        epoll.add(alarm.as_fd(), 1, false).unwrap();
        let mut ready = Vec::new();
        alarm.set(Some(Duration::from_secs(1000)));
        epoll.wait(Some(Duration::ZERO), &mut ready);
        assert!(ready.is_empty());
        alarm.set(Some(Duration::ZERO));
        epoll.wait(None, &mut ready);
        assert_eq!(ready.len(), 1);
        alarm.set(None);
        epoll.wait(Some(Duration::ZERO), &mut ready);
        assert!(ready.is_empty());
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        let all = interfaces().unwrap();
        assert!(
            all.iter()
                .any(|i| i.address == IpAddr::V4(Ipv4Addr::LOCALHOST) && i.prefix == 8)
        );
    }
}
