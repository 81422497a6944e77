//! The pure core: ids, amounts, states, matching, plans.
