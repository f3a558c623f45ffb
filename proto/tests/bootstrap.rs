//! The committed generated code is what the `.proto` files say.

use std::{fs, path::Path};

use prost::Message;

const FILES: [&str; 7] = ["approval", "audit", "catalog", "common", "decision", "session", "watch"];

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/generated");
    let files = FILES.map(|name| format!("icegate/v1/{name}.proto"));
    let descriptors = protox::compile(files, [root]).expect("the contract compiles");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    // Comments are for the compiled docs, not for the wire: reflection leaves them out.
    let mut wire = descriptors.clone();
    for file in &mut wire.file {
        file.source_code_info = None;
    }
    fs::write(scratch.path().join("icegate.v1.bin"), wire.encode_to_vec()).expect("writes the descriptor");
    tonic_prost_build::configure().out_dir(scratch.path()).compile_fds(descriptors).expect("generates");

    for name in ["icegate.v1.rs", "icegate.v1.bin"] {
        let fresh = fs::read(scratch.path().join(name)).expect("reads what was generated");
        if std::env::var_os("ICEGATE_REGENERATE").is_some() {
            fs::create_dir_all(&committed).expect("makes the folder");
            fs::write(committed.join(name), &fresh).expect("writes the committed copy");
        }
        let current = fs::read(committed.join(name)).unwrap_or_default();
        assert!(
            current == fresh,
            "{name} is not what proto/ says; run ICEGATE_REGENERATE=1 cargo test -p icegate-proto"
        );
    }
}

#[test]
fn every_proto_file_is_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("icegate/v1");
    let mut found: Vec<String> = fs::read_dir(folder)
        .expect("lists the contract")
        .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, FILES);
}
