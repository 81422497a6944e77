//! How a job's units are cut: units into slices (one pod each), slices into groups (one agreement each).
//!
//! Owns the arithmetic of PROTOCOL.md's "Words" and the defaults of slice and group size with their reasons.

use serde::{Deserialize, Serialize};

use crate::intervals::UnitSet;
use crate::quantity::{GroupIndex, Seconds, SliceIndex, UnitIndex, Units};
use crate::terms::{MAX_GROUPS, Shape};

/// Most slices of a job: what a job's status, which names slices by intervals, is sized for.
pub const MAX_SLICES: u32 = 10_000;

/// What a slice may take at its hard limit by default: long enough that starting a pod is small beside it,
/// short enough that losing a node loses little.
const DEFAULT_SLICE_TIME: Seconds = Seconds::new(600);

/// Groups by default: judging costs the same for a group of any size, and the canary risks one of these.
const DEFAULT_GROUPS: u32 = 8;

/// Consecutive units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnitRange {
    /// The first unit.
    pub first: UnitIndex,
    /// How many; at least one.
    pub count: Units,
}

impl UnitRange {
    /// The last unit.
    pub fn last(&self) -> UnitIndex {
        UnitIndex::new(
            self.first
                .get()
                .saturating_add(self.count.get().saturating_sub(1)),
        )
    }

    /// The units in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = UnitIndex> + use<> {
        (self.first.get()..=self.last().get()).map(UnitIndex::new)
    }

    /// The units as a set.
    pub fn to_set(&self) -> UnitSet {
        UnitSet::run(self.first, self.last())
    }
}

impl Shape {
    /// Units of every group but a shorter last one; `None` if it does not fit 32 bits.
    pub fn units_per_group(&self) -> Option<Units> {
        self.units_per_slice.checked_mul(self.slices_per_group)
    }

    /// How many groups there are; `None` for shapes that the market refuses.
    pub fn groups(&self) -> Option<u32> {
        let per_group =
            u64::from(self.units_per_slice.get()).checked_mul(u64::from(self.slices_per_group))?;
        if per_group == 0 {
            return None;
        }
        u32::try_from(u64::from(self.units.get()).div_ceil(per_group)).ok()
    }

    /// How many slices there are; `None` for a slice size of zero.
    pub fn slices(&self) -> Option<u32> {
        if self.units_per_slice == Units::ZERO {
            return None;
        }
        Some(self.units.get().div_ceil(self.units_per_slice.get()))
    }

    /// The units of a group; `None` if there is no such group.
    pub fn group_units(&self, group: GroupIndex) -> Option<UnitRange> {
        // Wide, because a single group may be cut larger than the job.
        let per_group =
            u64::from(self.units_per_slice.get()).checked_mul(u64::from(self.slices_per_group))?;
        self.range(u64::from(group.get()).checked_mul(per_group)?, per_group)
    }

    /// The units of a slice; `None` if there is no such slice.
    pub fn slice_units(&self, slice: SliceIndex) -> Option<UnitRange> {
        let per_slice = u64::from(self.units_per_slice.get());
        self.range(u64::from(slice.get()).checked_mul(per_slice)?, per_slice)
    }

    /// The slices of a group, in ascending order; none if there is no such group.
    pub fn group_slices(&self, group: GroupIndex) -> impl Iterator<Item = SliceIndex> + use<> {
        let first = u64::from(group.get()).saturating_mul(u64::from(self.slices_per_group));
        let end = first
            .saturating_add(u64::from(self.slices_per_group))
            .min(u64::from(self.slices().unwrap_or(0)));
        (first..end).filter_map(|slice| u32::try_from(slice).ok().map(SliceIndex::new))
    }

    /// The group that a slice belongs to; `None` if there is no such slice.
    pub fn group_of_slice(&self, slice: SliceIndex) -> Option<GroupIndex> {
        self.slice_units(slice)?;
        slice
            .get()
            .checked_div(self.slices_per_group)
            .map(GroupIndex::new)
    }

    /// What a group may take at the hard limit: PROTOCOL.md's `run`, the same for a shorter last group.
    pub fn run_time(&self) -> Option<Seconds> {
        if self.slots_per_seat.get() == 0 {
            return None;
        }
        let turns = u64::from(self.slices_per_group).div_ceil(u64::from(self.slots_per_seat.get()));
        let slice_time = self.slice_time()?;
        slice_time.get().checked_mul(turns).map(Seconds::new)
    }

