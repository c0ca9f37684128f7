//! Memory without a name that several processes map (memfd_create(2), fcntl seals, fallocate(2), mmap(2)).
use super::last_error;
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A new memfd of `len` bytes, all holes, sealed against changes of its size and of its seals. Close-on-exec is set.
pub(crate) fn memfd(name: &core::ffi::CStr, len: u64) -> io::Result<OwnedFd> {
    // SAFETY: `name` is a C string; the call touches no other memory.
    let fd =
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: `fd` was just made and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let len = libc::off_t::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: plain system calls on a descriptor that we own.
    let failed = unsafe {
        libc::ftruncate(fd.as_raw_fd(), len) < 0
            || libc::fcntl(
                fd.as_raw_fd(),
                libc::F_ADD_SEALS,
                libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL,
            ) < 0
    };
    if failed { Err(last_error()) } else { Ok(fd) }
}

/// The length of the file behind `fd`.
pub(crate) fn file_len(fd: &OwnedFd) -> io::Result<u64> {
    // SAFETY: an all-zero `stat` is a valid value of that plain C struct.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: `stat` is valid for writes for the length of the call.
    if unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) } < 0 {
        return Err(last_error());
    }
    Ok(stat.st_size as u64)
}

/// The seals on `fd`; an error where it is no memfd.
pub(crate) fn seals(fd: &OwnedFd) -> io::Result<i32> {
    // SAFETY: a plain system call on a descriptor that we own.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 {
        Err(last_error())
    } else {
        Ok(seals)
    }
}

/// Maps all of `fd`, shared, for reading and writing.
pub(crate) fn map_shared(fd: &OwnedFd, len: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().len(len).map_raw(fd.as_raw_fd())
}

/// Maps `len` zero bytes of the process's own, without taking memory for them yet.
pub(crate) fn map_private(len: usize) -> io::Result<MmapRaw> {
    let mut options = MmapOptions::new();
    options.len(len);
    // Miri knows only the plain mapping.
    if !cfg!(miri) {
        options.no_reserve_swap();
    }
    Ok(MmapRaw::from(options.map_anon()?))
}

/// Maps the pages of a range for writing now.
pub(crate) fn populate(map: &MmapRaw, offset: usize, len: usize) -> io::Result<()> {
    map.advise_range(Advice::PopulateWrite, offset, len)
}

/// Takes memory for `len` bytes at `offset` of `fd` now, so that touching them later cannot fail.
pub(crate) fn allocate(fd: &OwnedFd, offset: u64, len: u64) -> io::Result<()> {
    loop {
        // SAFETY: a plain system call on a descriptor that we own.
        if unsafe { libc::fallocate(fd.as_raw_fd(), 0, offset as libc::off_t, len as libc::off_t) }
            == 0
        {
            return Ok(());
        }
        let error = last_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(error);
        }
    }
}
