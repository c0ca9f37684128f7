//! Command lines as people type them, of both families, and the plan that each comes to (`--dry-run`).
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A command line; the plan's lines that differ from the defaults; and what standard error says in part (nothing if empty).
type Case = (&'static str, &'static [&'static str], &'static str);

/// What a plan says when nothing was asked for.
const DEFAULTS: [&str; 5] = [
    "output: as it comes, in whole lines",
    "input: to rank 0",
    "binding: a core for each rank, if there is one for each",
    "time limit: none",
    "grace: 2 s",
];

const OPEN_MPI: &[Case] = &[
    ("mpirun -np 4 ./a.out", &["ranks 0-3: ./a.out"], ""),
    ("mpirun -n 4 ./a.out", &["ranks 0-3: ./a.out"], ""),
    ("mpirun --np 4 ./a.out", &["ranks 0-3: ./a.out"], ""),
    ("mpirun --n 4 ./a.out", &["ranks 0-3: ./a.out"], ""),
    ("mpirun -c 2 hostname", &["ranks 0-1: hostname"], ""),
    ("mpirun -np 1 ./a.out -np 5", &["rank 0: ./a.out -np 5"], ""),
    (
        "mpirun -np 2 -- ./a.out -- -x",
        &["ranks 0-1: ./a.out -- -x"],
        "",
    ),
    (
        "mpirun -np 2 -x LD_LIBRARY_PATH=/opt/lib -x OMP_NUM_THREADS=1 ./solver input.dat",
        &[
            "ranks 0-1: ./solver input.dat",
            "  with: LD_LIBRARY_PATH=/opt/lib",
            "  with: OMP_NUM_THREADS=1",
        ],
        "",
    ),
    (
        "mpirun -x GIVEN -np 1 env",
        &["rank 0: env", "  with: GIVEN='by the test'"],
        "",
    ),
    (
        "mpirun -x NOT_GIVEN -np 1 env",
        &["rank 0: env"],
        "-x NOT_GIVEN passes nothing on: the launcher has no variable NOT_GIVEN",
    ),
    (
        "mpirun --allow-run-as-root -np 4 python3 train.py --epochs 10",
        &["ranks 0-3: python3 train.py --epochs 10"],
        "",
    ),
    (
        "mpirun --allow-run-as-root --oversubscribe -np 8 ./test",
        &["ranks 0-7: ./test"],
        "--oversubscribe is not needed",
    ),
    (
        "mpirun --bind-to core -np 2 ./osu_latency",
        &["ranks 0-1: ./osu_latency"],
        "",
    ),
    (
        "mpirun --bind-to none -np 2 python script.py",
        &["ranks 0-1: python script.py", "binding: none"],
        "",
    ),
    (
        "mpirun -np 2 --bind-to core --map-by core ./osu_bw",
        &["ranks 0-1: ./osu_bw"],
        "--map-by has no effect here",
    ),
    (
        "mpirun --mca pml ob1 --mca btl tcp,self -np 2 ./x",
        &["ranks 0-1: ./x"],
        "--mca has no effect here",
    ),
    (
        "mpirun -mca btl ^openib -np 4 xhpl",
        &["ranks 0-3: xhpl"],
        "-mca has no effect here",
    ),
    (
        "mpirun -np 4 --tag-output ./a.out",
        &["ranks 0-3: ./a.out", "output: labelled by rank"],
        "",
    ),
    (
        "mpirun --prefix -np 4 ./a.out",
        &["ranks 0-3: ./a.out", "output: labelled by rank"],
        "",
    ),
    (
        "mpirun -np 4 --output-filename logs ./a.out",
        &["ranks 0-3: ./a.out", "output: files in logs"],
        "",
    ),
    (
        "mpirun --output-filename=logs -l -np 1 ./a",
        &["rank 0: ./a", "output: files in logs, labelled by rank"],
        "",
    ),
    (
        "mpirun -np 4 --timeout 30 ./a.out",
        &["ranks 0-3: ./a.out", "time limit: 30 s"],
        "",
    ),
    (
        "mpirun -np 1 ./master : -np 3 ./worker -v",
        &["rank 0: ./master", "ranks 1-3: ./worker -v"],
        "",
    ),
    (
        "mpirun -np 2 --wdir /tmp ./a : -np 1 -wd / ./b",
        &["ranks 0-1: ./a", "  in: /tmp", "rank 2: ./b", "  in: /"],
        "",
    ),
    (
        "mpirun --report-bindings --display-map -np 2 ./a",
        &["ranks 0-1: ./a"],
        "",
    ),
    ("mpirun -H localhost -np 2 ./a", &["ranks 0-1: ./a"], ""),
    ("mpirun --host localhost:3 ./a", &["ranks 0-2: ./a"], ""),
    ("mpirun --map-by ppr:2:node ./a", &["ranks 0-1: ./a"], ""),
    ("mpirun -N 3 ./a", &["ranks 0-2: ./a"], ""),
    ("mpirun -npernode 2 -np 4 ./a", &["ranks 0-3: ./a"], ""),
    (
        "mpirun --stdin none -np 2 ./a",
        &["ranks 0-1: ./a", "input: to no rank"],
        "",
    ),
    (
        "mpirun --stdin 1 -np 2 ./a",
        &["ranks 0-1: ./a", "input: to rank 1"],
        "",
    ),
    (
        "mpirun --timeout 60 --get-stack-traces -np 1 ./a",
        &["rank 0: ./a", "time limit: 60 s"],
        "has no effect here: the verdict",
    ),
    (
        "mpirun -np 2 xterm -e gdb ./a",
        &["ranks 0-1: xterm -e gdb ./a"],
        "",
    ),
    (
        "mpirun --use-hwthread-cpus -np 2 ./a",
        &["ranks 0-1: ./a"],
        "every usable CPU counts as a core",
    ),
];

const HYDRA: &[Case] = &[
    ("mpiexec -n 4 ./cpi", &["ranks 0-3: ./cpi"], ""),
    ("mpiexec -np 4 ./cpi", &["ranks 0-3: ./cpi"], ""),
    ("mpiexec.hydra -n 2 ./cpi", &["ranks 0-1: ./cpi"], ""),
    (
        "mpiexec -n 2 -env OMP_NUM_THREADS 2 ./a : -n 1 -env OMP_NUM_THREADS 4 ./b",
        &[
            "ranks 0-1: ./a",
            "  with: OMP_NUM_THREADS=2",
            "rank 2: ./b",
            "  with: OMP_NUM_THREADS=4",
        ],
        "",
    ),
    (
        "mpiexec -n 1 -env K own ./a : -genv K all -n 1 ./b",
        &[
            "rank 0: ./a",
            "  with: K=own",
            "rank 1: ./b",
            "  with: K=all",
        ],
        "",
    ),
    (
        "mpiexec -genv FLAGS '-a -b' -n 1 ./a",
        &["rank 0: ./a", "  with: FLAGS='-a -b'"],
        "",
    ),
    ("mpiexec -genvall -n 2 ./a", &["ranks 0-1: ./a"], ""),
    (
        "mpiexec -genvlist PATH,HOME -n 2 ./a",
        &["ranks 0-1: ./a"],
        "",
    ),
    (
        "mpiexec -l -n 2 ./a",
        &["ranks 0-1: ./a", "output: labelled by rank"],
        "",
    ),
    (
        "mpiexec -prepend-rank -n 2 ./a",
        &["ranks 0-1: ./a", "output: labelled by rank"],
        "",
    ),
    ("mpiexec -ppn 2 -n 4 ./a", &["ranks 0-3: ./a"], ""),
    ("mpiexec -hosts localhost -n 2 ./a", &["ranks 0-1: ./a"], ""),
    (
        "mpiexec -bind-to none -n 2 ./a",
        &["ranks 0-1: ./a", "binding: none"],
        "",
    ),
    (
        "mpiexec -wdir /tmp -n 2 ./a",
        &["ranks 0-1: ./a", "  in: /tmp"],
        "",
    ),
    (
        "mpiexec -print-all-exitcodes -n 2 ./a",
        &["ranks 0-1: ./a"],
        "",
    ),
    (
        "mpiexec -launcher ssh -iface lo -n 2 ./a",
        &["ranks 0-1: ./a"],
        "-launcher has no effect here",
    ),
    ("mpiexec -verbose -n 2 ./a", &["ranks 0-1: ./a"], ""),
];

const INTEL: &[Case] = &[
    (
        "mpirun -n 4 -ppn 4 -genv I_MPI_DEBUG 5 ./IMB-MPI1 PingPong",
        &["ranks 0-3: ./IMB-MPI1 PingPong", "  with: I_MPI_DEBUG=5"],
        "",
    ),
    (
        "mpirun -genv I_MPI_FABRICS shm -genv I_MPI_PIN on -n 2 ./a",
        &[
            "ranks 0-1: ./a",
            "  with: I_MPI_FABRICS=shm",
            "  with: I_MPI_PIN=on",
        ],
        "",
    ),
    (
        "mpirun -bootstrap ssh -perhost 2 -n 2 ./a",
        &["ranks 0-1: ./a"],
        "-bootstrap has no effect here",
    ),
    (
        "mpiexec.hydra -print-rank-map -s 1 -n 2 ./a",
        &["ranks 0-1: ./a", "input: to rank 1"],
        "",
    ),
];

const OWN: &[Case] = &[
    ("tercio run -n 2 prog -n 5", &["ranks 0-1: prog -n 5"], ""),
    ("tercio run -n4 prog", &["ranks 0-3: prog"], ""),
    (
        "tercio run --n=4 --timeout=0.5 prog",
        &["ranks 0-3: prog", "time limit: 0.5 s"],
        "",
    ),
    ("tercio run -n 4 -n 2 prog", &["ranks 0-1: prog"], ""),
    (
        "tercio run -n 2 'a b' '' \"it's\"",
        &["ranks 0-1: 'a b' '' 'it'\\''s'"],
        "",
    ),
    (
        "tercio run -n 2 --grace 0 --verdict v.json prog",
        &["ranks 0-1: prog", "grace: 0 s", "verdict: v.json"],
        "",
    ),
    (
        "tercio run -n 4 --release --example wordcount -- A -n 2",
        &[
            "ranks 0-3: example wordcount A -n 2",
            "  built by: cargo build --release --example wordcount",
        ],
        "",
    ),
    (
        "tercio run -n 1 --profile bench --bin x -p y --features a,b --features c z",
        &[
            "rank 0: binary x z",
            "  built by: cargo build --profile bench --package y --bin x --features a,b --features c",
        ],
        "",
    ),
    (
        "tercio run -foreign-names -n 1 a",
        &[
            "rank 0: a",
            "variables: those of Open MPI, hydra and torch too",
        ],
        "",
    ),
    (
        "cargo-tercio tercio run -n 2 prog",
        &["ranks 0-1: prog"],
        "",
    ),
];

/// Command lines that cannot be understood, and the sentence that says so.
const REFUSED: &[(&str, &str)] = &[
    (
        "tercio run",
        "no program is given; for example: tercio run -n 4 ./program",
    ),
    (
        "tercio run -n 2",
        "no program is given; for example: tercio run -n 4 ./program",
    ),
    (
        "tercio run -n 2 --",
        "no program is given; for example: tercio run -n 4 ./program",
    ),
    ("tercio run -n 0 a", "-n 0: a job needs at least one rank"),
    (
        "mpirun -np four a",
        "-n four: the number of ranks is a whole number, such as 4",
    ),
    ("tercio run -n", "-n needs a value"),
    ("tercio run -n : a", "-n needs a value"),
    (
        "tercio run -n 1 a :",
        "no program is given for part 2 of the command line; a lone ':' separates programs",
    ),
    (
        "tercio run -n 1 a : b",
        "of several programs each needs its number of ranks; give -n N in part 2 of the command line",
    ),
    (
        "tercio run --tmieout 3 a",
        "unknown option --tmieout; did you mean --timeout?",
    ),
    (
        "tercio run -tag-ouput a",
        "unknown option -tag-ouput; did you mean -tag-output?",
    ),
    (
        "tercio run --zzz a",
        "unknown option --zzz; a program's own options follow the program's name",
    ),
    ("tercio run -l=yes a", "-l takes no value"),
    (
        "tercio run --timeout 0 a",
        "--timeout 0: a job without any time cannot run; give a time above 0 seconds",
    ),
    (
        "tercio run --timeout inf a",
        "--timeout inf: give a time in seconds, such as 10 or 0.5",
    ),
    (
        "tercio run --timeout soon a",
        "--timeout soon: give a time in seconds, such as 10 or 0.5",
    ),
    (
        "tercio run --grace -1 a",
        "--grace -1: give a time in seconds that is not negative",
    ),
    (
        "tercio run --bind-to socket a",
        "--bind-to socket: ranks can be bound to cores or not at all; give core or none",
    ),
    (
        "tercio run -n 2 --stdin 2 a",
        "--stdin 2: the job has 2 ranks, numbered from 0; give one of them, or none",
    ),
    (
        "tercio run --stdin all a",
        "--stdin all: one rank reads standard input, not all",
    ),
    (
        "tercio run --release a",
        "--release, --profile and --features say how to build, but not what",
    ),
    (
        "tercio run --example a --bin b",
        "--example and --bin contradict each other; give one of them",
    ),
    ("tercio run -x =1 a", "=1: the variable has no name"),
    (
        "mpirun -hostfile /no/such/file -np 2 a",
        "--hostfile /no/such/file cannot be read",
    ),
    ("mpiexec -f / -np 2 a", "--hostfile / is a directory"),
    (
        "mpiexec -f /dev/null -np 2 a",
        "--hostfile /dev/null names no host",
    ),
    (
        "mpirun -H node1,node2,node1 -np 2 a",
        "--host: host \"node1\" stands in --host already",
    ),
    (
        "mpirun -H node1: -np 2 a",
        "--host node1:: \"node1:\" is not a number of ranks",
    ),
    (
        "mpirun -H -oProxy -np 2 a",
        "--host -oProxy: \"-oProxy\" is no host's name",
    ),
    (
        "printf 'n1 slots=2 max_slots=2' > hosts; tercio run -f hosts -n 3 a",
        "3 ranks were asked for, and the hosts' max_slots allow 2",
    ),
    (
        "printf 'n1\\nn2 slots=two' > hosts; tercio run -f hosts -n 3 a",
        "hosts:2:10: \"slots=two\" is not a number of ranks; write a whole number, such as 4",
    ),
    (
        "printf 'n1\\nn2\\nn1' > hosts; tercio run -f hosts -n 3 a",
        "hosts:3: host \"n1\" stands in hosts:1 already",
    ),
    (
        "printf 'n1' > hosts; tercio run -f hosts -H n2 -n 3 a",
        "--host n2: the hostfile does not name that host; it names n1",
    ),
    (
        "mpirun -H a,b -N 2 -n 5 a",
        "-n 5 with 2 on each of 2 hosts: 4 ranks fit",
    ),
    (
        "tercio run --map-by leaf -n 1 a",
        "--map-by leaf: ranks go by slot or by node",
    ),
    (
        "mpiexec -configfile c",
        "-configfile: write the programs on the command line",
    ),
    (
        "tercio runn -n 2 a",
        "there is no command runn; did you mean run?",
    ),
    (
        "tercio ./a",
        "there is no command ./a; to start a program: tercio run ./a ...",
    ),
];

/// A directory in which our executable stands under every name it answers to.
struct Names(PathBuf);

impl Names {
    fn new(test: &str) -> Names {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("names-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory for links");
        for name in ["tercio", "mpirun", "mpiexec", "mpiexec.hydra"] {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tercio"), directory.join(name))
                .expect("a link");
        }
        std::os::unix::fs::symlink(
            env!("CARGO_BIN_EXE_cargo-tercio"),
            directory.join("cargo-tercio"),
        )
        .expect("a link");
        Names(directory)
    }

    /// Runs a command line as a shell would.
    fn run(&self, line: &str) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.0.display());
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line])
            .env("PATH", path)
            .env("GIVEN", "by the test")
            .current_dir(&self.0)
            .output()
            .expect("a shell")
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Jobs of several hosts: the hostfile, the command line, all lines of the plan up to the ranks' programs.
const HOSTS: &[(&str, &str, &str)] = &[
    (
        "a slots=2\nb:2 # two",
        "mpirun --hostfile hosts -np 4 ./x",
        "4 ranks on 2 hosts|host a: ranks 0-1|host b: ranks 2-3",
    ),
    (
        "a slots=2\nb:2",
        "mpiexec -f hosts -map-by node -n 4 ./x",
        "4 ranks on 2 hosts|host a: ranks 0, 2|host b: ranks 1, 3",
    ),
    (
        "a slots=2\nb:2",
        "mpirun -machinefile hosts --bynode --rank-by slot -n 3 ./x",
        "3 ranks on 2 hosts|host a: ranks 0-1|host b: rank 2",
    ),
    (
        "node[1-3]",
        "mpiexec -machinefile hosts -ppn 2 ./x",
        "6 ranks on 3 hosts|host node1: ranks 0-1|host node2: ranks 2-3|host node3: ranks 4-5",
    ),
    (
        "",
        "mpirun -H al@a:1,localhost:2 ./x",
        "3 ranks on 2 hosts|host al@a: rank 0|host localhost (this host): ranks 1-2",
    ),
    (
        "a\nb\nc",
        "tercio run --hostfile hosts --host c,a --map-by ppr:1:node ./x",
        "2 ranks on 2 hosts|host a: rank 1|host c: rank 0",
    ),
    (
        "",
        "mpirun -host a -n 1 ./x : -host b -n 2 ./x",
        "3 ranks on 2 hosts|host a: rank 0|host b: ranks 1-2",
    ),
    (
        "",
        "mpirun -host a:1,b:2 -n 1 ./x : -n 2 ./y",
        "3 ranks on 2 hosts|host a: rank 0|host b: ranks 1-2",
    ),
];

