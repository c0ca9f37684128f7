//! What a user may set of the engine's ways, by environment variables.
use super::ThreadLevel;
use crate::model::error::Result;
use crate::model::{Error, ErrorClass};
use crate::wait::WaitMode;

/// Whether long messages are read straight out of the sender's memory (`TERCIO_SINGLE_COPY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SingleCopyMode {
    /// Where a measurement on the pair says that it is faster.
    #[default]
    Auto,
    Off,
    /// Wherever it is allowed.
    Force,
}

/// Settings of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) level: ThreadLevel,
    pub(crate) wait: WaitMode,
    pub(crate) single_copy: SingleCopyMode,
}

impl Settings {
    /// The defaults at `level`.
    pub(crate) fn new(level: ThreadLevel) -> Settings {
        Settings {
            level,
            wait: WaitMode::Auto,
            single_copy: SingleCopyMode::Auto,
        }
    }

    /// The settings that `TERCIO_WAIT` and `TERCIO_SINGLE_COPY` ask for. `lookup` gives a variable's value.
    pub(crate) fn from_variables(
        level: ThreadLevel,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings> {
        let mut settings = Settings::new(level);
        let refuse = |name: &str, value: &str, allowed: &str| {
            Error::new(
                ErrorClass::Arg,
                format!("{name} is {value:?}; it can be {allowed}"),
            )
        };
        if let Some(value) = lookup("TERCIO_WAIT") {
            settings.wait = match value.as_str() {
                "auto" | "" => WaitMode::Auto,
                "spin" => WaitMode::Spin,
                "yield" => WaitMode::Yield,
                _ => return Err(refuse("TERCIO_WAIT", &value, "auto, spin or yield")),
            };
        }
        if let Some(value) = lookup("TERCIO_SINGLE_COPY") {
            settings.single_copy = match value.as_str() {
                "auto" | "" => SingleCopyMode::Auto,
                "off" => SingleCopyMode::Off,
                "force" => SingleCopyMode::Force,
                _ => return Err(refuse("TERCIO_SINGLE_COPY", &value, "auto, off or force")),
            };
        }
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
        let text = with("TERCIO_WAIT", "never").err().unwrap().to_string();
        assert_eq!(
            text,
            "TERCIO_WAIT is \"never\"; it can be auto, spin or yield"
        );
    }
}
