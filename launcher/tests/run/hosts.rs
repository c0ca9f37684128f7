//! Jobs on several hosts, without any other host: what stands in ssh's place is a script that runs the command line here. All that differs from
//! ssh is the way; scripts/hosts has real networks and a real ssh.
use super::*;
use std::os::unix::fs::PermissionsExt;

/// Runs the command line as a login on another host would: with little in its environment.
const LOGIN: &str = r#"exec env -i HOME="$HOME" PATH=/usr/bin:/bin AT=$host sh -c "$*""#;

/// A directory with the script that takes ssh's place.
struct Net {
    scratch: Scratch,
}

impl Net {
    /// `script` finds the host in `$host` and the command line in `$*`.
    fn new(test: &str, script: &str) -> Net {
        let scratch = Scratch::new(&format!("hosts-{test}"));
        let net = Net { scratch };
        let text = format!("#!/bin/sh\nhost=$1; shift\n{script}\n");
        std::fs::write(net.rsh(), text).expect("a script");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(net.rsh(), mode).expect("an executable script");
        net
    }

    fn rsh(&self) -> String {
        self.scratch.path("rsh")
    }

    fn tercio(&self, words: &[&str]) -> Command {
        let mut command = tercio(&[&["--rsh-agent", &self.rsh()], words].concat());
        command.env("HOME", &self.scratch.0);
        command
    }

    fn run(&self, words: &[&str]) -> Ended {
        ended(&mut self.tercio(words))
    }
}

#[test]
fn ranks_run_on_the_hosts_of_the_file() {
    let net = Net::new("file", LOGIN);
    let file = net.scratch.path("hosts");
    std::fs::write(&file, "one slots=2\ntwo:1 # small\nlocalhost:1\n").expect("a hostfile");
    let script = "echo $TERCIO_RANK/$TERCIO_SIZE ${AT:-here}";
    let words = |more: &[&'static str]| {
        let all = [&["--hostfile", file.as_str(), "-n", "4"], more].concat();
        net.run(&[&all[..], &["sh", "-c", script]].concat())
    };
    let slots = words(&[]);
    assert_eq!(slots.err, "");
    assert_eq!(
        slots.sorted(),
        ["0/4 one", "1/4 one", "2/4 two", "3/4 here"]
    );
    let nodes = words(&["--map-by", "node"]);
    assert_eq!(
        nodes.sorted(),
        ["0/4 one", "1/4 two", "2/4 here", "3/4 one"]
    );
}