#[test]
fn hosts_get_their_ranks() {
    let names = Names::new("hosts");
    for (file, line, expected) in HOSTS {
        std::fs::write(names.0.join("hosts"), file).expect("a hostfile");
        let output = names.run(&dry(line));
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && words.is_empty(),
            "{line}: {words}"
        );
        let plan = String::from_utf8_lossy(&output.stdout).into_owned();
        let top: Vec<_> = plan
            .lines()
            .take_while(|line| !line.starts_with("rank"))
            .collect();
        assert_eq!(top.join("|"), *expected, "{line}");
    }
}

/// The same line, but only its plan is asked for.
fn dry(line: &str) -> String {
    let commands = [
        "cargo-tercio tercio run ",
        "tercio run ",
        "mpirun ",
        "mpiexec.hydra ",
        "mpiexec ",
    ];
    let command = commands
        .iter()
        .find(|command| line.starts_with(**command))
        .expect("a known command");
    format!("{command}--dry-run {}", &line[command.len()..])
}

#[test]
fn command_lines_come_to_their_plans() {
    let names = Names::new("plans");
    for (line, expected, said) in [OPEN_MPI, HYDRA, INTEL, OWN].concat() {
        let output = names.run(&dry(line));
        let (plan, words) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(output.status.code(), Some(0), "{line}\n{words}");
        let lines: Vec<_> = plan
            .lines()
            .skip(1)
            .filter(|line| !DEFAULTS.contains(line))
            .collect();
        assert_eq!(lines, expected, "{line}");
        assert!(
            words.contains(said) && words.is_empty() == said.is_empty(),
            "{line}: {words:?} is not {said:?}"
        );
    }
}

