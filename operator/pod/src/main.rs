//! The static program inside job pods: fetch, step, collect.

fn main() {}
