//! Whether and how a rank opens sockets to the others.
use crate::engine::{Places, Settings, Sockets};
use crate::job::exchange::Secret;
use crate::job::{Exchange, Segment, identity};
use crate::model::{Error, ErrorClass};
use crate::sys::{fd, net};
use crate::transport::tcp::address;
use std::net::IpAddr;

/// What ranks are told of sockets, by environment variables that the launcher sets.
pub(crate) struct Wishes {
    /// All ranks are to be reached through sockets, also those of this host (`--transport tcp`).
    pub(crate) everywhere: bool,
    /// `--interface`.
    pub(crate) interface: String,
    /// The job's name.
    pub(crate) job: String,
}

impl Wishes {
    /// As the variables say.
    pub(crate) fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Wishes, Error> {
        let transport = lookup(identity::TRANSPORT).unwrap_or_default();
        let everywhere = match transport.as_str() {
            "" | "auto" => false,
            "tcp" => true,
            _ => {
                let text = format!(
                    "{}={transport:?}; it can be auto or tcp",
                    identity::TRANSPORT
                );
                return Err(Error::new(ErrorClass::Arg, text));
            }
        };
        Ok(Wishes {
            everywhere,
            interface: lookup(identity::INTERFACE).unwrap_or_default(),
            job: lookup(identity::JOB).unwrap_or_default(),
        })
    }
}

impl Wishes {
    /// The addresses at which this host may be reached by others.
    pub(crate) fn addresses(&self) -> Result<Vec<IpAddr>, Error> {
        let refused = |text: String| Error::new(ErrorClass::Join, text);
        let all = net::interfaces()
            .map_err(|e| refused(format!("this host's addresses cannot be listed ({e})")))?;
        address::choose(&all, &self.interface, false).map_err(refused)
    }
}

/// Takes over the bells that this process inherited, if the job has sockets.
pub(crate) fn take_bells(
    segment: &Segment,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<(), Error> {
    let Some(numbers) = lookup(identity::BELLS) else {
        return Ok(());
    };
    let bells: Option<Vec<_>> = numbers
        .split(',')
        .map(|number| fd::inherited(number.parse().ok()?).ok())
        .collect();
    match bells {
        Some(bells) if bells.len() >= segment.ranks() => {
            segment.set_bells(bells);
            Ok(())
        }
        _ => Err(Error::new(
            ErrorClass::Join,
            format!(
                "the descriptors in {} are not open in this process; let wrappers (sudo, ssh, env -i) keep descriptors",
                identity::BELLS
            ),
        )),
    }
}

/// Where rank `rank` finds the others, and its sockets if some are not to be reached through memory. `secret` is asked for only then.
pub(crate) fn open(
    segment: &Segment,
    rank: usize,
    wishes: &Wishes,
    settings: &Settings,
    exchange: impl FnOnce() -> Result<(Exchange, Option<Secret>), Error>,
) -> Result<(Places, Option<Sockets>), Error> {
    let many = segment.directory().hosts() > 1;
    // A program on its own, without a launcher, stays alone; one rank of a launcher's may get company.
    let company = segment.directory().world() > 1 || !segment.bells().is_empty();
    let everywhere = wishes.everywhere && company;
    if !many && !everywhere {
        return Ok((Places::here(segment, rank), None));
    }
    let places = Places::of(segment, rank, everywhere);
    let unprepared = || {
        let (world, hosts) = (segment.directory().world(), segment.directory().hosts());
        let text = format!(
            "rank {rank} is one of {world} on {hosts} {}, which are to be connected by sockets, and its launcher prepared none; start the program by \
             `tercio run`, or give it one host and leave {} alone",
            if hosts == 1 { "host" } else { "hosts" },
            identity::TRANSPORT
        );
        Error::new(ErrorClass::Join, text)
    };
    if segment.bells().is_empty() {
        return Err(unprepared());
    }
    let (exchange, secret) = exchange()?;
    let secret = secret.ok_or_else(unprepared)?;
    let sockets = Sockets::open(
        segment,
        &places,
        &wishes.job,
        settings,
        &wishes.interface,
        (exchange, secret),
    )?;
    Ok((places, Some(sockets)))
}
