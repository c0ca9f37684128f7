//! Why a host cannot be used, in a sentence: what was asked, what is so, what to do.
use crate::launch::wire::{BYTE_ORDER, Hello, WIRE};
use crate::sys::process::Exit;
use std::time::Duration;

/// How the start of an agent on another host ended without one.
pub(super) enum Failed<'a> {
    /// The command could not be started here.
    Command(&'a std::io::Error),
    /// The command ended.
    Ended(Option<Exit>),
    /// There was no agent within the start limit.
    Late(Duration),
    /// The agent is another's.
    Strange(&'a Hello),
    /// What came was no agent's.
    Noise,
}

/// The version of this program.
pub(super) fn own_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Whether an agent can be one of ours.
pub(super) fn fits(hello: &Hello) -> bool {
    hello.order == BYTE_ORDER.to_ne_bytes() && hello.wire == WIRE && hello.version == own_version()
}

/// The sentence. `words` is the command, `said` what it wrote to its standard error, `noise` what came in an agent's place.
pub(super) fn sentence(
    host: &str,
    words: &[String],
    failed: &Failed<'_>,
    said: &str,
    noise: &str,
) -> String {
    let command = words.first().map_or("", String::as_str);
    let program = command.rsplit('/').next().unwrap_or_default();
    let try_it = match within_a_job(program) {
        true => "it must work within this job",
        false => "it must work without a password or a question",
    };
    let check = format!("check \"{}\"", by_hand(program, host));
    // Some say on standard output why they let nobody in.
    let said = if said.trim().is_empty() { noise } else { said };
    let last = last_words(said);
    let quoted = match last.is_empty() {
        true => String::new(),
        false => format!(" ({last})"),
    };
    match failed {
        Failed::Command(error) => format!(
            "host \"{host}\": {command} cannot be started: {error}; install it, or name another by --rsh-agent"
        ),
        Failed::Late(limit) => format!(
            "host \"{host}\" had no agent within {} s{quoted}; {check}: {try_it}; --start-timeout gives it longer",
            limit.as_secs_f64()
        ),
        Failed::Strange(hello) if hello.order != BYTE_ORDER.to_ne_bytes() => format!(
            "host \"{host}\" has its bytes in another order than this one; a job's hosts must be of one kind"
        ),
        Failed::Strange(hello) => format!(
            "host \"{host}\" has tercio {} and this one has {}; install the same there, or let --push bring it along",
            match hello.version == own_version() {
                true => "of another build".to_owned(),
                false => hello.version.clone(),
            },
            own_version()
        ),
        Failed::Noise => format!(
            "host \"{host}\" answered with something that is no agent's: \"{}\"; check what its login scripts print, and \"{}\"",
            last_words(noise),
            by_hand(program, host)
        ),
        Failed::Ended(exit) => ended(host, program, *exit, said, &quoted),
    }
}

fn ended(host: &str, program: &str, exit: Option<Exit>, said: &str, quoted: &str) -> String {
    let how = match exit {
        Some(Exit::Code(code)) => format!("exit {code}"),
        Some(Exit::Signal(signal)) => format!("killed by signal {signal}"),
        None => "ended".into(),
    };
    let has = |text: &str| said.to_ascii_lowercase().contains(text);
    let check = format!("check \"{}\"", by_hand(program, host));
    if exit == Some(Exit::Code(127)) || has("no tercio at") || has("command not found") {
        return format!(
            "host \"{host}\" has no tercio where this one has it, nor in its PATH{quoted}; install it there, or let --push bring it along"
        );
    }
    if exit == Some(Exit::Code(126)) {
        return format!(
            "host \"{host}\" cannot execute its tercio{quoted}; is it built for another machine?"
        );
    }
    if has("could not resolve") || has("name or service not known") {
        return format!("host \"{host}\" is unknown{quoted}; check its name");
    }
    if has("host key verification failed") || has("host key is known") {
        return format!(
            "host \"{host}\": {program} does not know the host's key{quoted}; run \"{program} {host}\" once by hand and compare the key, or add it to known_hosts"
        );
    }
    if has("permission denied") || has("too many authentication") {
        return format!(
            "host \"{host}\" refused {program} ({how}{}); {check}: it must work without a password (ssh-copy-id {host})",
            prefixed(quoted)
        );
    }
    if has("connection refused") {
        return format!(
            "host \"{host}\" has no ssh server that answers{quoted}; start one there, or check the port"
        );
    }
    if has("timed out") || has("no route") || has("unreachable") {
        return format!(
            "host \"{host}\" cannot be reached{quoted}; check that it is up, its address, and that no firewall is between"
        );
    }
    let must = match within_a_job(program) {
        true => "it must work within this job; --rsh-agent ssh goes another way",
        false => "it must work without a password or a question",
    };
    format!(
        "host \"{host}\": {program} ended before there was an agent ({how}{}); {check}: {must}",
        prefixed(quoted)
    )
}

/// Whether a command starts programs on the hosts of a resource manager's job only.
fn within_a_job(program: &str) -> bool {
    matches!(program, "srun" | "blaunch" | "qrsh")
}

/// What to type to see whether a command leads to a host.
fn by_hand(program: &str, host: &str) -> String {
    match program {
        "srun" => format!("srun --overlap --nodes=1 --ntasks=1 --nodelist={host} true"),
        "qrsh" => format!("qrsh -inherit {host} true"),
        _ => format!("{program} {host} true"),
    }
}

/// " (text)" as ": text".
fn prefixed(quoted: &str) -> String {
    match quoted.strip_prefix(" (").and_then(|q| q.strip_suffix(')')) {
        Some(text) => format!(": {text}"),
        None => String::new(),
    }
}

/// The last line that says something, without what would steer a terminal.
pub(super) fn last_words(text: &str) -> String {
    let line = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let clean: String = line.chars().filter(|c| !c.is_control()).collect();
    match clean.chars().count() {
        0..=160 => clean,
        _ => clean.chars().take(159).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(exit: i32, text: &str) -> String {
        let words = ["/usr/bin/ssh".to_owned()];
        let failed = Failed::Ended(Some(Exit::Code(exit)));
        sentence("node07", &words, &failed, text, "")
    }

    #[test]
    fn what_ssh_says_becomes_what_to_do() {
        for (exit, text, expected) in [
            (
                255,
                "Warning: x\r\nal@node07: Permission denied (publickey,password).\r\n",
                "host \"node07\" refused ssh (exit 255: al@node07: Permission denied (publickey,password).); check \"ssh node07 true\": it must work \
                 without a password (ssh-copy-id node07)",
            ),
            (
                255,
                "ssh: Could not resolve hostname node07: Name or service not known",
                "host \"node07\" is unknown (ssh: Could not resolve hostname node07: Name or service not known); check its name",
            ),
            (
                255,
                "ssh: connect to host node07 port 22: Connection refused",
                "host \"node07\" has no ssh server that answers (ssh: connect to host node07 port 22: Connection refused); start one there, or \
                 check the port",
            ),
            (
                255,
                "ssh: connect to host node07 port 22: Connection timed out",
                "host \"node07\" cannot be reached (ssh: connect to host node07 port 22: Connection timed out); check that it is up, its \
                 address, and that no firewall is between",
            ),
            (
                255,
                "Host key verification failed.",
                "host \"node07\": ssh does not know the host's key (Host key verification failed.); run \"ssh node07\" once by hand and compare \
                 the key, or add it to known_hosts",
            ),
            (
                127,
                "tercio: no tercio at /opt/tercio",
                "host \"node07\" has no tercio where this one has it, nor in its PATH (tercio: no tercio at /opt/tercio); install it there, or \
                 let --push bring it along",
            ),
            (
                3,
                "",
                "host \"node07\": ssh ended before there was an agent (exit 3); check \"ssh node07 true\": it must work without a password or a \
                 question",
            ),
        ] {
            assert_eq!(said(exit, text), expected);
        }
    }

    #[test]
    fn what_leads_to_the_hosts_of_a_job_is_checked_as_it_is_used() {
        let words = ["srun".to_owned()];
        let failed = Failed::Ended(Some(Exit::Code(1)));
        let said = "srun: error: Unable to create step for job 7: Requested node configuration is not available";
        assert_eq!(
            sentence("node07", &words, &failed, said, ""),
            format!(
                "host \"node07\": srun ended before there was an agent (exit 1: {said}); check \"srun --overlap --nodes=1 --ntasks=1 \
                 --nodelist=node07 true\": it must work within this job; --rsh-agent ssh goes another way"
            )
        );
    }

    #[test]
    fn other_versions_and_kinds_are_told() {
        let mut hello = Hello {
            order: BYTE_ORDER.to_ne_bytes(),
            wire: WIRE,
            version: own_version().into(),
            pid: 1,
        };
        assert!(fits(&hello));
        hello.version = "0.0.1".into();
        assert!(!fits(&hello));
        let words = ["ssh".to_owned()];
        let text = |hello: &Hello| sentence("b", &words, &Failed::Strange(hello), "", "");
        assert!(text(&hello).contains("has tercio 0.0.1 and this one has"));
        hello.order.reverse();
        assert!(text(&hello).contains("another order"));
        let late = Failed::Late(Duration::from_secs(30));
        let text = sentence("b", &words, &late, "\x1b[1mpassword:", "");
        assert_eq!(
            text,
            "host \"b\" had no agent within 30 s ([1mpassword:); check \"ssh b true\": it must work without a password or a question; \
             --start-timeout gives it longer"
        );
    }
}
