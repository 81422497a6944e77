//! A group's states (PROTOCOL.md S-0 to S-9).

use super::IllegalEvent;
use crate::event::GroupStatus;
use crate::ids::Hash32;
use crate::quantity::UnixSeconds;

/// What a group is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GroupState {
    /// Seats are being filled.
    #[default]
    Filling,
    /// Seats commit or abstain.
    Running {
        /// Until then, or until the end of the job's grace if that is earlier.
        commit_by: UnixSeconds,
    },
    /// Seats show what they committed to.
    Revealing {
        /// Until then.
        reveal_by: UnixSeconds,
    },
    /// Judged with a quorum; waits for appeals and challenges.
    Agreed {
        /// What the quorum showed.
        root: Hash32,
        /// From then on anyone may settle it.
        settle_at: UnixSeconds,
    },
    /// Judged without a quorum; waits for appeals.
    Contested {
        /// From then on anyone may settle it.
        settle_at: UnixSeconds,
    },
    /// Judged without any result; the same call ends it.
    Refunding,
    /// Ended: the quorum's seats are paid.
    Credited {
        /// What the quorum showed.
        root: Hash32,
    },
    /// Ended without a quorum.
    Inconclusive,
    /// Ended without any result.
    Refunded,
}

/// What happens to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupEvent {
    /// A seat was taken.
    SeatFilled,
    /// The buyer sealed it.
    Sealed {
        /// The commit deadline.
        commit_by: UnixSeconds,
    },
    /// A seat committed or abstained.
    SeatSpoke,
    /// All seats have spoken, or the commit deadline has passed.
    RevealStarted {
        /// The reveal deadline.
        reveal_by: UnixSeconds,
    },
    /// A seat revealed or added its receipt.
    SeatOpened,
    /// Judged with a quorum.
    JudgedAgreed {
        /// What the quorum showed.
        root: Hash32,
        /// When it can be settled.
        settle_at: UnixSeconds,
    },
    /// Judged without a quorum.
    JudgedContested {
        /// When it can be settled.
        settle_at: UnixSeconds,
    },
    /// Judged without any result.
    JudgedRefunded,
    /// A seat was paid, burned or freed.
    SeatSettled,
    /// Its money is dealt out, and this is its last state.
    Ended(GroupEnd),
}

/// How a group can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupEnd {
    /// The quorum's seats are paid.
    Credited,
    /// No quorum.
    Inconclusive,
    /// No result.
    Refunded,
}

impl GroupState {
    /// The state after `event`.
    pub fn next(self, event: GroupEvent) -> Result<Self, IllegalEvent> {
        use GroupEvent as E;
        let illegal = Err(IllegalEvent {
            subject: "group",
            state: self.label(),
            event: event.label(),
        });
        match self {
            Self::Filling => match event {
                // Seats of a group that is closed are settled before it ends.
                E::SeatFilled | E::SeatSettled => Ok(self),
                E::Sealed { commit_by } => Ok(Self::Running { commit_by }),
                E::Ended(GroupEnd::Refunded) => Ok(Self::Refunded),
                E::SeatSpoke
                | E::RevealStarted { .. }
                | E::SeatOpened
                | E::JudgedAgreed { .. }
                | E::JudgedContested { .. }
                | E::JudgedRefunded
                | E::Ended(GroupEnd::Credited | GroupEnd::Inconclusive) => illegal,
            },
            Self::Running { .. } => match event {
                E::SeatSpoke => Ok(self),
                E::RevealStarted { reveal_by } => Ok(Self::Revealing { reveal_by }),
                E::SeatFilled
                | E::Sealed { .. }
                | E::SeatOpened
                | E::JudgedAgreed { .. }
                | E::JudgedContested { .. }
                | E::JudgedRefunded
                | E::SeatSettled
                | E::Ended(_) => illegal,
            },
            Self::Revealing { .. } => match event {
                E::SeatOpened => Ok(self),
                E::JudgedAgreed { root, settle_at } => Ok(Self::Agreed { root, settle_at }),
                E::JudgedContested { settle_at } => Ok(Self::Contested { settle_at }),
                E::JudgedRefunded => Ok(Self::Refunding),
                E::SeatFilled
                | E::Sealed { .. }
                | E::SeatSpoke
                | E::RevealStarted { .. }
                | E::SeatSettled
                | E::Ended(_) => illegal,
            },
            Self::Agreed { root, .. } => match event {
                E::SeatSettled => Ok(self),
                E::Ended(GroupEnd::Credited) => Ok(Self::Credited { root }),
                E::Ended(GroupEnd::Inconclusive | GroupEnd::Refunded)
                | E::SeatFilled
                | E::Sealed { .. }
                | E::SeatSpoke
                | E::RevealStarted { .. }
                | E::SeatOpened
                | E::JudgedAgreed { .. }
                | E::JudgedContested { .. }
                | E::JudgedRefunded => illegal,
            },
            Self::Contested { .. } => match event {
                E::SeatSettled => Ok(self),
                E::Ended(GroupEnd::Inconclusive) => Ok(Self::Inconclusive),
                E::Ended(GroupEnd::Credited | GroupEnd::Refunded)
                | E::SeatFilled
                | E::Sealed { .. }
                | E::SeatSpoke
                | E::RevealStarted { .. }
                | E::SeatOpened
                | E::JudgedAgreed { .. }
                | E::JudgedContested { .. }
                | E::JudgedRefunded => illegal,
            },
            Self::Refunding => match event {
                E::SeatSettled => Ok(self),
                E::Ended(GroupEnd::Refunded) => Ok(Self::Refunded),
                E::Ended(GroupEnd::Credited | GroupEnd::Inconclusive)
                | E::SeatFilled
                | E::Sealed { .. }
                | E::SeatSpoke
                | E::RevealStarted { .. }
                | E::SeatOpened
                | E::JudgedAgreed { .. }
                | E::JudgedContested { .. }
                | E::JudgedRefunded => illegal,
            },
            Self::Credited { .. } | Self::Inconclusive | Self::Refunded => match event {
                E::SeatFilled
                | E::Sealed { .. }
                | E::SeatSpoke
                | E::RevealStarted { .. }
                | E::SeatOpened
                | E::JudgedAgreed { .. }
                | E::JudgedContested { .. }
                | E::JudgedRefunded
                | E::SeatSettled
                | E::Ended(_) => illegal,
            },
        }
    }

