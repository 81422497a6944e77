//! The custom resources of tradewind.dev/v1alpha1.
