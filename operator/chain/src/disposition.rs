//! What a caller does after an error: the one question that every error of this crate answers.

/// What a caller does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The same call may succeed later: try again with back-off.
    Retry,
    /// The same call fails again until something changes: the configuration, the chain's state, a person's decision.
    AwaitChange,
    /// Going on could lose money or show a false history: stop this part and raise an alert.
    Halt,
}
