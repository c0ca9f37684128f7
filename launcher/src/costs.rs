//! What messages cost on this cluster: the file that `tercio tune` writes, and that jobs of several hosts are told.
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tercio::explain::Costs;

use crate::sentence::Sentence;

/// What names the file, if not the user's directory of settings.
const FILE: &str = "TERCIO_COSTS_FILE";

/// Where the file is: `TERCIO_COSTS_FILE`, else `tercio/costs` in the user's directory of settings. `None` for users who have none.
pub(crate) fn place(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let settings = || {
        let home = || Some(PathBuf::from(set("HOME")?).join(".config"));
        set("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home)
    };
    let named = set(FILE).map(PathBuf::from);
    named.or_else(|| Some(settings()?.join("tercio/costs")))
}

/// What a file says.
pub(crate) fn of(file: &Path) -> Result<Costs, Sentence> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Sentence::own(format!(
            "what messages cost is to be read from {}, which cannot be read: {error}; write it with `tercio tune`",
            file.display()
        ))
    })?;
    Costs::parse(&text, &file.display().to_string())
        .map_err(|error| Sentence::own(error.to_string()))
}

/// What the user's file says, the defaults where there is none; and which of the two it is.
pub(crate) fn read() -> Result<(Costs, String), Sentence> {
    let named = std::env::var_os(FILE).is_some_and(|value| !value.is_empty());
    match place(|name| std::env::var_os(name)) {
        Some(file) if named || file.exists() => Ok((of(&file)?, file.display().to_string())),
        _ => Ok((Costs::default(), "defaults".into())),
    }
}

/// What the ranks of a job of several hosts are told, all of them the same.
pub(crate) fn variable() -> Result<(OsString, OsString), Sentence> {
    Ok(("TERCIO_COSTS".into(), read()?.0.word().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_where_it_is_named_or_among_the_settings() {
        let at = |known: &'static [(&str, &str)]| {
            let find = move |name: &str| known.iter().find(|(n, _)| *n == name);
            place(move |name| find(name).map(|(_, value)| (*value).into()))
        };
        assert_eq!(at(&[]), None);
        assert_eq!(
            at(&[("HOME", "/h")]),
            Some("/h/.config/tercio/costs".into())
        );
        assert_eq!(
            at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")]),
            Some("/c/tercio/costs".into())
        );
        assert_eq!(at(&[("HOME", "/h"), (FILE, "/f")]), Some("/f".into()));
    }
}