#[test]
fn mistakes_get_a_sentence_and_code_125() {
    let names = Names::new("mistakes");
    for (line, sentence) in REFUSED {
        let output = names.run(line);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{line}\n{words}");
        assert!(
            words.starts_with(&format!("tercio: {sentence}")),
            "{line}: {words:?}"
        );
        assert!(output.stdout.is_empty(), "{line}");
    }
}

#[test]
fn without_a_number_every_usable_core_gets_a_rank() {
    let names = Names::new("cores");
    let output = names.run("taskset -c 0 tercio run --dry-run ./a");
    let plan = String::from_utf8_lossy(&output.stdout);
    assert!(
        plan.starts_with("1 rank on this host, which has 1 usable core\nrank 0: ./a\n"),
        "{plan}"
    );
}

#[test]
fn an_example_is_built_as_the_launcher_was() {
    let names = Names::new("profile");
    let plan = String::from_utf8(names.run("tercio run --dry-run -n 1 --example ring").stdout)
        .expect("text");
    let flag = if cfg!(debug_assertions) {
        ""
    } else {
        "--release "
    };
    assert!(
        plan.contains(&format!("  built by: cargo build {flag}--example ring\n")),
        "{plan}"
    );
}

#[test]
fn help_and_version_go_to_standard_output() {
    let names = Names::new("help");
    for line in [
        "tercio run --help",
        "mpirun -help",
        "mpiexec -h",
        "tercio --help",
        "tercio help run",
    ] {
        let output = names.run(line);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("tercio run -n 4") && output.stderr.is_empty(),
            "{line}\n{text}"
        );
    }
    for line in [
        "tercio --version",
        "tercio -V",
        "mpirun --version",
        "mpiexec -version",
    ] {
        let output = names.run(line);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            concat!("tercio ", env!("CARGO_PKG_VERSION"), "\n"),
            "{line}"
        );
    }
}
