//! What the cross-crate tests share: the seeded weights and the fixtures.
