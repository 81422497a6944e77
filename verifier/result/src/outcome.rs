//! How a unit ended (PROTOCOL.md, I-10).

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a unit's program ended. Nothing else is a result: a unit that met a limit makes its seat abstain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It exited with this code.
    Exit(u8),
    /// It was ended by this signal, which was its own doing.
    Signal(u8),
}

/// Why a number is no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{code:#010x} is no outcome")]
pub struct OutcomeError {
    /// The number.
    pub code: u32,
}

impl Outcome {
    /// The number that leaves hold: kind and value.
    pub fn code(self) -> u32 {
        match self {
            Self::Exit(value) => (1 << 24) | u32::from(value),
            Self::Signal(value) => (2 << 24) | u32::from(value),
        }
    }

    /// From the number that leaves hold.
    pub fn from_code(code: u32) -> Result<Self, OutcomeError> {
        match code.to_be_bytes() {
            [1, 0, 0, value] => Ok(Self::Exit(value)),
            [2, 0, 0, value] if value != 0 => Ok(Self::Signal(value)),
            _ => Err(OutcomeError { code }),
        }
    }

    /// Whether the program says that it succeeded.
    pub fn is_success(self) -> bool {
        self == Self::Exit(0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_protocol_and_no_others() {
        assert_eq!(Outcome::Exit(0).code(), 0x0100_0000);
        assert_eq!(Outcome::Exit(137).code(), 0x0100_0089);
        assert_eq!(Outcome::Signal(9).code(), 0x0200_0009);
        for outcome in (0..=255).map(Outcome::Exit).chain((1..=255).map(Outcome::Signal)) {
            assert_eq!(Outcome::from_code(outcome.code()), Ok(outcome));
        }
        for code in [0, 1, 0x0100_0100, 0x0200_0000, 0x0300_0000, u32::MAX] {
            assert_eq!(Outcome::from_code(code), Err(OutcomeError { code }));
        }
    }
}