/// LSF and SGE have commands of their own for the other hosts of a job; what stands in their place notes its words and runs the command here.
#[test]
fn hosts_of_a_resource_managers_job_are_reached_by_its_own_command() {
    let note = |words: &str| format!("echo \"{words}\" >> \"$(dirname \"$0\")/words\"");
    for (name, takes, hosts) in [
        (
            "blaunch",
            "shift",
            [("LSB_JOBID", "5"), ("LSB_MCPU_HOSTS", "one 2 two 1")],
        ),
        (
            "qrsh",
            "shift 3",
            [("JOB_ID", "12"), ("PE_HOSTFILE", "FILE")],
        ),
    ] {
        let net = Net::new(name, LOGIN);
        let stub = net.scratch.path(name);
        let (all, host) = (note("$*"), if name == "qrsh" { "$3" } else { "$1" });
        let text = format!("#!/bin/sh\n{all}\nAT={host}\nexport AT\n{takes}\nexec \"$@\"\n");
        std::fs::write(&stub, text).expect("a stub");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&stub, mode).expect("an executable stub");
        let file = net.scratch.path("hosts");
        std::fs::write(
            &file,
            "one 2 all.q@one UNDEFINED\ntwo 1 all.q@two UNDEFINED\n",
        )
        .expect("a hostfile");
        let job = |words: &[&str]| {
            let mut command = tercio(&[words, &["sh", "-c", "echo $TERCIO_RANK $AT"]].concat());
            let path = format!("{}:/usr/bin:/bin", net.scratch.0.display());
            command.env("PATH", path).env("HOME", &net.scratch.0);
            for (variable, value) in hosts {
                command.env(variable, value.replace("FILE", &file));
            }
            ended(&mut command)
        };
        let by_manager = job(&["-n", "3"]);
        assert_eq!(by_manager.err, "", "{name}");
        assert_eq!(by_manager.sorted(), ["0 one", "1 one", "2 two"], "{name}");
        let words =
            std::fs::read_to_string(net.scratch.path("words")).expect("what the stub noted");
        let mut words: Vec<&str> = words.lines().collect();
        words.sort_unstable();
        let agent = format!("env TERCIO_ROLE=agent {}", env!("CARGO_BIN_EXE_tercio"));
        let before = if name == "qrsh" {
            "qrsh -inherit -V"
        } else {
            "blaunch"
        };
        let before = before.strip_prefix(name).unwrap_or_default();
        let expected =
            ["one", "two"].map(|host| format!("{before} {host} {agent}").trim().to_owned());
        assert_eq!(words, expected, "{name}");
        // What is named on the command line wins.
        let by_shell = job(&["-n", "3", "--rsh-agent", &net.rsh()]);
        assert_eq!(
            by_shell.sorted(),
            ["0 one", "1 one", "2 two"],
            "{name}: {}",
            by_shell.err
        );
        let again =
            std::fs::read_to_string(net.scratch.path("words")).expect("what the stub noted");
        assert_eq!(again.lines().count(), 2, "{name}");
    }
}

#[test]
fn codes_signals_and_limits_are_those_of_one_host_and_the_verdict_names_it() {
    let net = Net::new("codes", LOGIN);
    let sh = |script: &str| net.run(&["-H", "localhost:1,one:2,two:1", "sh", "-c", script]);
    let exit = sh("[ $TERCIO_RANK = 2 ] && exit 3; sleep 60");
    assert_eq!(exit.code(), 3, "{}", exit.err);
    assert!(
        exit.err
            .starts_with("tercio: rank 2 of 4 exited with code 3\n"),
        "{}",
        exit.err
    );
    assert!(exit.err.contains(" on one, "), "{}", exit.err);
    assert!(exit.err.contains("ranks 0, 1 and 3"), "{}", exit.err);
    let signal = sh("[ $TERCIO_RANK = 3 ] && kill -SEGV $$; sleep 60");
    assert_eq!(signal.code(), 139, "{}", signal.err);
    assert!(
        signal.err.contains("SIGSEGV") && signal.err.contains(" on two, "),
        "{}",
        signal.err
    );
    let late = net.run(&["-H", "one:1,two:1", "--timeout", "0.5", "sleep", "60"]);
    assert_eq!(late.code(), 124, "{}", late.err);
    assert!(late.err.contains("0.5 s is over"), "{}", late.err);
}

#[test]
fn surroundings_go_along() {
    let net = Net::new("surroundings", LOGIN);
    let place = net.scratch.path("it's a place");
    std::fs::create_dir_all(format!("{place}/sub")).expect("a directory");
    let path = format!("{place}:/usr/bin:/bin");
    let print = "echo $PWD; env | grep -E '^(PATH|LD_|RUST_|TERCIO_SEEN|NAMED|OTHER)' | sort";
    let mut command = net.tercio(&["-H", "one:1", "-x", "NAMED=5", "sh", "-c", print]);
    command
        .current_dir(&place)
        .env("PATH", &path)
        .env_remove("RUST_BACKTRACE")
        .env("OTHER", "stays")
        .env("LD_LIBRARY_PATH", "/lib/mine")
        .env("RUST_LOG", "info")
        .env("TERCIO_SEEN", "1");
    let all = ended(&mut command);
    let expected = format!(
        "{place}\nLD_LIBRARY_PATH=/lib/mine\nNAMED=5\nPATH={path}\nRUST_LOG=info\nTERCIO_SEEN=1\n"
    );
    assert_eq!((all.out, all.err.as_str()), (expected, ""));
    let sub = ended(
        net.tercio(&["-H", "one:1", "--wdir", "sub", "pwd"])
            .current_dir(&place),
    );
    assert_eq!(sub.out, format!("{place}/sub\n"));
}

