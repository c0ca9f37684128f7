//! Tasks of another launcher (srun, an mpiexec of the MPICH family) that become the ranks of a job. See the README.
use super::exchange::Secret;
use super::identity::{self, Identity, join};
use super::pmi::Pmi;
use super::{Membership, layout};
use crate::model::error::Result;
use crate::sys::{cpu, fd, process, random};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd, RawFd};

/// What a task sends first to its host's agent: this, the job's key, its rank, and a bit for each processor that it may run on.
pub(crate) const HELLO: &[u8; 16] = b"tercio hello 1\0\0";
/// Bytes of the key by which a host's tasks and their agent know each other.
const KEY: usize = 32;
/// Processors that a hello can name.
const PROCESSORS: usize = 8192;
/// Bytes of a hello.
pub(crate) const HELLO_BYTES: usize = HELLO.len() + KEY + 4 + PROCESSORS / 8;

/// The key by which a host's tasks and their agent know each other.
pub(crate) type Key = [u8; KEY];

/// What a task says to its host's agent before it gets the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) key: Key,
    pub(crate) rank: usize,
    pub(crate) processors: Vec<usize>,
}

impl Hello {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = [&HELLO[..], &self.key, &(self.rank as u32).to_le_bytes()].concat();
        bytes.resize(HELLO_BYTES, 0);
        let bits = HELLO.len() + KEY + 4;
        for &cpu in self.processors.iter().filter(|&&cpu| cpu < PROCESSORS) {
            bytes[bits + cpu / 8] |= 1 << (cpu % 8);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Hello> {
        let rest = bytes.strip_prefix(&HELLO[..])?;
        let (key, rest) = rest.split_first_chunk::<KEY>()?;
        let (rank, bits) = rest.split_first_chunk::<4>()?;
        if bytes.len() != HELLO_BYTES {
            return None;
        }
        let set = |cpu: &usize| bits[cpu / 8] & 1 << (cpu % 8) != 0;
        Some(Hello {
            key: *key,
            rank: u32::from_le_bytes(*rank) as usize,
            processors: (0..PROCESSORS).filter(set).collect(),
        })
    }
}

/// How the ranks of a job, and its agents, are to reach each other where they share no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    /// Not by sockets of ours.
    Nothing,
    /// By sockets. This is the first host: its agent listens at these addresses for those of the other hosts, if there are any.
    First { secret: Secret, listen: Vec<IpAddr> },
    /// By sockets. The first host's agent listens there.
    Member { secret: Secret, at: Vec<SocketAddr> },
}

impl Between {
    /// The job's secret.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        match self {
            Between::Nothing => None,
            Between::First { secret, .. } | Between::Member { secret, .. } => Some(secret),
        }
    }

    /// As words of a line.
    fn encode(&self) -> String {
        match self {
            Between::Nothing => "nothing".into(),
            Between::First { secret, listen } => {
                let listen = listen.iter().map(|ip| format!(" {ip}"));
                format!("first {}{}", hex(secret), listen.collect::<String>())
            }
            Between::Member { secret, at } => {
                let at = at.iter().map(|at| format!(" {at}"));
                format!("member {}{}", hex(secret), at.collect::<String>())
            }
        }
    }

    fn decode(line: &str) -> Option<Between> {
        let mut words = line.split(' ');
        Some(match words.next()? {
            "nothing" => Between::Nothing,
            "first" => Between::First {
                secret: unhex(words.next()?)?,
                listen: words.map(|ip| ip.parse().ok()).collect::<Option<_>>()?,
            },
            "member" => Between::Member {
                secret: unhex(words.next()?)?,
                at: words.map(|at| at.parse().ok()).collect::<Option<_>>()?,
            },
            _ => return None,
        })
    }
}

/// What tasks need who are to be connected by sockets.
pub(crate) struct Sockets<'a> {
    /// Also those of one host.
    pub(crate) everywhere: bool,
    /// The addresses of this host at which others may reach it.
    pub(crate) listen: &'a dyn Fn() -> Result<Vec<IpAddr>>,
}

/// The most addresses of the first host that are told to the others: texts of a process manager are short.
const ADDRESSES: usize = 8;

/// What the agent of one host is to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// The abstract socket at which it listens.
    pub(crate) name: String,
    pub(crate) key: Key,
    /// The host of each rank, hosts numbered in the order of their first ranks.
    pub(crate) hosts: Vec<usize>,
    /// The process of each rank, as its own host numbers it.
    pub(crate) pids: Vec<u32>,
    pub(crate) here: usize,
    pub(crate) between: Between,
}

