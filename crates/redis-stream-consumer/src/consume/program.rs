//! The program of `--exec` or `--worker`: found and checked before anything is read, and started in a process group of its own.

use std::process::Stdio;

use tokio::process::Command;
use tracing::warn;

use crate::entry::GroupMember;
use crate::error::InvalidConfig;
use redis_stream_core::escape::escape;
use redis_stream_core::program::look_up;

/// Words that have a meaning to a shell only.
const SHELL_WORDS: [&str; 9] = ["|", "||", "&", "&&", ";", "<", ">", ">>", "2>&1"];

/// A program with its arguments and environment.
#[derive(Clone, Debug)]
pub(super) struct Program {
    name: String,
    args: Vec<String>,
    environment: [(&'static str, String); 3],
}

impl Program {
    /// Splits a command line into words like a shell, without its other features, and looks the program up.
    pub(super) fn find(flag: &str, command: &str, member: &GroupMember) -> Result<Self, InvalidConfig> {
        let words = shlex::split(command)
            .ok_or_else(|| InvalidConfig::new(format!("{flag} {command}: a quote is not closed")))?;
        let mut words = words.into_iter();
        let name = words
            .next()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| InvalidConfig::new(format!("{flag}: expected a program and its arguments")))?;
        let args: Vec<_> = words.collect();
        look_up(&name).map_err(|fault| InvalidConfig::new(format!("{flag} {name}: {fault}")))?;
        if let Some(word) = args.iter().find(|word| SHELL_WORDS.contains(&word.as_str())) {
            warn!(
                word,
                "{flag} runs no shell, so this word is an argument of the program; for a shell use sh -c '...'"
            );
        }
        let GroupMember { stream, group, consumer } = member;
        let environment = [("STREAM", stream), ("GROUP", group), ("CONSUMER", consumer)]
            .map(|(variable, name)| (variable, escape(name).replace('\0', "\\x00")));
        Ok(Self { name, args, environment })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the command, with pipes for standard input and standard error.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.name);
        command.args(&self.args).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_without_a_program_is_refused() {
        let member = GroupMember { stream: Vec::new(), group: Vec::new(), consumer: Vec::new() };
        for (command, text) in [
            ("", "--exec: expected a program and its arguments"),
            ("'' x", "--exec: expected a program and its arguments"),
            ("sh -c 'exit", "--exec sh -c 'exit: a quote is not closed"),
            ("./missing x", "--exec ./missing: no such file"),
        ] {
            assert_eq!(Program::find("--exec", command, &member).unwrap_err().to_string(), text);
        }
    }
}
