//! Which cores a job has for its own: claimed against other jobs of the host, never by a file.
//!
//! A claim is an abstract socket, which the kernel frees with its holder however that ends. Jobs in other network namespaces
//! (containers) are not seen; spinning ranks notice those by being preempted.
use super::cgroup::Groups;
use crate::sys::cpu;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The processors that this process may use, the best to claim first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usable {
    processors: Vec<usize>,
    /// How many of them the control groups' quota is worth.
    quota: Option<usize>,
}

impl Usable {
    pub(super) fn here() -> Usable {
        let mut processors = cpu::allowed().unwrap_or_default();
        // Hardware threads that share a core come last, so that ranks get cores of their own while there are some.
        let shares = |cpu: &usize| {
            let list = std::fs::read_to_string(format!(
                "/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
            ));
            let first = list
                .ok()
                .and_then(|list| list.trim().split([',', '-']).next()?.parse::<usize>().ok());
            first.is_some_and(|first| first != *cpu)
        };
        processors.sort_by_key(|cpu| (shares(cpu), *cpu));
        Usable {
            processors,
            quota: Groups::of("cpu").and_then(|groups| groups.processors()),
        }
    }

    /// How many processors the affinity mask allows.
    pub(super) fn allowed(&self) -> usize {
        self.processors.len()
    }

    /// How many ranks can have a processor each.
    pub(super) fn count(&self) -> usize {
        self.processors.len().min(self.quota.unwrap_or(usize::MAX))
    }
}

/// Cores that this process holds until it ends.
pub(super) struct Claims {
    cores: Vec<usize>,
    _sockets: Vec<UnixDatagram>,
}

impl Claims {
    /// Claims up to `wanted` of the usable processors that no other job holds.
    pub(super) fn take(wanted: usize, usable: &Usable) -> Claims {
        let mut claims = Claims {
            cores: Vec::new(),
            _sockets: Vec::new(),
        };
        claims.take_more(wanted, usable);
        claims
    }

    /// Claims up to `wanted` more; which.
    pub(super) fn take_more(&mut self, wanted: usize, usable: &Usable) -> &[usize] {
        let had = self.cores.len();
        for &processor in &usable.processors {
            if self.cores.len() >= (had + wanted).min(usable.count()) {
                break;
            }
            let name = format!("tercio-core-{processor}");
            let bound = SocketAddr::from_abstract_name(name)
                .and_then(|name| UnixDatagram::bind_addr(&name));
            if let Ok(socket) = bound {
                self.cores.push(processor);
                self._sockets.push(socket);
            }
        }
        &self.cores[had..]
    }

    pub(super) fn cores(&self) -> &[usize] {
        &self.cores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_claimed_once() {
        // Numbers that no machine has, so that jobs under way on this one do not matter.
        let usable = Usable {
            processors: vec![90_001, 90_002, 90_003],
            quota: Some(2),
        };
        assert_eq!(usable.count(), 2);
        let first = Claims::take(1, &usable);
        assert_eq!(first.cores(), [90_001]);
        let mut second = Claims::take(1, &usable);
        assert_eq!(second.take_more(4, &usable), [90_003]);
        assert_eq!(second.cores(), [90_002, 90_003]);
        assert_eq!(Claims::take(1, &usable).cores(), [] as [usize; 0]);
        drop(first);
        assert_eq!(Claims::take(1, &usable).cores(), [90_001]);
        assert!(Usable::here().count() >= 1);
    }
}