#[test]
fn a_directory_that_the_host_does_not_have_is_a_sentence() {
    let net = Net::new("gone", &format!("rmdir \"$GONE\"; {LOGIN}"));
    let gone = net.scratch.path("gone");
    std::fs::create_dir(&gone).expect("a directory");
    let ended = ended(
        net.tercio(&["-H", "one:1", "true"])
            .env("GONE", &gone)
            .current_dir(&gone),
    );
    assert_eq!(ended.code(), 125, "{}", ended.err);
    let said = format!("host \"one\": true was to start in {gone}, which is no directory");
    assert!(ended.err.contains(&said), "{}", ended.err);
}

#[test]
fn programs_that_hosts_do_not_have_are_told() {
    let net = Net::new("missing", LOGIN);
    let missing = net.run(&["-H", "one:1,two:1", "./no-such-program"]);
    assert_eq!(missing.code(), 127, "{}", missing.err);
    assert!(
        missing.err.contains("host \"") && missing.err.contains("no-such-program"),
        "{}",
        missing.err
    );
    assert_eq!(net.run(&["-H", "one:1,two:1", "/etc/passwd"]).code(), 126);
}

#[test]
fn input_goes_to_a_rank_on_any_host() {
    let net = Net::new("input", LOGIN);
    for rank in ["0", "1"] {
        let words = [
            "-H",
            "localhost:1,one:1",
            "--stdin",
            rank,
            "sh",
            "-c",
            "echo $TERCIO_RANK:$(wc -c)",
        ];
        let rsh = net.rsh();
        let all = [&["--rsh-agent", rsh.as_str()], &words[..]].concat();
        let input: &'static str = Box::leak("x".repeat(300_000).into_boxed_str());
        let ended = with_input(&all, input);
        let got = |other: &str| if other == rank { "300000" } else { "0" };
        assert_eq!(
            ended.sorted(),
            [format!("0:{}", got("0")), format!("1:{}", got("1"))]
        );
    }
}

#[test]
fn nothing_of_many_hosts_output_is_lost() {
    let net = Net::new("output", LOGIN);
    let ended = net.run(&[
        "-H",
        "localhost:2,one:2,two:1",
        "-l",
        "sh",
        "-c",
        "seq 20000; echo end >&2",
    ]);
    assert_eq!(
        (ended.code(), ended.err.lines().count()),
        (0, 5),
        "{}",
        ended.err
    );
    for rank in 0..5 {
        let label = format!("[{rank}] ");
        let lines = ended
            .out
            .lines()
            .filter_map(|line| line.strip_prefix(&label));
        assert!(
            lines.eq((1..=20000).map(|n: u32| n.to_string())),
            "rank {rank}"
        );
    }
}

/// Output that nobody reads holds up the ranks that write, and no host is lost for it.
#[test]
fn a_reader_that_does_not_read_loses_no_host() {
    let net = Net::new("unread", LOGIN);
    let flood = "head -c 3000000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2";
    let mut command = net.tercio(&[
        "-H",
        "localhost:1,one:1,two:1",
        "--silence",
        "1",
        "sh",
        "-c",
        flood,
    ]);
    let mut launcher = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the launcher starts");
    std::thread::sleep(Duration::from_secs(4));
    let mut err = launcher.stderr.take().expect("a pipe");
    let errors = std::thread::spawn(move || {
        let mut all = Vec::new();
        err.read_to_end(&mut all).map(|_| all)
    });
    let mut out = Vec::new();
    launcher
        .stdout
        .take()
        .expect("a pipe")
        .read_to_end(&mut out)
        .expect("output");
    let errors = errors.join().expect("a thread").expect("errors");
    assert!(
        launcher.wait().expect("an end").success(),
        "{}",
        String::from_utf8_lossy(&errors)
    );
    let count = |all: &[u8], byte| all.iter().filter(|b| **b == byte).count();
    assert_eq!(
        (count(&out, b'x'), count(&errors, b'y')),
        (9_000_000, 900_000)
    );
}

