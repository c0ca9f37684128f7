//! Jobs over real networks: four hosts with an ssh server each, which `scripts/hosts` makes of network namespaces. Without them nothing is
//! tested here, and it is said; `scripts/test hosts` sees to them. What needs no network is tested in `run/hosts.rs`.
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};

const TERCIO: &str = env!("CARGO_BIN_EXE_tercio");
/// A rank that tells its process number and then lives on.
const WAIT: [&str; 3] = ["sh", "-c", "echo $$; exec sleep 100"];

fn main() {
    // One at a time: they take hosts off the network.
    let arguments = Arguments {
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    let mut trials = Vec::new();
    if std::env::var_os("TERCIO_TEST_SPACE").is_some() {
        let all: [(&str, fn()); 12] = [
            ("ranks run on every host", ranks_run_on_every_host),
            ("addresses are hosts too", addresses_are_hosts_too),
            (
                "what a login prints is passed over",
                what_a_login_prints_is_passed_over,
            ),
            (
                "each unusable host has its sentence",
                each_unusable_host_has_its_sentence,
            ),
            (
                "a directory that is not there",
                a_directory_that_is_not_there,
            ),
            ("a program of another version", a_program_of_another_version),
            ("the program is brought along", the_program_is_brought_along),
            (
                "the doctor finds that hosts reach each other",
                the_doctor_finds_that_hosts_reach_each_other,
            ),
            (
                "a host that is cut off is lost",
                a_host_that_is_cut_off_is_lost,
            ),
            (
                "a host whose agent is stopped is lost",
                a_host_whose_agent_is_stopped_is_lost,
            ),
            (
                "whoever is killed nothing is left",
                whoever_is_killed_nothing_is_left,
            ),
            (
                "a reader that does not read loses no host",
                a_reader_that_does_not_read_loses_no_host,
            ),
        ];
        let trial = |(name, run): (&str, fn())| {
            Trial::test(name, move || {
                run();
                Ok(())
            })
        };
        trials.extend(all.map(trial));
    } else {
        println!("left out: there are no hosts (scripts/hosts makes some)");
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn variable(name: &str) -> String {
    std::env::var(name).expect("scripts/hosts sets it")
}

/// The directory that scripts/hosts made.
fn directory() -> PathBuf {
    variable("TERCIO_TEST_HOSTS").into()
}

fn tercio_at(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(["run", "--rsh-agent", &variable("TERCIO_TEST_SSH")])
        .args(words)
        .stdin(Stdio::null());
    command
}

fn tercio(words: &[&str]) -> Command {
    tercio_at(TERCIO, words)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether this is what the launcher says of hosts that take their time, as they may on a busy machine.
fn tells_progress(line: &str) -> bool {
    let (head, rest) = line.split_once(" hosts up, ").unwrap_or_default();
    let counts = head
        .strip_prefix("tercio: ")
        .and_then(|of| of.split_once('/'));
    let is_number = |word: &str| word.parse::<usize>().is_ok();
    counts.is_some_and(|(up, all)| is_number(up) && is_number(all)) && rest.contains("waiting for ")
}

/// What a job wrote to standard error; without its progress.
fn errors_in(bytes: &[u8]) -> String {
    text(bytes)
        .split_inclusive('\n')
        .filter(|line| !tells_progress(line))
        .collect()
}

/// Code, output and errors of a job that ends.
fn run(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the launcher starts");
    let code = status.code().unwrap_or_else(|| panic!("{status}"));
    (code, text(&stdout), errors_in(&stderr))
}

fn sorted(out: &str) -> Vec<&str> {
    let mut lines: Vec<_> = out.lines().collect();
    lines.sort_unstable();
    lines
}

/// `ip` for the namespace of host `n`.
fn ip(n: usize, words: &[&str]) -> String {
    let space = format!("{}{n}", variable("TERCIO_TEST_SPACE"));
    let output = match words {
        ["pids"] => Command::new("ip").args(["netns", "pids", &space]).output(),
        words => Command::new("ip").args(["-n", &space]).args(words).output(),
    };
    let output = output.expect("ip");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The processes of host `n` that are not ssh's, with their names.
fn processes(n: usize) -> Vec<(i32, String)> {
    let named = |line: &str| {
        let pid: i32 = line.parse().expect("a number");
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some((pid, name.trim_end().to_owned()))
    };
    let all = ip(n, &["pids"]);
    let mut all: Vec<_> = all.lines().filter_map(named).collect();
    all.retain(|(_, name)| name != "sshd" && name != "unshare");
    all
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "not within 10 s: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn nothing_is_left_on(hosts: &[usize]) {
    for &n in hosts {
        eventually(&format!("node{n} is empty: {:?}", processes(n)), || {
            processes(n).is_empty()
        });
    }
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: kill takes two numbers; the process is one of the job that the test started.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// A job with a rank on each of node1 to node4 that lives on.
struct Live(Child);

impl Live {
    fn start() -> Live {
        let hosts = ["-H", "node1:1,node2:1,node3:1,node4:1"];
        let mut launcher = tercio(&[&hosts[..], &WAIT].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the launcher starts");
        let lines = BufReader::new(launcher.stdout.as_mut().expect("a pipe")).lines();
        assert_eq!(lines.take(4).count(), 4);
        Live(launcher)
    }

    /// How it ended, what it said, and how long that took.
    fn end(mut self) -> (std::process::ExitStatus, String, Duration) {
        let began = Instant::now();
        let mut said = String::new();
        let mut err = self.0.stderr.take().expect("a pipe");
        err.read_to_string(&mut said).expect("text");
        let status = self.0.wait().expect("an end");
        (status, said, began.elapsed())
    }
}

fn ranks_run_on_every_host() {
    let file = directory().join("hostfile");
    std::fs::write(&file, "node1 slots=2\nnode[2-3]:2\nroot@node4:2\n").expect("a hostfile");
    let file = file.to_str().expect("text");
    let words = [
        "--hostfile",
        file,
        "-n",
        "8",
        "sh",
        "-c",
        "echo $TERCIO_RANK $(hostname)",
    ];
    let began = Instant::now();
    let logins = [2, 3, 4].map(|n| {
        let host = format!("node{n}");
        let mut ssh = Command::new(variable("TERCIO_TEST_SSH"));
        ssh.args(["-o", "BatchMode=yes", &host, "true"]).spawn()
    });
    for login in logins {
        assert!(login.expect("ssh").wait().expect("an end").success());
    }
    println!("three logins alone take {:?}", began.elapsed());
    let began = Instant::now();
    let (code, out, err) = run(&mut tercio(&words));
    println!("8 ranks on 4 hosts start and end in {:?}", began.elapsed());
    assert_eq!((code, err.as_str()), (0, ""));
    let expected: Vec<_> = (0..8)
        .map(|rank| format!("{rank} node{}", rank / 2 + 1))
        .collect();
    assert_eq!(sorted(&out), expected);
    nothing_is_left_on(&[2, 3, 4]);
}

fn addresses_are_hosts_too() {
    let (code, out, err) = run(&mut tercio(&[
        "-H",
        "10.77.0.1:1,[fd77::3]:1,10.77.0.4:1",
        "hostname",
    ]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(sorted(&out), ["node1", "node3", "node4"]);
}

fn what_a_login_prints_is_passed_over() {
    let (code, out, err) = run(&mut tercio(&["-H", "node1:1,banner:1", "hostname"]));
    assert_eq!(
        (code, sorted(&out), err.as_str()),
        (0, vec!["node1", "node2"], "")
    );
}

fn each_unusable_host_has_its_sentence() {
    let hosts = "node1,node3,closed,stranger,locked,nologin,slow,silent,unknown.invalid";
    let (code, out, err) = run(&mut tercio(&[
        "--start-timeout",
        "5",
        "-H",
        hosts,
        "hostname",
    ]));
    assert_eq!((code, out.as_str()), (125, ""), "{err}");
    for said in [
        "7 of 9 hosts cannot be used, and nothing was started:\n",
        "host \"closed\" has no ssh server that answers (",
        "host \"stranger\": ssh does not know the host's key (",
        "host \"locked\" refused ssh (exit 255: ",
        "host \"nologin\": ssh ended before there was an agent (exit 1: This account is currently not available.)",
        "host \"slow\" had no agent within 5 s; check \"ssh slow true\"",
        "host \"silent\" cannot be reached (",
        "host \"unknown.invalid\" is unknown (",
    ] {
        assert!(err.contains(said), "{said} is not in {err}");
    }
    nothing_is_left_on(&[2, 3, 4]);
}

fn a_directory_that_is_not_there() {
    // What is in private/ is on node1 only.
    let own = directory().join("private/work");
    std::fs::create_dir_all(&own).expect("a directory");
    let (code, _, err) = run(tercio(&["-H", "node1:1,node2:1", "true"]).current_dir(&own));
    assert_eq!(code, 125, "{err}");
    let said = format!(
        "host \"node2\": true was to start in {}, which is no directory",
        own.display()
    );
    assert!(err.contains(&said), "{err}");
}

fn a_program_of_another_version() {
    let own = env!("CARGO_PKG_VERSION");
    let (major, _) = own.rsplit_once('.').expect("a version");
    let old = format!("{major}.x");
    assert_eq!(
        own.len(),
        old.len(),
        "the numbers must be as long as each other"
    );
    let mut program = std::fs::read(TERCIO).expect("the program");
    let mut at = 0;
    while let Some(found) = program[at..]
        .windows(own.len())
        .position(|part| part == own.as_bytes())
    {
        at += found;
        program[at..at + own.len()].copy_from_slice(old.as_bytes());
    }
    let file = directory().join("old");
    std::fs::write(&file, program).expect("a program");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&file, mode).expect("an executable program");
    let (code, _, err) = run(&mut tercio(&["-H", "node1:1,old:1", "true"]));
    assert_eq!(code, 125, "{err}");
    let said = format!(
        "host \"old\" has tercio {old} and this one has {own}; install the same there, or let --push bring it along"
    );
    assert!(err.contains(&said), "{err}");
}

fn the_program_is_brought_along() {
    let own = directory().join("private/tercio");
    std::fs::copy(TERCIO, &own).expect("a copy on node1 only");
    let own = own.to_str().expect("text");
    let hosts = ["-H", "node1:1,node2:1,node3:1"];
    let without = run(&mut tercio_at(own, &[&hosts[..], &["hostname"]].concat()));
    assert_eq!(without.0, 125, "{}", without.2);
    let said = format!(
        "host \"node2\" has no tercio where this one has it, nor in its PATH (tercio: no tercio at {own})"
    );
    assert!(without.2.contains(&said), "{}", without.2);
    for _ in 0..2 {
        let (code, out, err) = run(&mut tercio_at(
            own,
            &[&["--push"], &hosts[..], &["hostname"]].concat(),
        ));
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(sorted(&out), ["node1", "node2", "node3"]);
    }
    let kept = std::fs::read_dir(directory().join("cache/tercio")).expect("what was brought");
    assert_eq!(kept.count(), 1);
}

fn the_doctor_finds_that_hosts_reach_each_other() {
    let ssh = variable("TERCIO_TEST_SSH");
    let doctor = |hosts: &str| {
        let words = ["doctor", "--json", "--rsh-agent", &ssh, "-H", hosts];
        let (code, out, err) = run(Command::new(TERCIO).args(words).stdin(Stdio::null()));
        assert_eq!(err, "");
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        (code, json)
    };
    let (code, json) = doctor("node1,node2,node3,node4");
    assert_eq!(
        (code, &json["between"][0]["level"]),
        (0, &"ok".into()),
        "{json}"
    );
    let (code, json) = doctor("node1,locked,node4");
    assert_eq!(
        (code, &json["between"][0]["level"]),
        (1, &"ok".into()),
        "{json}"
    );
    let ssh = &json["hosts"][1]["checks"][0];
    assert_eq!(
        (&ssh["check"], &ssh["level"]),
        (&"ssh".into(), &"fail".into())
    );
    assert!(
        ssh["mend"].to_string().contains("ssh-copy-id locked"),
        "{ssh}"
    );
}

/// Host `n` is off the network while this lives.
struct Cut(usize);

impl Cut {
    fn new(n: usize) -> Cut {
        ip(n, &["link", "set", "eth0", "down"]);
        Cut(n)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        ip(self.0, &["link", "set", "eth0", "up"]);
        // Those of IPv6 go with the link.
        let address = format!("fd77::{}/64", self.0);
        ip(
            self.0,
            &["address", "replace", &address, "dev", "eth0", "nodad"],
        );
    }
}

fn a_host_that_is_cut_off_is_lost() {
    let job = Live::start();
    let cut = Cut::new(3);
    let began = Instant::now();
    let (status, said, took) = job.end();
    println!("the job ended {took:?} after the cut");
    nothing_is_left_on(&[2, 3, 4]);
    println!("nothing was left {:?} after the cut", began.elapsed());
    drop(cut);
    assert_eq!(status.code(), Some(120), "{said}");
    let lost = "host \"node3\" was lost: nothing was heard from it for 5.";
    assert!(
        said.contains(lost) && said.contains("ranks 0 to 3"),
        "{said}"
    );
    assert!(took < Duration::from_secs(6), "{took:?}");
}

fn a_host_whose_agent_is_stopped_is_lost() {
    let job = Live::start();
    let all = processes(2);
    let agent = all.iter().find(|(_, name)| name == "tercio-agent");
    signal(agent.expect("an agent").0, libc::SIGSTOP);
    let (status, said, took) = job.end();
    assert_eq!(status.code(), Some(120), "{said}");
    assert!(
        said.contains("host \"node2\" was lost: nothing was heard from it for 5."),
        "{said}"
    );
    println!("the job ended {took:?} after the stop");
    nothing_is_left_on(&[2, 3, 4]);
}

fn whoever_is_killed_nothing_is_left() {
    for (victim, code, expected) in [
        (
            "tercio-agent",
            Some(120),
            "host \"node4\" was lost: its connection ended (exit 125: ",
        ),
        ("tercio-guard", Some(125), "the job's guard (process "),
        (
            "sleep",
            Some(137),
            "rank 3 of 4 was killed by signal 9 (SIGKILL",
        ),
        ("launcher", None, ""),
    ] {
        let job = Live::start();
        let pid = match victim {
            "launcher" => i32::try_from(job.0.id()).expect("a number"),
            name => {
                processes(4)
                    .iter()
                    .find(|(_, found)| found == name)
                    .expect("it")
                    .0
            }
        };
        signal(pid, libc::SIGKILL);
        let (status, said, _) = job.end();
        assert_eq!(status.code(), code, "{victim}: {said}");
        assert!(status.code().is_some() || status.signal() == Some(libc::SIGKILL));
        assert!(said.contains(expected), "{victim}: {said}");
        nothing_is_left_on(&[2, 3, 4]);
    }
}

fn a_reader_that_does_not_read_loses_no_host() {
    let flood =
        "head -c 20000000 /dev/zero | tr '\\0' x; head -c 2000000 /dev/zero | tr '\\0' y >&2";
    let mut launcher = tercio(&["-H", "node1:1,node2:1,node3:1,node4:1", "sh", "-c", flood])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the launcher starts");
    std::thread::sleep(Duration::from_secs(30));
    let mut err = launcher.stderr.take().expect("a pipe");
    let errors = std::thread::spawn(move || {
        let mut all = Vec::new();
        err.read_to_end(&mut all).map(|_| all)
    });
    let mut out = Vec::new();
    let mut pipe = launcher.stdout.take().expect("a pipe");
    pipe.read_to_end(&mut out).expect("output");
    let errors = errors_in(&errors.join().expect("a thread").expect("errors"));
    assert!(launcher.wait().expect("an end").success(), "{errors}");
    let count = |all: &[u8], byte| all.iter().filter(|b| **b == byte).count();
    assert_eq!(
        (count(&out, b'x'), count(errors.as_bytes(), b'y')),
        (80_000_000, 8_000_000)
    );
    assert_eq!((out.len(), errors.len()), (80_000_000, 8_000_000));
}
