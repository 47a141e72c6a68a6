//! How the command fails: one sentence, a hint, an exit code.

use std::fmt::{self, Display};
use std::process::ExitCode;

/// The exit codes beside 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Something went wrong while working.
    Failed = 1,
    /// Wrong usage, or an argument that was refused.
    Usage = 2,
    /// The model is missing or not usable.
    Model = 3,
    /// Out of memory, predicted or real.
    Memory = 4,
    /// Cancelled by the user.
    Cancelled = 5,
}

/// An error as the user sees it. The message may carry its own `hint: ` line.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    message: String,
}

impl Failure {
    pub fn failed(message: impl Display) -> Self {
        Self::new(Code::Failed, message)
    }

    pub fn usage(message: impl Display) -> Self {
        Self::new(Code::Usage, message)
    }

    pub fn model(message: impl Display) -> Self {
        Self::new(Code::Model, message)
    }

    /// A device that was asked for and cannot be used.
    pub fn device(error: zimage::TensorError) -> Self {
        Self::new(Code::Usage, error)
    }

    pub fn cancelled() -> Self {
        Self::new(Code::Cancelled, "cancelled")
    }

    fn new(code: Code, message: impl Display) -> Self {
        Self { code, message: message.to_string() }
    }

    pub fn with_hint(mut self, hint: impl Display) -> Self {
        self.message = format!("{}\nhint: {hint}", self.message);
        self
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code as u8)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", printable(&self.message))
    }
}

impl From<zimage::Error> for Failure {
    fn from(error: zimage::Error) -> Self {
        use zimage::Error as E;
        let code = match &error {
            E::Request { .. } | E::Schedule(_) => Code::Usage,
            E::Weights(_) | E::Tokenizer { .. } => Code::Model,
            E::Memory { .. } => Code::Memory,
            E::Tensor(error) if error.is_memory() => Code::Memory,
            E::Tensor(zimage::TensorError::Arithmetic { .. } | zimage::TensorError::Unavailable { .. }) => Code::Usage,
            _ => Code::Failed,
        };
        Self::new(code, error)
    }
}

/// Text from files, made harmless for a terminal: control characters other than line ends are escaped.
pub fn printable(text: &str) -> String {
    escaped(text, |c| c == '\n' || c == '\t' || !c.is_control())
}

/// A name from a file, made harmless as in [`printable`]; it cannot begin a line of its own either.
pub fn printable_name(name: &str) -> String {
    escaped(name, |c| !c.is_control())
}

fn escaped(text: &str, harmless: impl Fn(char) -> bool) -> String {
    text.chars().flat_map(|c| if harmless(c) { vec![c] } else { c.escape_default().collect() }).collect()
}