#[test]
fn hosts_that_cannot_be_used_are_told_with_what_to_do() {
    // Of what the script does, and what the sentence must say.
    let cases = [
        (
            "echo 'one: Permission denied (publickey).' >&2; exit 255",
            "host \"one\" refused rsh (exit 255: one: Permission denied (publickey).)",
        ),
        (
            "echo 'ssh: Could not resolve hostname one: Name or service not known' >&2; exit 255",
            "host \"one\" is unknown",
        ),
        (
            "exit 255",
            "rsh ended before there was an agent (exit 255); check \"rsh one true\"",
        ),
        ("exit 0", "rsh ended before there was an agent (exit 0)"),
        (
            "printf \"al@one's password: \" >&2; exec sleep 60",
            "had no agent within 1 s (al@one's password:); check \"rsh one true\"",
        ),
        (
            "exec sleep 60",
            "host \"one\" had no agent within 1 s; check",
        ),
        (
            "echo 'This account is not available.'; exit 1",
            "rsh ended before there was an agent (exit 1: This account is not available.)",
        ),
        (
            "echo 'this account is not available'",
            "answered with something that is no agent's: \"this account is not available\"",
        ),
        ("yes", "answered with something that is no agent's: \"y\""),
        (
            "sh -c 'exec /no/such/tercio'",
            "has no tercio where this one has it",
        ),
        (
            r"printf '\0tercio agent 1\n\26\0\0\0\7\4\3\2\1\1\0\0\0\5\0\0\0\060.0.0\1\0\0\0\n'; exec sleep 60",
            "has tercio 0.0.0 and this one has",
        ),
        (
            r"printf '\0tercio agent 1\n\26\0\0\0\7\1\2\3\4\1\0\0\0\5\0\0\0\060.0.0\1\0\0\0\n'; exec sleep 60",
            "has its bytes in another order",
        ),
    ];
    for (at, (script, said)) in cases.into_iter().enumerate() {
        let net = Net::new(&format!("unusable-{at}"), script);
        let ended = net.run(&["-H", "one:1", "--start-timeout", "1", "true"]);
        assert_eq!(ended.code(), 125, "{script}: {}", ended.err);
        assert!(ended.err.contains(said), "{script}: {}", ended.err);
    }
}

#[test]
fn one_unusable_host_keeps_every_rank_from_starting() {
    let net = Net::new("unusable", &format!("[ $host = one ] || exit 255; {LOGIN}"));
    let ended = net.run(&["-H", "localhost:1,one:1,two:1,three:1", "echo", "started"]);
    assert_eq!(
        (ended.code(), ended.out.as_str()),
        (125, ""),
        "{}",
        ended.err
    );
    assert!(
        ended
            .err
            .starts_with("tercio: 2 of 4 hosts cannot be used, and nothing was started:\n"),
        "{}",
        ended.err
    );
    for host in ["two", "three"] {
        assert!(
            ended
                .err
                .contains(&format!("\n  host \"{host}\": rsh ended")),
            "{}",
            ended.err
        );
    }
}

#[test]
fn what_a_login_prints_is_passed_over_and_slow_hosts_are_named() {
    let slow = "echo 'Welcome to one!'; echo 'a warning' >&2; sleep 2.5";
    let net = Net::new(
        "banner",
        &format!("[ $host = one ] && {{ {slow}; }}; {LOGIN}"),
    );
    let ended = net.run(&["-H", "one:1,two:1", "echo", "up"]);
    assert_eq!(
        (ended.code(), ended.out.as_str()),
        (0, "up\nup\n"),
        "{}",
        ended.err
    );
    assert_eq!(
        ended.err,
        "tercio: 1/2 hosts up, waiting for one (rsh, 2 s)\n"
    );
}

