//! A job's states (PROTOCOL.md J-1 to J-3).

use super::IllegalEvent;
use crate::amount::TokenAmount;
use crate::quantity::UnixSeconds;

/// What a job is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Takes fills and seals until `openUntil`.
    Open,
    /// Takes neither; its running groups go on.
    Cancelling {
        /// Seats of running groups may commit until then.
        grace_until: UnixSeconds,
    },
    /// No money is in it any more.
    Ended {
        /// What went back to the buyer.
        refunded: TokenAmount,
    },
}

/// What happens to a job as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobStep {
    /// The buyer gave notice.
    CancelNoticed {
        /// Seats of running groups may commit until then.
        grace_until: UnixSeconds,
    },
    /// A seat was filled, a group sealed, or money added.
    Extended,
    /// The last group ended.
    Ended {
        /// What went back to the buyer.
        refunded: TokenAmount,
    },
}

impl JobState {
    /// The state after `step`.
    pub fn next(self, step: JobStep) -> Result<Self, IllegalEvent> {
        match (self, step) {
            (Self::Open, JobStep::Extended) => Ok(Self::Open),
            (Self::Open, JobStep::CancelNoticed { grace_until }) => Ok(Self::Cancelling { grace_until }),
            (Self::Open | Self::Cancelling { .. }, JobStep::Ended { refunded }) => {
                Ok(Self::Ended { refunded })
            }
            (Self::Cancelling { .. }, JobStep::Extended | JobStep::CancelNoticed { .. })
            | (
                Self::Ended { .. },
                JobStep::Extended | JobStep::CancelNoticed { .. } | JobStep::Ended { .. },
            ) => Err(IllegalEvent {
                subject: "job",
                state: self.label(),
                event: step.label(),
            }),
        }
    }

    /// A word for conditions and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Cancelling { .. } => "Cancelling",
            Self::Ended { .. } => "Ended",
        }
    }
}

impl JobStep {
    const fn label(self) -> &'static str {
        match self {
            Self::CancelNoticed { .. } => "CancelNoticed",
            Self::Extended => "Extended",
            Self::Ended { .. } => "Ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_meets_every_step() {
        let notice = JobStep::CancelNoticed {
            grace_until: UnixSeconds::new(9),
        };
        let end = JobStep::Ended {
            refunded: TokenAmount::ZERO,
        };
        let cancelling = JobState::Cancelling {
            grace_until: UnixSeconds::new(9),
        };
        let ended = JobState::Ended {
            refunded: TokenAmount::ZERO,
        };
        let table = [
            (JobState::Open, JobStep::Extended, Some(JobState::Open)),
            (JobState::Open, notice, Some(cancelling)),
            (JobState::Open, end, Some(ended)),
            (cancelling, JobStep::Extended, None),
            (cancelling, notice, None),
            (cancelling, end, Some(ended)),
            (ended, JobStep::Extended, None),
            (ended, notice, None),
            (ended, end, None),
        ];
        for (state, step, expected) in table {
            assert_eq!(state.next(step).ok(), expected, "{state:?} {step:?}");
        }
    }
}