    /// What a full slice may take at the hard limit.
    pub fn slice_time(&self) -> Option<Seconds> {
        self.seconds_per_unit
            .checked_mul(u64::from(self.units_per_slice.get()))
    }

    fn range(&self, first: u64, size: u64) -> Option<UnitRange> {
        let end = first.checked_add(size)?.min(u64::from(self.units.get()));
        let count = end.checked_sub(first).filter(|count| *count > 0)?;
        let first = UnitIndex::new(u32::try_from(first).ok()?);
        Some(UnitRange {
            first,
            count: Units::new(u32::try_from(count).ok()?),
        })
    }
}

/// Why a slice has its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SliceSizeReason {
    /// The author said so.
    Asked,
    /// As many units as fit ten minutes at their hard limit.
    SliceTime,
    /// More units than that, because a job has at most 10,000 slices.
    SliceCount,
    /// Fewer units than that: the slices are spread evenly over the groups.
    EvenGroups,
}

/// Why a group has its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GroupSizeReason {
    /// The author said so.
    Asked,
    /// The slices make about eight groups.
    FewGroups,
    /// One slice a group, because there are no more slices than groups wanted.
    OneSlice,
}

/// A job's division into slices and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Division {
    /// Units in a slice.
    pub units_per_slice: Units,
    /// Why so many.
    pub slice_reason: SliceSizeReason,
    /// Slices in a group.
    pub slices_per_group: u32,
    /// Why so many.
    pub group_reason: GroupSizeReason,
}

/// Why a job cannot be divided as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum DivisionRefusal {
    /// There is nothing to do, or a size of zero was asked.
    #[error("units, slice size and group size must be above zero")]
    Zero,
    /// The slice size asked makes too many slices.
    #[error("{slices} slices; a job has at most 10,000: ask for larger slices")]
    TooManySlices {
        /// How many there would be.
        slices: u32,
    },
}

/// Divides a job, taking what the author asked for and choosing the rest.
pub fn divide(
    units: Units,
    seconds_per_unit: Seconds,
    asked_slice: Option<Units>,
    asked_slices_per_group: Option<u32>,
) -> Result<Division, DivisionRefusal> {
    if units == Units::ZERO || asked_slice == Some(Units::ZERO) || asked_slices_per_group == Some(0) {
        return Err(DivisionRefusal::Zero);
    }
    let (slice, slice_reason) = match asked_slice {
        Some(asked) => (asked.get(), SliceSizeReason::Asked),
        None => default_slice(units, seconds_per_unit),
    };
    let slices = units.get().div_ceil(slice.max(1));
    if slices > MAX_SLICES {
        return Err(DivisionRefusal::TooManySlices { slices });
    }
    let (slices_per_group, group_reason) = match asked_slices_per_group {
        Some(asked) => (asked, GroupSizeReason::Asked),
        None if slices <= DEFAULT_GROUPS => (1, GroupSizeReason::OneSlice),
        None => (slices.div_ceil(DEFAULT_GROUPS), GroupSizeReason::FewGroups),
    };
    Ok(Division {
        units_per_slice: Units::new(slice),
        slice_reason,
        slices_per_group,
        group_reason,
    })
}