#[test]
fn the_program_is_brought_along_once() {
    let net = Net::new("push", LOGIN);
    for _ in 0..2 {
        let ended = net.run(&["--push", "-H", "one:1,localhost:1", "echo", "up"]);
        assert_eq!(
            (ended.code(), ended.out.as_str()),
            (0, "up\nup\n"),
            "{}",
            ended.err
        );
        let kept = std::fs::read_dir(net.scratch.path(".cache/tercio")).expect("a directory");
        let names: Vec<_> = kept.map(|file| file.expect("a file").file_name()).collect();
        assert!(
            names.len() == 1 && names[0].to_string_lossy().starts_with("tercio-"),
            "{names:?}"
        );
    }
}

/// A job over `localhost`, `one` and `two`, a rank on each, and its own processes.
struct Spread {
    job: Live,
    /// Guard and agent of each host; first the guard and the hub.
    own: Vec<(String, [i32; 2])>,
    err: std::sync::mpsc::Receiver<String>,
}

impl Spread {
    fn start(net: &Net, words: &[&str]) -> Spread {
        let common = ["-v", "-H", "localhost:1,one:1,two:1", "--silence", "2"];
        let mut command = net.tercio(&[&common[..], words, &["sh", "-c", WAIT]].concat());
        let mut job = Live::of(&mut command, 3);
        let mut err = BufReader::new(job.launcher.stderr.take().expect("a pipe"));
        let mut own = Vec::new();
        while own.len() < 4 {
            let mut line = String::new();
            assert!(
                err.read_line(&mut line).expect("a line") > 0,
                "the job ended: {own:?}"
            );
            if let Some((before, after)) = line.split_once(": guard ") {
                let numbers: Vec<i32> = after
                    .split(|c: char| !c.is_ascii_digit())
                    .filter_map(|word| word.parse().ok())
                    .collect();
                own.push((before.to_owned(), [numbers[0], numbers[1]]));
            }
        }
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = err.read_to_string(&mut rest);
            let _ = tell.send(rest);
        });
        Spread {
            job,
            own,
            err: told,
        }
    }

    /// Guard and agent of `host`; of "hub", the guard and the hub.
    fn of(&self, host: &str) -> [i32; 2] {
        let found = self.own.iter().find(|(line, _)| match host {
            "hub" => line.starts_with("tercio: job"),
            host => line.starts_with(&format!("tercio: {host}: job")),
        });
        found.expect("the host's processes").1
    }

    /// Waits for the end; the code and what was said. Nothing may be left.
    fn end(self) -> (Option<i32>, String) {
        let Spread { mut job, own, err } = self;
        let code = job.launcher.wait().expect("an end").code();
        let said = err.recv().expect("what was said");
        let all = own.iter().flat_map(|(_, pids)| pids).chain(&job.ranks);
        for &pid in all {
            eventually(&format!("process {pid} is gone"), || {
                matches!(state(pid), None | Some('Z'))
            });
        }
        (code, said)
    }
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: kill takes two numbers; the process is the test's own job's.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

#[test]
fn a_host_whose_agent_is_stopped_is_lost() {
    let net = Net::new("silent", LOGIN);
    let job = Spread::start(&net, &[]);
    signal(job.of("one")[1], libc::SIGSTOP);
    let (code, said) = job.end();
    assert_eq!(code, Some(120), "{said}");
    assert!(
        said.contains("host \"one\" was lost: nothing was heard from it for 2."),
        "{said}"
    );
    assert!(said.contains("ranks 0 to 2"), "{said}");
}