impl Service {
    /// As lines: the socket's name, the key, this host's number, what is between hosts, and host and process of each rank.
    pub(crate) fn encode(&self) -> String {
        let between = self.between.encode();
        let mut text = format!(
            "{}\n{}\n{}\n{between}\n",
            self.name,
            hex(&self.key),
            self.here
        );
        for (host, pid) in self.hosts.iter().zip(&self.pids) {
            let _ = writeln!(text, "{host} {pid}");
        }
        text
    }

    pub(crate) fn decode(text: &str) -> Option<Service> {
        let mut lines = text.lines();
        let name = lines.next()?.to_owned();
        let (key, here) = (unhex(lines.next()?)?, lines.next()?.parse().ok()?);
        let between = Between::decode(lines.next()?)?;
        let (mut hosts, mut pids) = (Vec::new(), Vec::new());
        for line in lines {
            let (host, pid) = line.split_once(' ')?;
            hosts.push(host.parse().ok()?);
            pids.push(pid.parse().ok()?);
        }
        Some(Service {
            name,
            key,
            hosts,
            pids,
            here,
            between,
        })
    }

    /// How many hosts the job has.
    pub(crate) fn host_count(&self) -> usize {
        self.hosts.iter().max().map_or(0, |host| host + 1)
    }
}

/// How tasks publish short texts for each other.
pub(crate) trait Wire {
    /// Publishes `text`, without spaces, under `key`.
    fn put(&mut self, key: &str, text: &str) -> Result<()>;
    /// Waits until every task has come here. What each put before is there for all after it.
    fn fence(&mut self) -> Result<()>;
    fn get(&mut self, key: &str) -> Result<String>;
}

/// This process as one of several tasks of another launcher.
pub(crate) struct Task {
    pmi: RawFd,
    rank: usize,
    size: usize,
}

impl Task {
    /// The task that this process is, if its launcher speaks PMI-1 and no launcher of ours stands between. `lookup` gives a variable's value.
    pub(crate) fn find(lookup: impl Fn(&str) -> Option<String>) -> Option<Task> {
        if lookup(identity::RANK).is_some() {
            return None;
        }
        let number = |name: &str| lookup(name)?.parse::<usize>().ok();
        let (pmi, rank, size) = (number("PMI_FD")?, number("PMI_RANK")?, number("PMI_SIZE")?);
        (size > 1 && rank < size).then_some(Task {
            pmi: pmi as RawFd,
            rank,
            size,
        })
    }

    /// Joins the job that all tasks make together. The first task of each host has `serve` start an agent for it.
    ///
    /// # Errors
    /// A sentence if the process manager refuses, the agent cannot be started or reached, or there are too many ranks.
    pub(crate) fn join(
        self,
        sockets: Sockets<'_>,
        serve: impl FnOnce(Service) -> std::io::Result<String>,
    ) -> Result<Membership> {
        let mut pmi = Pmi::open(self.pmi)?;
        let joined = join_over(&mut pmi, self.rank, self.size, Some(sockets), serve)?;
        pmi.close()?;
        joined.claim()
    }
}

/// A task that knows its host's agent.
pub(crate) struct Joined {
    rank: usize,
    size: usize,
    /// How many bells the agent has for this host's ranks: one each where there are sockets.
    bells: usize,
    /// The agent's socket, and the key that it wants to hear.
    agent: Result<(String, Key)>,
}

