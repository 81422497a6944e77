#![forbid(unsafe_code)]
pub mod fx_hash {
    pub type FxHasher64 = std::collections::hash_map::DefaultHasher;
    pub type FxHasher = FxHasher64;
}