#[test]
fn whoever_is_killed_nothing_is_left_on_any_host() {
    let net = Net::new("killed", LOGIN);
    for (victim, expected, text) in [
        (
            "agent",
            Some(120),
            "host \"one\" was lost: its connection ended (exit 125: ",
        ),
        ("guard", Some(125), "the job's guard (process "),
        ("hub", Some(125), "the job's agent (process "),
        ("launcher", None, ""),
    ] {
        let job = Spread::start(&net, &[]);
        let pid = match victim {
            "agent" => job.of("one")[1],
            "guard" => job.of("one")[0],
            "hub" => job.of("hub")[1],
            _ => i32::try_from(job.job.launcher.id()).expect("a number"),
        };
        signal(pid, libc::SIGKILL);
        let (code, said) = job.end();
        assert_eq!(code, expected, "{victim}: {said}");
        assert!(said.contains(text), "{victim}: {said}");
    }
}

#[test]
fn signals_reach_ranks_on_every_host() {
    let net = Net::new("signals", LOGIN);
    let job = Spread::start(&net, &[]);
    let launcher = i32::try_from(job.job.launcher.id()).expect("a number");
    job.job.send(libc::SIGTSTP);
    eventually("the launcher stops", || state(launcher) == Some('T'));
    let stopped = |rank: &i32| state(*rank) == Some('T');
    assert!(
        job.job.ranks.iter().all(stopped),
        "the ranks stop before the launcher does"
    );
    // Longer than the silence that is allowed: a pause loses no host.
    std::thread::sleep(Duration::from_secs(3));
    job.job.send(libc::SIGCONT);
    let ranks = job.job.ranks.clone();
    eventually("the ranks go on", || {
        ranks
            .iter()
            .all(|rank| matches!(state(*rank), Some('S' | 'R')))
    });
    job.job.send(libc::SIGINT);
    let (code, said) = job.end();
    assert_eq!(code, Some(130), "{said}");
}

#[test]
fn a_users_signal_goes_to_every_rank() {
    let net = Net::new("users-signal", LOGIN);
    let ready = net.scratch.path("ready");
    let script = format!(
        "trap 'echo $TERCIO_RANK got one; exit' USR1; trap 'echo $TERCIO_RANK got two' USR2; echo >> {ready}; while :; do sleep 0.02; done"
    );
    for hosts in [&["-n", "2"][..], &["-H", "localhost:1,one:1"]] {
        std::fs::write(&ready, "").expect("a file");
        let words = [hosts, &["sh", "-c", &script]].concat();
        let mut command = net.tercio(&words);
        let child = command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("started");
        let set = || std::fs::read_to_string(&ready).expect("a file").len() == 2;
        eventually("both ranks are ready", set);
        let launcher = i32::try_from(child.id()).expect("a number");
        signal(launcher, libc::SIGUSR2);
        // They catch it, and are not ended by it: the other reaches them too.
        std::thread::sleep(Duration::from_millis(200));
        signal(launcher, libc::SIGUSR1);
        let output = child.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["0 got one", "0 got two", "1 got one", "1 got two"]);
    }
}

#[test]
fn the_secret_stands_in_no_argument_and_no_variable() {
    let net = Net::new(
        "secret",
        r#"exec env -i HOME="$HOME" PATH=/usr/bin:/bin sh -c "tee '$SEEN' | { $*; }""#,
    );
    let seen = net.scratch.path("seen");
    let mut command = net.tercio(&["-H", "one:2", "sh", "-c", WAIT]);
    let job = Live::of(command.env("SEEN", &seen), 2);
    // The first frame: its length, what it is, and the secret.
    let first = std::fs::read(&seen).expect("what the agent was told");
    assert_eq!(first[..5], [33, 0, 0, 0, 8]);
    let secret = &first[5..37];
    assert!(secret.iter().any(|byte| *byte != 0));
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut looked = 0;
    for process in std::fs::read_dir("/proc").expect("/proc") {
        for file in ["cmdline", "environ"] {
            let path = process.as_ref().expect("an entry").path().join(file);
            let Ok(bytes) = std::fs::read(&path) else {
                continue;
            };
            looked += 1;
            let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
            assert!(!holds(secret) && !holds(hex.as_bytes()), "{path:?}");
        }
    }
    assert!(looked > 4);
    job.send(libc::SIGTERM);
    assert_eq!(job.end(), 143);
}

