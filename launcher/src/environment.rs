//! What cargo and rustup add to the environment of a program that they start. It concerns them, not the ranks: a rank that
//! calls cargo itself would build with another's settings, and a library path into a build directory outlives its reason.
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What the ranks do not inherit, or inherit changed: `None` takes a variable away.
pub(crate) fn changes() -> Vec<(OsString, Option<OsString>)> {
    let exe = std::env::current_exe().unwrap_or_default();
    let build = exe.parent().map(Path::to_path_buf).unwrap_or_default();
    changes_of(std::env::vars_os().collect(), &build)
}

/// `build` is the directory that our own executable lies in.
fn changes_of(
    variables: Vec<(OsString, OsString)>,
    build: &Path,
) -> Vec<(OsString, Option<OsString>)> {
    // Only cargo sets CARGO; without it CARGO_HOME and the like are the user's own, and stay.
    if !variables.iter().any(|(name, _)| name == "CARGO") {
        return Vec::new();
    }
    let toolchains = variables
        .iter()
        .find(|(name, _)| name == "RUSTUP_HOME")
        .map(|(_, home)| Path::new(home).join("toolchains"));
    let of_cargo = |path: &PathBuf| {
        path.starts_with(build) || toolchains.as_ref().is_some_and(|lib| path.starts_with(lib))
    };
    let mut changes = Vec::new();
    for (name, value) in variables {
        if name == "LD_LIBRARY_PATH" {
            let kept: Vec<_> = std::env::split_paths(&value)
                .filter(|path| !of_cargo(path))
                .collect();
            let kept = std::env::join_paths(kept)
                .ok()
                .filter(|kept| !kept.is_empty());
            if kept.as_ref() != Some(&value) {
                changes.push((name, kept));
            }
        } else if is_cargos(&name) {
            changes.push((name, None));
        }
    }
    changes
}

fn is_cargos(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    name == "CARGO"
        || name == "RUST_RECURSION_COUNT"
        || name.starts_with("CARGO_")
        || name.starts_with("RUSTUP_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(variables: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let text = |text: OsString| text.into_string().expect("the test's text");
        changes_of(variables, Path::new("/p/target/release"))
            .into_iter()
            .map(|(n, v)| (text(n), v.map(text)))
            .collect()
    }

    #[test]
    fn what_cargo_run_adds_is_taken_away() {
        let found = changed(&[
            ("CARGO", "/bin/cargo"),
            ("CARGO_PKG_NAME", "x"),
            ("RUSTUP_HOME", "/r"),
            (
                "LD_LIBRARY_PATH",
                "/p/target/release/deps:/p/target/release:/r/toolchains/stable/lib:/usr/mine",
            ),
            ("HOME", "/root"),
        ]);
        let none = |name: &str| (name.to_owned(), None);
        let path = ("LD_LIBRARY_PATH".to_owned(), Some("/usr/mine".to_owned()));
        assert_eq!(
            found,
            [
                none("CARGO"),
                none("CARGO_PKG_NAME"),
                none("RUSTUP_HOME"),
                path
            ]
        );
    }

    #[test]
    fn a_library_path_of_cargo_alone_goes_away() {
        let found = changed(&[
            ("CARGO", "c"),
            ("LD_LIBRARY_PATH", "/p/target/release/deps"),
        ]);
        assert_eq!(found[1], ("LD_LIBRARY_PATH".to_owned(), None));
    }

    #[test]
    fn without_cargo_the_users_own_settings_stay() {
        assert_eq!(
            changed(&[
                ("CARGO_HOME", "/c"),
                ("RUSTUP_TOOLCHAIN", "t"),
                ("LD_LIBRARY_PATH", "/l")
            ]),
            []
        );
    }
}
