//! A command at a terminal of its own, with somebody who reads and types.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout};

use crate::command::{Run, Tool};

/// A command at a terminal of its own.
#[derive(Debug)]
pub struct Terminal {
    script: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
}

impl Terminal {
    /// Starts it.
    pub fn start(tool: &Tool) -> Self {
        let mut script = tool.start_at_terminal();
        Self {
            keyboard: script.stdin.take().unwrap(),
            screen: script.stdout.take().unwrap(),
            script,
        }
    }

    /// What is shown up to and with this text, which nothing is typed before.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> String {
        let mut shown = Vec::new();
        let mut octet = [0];
        while !shown.ends_with(text.as_bytes()) {
            let read = self.screen.read(&mut octet).unwrap();
            let before = String::from_utf8_lossy(&shown);
            assert_eq!(read, 1, "it ends before it shows {text:?}: {before}");
            shown.push(octet[0]);
        }
        String::from_utf8(shown).unwrap()
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        self.type_keys(&format!("{line}\n"));
    }

    /// Types keys, Ctrl-C (3) among them.
    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// How it ends, and what it shows from here on.
    pub fn end(mut self, tool: &Tool) -> Run {
        let mut shown = Vec::new();
        self.screen.read_to_end(&mut shown).unwrap();
        drop(self.keyboard);
        let mut output = self.script.wait_with_output().unwrap();
        output.stdout = shown;
        tool.ended(&output)
    }
}
