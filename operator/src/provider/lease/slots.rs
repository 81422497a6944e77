//! The slots of each offer, counted over all leases, so that no offer ever has more pods than it sells.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::results::{PodEnd, SlicePodState};

/// How long a pod that was created counts before the watch has shown it.
const UNSEEN: Duration = Duration::from_mins(1);

/// Pods that were created a moment ago, which the watch may not show yet.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    created: Mutex<HashMap<String, (u32, Instant)>>,
}

impl Slots {
    /// How many slots of the series are free. `look` gives all slice pods that are seen; it is called while nobody
    /// else can take a slot, so that no pod is missed between two looks.
    pub(crate) fn free(&self, series: u32, offered: u32, look: impl FnOnce() -> Vec<SlicePodState>) -> u32 {
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        free(&mut created, series, offered, &look())
    }

    /// Takes a slot for a pod that is about to be created; whether there was one.
    pub(crate) fn take(
        &self,
        series: u32,
        offered: u32,
        pod: &str,
        look: impl FnOnce() -> Vec<SlicePodState>,
    ) -> bool {
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        if free(&mut created, series, offered, &look()) == 0 {
            return false;
        }
        created.insert(pod.to_owned(), (series, Instant::now()));
        true
    }

    /// Gives back the slot of a pod that could not be created.
    pub(crate) fn give_back(&self, pod: &str) {
        self.created
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(pod);
    }

    /// Whether the pod was created a moment ago and is not seen yet.
    pub(crate) fn is_unseen(&self, pod: &str) -> bool {
        self.created
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(pod)
    }
}

fn free(
    created: &mut HashMap<String, (u32, Instant)>,
    series: u32,
    offered: u32,
    pods: &[SlicePodState],
) -> u32 {
    for pod in pods {
        created.remove(&pod.name);
    }
    created.retain(|_, (_, since)| since.elapsed() < UNSEEN);
    let seen = pods
        .iter()
        .filter(|pod| pod.series == series && is_active(pod))
        .count();
    let unseen = created.values().filter(|(of, _)| *of == series).count();
    offered.saturating_sub(u32::try_from(seen + unseen).unwrap_or(u32::MAX))
}

/// Whether it holds its slot.
pub(crate) fn is_active(pod: &SlicePodState) -> bool {
    match pod.end {
        PodEnd::Waiting | PodEnd::Running | PodEnd::NoImage(_) => true,
        PodEnd::Said(_) | PodEnd::Lost { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use tradewind_market::{SliceIndex, UnixSeconds};

    use super::*;

    fn pod(name: &str, series: u32, end: PodEnd) -> SlicePodState {
        SlicePodState {
            name: name.to_owned(),
            namespace: String::new(),
            slice: SliceIndex::new(0),
            attempt: 1,
            series,
            created: UnixSeconds::ZERO,
            finished: UnixSeconds::ZERO,
            leaving: false,
            end,
        }
    }

    #[test]
    fn a_slot_is_taken_from_the_creation_of_its_pod_to_its_end_and_counts_once() {
        let slots = Slots::default();
        assert!(slots.take(7, 2, "a", Vec::new));
        assert!(slots.take(7, 2, "b", Vec::new));
        assert!(
            !slots.take(7, 2, "c", Vec::new),
            "both are taken, though no pod is seen yet"
        );
        assert!(slots.take(8, 1, "d", Vec::new), "another offer has its own");
        let seen = vec![
            pod("a", 7, PodEnd::Running),
            pod("b", 7, PodEnd::Lost { deadline: false }),
        ];
        assert_eq!(slots.free(7, 2, || seen), 1);
        assert!(!slots.is_unseen("a"));
        slots.give_back("d");
        assert_eq!(slots.free(8, 1, Vec::new), 1);
    }
}
