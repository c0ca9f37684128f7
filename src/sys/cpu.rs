//! Which processors a process may run on (sched_setaffinity(2)).
use super::fd::check;
use std::io;
use std::sync::LazyLock;

/// The most processors that a mask of the C library's `cpu_set_t` can name.
const MOST: usize = libc::CPU_SETSIZE as usize;

/// The processors that the calling thread may run on, in ascending order.
pub(crate) fn allowed() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero `cpu_set_t` is the empty set.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: `set` is valid for writes of its size.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) })?;
    // SAFETY: every index is below `CPU_SETSIZE`.
    Ok((0..MOST)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Whether all cores of this processor sit around one shared cache, as on the meshes of Intel's servers (AMD's sit in several groups, with a cache each).
pub(crate) fn is_mesh() -> bool {
    // Asked once: in a guest the question takes microseconds.
    static IS_MESH: LazyLock<bool> = LazyLock::new(|| vendor() == *b"GenuineIntel");
    *IS_MESH
}

/// The vendor's name, as the processor tells it.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[allow(unused_unsafe)] // newer compilers know the instruction as safe
fn vendor() -> [u8; 12] {
    // SAFETY: every processor of this architecture has the instruction and its first leaf.
    let leaf = unsafe { core::arch::x86_64::__cpuid(0) };
    let mut name = [0; 12];
    for (letters, word) in name.chunks_exact_mut(4).zip([leaf.ebx, leaf.edx, leaf.ecx]) {
        letters.copy_from_slice(&word.to_le_bytes());
    }
    name
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn vendor() -> [u8; 12] {
    [0; 12]
}

/// The processor that the calling thread runs on at this moment.
pub(crate) fn current() -> Option<usize> {
    // SAFETY: a call without arguments.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// Moves the calling thread to processor `cpu`, which stays free to leave it: afterwards it may run on `allowed` again.
pub(crate) fn move_to(cpu: usize, allowed: &[usize]) -> io::Result<()> {
    bind(cpu)?;
    restrict(allowed)
}

/// Keeps the calling thread, and what it starts from here on, on processor `cpu`.
pub(crate) fn bind(cpu: usize) -> io::Result<()> {
    restrict(&[cpu])
}

/// Keeps the calling thread, and what it starts from here on, on these processors.
fn restrict(cpus: &[usize]) -> io::Result<()> {
    if cpus.iter().any(|&cpu| cpu >= MOST) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: an all-zero `cpu_set_t` is the empty set, and each processor is below its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        for &cpu in cpus {
            libc::CPU_SET(cpu, &mut set);
        }
        set
    };
    // SAFETY: `set` is valid for reads of its size.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) }).map(drop)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bound_thread_may_run_on_one_processor() {
        let before = super::allowed().unwrap();
        let last = *before.last().unwrap();
        std::thread::spawn(move || {
            super::bind(last).unwrap();
            assert_eq!(super::allowed().unwrap(), [last]);
        })
        .join()
        .unwrap();
        assert_eq!(super::allowed().unwrap(), before);
        assert!(super::bind(1 << 20).is_err());
    }
}
