use std::path::{Path, PathBuf};

use icegate_pdp_pip::BundleDir;
use icegate_pdp_policy::Bundle;

/// The workspace's top folder.
///
/// # Panics
///
/// Never: this crate has a folder of its own.
#[expect(clippy::expect_used, reason = "for tests")]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder above").to_owned()
}

/// The starting policies, compiled.
///
/// # Panics
///
/// When they do not compile: nothing that builds on them can be tested then.
#[expect(clippy::expect_used, reason = "for tests")]
pub fn bundle() -> Bundle {
    BundleDir::new(root().join("policies")).load().expect("the starting policies compile")
}
