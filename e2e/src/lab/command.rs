//! Runs tools to their end, keeps what they printed, and turns failure into an error that shows it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::error::LabError;

/// How much of a failed tool's output is shown.
const SHOWN_LINES: usize = 30;

/// Runs `command`; what it printed on standard output.
pub(crate) fn run(doing: &str, command: &mut Command) -> Result<String, LabError> {
    command.stdin(Stdio::null());
    let output = command
        .output()
        .map_err(LabError::io(format!("{doing}: start {}", program(command))))?;
    finish(doing, command, &output)
}

/// Runs `command` with `input` on its standard input; what it printed on standard output.
pub(crate) fn run_with_input(doing: &str, command: &mut Command, input: &str) -> Result<String, LabError> {
    let start = LabError::io(format!("{doing}: start {}", program(command)));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.as_bytes())
            .map_err(LabError::io(format!("{doing}: write to {}", program(command))))?;
    }
    let output = child
        .wait_with_output()
        .map_err(LabError::io(format!("{doing}: wait")))?;
    finish(doing, command, &output)
}

fn finish(doing: &str, command: &Command, output: &Output) -> Result<String, LabError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let mut printed = text(&output.stdout);
    printed.push_str(&text(&output.stderr));
    Err(LabError::Tool {
        doing: doing.to_owned(),
        program: program(command),
        status: output.status,
        output: last_lines(&printed, SHOWN_LINES),
    })
}

/// The end of a log, for an error that points at it.
pub(crate) fn tail(log: &Path) -> String {
    match std::fs::read(log) {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes), SHOWN_LINES),
        Err(error) => format!("(not readable: {error})"),
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