/// Has the tasks find each other over `wire`, of which this is task `rank` of `size`. The first task of each host has `serve` start an agent for it, which says
/// where it listens for other agents. With `sockets` the ranks of several hosts, and their agents, are to be connected by these.
///
/// # Errors
/// A sentence if the wire breaks, or if there are too many ranks.
pub(crate) fn join_over(
    wire: &mut impl Wire,
    rank: usize,
    size: usize,
    sockets: Option<Sockets<'_>>,
    serve: impl FnOnce(Service) -> std::io::Result<String>,
) -> Result<Joined> {
    if size > layout::MAX_RANKS {
        return Err(join(format!(
            "the launcher started {size} tasks, and a job can have {}; use fewer",
            layout::MAX_RANKS
        )));
    }
    let me = format!("{}:{}", host(), process::id());
    wire.put(&format!("tercio-host-{rank}"), &me)?;
    wire.fence()?;
    let mut names: Vec<String> = Vec::new();
    let (mut hosts, mut pids) = (Vec::new(), Vec::new());
    for rank in 0..size {
        let told = wire.get(&format!("tercio-host-{rank}"))?;
        let (name, pid) = told.split_once(':').unwrap_or((&told, ""));
        let name = name.to_owned();
        pids.push(pid.parse().unwrap_or(0));
        let known = names.iter().position(|known| *known == name);
        hosts.push(known.unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        }));
    }
    let here = hosts[rank];
    let sharing = hosts.iter().filter(|host| **host == here).count();
    let sockets = sockets.filter(|sockets| names.len() > 1 || sockets.everywhere);
    // Agents of several hosts know each other: that of the first comes first.
    let in_turns = sockets.is_some() && names.len() > 1;
    let key = format!("tercio-agent-{here}");
    let mut refused = None;
    let leads = hosts.iter().position(|host| *host == here) == Some(rank);
    let (all, first) = ((hosts, pids), here == 0);
    let start = |between: Between| {
        let random: Key = random::bytes()?;
        let service = Service {
            name: format!("tercio-{}", hex(&random[..16])),
            key: random,
            hosts: all.0,
            pids: all.1,
            here,
            between,
        };
        let told = format!("{}:{}", service.name, hex(&random));
        serve(service).map(|listens| (told, listens))
    };
    let mut start = Some(start).filter(|_| leads);
    if let Some(start) = start.take_if(|_| first || !in_turns) {
        let between = match &sockets {
            None => Ok(Between::Nothing),
            Some(sockets) => first_of(sockets, in_turns),
        };
        let secret = between.as_ref().ok().and_then(Between::secret).copied();
        let (told, company) = match between.and_then(start) {
            Ok((told, listens)) => {
                let secret = secret.unwrap_or_default();
                (told, format!("{}@{listens}", hex(&secret)))
            }
            Err(error) => {
                // The others are told, and do not wait for it.
                refused = Some(error);
                ("none".into(), "none".into())
            }
        };
        wire.put(&key, &told)?;
        if in_turns {
            wire.put(COMPANY, &company)?;
        }
    }
    wire.fence()?;
    if in_turns {
        if let Some(start) = start {
            let told = wire.get(COMPANY)?;
            let started = match member_of(&told) {
                Some(between) => start(between).map(|(told, _)| told),
                None => Err(std::io::Error::other("the first host has none")),
            };
            wire.put(&key, started.as_deref().unwrap_or("none"))?;
            refused = started.err();
        }
        wire.fence()?;
    }
    let told = wire.get(&key)?;
    // A rank that joined would wait for those of a host without an agent: so all end together.
    let mut without = None;
    for (at, name) in names.iter().enumerate().filter(|_| in_turns) {
        if !wire.get(&format!("tercio-agent-{at}"))?.contains(':') {
            without.get_or_insert(name);
        }
    }
    // Nobody ends before all have read: some managers do not survive that.
    wire.fence()?;
    let agent = match (refused, told.split_once(':')) {
        (Some(error), _) => Err(join(format!(
            "rank {rank} cannot start its host's agent: {error}"
        ))),
        (None, Some(_)) if without.is_some() => Err(join(format!(
            "rank {rank} cannot join the job: host {} has no agent; the first rank there says why",
            without.map_or("", String::as_str)
        ))),
        (None, Some((name, secret))) => Ok((name.to_owned(), unhex(secret).unwrap_or_default())),
        (None, None) => Err(join(format!(
            "rank {rank} has no agent on its host; the first rank there says why"
        ))),
    };
    let bells = if sockets.is_some() { sharing } else { 0 };
    Ok(Joined {
        rank,
        size,
        bells,
        agent,
    })
}

/// The key under which the first host's agent is published for the others: the job's secret, and where it listens.
const COMPANY: &str = "tercio-company";

/// What the first host's agent is told; it listens if others are to come.
fn first_of(sockets: &Sockets<'_>, others: bool) -> std::io::Result<Between> {
    let mut listen = match others {
        true => (sockets.listen)().map_err(|error| std::io::Error::other(error.to_string()))?,
        false => Vec::new(),
    };
    listen.truncate(ADDRESSES);
    Ok(Between::First {
        secret: random::bytes()?,
        listen,
    })
}

/// What another agent is told, of what the first host's published.
fn member_of(told: &str) -> Option<Between> {
    let (secret, at) = told.split_once('@')?;
    Some(Between::Member {
        secret: unhex(secret)?,
        at: at
            .split(',')
            .map(|at| at.parse().ok())
            .collect::<Option<_>>()?,
    })
}

