//! A client of the process manager interface PMI-1, by which mpiexec of the MPICH family and srun tell their tasks who they are and let
//! them publish short texts for each other. Lines of `name=value` words over a descriptor, one answer for each request.
use super::identity::join;
use super::tasks::Wire;
use crate::model::error::Result;
use crate::sys::fd;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::RawFd;

/// The most bytes of an answer: values are at most 1024 where this was seen.
const LINE: usize = 64 << 10;

/// A connection to the process manager.
pub(super) struct Pmi<S = File> {
    stream: S,
    held: Vec<u8>,
    /// The name of the space of keys.
    space: String,
}

impl Pmi {
    /// Greets the process manager behind the inherited descriptor `number`.
    pub(super) fn open(number: RawFd) -> Result<Pmi> {
        let stream = fd::inherited(number).map_err(|error| {
            join(format!(
                "PMI_FD={number} is not an open descriptor ({error}); a wrapper closed it, or this program was started by a task of the \
                 launcher rather than by the launcher (then unset PMI_FD to run it alone)"
            ))
        })?;
        Pmi::greet(File::from(stream))
    }
}

impl<S: Read + Write> Pmi<S> {
    fn greet(stream: S) -> Result<Pmi<S>> {
        let mut pmi = Pmi {
            stream,
            held: Vec::new(),
            space: String::new(),
        };
        pmi.ask(
            "cmd=init pmi_version=1 pmi_subversion=1",
            "response_to_init",
        )?;
        // Some managers want to be asked before they answer anything else.
        pmi.ask("cmd=get_maxes", "maxes")?;
        let named = pmi.ask("cmd=get_my_kvsname", "my_kvsname")?;
        pmi.space = value(&named, "kvsname").unwrap_or_default().to_owned();
        Ok(pmi)
    }

    /// Takes leave: from here on the process manager takes an early end for an ordinary one.
    pub(super) fn close(mut self) -> Result<()> {
        self.ask("cmd=finalize", "finalize_ack").map(drop)
    }

    fn ask(&mut self, line: &str, expected: &str) -> Result<String> {
        let lost = |error: std::io::Error| {
            join(format!(
                "the launcher's process manager (PMI_FD) does not answer \"{line}\": {error}; it has ended, or speaks no PMI-1"
            ))
        };
        self.stream
            .write_all(format!("{line}\n").as_bytes())
            .map_err(lost)?;
        let answer = self.line().map_err(lost)?;
        let fits = value(&answer, "cmd") == Some(expected);
        match value(&answer, "rc") {
            Some("0") | None if fits => Ok(answer),
            _ => Err(strange(line, &answer)),
        }
    }

    fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let line = self.held.drain(..=end).collect::<Vec<_>>();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.held.len() > LINE {
                return Err(ErrorKind::InvalidData.into());
            }
            let mut buffer = [0_u8; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.held.extend(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<S: Read + Write> Wire for Pmi<S> {
    fn put(&mut self, key: &str, text: &str) -> Result<()> {
        let line = format!("cmd=put kvsname={} key={key} value={text}", self.space);
        self.ask(&line, "put_result").map(drop)
    }

    fn fence(&mut self) -> Result<()> {
        self.ask("cmd=barrier_in", "barrier_out").map(drop)
    }

    fn get(&mut self, key: &str) -> Result<String> {
        let line = format!("cmd=get kvsname={} key={key}", self.space);
        let answer = self.ask(&line, "get_result")?;
        value(&answer, "value")
            .map(str::to_owned)
            .ok_or_else(|| strange(&line, &answer))
    }
}

fn strange(line: &str, answer: &str) -> crate::model::Error {
    let shown: String = answer.chars().take(120).collect();
    join(format!(
        "the launcher's process manager (PMI_FD) answers \"{line}\" with \"{shown}\"; tercio speaks PMI-1 with it (srun: give --mpi=pmi2 or pmi1)"
    ))
}

/// The value of `name` in a line of words.
fn value<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    line.split_ascii_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// A manager that says what it was told to, whatever it is asked, a few bytes at a time.
    struct Script {
        said: VecDeque<u8>,
        heard: Vec<u8>,
        step: usize,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = self.step.min(buffer.len()).min(self.said.len());
            for (to, byte) in buffer.iter_mut().zip(self.said.drain(..len)) {
                *to = byte;
            }
            Ok(len)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.heard.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const GREETING: &str = "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n\
                            cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024\n\
                            cmd=my_kvsname kvsname=kvs_7_0\n";

    fn manager(said: &str, step: usize) -> Script {
        Script {
            said: said.bytes().collect(),
            heard: Vec::new(),
            step,
        }
    }

    #[test]
    fn requests_are_answered_line_by_line() {
        for step in [1, 7, 4096] {
            let said = format!(
                "{GREETING}cmd=put_result rc=0 msg=success\ncmd=barrier_out\ncmd=get_result rc=0 msg=success value=abc\ncmd=finalize_ack\n"
            );
            let mut pmi = Pmi::greet(manager(&said, step)).unwrap();
            pmi.put("host0", "abc").unwrap();
            pmi.fence().unwrap();
            assert_eq!(pmi.get("host0").unwrap(), "abc");
            let heard = String::from_utf8(pmi.stream.heard.clone()).unwrap();
            assert!(
                heard.ends_with(
                    "cmd=put kvsname=kvs_7_0 key=host0 value=abc\ncmd=barrier_in\ncmd=get kvsname=kvs_7_0 key=host0\n"
                ),
                "{heard}"
            );
            pmi.close().unwrap();
        }
    }

    #[test]
    fn refusals_and_silence_are_sentences() {
        let said = format!("{GREETING}cmd=get_result rc=-1 msg=key_not_found\n");
        let mut pmi = Pmi::greet(manager(&said, 9)).unwrap();
        let text = pmi.get("x").err().unwrap().to_string();
        assert!(text.contains("key_not_found"), "{text}");
        let text = pmi.fence().err().unwrap().to_string();
        assert!(
            text.contains("does not answer \"cmd=barrier_in\""),
            "{text}"
        );
        let text = Pmi::greet(manager("hello\n", 9)).err().unwrap().to_string();
        assert!(text.contains("--mpi=pmi2"), "{text}");
    }

    proptest! {
        #[test]
        fn any_answer_is_taken_or_refused(said in "[a-z= \n]{0,200}") {
            if let Ok(mut pmi) = Pmi::greet(manager(&format!("{GREETING}{said}"), 5)) {
                let _ = pmi.get("x");
                let _ = pmi.fence();
            }
        }
    }
}