fn default_slice(units: Units, seconds_per_unit: Seconds) -> (u32, SliceSizeReason) {
    let by_time = DEFAULT_SLICE_TIME
        .get()
        .checked_div(seconds_per_unit.get())
        .unwrap_or(1)
        .max(1);
    let by_time = u32::try_from(by_time).unwrap_or(u32::MAX);
    let by_count = units.get().div_ceil(MAX_SLICES.min(MAX_GROUPS));
    // Small jobs: not fewer slices than groups are wanted, or there is nothing to spread.
    let by_groups = units.get().div_ceil(DEFAULT_GROUPS);
    if by_count > by_time {
        (by_count, SliceSizeReason::SliceCount)
    } else if by_groups < by_time {
        (by_groups, SliceSizeReason::EvenGroups)
    } else {
        (by_time, SliceSizeReason::SliceTime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClassId;
    use crate::quantity::Slots;
    use proptest::prelude::*;

    fn shape(units: u32, slice: u32, group: u32) -> Shape {
        Shape {
            units: Units::new(units),
            units_per_slice: Units::new(slice),
            slices_per_group: group,
            slots_per_seat: Slots::new(1),
            seconds_per_unit: Seconds::new(60),
            class_id: ClassId::ZERO,
        }
    }

    #[test]
    fn the_last_slice_and_group_may_be_shorter() {
        let shape = shape(96, 8, 5);
        assert_eq!((shape.slices(), shape.groups()), (Some(12), Some(3)));
        assert_eq!(
            shape
                .group_units(GroupIndex::new(2))
                .unwrap()
                .to_set()
                .to_string(),
            "80-95"
        );
        assert_eq!(shape.group_slices(GroupIndex::new(2)).count(), 2);
        assert_eq!(shape.group_units(GroupIndex::new(3)), None);
        assert_eq!(shape.run_time(), Some(Seconds::new(5 * 8 * 60)));
        assert_eq!(
            Shape {
                slots_per_seat: Slots::new(2),
                ..shape
            }
            .run_time(),
            Some(Seconds::new(3 * 8 * 60))
        );
        assert_eq!(
            Shape {
                units_per_slice: Units::ZERO,
                ..shape
            }
            .groups(),
            None
        );
    }

    #[test]
    fn sizes_are_chosen_with_a_reason() {
        let check = |units: u32, seconds: u64, expected: (u32, SliceSizeReason, u32, GroupSizeReason)| {
            let found = divide(Units::new(units), Seconds::new(seconds), None, None).unwrap();
            let found = (
                found.units_per_slice.get(),
                found.slice_reason,
                found.slices_per_group,
                found.group_reason,
            );
            assert_eq!(found, expected, "{units} units of {seconds} s");
        };
        check(
            1,
            120,
            (1, SliceSizeReason::EvenGroups, 1, GroupSizeReason::OneSlice),
        );
        check(
            96,
            120,
            (5, SliceSizeReason::SliceTime, 3, GroupSizeReason::FewGroups),
        );
        check(
            24,
            120,
            (3, SliceSizeReason::EvenGroups, 1, GroupSizeReason::OneSlice),
        );
        check(
            5_000_000,
            10,
            (
                500,
                SliceSizeReason::SliceCount,
                1_250,
                GroupSizeReason::FewGroups,
            ),
        );
        check(
            96,
            7_200,
            (1, SliceSizeReason::SliceTime, 12, GroupSizeReason::FewGroups),
        );
    }

    #[test]
    fn a_job_cannot_ask_for_too_many_slices() {
        let found = divide(Units::new(20_000), Seconds::new(1), Some(Units::new(1)), None);
        assert_eq!(found, Err(DivisionRefusal::TooManySlices { slices: 20_000 }));
        assert_eq!(
            divide(Units::ZERO, Seconds::new(1), None, None),
            Err(DivisionRefusal::Zero)
        );
    }

    proptest! {
        #[test]
        fn slices_and_groups_partition_the_units(units in 1u32..500, slice in 1u32..40, group in 1u32..10) {
            let shape = shape(units, slice, group);
            let mut seen = Vec::new();
            for index in (0..shape.groups().unwrap()).map(GroupIndex::new) {
                let of_group: Vec<_> = shape.group_units(index).unwrap().iter().collect();
                let of_slices: Vec<_> =
                    shape.group_slices(index).flat_map(|slice| shape.slice_units(slice).unwrap().iter()).collect();
                prop_assert!(shape.group_slices(index).all(|slice| shape.group_of_slice(slice) == Some(index)));
                prop_assert_eq!(&of_group, &of_slices);
                seen.extend(of_group);
            }
            prop_assert_eq!(seen, (0..units).map(UnitIndex::new).collect::<Vec<_>>());
            prop_assert_eq!(shape.slice_units(SliceIndex::new(shape.slices().unwrap())), None);
        }

        #[test]
        fn defaults_are_always_within_the_limits(units in 1u32.., seconds in 1u64..100_000) {
            let division = divide(Units::new(units), Seconds::new(seconds), None, None).unwrap();
            let shape = shape(units, division.units_per_slice.get(), division.slices_per_group);
            prop_assert!(shape.slices().unwrap() <= MAX_SLICES);
            prop_assert!(shape.groups().unwrap() <= DEFAULT_GROUPS);
        }
    }
}