    /// Whether its money is dealt out.
    pub const fn is_ended(&self) -> bool {
        match self {
            Self::Credited { .. } | Self::Inconclusive | Self::Refunded => true,
            Self::Filling
            | Self::Running { .. }
            | Self::Revealing { .. }
            | Self::Agreed { .. }
            | Self::Contested { .. }
            | Self::Refunding => false,
        }
    }

    /// The root that its quorum showed, if there is one.
    pub const fn agreed_root(&self) -> Option<Hash32> {
        match self {
            Self::Agreed { root, .. } | Self::Credited { root } => Some(*root),
            Self::Filling
            | Self::Running { .. }
            | Self::Revealing { .. }
            | Self::Contested { .. }
            | Self::Refunding
            | Self::Inconclusive
            | Self::Refunded => None,
        }
    }

    /// The state as the chain numbers it.
    pub const fn status(&self) -> GroupStatus {
        match self {
            Self::Filling => GroupStatus::Filling,
            Self::Running { .. } => GroupStatus::Running,
            Self::Revealing { .. } => GroupStatus::Revealing,
            Self::Agreed { .. } => GroupStatus::Agreed,
            Self::Contested { .. } => GroupStatus::Contested,
            Self::Credited { .. } => GroupStatus::Credited,
            Self::Inconclusive => GroupStatus::Inconclusive,
            Self::Refunding | Self::Refunded => GroupStatus::Refunded,
        }
    }

    /// A word for conditions and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Refunding => "Refunding",
            Self::Filling
            | Self::Running { .. }
            | Self::Revealing { .. }
            | Self::Agreed { .. }
            | Self::Contested { .. }
            | Self::Credited { .. }
            | Self::Inconclusive
            | Self::Refunded => self.status().label(),
        }
    }
}

impl GroupEvent {
    const fn label(self) -> &'static str {
        match self {
            Self::SeatFilled => "SeatFilled",
            Self::Sealed { .. } => "Sealed",
            Self::SeatSpoke => "SeatSpoke",
            Self::RevealStarted { .. } => "RevealStarted",
            Self::SeatOpened => "SeatOpened",
            Self::JudgedAgreed { .. } => "JudgedAgreed",
            Self::JudgedContested { .. } => "JudgedContested",
            Self::JudgedRefunded => "JudgedRefunded",
            Self::SeatSettled => "SeatSettled",
            Self::Ended(GroupEnd::Credited) => "Credited",
            Self::Ended(GroupEnd::Inconclusive) => "Inconclusive",
            Self::Ended(GroupEnd::Refunded) => "Refunded",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: UnixSeconds = UnixSeconds::new(5);

    #[test]
    fn every_state_takes_exactly_these_events() {
        let root = Hash32::from_bytes([1; 32]);
        let events = [
            GroupEvent::SeatFilled,
            GroupEvent::Sealed { commit_by: T },
            GroupEvent::SeatSpoke,
            GroupEvent::RevealStarted { reveal_by: T },
            GroupEvent::SeatOpened,
            GroupEvent::JudgedAgreed { root, settle_at: T },
            GroupEvent::JudgedContested { settle_at: T },
            GroupEvent::JudgedRefunded,
            GroupEvent::SeatSettled,
            GroupEvent::Ended(GroupEnd::Credited),
            GroupEvent::Ended(GroupEnd::Inconclusive),
            GroupEvent::Ended(GroupEnd::Refunded),
        ];
        let agreed = GroupState::Agreed { root, settle_at: T };
        let contested = GroupState::Contested { settle_at: T };
        let check = |state: GroupState, expected: &[(&str, &str)]| {
            let found: Vec<_> = events
                .iter()
                .filter_map(|event| state.next(*event).ok().map(|next| (event.label(), next.label())))
                .collect();
            assert_eq!(found, expected, "{state:?}");
        };
        check(
            GroupState::Filling,
            &[
                ("SeatFilled", "Filling"),
                ("Sealed", "Running"),
                ("SeatSettled", "Filling"),
                ("Refunded", "Refunded"),
            ],
        );
        check(
            GroupState::Running { commit_by: T },
            &[("SeatSpoke", "Running"), ("RevealStarted", "Revealing")],
        );
        check(
            GroupState::Revealing { reveal_by: T },
            &[
                ("SeatOpened", "Revealing"),
                ("JudgedAgreed", "Agreed"),
                ("JudgedContested", "Contested"),
                ("JudgedRefunded", "Refunding"),
            ],
        );
        check(agreed, &[("SeatSettled", "Agreed"), ("Credited", "Credited")]);
        check(
            contested,
            &[("SeatSettled", "Contested"), ("Inconclusive", "Inconclusive")],
        );
        check(
            GroupState::Refunding,
            &[("SeatSettled", "Refunding"), ("Refunded", "Refunded")],
        );
        for end in [
            GroupState::Credited { root },
            GroupState::Inconclusive,
            GroupState::Refunded,
        ] {
            check(end, &[]);
        }
    }
}