#[test]
fn the_doctor_says_of_each_host_what_is_amiss_and_what_mends_it() {
    let net = Net::new("doctor", &format!("[ $host = one ] || exit 255; {LOGIN}"));
    let doctor = |more: &[&str]| {
        let mut command = Command::new(TERCIO);
        command
            .args(["doctor", "--rsh-agent", &net.rsh()])
            .args(more);
        ended(command.env("HOME", &net.scratch.0).stdin(Stdio::null()))
    };
    let alone = doctor(&[]);
    assert_eq!((alone.code(), alone.err.as_str()), (0, ""), "{}", alone.out);
    assert!(
        alone
            .out
            .starts_with("localhost (this host)\n  ok    agent "),
        "{}",
        alone.out
    );
    let three = doctor(&["-H", "localhost,one,two", "--json"]);
    assert_eq!(three.code(), 1, "{}", three.err);
    let json: serde_json::Value = serde_json::from_str(&three.out).expect("JSON");
    assert_eq!(json["level"], "fail");
    let check = |host: usize, what: &str| {
        let checks = json["hosts"][host]["checks"].as_array().expect("checks");
        checks.iter().find(|check| check["check"] == what).cloned()
    };
    for (host, name) in ["localhost (this host)", "one", "two"]
        .into_iter()
        .enumerate()
    {
        assert_eq!(json["hosts"][host]["host"], name);
    }
    for what in ["ssh", "clock", "kernel", "processors", "shared memory"] {
        assert_eq!(check(1, what).expect(what)["level"], "ok");
    }
    assert!(check(0, "descriptors").is_some() && check(0, "clock").is_none());
    let ssh = check(2, "ssh").expect("ssh");
    assert_eq!((&ssh["level"], check(2, "kernel")), (&"fail".into(), None));
    let mend = "check \"rsh two true\": it must work without a password or a question";
    assert_eq!(ssh["mend"], mend);
    assert_eq!(json["between"][0]["check"], "messages");
}

#[test]
fn what_messages_cost_is_measured_and_told() {
    let net = Net::new("tune", LOGIN);
    let file = net.scratch.path("settings/costs");
    let words = [
        "--interface",
        "lo",
        "-H",
        "localhost,two",
        "-o",
        file.as_str(),
    ];
    let tune = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tercio"));
        command
            .args(["tune", "--rsh-agent", &net.rsh()])
            .args(words);
        ended(command.env("HOME", &net.scratch.0))
    };
    let tuned = tune(&words);
    assert_eq!(tuned.code(), 0, "{}", tuned.err);
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(
        text.ends_with(&tuned.out) && tuned.out.contains("between.latency = "),
        "{text}"
    );
    let run = |more: &[&str]| {
        let words = ["--interface", "lo", "-H", "localhost,two", "-n", "2"];
        let mut command =
            net.tercio(&[&words[..], more, &["sh", "-c", "echo $TERCIO_COSTS"]].concat());
        ended(command.env("TERCIO_COSTS_FILE", &file))
    };
    // Both ranks are told the same, which is what the file says.
    let said = run(&[]);
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, lines[1]));
    for line in tuned.out.lines() {
        assert!(
            lines[0].contains(&line.replace(' ', "")),
            "{line} of {}",
            lines[0]
        );
    }
    let one = tune(&["-H", "localhost"]);
    assert_eq!(one.code(), 125);
    assert!(
        one.err.contains("takes two hosts to measure"),
        "{}",
        one.err
    );
    std::fs::write(&file, "between.latency = soon\n").expect("the file");
    let wrong = run(&[]);
    assert_eq!(wrong.code(), 125);
    assert!(
        wrong
            .err
            .contains("line 1: \"between.latency = soon\" has no whole number"),
        "{}",
        wrong.err
    );
}