impl Joined {
    /// Gets the segment from the agent, and claims the rank there.
    ///
    /// # Errors
    /// A sentence if the agent could not be started, or cannot be reached.
    pub(crate) fn claim(self) -> Result<Membership> {
        let Joined {
            rank,
            size,
            bells,
            agent,
        } = self;
        let (name, key) = agent?;
        let unreachable = |error: std::io::Error| {
            join(format!(
                "rank {rank} cannot reach its host's agent ({error}); its tasks must share a network and a process namespace"
            ))
        };
        let agent = fd::connect(&name).map_err(unreachable)?;
        let hello = Hello {
            key,
            rank,
            processors: cpu::allowed().unwrap_or_default(),
        };
        fd::send(agent.as_fd(), &hello.encode(), true).map_err(unreachable)?;
        let (segment, job) = segment(&agent).map_err(unreachable)?;
        let mut rung = Vec::with_capacity(bells);
        while rung.len() < bells {
            rung.extend(packet(&agent).map_err(unreachable)?.descriptors);
        }
        let membership = Membership::claim(Identity {
            rank,
            size,
            birth: None,
            segment: segment.into_raw_fd(),
            claim: agent.into_raw_fd(),
            job,
        })?;
        if !rung.is_empty() {
            membership.segment().set_bells(rung);
        }
        Ok(membership)
    }
}

/// What the agent answers to a hello: the segment, and the job's name. The bells follow, in as many packets as it takes.
fn segment(agent: &OwnedFd) -> std::io::Result<(OwnedFd, String)> {
    let packet = packet(agent)?;
    let name = String::from_utf8_lossy(&packet.bytes).into_owned();
    let segment = packet.descriptors.into_iter().next();
    segment
        .map(|segment| (segment, name))
        .ok_or_else(|| std::io::Error::other("it refused"))
}

/// Waits for a packet from the agent.
fn packet(agent: &OwnedFd) -> std::io::Result<fd::Packet> {
    loop {
        let mut watch = fd::Watch::default();
        watch.add(agent.as_fd(), fd::Interest::Read);
        watch.wait(None);
        match fd::receive_descriptors(agent.as_fd(), 256) {
            Ok(Some(packet)) => return Ok(packet),
            Ok(None) => return Err(std::io::Error::other("it refused, or has ended")),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// What tells this host from others: processes of which it is the same can share memory and see each other.
fn host() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = |name: &str| {
        let link = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        let text = link.to_string_lossy();
        text.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
    };
    let spaces = ["net", "pid", "ipc"].map(space).join("-");
    format!("{}-{spaces}", boot.trim())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Key> {
    let mut key = Key::default();
    if text.len() != 2 * KEY || !text.is_ascii() {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hellos_come_back() {
        let hello = Hello {
            key: [7; KEY],
            rank: 70_000,
            processors: vec![0, 9, 8191],
        };
        assert_eq!(Hello::decode(&hello.encode()), Some(hello.clone()));
        assert_eq!(Hello::decode(&hello.encode()[1..]), None);
        assert_eq!(Hello::decode(&hello.encode()[..100]), None);
        assert_eq!(Hello::decode(b""), None);
        assert_eq!(unhex(&hex(&hello.key)), Some(hello.key));
        assert_eq!(unhex("7"), None);
        assert_eq!(unhex(&"g".repeat(64)), None);
    }

    #[test]
    fn services_come_back() {
        let (secret, ip) = ([3; 32], IpAddr::from([10, 0, 0, 1]));
        let at = vec![
            "10.0.0.1:7".parse().unwrap(),
            "[fd00::1]:8".parse().unwrap(),
        ];
        for between in [
            Between::Nothing,
            Between::First {
                secret,
                listen: vec![ip],
            },
            Between::First {
                secret,
                listen: Vec::new(),
            },
            Between::Member { secret, at },
        ] {
            let service = Service {
                name: "tercio-1".into(),
                key: [9; KEY],
                hosts: vec![0, 1, 0],
                pids: vec![10, 7, 4_000_000],
                here: 1,
                between,
            };
            assert_eq!(service.host_count(), 2);
            assert_eq!(Service::decode(&service.encode()), Some(service));
        }
        assert_eq!(member_of("none"), None);
        assert_eq!(Service::decode(""), None);
    }

    #[test]
    fn a_task_is_found_where_no_launcher_of_ours_stands_between() {
        let with = |variables: &[(&str, &str)]| {
            let task = Task::find(|name| {
                let found = variables.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| (*value).to_owned())
            });
            task.map(|task| (task.rank, task.size))
        };
        let pmi = [("PMI_FD", "6"), ("PMI_RANK", "1"), ("PMI_SIZE", "2")];
        assert_eq!(with(&pmi), Some((1, 2)));
        assert_eq!(with(&pmi[..2]), None);
        assert_eq!(with(&[pmi[0], pmi[1], ("PMI_SIZE", "1")]), None);
        assert_eq!(with(&[pmi[0], pmi[1], pmi[2], (identity::RANK, "0")]), None);
    }
}
