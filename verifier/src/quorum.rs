//! The quorum over revealed roots (PROTOCOL.md, V-1 to V-3), for seats that are compared byte for byte.

use std::collections::BTreeMap;

use serde::Serialize;
use tradewind_result::Root;

/// One committed seat's part in the judging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revelation {
    /// The seat's number in its round.
    pub seat: u8,
    /// The root A it revealed; `None` if it committed and did not open.
    pub root: Option<Root>,
}

/// What revealed roots come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Verdict {
    /// A quorum showed the same root.
    Agreed {
        /// Which root.
        root: Root,
        /// Who showed it, ascending.
        seats: Vec<u8>,
        /// Who showed another or nothing, ascending.
        dissent: Vec<u8>,
    },
    /// Some revealed, and no root has a quorum.
    Contested {
        /// The classes of equal roots, the largest first.
        classes: Vec<Vec<u8>>,
    },
    /// Nobody revealed.
    Nothing,
}

/// Why a quorum cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// A quorum of nobody agrees to everything.
    #[error("a quorum is at least one seat")]
    Zero,
    /// Two roots could both have the quorum.
    #[error("a quorum of {quorum} of {seats} seats could be reached by two roots")]
    Ambiguous {
        /// The quorum.
        quorum: usize,
        /// How many seats were committed.
        seats: usize,
    },
    /// A seat is there twice.
    #[error("seat {seat} is there twice")]
    SeatTwice {
        /// Which.
        seat: u8,
    },
}

/// Judges what the committed seats of a group revealed.
pub fn exact_quorum(revelations: &[Revelation], quorum: usize) -> Result<Verdict, QuorumError> {
    if quorum == 0 {
        return Err(QuorumError::Zero);
    }
    if quorum.saturating_mul(2) <= revelations.len() {
        return Err(QuorumError::Ambiguous {
            quorum,
            seats: revelations.len(),
        });
    }
    let mut roots = BTreeMap::new();
    for Revelation { seat, root } in revelations {
        if roots.insert(*seat, *root).is_some() {
            return Err(QuorumError::SeatTwice { seat: *seat });
        }
    }
    let mut classes: BTreeMap<Root, Vec<u8>> = BTreeMap::new();
    for (seat, root) in &roots {
        if let Some(root) = root {
            classes.entry(*root).or_default().push(*seat);
        }
    }
    if let Some((root, seats)) = classes.iter().find(|(_, seats)| seats.len() >= quorum) {
        let dissent = roots
            .keys()
            .copied()
            .filter(|seat| !seats.contains(seat))
            .collect();
        return Ok(Verdict::Agreed {
            root: *root,
            seats: seats.clone(),
            dissent,
        });
    }
    if classes.is_empty() {
        return Ok(Verdict::Nothing);
    }
    let mut classes: Vec<Vec<u8>> = classes.into_values().collect();
    classes.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    Ok(Verdict::Contested { classes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(roots: &[Option<u8>], quorum: usize, expected: &Result<Verdict, QuorumError>) {
        let revelations: Vec<_> = (0..)
            .zip(roots)
            .map(|(seat, root)| Revelation {
                seat,
                root: root.map(|byte| Root::from_bytes([byte; 32])),
            })
            .collect();
        assert_eq!(
            &exact_quorum(&revelations, quorum),
            expected,
            "{roots:?}, {quorum}"
        );
    }

    #[test]
    fn judged_as_the_protocol_says() {
        let agreed = |byte: u8, seats: &[u8], dissent: &[u8]| {
            Ok(Verdict::Agreed {
                root: Root::from_bytes([byte; 32]),
                seats: seats.to_vec(),
                dissent: dissent.to_vec(),
            })
        };
        check(&[Some(1), Some(1), Some(1)], 2, &agreed(1, &[0, 1, 2], &[]));
        check(&[Some(1), Some(2), Some(1)], 2, &agreed(1, &[0, 2], &[1]));
        check(&[Some(1), None, Some(1)], 2, &agreed(1, &[0, 2], &[1]));
        check(&[Some(7)], 1, &agreed(7, &[0], &[]));
        check(
            &[Some(1), Some(2), None],
            2,
            &Ok(Verdict::Contested {
                classes: vec![vec![0], vec![1]],
            }),
        );
        check(
            &[Some(1), Some(2), Some(2)],
            3,
            &Ok(Verdict::Contested {
                classes: vec![vec![1, 2], vec![0]],
            }),
        );
        check(&[None, None], 2, &Ok(Verdict::Nothing));
        check(&[], 1, &Ok(Verdict::Nothing));
        check(&[Some(1)], 0, &Err(QuorumError::Zero));
        check(
            &[Some(1), Some(2)],
            1,
            &Err(QuorumError::Ambiguous { quorum: 1, seats: 2 }),
        );
    }

    #[test]
    fn a_seat_counts_once() {
        let seat = Revelation {
            seat: 0,
            root: Some(Root::from_bytes([1; 32])),
        };
        assert_eq!(
            exact_quorum(&[seat, seat], 2),
            Err(QuorumError::SeatTwice { seat: 0 })
        );
    }
}
