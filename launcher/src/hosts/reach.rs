//! How the agent of another host is started: by ssh, or by what the user names in its place.
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tercio::launch::Reach;

use super::Entry;
use crate::sentence::Sentence;

/// What all hosts have in common.
pub(crate) struct Way<'a> {
    /// The command that takes a host and a command line, as a shell would split it.
    agent: &'a str,
    /// This program, which hosts with the same files have too.
    own: PathBuf,
    /// The name under which hosts keep this program if they are to ask for it.
    push: Option<String>,
    start_limit: Duration,
}

/// How long ssh may take until it has a connection.
const CONNECT: u64 = 10;

impl<'a> Way<'a> {
    /// By the command `agent`, with this program brought along if `push` says so.
    pub(crate) fn new(
        agent: &'a str,
        push: bool,
        start_limit: Duration,
    ) -> Result<Way<'a>, Sentence> {
        let own = std::env::current_exe()
            .map_err(|error| Sentence::own(format!("cannot find this program: {error}")))?;
        let name = || {
            let bytes = std::fs::read(&own).map_err(|error| {
                Sentence::own(format!("--push: cannot read {}: {error}", own.display()))
            })?;
            Ok(name_of(&bytes))
        };
        let push = push.then(name).transpose()?;
        Ok(Way {
            agent,
            own,
            push,
            start_limit,
        })
    }

    pub(crate) fn to(&self, entry: &Entry) -> Reach {
        if entry.is_here() {
            return Reach::Here;
        }
        let mut words: Vec<OsString> = self.agent.split_whitespace().map(Into::into).collect();
        let program = words.first().map(Path::new).and_then(Path::file_name);
        if program.is_some_and(|name| name == "ssh") {
            let limit = self.start_limit.as_secs().clamp(1, CONNECT);
            // After the user's own words: of an option that is given twice ssh takes the first.
            words.extend(["-T", "-x", "-a"].map(OsString::from));
            // A connection that outlives this one is not for us to leave behind; one that is there already may carry us.
            for option in [
                "BatchMode=yes",
                "ClearAllForwardings=yes",
                "ControlMaster=no",
            ] {
                words.extend(["-o", option].map(OsString::from));
            }
            words.extend(["-o".into(), format!("ConnectTimeout={limit}").into()]);
        }
        words.push(entry.target().into());
        words.push(self.command().into());
        Reach::Command {
            words,
            push: self.push.is_some(),
        }
    }

    /// The line that the host's login shell gets, whatever shell that is.
    fn command(&self) -> String {
        let script = match &self.push {
            None => format!(
                "p={}; t=$p; [ -x \"$t\" ] || t=$(command -v tercio) || {{ echo \"tercio: no tercio at $p\" >&2; exit 127; }}; \
                 TERCIO_ROLE=agent exec \"$t\"",
                in_double_quotes(&self.own)
            ),
            Some(name) => format!(
                "d=\"${{XDG_CACHE_HOME:-$HOME/.cache}}/tercio\"; t=\"$d/{name}\"; [ -x \"$t\" ] || {{ umask 077; mkdir -p \"$d\" && \
                 echo TERCIO-WANTS && read n && head -c \"$n\" > \"$t.$$\" && chmod 700 \"$t.$$\" && mv \"$t.$$\" \"$t\"; }} || \
                 {{ echo \"tercio: cannot be put into $d\" >&2; exit 126; }}; TERCIO_ROLE=agent exec \"$t\""
            ),
        };
        format!("sh -c '{}'", script.replace('\'', r"'\''"))
    }
}

fn in_double_quotes(path: &Path) -> String {
    let text = String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if "\"\\$`".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted + "\""
}

/// A name for a program's very bytes: a host that has a file of that name has this program.
fn name_of(program: &[u8]) -> String {
    // FNV-1a: two builds by the same person are to differ, nobody is to be kept out by it.
    let hash = program
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    format!("tercio-{}-{hash:016x}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::list;
    use super::*;

    fn words(agent: &str, host: &str, own: &str, push: Option<String>) -> Vec<String> {
        let entry = &list("-H", host).expect("a host")[0];
        let way = Way {
            agent,
            own: own.into(),
            push,
            start_limit: Duration::from_secs(5),
        };
        match way.to(entry) {
            Reach::Command { words, .. } => words
                .into_iter()
                .map(|word| word.into_string().expect("text"))
                .collect(),
            Reach::Here => Vec::new(),
        }
    }

    #[test]
    fn ssh_asks_nothing_and_other_commands_get_no_options() {
        let all = words("ssh -p 2222", "al@b", "/opt/tercio", None);
        let expected = "ssh -p 2222 -T -x -a -o BatchMode=yes -o ClearAllForwardings=yes -o ControlMaster=no -o ConnectTimeout=5 al@b";
        assert_eq!(all[..all.len() - 1].join(" "), expected);
        let all = words("/usr/bin/rsh", "b", "/opt/tercio", None);
        assert_eq!(all[..2], ["/usr/bin/rsh", "b"]);
        assert!(words("ssh", "localhost", "/opt/tercio", None).is_empty());
    }

    /// What a remote shell would do with the line, done by the shell here.
    fn shell(line: &str, home: &Path, path: &str) -> (Option<i32>, String) {
        let done = Command::new("/bin/sh")
            .args(["-c", line])
            .env("HOME", home)
            .env_remove("XDG_CACHE_HOME")
            .env("PATH", path)
            .output()
            .expect("a shell");
        let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        (done.status.code(), text.into_owned())
    }

    #[test]
    fn the_program_is_found_where_it_is_here_or_by_its_name() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp");
        let home = home.join(format!("reach-{}", std::process::id()));
        let odd = home.join("it's $HOME \"here\"");
        std::fs::create_dir_all(&odd).expect("a directory");
        let program = odd.join("tercio");
        std::fs::write(&program, "#!/bin/sh\necho role $TERCIO_ROLE\n").expect("a program");
        std::fs::set_permissions(
            &program,
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .expect("executable");
        let line = |own: &Path| {
            words("rsh", "b", own.to_str().expect("text"), None)
                .pop()
                .expect("a line")
        };
        let agent = (Some(0), "role agent\n".to_owned());
        assert_eq!(shell(&line(&program), &home, "/usr/bin:/bin"), agent);
        let elsewhere = format!("{}:/usr/bin:/bin", odd.display());
        assert_eq!(
            shell(&line(Path::new("/no/tercio")), &home, &elsewhere),
            agent
        );
        let (code, text) = shell(&line(Path::new("/no/tercio")), &home, "/usr/bin:/bin");
        assert!(
            code == Some(127) && text.contains("no tercio at /no/tercio\n"),
            "{text}"
        );

        // The host asks for the program once.
        let push = words("rsh", "b", "/no/tercio", Some("tercio-x".into()))
            .pop()
            .expect("a line");
        let bytes = std::fs::read(&program).expect("its bytes");
        let feed = format!(
            "{{ echo {}; cat '{}'; }} | {push}",
            bytes.len(),
            program.display().to_string().replace('\'', r"'\''")
        );
        let (code, text) = shell(&feed, &home, "/usr/bin:/bin");
        assert_eq!(
            (code, text.as_str()),
            (Some(0), "TERCIO-WANTS\nrole agent\n")
        );
        assert_eq!(
            shell(&format!("{push} </dev/null"), &home, "/usr/bin:/bin"),
            agent
        );
        let _ = std::fs::remove_dir_all(&home);
    }

    #[test]
    fn other_bytes_have_another_name() {
        assert_ne!(name_of(b"one"), name_of(b"two"));
    }
}
