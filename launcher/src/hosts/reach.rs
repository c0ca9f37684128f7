//! How the agent of another host is started: by ssh, by what the user names in its place, or by the resource manager whose job it is.
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tercio::launch::Reach;

use super::Entry;
use crate::sentence::Sentence;

/// What starts agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Starter {
    /// A command that takes a host and a command line, as a shell would split it: ssh, or what was named in its place.
    Shell(String),
    /// Slurm's, within a job: one step of one task for each host.
    Srun,
    /// LSF's, within a job.
    Blaunch,
    /// SGE's, within a job.
    Qrsh,
}

impl Starter {
    /// The command's name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Starter::Shell(agent) => agent,
            Starter::Srun => "srun",
            Starter::Blaunch => "blaunch",
            Starter::Qrsh => "qrsh",
        }
    }

    /// Variables by which the user's settings for their own use of the command would spoil ours.
    pub(crate) fn disturbing(&self) -> &'static [&'static str] {
        match self {
            // Labels in front of lines, and a terminal in the place of the pipe.
            Starter::Srun => &["SLURM_LABELIO", "SRUN_LABELIO", "SLURM_UNBUFFEREDIO"],
            _ => &[],
        }
    }
}

/// What all hosts have in common.
pub(crate) struct Way<'a> {
    starter: &'a Starter,
    /// This program, which hosts with the same files have too.
    own: PathBuf,
    /// The name under which hosts keep this program if they are to ask for it.
    push: Option<String>,
    start_limit: Duration,
}

/// How long ssh may take until it has a connection.
const CONNECT: u64 = 10;

impl<'a> Way<'a> {
    /// By `starter`, with this program brought along if `push` says so.
    pub(crate) fn new(
        starter: &'a Starter,
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
            starter,
            own,
            push,
            start_limit,
        })
    }

    pub(crate) fn to(&self, entry: &Entry) -> Reach {
        if entry.is_here() {
            return Reach::Here;
        }
        let words = match self.starter {
            Starter::Shell(agent) => self.by_shell(agent, entry),
            Starter::Srun => {
                let node = format!("--nodelist={}", entry.name);
                // Beside what else runs in the job, with all its memory and processors, and nothing of PMI in it. Options win over variables.
                let options = [
                    "srun",
                    "--quiet",
                    "--overlap",
                    "--mem=0",
                    "--nodes=1",
                    "--ntasks=1",
                    &node,
                    "--cpu-bind=none",
                    "--mpi=none",
                    "--input=all",
                    "--output=all",
                    "--error=all",
                    "--kill-on-bad-exit=0",
                    "sh",
                    "-c",
                ];
                let mut words: Vec<OsString> = options.map(OsString::from).into();
                words.push(self.script().into());
                words
            }
            Starter::Blaunch => self.in_words(&["blaunch"], entry),
            // -V: the environment goes along, as with the others.
            Starter::Qrsh => self.in_words(&["qrsh", "-inherit", "-V"], entry),
        };
        Reach::Command {
            words,
            push: self.push.is_some(),
        }
    }

    fn by_shell(&self, agent: &str, entry: &Entry) -> Vec<OsString> {
        let mut words: Vec<OsString> = agent.split_whitespace().map(Into::into).collect();
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
        words.push(self.line().into());
        words
    }

    /// By a command of which some versions have a shell read the words again: in words that mean the same to both.
    fn in_words(&self, command: &[&str], entry: &Entry) -> Vec<OsString> {
        let mut words: Vec<OsString> = command.iter().map(Into::into).collect();
        words.push(entry.name.clone().into());
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+=,:@%".contains(byte);
        if self.push.is_none() && self.own.as_os_str().as_bytes().iter().all(plain) {
            words.extend(["env", "TERCIO_ROLE=agent"].map(OsString::from));
            words.push(self.own.clone().into());
        } else {
            words.push(self.line().into());
        }
        words
    }

    /// The line that the host's login shell gets, whatever shell that is.
    fn line(&self) -> String {
        format!("sh -c '{}'", self.script().replace('\'', r"'\''"))
    }

    /// What the host's sh does: it becomes the agent.
    fn script(&self) -> String {
        match &self.push {
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
        }
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
        by(&Starter::Shell(agent.into()), host, own, push)
    }

    fn by(starter: &Starter, host: &str, own: &str, push: Option<String>) -> Vec<String> {
        let entry = &list("-H", host).expect("a host")[0];
        let way = Way {
            starter,
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

    #[test]
    fn resource_managers_have_commands_of_their_own() {
        let all = by(&Starter::Srun, "node07", "/opt/tercio", None);
        assert_eq!(all[0], "srun");
        for option in ["--overlap", "--nodelist=node07", "--nodes=1", "--ntasks=1"] {
            assert!(all.iter().any(|word| word == option), "{all:?}");
        }
        assert!(
            all[all.len() - 3..]
                .join(" ")
                .starts_with("sh -c p=\"/opt/tercio\"")
        );
        let all = by(&Starter::Blaunch, "node07", "/opt/tercio", None);
        assert_eq!(
            all.join(" "),
            "blaunch node07 env TERCIO_ROLE=agent /opt/tercio"
        );
        let all = by(&Starter::Qrsh, "node07", "/opt/tercio", None);
        assert_eq!(
            all.join(" "),
            "qrsh -inherit -V node07 env TERCIO_ROLE=agent /opt/tercio"
        );
        // What a shell would take apart is quoted for one.
        let all = by(&Starter::Qrsh, "node07", "/my files/tercio", None);
        assert!(
            all[4].starts_with("sh -c 'p=\"/my files/tercio\""),
            "{all:?}"
        );
        let all = by(
            &Starter::Blaunch,
            "node07",
            "/opt/tercio",
            Some("tercio-x".into()),
        );
        assert!(all[2].contains("TERCIO-WANTS"), "{all:?}");
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
