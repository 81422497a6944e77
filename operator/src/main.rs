//! The operator: consumer and provider controllers.

fn main() {}
