//! What a user may set of the engine's ways, by environment variables.
use super::ThreadLevel;
use crate::job::identity;
use crate::model::error::Result;
use crate::model::{Costs, Error, ErrorClass};
use crate::transport::shm::single_copy::SingleCopyMode;
use crate::wait::WaitMode;

/// A rendezvous costs a round trip: 6 µs on loopback, 20 over the fastest real networks, where a payload of more than 512 KiB takes 50 and more.
const FAR: u32 = 250;

/// Settings of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) level: ThreadLevel,
    pub(crate) wait: WaitMode,
    /// Whether a rank that waits chooses its core, where ranks share cores: threads that play ranks do not.
    pub(crate) spread: bool,
    pub(crate) single_copy: SingleCopyMode,
    /// Whether what goes between hosts is encrypted.
    pub(crate) encrypt: bool,
    /// Microseconds of a shortest round trip from which on a path is far: there payloads go ahead of their grant.
    pub(crate) far: u32,
    /// What messages cost inside of hosts and between them: the same for all ranks.
    pub(crate) costs: Costs,
}

impl Settings {
    /// The defaults at `level`.
    pub(crate) fn new(level: ThreadLevel) -> Settings {
        Settings {
            level,
            wait: WaitMode::Auto,
            spread: false,
            single_copy: SingleCopyMode::Auto,
            encrypt: false,
            far: FAR,
            costs: Costs::default(),
        }
    }

    /// The settings of a process, as `TERCIO_WAIT`, `TERCIO_SINGLE_COPY`, `TERCIO_FAR` and the launcher's `TERCIO_COSTS` ask for them. `lookup` gives a variable's value.
    pub(crate) fn from_variables(
        level: ThreadLevel,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings> {
        let mut settings = Settings::new(level);
        settings.spread = true;
        let read = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let refuse = |name: &str, value: &str, allowed: &str| {
            Error::new(
                ErrorClass::Arg,
                format!("{name} is {value:?}; it can be {allowed}"),
            )
        };
        if let Some(value) = read("TERCIO_WAIT") {
            settings.wait = WaitMode::parse(&value)
                .ok_or_else(|| refuse("TERCIO_WAIT", &value, "auto, spin or yield"))?;
        }
        if let Some(value) = read("TERCIO_SINGLE_COPY") {
            settings.single_copy = SingleCopyMode::parse(&value)
                .ok_or_else(|| refuse("TERCIO_SINGLE_COPY", &value, "auto, off or force"))?;
        }
        if let Some(value) = read("TERCIO_FAR") {
            let number = "a number of microseconds";
            settings.far = value
                .parse()
                .map_err(|_| refuse("TERCIO_FAR", &value, number))?;
        }
        if let Some(value) = read(identity::COSTS) {
            settings.costs = Costs::from_word(&value, identity::COSTS)?;
        }
        settings.encrypt = read(identity::ENCRYPT).is_some_and(|value| value != "0");
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_checked() {
        let with = |name: &'static str, value: &'static str| {
            Settings::from_variables(ThreadLevel::Single, move |n| {
                (n == name).then(|| value.to_string())
            })
        };
        assert_eq!(
            with("TERCIO_SINGLE_COPY", "force").unwrap().single_copy,
            SingleCopyMode::Force
        );
        assert_eq!(with("TERCIO_WAIT", "yield").unwrap().wait, WaitMode::Yield);
        assert_eq!(with("TERCIO_FAR", "0").unwrap().far, 0);
        let text = with("TERCIO_FAR", "10 ms").err().unwrap().to_string();
        assert_eq!(
            text,
            "TERCIO_FAR is \"10 ms\"; it can be a number of microseconds"
        );
        let text = with("TERCIO_WAIT", "never").err().unwrap().to_string();
        assert_eq!(
            text,
            "TERCIO_WAIT is \"never\"; it can be auto, spin or yield"
        );
    }
}
