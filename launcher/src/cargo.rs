//! Programs that cargo builds before the ranks start.
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::options::Build;
use crate::sentence::Sentence;

/// An example or a binary, and how to build it.
#[derive(Debug)]
pub(crate) struct Target {
    kind: Kind,
    package: Option<String>,
    profile: String,
    features: Vec<String>,
}

#[derive(Debug)]
enum Kind {
    Example(String),
    Bin(String),
    /// The only binary of the package.
    Package,
}

/// The profile that this launcher itself was built in: `cargo run --release -- run --example x` runs release code.
const OWN_PROFILE: &str = if cfg!(debug_assertions) {
    "dev"
} else {
    "release"
};

impl Target {
    /// What the options ask to be built, if anything.
    pub(crate) fn from_options(build: Build) -> Result<Option<Target>, Sentence> {
        let kind = match (build.example, build.bin) {
            (Some(example), _) => Kind::Example(example),
            (None, Some(bin)) => Kind::Bin(bin),
            (None, None) if build.package.is_some() => Kind::Package,
            (None, None)
                if build.release || build.profile.is_some() || !build.features.is_empty() =>
            {
                let what = "--release, --profile and --features say how to build, but not what";
                return Err(Sentence::usage(format!(
                    "{what}; add --example, --bin or --package"
                )));
            }
            (None, None) => return Ok(None),
        };
        let profile = match build.profile {
            Some(profile) => profile,
            None if build.release => "release".into(),
            None => OWN_PROFILE.into(),
        };
        Ok(Some(Target {
            kind,
            package: build.package,
            profile,
            features: build.features,
        }))
    }

    /// cargo's arguments.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut words = vec!["build".to_owned()];
        match self.profile.as_str() {
            "dev" => {}
            "release" => words.push("--release".into()),
            profile => words.extend(["--profile".into(), profile.into()]),
        }
        if let Some(package) = &self.package {
            words.extend(["--package".into(), package.clone()]);
        }
        match &self.kind {
            Kind::Example(name) => words.extend(["--example".into(), name.clone()]),
            Kind::Bin(name) => words.extend(["--bin".into(), name.clone()]),
            Kind::Package => words.push("--bins".into()),
        }
        for features in &self.features {
            words.extend(["--features".into(), features.clone()]);
        }
        words
    }

    /// Builds it; the path of the executable. What the compiler says goes to standard error as cargo writes it.
    pub(crate) fn build(&self) -> Result<PathBuf, Sentence> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(&cargo);
        command
            .args(self.arguments())
            .arg("--message-format=json-render-diagnostics")
            .stdin(Stdio::null());
        let output = command.stderr(Stdio::inherit()).output().map_err(|error| {
            Sentence::own(format!(
                "cannot start {} to build {self}: {error}; is cargo in PATH?",
                cargo.to_string_lossy()
            ))
        })?;
        if !output.status.success() {
            return Err(Sentence::own(format!(
                "cargo did not build {self}: see its message above; nothing was started"
            )));
        }
        self.choose(executables(&output.stdout))
    }

    fn choose(&self, mut found: Vec<(String, PathBuf)>) -> Result<PathBuf, Sentence> {
        if let Kind::Example(name) | Kind::Bin(name) = &self.kind {
            found.retain(|(target, _)| target == name);
        }
        match found.len() {
            1 => Ok(found.remove(0).1),
            0 if matches!(self.kind, Kind::Package) => Err(Sentence::own(format!(
                "{self} has no binary; name one of its examples by --example"
            ))),
            0 => Err(Sentence::own(format!(
                "cargo built {self}, but named no executable; nothing was started"
            ))),
            _ => {
                let names: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
                Err(Sentence::own(format!(
                    "{self} has several binaries; choose one by --bin: {}",
                    names.join(", ")
                )))
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Example(name) => write!(f, "example {name}"),
            Kind::Bin(name) => write!(f, "binary {name}"),
            Kind::Package => write!(f, "package {}", self.package.as_deref().unwrap_or_default()),
        }
    }
}

/// Name and path of each executable among cargo's messages (one JSON object a line).
fn executables(messages: &[u8]) -> Vec<(String, PathBuf)> {
    let messages = messages
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let artifacts = messages.filter(|message| message["reason"] == "compiler-artifact");
    artifacts
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, message["executable"].as_str()?.into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_among_all_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"libc","kind":["lib"]},"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"ring","kind":["example"]},"executable":"/t/ring"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(
            executables(messages.as_bytes()),
            [("ring".to_owned(), PathBuf::from("/t/ring"))]
        );
    }

    #[test]
    fn a_package_with_several_binaries_asks_which() {
        let target = Target {
            kind: Kind::Package,
            package: Some("p".into()),
            profile: "dev".into(),
            features: vec![],
        };
        let found = vec![
            ("a".to_owned(), PathBuf::from("/a")),
            ("b".to_owned(), PathBuf::from("/b")),
        ];
        let sentence = target.choose(found).expect_err("two binaries");
        assert_eq!(
            sentence.text,
            "package p has several binaries; choose one by --bin: a, b"
        );
    }
}
