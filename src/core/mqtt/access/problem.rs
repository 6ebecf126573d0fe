//! What is wrong in a file of lines.

/// What is wrong in a line, which counts from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct LineProblem {
    /// Which line.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub text: String,
}
